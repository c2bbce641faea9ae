"""An end before the last step, where the model gets no better."""

from __future__ import annotations

from typing import TYPE_CHECKING

from experiment.training.hooks import Hook

if TYPE_CHECKING:
    from experiment.training.evaluation import Evaluation
    from experiment.training.seed import SeedRun


class EarlyStopping(Hook):
    """Ends a seed after so many evaluations in a row that were no better than the best one (Prechelt 1998).

    It has no state: what the seed has counted tells.
    """

    def __init__(self, patience: int) -> None:
        """Take how many evaluations."""
        self.patience = patience

    def begin(self, run: SeedRun) -> None:
        """Take no step where the seed was interrupted after its last evaluation."""
        self._stop_if_due(run)

    def after_evaluation(self, run: SeedRun, evaluation: Evaluation) -> None:
        """End here if it is time."""
        self._stop_if_due(run)

    def _stop_if_due(self, run: SeedRun) -> None:
        progress = run.progress
        since = [entry for entry in progress.evaluations[progress.n_lost :] if entry["step"] > progress.best_step]
        if len(since) >= self.patience and progress.step < run.steps.n:
            run.ends_early = True
            run.log.line(
                f"seed {run.seed}: stops at step {progress.step}/{run.steps.n}, {len(since)} evaluations after the "
                f"best of step {progress.best_step}"
            )
