"""The task head: what a problem's outputs read, projected to their values."""

from __future__ import annotations

import tensorflow as tf

from preprocess.types import HeadSpec, Output
from tf_modeling.nn import Linear, Module, Pass


class Head(Module):
    """One linear projection for each of the head's matrices, by its name."""

    def __init__(self, hidden_size: int, spec: HeadSpec) -> None:
        """Build the projections for `spec`."""
        super().__init__()
        self.spec = spec
        self.projections = {name: Linear(hidden_size, n_rows) for name, n_rows in spec.rows.items()}

    def call(self, sequence_output: tf.Tensor, pooled_output: tf.Tensor | None, run: Pass) -> dict[str, tf.Tensor]:
        """Score [B, S, H] and [B, H].

        Returns:
            each output's values by its name, see `Outputs`.
        """
        values: dict[str, tf.Tensor] = {}
        for name, outputs in self.spec.projections.items():
            read = sequence_output if outputs[0].reads == "token" else pooled_output
            assert read is not None, f"{name} reads the pooled output"
            values |= _divided(self.projections[name](read, run=run), outputs)
        return values


def _divided(scores: tf.Tensor, outputs: tuple[Output, ...]) -> dict[str, tf.Tensor]:
    """Give each output its columns of a projection."""
    columns = tf.split(scores, [output.size for output in outputs], axis=-1)
    return {
        output.name: tf.squeeze(column, -1) if output.size == 1 else column
        for output, column in zip(outputs, columns, strict=True)
    }
