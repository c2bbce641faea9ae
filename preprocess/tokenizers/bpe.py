"""Byte-level BPE, as GPT-2's and RoBERTa's: vocab.json with merges.txt, or a tokenizer.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from preprocess.base.errors import DataError
from preprocess.base.jsonfile import read_json_object
from preprocess.tokenizers import library
from preprocess.tokenizers.base import Tokenizer
from preprocess.tokenizers.files import TokenizerFiles

KIND = "BPE"
VOCABULARY, MERGES = "vocab.json", "merges.txt"
#: First word of the comment that may stand above the merges.
_VERSION = "#version"
_RESTORE = "restore it from the model's publisher"


def load(files: TokenizerFiles, vocabulary: Path, do_lower_case: bool | None) -> Tokenizer:
    """Make the tokenizer of a vocab.json with its merges.txt, or of a tokenizer.json, and the files beside it.

    Raises:
        DataError: if they are damaged, lack special tokens, or contradict each other.
    """
    if vocabulary == files.saved_path:
        return library.load(files, KIND, do_lower_case)
    saved = _saved(vocabulary.parent, prefix=files.switch("add_prefix_space") is True)
    return library.load(files, KIND, do_lower_case, saved, str(vocabulary.parent / VOCABULARY))


def _saved(directory: Path, prefix: bool) -> dict[str, Any]:
    """Return the content of the tokenizer.json that transformers makes of a vocabulary and its merges."""
    vocabulary, merges = directory / VOCABULARY, directory / MERGES
    for path in (vocabulary, merges):
        if not path.is_file():
            raise DataError(f"{directory}: no {path.name}; BPE needs {VOCABULARY} and {MERGES}, or a tokenizer.json")
    bytes_of: dict[str, Any] = {
        "type": "ByteLevel",
        "add_prefix_space": prefix,
        "trim_offsets": True,
        "use_regex": True,
    }
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "normalizer": None,
        "pre_tokenizer": bytes_of,
        "post_processor": None,
        "decoder": bytes_of,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": read_json_object(vocabulary, DataError, _RESTORE),
            "merges": _merges(merges),
        },
    }


def _merges(path: Path) -> list[list[str]]:
    """Return the pairs of a merges.txt, in order."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not UTF-8 text ({error}); {_RESTORE}") from None
    # Not splitlines(), which breaks at characters that stand for bytes; a copy through Windows ends lines in "\r\n".
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    pairs = []
    for number, line in enumerate(lines, 1):
        if not line or (number == 1 and line.startswith(_VERSION)):
            continue
        pair = line.split(" ")
        if len(pair) != 2 or not all(pair):
            raise DataError(f"{path}: line {number} is {line!r}, expected two pieces and a space between; {_RESTORE}")
        pairs.append(pair)
    return pairs
