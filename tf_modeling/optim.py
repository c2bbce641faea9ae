"""AdamW and BERT's Adam with the published exclusions from weight decay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from tf_modeling.distribute import assign
from tf_modeling.model import MRCModel, Parameter, parameters


class AdamW:
    """AdamW with the numbers of torch.optim.AdamW, one fused kernel per parameter."""

    def __init__(
        self, model: MRCModel, weight_decay: float, betas: tuple[float, float], eps: float, bias_correction: bool
    ) -> None:
        """Make the moments of the trainable parameters, as `build_optimizer` says."""
        self._names = [name for name, p in parameters(model).items() if p.variable.trainable]
        self._parameters = [parameters(model)[name] for name in self._names]
        self.variables = [p.variable.value for p in self._parameters]
        self._decay = [weight_decay if len(v.shape) > 1 else 0.0 for v in self.variables]
        #: Of the learning rate, of each of the variables.
        self.shares = [1.0] * len(self.variables)
        self._betas, self._eps, self._bias_correction = betas, eps, bias_correction
        self._step = tf.Variable(0, dtype=tf.int64, trainable=False)
        self._exp_avg = [tf.Variable(tf.zeros_like(v), trainable=False) for v in self.variables]
        self._exp_avg_sq = [tf.Variable(tf.zeros_like(v), trainable=False) for v in self.variables]

    def apply(self, gradients: Sequence[tf.Tensor], rate: tf.Tensor, factor: tf.Tensor) -> None:
        """Take one step.

        Args:
            gradients: dense, one per variable.
            rate: learning rate, float32; each variable takes its share.
            factor: on every gradient, float32.
        """
        n_done = self._step + 1
        assign(self._step, n_done)
        power1, power2 = self._powers(tf.cast(n_done, tf.float64))
        root = tf.sqrt(1 - power2)
        rates = {share: rate * share for share in dict.fromkeys(self.shares)}
        state = zip(self.variables, self._exp_avg, self._exp_avg_sq, self._decay, self.shares, gradients, strict=True)
        for variable, exp_avg, exp_avg_sq, decay, share, gradient in state:
            if decay:
                assign(variable, variable * (1 - rates[share] * decay))
            # m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps), its root moved to the scalars as the kernel wants it.
            tf.raw_ops.ResourceApplyAdam(
                var=variable.handle,
                m=exp_avg.handle,
                v=exp_avg_sq.handle,
                beta1_power=tf.cast(power1, tf.float32),
                beta2_power=tf.cast(power2, tf.float32),
                lr=rates[share],
                beta1=self._betas[0],
                beta2=self._betas[1],
                epsilon=tf.cast(self._eps * root, tf.float32),
                grad=gradient * factor,
            )

    def _powers(self, step: tf.Tensor) -> list[tf.Tensor]:
        """Return what the kernel is to take for beta^step of both betas, float64.

        The kernel knows the betas in float32, where 1 - 0.999 is off by 1.3e-5. Its moments are off by that; so has
        to be 1 - beta^step, which they are divided by, and without bias correction, what should be 1.
        """
        exact = [tf.constant(beta, tf.float64) for beta in self._betas]
        rounded = [tf.cast(tf.constant(beta, tf.float32), tf.float64) for beta in self._betas]
        if self._bias_correction:
            return [tf.pow(beta, step) for beta in rounded]
        return [1 - (1 - ours) / (1 - beta) for ours, beta in zip(rounded, exact, strict=True)]

    def state_dict(self) -> dict[str, Any]:
        """Return the moments by parameter name, in the neutral layout, and the number of steps taken."""
        named = list(zip(self._names, self._parameters, self._exp_avg, self._exp_avg_sq, strict=True))
        return {
            "step": int(self._step.numpy()),
            "exp_avg": {name: p.neutral(m).copy() for name, p, m, _ in named},
            "exp_avg_sq": {name: p.neutral(v).copy() for name, p, _, v in named},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`."""
        self._step.assign(state["step"])
        for name, p, m, v in zip(self._names, self._parameters, self._exp_avg, self._exp_avg_sq, strict=True):
            for variable, values in ((m, state["exp_avg"][name]), (v, state["exp_avg_sq"][name])):
                variable.assign(values.T if p.transposed else values)


def build_optimizer(
    model: MRCModel,
    *,
    weight_decay: float,
    adam_beta1: float,
    adam_beta2: float,
    adam_epsilon: float,
    optim: str = "adamw",
) -> AdamW:
    """Build the optimizer over the trainable parameters, with its moments at 0.

    Args:
        model: the model.
        weight_decay: decoupled decay of matrices; biases and LayerNorm parameters (all vectors) have none.
        adam_beta1: decay of the first moment.
        adam_beta2: decay of the second moment.
        adam_epsilon: added to the root of the second moment.
        optim: "adamw" (Loshchilov & Hutter 2019), or "bert_adam": AdamWeightDecayOptimizer of google-research/bert,
            optimization.py, which is AdamW without bias correction.

    Returns:
        the optimizer; it is given its learning rate with each step.
    """
    bias_correction = {"adamw": True, "bert_adam": False}[optim]
    with model.placed():
        return AdamW(model, weight_decay, (adam_beta1, adam_beta2), adam_epsilon, bias_correction)


def scale_rates(optimizer: AdamW, trained: Mapping[str, Parameter], shares: Mapping[str, float]) -> None:
    """Give each parameter a share of the learning rate.

    Args:
        optimizer: of `build_optimizer`.
        trained: its parameters, by name.
        shares: of each of them; 1 before.
    """
    optimizer.shares = [shares[name] for name in trained]
