"""Evaluation on dev as training goes on, and the checkpoint that is best there."""

from __future__ import annotations

import contextlib
import math
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from experiment.inputs.settings import settings_of, write_settings, write_several
from experiment.options.running import GOES_ON
from experiment.training.evaluation import Evaluation, brief, evaluate
from experiment.training.hooks import Hook
from experiment.training.rundir import BEST
from experiment.training.setup import Rule, RunSetup
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
        before = [entry["dev"] for entry in progress.evaluations[progress.n_lost :]]
        chosen = [
            rule for rule in setup.rules if rule.merit(values) > max(map(rule.merit, before), default=-math.inf)
        ]
        epoch = progress.step / run.steps.per_epoch
        losses = progress.mean_losses()
        progress.losses.clear()
        progress.evaluations.append({"step": progress.step, "epoch": epoch, **losses, "dev": values})
        for rule in chosen:
            self._choose(run, rule, evaluation)
        _save_best(run, chosen, evaluation)
        try:
            run.write_record()
        except OSError as error:
            run.log.line(f"seed {run.seed}: the Record can't be written ({error}); training goes on")
        of_all = any(not rule.task for rule in chosen)
        own = ", ".join(rule.task for rule in chosen if rule.task)
        note = " (best so far)" if of_all else ""
        note += f" (best so far of {own})" if own else ""
        run.log.line(f"seed {run.seed} epoch {epoch:.2f} dev {brief(setup.shown, values)}{note}")

    @staticmethod
    def _choose(run: SeedRun, rule: Rule, evaluation: Evaluation) -> None:
        progress = run.progress
        if rule.task:
            options = asdict(evaluation.by_task[rule.task].options)
            progress.by_task[rule.task] = {"best_step": progress.step, "decode": options}
        else:
            progress.best_step, progress.decode = progress.step, evaluation.decode
        run.best_outputs[rule.task] = {p.task.name: evaluation.by_task[p.task.name].outputs for p in rule.parts}


def _save_best(run: SeedRun, chosen: Sequence[Rule], evaluation: Evaluation) -> None:
    """Write the checkpoint of the rules that have chosen it, once; the others get copies of its files."""
    first: Path | None = None
    try:
        for directory in (run.directory_of(rule) / BEST for rule in chosen):
            if first is not None:
                with new_directory(directory) as copy:
                    for file in first.iterdir():
                        shutil.copyfile(file, copy / file.name)
                continue
            with new_directory(directory) if run.writes else contextlib.nullcontext() as place:
                run.setup.backend.save_weights(run.model, place)
                if place is not None:
                    run.setup.source.tokenizer.save(place)
                    if not run.setup.pretrains:
                        _write_settings(run.setup, place, evaluation)
            if not run.writes:
                return
            first = directory
    except OSError as error:
        raise OSError(f"{error}; when {BEST} can be written, {GOES_ON}") from error


def _write_settings(setup: RunSetup, directory: Path, evaluation: Evaluation) -> None:
    windows = setup.source.tokenizer, setup.source.template
    decode = {part.task.name: asdict(evaluation.by_task[part.task.name].options) for part in setup.parts}
    if not setup.is_joint:
        (part,) = setup.parts
        write_settings(directory, part.task, part.recipe, decode[part.task.name], *windows)
        return
    write_several(directory, [settings_of(p.task, p.recipe, decode[p.task.name], *windows) for p in setup.parts])
