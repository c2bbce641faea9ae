"""The inside of a SentencePiece .model: a protocol buffer, of which the pieces are read and left out.

Source: sentencepiece_model.proto of google/sentencepiece. Field 1 of a model is a piece, with its text (1), its score
(2, a float) and its type (3); field 4 holds texts that the model is tried on when it is loaded.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator

_PIECES, _SELF_TEST = 1, 4
_SCORE, _TYPE = 2, 3
#: Types of pieces: those of the vocabulary, and those that are switched off. Others are marks.
_NORMAL, _UNUSED = 1, 5
#: Bytes of the kinds of values that have a fixed length: 64 and 32 bits.
_FIXED = {1: 8, 5: 4}
_BYTES = 2


def kept_always(content: bytes) -> set[int]:
    """Return the model's own ids of pieces that no text shows the need of.

    They are marks, and the least and the most likely piece, by which the library weighs unknown characters and marks.
    """
    scores = {}
    kept = set()
    for id, piece in enumerate(value for field, value, _ in _fields(content) if field == _PIECES):
        values = {field: value for field, value, _ in _fields(piece)}
        kind = _number(values[_TYPE])[0] if _TYPE in values else _NORMAL
        if kind == _NORMAL:
            scores[id] = struct.unpack("<f", values[_SCORE])[0] if _SCORE in values else 0.0
        elif kind != _UNUSED:
            kept.add(id)
    return kept | {min(scores, key=scores.__getitem__), max(scores, key=scores.__getitem__)} if scores else kept


def with_pieces(content: bytes, ids: Collection[int]) -> bytes:
    """Return a model without the pieces of other ids, and without texts that it would be tried on.

    Args:
        content: the model.
        ids: of the model itself.
    """
    parts, id = [], -1
    for field, _, whole in _fields(content):
        id += field == _PIECES
        if field != _SELF_TEST and (field != _PIECES or id in ids):
            parts.append(whole)
    return b"".join(parts)


def _fields(content: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Yield number, value and all bytes of each field; of a number its bytes are the value."""
    place = 0
    while place < len(content):
        tag, start = _number(content, place)
        kind = tag & 7
        if kind == _BYTES:
            length, start = _number(content, start)
            end = start + length
        else:
            end = start + _FIXED[kind] if kind in _FIXED else _number(content, start)[1]
        yield tag >> 3, content[start:end], content[place:end]
        place = end


def _number(content: bytes, place: int = 0) -> tuple[int, int]:
    """Return a number that is written in 7 bits a byte, the lowest first, and where it ends."""
    value = shift = 0
    while True:
        byte = content[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value, place
