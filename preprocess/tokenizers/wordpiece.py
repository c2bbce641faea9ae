"""BERT's WordPiece on the Rust `tokenizers` library: text -> piece ids and their places in the original text."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from preprocess.base.errors import DataError
from preprocess.types import Pieces

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
_SURROGATES = re.compile("[\ud800-\udfff]")


class WordPieceTokenizer:
    """Google BERT's tokenizer: basic tokenizer, then greedy longest-match-first pieces.

    Unlike transformers, "[SEP]" written in a text is the characters "[", "SEP", "]", as in Google's code.

    Args:
        vocab: piece -> id; the ids are 0 to len(vocab) - 1.
        do_lower_case: whether to lower-case and strip accents.
        strip_accents: whether to strip accents; None does what `do_lower_case` says.
        tokenize_chinese_chars: whether each CJK character is a word of its own.
        source: what to call the vocabulary in messages.

    Raises:
        DataError: if the vocabulary lacks a special token or its ids have holes.
    """

    def __init__(
        self,
        vocab: Mapping[str, int],
        *,
        do_lower_case: bool = True,
        strip_accents: bool | None = None,
        tokenize_chinese_chars: bool = True,
        source: str = "vocabulary",
    ) -> None:
        """Build the tokenizer; see the class for the arguments."""
        from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

        missing = [token for token in SPECIAL_TOKENS if token not in vocab]
        if missing:
            raise DataError(f"{source}: lacks {', '.join(missing)}; give a BERT WordPiece vocabulary")
        if sorted(vocab.values()) != list(range(len(vocab))):
            raise DataError(f"{source}: {len(vocab)} pieces whose ids are not 0 to {len(vocab) - 1}; renumber them")
        self.vocab = dict(vocab)
        self.options = {
            "do_lower_case": do_lower_case,
            "strip_accents": strip_accents,
            "tokenize_chinese_chars": tokenize_chinese_chars,
        }
        self.pad_id, self.unk_id, self.cls_id, self.sep_id = (vocab[token] for token in SPECIAL_TOKENS)
        self._tokenizer = Tokenizer(
            models.WordPiece(
                self.vocab, unk_token="[UNK]", max_input_chars_per_word=100, continuing_subword_prefix="##"
            )
        )
        self._tokenizer.normalizer = normalizers.BertNormalizer(
            clean_text=True,
            handle_chinese_chars=tokenize_chinese_chars,
            strip_accents=strip_accents,
            lowercase=do_lower_case,
        )
        self._tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()

    @property
    def vocab_size(self) -> int:
        """Number of pieces."""
        return len(self.vocab)

    @property
    def fingerprint(self) -> str:
        """Hash of vocabulary and options: equal for tokenizers that give equal ids."""
        content = json.dumps([self._tokens(), self.options])
        return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()

    def encode(self, texts: Sequence[str]) -> Pieces:
        """Tokenise texts, without special tokens.

        Args:
            texts: n strings; half surrogate pairs count as U+FFFD, which BERT drops.

        Returns:
            Ids (uint16 for up to 65536 pieces, else uint32), code-point spans and splits [n + 1].
        """
        clean = [text if text.isascii() else _SURROGATES.sub("\ufffd", text) for text in texts]
        encodings = self._tokenizer.encode_batch(clean, add_special_tokens=False)
        splits = np.zeros(len(encodings) + 1, np.int64)
        np.cumsum(np.fromiter(map(len, encodings), np.int64, len(encodings)), out=splits[1:])
        n_pieces = int(splits[-1])
        dtype: Any = np.uint16 if self.vocab_size <= 1 << 16 else np.uint32
        ids: NDArray[np.integer] = np.fromiter(
            chain.from_iterable(encoding.ids for encoding in encodings), dtype, n_pieces
        )
        pairs = chain.from_iterable(encoding.offsets for encoding in encodings)
        spans = np.fromiter(chain.from_iterable(pairs), np.int32, 2 * n_pieces).reshape(n_pieces, 2)
        return Pieces(ids, spans, splits)

    def save(self, directory: str | Path) -> None:
        """Write vocab.txt and tokenizer_config.json, which transformers' AutoTokenizer loads too."""
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        config = {"tokenizer_class": "BertTokenizer", **self.options}
        (directory / "vocab.txt").write_text("".join(f"{token}\n" for token in self._tokens()), "utf-8", newline="\n")
        (directory / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")

    def _tokens(self) -> list[str]:
        return sorted(self.vocab, key=self.vocab.__getitem__)


def load_tokenizer(path: str | Path, do_lower_case: bool | None = None) -> WordPieceTokenizer:
    """Load a WordPiece tokenizer.

    Args:
        path: a directory with vocab.txt or tokenizer.json (and tokenizer_config.json), or one of the first two files.
            A directory without either may hold one other "*vocab*.txt": Google's ALBERT has a vocab_chinese.txt.
        do_lower_case: overrides what the files say; None takes tokenizer_config.json, else tokenizer.json, else True.

    Raises:
        DataError: if there is no vocabulary, or several that could be meant, or it is no WordPiece vocabulary with
            BERT's special tokens.
    """
    path = Path(path)
    directory = path if path.is_dir() else path.parent
    is_json = path.suffix == ".json" and not path.is_dir()
    vocab_file = _vocab_file(path) if path.is_dir() else path
    json_file = path if is_json else directory / "tokenizer.json"
    config, saved = _read_object(directory / "tokenizer_config.json"), _read_object(json_file)
    if vocab_file.is_file() and not is_json:
        vocab, source = _read_vocab(vocab_file), vocab_file
    elif saved and (is_json or path.is_dir()):
        vocab, source = _vocab_of_json(saved, json_file), json_file
    elif path.exists():
        raise DataError(f"{path}: holds neither vocab.txt nor tokenizer.json; give a directory with one of them")
    else:
        raise DataError(f"{path}: no such file or directory; give a directory with vocab.txt, or a vocab.txt")
    normalizer = saved.get("normalizer")
    saved_options = normalizer if isinstance(normalizer, dict) else {}
    stated = (do_lower_case, config.get("do_lower_case"), saved_options.get("lowercase"), True)
    lower = next(value for value in stated if value is not None)
    if not isinstance(lower, bool):
        raise DataError(f"{directory}: do_lower_case is {lower!r}; it must be true or false")
    accents = config.get("strip_accents", saved_options.get("strip_accents"))
    chinese = config.get("tokenize_chinese_chars", saved_options.get("handle_chinese_chars", True))
    return WordPieceTokenizer(
        vocab,
        do_lower_case=lower,
        strip_accents=None if accents is None else bool(accents),
        tokenize_chinese_chars=bool(chinese),
        source=str(source),
    )


def _vocab_file(directory: Path) -> Path:
    standard = directory / "vocab.txt"
    if standard.is_file() or (directory / "tokenizer.json").is_file():
        return standard
    found = sorted(directory.glob("*vocab*.txt"))
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise DataError(f"{directory}: several vocabularies ({names}); call the right one vocab.txt or give its path")
    return found[0] if found else standard


def _read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file; {} where there is no file."""
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: not readable as JSON ({error}); restore it from the model's publisher") from None
    if not isinstance(value, dict):
        raise DataError(f"{path}: a JSON {type(value).__name__}, expected an object; restore it")
    return value


def _read_vocab(path: Path) -> dict[str, int]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not UTF-8 text ({error}); give a vocab.txt, one piece per line") from None
    # Not splitlines(), which breaks at characters that are pieces: BERT's Chinese vocabulary has U+2028.
    tokens = [line.removesuffix("\r") for line in text.rstrip("\r\n").split("\n")]
    if tokens == [""]:
        raise DataError(f"{path}: empty file; give a vocab.txt, one piece per line")
    vocab = {token: index for index, token in enumerate(tokens)}
    if len(vocab) < len(tokens):
        line = next(index for index, token in enumerate(tokens) if vocab[token] != index)
        raise DataError(
            f"{path}: {len(tokens) - len(vocab)} duplicate lines, the first is {tokens[line]!r} "
            f"(lines {line + 1} and {vocab[tokens[line]] + 1}); each piece must stand once"
        )
    return vocab


def _vocab_of_json(saved: Mapping[str, Any], path: Path) -> dict[str, int]:
    model = saved.get("model")
    if not isinstance(model, dict) or not isinstance(model.get("vocab"), dict):
        raise DataError(f'{path}: no "model" with a "vocab"; give the tokenizer.json of a BERT model')
    if model.get("type", "WordPiece") != "WordPiece":
        raise DataError(f"{path}: a {model['type']} tokenizer; only WordPiece is supported here")
    added = [token for token in saved.get("added_tokens") or [] if isinstance(token, dict)]
    vocab = {**model["vocab"], **{str(token.get("content")): token.get("id") for token in added}}
    if not all(isinstance(index, int) for index in vocab.values()):
        raise DataError(f"{path}: ids that are no integers; restore it from the model's publisher")
    return vocab
