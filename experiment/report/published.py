"""Scores that others have published, as data: `pretrained_configs/published_scores/`, one file per source."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pretrained_configs
from experiment.report.entries import SUSPECT, Entry, Protocol, Value
from preprocess.base.errors import UsageError
from preprocess.base.names import did_you_mean

_DIRECTORY = Path(pretrained_configs.__file__).with_name("published_scores")
#: Stands beside every other source: what people reach.
HUMAN = "human"
_HYPERPARAMETERS = ("learning_rate", "batch_size", "num_train_epochs", "warmup")
#: How a split ends that its source does not name, and that is guessed: "dev?", "dev(unstated)".
_GUESSED = re.compile(r"\?$|\(unstated\)$")
#: task -> beginnings of the names under which its own metric's programs are published -> our names of the values.
_OFFICIAL = {"em": "em", "f1": "f1"}
_SAME_METRIC = {
    "cmrc2018": {"cmrc2018_evaluate": _OFFICIAL, "official": _OFFICIAL},
    "drcd": {"cmrc2018_evaluate": _OFFICIAL, "official": _OFFICIAL},
    "cjrc": {"CAIL2019": _OFFICIAL, "evaluate2": {"em": "reference_em", "f1": "reference_f1"}},
}


@dataclass(frozen=True)
class PublishedScore:
    """One published number, or mean with maximum; texts stand as they were published, "" for what is not stated.

    Args:
        task: our name of the data set, or that of one that we have no task for.
        split: as the source calls it.
        model: as the source calls it.
        our_model: short name of the checkpoint where it is known here.
        metric: "em", "f1", "accuracy" or "mrr".
        mean: over runs, in percent.
        max: best run, or the only one.
        order: how the source prints them: "mean(max)", "max(mean)", "mean_only", "max_only" or "single".
        n_runs: number of runs.
        selection: how a run's checkpoint was chosen: "each_best" (best F1 and best EM each at its own evaluation),
            "best_dev" (the run that is best on dev), "grid_search", "best_mean".
        scorer: program of the metric.
        converter: what was done to traditional characters.
        max_seq_length: window, in tokens.
        learning_rate: peak.
        batch_size: windows per step.
        num_train_epochs: passes over the training data.
        warmup: share of the steps, or their number.
        protocol: what else makes the number differ from others.
        suspect: why it should not be trusted.
        source: repository and file.
        commit: of the source, where it was recorded.
        collection: name of the file it stands in.
    """

    task: str
    split: str
    model: str
    our_model: str
    metric: str
    mean: str
    max: str
    order: str
    n_runs: str
    selection: str
    scorer: str
    converter: str
    max_seq_length: str
    learning_rate: str
    batch_size: str
    num_train_epochs: str
    warmup: str
    protocol: str
    suspect: str
    source: str
    commit: str
    collection: str

    @property
    def human(self) -> bool:
        """Whether people have answered."""
        return self.model == "HUMAN"

    @property
    def is_mean(self) -> bool:
        """Whether the mean is said to be one: a single value stands under "mean" in some sources."""
        return bool(self.mean) and self.order in ("mean(max)", "max(mean)", "mean_only")

    @property
    def our_metric(self) -> str:
        """Our name of the value that is computed alike; "" where the metric is another, or not stated."""
        for beginning, names in _SAME_METRIC.get(self.task, {}).items():
            if self.scorer.startswith(beginning):
                return names.get(self.metric, "")
        return ""


def collections() -> list[str]:
    """Return the names that `--published` takes."""
    return sorted(path.stem for path in _DIRECTORY.glob("*.csv"))


def published(names: Sequence[str]) -> list[PublishedScore]:
    """Return the scores of some collections, in the order of the names and of the sources.

    Raises:
        UsageError: for a name that there is none of.
    """
    known = collections()
    for name in names:
        if name not in known:
            raise UsageError(
                f"--published {name!r}: one of {', '.join(known)} was expected{did_you_mean(name, known)}"
            )
    return [score for name in dict.fromkeys(names) for score in _read(name)]


@cache
def _read(name: str) -> tuple[PublishedScore, ...]:
    with (_DIRECTORY / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return tuple(PublishedScore(**row, collection=name) for row in csv.DictReader(file))


def entries_of(scores: Sequence[PublishedScore]) -> list[Entry]:
    """Make an entry of each model's metrics that were published together."""
    together: dict[tuple[str, ...], list[PublishedScore]] = {}
    for score in scores:
        values = vars(score)
        key = tuple(text for name, text in values.items() if name not in ("metric", "mean", "max", "suspect"))
        together.setdefault(key, []).append(score)
    return [_entry(scores) for scores in together.values()]


def _entry(scores: Sequence[PublishedScore]) -> Entry:
    first = scores[0]
    other = first.scorer not in ("", "unstated") or "not comparable" in first.protocol
    ours = all(score.our_metric for score in scores)
    suspect = list(dict.fromkeys(f"{SUSPECT}{score.suspect}" for score in scores if score.suspect))
    return Entry(
        task=first.task,
        split=_GUESSED.sub("", first.split),
        model=first.model,
        known_as=first.our_model,
        kind="human" if first.human else "published",
        protocol=_protocol(first),
        values={score.our_metric or score.metric: _value(score) for score in scores},
        notes=tuple(suspect),
        hyperparameters={name: vars(first)[name] for name in _HYPERPARAMETERS if vars(first)[name]},
        shown=tuple(score.our_metric or score.metric for score in scores),
        metric_is_ours="same" if ours else "other" if other else "unstated",
        comparable=ours and not first.protocol and not first.human and not _GUESSED.search(first.split),
    )


def _value(score: PublishedScore) -> Value:
    mean, best = (float(text) if text else None for text in (score.mean, score.max))
    if not score.is_mean and mean is not None and best is None:
        # A single value, or one of an unstated number of runs, stands under "mean" in some sources.
        return Value(None, mean, texts=("", score.mean))
    return Value(mean, best, texts=(score.mean, score.max))


def _protocol(score: PublishedScore) -> Protocol:
    return Protocol(
        source=score.source,
        scorer=score.scorer,
        converter=score.converter,
        selection=score.selection,
        order=score.order,
        n_runs=score.n_runs,
        max_seq_length=score.max_seq_length,
        other="; ".join(filter(None, (score.protocol, _split_words(score.split)))),
        commit=score.commit,
    )


def _split_words(split: str) -> str:
    """Say what is not known of a split; "" for nothing."""
    if split == "unstated":
        return "split unstated"
    return "split unstated, and guessed" if _GUESSED.search(split) else ""
