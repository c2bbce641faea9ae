"""Tracing functions into graphs that go when their model goes."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf
from tensorflow.python.framework import ops


def traced(body: Callable[..., Any], signature: list[Any], jit_compile: bool = False) -> Callable[..., Any]:
    """Return the `tf.function` of a body, which is traced once, when it is first called.

    Args:
        body: computes with tensors; autograph does not touch it.
        signature: nested `tf.TensorSpec` of its arguments.
        jit_compile: whether XLA compiles it, once per shape of its arguments.
    """

    @functools.wraps(body)
    def tracing(*arguments: Any) -> Any:
        with _gradients_forgotten():
            return body(*arguments)

    return tf.function(tracing, input_signature=signature, jit_compile=jit_compile, autograph=False)


@contextlib.contextmanager
def _gradients_forgotten() -> Iterator[None]:
    """Take the gradients that the block registers out of the registry again.

    In a graph, `tf.custom_gradient` registers each gradient that it makes for good. The entry holds the graph and the
    graph its variables: every model that was ever trained would stay in memory, with its moments. Nobody needs the
    entries: a `tf.GradientTape` has recorded the gradients itself, and what is traced here differentiates in itself.
    """
    registry = ops.gradient_registry._registry  # no public name: tests/experiment/test_flat.py watches the memory
    before = set(registry)
    try:
        yield
    finally:
        for name in registry.keys() - before:
            del registry[name]
