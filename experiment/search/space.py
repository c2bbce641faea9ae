"""What is searched: options of train, each with its values. A value is a text, as it would be typed."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiment.options.changed import changed
from experiment.options.configfile import read_texts
from experiment.options.fields import options_of
from experiment.options.flags import TrainOptions
from experiment.options.searching import SearchOptions
from preprocess.base.errors import UsageError

#: Known spaces. "published": around the rates, warm-ups and epochs that stand beside the scores of the reference
#: system (ewrfcas/bert_cn_finetune), which were chosen on dev.
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "published": {
        "learning_rate": ["2e-5", "2.5e-5", "3e-5", "4e-5", "5e-5"],
        "warmup_ratio": ["0.05", "0.06", "0.1"],
        "num_train_epochs": ["2", "3"],
    }
}
#: Trials are compared evaluation by evaluation, and by their score on one file.
_COMPARED_BY = ("eval_epochs", "validation_file", "max_eval_samples")
_EXAMPLE = "learning_rate: {low: 1e-5, high: 5e-5, log: true}"


@dataclass(frozen=True)
class Choices:
    """Some values of an option.

    Args:
        name: of the option.
        texts: the values.
    """

    name: str
    texts: tuple[str, ...]

    def draw(self, trial: Any) -> str:
        """Return the value that a trial has, or gets now."""
        return str(trial.suggest_categorical(self.name, list(self.texts)))

    def every(self) -> list[tuple[Any, str]]:
        """Return all values, as a trial has them and as texts."""
        return [(text, text) for text in self.texts]

    @property
    def ends(self) -> tuple[str, ...]:
        """Values of which each must be one that the option can have."""
        return self.texts


@dataclass(frozen=True)
class Range:
    """The values of an option from one to another.

    Args:
        name: of the option.
        low: the least.
        high: the largest.
        step: between two of them; None for all.
        log: whether each doubling counts alike.
        whole: whether they are whole numbers.
    """

    name: str
    low: float
    high: float
    step: float | None
    log: bool
    whole: bool

    def draw(self, trial: Any) -> str:
        """Return the value that a trial has, or gets now."""
        if self.whole:
            step = int(self.step or 1)
            return str(trial.suggest_int(self.name, int(self.low), int(self.high), step=step, log=self.log))
        return repr(float(trial.suggest_float(self.name, self.low, self.high, step=self.step, log=self.log)))

    def every(self) -> list[tuple[Any, str]]:
        """Return all values, as a trial has them and as texts.

        Raises:
            UsageError: if there is no end of them.
        """
        step = self.step or (1 if self.whole and not self.log else None)
        if step is None:
            raise UsageError(f"--sampler grid: {self.name} needs a list of values, or a step")
        kind = int if self.whole else float
        n = int((self.high - self.low) / step + 1e-9) + 1
        values = [kind(self.low + i * step) for i in range(n)]
        return [(value, repr(value)) for value in values]

    @property
    def ends(self) -> tuple[str, ...]:
        """Values of which each must be one that the option can have."""
        return tuple(repr(int(x) if self.whole else x) for x in (self.low, self.high))


Dimension = Choices | Range


@dataclass(frozen=True)
class Space:
    """What is searched.

    Args:
        dimensions: one for each option.
        plain: the same as YAML- and JSON-able values.
    """

    dimensions: tuple[Dimension, ...]
    plain: Mapping[str, Any]

    def draw(self, trial: Any) -> dict[str, str]:
        """Return the settings that a trial has, or gets now: option -> value."""
        return {dimension.name: dimension.draw(trial) for dimension in self.dimensions}

    def combinations(self) -> list[dict[str, Any]]:
        """Return all of them, as trials have them.

        Raises:
            UsageError: if there is no end of them.
        """
        values = [dimension.every() for dimension in self.dimensions]
        names = [dimension.name for dimension in self.dimensions]
        return [dict(zip(names, (value for value, _ in each), strict=True)) for each in itertools.product(*values)]

    def first(self) -> dict[str, str]:
        """Return settings at one end."""
        return {dimension.name: dimension.ends[0] for dimension in self.dimensions}


def space_of(options: SearchOptions, base: TrainOptions) -> Space:
    """Return what is searched.

    Args:
        options: of the search.
        base: what all trials have in common.

    Raises:
        UsageError: naming what is unknown, or has values that can't be meant.
    """
    plain: dict[str, Any] = dict(PRESETS[options.preset]) if options.preset is not None else {}
    for text, label in _texts(options.space):
        plain |= {name.replace("-", "_"): values for name, values in read_texts(text, label).items()}
    if not plain:
        raise UsageError(f"search: give --preset or --space, such as --space '{_EXAMPLE}'")
    problems = []
    dimensions: list[Dimension] = []
    for name, values in plain.items():
        try:
            dimensions.append(_dimension(name, values, base))
        except UsageError as error:
            problems.append(str(error))
    if problems:
        raise UsageError("; ".join(problems))
    return Space(tuple(dimensions), plain)


def _texts(given: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield what was given of a space, files read, and what messages call it."""
    for text in given:
        if "\n" in text or ":" in text:
            yield text, "--space"
            continue
        try:
            yield Path(text).expanduser().read_text(encoding="utf-8-sig"), f"--space {text}"
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(
                f"--space {text}: a YAML file, or YAML such as '{_EXAMPLE}', was expected ({error})"
            ) from None


def _dimension(name: str, values: Any, base: TrainOptions) -> Dimension:
    where = "--space"
    if name in _COMPARED_BY:
        raise UsageError(f"{where}: {name} must be the same in all trials, which are compared by it; take it out")
    dimension = _choices(name, values, where) if isinstance(values, list) else _range(name, values, where)
    for text in dimension.ends:
        changed(base, {name: text}, where)
    return dimension


def _choices(name: str, values: list[Any], where: str) -> Choices:
    texts = [" ".join(value) if isinstance(value, list) else value for value in values]
    if not texts or any(isinstance(text, dict) for text in texts) or len(set(texts)) < len(texts):
        raise UsageError(f"{where}: {name}: values were expected, at least one, and each once")
    return Choices(name, tuple(texts))


def _range(name: str, values: Any, where: str) -> Range:
    expected = f"{where}: {name}: a list of values, or {{low: …, high: …}} with step or log, was expected"
    if not isinstance(values, dict) or not {"low", "high"} <= values.keys() <= {"low", "high", "step", "log"}:
        raise UsageError(expected)
    kind = next((option.type for option in options_of(TrainOptions) if option.name == name), float)
    if kind not in (int, float):
        raise UsageError(f"{where}: {name} is no number; give a list of its values")
    log = values.get("log", "false").lower()
    try:
        low, high = kind(values["low"]), kind(values["high"])
        step = kind(values["step"]) if "step" in values else None
    except (ValueError, TypeError):
        raise UsageError(
            f"{where}: {name}: {'whole numbers' if kind is int else 'numbers'} were expected, found {values}"
        ) from None
    if log not in ("true", "false"):
        raise UsageError(f"{where}: {name}: log is true or false, found {values['log']}")
    if not low < high or (step is not None and step <= 0):
        raise UsageError(f"{where}: {name}: low must be less than high, and step more than 0; found {values}")
    if log == "true" and (low <= 0 or step is not None):
        raise UsageError(f"{where}: {name}: with log low is more than 0, and there is no step; found {values}")
    return Range(name, low, high, step, log == "true", kind is int)
