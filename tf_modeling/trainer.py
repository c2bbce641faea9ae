"""The training step: forward, backward, clipping, Adam, schedule, in float32, bfloat16 or float16."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from preprocess.base.schedule import linear_schedule
from preprocess.base.spec import TrainerSpec
from preprocess.base.stepmetrics import skipped_in_a_row, step_metrics
from preprocess.types import Apart, Batch, input_names, n_windows_apart, soft_name
from tf_modeling.distribute import Replicas, assign
from tf_modeling.graph import traced
from tf_modeling.hooks import Gradients, TrainerHook
from tf_modeling.methods import hooks_of
from tf_modeling.model import MRCModel, on_gpu, parameters, to_tensors
from tf_modeling.nn import Pass
from tf_modeling.objective import apart, divided, mean_objective, repeated
from tf_modeling.optim import build_optimizer

#: --bf16 / --fp16 -> what matrix products run in; weights and optimizer state stay in float32.
AUTOCAST_DTYPES = {"fp32": tf.float32, "bf16": tf.bfloat16, "fp16": tf.float16}

_SCALAR, _VECTOR, _MATRIX = tf.TensorSpec([], tf.float32), [None], [None, None]
_SEED = tf.TensorSpec([2], tf.int32)


class LossScaler:
    """The loss scale of float16, by the rules of torch.amp.GradScaler."""

    def __init__(self, enabled: bool, fixed: float | None = None) -> None:
        """Start at 2^16, or stay at a fixed scale; without fp16 the scale is 1 for ever."""
        self.enabled = enabled
        self._fixed = fixed is not None
        self.scale = tf.Variable((65536.0 if fixed is None else fixed) if enabled else 1.0, trainable=False)
        self.growth_tracker = tf.Variable(0, trainable=False)

    def update(self, finite: tf.Tensor) -> None:
        """Halve the scale after an overflow, double it after 2000 steps without one, unless it is fixed."""
        if self._fixed:
            return
        n_good = self.growth_tracker + 1
        grown = tf.where(n_good == 2000, self.scale * 2.0, self.scale)
        assign(self.scale, tf.where(finite, grown, self.scale * 0.5))
        assign(self.growth_tracker, tf.where(finite & (n_good < 2000), n_good, 0))

    def state_dict(self) -> dict[str, Any]:
        """Return the scale and the number of good steps since it last changed."""
        return {"scale": float(self.scale.numpy()), "growth_tracker": int(self.growth_tracker.numpy())}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`."""
        self.scale.assign(state["scale"])
        self.growth_tracker.assign(state["growth_tracker"])


