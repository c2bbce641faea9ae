"""The training step: forward, backward, clipping, Adam, schedule, in float32, bfloat16 or float16."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from preprocess.types import Batch
from tf_modeling.distribute import Replicas, assign
from tf_modeling.graph import traced
from tf_modeling.model import MRCModel, on_gpu, parameters, to_tensors
from tf_modeling.nn import Pass
from tf_modeling.objective import objective
from tf_modeling.optim import build_optimizer, linear_schedule

#: --bf16 / --fp16 -> what matrix products run in; weights and optimizer state stay in float32.
AUTOCAST_DTYPES = {"fp32": tf.float32, "bf16": tf.bfloat16, "fp16": tf.float16}

_SCALAR, _VECTOR, _MATRIX = tf.TensorSpec([], tf.float32), [None], [None, None]
_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_SEED = tf.TensorSpec([2], tf.int32)


class LossScaler:
    """The dynamic loss scale of float16, by the rules of torch.amp.GradScaler."""

    def __init__(self, enabled: bool) -> None:
        """Start at 2^16; without fp16 the scale is 1 for ever."""
        self.enabled = enabled
        self.scale = tf.Variable(65536.0 if enabled else 1.0, trainable=False)
        self.growth_tracker = tf.Variable(0, trainable=False)

    def update(self, finite: tf.Tensor) -> None:
        """Halve the scale after an overflow, double it after 2000 steps without one."""
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

    def __init__(
        self,
        model: MRCModel,
        *,
        n_steps: int,
        learning_rate: float,
        warmup_ratio: float,
        weight_decay: float,
        max_grad_norm: float,
        adam_beta1: float,
        adam_beta2: float,
        adam_epsilon: float,
        precision: str,
        optim: str = "adamw",
        gradient_checkpointing: int = 0,
        auto_find_batch_size: bool = False,
        jit_compile: bool | None = None,
    ) -> None:
        """Prepare the optimizer.

        Args:
            model: trained in place.
            n_steps: optimizer steps of the whole run, the length of the schedule.
            learning_rate: the schedule's peak.
            warmup_ratio: share of n_steps with a rising rate (rounded up).
            weight_decay: decoupled weight decay, none on biases and LayerNorm.
            max_grad_norm: the global gradient norm is clipped to this.
            adam_beta1: decay of Adam's first moment.
            adam_beta2: decay of Adam's second moment.
            adam_epsilon: added to the root of the second moment.
            precision: "fp32", "bf16" or "fp16" (with dynamic loss scaling).
            optim: "adamw" or "bert_adam".
            gradient_checkpointing: how many of the first layers are computed again in backward instead of keeping
                what they computed.
            auto_find_batch_size: whether a step that runs out of memory leaves everything as it was, so that it can
                be taken again with smaller batches; for replicas of one process.
            jit_compile: whether XLA compiles the step, once per shape of batch; None for doing so on GPUs only (on
                CPUs oneDNN's matrix products are faster).
        """
        self.model = model
        assert model.head_spec is not None, "a model without a head has nothing to learn"
        self._head = model.head_spec
        model.encoder.n_recomputed = gradient_checkpointing
        self.n_steps = n_steps
        self.n_warmup_steps = math.ceil(n_steps * warmup_ratio)
        self.learning_rate = learning_rate
        self.max_grad_norm = max_grad_norm
        self.precision = precision
        self.optimizer = build_optimizer(
            model,
            weight_decay=weight_decay,
            adam_beta1=adam_beta1,
            adam_beta2=adam_beta2,
            adam_epsilon=adam_epsilon,
            optim=optim,
        )
        with model.placed():
            self.scaler = LossScaler(precision == "fp16")
        self.n_done = 0
        self.skipped_in_a_row = 0
        self._can_repeat = auto_find_batch_size
        # Follows `set_seed`; all later randomness is a function of it and the step.
        self._seed = int(tf.random.uniform([], maxval=2**31 - 1, dtype=tf.int32))
        self._sums: list[tf.Variable] = []
        self._losses: list[tf.Tensor] = []
        self._grad_norms: list[tf.Tensor] = []
        self._replicas = Replicas(model.strategy)
        jit_compile = on_gpu(model) if jit_compile is None else jit_compile
        targets = {output.name: _MATRIX if output.loss == "tag" else _VECTOR for output in self._head.outputs}
        shapes = {**dict.fromkeys(_INPUTS, _MATRIX), "group": _VECTOR, **targets}
        self._columns = {name: tf.TensorSpec(shape, tf.int32) for name, shape in shapes.items()}
        counts = dict.fromkeys(self._head.rows, _SCALAR)
        inputs = [(self._columns, counts, _SEED)] * len(self._replicas.local)
        self._whole = self._function(self._whole_step, [inputs, _SCALAR], jit_compile)
        self._part = self._function(self._part_step, [inputs], jit_compile)
        self._finish = self._function(self._finish_step, [_SCALAR, _SCALAR], jit_compile)

    def _function(self, step: Callable[..., Any], signature: list[Any], jit_compile: bool) -> Callable[..., Any]:
        """Trace a step once for batches of all shapes."""
        # XLA has no sum over replicas.
        jit_compile = jit_compile and self._replicas.n_all == 1
        return traced(step, signature, jit_compile)

    def step(self, batches: Sequence[Batch]) -> None:
        """Take one optimizer step on the union of the given batches.

        The loss is the mean over all their windows, so gradient accumulation over k batches gives the step of one
        batch k times as large, however uneven the batches are. Nothing is read back from the device. If the loss or a
        gradient is not finite, parameters and moments stay as they are, and the schedule goes on.

        Raises:
            MemoryError: with auto_find_batch_size, if memory ran out; nothing has changed.
        """
        n_targets = self._head.n_targets(batches)
        with self.model.placed():
            rate = tf.constant(self._rate(self.n_done), tf.float32)
            inputs = [self._inputs(batch, i, n_targets) for i, batch in enumerate(batches)]
            if len(inputs) == 1 and not self._can_repeat:
                loss, norm = self._whole(inputs[0], rate)
            else:
                self._make_sums()
                loss = tf.add_n(self._parts(inputs))
                norm = self._finish(rate, loss)
        self.n_done += 1
        self._losses.append(loss)
        self._grad_norms.append(norm)

    def _parts(self, inputs: list[list[tuple[Any, ...]]]) -> list[tf.Tensor]:
        """Add up the gradients of all batches; returns their parts of the mean loss."""
        try:
            return [self._part(each) for each in inputs]
        except tf.errors.ResourceExhaustedError as error:
            if not self._can_repeat:
                raise
            for total in self._sums:
                total.assign(tf.zeros_like(total))
            raise MemoryError(error.message) from None

    def _rate(self, step: int) -> float:
        return self.learning_rate * linear_schedule(step, self.n_steps, self.n_warmup_steps)

    def _inputs(self, batch: Batch, index: int, n_targets: Mapping[str, int]) -> list[tuple[Any, ...]]:
        """Return the arguments of `_gradients` in each replica of this process."""
        counts = {name: tf.constant(float(n)) for name, n in n_targets.items()}
        inputs = []
        for replica, share in self._replicas.split(batch, whole_groups=self._head.whole_groups):
            tensors = to_tensors(share, self.model.device)
            columns = {name: tensors[name] for name in self._columns}
            words = np.random.SeedSequence([self._seed, self.n_done, index, replica]).generate_state(2)
            inputs.append((columns, counts, tf.constant(words.view(np.int32))))
        return inputs

    def _make_sums(self) -> None:
        if not self._sums:
            self._sums = [tf.Variable(tf.zeros_like(v), trainable=False) for v in self.optimizer.variables]

    def _whole_step(self, inputs: list[tuple[Any, ...]], rate: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        def replica(*arguments: Any) -> tuple[tf.Tensor, tf.Tensor]:
            loss, gradients = self._gradients(*arguments)
            loss, *gradients = self._replicas.total([loss, *gradients])
            return loss, self._update(gradients, rate, loss)

        return self._replicas.run(replica, inputs)

    def _part_step(self, inputs: list[tuple[Any, ...]]) -> tf.Tensor:
        def replica(*arguments: Any) -> tf.Tensor:
            loss, gradients = self._gradients(*arguments)
            for total, gradient in zip(self._sums, gradients, strict=True):
                assign(total, total + gradient)
            return self._replicas.total([loss])[0]

        return self._replicas.run(replica, inputs)

    def _finish_step(self, rate: tf.Tensor, loss: tf.Tensor) -> tf.Tensor:
        def replica() -> tf.Tensor:
            norm = self._update(self._replicas.total([tf.identity(total) for total in self._sums]), rate, loss)
            for total in self._sums:
                assign(total, tf.zeros_like(total))
            return norm

        return self._replicas.run(replica, [()] * len(self._replicas.local))

    def _gradients(
        self, batch: dict[str, tf.Tensor], n_targets: dict[str, tf.Tensor], seed: tf.Tensor
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Return the loss and, times the loss scale, its dense gradients."""
        with tf.GradientTape() as tape:
            values = self.model(batch, run=Pass(AUTOCAST_DTYPES[self.precision], seed))
            loss = objective(self._head, values, batch, n_targets)
            scaled = loss * self.scaler.scale if self.scaler.enabled else loss
        gradients = tape.gradient(scaled, self.optimizer.variables, unconnected_gradients="zero")
        # An embedding's gradient lists a row once per use: the uses have to be summed before anything squares them.
        return loss, [tf.convert_to_tensor(gradient) for gradient in gradients]

    def _update(self, gradients: list[tf.Tensor], rate: tf.Tensor, loss: tf.Tensor) -> tf.Tensor:
        """Clip and take the step, unless loss or gradients are not finite; returns the norm before clipping."""
        inverse = 1.0 / self.scaler.scale
        norm = tf.linalg.global_norm(gradients) * inverse
        factor = inverse * tf.minimum(self.max_grad_norm / (norm + 1e-6), 1.0)
        finite = tf.math.is_finite(norm) & tf.math.is_finite(loss)
        tf.cond(finite, lambda: self.optimizer.apply(gradients, rate, factor), lambda: None)
        if self.scaler.enabled:
            self.scaler.update(finite)
        return norm

    def metrics(self) -> dict[str, float]:
        """Return the means since the last call; the only place where the host waits for the device.

        `skipped_in_a_row` is brought up to date: how many steps, up to the last one, were skipped in a row.

        Returns:
            "loss" (per window) and "grad_norm" (before clipping), over the steps where they are finite and missing if
            there is none; "skipped_steps", those where one of them is not; "learning_rate" (of the last step); and
            with fp16 "loss_scale". Empty if no step was taken.
        """
        if not self._losses:
            return {}
        losses, norms = tf.stack(self._losses + self._grad_norms).numpy().astype(np.float64).reshape(2, -1)
        skipped = ~(np.isfinite(losses) & np.isfinite(norms))
        values = {
            name: float(numbers[np.isfinite(numbers)].mean())
            for name, numbers in (("loss", losses), ("grad_norm", norms))
            if np.isfinite(numbers).any()
        }
        values["learning_rate"] = self._rate(self.n_done - 1)
        values["skipped_steps"] = float(skipped.sum())
        if self.scaler.enabled:
            values["loss_scale"] = float(self.scaler.scale.numpy())
        taken = np.flatnonzero(~skipped)
        self.skipped_in_a_row = (
            len(skipped) - 1 - int(taken[-1]) if len(taken) else self.skipped_in_a_row + len(skipped)
        )
        self._losses.clear()
        self._grad_norms.clear()
        return values

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of everything that a later step depends on, apart from the data order.

        Returns:
            nested dicts of numpy arrays and numbers; parameters by their framework-neutral names.
        """
        return {
            "model": {name: p.neutral(p.variable.value).copy() for name, p in parameters(self.model).items()},
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "n_done": self.n_done,
            "skipped_in_a_row": self.skipped_in_a_row,
            "losses": np.array([x.numpy() for x in self._losses], np.float32),
            "grad_norms": np.array([x.numpy() for x in self._grad_norms], np.float32),
            "rng": self._seed,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()` of another trainer of the same model and schedule."""
        for name, parameter in parameters(self.model).items():
            parameter.assign(state["model"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.n_done = state["n_done"]
        self.skipped_in_a_row = state["skipped_in_a_row"]
        self._losses = [tf.constant(x) for x in state["losses"]]
        self._grad_norms = [tf.constant(x) for x in state["grad_norms"]]
        self._seed = state["rng"]
