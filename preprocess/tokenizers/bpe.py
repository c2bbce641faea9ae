"""Byte-level BPE, as GPT-2's and RoBERTa's: vocab.json with merges.txt, or a tokenizer.json."""

from __future__ import annotations

from dataclasses import replace
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
    if files.json_type == "BPE":  # it says more than what it was made of
        return library.load(files, KIND, do_lower_case)
    directory = vocabulary.parent
    for name in (VOCABULARY, MERGES):
        if not (directory / name).is_file():
            raise DataError(f"{directory}: no {name}; BPE needs {VOCABULARY} and {MERGES}, or a tokenizer.json")
    pieces = read_json_object(directory / VOCABULARY, DataError, _RESTORE)
    prefix = files.switch("add_prefix_space") is True
    saved, config = _saved(pieces, _merges(directory / MERGES), prefix), files.config
    roles = files.special_tokens(files.usual_roles(pieces))
    pairs = {role: [roles.get(role), pieces.get(roles.get(role, ""))] for role in ("cls", "sep")}
    if all(id is not None for _, id in pairs.values()):
        # Of the models with these files, those with "cls" and "sep" are RoBERTa and its heirs.
        saved["post_processor"] = {
            "type": "RobertaProcessing",
            **pairs,
            "trim_offsets": True,
            "add_prefix_space": prefix,
        }
        config = {"tokenizer_class": "RobertaTokenizer", "add_prefix_space": prefix, **config}
    whole = replace(files, config=config, saved=saved, saved_path=directory / VOCABULARY)
    return library.load(whole, KIND, do_lower_case)


def _saved(pieces: dict[str, Any], merges: list[list[str]], prefix: bool) -> dict[str, Any]:
    """Return the content of the tokenizer.json that transformers makes of a vocabulary and its merges."""
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
            "vocab": pieces,
            "merges": merges,
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
