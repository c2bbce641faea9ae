"""One trial: an ordinary run in an ordinary run directory, whose evaluations are reported as they come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

from experiment.options.changed import changed
from experiment.options.flags import TrainOptions
from experiment.search.study import Trial
from experiment.training.hooks import GivenUp, Hook
from experiment.training.protocol import train
from experiment.training.record import PRUNED, Record, seed_records

if TYPE_CHECKING:
    from experiment.training.evaluation import Evaluation
    from experiment.training.seed import SeedRun


def directory_of(search: Path, number: int) -> Path:
    """Return the run directory of a trial."""
    return search / f"trial_{number:03}"


def options_of_trial(
    base: TrainOptions, settings: Mapping[str, str], number: int, seeds: Sequence[int]
) -> TrainOptions:
    """Return what a trial is trained with.

    Args:
        base: what all trials have in common; its directory is that of the search.
        settings: of the trial.
        number: of the trial.
        seeds: of the trial.
    """
    directory = directory_of(base.output_dir, number)
    return replace(changed(base, settings, "--space"), output_dir=directory, seeds=tuple(seeds))


class Reporting(Hook):
    """Reports the evaluations of a trial's first seed, and gives up where the others were better.

    It has no state: the study and what the seed has counted tell.
    """

    looks_on = True

    def __init__(self, trial: Trial, seed: int) -> None:
        """Report to the study of a trial, for this seed."""
        self._trial, self._seed = trial, seed
        self._reported = set(trial.known)

    def begin(self, run: SeedRun) -> None:
        """Report what the process before this one did not come to."""
        self._report(run)

    def after_evaluation(self, run: SeedRun, evaluation: Evaluation) -> None:
        """Report it."""
        self._report(run)

    def _report(self, run: SeedRun) -> None:
        evaluations = run.progress.evaluations
        if run.seed != self._seed or not evaluations:
            return
        for number, entry in enumerate(evaluations, start=1):
            if number not in self._reported:
                self._trial.asked.report(merit(run.record.selection, entry["dev"]), number)
                self._reported.add(number)
        if run.progress.step < run.steps.n and self._trial.asked.should_prune():
            best = max(merit(run.record.selection, entry["dev"]) for entry in evaluations)
            raise GivenUp(f"evaluation {len(evaluations)}: others were better than {best:.3f}")


def merit(metrics: Sequence[str], values: Mapping[str, float]) -> float:
    """Return what trials are compared by: the sum of the metrics that select the checkpoint."""
    return sum(values[name] for name in metrics)


def value_of(records: Sequence[Record]) -> float:
    """Return the score of a trial: the mean over its seeds, on dev with the selected checkpoint."""
    return mean(merit(record.selection, record.scores["dev"]) for record in records)


def run_trial(options: TrainOptions, trial: Trial) -> list[Record]:
    """Train a trial, or what is left of it; returns the Records of its seeds, of which the last may be given up."""
    ended = _ended(options)
    return ended or train(options, [lambda: Reporting(trial, options.seeds[0])])


def _ended(options: TrainOptions) -> list[Record]:
    """Return the Records of a trial whose worker was killed before it could tell what came of it, or none."""
    records: Any = [record for record in seed_records(options.output_dir).values() if record.seed in options.seeds]
    pruned = any(record.status == PRUNED for record in records)
    all_finished = len(records) == len(options.seeds) and all(record.status == "finished" for record in records)
    return records if pruned or all_finished else []
