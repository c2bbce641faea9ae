"""The tokenizer that stands beside a model: whether it is the model's own, and how it reads capital letters."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from experiment.inputs.settings import FILE_NAME
from preprocess.base.errors import CheckpointError, DataError, UsageError
from preprocess.base.jsonfile import read_json_object
from preprocess.tokenizers.base import Tokenizer, load_tokenizer
from pretrained_configs import catalog
from pretrained_configs.config import ModelConfig
from pretrained_configs.locate import locate

#: Share of the word table's rows that a model's own vocabulary may leave unused.
_MAX_SPARE_ROWS = 0.01

#: Share of the pieces with letters that has to have capital ones, for a vocabulary to be a cased one: a third and
#: more in Google's, a handful of names in uncased ones.
_MIN_CAPITALS = 0.1

#: What the classes that transformers' users fine-tune end in: their tokenizer's files say what was trained with.
_FINE_TUNED = (
    "ForQuestionAnswering",
    "ForQuestionAnsweringSimple",
    "ForSequenceClassification",
    "ForTokenClassification",
    "ForMultipleChoice",
)


@dataclass(frozen=True)
class LoadedTokenizer:
    """A tokenizer, and what a user should know of it.

    Args:
        tokenizer: splits text.
        casing: a line: how capital letters are read, and why.
        warnings: lines about what may be wrong with it.
    """

    tokenizer: Tokenizer
    casing: str
    warnings: tuple[str, ...] = ()


def read_tokenizer(name_or_path: str | Path, do_lower_case: bool | None) -> LoadedTokenizer:
    """Load a tokenizer; how it reads capital letters is decided here, for every command, and by its files alone.

    The same files are read alike wherever they lie and whatever they are called. First comes `do_lower_case`. A
    fine-tuned model is read as its tokenizer's files say, which is what it was trained with. Of others the vocabulary
    knows best: where none of its pieces has a capital letter, cased text would be unknown pieces, whatever
    tokenizer_config.json says (that of google-bert/bert-base-chinese says do_lower_case false). Then come
    tokenizer_config.json and tokenizer.json; where they say nothing, a vocabulary with capital letters is cased, one
    without is lower-cased, and one with few is read as others of its kind are.

    Args:
        name_or_path: directory, vocabulary, tokenizer.json, short name or hub id.
        do_lower_case: what the user says; None where nothing.

    Raises:
        DataError, CheckpointError: if it is missing or damaged.
    """
    path = locate(name_or_path, weights=False).path
    tokenizer = load_tokenizer(path, do_lower_case)
    lower, why = _casing(tokenizer, path, do_lower_case)
    if tokenizer.options["do_lower_case"] is not lower:
        tokenizer = load_tokenizer(path, lower)
    return LoadedTokenizer(tokenizer, f"casing: {'lower-cased' if lower else 'cased'}, {why}")


def _casing(tokenizer: Tokenizer, path: Path, given: bool | None) -> tuple[bool, str]:
    """Return whether text is lower-cased, and why."""
    if given is not None:
        return given, "as --do_lower_case says"
    directory = path if path.is_dir() else path.parent
    by_files = bool(tokenizer.options["do_lower_case"])
    speaks = _who_says(directory, by_files)
    if speaks and _is_fine_tuned(directory):
        return by_files, f"as {speaks} of the fine-tuned model says"
    share = _capitals(tokenizer.tokens)
    if share == 0 and speaks and not by_files:
        return True, (
            f"as the vocabulary has no capital letter, though {speaks} says otherwise "
            "(--do_lower_case False would follow that)"
        )
    if speaks:
        return by_files, f"as {speaks} says"
    if share is not None and share >= _MIN_CAPITALS:
        return False, "as the vocabulary has capital letters"
    if share == 0:
        return True, "as the vocabulary has no capital letter"
    return by_files, "as nothing says otherwise"


def _who_says(directory: Path, by_files: bool) -> str:
    """Return the file that states the casing as it was read; "" if none does."""
    config = directory / "tokenizer_config.json"
    # Beside a tokenizer.json that lower-cases by itself, some say nothing that is done.
    if config.is_file() and read_json_object(config).get("do_lower_case") is by_files:
        return config.name
    return "tokenizer.json" if (directory / "tokenizer.json").is_file() else ""


def _is_fine_tuned(directory: Path) -> bool:
    if (directory / FILE_NAME).is_file():
        return True
    config = directory / "config.json"
    classes = read_json_object(config).get("architectures") if config.is_file() else None
    return isinstance(classes, list) and any(str(name).endswith(_FINE_TUNED) for name in classes)


def _capitals(pieces: Collection[str]) -> float | None:
    """Return which share of the pieces with letters of two cases has capital ones; None where no piece has any."""
    words = [piece for piece in pieces if piece[:1] + piece[-1:] not in ("[]", "<>")]
    capital = sum(word != word.lower() for word in words)
    cased = sum(word.lower() != word.upper() for word in words)
    return capital / cased if cased else None


def fitting_tokenizer(name_or_path: str | Path, do_lower_case: bool | None, config: ModelConfig) -> LoadedTokenizer:
    """Load a tokenizer as `read_tokenizer`, and check that the model has been trained with its vocabulary.

    Raises:
        UsageError, DataError, CheckpointError: if it is missing, damaged, or another model's.
    """
    loaded = read_tokenizer(name_or_path, do_lower_case)
    n_pieces, n_rows = loaded.tokenizer.vocab_size, config.vocab_size
    if n_pieces == n_rows or n_pieces in catalog.vocabulary_sizes(n_rows):
        return loaded
    sizes = f"{name_or_path}: the vocabulary has {n_pieces} entries, the model's embedding {n_rows} rows"
    if not 0 < n_rows - n_pieces <= _MAX_SPARE_ROWS * n_rows:
        raise UsageError(f"{sizes}; give the model's own vocabulary with --tokenizer_name")
    if known := catalog.vocabulary_sizes(n_rows):
        published = " or ".join(str(size) for size in sorted(known))
        raise UsageError(
            f"{sizes}, and published models of so many rows have {published} entries: where one is lost, all ids "
            "after it are wrong; get the publisher's file, or give it with --tokenizer_name"
        )
    warning = (
        f"{sizes}: right if the last {n_rows - n_pieces} rows are spare; if entries were lost on the way, all ids "
        "after them are wrong, so compare the file with the publisher's"
    )
    return LoadedTokenizer(loaded.tokenizer, loaded.casing, (warning,))


def describe_tokenizer(name_or_path: str | Path, do_lower_case: bool | None, config: ModelConfig) -> list[str]:
    """Say in lines how a model's own tokenizer will be read, or why `train` will refuse it: for commands without one.

    Args:
        name_or_path: as for `read_tokenizer`.
        do_lower_case: as for `read_tokenizer`.
        config: the model's architecture.
    """
    try:
        loaded = fitting_tokenizer(name_or_path, do_lower_case, config)
    except (UsageError, DataError, CheckpointError) as error:
        return [f"WARNING  train and predict will refuse the tokenizer: {error}"]
    return [
        f"tokenizer: {loaded.tokenizer.kind}, {loaded.tokenizer.vocab_size} pieces; {loaded.casing}",
        *(f"WARNING  {line}" for line in loaded.warnings),
    ]
