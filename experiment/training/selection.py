"""Evaluation on dev as training goes on, and the checkpoint that is best there."""

from __future__ import annotations

import contextlib
import math
from dataclasses import asdict
from typing import TYPE_CHECKING

from experiment.inputs.settings import write_settings
from experiment.options.running import GOES_ON
from experiment.training.evaluation import Evaluation, brief, evaluate, selection
from experiment.training.hooks import Hook
from experiment.training.rundir import BEST
from experiment.training.state import APART
from preprocess.base.files import new_directory

if TYPE_CHECKING:
    from experiment.training.seed import SeedRun


class Selection(Hook):
    """Evaluates when it is due, and keeps the best checkpoint."""

    def begin(self, run: SeedRun) -> None:
        """Evaluate where the seed was interrupted in an evaluation."""
        if run.best_is_lost:
            self._forget_best(run)
        self._evaluate_if_due(run)

    def after_step(self, run: SeedRun) -> None:
        """Evaluate after the steps that are to be evaluated."""
        self._evaluate_if_due(run)

    def _forget_best(self, run: SeedRun) -> None:
        """Choose among the evaluations from now on; that of the very step is done again, for its checkpoint."""
        progress = run.progress
        if progress.evaluations and progress.evaluations[-1]["step"] == progress.step:
            again = progress.evaluations.pop()
            progress.losses = [(1, {name: again[name] for name in ("loss", *APART) if name in again})]
        progress.n_lost = len(progress.evaluations)
        run.warn(
            f"{BEST} of step {progress.best_step} was damaged; the best checkpoint is chosen among those from step "
            f"{progress.step} on"
        )

    def _evaluate_if_due(self, run: SeedRun) -> None:
        progress = run.progress
        last = progress.evaluations[-1]["step"] if progress.evaluations else 0
        if progress.step in run.steps.evaluated and progress.step > last:
            with run.meter.stopped():
                self._evaluate(run)

    def _evaluate(self, run: SeedRun) -> None:
        """Evaluate and keep the best checkpoint, or return as if nothing had been done if a signal comes."""
        with contextlib.ExitStack() as changed:
            for hook in run.hooks:
                changed.enter_context(hook.evaluating(run))
            changed.enter_context(run.trainer.evaluating())
            evaluation = evaluate(run.setup, run.model, run.interrupted, run.log.bars)
            if evaluation is None:
                return
            self._enter(run, evaluation)
        for hook in run.hooks:
            hook.after_evaluation(run, evaluation)

    def _enter(self, run: SeedRun, evaluation: Evaluation) -> None:
        setup, progress, values = run.setup, run.progress, evaluation.values
        run.curves.add("dev", values, progress.step)
        before = [selection(setup.task, entry["dev"]) for entry in progress.evaluations[progress.n_lost :]]
        chosen = selection(setup.task, values) > max(before, default=-math.inf)
        epoch = progress.step / run.steps.per_epoch
        losses = progress.mean_losses()
        progress.losses.clear()
        progress.evaluations.append({"step": progress.step, "epoch": epoch, **losses, "dev": values})
        if chosen:
            progress.best_step, progress.decode = progress.step, asdict(evaluation.options)
            run.best_outputs = evaluation.outputs
            _save_best(run)
        try:
            run.write_record()
        except OSError as error:
            run.log.line(f"seed {run.seed}: the Record can't be written ({error}); training goes on")
        note = " (best so far)" if chosen else ""
        run.log.line(f"seed {run.seed} epoch {epoch:.2f} dev {brief(setup.task, values)}{note}")


def _save_best(run: SeedRun) -> None:
    place = new_directory(run.directory / BEST) if run.writes else contextlib.nullcontext()
    try:
        with place as directory:
            run.setup.backend.save_weights(run.model, directory)
            if directory is not None:
                source = run.setup.source
                source.tokenizer.save(directory)
                windows = source.tokenizer, source.template
                if not run.setup.pretrains:
                    write_settings(directory, run.setup.task, run.setup.options, run.progress.decode, *windows)
    except OSError as error:
        raise OSError(f"{error}; when {BEST} can be written, {GOES_ON}") from error
