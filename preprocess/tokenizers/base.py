"""What every tokenizer gives, and the loader that knows from the files which kind it is."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

from preprocess.base.errors import DataError
from preprocess.tokenizers.files import SAVED, TokenizerFiles
from preprocess.types import Pieces


class Encoder(Protocol):
    """Cuts texts into pieces of which each has its place in the text: what windows are made with."""

    @property
    def special_ids(self) -> Mapping[str, int]:
        """Ids of special tokens by role: "pad", "unk", "cls" and "sep" always; "mask", "bos", "eos" if there are."""

    def encode(self, texts: Sequence[str]) -> Pieces:
        """Tokenise texts, without special tokens.

        Returns:
            Ids (uint16 for up to 65536 tokens, else uint32) and code-point spans of the pieces, from the first to the
            last character that a piece comes from; spans never run backwards.
        """


class Tokenizer(Encoder, Protocol):
    """The tokenizer of a model."""

    @property
    def kind(self) -> str:
        """What messages call tokenizers of its kind."""

    @property
    def tokens(self) -> Sequence[str]:
        """The piece or special token of each id; "" for an id that no text gets."""

    @property
    def vocab_size(self) -> int:
        """One more than the largest id: the rows that a model needs."""

    @property
    def options(self) -> Mapping[str, Any]:
        """What it does with text before cutting it, such as "do_lower_case", as JSON values."""

    @property
    def fingerprint(self) -> str:
        """Hash of all that says which ids texts get."""

    @property
    def template(self) -> str | None:
        """Name of the template that the files say it is used with, if they do."""

    def needed(self, texts: Sequence[str]) -> set[int]:
        """Return the ids that a tokenizer needs to cut texts as it does.

        Those of special and added tokens, and of the texts' single characters, are among them: a new text of these
        characters has nothing unknown.

        Raises:
            DataError: for a kind of tokenizer whose pieces are made of each other.
        """

    def restricted(self, ids: Sequence[int]) -> Tokenizer:
        """Return a tokenizer without the pieces of other ids.

        Args:
            ids: rising, those of `needed` among them; each piece's place in it is its new id.
        """

    def save(self, directory: str | Path) -> None:
        """Write files from which `load_tokenizer` and transformers' AutoTokenizer make the same tokenizer."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of tokenizer and how it is recognised.

    Args:
        name: what messages call it.
        json_type: the "type" of the model in its tokenizer.json.
        files: names of its vocabulary, the usual one first.
        other_files: pattern of names that a directory's only vocabulary may have.
        load: "module:function" that takes the `TokenizerFiles`, the vocabulary and `do_lower_case`; None for a kind
            that can't be read yet.
    """

    name: str
    json_type: str
    files: tuple[str, ...] = ()
    other_files: str = ""
    load: str | None = None


KINDS = (
    Kind("WordPiece", "WordPiece", ("vocab.txt",), "*vocab*.txt", "preprocess.tokenizers.wordpiece:load"),
    Kind(
        "Unigram (SentencePiece)",
        "Unigram",
        ("spiece.model", "sentencepiece.bpe.model"),
        "*.model",
        "preprocess.tokenizers.unigram:load",
    ),
    Kind("BPE", "BPE", ("vocab.json", "merges.txt"), load="preprocess.tokenizers.bpe:load"),
    Kind("WordLevel", "WordLevel"),
)


def load_tokenizer(path: str | Path, do_lower_case: bool | None = None) -> Tokenizer:
    """Load the tokenizer of a model.

    Args:
        path: a directory with a vocabulary such as vocab.txt or with tokenizer.json, or one of these files. What lies
            beside it (tokenizer_config.json, special_tokens_map.json, added_tokens.json) is read, too. A directory
            without either may hold one other "*vocab*.txt": Google's ALBERT has a vocab_chinese.txt.
        do_lower_case: overrides what the files say; None takes tokenizer_config.json, else tokenizer.json, else True.

    Raises:
        DataError: if there is no vocabulary, or several that could be meant, or it is of another kind or damaged.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path}: no such file or directory; give a directory with vocab.txt, or a vocab.txt")
    vocabulary, kind = _in_directory(path) if path.is_dir() else (path, _of_name(path))
    files = TokenizerFiles.of(vocabulary.parent, vocabulary if kind is None else None)
    kind = kind or _of_saved(files)
    if kind.load is None:
        readable = " or ".join(kind.name for kind in KINDS if kind.load is not None)
        raise DataError(f"{vocabulary}: a {kind.name} tokenizer; {readable} is what can be read so far")
    module, function = kind.load.split(":")
    load: Any = getattr(importlib.import_module(module), function)
    return cast(Tokenizer, load(files, vocabulary, do_lower_case))


def _in_directory(directory: Path) -> tuple[Path, Kind | None]:
    """Return a directory's vocabulary with its kind, or its tokenizer.json with None."""
    for kind in KINDS:
        for name in kind.files:
            if (directory / name).is_file():
                return directory / name, kind
    if (directory / SAVED).is_file():
        return directory / SAVED, None
    for kind in KINDS:
        others = sorted(directory.glob(kind.other_files)) if kind.other_files else []
        if len(others) > 1:
            names = ", ".join(path.name for path in others)
            raise DataError(
                f"{directory}: several vocabularies ({names}); call the right one {kind.files[0]} or give its path"
            )
        if others:
            return others[0], kind
    raise DataError(f"{directory}: holds neither vocab.txt nor tokenizer.json; give a directory with one of them")


def _of_name(path: Path) -> Kind | None:
    """Return the kind of a vocabulary by its name, None for a file like tokenizer.json."""
    for kind in KINDS:
        if path.name in kind.files or (kind.other_files and path.match(kind.other_files)):
            return kind
    return None if path.suffix == ".json" else KINDS[0]  # a text file may have any name


def _of_saved(files: TokenizerFiles) -> Kind:
    kind = next((kind for kind in KINDS if kind.json_type == files.json_type), None)
    if kind is None:
        what = f"a tokenizer of type {files.json_type!r}" if files.json_type else 'no "model" in it'
        raise DataError(f"{files.saved_path}: {what}; give the tokenizer.json of a BERT model")
    return kind
