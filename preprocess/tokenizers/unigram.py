"""Unigram models of SentencePiece: as .model files, and as tokenizer.json holds them."""

from __future__ import annotations

from pathlib import Path

from preprocess.tokenizers import library, spiece
from preprocess.tokenizers.base import Tokenizer
from preprocess.tokenizers.files import TokenizerFiles


def load(files: TokenizerFiles, vocabulary: Path, do_lower_case: bool | None) -> Tokenizer:
    """Make the tokenizer of a .model file or a tokenizer.json and the files beside it.

    Raises:
        DataError: if they are damaged, lack special tokens, or contradict each other.
    """
    if vocabulary == files.saved_path:
        return library.load(files, spiece.KIND, do_lower_case)
    return spiece.load(files, vocabulary, do_lower_case)
