"""Prediction on a CPU: float32 products by oneDNN are right, and nothing else is taken from PyTorch."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pytorch_modeling.predictor import _linear_maps

CPU = torch.device("cpu")


@pytest.mark.parametrize("shape", [(0, 40), (1, 40), (40,), (3, 0, 40), (2, 70, 40), (3, 400, 40)], ids=str)
@pytest.mark.parametrize("n_out", [1, 33])
@pytest.mark.parametrize("bias", [True, False])
@torch.no_grad()
def test_linear_maps_of_every_shape_are_right(shape: tuple[int, ...], n_out: int, bias: bool) -> None:
    linear, x = nn.Linear(40, n_out, bias=bias), torch.randn(shape)
    right = x.double() @ linear.weight.double().T + (0.0 if linear.bias is None else linear.bias.double())
    with _linear_maps(CPU, "fp32"):
        y = linear(x)
    assert y.dtype == torch.float32 and y.shape == right.shape
    # Sums of 40 products of about 1 x 0.1, each rounded to 2^-24 of its size.
    torch.testing.assert_close(y.double(), right, rtol=0.0, atol=1e-5)


@torch.no_grad()
def test_strided_operands_and_other_types_are_right() -> None:
    linear, x = nn.Linear(10, 3), torch.randn(4, 6, 10)[:, ::2].transpose(0, 1)
    with _linear_maps(CPU, "fp32"):
        torch.testing.assert_close(linear(x), linear(x.contiguous()), rtol=0.0, atol=1e-6)
        assert linear.double()(x.double()).dtype == torch.float64


@torch.no_grad()
def test_onednn_computes_float32_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[torch.dtype] = []

    def spy(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, *_: object) -> torch.Tensor:
        computed.append(x.dtype)
        return x @ weight.T if bias is None else x @ weight.T + bias

    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", spy)
    x, weight = torch.randn(2, 4), torch.randn(3, 4)
    with _linear_maps(CPU, "fp32"):
        F.linear(x, weight)
        F.linear(x.bfloat16(), weight.bfloat16())
    with _linear_maps(CPU, "bf16"), torch.autocast("cpu", torch.bfloat16):
        F.linear(x, weight)
    F.linear(x, weight)
    assert computed == [torch.float32]
