"""What `train` will take on a device: whether its memory is enough, the largest batch, the time."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from experiment.estimate.hardware import Device
from experiment.estimate.memory import CPU_OVERHEAD, GPU_OVERHEAD, Memory, Overhead, training_memory
from experiment.estimate.workload import Architecture, PlannedTask, Work
from experiment.inputs.heads import task_for
from experiment.inputs.methods import check_methods
from experiment.inputs.model import check_limits
from experiment.options.flags import PlanOptions
from experiment.options.joint import of_each_task
from experiment.options.model import TransferOptions
from experiment.options.recipe import StepRecipe, resolve_recipe, task_of
from experiment.options.together import together
from preprocess.base.errors import UsageError
from preprocess.types import HeadSpec
from pretrained_configs.config import ModelConfig
from tasks.core.joint import SharedHead

#: Share of the peak that a step is assumed to reach with matrix units, and without (fp32), from this width and this
#: number of tokens per forward pass on; below, it is taken to fall in proportion.
UTILISATION, FP32_UTILISATION, FULL_WIDTH, FULL_TOKENS = 0.4, 0.6, 768, 4096
_MAX_BATCH = 1 << 16


@dataclass(frozen=True)
class PlannedStep:
    """An optimizer step as the options ask for it.

    Args:
        recipe: of the training.
        n_devices: that share each batch.
        config: the model's architecture.
        head: of the model.
        batch: windows per forward pass and device.
        tasks: that are learned.
        notes: lines on what is not as one may have expected.
    """

    recipe: StepRecipe
    n_devices: int
    config: ModelConfig
    head: HeadSpec
    batch: int
    tasks: tuple[PlannedTask, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def longest(self) -> int:
        """Tokens of the longest windows."""
        return max((each.recipe.max_seq_length for each in self.tasks), default=self.recipe.max_seq_length)

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
            length=self.longest,
            precision=self.recipe.precision,
            optim=self.recipe.optim,
            gradient_checkpointing=self.recipe.gradient_checkpointing if n_recomputed is None else n_recomputed,
            keeps_gradients=n_passes > 1 or self.n_devices > 1,
            methods=self.recipe,
        )


def planned_step(options: PlanOptions, model: Architecture) -> PlannedStep:
    """Resolve the options, and refuse what `train` would refuse.

    A batch size that is given is that of each device, as in `train`; that of the recipe is shared by all of them.
    """
    if options.framework != "pytorch":
        raise UsageError("--framework tensorflow: the memory of its step is not known; leave it out")
    n_sharing = 1 if options.per_device_train_batch_size is not None else options.n_devices
    tasks = []
    for own in of_each_task(options).values():
        task = task_of(own)
        of_task = resolve_recipe(own, task, model.published)
        check_limits(of_task, model.name, model.config, model.published)
        tasks.append(PlannedTask(task, own, of_task))
    recipe, notes = together(options, {each.task.name: each.recipe for each in tasks})
    fitted = [task_for(each.task, model.config, None) for each in tasks]
    head = SharedHead({task.name: task.problem.head for task in fitted}, TransferOptions.classifier_dropout).spec
    check_methods(recipe, model.name, model.config, head)
    batch = recipe.per_device_train_batch_size
    if batch % n_sharing:
        raise UsageError(
            f"--n_devices {n_sharing} can't share {batch} windows equally; give --per_device_train_batch_size"
        )
    return PlannedStep(recipe, options.n_devices, model.config, head, batch // n_sharing, tuple(tasks), tuple(notes))


@dataclass(frozen=True, kw_only=True)
class DevicePlan:
    """All that is said about a device; None for what can't be.

    Args:
        device: its short name; "cpu" for this machine without a GPU.
        memory_bytes: what it has.
        needed_bytes: for the step that was asked for.
        fits_with_gradient_checkpointing: the fewest layers computed again with which that step fits.
        largest_batch: windows per forward pass that fit.
        per_device_train_batch_size: largest number of windows per forward pass that fits and keeps the step.
        gradient_accumulation_steps: forward passes per step of that size.
        peak_flops: FLOP/s in the precision asked for.
        utilisation: share of them that is assumed to be reached.
        epoch_s: seconds of training per epoch.
        all_seeds_s: seconds of all seeds with their evaluations.
    """

    device: str
    memory_bytes: int
    needed_bytes: int
    fits_with_gradient_checkpointing: int | None
    largest_batch: int
    per_device_train_batch_size: int | None
    gradient_accumulation_steps: int | None
    peak_flops: float | None = None
    utilisation: float | None = None
    epoch_s: float | None = None
    all_seeds_s: float | None = None


@dataclass(frozen=True)
class _Room:
    """The memory of a device, and what a step takes of it."""

    step: PlannedStep
    capacity: int
    overhead: Overhead
    n_sharing: int = 1

    def needed(self, batch: int, n_passes: int = 1, n_recomputed: int | None = None) -> int:
        """Return the bytes that the device has to have for so many windows, so many times per step."""
        return self.n_sharing * self.overhead.needed(self.step.memory(batch, n_passes, n_recomputed))

    def plan(self, device: str) -> DevicePlan:
        """Say what fits."""
        step = self.step
        share = next((share for share in step.shares if self.needed(*share) <= self.capacity), None)
        recomputed = range(step.recipe.gradient_checkpointing, step.config.family.n_layers(step.config) + 1)
        return DevicePlan(
            device=device,
            memory_bytes=self.capacity,
            needed_bytes=self.needed(step.batch, step.n_passes),
            fits_with_gradient_checkpointing=next(
                (n for n in recomputed if self.needed(step.batch, step.n_passes, n) <= self.capacity), None
            ),
            largest_batch=bisect_right(range(1, _MAX_BATCH), self.capacity, key=self.needed),
            per_device_train_batch_size=share and share[0],
            gradient_accumulation_steps=share and share[1],
        )


def gpu_plan(device: Device, step: PlannedStep, work: Work | None) -> DevicePlan:
    """Return what is to be expected of a GPU."""
    plan = _Room(step, device.memory_gb * 10**9, GPU_OVERHEAD).plan(device.name)
    tflops = device.tflops.get(step.unit)
    if tflops is None:
        return plan
    plan = replace(plan, peak_flops=tflops * 1e12)
    batch = plan.per_device_train_batch_size
    if batch is None or work is None:
        return plan
    reached = utilisation(step.unit, step.config.hidden_size, batch * work.mean_length)
    speed = tflops * 1e12 * reached * step.n_devices
    flops = len(step.recipe.seeds) * work.seed_flops(step.recipe.num_train_epochs)
    return replace(plan, utilisation=reached, epoch_s=work.epoch_flops / speed, all_seeds_s=flops / speed)


def cpu_plan(capacity: int, step: PlannedStep) -> DevicePlan:
    """Return what is to be expected of this machine without a GPU, whose processes share `capacity` bytes."""
    return _Room(step, capacity, CPU_OVERHEAD, step.n_devices).plan("cpu")


def utilisation(unit: str, hidden_size: int, tokens: float) -> float:
    """Return the share of a GPU's peak that a step is assumed to reach.

    Args:
        unit: "fp32", or one of the precisions that matrix units compute in.
        hidden_size: of the model.
        tokens: per forward pass.
    """
    return full_utilisation(unit) * min(1.0, hidden_size / FULL_WIDTH) * min(1.0, tokens / FULL_TOKENS)


def full_utilisation(unit: str) -> float:
    """Return the share of the peak that a wide model reaches with a large batch."""
    return FP32_UTILISATION if unit == "fp32" else UTILISATION
