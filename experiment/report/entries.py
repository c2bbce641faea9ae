"""What stands in a leaderboard: one model's scores under one protocol, whoever has measured them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from experiment.report.statistics import Interval, Sample

#: Selection rule -> what it is, in words.
SELECTIONS = {
    "": "choice of the checkpoint unstated",
    "checkpoint": "one checkpoint per seed, the best sum of metrics on dev",
    "each_best": "each metric at its own best evaluation on dev",
    "joint": "one checkpoint per seed for all its tasks, the best mean of theirs on dev",
    "best_dev": "the one seed that is best on dev",
    "grid_search": "best of a grid search on dev",
    "best_mean": "best mean over numbers of epochs",
    "given": "as given",
}
#: How the note begins that says why a published score should not be trusted.
SUSPECT = "suspect: "
#: Which of mean and maximum a source prints -> in words.
_ORDERS = {"single": "a single value", "mean_only": "the mean alone", "max_only": "the maximum alone"}


@dataclass(frozen=True)
class Protocol:
    """All that must be equal for two scores to share a column; texts, "" for what is not stated.

    Args:
        source: who has published them; "" for what is measured here.
        scorer: program and version of the metric.
        data: what was scored, where that is known: the first digits of the file's SHA-256.
        converter: what was done to traditional characters.
        selection: how the checkpoint was chosen, one of `SELECTIONS`.
        order: which of mean and maximum are known, as the source prints them.
        n_runs: number of seeds.
        max_seq_length: window, in tokens.
        max_answer_length: longest answer, in tokens.
        other: what else there is to say.
        commit: of the source.
    """

    source: str = ""
    scorer: str = ""
    data: str = ""
    converter: str = ""
    selection: str = ""
    order: str = ""
    n_runs: str = ""
    max_seq_length: str = ""
    max_answer_length: str = ""
    other: str = ""
    commit: str = ""

    def words(self) -> str:
        """Say what it is, for a footnote."""
        at = f" @ {self.commit}" if self.commit else ""
        return "; ".join(
            words
            for words in (
                f"published by {self.source}{at}" if self.source else "measured here",
                f"metric: {self.scorer or 'unstated'}",
                f"data {self.data}" if self.data else "",
                self.converter,
                SELECTIONS[self.selection],
                f"published as {_ORDERS.get(self.order, self.order)}" if self.source and self.order else "",
                f"{self.n_runs} {'run' if self.n_runs == '1' else 'runs'}" if self.n_runs else "runs unstated",
                f"length {self.max_seq_length}" if self.max_seq_length else "length unstated",
                f"answers to {self.max_answer_length}" if self.max_answer_length else "",
                self.other,
            )
            if words
        )


@dataclass(frozen=True)
class Value:
    """A score in one metric, in percent.

    Args:
        mean: over seeds; None if only a single value or the maximum is known.
        max: of the best seed, or the single value; None if unknown.
        sd: sample standard deviation over seeds; None of fewer than two.
        interval: of the mean, over questions and seeds; None where the scores of the questions are not known.
        texts: mean and max as they are printed.
    """

    mean: float | None
    max: float | None
    sd: float | None = None
    interval: Interval | None = None
    texts: tuple[str, str] = ("", "")

    @property
    def main(self) -> float | None:
        """The mean, else the only value there is."""
        return self.mean if self.mean is not None else self.max

    @property
    def text(self) -> str:
        """`mean(max)`, or what there is of it; "-" for nothing."""
        mean, best = self.texts
        if mean and best:
            return f"{mean}({best})"
        return mean or best or "-"


@dataclass(frozen=True)
class Entry:
    """One model under one protocol.

    Args:
        task: name of the task.
        split: "dev", "test", or what the source calls it.
        model: what it is called.
        known_as: short name of the checkpoint, by which ours and published ones find each other; "" for none.
        kind: "run", "predictions", "published" or "human".
        protocol: of all its values.
        values: our name of the metric -> value.
        samples: metric -> scores per question, in percent.
        ids: of the questions, in the order of the samples.
        n_unfinished: seeds without a score.
        n_collapsed: seeds that did not learn.
        notes: what a reader of the scores should know.
        detail: tells it from others of its name: how it was typed, or the run directory.
        hyperparameters: name -> text, as published ones call them.
        trained_otherwise: what makes the training of a run another one than what is published; "" for nothing.
        shown: metrics that a table shows, if nobody says which.
        metric_is_ours: whether a published score is of our task's metric: "same", "unstated" or "other".
        comparable: whether a published mean may be called reproduced: metric and data are known to be the same.
        published_file: split whose whole published file was scored, of what was measured here; "" where it was none.
    """

    task: str
    split: str
    model: str
    known_as: str
    kind: str
    protocol: Protocol
    values: Mapping[str, Value]
    samples: Mapping[str, Sample] = field(default_factory=dict)
    ids: tuple[str, ...] = ()
    n_unfinished: int = 0
    n_collapsed: int = 0
    notes: tuple[str, ...] = ()
    detail: str = ""
    hyperparameters: Mapping[str, str] = field(default_factory=dict)
    trained_otherwise: str = ""
    shown: tuple[str, ...] = ()
    metric_is_ours: Literal["same", "unstated", "other"] = "same"
    comparable: bool = False
    published_file: str = ""

    @property
    def measured(self) -> bool:
        """Whether it was measured here."""
        return self.kind in ("run", "predictions")

    @property
    def is_suspect(self) -> bool:
        """Whether a published score should not be trusted."""
        return any(note.startswith(SUSPECT) for note in self.notes)
