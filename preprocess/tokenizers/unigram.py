"""Unigram models of SentencePiece, as tokenizer.json holds them: XLM-R's, multilingual E5's, XLNet's, ALBERT's."""

from __future__ import annotations

from pathlib import Path

from preprocess.tokenizers.base import Tokenizer
from preprocess.tokenizers.files import TokenizerFiles
from preprocess.tokenizers.library import load as load_saved

KIND = "Unigram (SentencePiece)"


def load(files: TokenizerFiles, vocabulary: Path, do_lower_case: bool | None) -> Tokenizer:
    """Make the tokenizer of a tokenizer.json and the files beside it.

    Raises:
        DataError: if they are damaged, lack special tokens, or contradict each other.
    """
    return load_saved(files, KIND, do_lower_case)
