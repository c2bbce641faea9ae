"""What a grid will take before anything is trained: cells, memory and time, as `plan` knows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from statistics import mean

from experiment.estimate.hardware import Device, host_memory
from experiment.estimate.plan import DevicePlan, cpu_plan, gpu_plan, planned_step
from experiment.estimate.workload import Work, architecture, work
from experiment.grid.cells import GridRun
from experiment.grid.status import FAILED, FINISHED, progress_of
from experiment.io.tables import aligned
from experiment.options.flags import PlanOptions
from experiment.options.steps import StepOptions
from preprocess.base.errors import CheckpointError, DataError, UsageError
from pretrained_configs import catalog
from pretrained_configs.locate import published_of

_HEADER = ("run", "cells", "finished", "failed", "needs", "fits", "hours/cell", "hours left")


@dataclass(frozen=True)
class Outlook:
    """What is expected of a run.

    Args:
        run: the run.
        n_finished: cells that are.
        n_failed: cells that have, and are passed over.
        plan: of its memory; None where nobody knows it.
        cell_s: seconds that a cell takes: those of finished ones, else as `plan` has it; None where neither is known.
        note: why something is not known; "" for nothing.
    """

    run: GridRun
    n_finished: int
    n_failed: int
    plan: DevicePlan | None
    cell_s: float | None
    note: str

    @property
    def left_s(self) -> float | None:
        """Seconds of all cells that are still to be trained."""
        n_left = len(self.run.options.seeds) - self.n_finished - self.n_failed
        return None if self.cell_s is None else n_left * self.cell_s


def outlook(runs: Sequence[GridRun], devices: Sequence[str], gpu: Device | None) -> tuple[list[str], bool]:
    """Return a row per run and what is to be said of the whole, and whether every run can be planned.

    Args:
        runs: of the grid.
        devices: of this machine, that train at the same time.
        gpu: kind of GPU that is planned for; None for this machine's CPU.
    """
    known, problems = [], []
    for run in runs:
        try:
            known.append(_outlook(run, gpu))
        except (UsageError, DataError, CheckpointError) as error:
            problems.append(f"not ready: {run.name}: {error}")
    lines = [*aligned(_HEADER, [_cells(each) for each in known], right=_HEADER[1:]), ""]
    n_cells = sum(len(each.run.options.seeds) for each in known)
    n_left = n_cells - sum(each.n_finished + each.n_failed for each in known)
    where = gpu.name if gpu is not None else "this machine's CPU"
    lines.append(f"{n_cells} cells in {len(known)} runs, {n_left} to train, on {where}")
    told = [each.left_s for each in known if each.left_s is not None]
    if told:
        hours, n_untold = sum(told) / 3600, len(known) - len(told)
        more = f", and {n_untold} runs whose time is not known" if n_untold else ""
        lines.append(f"{hours:.2f} hours of one device{more}; {hours / len(devices):.2f} with {len(devices)} of them")
    notes = dict.fromkeys(f"not known: {each.note}" for each in known if each.note)
    return [*lines, *notes, *problems], not problems


def _outlook(run: GridRun, gpu: Device | None) -> Outlook:
    progress = [progress_of(cell) for cell in run.cells()]
    plan, note = _plan(run, gpu)
    took = [each.wall_s for each in progress if each.state == FINISHED]
    n_failed = sum(each.state == FAILED for each in progress)
    seconds = plan.all_seeds_s if plan is not None else None
    cell_s = mean(took) if took else seconds / len(progress) if seconds is not None else None
    if cell_s is None and gpu is None:
        note = "a CPU's speed, before a cell has been trained on it"
    return Outlook(run, len(took), n_failed, plan, cell_s, note if cell_s is None or plan is None else "")


def _plan(run: GridRun, gpu: Device | None) -> tuple[DevicePlan | None, str]:
    options = PlanOptions(**{field.name: getattr(run.options, field.name) for field in fields(StepOptions)})
    path = options.model_name_or_path
    if path is not None and published_of(path) is None and not Path(path).exists() and catalog.find(run.model):
        options = replace(options, model_name_or_path=run.model)  # of weights that are to be had by hand
    model = architecture(options)
    if options.framework != "pytorch":
        return None, "memory and time of a step of TensorFlow"
    step = planned_step(options, model)
    if gpu is None:
        return cpu_plan(host_memory(), step), ""
    try:
        computed = work(step.tasks, step.recipe, model, windows_per_step=step.per_device, windows_per_pass=step.batch)
    except (UsageError, DataError, CheckpointError, OSError) as error:
        computed = str(error)
    known = computed if isinstance(computed, Work) else None
    return gpu_plan(gpu, step, known), "" if isinstance(computed, Work) else computed


def _cells(each: Outlook) -> tuple[str, ...]:
    plan = each.plan
    fits = "-" if plan is None else "no" if plan.needed_bytes > plan.memory_bytes else "yes"
    return (
        each.run.name,
        str(len(each.run.options.seeds)),
        str(each.n_finished or "-"),
        str(each.n_failed or "-"),
        "-" if plan is None else f"{plan.needed_bytes / 1e9:.1f} GB",
        fits,
        "-" if each.cell_s is None else f"{each.cell_s / 3600:.2f}",
        "-" if each.left_s is None else f"{each.left_s / 3600:.2f}",
    )
