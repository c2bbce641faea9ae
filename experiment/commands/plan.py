"""What `train` will take on known GPUs: memory, the largest batch, and time, before anything is trained."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from experiment.estimate.hardware import DEVICES, Device, n_layers
from experiment.estimate.memory import Memory, training_memory
from experiment.estimate.workload import Architecture, Work, architecture, work
from experiment.inputs.model import check_limits
from experiment.inputs.tokenizer import describe_tokenizer
from experiment.io.outputs import check_file
from experiment.io.tables import aligned
from experiment.options.flags import PlanOptions
from experiment.options.recipe import StepRecipe, resolve_recipe, task_of
from preprocess.base.errors import UsageError
from preprocess.base.files import write_json
from preprocess.base.names import did_you_mean
from preprocess.types import HeadSpec
from pretrained_configs.config import ModelConfig
from tasks.core.task import Task

#: What a process takes beside its tensors: bytes of the CUDA context and of libraries, and the share of the tensors
#: that the allocator can't use because it lies in gaps between them.
CONTEXT_BYTES, FRAGMENTATION = 0.8e9, 0.05
#: Share of the peak that a step is assumed to reach with matrix units, and without (fp32), from this width and this
#: number of tokens per forward pass on; below, it is taken to fall in proportion.
UTILISATION, FP32_UTILISATION, FULL_WIDTH, FULL_TOKENS = 0.4, 0.6, 768, 4096
_MAX_BATCH = 1 << 16
_HEADER = ("GPU", "has", "needs", "fits", "largest", "batch x accumulation", "min/epoch", "hours in all")


def plan(options: PlanOptions) -> None:
    """Print a row per GPU, what the memory is made of, and what is assumed; write all of it where asked.

    Raises:
        UsageError, DataError, CheckpointError: for options and files that can't be used.
    """
    check_file("--json", options.json)
    devices = _chosen(options.gpu)
    task = task_of(options)
    model = architecture(options)
    step = _step(options, task, model)
    found = work(
        options,
        step.recipe,
        task,
        model,
        windows_per_step=step.per_device * options.n_devices,
        windows_per_pass=step.batch * options.n_devices,
    )
    rows = [_row(device, step, found if isinstance(found, Work) else None) for device in devices]
    for line in aligned(_HEADER, [_cells(row, step) for row in rows]):
        print(line)
    print()
    for line in (*_about_memory(step), *_about_time(step, found), *_about_tokenizer(options, model)):
        print(line)
    if options.json is not None:
        memory = asdict(step.memory(step.batch, step.n_passes))
        time = asdict(found) if isinstance(found, Work) else None
        write_json(options.json, {"model": model.name, "memory": memory, "time": time, "gpus": rows})


def _chosen(gpu: str | None) -> Sequence[Device]:
    names = [device.name for device in DEVICES]
    if gpu is not None and gpu.lower() not in names:
        raise UsageError(f"--gpu {gpu}: unknown{did_you_mean(gpu.lower(), names)}; known: {', '.join(names)}")
    return [device for device in DEVICES if gpu is None or device.name == gpu.lower()]


@dataclass(frozen=True)
class _Step:
    """An optimizer step as the options ask for it.

    Args:
        recipe: of the training.
        n_devices: that share each batch.
        config: the model's architecture.
        head: of the task.
        batch: windows per forward pass and device.
    """

    recipe: StepRecipe
    n_devices: int
    config: ModelConfig
    head: HeadSpec
    batch: int

    @property
    def n_passes(self) -> int:
        """Forward passes per step."""
        return self.recipe.gradient_accumulation_steps

    @property
    def per_device(self) -> int:
        """Windows per step and device."""
        return self.batch * self.n_passes

    @cached_property
    def shares(self) -> Sequence[tuple[int, int]]:
        """Windows per forward pass and passes per step that take as many windows per step, largest passes first."""
        n = self.per_device
        passes = [k for k in range(1, math.isqrt(n) + 1) if n % k == 0]
        return [(n // k, k) for k in passes] + [(k, n // k) for k in reversed(passes) if k * k < n]

    @property
    def unit(self) -> str:
        """What computes the matrix products, as `Device.tflops` calls it."""
        return "tf32" if self.recipe.precision == "fp32" and self.recipe.tf32 else self.recipe.precision

    def memory(self, batch: int, n_passes: int = 1, n_recomputed: int | None = None) -> Memory:
        """Return the memory of a device that goes over so many windows so many times per step."""
        return training_memory(
            self.config,
            self.head,
            batch=batch,
            length=self.recipe.max_seq_length,
            precision=self.recipe.precision,
            optim=self.recipe.optim,
            gradient_checkpointing=self.recipe.gradient_checkpointing if n_recomputed is None else n_recomputed,
            keeps_gradients=n_passes > 1 or self.n_devices > 1,
        )

    def needed(self, batch: int, n_passes: int = 1, n_recomputed: int | None = None) -> int:
        """Return the bytes that a GPU has to have for that."""
        return math.ceil(self.memory(batch, n_passes, n_recomputed).total * (1 + FRAGMENTATION) + CONTEXT_BYTES)


def _step(options: PlanOptions, task: Task, model: Architecture) -> _Step:
    """Resolve the options, and refuse what `train` would refuse.

    A batch size that is given is that of each device, as in `train`; that of the recipe is shared by all of them.
    """
    if options.framework != "pytorch":
        raise UsageError("--framework tensorflow: the memory of its step is not known; leave it out")
    n_sharing = 1 if options.per_device_train_batch_size is not None else options.n_devices
    recipe = resolve_recipe(options, task, model.published)
    check_limits(recipe, model.name, model.config, model.published)
    batch = recipe.per_device_train_batch_size
    if batch % n_sharing:
        raise UsageError(
            f"--n_devices {n_sharing} can't share {batch} windows equally; give --per_device_train_batch_size"
        )
    return _Step(recipe, options.n_devices, model.config, task.problem.head, batch // n_sharing)


def utilisation(unit: str, hidden_size: int, tokens: float) -> float:
    """Return the share of a GPU's peak that a step is assumed to reach.

    Args:
        unit: "fp32", or one of the precisions that matrix units compute in.
        hidden_size: of the model.
        tokens: per forward pass.
    """
    return _full_utilisation(unit) * min(1.0, hidden_size / FULL_WIDTH) * min(1.0, tokens / FULL_TOKENS)


def _full_utilisation(unit: str) -> float:
    return FP32_UTILISATION if unit == "fp32" else UTILISATION


def _row(device: Device, step: _Step, work: Work | None) -> dict[str, Any]:
    """Return all that is said about a GPU; None for what can't be."""
    capacity = device.memory_gb * 10**9
    share = next((share for share in step.shares if step.needed(*share) <= capacity), None)
    recomputed = range(step.recipe.gradient_checkpointing, n_layers(step.config) + 1)
    tflops = device.tflops.get(step.unit)
    row: dict[str, Any] = {
        "gpu": device.name,
        "memory_bytes": capacity,
        "needed_bytes": step.needed(step.batch, step.n_passes),
        "fits_with_gradient_checkpointing": next(
            (n for n in recomputed if step.needed(step.batch, step.n_passes, n) <= capacity), None
        ),
        "largest_batch": bisect_right(range(1, _MAX_BATCH), capacity, key=step.needed),
        "per_device_train_batch_size": share and share[0],
        "gradient_accumulation_steps": share and share[1],
        "peak_flops": tflops and tflops * 1e12,
        "utilisation": None,
        "epoch_s": None,
        "all_seeds_s": None,
    }
    if share and tflops and work:
        reached = utilisation(step.unit, step.config.hidden_size, share[0] * work.mean_length)
        speed = tflops * 1e12 * reached * step.n_devices
        seeds_flops = len(step.recipe.seeds) * work.seed_flops(step.recipe.num_train_epochs)
        row |= {"utilisation": reached, "epoch_s": work.epoch_flops / speed, "all_seeds_s": seeds_flops / speed}
    return row


