"""The training step: forward, backward, clipping, Adam, schedule, in float32, bfloat16 or float16."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from preprocess.base.schedule import linear_schedule
from preprocess.base.spec import TrainerSpec
from preprocess.base.stepmetrics import skipped_in_a_row, step_metrics
from preprocess.types import Apart, Batch, n_windows_apart
from pytorch_modeling.distribute import (
    Group,
    fill,
    sharded,
    share,
    sum_gradients,
    summed,
    summing,
    to_array,
    total,
    whole,
)
from pytorch_modeling.encoder import compile_layers
from pytorch_modeling.errors import is_out_of_memory
from pytorch_modeling.hooks import Gradients, TrainerHook
from pytorch_modeling.methods import hooks_of
from pytorch_modeling.model import MRCModel, parameter_name, to_tensors
from pytorch_modeling.objective import apart, divided, mean_objective, repeated
from pytorch_modeling.optim import build_optimizer

#: --bf16 / --fp16 -> what matrix products run in; weights and optimizer state stay in float32.
AUTOCAST_DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return the autocast context of a precision, "fp32", "bf16" or "fp16"."""
    dtype = AUTOCAST_DTYPES[precision]
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)


class Trainer:
    """Takes optimizer steps on a model, together with the other processes of the group.

    The loop around it (epochs, evaluation, records) is framework-neutral and lives elsewhere: this class is all that
    a framework has to do.
    """

    def __init__(self, model: MRCModel, spec: TrainerSpec) -> None:
        """Prepare the optimizer.

        Args:
            model: trained in place.
            spec: how; what `check_trainer` refuses is not looked at.
        """
        self.model = model
        assert model.head_spec is not None, "a model without a head has nothing to learn"
        self._head = model.head_spec
        #: What is attached, in the order in which each point of a step calls it; the methods of `spec` come first.
        self.hooks: list[TrainerHook] = hooks_of(spec)
        for hook in self.hooks:
            hook.prepare(model)
        model.encoder.n_recomputed = spec.gradient_checkpointing
        if spec.torch_compile:
            compile_layers(model.encoder)
        self.n_steps = spec.n_steps
        self.n_warmup_steps = math.ceil(spec.n_steps * spec.warmup_ratio)
        self.learning_rate = spec.learning_rate
        self.max_grad_norm = spec.max_grad_norm
        self.precision = spec.precision
        self._group = Group.current()
        self._parallel = (
            sharded(model, model.encoder.layer_sequence(), self._group) if spec.fsdp else summing(model, self._group)
        )
        #: All parameters by their neutral names, whatever hooks make of the model later; and those that learn.
        self.named: dict[str, Tensor] = {parameter_name(name): p for name, p in model.named_parameters()}
        self.trained = {name: p for name, p in self.named.items() if p.requires_grad}
        self.optimizer = build_optimizer(
            model,
            weight_decay=spec.weight_decay,
            adam_beta1=spec.adam_beta1,
            adam_beta2=spec.adam_beta2,
            adam_epsilon=spec.adam_epsilon,
            optim=spec.optim,
        )
        self._fixed_scale = None if spec.loss_scale == "dynamic" else spec.loss_scale
        self.scaler = torch.amp.GradScaler(
            model.device.type, init_scale=self._fixed_scale or 2.0**16, enabled=spec.precision == "fp16"
        )
        self.n_done = 0
        self.skipped_in_a_row = 0
        self._can_repeat = spec.auto_find_batch_size
        self._seed = torch.initial_seed()
        if self._group.size > 1:
            self._seed_generators()
        # Of the steps since `metrics`: loss, norm of the gradient; and apart, by whether windows hold an answer, this
        # process's part of the losses [2] and how many windows there were.
        self._losses: list[Tensor] = []
        self._grad_norms: list[Tensor] = []
        self._apart: list[Tensor] = []
        self._n_windows: list[tuple[int, int]] = []
        self._parts: list[Tensor] = []  # of `_apart`, of the passes of the step
        for hook in self.hooks:
            hook.attach(self)

    def attach(self, hook: TrainerHook) -> None:
        """Attach a hook, before the first step."""
        self.hooks.append(hook)
        hook.attach(self)

    @contextlib.contextmanager
    def evaluating(self) -> Iterator[None]:
        """Return the context in which the model is as its hooks want it to be evaluated, and saved."""
        with contextlib.ExitStack() as changed:
            for hook in self.hooks:
                changed.enter_context(hook.evaluating(self))
            yield

    def summed(self, gradient: Tensor) -> Tensor:
        """Return a gradient that a hook gets, summed over all devices that share the batch."""
        return summed(gradient, self._group)

    def step(self, batches: Sequence[Batch]) -> None:
        """Take one optimizer step on the union of the given batches.

        The loss is the mean over all their windows, so gradient accumulation over k batches gives the step of one
        batch k times as large, however uneven the batches are. Nothing is read back from the device. If the loss or a
        gradient is not finite, parameters and moments stay as they are, and the schedule goes on.

        Args:
            batches: the same in every process of the group, which shares out the rows of each.

        Raises:
            MemoryError: with auto_find_batch_size, if memory ran out in any process; nothing has changed.
        """
        self._parallel.train()
        mean = total(self._attempt(batches) if self._can_repeat else self._passes(batches), self._group)
        self._grad_norms.append(self._update(mean))
        self._losses.append(mean)
        if self._parts:
            self._apart.append(torch.stack(self._parts).sum(0))
            self._n_windows.append(n_windows_apart(batches))
        self.n_done += 1

    def _passes(self, batches: Sequence[Batch], overlapped: bool = True) -> Tensor:
        """Add up the gradients of all batches; the last backward pass sums them over all processes if overlapped.

        Returns:
            this process's part of the mean loss.
        """
        n_targets, n_apart = self._head.n_targets(batches), self._head.n_targets_apart(batches)
        hooked = any(type(hook).after_backward is not TrainerHook.after_backward for hook in self.hooks)
        mean = torch.zeros((), device=self.model.device)
        self._parts = []
        for i, batch in enumerate(batches, 1):
            if hooked:
                mean += self._hooked_pass(batch, n_targets, n_apart)
                continue
            with self._gradients_summed(overlapped and i == len(batches)):
                loss = self._loss(batch, n_targets, n_apart)
                self.scaler.scale(loss).backward()
            mean += loss.detach()
        if hooked and overlapped and isinstance(self._parallel, DistributedDataParallel):
            sum_gradients(self.model, self._group)
        return mean

    def _hooked_pass(self, batch: Batch, n_targets: Mapping[str, int], n_apart: Apart | None) -> Tensor:
        """Add the gradients of a batch as the hooks want them; returns its part of the loss."""
        named = self.trained
        before = {name: p.grad for name, p in named.items()}

        def backward(n_apart: Apart | None) -> tuple[Tensor, Gradients]:
            for p in named.values():
                p.grad = None
            with self._gradients_summed(False):
                loss = self._loss(batch, n_targets, n_apart)
                self.scaler.scale(loss).backward()
            return loss.detach(), {name: p.grad for name, p in named.items() if p.grad is not None}

        loss, gradients = backward(n_apart)
        for hook in self.hooks:
            gradients = hook.after_backward(self, gradients, lambda: backward(None)[1])
        for name, p in named.items():
            gradient, sum_before = gradients.get(name), before[name]
            p.grad = gradient if sum_before is None or gradient is None else sum_before + gradient
        return loss

    def _attempt(self, batches: Sequence[Batch]) -> Tensor:
        """Do as `_passes`, or restore what it has changed in all processes if memory runs out in one of them."""
        states = [(generator, generator.get_state()) for _, generator in self._generators()]
        mean, problem = None, None
        try:
            mean = self._passes(batches, overlapped=False)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            problem = str(error)
        # Past the handler: its traceback held what the passes had computed.
        problems = [message for message in self._group.gather(problem) if message is not None]
        if mean is None or problems:
            self.optimizer.zero_grad(set_to_none=True)
            for generator, state in states:
                generator.set_state(state)
            if self.model.device.type == "cuda":
                torch.cuda.empty_cache()
            raise MemoryError(problems[0])
        sum_gradients(self.model, self._group)
        return mean

    def _gradients_summed(self, summed: bool) -> contextlib.AbstractContextManager[None]:
        """Return the context of a forward and a backward pass, whose gradients all processes sum now or later."""
        if summed or not isinstance(self._parallel, DistributedDataParallel):
            return contextlib.nullcontext()
        return self._parallel.no_sync()

    def _loss(self, batch: Batch, n_targets: Mapping[str, int], n_apart: Apart | None = None) -> Tensor:
        """Return this process's part of the mean loss of a step with so many targets of each projection."""
        batch, weight = share(batch, self._group, whole_groups=self._head.whole_groups)
        tensors = to_tensors(batch, self.model.device)
        n_passes = max((hook.n_passes for hook in self.hooks), default=1)
        with autocast(self.model.device, self.precision):
            values = self._parallel(repeated(tensors, n_passes))
        passes = divided(values, n_passes)
        if n_apart is not None:
            self._parts.append(weight * apart(self._head, passes[0], tensors, n_apart))
        loss = mean_objective(self._head, passes, tensors, n_targets)
        for hook in self.hooks:
            added = hook.added_loss(self, passes, tensors, n_targets)
            loss = loss if added is None else loss + added
        return weight * loss

    def _update(self, loss: Tensor) -> Tensor:
        """Clip and take the step, unless loss or gradients are not finite; returns the norm before clipping."""
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate(self.n_done) * group["share"]
        self.scaler.unscale_(self.optimizer)
        norm = whole(torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.max_grad_norm))
        # The fused kernels read this flag on the device, as they do for GradScaler.
        self.optimizer.found_inf = (~(norm.isfinite() & loss.isfinite())).float()  # type: ignore[attr-defined]
        self.optimizer.step()
        self.scaler.update(self._fixed_scale)
        self.optimizer.zero_grad(set_to_none=True)
        for hook in self.hooks:
            hook.after_update(self)
        return norm

    def _rate(self, step: int) -> float:
        return self.learning_rate * linear_schedule(step, self.n_steps, self.n_warmup_steps)

    def metrics(self) -> dict[str, float]:
        """Return the means since the last call; the only place where the host waits for the device.

        `skipped_in_a_row` is brought up to date: how many steps, up to the last one, were skipped in a row.

        Returns:
            those of `step_metrics`; "learning_rate" (of the last step); and with fp16 "loss_scale". Empty if no step
            was taken.
        """
        if not self._losses:
            return {}
        losses, norms = torch.stack(self._losses + self._grad_norms).cpu().double().numpy().reshape(2, -1)
        values = step_metrics(losses, norms, self._apart_of_all(), self._n_windows)
        values["learning_rate"] = self._rate(self.n_done - 1)
        if self.scaler.is_enabled():
            values["loss_scale"] = float(self.scaler.get_scale())
        self.skipped_in_a_row = skipped_in_a_row(losses, norms, self.skipped_in_a_row)
        for kept in (self._losses, self._grad_norms, self._apart, self._n_windows):
            kept.clear()
        return values

    def _apart_of_all(self) -> NDArray[np.float64] | None:
        """Return the losses apart of the steps since `metrics`, [T, 2], summed over all processes."""
        if not self._apart:
            return None
        return total(torch.stack(self._apart), self._group).cpu().double().numpy()

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of everything that a later step depends on, apart from the data order.

        All processes of the group have to call it, and all get the same.

        Returns:
            nested dicts of numpy arrays and JSON values; parameters by their framework-neutral names.
        """
        state = self.optimizer.state
        generators = {name: to_array(generator.get_state()) for name, generator in self._generators()}
        return {
            "model": {name: to_array(p) for name, p in self.named.items()},
            "optimizer": {
                name: {key: to_array(x) if isinstance(x, Tensor) else x for key, x in state[p].items()}
                for name, p in self.trained.items()
            },
            "scaler": self.scaler.state_dict(),
            "n_done": self.n_done,
            "skipped_in_a_row": self.skipped_in_a_row,
            "losses": np.array([to_array(x) for x in self._losses], np.float32),
            "grad_norms": np.array([to_array(x) for x in self._grad_norms], np.float32),
            "apart": self._apart_of_all(),
            "n_windows": list(self._n_windows),
            "hooks": {str(i): hook.state_dict() for i, hook in enumerate(self.hooks)},
            "rng": {str(rank): states for rank, states in enumerate(self._group.gather(generators))},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()` of another trainer of the same model and schedule.

        If fewer processes made it, the generators of those that are new are seeded, by their rank and the step.
        """
        with torch.no_grad():
            for name, p in self.named.items():
                fill(p, torch.from_numpy(state["model"][name]))
            for name, p in self.trained.items():
                moments = self.optimizer.state[p]
                for key, value in state["optimizer"][name].items():
                    if isinstance(moments[key], Tensor):
                        fill(moments[key], torch.from_numpy(value))
                    else:
                        moments[key] = value
        self.scaler.load_state_dict(state["scaler"])
        self.n_done = state["n_done"]
        self.skipped_in_a_row = state["skipped_in_a_row"]
        self._losses = list(torch.from_numpy(state["losses"]).to(self.model.device))
        self._grad_norms = list(torch.from_numpy(state["grad_norms"]).to(self.model.device))
        if state["apart"] is not None:
            own = torch.from_numpy(state["apart"]).float() * (self._group.rank == 0)  # of a sum over all processes
            self._apart = list(own.to(self.model.device))
        self._n_windows = [(n, m) for n, m in state["n_windows"]]
        for i, hook in enumerate(self.hooks):
            hook.load_state_dict(state["hooks"][str(i)])
        saved = state["rng"].get(str(self._group.rank), {})
        generators = self._generators()
        if not dict(generators).keys() <= saved.keys():  # of fewer processes, or of a CPU
            self._seed_generators()
            return
        for name, generator in generators:
            generator.set_state(torch.from_numpy(saved[name]))

    def _seed_generators(self) -> None:
        """Seed the generators that a step draws from, by seed, rank and step: no two processes draw the same."""
        words = np.random.SeedSequence([self._seed, self._group.rank, self.n_done]).generate_state(1, np.uint64)
        torch.manual_seed(int(words[0]))

    def _generators(self) -> list[tuple[str, torch.Generator]]:
        """Return the generators that a step draws from."""
        generators = [("cpu", torch.default_generator)]
        if self.model.device.type == "cuda":
            generators.append(("cuda", torch.cuda.default_generators[self.model.device.index]))
        return generators