class Trainer:
    """Takes optimizer steps on a model.

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
        self.n_steps = spec.n_steps
        self.n_warmup_steps = math.ceil(spec.n_steps * spec.warmup_ratio)
        self.learning_rate = spec.learning_rate
        self.max_grad_norm = spec.max_grad_norm
        self.precision = spec.precision
        self.optimizer = build_optimizer(
            model,
            weight_decay=spec.weight_decay,
            adam_beta1=spec.adam_beta1,
            adam_beta2=spec.adam_beta2,
            adam_epsilon=spec.adam_epsilon,
            optim=spec.optim,
        )
        #: All parameters by their neutral names, whatever hooks make of the model later; and those that learn.
        self.named = parameters(model)
        self.trained = {name: p for name, p in self.named.items() if p.variable.trainable}
        with model.placed():
            fixed = None if spec.loss_scale == "dynamic" else spec.loss_scale
            self.scaler = LossScaler(spec.precision == "fp16", fixed)
        self.n_done = 0
        self.skipped_in_a_row = 0
        self._can_repeat = spec.auto_find_batch_size
        # Follows `set_seed`; all later randomness is a function of it and the step.
        self._seed = int(tf.random.uniform([], maxval=2**31 - 1, dtype=tf.int32))
        self._sums: list[tf.Variable] = []
        # Of the steps since `metrics`: loss, norm of the gradient; and apart, by whether windows hold an answer, the
        # losses [2] and how many windows there were.
        self._losses: list[tf.Tensor] = []
        self._grad_norms: list[tf.Tensor] = []
        self._apart: list[tf.Tensor] = []
        self._n_windows: list[tuple[int, int]] = []
        self._replicas = Replicas(model.strategy)
        jit_compile = on_gpu(model) if spec.jit_compile is None else spec.jit_compile
        each = ("tag", "piece")  # the losses of outputs with a target per token, or per hidden one
        targets = {output.name: _MATRIX if output.loss in each else _VECTOR for output in self._head.outputs}
        shapes = {**dict.fromkeys(input_names(self._head), _MATRIX), "group": _VECTOR, "answered": _VECTOR, **targets}
        self._columns = {name: tf.TensorSpec(shape, tf.int32) for name, shape in shapes.items()}
        axes = dict.fromkeys(self._head.softened, 2) | {
            k: n for hook in self.hooks for k, n in hook.soft_columns.items()
        }
        self._columns |= {soft_name(name): tf.TensorSpec([None] * n, tf.float32) for name, n in axes.items()}
        counts = dict.fromkeys(self._head.projections, _SCALAR)
        softened = [name for name, (first, *_) in self._head.projections.items() if first.name in self._head.softened]
        all_counts = counts | dict.fromkeys(map(soft_name, softened), _SCALAR)
        inputs = [(self._columns, all_counts, (counts, counts), _SEED)] * len(self._replicas.local)
        self._whole = self._function(self._whole_step, [inputs, _SCALAR], jit_compile)
        self._part = self._function(self._part_step, [inputs], jit_compile)
        self._finish = self._function(self._finish_step, [_SCALAR, _SCALAR], jit_compile)
        with model.placed():
            for hook in self.hooks:
                hook.attach(self)

    def _function(self, step: Callable[..., Any], signature: list[Any], jit_compile: bool) -> Callable[..., Any]:
        """Trace a step once for batches of all shapes."""
        # XLA has no sum over replicas.
        jit_compile = jit_compile and self._replicas.n_all == 1
        return traced(step, signature, jit_compile)

    def attach(self, hook: TrainerHook) -> None:
        """Attach a hook, before the first step."""
        self.hooks.append(hook)
        with self.model.placed():
            hook.attach(self)

    @contextlib.contextmanager
    def evaluating(self) -> Iterator[None]:
        """Return the context in which the model is as its hooks want it to be evaluated, and saved."""
        with contextlib.ExitStack() as changed:
            for hook in self.hooks:
                changed.enter_context(hook.evaluating(self))
            yield

    def summed(self, gradient: tf.Tensor) -> tf.Tensor:
        """Return a gradient that a hook gets, summed over all devices that share the batch."""
        return self._replicas.total([gradient])[0]

    def step(self, batches: Sequence[Batch]) -> None:
        """Take one optimizer step on the union of the given batches.

        The loss is the mean over all their windows, so gradient accumulation over k batches gives the step of one
        batch k times as large, however uneven the batches are. Nothing is read back from the device. If the loss or a
        gradient is not finite, parameters and moments stay as they are, and the schedule goes on.

        Raises:
            MemoryError: with auto_find_batch_size, if memory ran out; nothing has changed.
        """
        n_targets, n_apart = self._head.n_targets(batches), self._head.n_targets_apart(batches)
        with self.model.placed():
            rate = tf.constant(self._rate(self.n_done), tf.float32)
            inputs = [self._inputs(batch, i, n_targets, n_apart) for i, batch in enumerate(batches)]
            if len(inputs) == 1 and not self._can_repeat:
                loss, parts, norm = self._whole(inputs[0], rate)
            else:
                self._make_sums()
                loss, parts = map(tf.add_n, zip(*self._parts(inputs), strict=True))
                norm = self._finish(rate, loss)
        self.n_done += 1
        self._losses.append(loss)
        self._grad_norms.append(norm)
        if n_apart is not None:
            self._apart.append(parts)
            self._n_windows.append(n_windows_apart(batches))

    def _parts(self, inputs: list[list[tuple[Any, ...]]]) -> list[tuple[tf.Tensor, tf.Tensor]]:
        """Add up the gradients of all batches; returns their parts of the mean loss, and of those apart."""
        try:
            return [self._part(of_batch) for of_batch in inputs]
        except tf.errors.ResourceExhaustedError as error:
            if not self._can_repeat:
                raise
            for total in self._sums:
                total.assign(tf.zeros_like(total))
            raise MemoryError(error.message) from None

    def _rate(self, step: int) -> float:
        return self.learning_rate * linear_schedule(step, self.n_steps, self.n_warmup_steps)

    def _inputs(
        self, batch: Batch, index: int, n_targets: Mapping[str, int], n_apart: Apart | None = None
    ) -> list[tuple[Any, ...]]:
        """Return the arguments of `_gradients` in each replica of this process."""
        hard = {name: n for name, n in n_targets.items() if name in self._head.projections}
        counts, *counts_apart = (
            {name: tf.constant(float(n)) for name, n in numbers.items()}
            for numbers in (n_targets, *(n_apart or (hard, hard)))
        )
        inputs = []
        for replica, share in self._replicas.split(batch, whole_groups=self._head.whole_groups):
            tensors = to_tensors(share, self.model.device)
            columns = {name: tensors[name] for name in self._columns if name in tensors}
            columns.setdefault("answered", tf.ones_like(tensors["group"]))  # where a problem does not tell
            words = np.random.SeedSequence([self._seed, self.n_done, index, replica]).generate_state(2)
            inputs.append((columns, counts, tuple(counts_apart), tf.constant(words.view(np.int32))))
        return inputs

    def _make_sums(self) -> None:
        if not self._sums:
            self._sums = [tf.Variable(tf.zeros_like(v), trainable=False) for v in self.optimizer.variables]

    def _whole_step(self, inputs: list[tuple[Any, ...]], rate: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        def replica(*arguments: Any) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            loss, parts, gradients = self._gradients(*arguments)
            loss, *gradients = self._replicas.total([loss, *gradients])
            return loss, self._replicas.total([parts])[0], self._update(gradients, rate, loss)

        return self._replicas.run(replica, inputs)

    def _part_step(self, inputs: list[tuple[Any, ...]]) -> tuple[tf.Tensor, tf.Tensor]:
        def replica(*arguments: Any) -> tuple[tf.Tensor, tf.Tensor]:
            loss, parts, gradients = self._gradients(*arguments)
            for total, gradient in zip(self._sums, gradients, strict=True):
                assign(total, total + gradient)
            return self._replicas.total([loss])[0], self._replicas.total([parts])[0]

        return self._replicas.run(replica, inputs)

    def _finish_step(self, rate: tf.Tensor, loss: tf.Tensor) -> tf.Tensor:
        def replica() -> tf.Tensor:
            norm = self._update(self._replicas.total([tf.identity(total) for total in self._sums]), rate, loss)
            for total in self._sums:
                assign(total, tf.zeros_like(total))
            return norm

        return self._replicas.run(replica, [()] * len(self._replicas.local))

    def _gradients(
        self,
        batch: dict[str, tf.Tensor],
        n_targets: dict[str, tf.Tensor],
        n_apart: tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]],
        seed: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]]:
        """Return the loss, the losses apart and, times the loss scale, dense gradients as the hooks want them."""
        n_passes = count(1)

        def again() -> Gradients:
            _, _, gradients = self._backward(batch, n_targets, seed + tf.constant([0, next(n_passes)]))
            return dict(zip(self.trained, gradients, strict=True))

        loss, values, gradients = self._backward(batch, n_targets, seed)
        for hook in self.hooks:
            named = hook.after_backward(self, dict(zip(self.trained, gradients, strict=True)), again)
            gradients = [named[name] for name in self.trained]
        return loss, apart(self._head, values, batch, n_apart), gradients

    def _backward(
        self, batch: dict[str, tf.Tensor], n_targets: dict[str, tf.Tensor], seed: tf.Tensor
    ) -> tuple[tf.Tensor, Mapping[str, tf.Tensor], list[tf.Tensor]]:
        """Return the loss, what it was computed from (first pass) and, times the loss scale, its dense gradients."""
        with tf.GradientTape() as tape:
            n_passes = max((hook.n_passes for hook in self.hooks), default=1)
            values = self.model(repeated(batch, n_passes), run=Pass(AUTOCAST_DTYPES[self.precision], seed))
            passes = divided(values, n_passes)
            loss = mean_objective(self._head, passes, batch, n_targets)
            for hook in self.hooks:
                added = hook.added_loss(self, passes, batch, n_targets)
                loss = loss if added is None else loss + added
            scaled = loss * self.scaler.scale if self.scaler.enabled else loss
        gradients = tape.gradient(scaled, self.optimizer.variables, unconnected_gradients="zero")
        # An embedding's gradient lists a row once per use: the uses have to be summed before anything squares them.
        return loss, passes[0], [tf.convert_to_tensor(gradient) for gradient in gradients]

    def _update(self, gradients: list[tf.Tensor], rate: tf.Tensor, loss: tf.Tensor) -> tf.Tensor:
        """Clip and take the step, unless loss or gradients are not finite; returns the norm before clipping."""
        inverse = 1.0 / self.scaler.scale
        norm = tf.linalg.global_norm(gradients) * inverse
        factor = inverse * tf.minimum(self.max_grad_norm / (norm + 1e-6), 1.0)
        finite = tf.math.is_finite(norm) & tf.math.is_finite(loss)
        tf.cond(finite, lambda: self.optimizer.apply(gradients, rate, factor), lambda: None)
        if self.scaler.enabled:
            self.scaler.update(finite)
        for hook in self.hooks:
            hook.after_update(self)
        return norm

    def metrics(self) -> dict[str, float]:
        """Return the means since the last call; the only place where the host waits for the device.

        `skipped_in_a_row` is brought up to date: how many steps, up to the last one, were skipped in a row.

        Returns:
            those of `step_metrics`; "learning_rate" (of the last step); and with fp16 "loss_scale". Empty if no step
            was taken.
        """
        if not self._losses:
            return {}
        losses, norms = tf.stack(self._losses + self._grad_norms).numpy().astype(np.float64).reshape(2, -1)
        values = step_metrics(losses, norms, self._apart_so_far(), self._n_windows)
        values["learning_rate"] = self._rate(self.n_done - 1)
        if self.scaler.enabled:
            values["loss_scale"] = float(self.scaler.scale.numpy())
        self.skipped_in_a_row = skipped_in_a_row(losses, norms, self.skipped_in_a_row)
        for kept in (self._losses, self._grad_norms, self._apart, self._n_windows):
            kept.clear()
        return values

    def _apart_so_far(self) -> NDArray[np.float64] | None:
        """Return the losses apart of the steps since `metrics`, [T, 2]."""
        return tf.stack(self._apart).numpy().astype(np.float64) if self._apart else None

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of everything that a later step depends on, apart from the data order.

        Returns:
            nested dicts of numpy arrays and JSON values; parameters by their framework-neutral names.
        """
        return {
            "model": {name: p.neutral(p.variable.value).copy() for name, p in self.named.items()},
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "n_done": self.n_done,
            "skipped_in_a_row": self.skipped_in_a_row,
            "losses": np.array([x.numpy() for x in self._losses], np.float32),
            "grad_norms": np.array([x.numpy() for x in self._grad_norms], np.float32),
            "apart": self._apart_so_far(),
            "n_windows": list(self._n_windows),
            "hooks": {str(i): hook.state_dict() for i, hook in enumerate(self.hooks)},
            "rng": self._seed,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()` of another trainer of the same model and schedule."""
        for name, parameter in self.named.items():
            parameter.assign(state["model"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.n_done = state["n_done"]
        self.skipped_in_a_row = state["skipped_in_a_row"]
        self._losses = [tf.constant(x) for x in state["losses"]]
        self._grad_norms = [tf.constant(x) for x in state["grad_norms"]]
        self._apart = [] if state["apart"] is None else [tf.constant(x, tf.float32) for x in state["apart"]]
        self._n_windows = [(n, m) for n, m in state["n_windows"]]
        for i, hook in enumerate(self.hooks):
            hook.load_state_dict(state["hooks"][str(i)])
        self._seed = state["rng"]