def _cells(row: dict[str, Any], step: _Step) -> tuple[str, ...]:
    n_recomputed, batch = row["fits_with_gradient_checkpointing"], row["per_device_train_batch_size"]
    fits = "no" if n_recomputed is None else f"with --gradient_checkpointing {n_recomputed}"
    no_time = f"no {step.unit}" if row["peak_flops"] is None else "-"
    return (
        row["gpu"],
        f"{row['memory_bytes'] / 1e9:.0f} GB",
        f"{row['needed_bytes'] / 1e9:.1f} GB",
        "yes" if n_recomputed == step.recipe.gradient_checkpointing else fits,
        str(row["largest_batch"]),
        f"{batch} x {row['gradient_accumulation_steps']}" if batch else "-",
        no_time if row["epoch_s"] is None else f"{row['epoch_s'] / 60:.1f}",
        no_time if row["all_seeds_s"] is None else f"{row['all_seeds_s'] / 3600:.2f}",
    )


def _about_memory(step: _Step) -> Iterator[str]:
    recipe, memory = step.recipe, step.memory(step.batch, step.n_passes)
    again = f", {recipe.gradient_checkpointing} layers computed again" if recipe.gradient_checkpointing else ""
    yield (
        f"needs: {step.batch} windows of {recipe.max_seq_length} tokens per forward pass, {recipe.precision}, "
        f"{recipe.optim}{again}; when it is most:"
    )
    for part, n_bytes in asdict(memory).items():
        per_window = f"  ({n_bytes / step.batch / 1e6:.1f} MB per window)" if part == "activations" else ""
        yield f"  {part:<12}{n_bytes / 1e9:8.3f} GB{per_window}"
    yield f"  {'in all':<12}{memory.total / 1e9:8.3f} GB"
    yield f"  assumed: {FRAGMENTATION:.0%} more between tensors, {CONTEXT_BYTES / 1e9:.1f} GB for CUDA and libraries"
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


def _about_time(step: _Step, work: Work | str) -> Iterator[str]:
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
        f"  assumed: {_full_utilisation(step.unit):.0%} of the GPU's {step.unit} peak, less below width {FULL_WIDTH} "
        f"or {FULL_TOKENS} tokens per pass; the log of `train` has the true share"
    )
