"""What torch.nn gives the twin: modules with named parameters, and the basic layers.

Every layer's `call` takes a `Pass`, which says what `torch.autocast`, `Module.training` and PyTorch's generator say
there, so that nothing here depends on global state and one model computes in any precision.
"""

from __future__ import annotations

from collections.abc import Iterator

import keras
import tensorflow as tf


class Pass:
    """One pass of a batch through a model: the type of its matrix products, and its dropout."""

    def __init__(self, dtype: tf.DType = tf.float32, seed: tf.Tensor | None = None) -> None:
        """Begin a pass.

        Args:
            dtype: type of the operands of matrix products; all else computes in float32.
            seed: int32 [2], what dropout draws from; None for evaluation, without dropout.
        """
        self.dtype = dtype
        self._seed = seed
        self.n_seeds = 0
        self._cast: dict[int, tf.Tensor] = {}

    def copy(self) -> Pass:
        """Return a pass that goes on from here, with casts of its own."""
        other = Pass(self.dtype, self._seed)
        other.n_seeds = self.n_seeds
        return other

    def seed(self) -> tf.Tensor | None:
        """Return the seed of the next dropout, int32 [2]; None in evaluation."""
        if self._seed is None:
            return None
        self.n_seeds += 1
        return self._seed + tf.constant([self.n_seeds, 0])

    def operand(self, variable: keras.Variable) -> tf.Tensor:
        """Return a parameter in the type of matrix products, cast once per pass however often it is used."""
        key = id(variable)
        if key not in self._cast:
            self._cast[key] = tf.cast(variable.value, self.dtype)
        return self._cast[key]


class Module(keras.layers.Layer):
    """A Keras layer whose parameters have names: the attributes that lead to them."""

    def __init__(self) -> None:
        """Hold parameters in float32, and leave types and casts to `Pass`, whatever Keras's global policy is."""
        super().__init__(dtype="float32", autocast=False)
        self.built = True  # all parameters are made in __init__

    def parameter(self, *shape: int) -> keras.Variable:
        """Add a parameter, zero until initialised or loaded."""
        return self.add_weight(shape=shape, initializer="zeros")

    def named_parameters(self, prefix: str = "") -> Iterator[tuple[str, keras.Variable]]:
        """Yield (dotted name, parameter), in the order in which the modules were made."""
        for name, value in vars(self).items():
            if not name.startswith("_"):  # Keras's own lists of the same things
                yield from _named(prefix + name, value)


def _named(name: str, value: object) -> Iterator[tuple[str, keras.Variable]]:
    if isinstance(value, keras.Variable):
        yield name, value
    elif isinstance(value, Module):
        yield from value.named_parameters(f"{name}.")
    elif isinstance(value, list | dict):
        for key, child in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _named(f"{name}.{key}", child)


class Linear(Module):
    """y = x W + b."""

    def __init__(self, n_in: int, n_out: int, bias: bool = True) -> None:
        """Make the bias and the kernel [n_in, n_out], which outside is the "weight" [n_out, n_in]."""
        super().__init__()
        self.kernel = self.parameter(n_in, n_out)
        self.bias = self.parameter(n_out) if bias else None

    def call(self, x: tf.Tensor, run: Pass) -> tf.Tensor:
        """Project [..., n_in] -> [..., n_out], in the pass's type."""
        n_in, n_out = self.kernel.shape
        y = tf.matmul(tf.reshape(tf.cast(x, run.dtype), [-1, n_in]), run.operand(self.kernel))
        if self.bias is not None:
            y = y + run.operand(self.bias)  # the gradient of bias_add sums in the operands' type
        return tf.reshape(y, tf.concat([tf.shape(x)[:-1], [n_out]], 0))


class Embedding(Module):
    """A table of vectors."""

    def __init__(self, n_rows: int, width: int) -> None:
        """Make the table [n_rows, width]."""
        super().__init__()
        self.weight = self.parameter(n_rows, width)

    def call(self, ids: tf.Tensor) -> tf.Tensor:
        """Look up integers of any shape [...] -> float32 [..., width]."""
        return tf.gather(self.weight.value, ids)


class LayerNorm(Module):
    """Normalisation over the last axis (Ba et al. 2016), in float32."""

    def __init__(self, width: int, eps: float) -> None:
        """Make scale and shift; eps is added to the variance."""
        super().__init__()
        self.eps = eps
        self.weight = self.parameter(width)
        self.bias = self.parameter(width)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Normalise [..., width] -> float32 [..., width]."""
        return _normalise(tf.cast(x, tf.float32), self.eps) * self.weight.value + self.bias.value


def _normalise(x: tf.Tensor, eps: float) -> tf.Tensor:
    """Shift and scale the last axis to mean 0 and variance 1; the gradient is written out, a third of the passes."""

    @tf.custom_gradient
    def function(x: tf.Tensor) -> tuple[tf.Tensor, object]:
        centred = x - tf.reduce_mean(x, -1, keepdims=True)
        root = tf.math.rsqrt(tf.reduce_mean(tf.square(centred), -1, keepdims=True) + eps)
        y = centred * root

        def gradient(dy: tf.Tensor) -> tf.Tensor:
            along = tf.reduce_mean(dy * y, -1, keepdims=True)
            return root * (dy - tf.reduce_mean(dy, -1, keepdims=True) - y * along)

        return y, gradient

    return function(x)
