"""The task head: what a problem's outputs read, projected to their values."""

from __future__ import annotations

from torch import Tensor, nn

from preprocess.types import HeadSpec, Output


class Head(nn.ModuleDict):
    """One linear projection for each of the head's matrices, by its name."""

    def __init__(self, hidden_size: int, spec: HeadSpec) -> None:
        """Build the projections for `spec`."""
        super().__init__({name: nn.Linear(hidden_size, n_rows) for name, n_rows in spec.rows.items()})
        self.spec = spec

    def forward(self, sequence_output: Tensor, pooled_output: Tensor | None) -> dict[str, Tensor]:
        """Score [B, S, H] and [B, H].

        Returns:
            each output's values by its name, see `Outputs`.
        """
        values: dict[str, Tensor] = {}
        for name, outputs in self.spec.projections.items():
            read = sequence_output if outputs[0].reads == "token" else pooled_output
            assert read is not None, f"{name} reads the pooled output"
            values |= _divided(self[name](read), outputs)
        return values


def _divided(scores: Tensor, outputs: tuple[Output, ...]) -> dict[str, Tensor]:
    """Give each output its columns of a projection."""
    columns = scores.split([output.size for output in outputs], dim=-1)
    # No views: the hooks of a sharded model would get lost with them.
    return {
        output.name: (column.squeeze(-1) if output.size == 1 else column).contiguous()
        for output, column in zip(outputs, columns, strict=True)
    }
