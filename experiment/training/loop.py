"""The loop: one optimizer step after another. What else happens between them is done by hooks."""

from __future__ import annotations

import contextlib
import itertools
from typing import TYPE_CHECKING

from experiment.training.guards import TrainingError
from experiment.training.mixture import Draw

if TYPE_CHECKING:
    from experiment.training.seed import SeedRun


def take_steps(run: SeedRun) -> None:
    """Take the steps that are left."""
    bar = run.log.bars.counting(f"seed {run.seed}", run.steps.n, done=run.progress.step)
    with bar as advance, run.meter.running(), contextlib.ExitStack() as ending:
        for hook in run.hooks:
            hook.begin(run)
            ending.callback(hook.end, run)
        for draw in itertools.takewhile(lambda _: not run.ends_early, run.steps.draws(run.progress.step)):
            for hook in run.hooks:
                hook.before_step(run, draw)
            _take(run, draw)
            for hook in run.hooks:
                hook.after_step(run)
            advance()


def _take(run: SeedRun, draw: Draw) -> None:
    """Take a step; where memory runs out and the user wants it so, in forward passes of half the size."""
    while True:
        with run.meter.waiting():
            batches = draw.batches(run.pass_size * run.setup.n_devices)
        try:
            run.trainer.step(batches)
        except MemoryError as error:
            _halve(run, error)
            continue
        run.progress.step += 1
        run.meter.count(draw.lengths)
        return


def _halve(run: SeedRun, error: MemoryError) -> None:
    old, where = run.pass_size, f"seed {run.seed} step {run.progress.step + 1}"
    if not run.setup.options.auto_find_batch_size:
        raise error
    if old == 1:
        raise TrainingError(
            f"{where}: memory does not suffice for one window per forward pass "
            f"({str(error).partition(chr(10))[0]}); use --gradient_checkpointing, or a shorter --max_seq_length"
        )
    run.progress.halved_to = (old + 1) // 2
    run.log.line(
        f"{where}: out of memory with {old} windows per forward pass; it is taken again, and all that follow, with "
        f"{run.pass_size} per pass and more passes"
    )
