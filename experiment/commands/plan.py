"""What `train` will take on known GPUs, and on this machine's CPU, before anything is trained."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

from experiment.estimate.hardware import DEVICES, device_named, host_memory
from experiment.estimate.memory import CPU_OVERHEAD, GPU_OVERHEAD
from experiment.estimate.plan import (
    FULL_TOKENS,
    FULL_WIDTH,
    DevicePlan,
    PlannedStep,
    cpu_plan,
    full_utilisation,
    gpu_plan,
    planned_step,
)
from experiment.estimate.workload import Architecture, Work, architecture, work
from experiment.inputs.tokenizer import describe_tokenizer
from experiment.io.outputs import check_file
from experiment.io.tables import aligned
from experiment.options.flags import PlanOptions
from experiment.options.joint import sampling_words
from preprocess.base.files import write_json

_HEADER = ("device", "has", "needs", "fits", "largest", "batch x accumulation", "min/epoch", "hours in all")


def plan(options: PlanOptions) -> None:
    """Print a row per device, what the memory is made of, and what is assumed; write all of it where asked.

    Raises:
        UsageError, DataError, CheckpointError: for options and files that can't be used.
    """
    check_file("--json", options.json)
    gpu = device_named(options.gpu)
    gpus = DEVICES if gpu is None else [gpu]
    model = architecture(options)
    step = planned_step(options, model)
    computed = work(
        step.tasks,
        step.recipe,
        model,
        windows_per_step=step.per_device * options.n_devices,
        windows_per_pass=step.batch * options.n_devices,
    )
    known = computed if isinstance(computed, Work) else None
    rows = [gpu_plan(device, step, known) for device in gpus]
    if options.gpu is None:
        rows.append(cpu_plan(host_memory(), step))
    for line in aligned(_HEADER, [_cells(row, step) for row in rows]):
        print(line)
    print()
    for line in (
        *_about_tasks(step),
        *_about_memory(step, options),
        *_about_time(step, computed, options),
        *_about_tokenizer(options, model),
    ):
        print(line)
    if options.json is not None:
        memory = asdict(step.memory(step.batch, step.n_passes))
        time = asdict(known) if known is not None else None
        devices = [asdict(row) for row in rows]
        write_json(options.json, {"model": model.name, "memory": memory, "time": time, "devices": devices})


def _cells(row: DevicePlan, step: PlannedStep) -> tuple[str, ...]:
    n_recomputed, batch = row.fits_with_gradient_checkpointing, row.per_device_train_batch_size
    fits = "no" if n_recomputed is None else f"with --gradient_checkpointing {n_recomputed}"
    without_time = f"no {step.unit}" if row.peak_flops is None and row.device != "cpu" else "-"
    return (
        row.device,
        f"{row.memory_bytes / 1e9:.0f} GB",
        f"{row.needed_bytes / 1e9:.1f} GB",
        "yes" if n_recomputed == step.recipe.gradient_checkpointing else fits,
        str(row.largest_batch),
        f"{batch} x {row.gradient_accumulation_steps}" if batch else "-",
        without_time if row.epoch_s is None else f"{row.epoch_s / 60:.1f}",
        without_time if row.all_seeds_s is None else f"{row.all_seeds_s / 3600:.2f}",
    )


def _about_tasks(step: PlannedStep) -> Iterator[str]:
    if len(step.tasks) > 1:
        names = ", ".join(each.task.name for each in step.tasks)
        yield f"one model for {names}; sampling: {sampling_words(step.recipe.sampling.as_options())}"
    yield from step.notes


def _about_memory(step: PlannedStep, options: PlanOptions) -> Iterator[str]:
    recipe, memory = step.recipe, step.memory(step.batch, step.n_passes)
    again = f", {recipe.gradient_checkpointing} layers computed again" if recipe.gradient_checkpointing else ""
    yield (
        f"needs: {step.batch} windows of {step.longest} tokens per forward pass, {recipe.precision}, "
        f"{recipe.optim}{again}; when it is most:"
    )
    for part, n_bytes in asdict(memory).items():
        per_window = f"  ({n_bytes / step.batch / 1e6:.1f} MB per window)" if part == "activations" else ""
        yield f"  {part:<12}{n_bytes / 1e9:8.3f} GB{per_window}"
    yield f"  {'in all':<12}{memory.total / 1e9:8.3f} GB"
    yield (
        f"  assumed on a GPU: {GPU_OVERHEAD.gaps:.0%} more between tensors, {GPU_OVERHEAD.fixed / 1e9:.1f} GB "
        "for CUDA and libraries"
    )
    if options.gpu is None:
        snapshot = (memory.weights + memory.moments + memory.averages) / 1e9
        yield (
            f"  assumed on the CPU: {CPU_OVERHEAD.gaps:.0%} more between tensors, {CPU_OVERHEAD.fixed / 1e9:.1f} GB "
            f"for Python, libraries and data, {snapshot:.3f} GB for a training checkpoint that is being written"
        )
    yield "largest: windows of that length per forward pass that fit"
    yield (
        "batch x accumulation: --per_device_train_batch_size and --gradient_accumulation_steps that fit and take "
        f"{step.per_device * step.n_devices} windows per step"
        + (f" with {step.n_devices} devices" if step.n_devices > 1 else "")
    )


def _about_tokenizer(options: PlanOptions, model: Architecture) -> list[str]:
    """Say how the vocabulary will be read, or why `train` will refuse it; of a model that is not here, nothing."""
    if options.tokenizer_name is None and isinstance(model.vocabulary, str):
        return []
    return describe_tokenizer(options.tokenizer_name or model.vocabulary, options.do_lower_case, model.config)


def _about_time(step: PlannedStep, work: Work | str, options: PlanOptions) -> Iterator[str]:
    if isinstance(work, str):
        yield f"no time: {work}"
        return
    recipe = step.recipe
    yield (
        f"time: {work.n_windows} windows per epoch in {work.n_steps} steps, {work.mean_length:.0f} tokens each "
        f"({1 - work.real_tokens:.1%} padding), {work.epoch_flops / 1e15:.2f} PFLOP"
    )
    evaluations = (
        f"{work.n_evaluations} evaluations" if work.n_evaluations else "no evaluations (no --validation_file)"
    )
    yield f"  in all: {len(recipe.seeds)} seeds of {recipe.num_train_epochs:g} epochs and {evaluations} each"
    yield (
        f"  assumed: {full_utilisation(step.unit):.0%} of the GPU's {step.unit} peak, less below width {FULL_WIDTH} "
        f"or {FULL_TOKENS} tokens per pass; the log of `train` has the true share"
    )
    if options.gpu is None:
        yield "  a CPU's speed is not known before it is tried: the log of `train` has it after a few steps"
