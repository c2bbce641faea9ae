"""Distances in PyTorch's attention: dropout, kernels of other devices, export, and what is kept for backward."""

from __future__ import annotations

import pytest
import torch

from pytorch_modeling.attention import _bias, _with_distances, attention
from pytorch_modeling.distances import Distances
from pytorch_modeling.dropout import keep_mask

#: on_keys, in_values
WHERE = {"Shaw": (False, False), "Huang": (True, False), "Wei": (False, True)}


@pytest.fixture(params=WHERE)
def where(request):
    return WHERE[request.param]


def _operands(dtype, length=6):
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, 2, length, 4)] * 3 + [(2 * length, 4)]
    return [torch.randn(shape, dtype=dtype, generator=generator).requires_grad_() for shape in shapes]


def _mask(length=6):
    mask = torch.ones(2, 1, 1, length, dtype=torch.bool)
    mask[1, ..., length - 2 :] = False
    return mask


@pytest.mark.parametrize("p", [0.0, 0.3])
def test_gradients_match_finite_differences(where, p):
    def function(q, k, v, rows):
        torch.manual_seed(5)
        return attention(q, k, v, _mask(), p, training=True, distances=Distances(rows, *where))

    assert torch.autograd.gradcheck(function, _operands(torch.float64))


def test_dropout_drops_probabilities_and_not_distances(where):
    q, k, v, rows = (x.detach() for x in _operands(torch.float64))
    torch.manual_seed(5)
    found = attention(q, k, v, _mask(), 0.25, training=True, distances=Distances(rows, *where))
    torch.manual_seed(5)
    seed = int(torch.randint(2**62, ()))
    a = rows[torch.arange(6)[None, :] - torch.arange(6)[:, None] + 5]
    for b in range(2):
        scores = q[b] @ k[b].transpose(-1, -2) + torch.einsum("hid,ijd->hij", q[b], a)
        if where[0]:
            scores += torch.einsum("hjd,ijd->hij", k[b], a)
        probs = (scores / 2).masked_fill(~_mask()[b], -torch.inf).softmax(-1)
        probs = probs * -keep_mask((2, 6, 6), 0.25, seed + b).double() / 0.75  # -1 where an element is kept
        expected = probs @ v[b] + (torch.einsum("hij,ijd->hid", probs, a) if where[1] else 0)
        torch.testing.assert_close(found[b], expected)


def test_kernels_of_other_devices_compute_the_same(where):
    """Without such a device: the function that they run, on this one."""
    operands = _operands(torch.float64)
    *qkv, rows = operands
    ours = attention(*qkv, _mask(), 0.0, training=True, distances=Distances(rows, *where))
    other = _with_distances(*qkv, _bias(_mask(), torch.float64), 0.0, rows, *where)
    torch.testing.assert_close(ours, other)
    grad = torch.randn_like(ours)
    for x, y in zip(*(torch.autograd.grad(out, operands, grad) for out in (ours, other)), strict=True):
        torch.testing.assert_close(x, y, atol=1e-6, rtol=0)  # ours sums outputs times their gradients in float32


def test_exported_program_takes_batches_of_any_shape(where):
    class Attend(torch.nn.Module):
        def forward(self, q, k, v, mask, table):
            rows = table[torch.arange(2 * q.shape[-2])]
            return attention(q, k, v, mask, 0.1, training=False, distances=Distances(rows, *where))

    def inputs(b, length):
        generator = torch.Generator().manual_seed(b)
        qkv = [torch.randn(b, 2, length, 4, generator=generator) for _ in range(3)]
        return (*qkv, torch.ones(b, 1, 1, length, dtype=torch.bool), torch.randn(64, 4, generator=generator))

    b, s = torch.export.Dim("b", min=1, max=9), torch.export.Dim("s", min=2, max=32)
    shapes = ({0: b, 2: s}, {0: b, 2: s}, {0: b, 2: s}, {0: b, 3: s}, None)
    program = torch.export.export(Attend(), inputs(3, 8), dynamic_shapes=shapes).module()
    for sizes in ((3, 8), (5, 13)):
        torch.testing.assert_close(program(*inputs(*sizes)), Attend()(*inputs(*sizes)))


@pytest.mark.parametrize("p", [0.0, 0.1])
def test_no_s_by_s_tensor_is_kept_for_backward(where, p):
    saved: list[torch.Size] = []

    def pack(tensor):
        saved.append(tensor.shape)
        return tensor

    *qkv, rows = _operands(torch.float32, 64)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        attention(*qkv, _mask(64), p, training=True, distances=Distances(rows, *where))
    assert saved and not [shape for shape in saved if list(shape[-2:]) in ([64, 64], [64, 128])]
