"""XLNet's attention in both backends: its gradients, its dropout, and how large its tensors get."""

from __future__ import annotations

import re

import numpy as np
import pytest
import tensorflow as tf
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pytorch_modeling import relative
from pytorch_modeling.dropout import keep_mask
from tf_modeling.relative import relative_attention as tf_relative_attention

B, HEADS, WIDTH = 2, 2, 4
NAMES = ("q", "k", "v", "r", "content", "position", "segment", "segments")


def operands(length: int, seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.RandomState(seed)
    shapes = dict.fromkeys("qkv", (B, HEADS, length, WIDTH)) | {"r": (HEADS, 2 * length - 1, WIDTH)}
    shapes |= dict.fromkeys(("content", "position", "segment"), (HEADS, WIDTH)) | {"segments": (2, HEADS, WIDTH)}
    return {name: random.standard_normal(shape) for name, shape in shapes.items()}


def windows(length: int) -> tuple[np.ndarray, np.ndarray]:
    """Segments and real tokens of two windows, the second with two padded places on the left."""
    types = (np.arange(length) > np.array([[length // 3], [length // 2]])).astype(np.int64)
    return types, np.arange(length) >= np.array([[0], [2]])


def plain(x: dict[str, torch.Tensor], types: torch.Tensor, real: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    """The papers' formula, one distance and one segment relation per pair of tokens."""
    index = torch.arange(types.shape[1])
    r = x["r"][:, len(index) - 1 - (index[:, None] - index)]  # [heads, S, S, d]
    e = x["segments"][(types[:, :, None] != types[:, None, :]).long()]  # [B, S, S, heads, d]
    scores = torch.einsum("bnid,bnjd->bnij", x["q"] + x["content"][:, None], x["k"])
    scores = scores + torch.einsum("bnid,nijd->bnij", x["q"] + x["position"][:, None], r)
    scores = scores + torch.einsum("bnid,bijnd->bnij", x["q"] + x["segment"][:, None], e)
    hidden = ~real[:, None, None, :] & ~torch.eye(len(index), dtype=torch.bool)
    probs = (scores / WIDTH**0.5).masked_fill(hidden, -torch.inf).softmax(-1)
    return torch.einsum("bnij,bnjd->bnid", probs * kept, x["v"])


def ours(x: dict[str, torch.Tensor], types: torch.Tensor, real: torch.Tensor, p: float) -> torch.Tensor:
    biases = (x["content"], x["position"], x["segment"])
    return relative.relative_attention(
        x["q"], x["k"], x["v"], x["r"], biases, x["segments"], types, real, p, training=True
    )


def expected(length: int, kept: torch.Tensor) -> list[np.ndarray]:
    """Output and gradients of the plain formula in float64."""
    x = {name: torch.from_numpy(value).requires_grad_() for name, value in operands(length).items()}
    out = plain(x, *map(torch.from_numpy, windows(length)), kept)
    weight = torch.from_numpy(operands(length, 1)["q"])
    grads = torch.autograd.grad((out * weight).sum(), list(x.values()))
    return [out.detach().numpy(), *(g.numpy() for g in grads)]


def drawn(length: int, p: float) -> torch.Tensor:
    """The mask, with its scale, that PyTorch's backend draws next: of each window's rows, a part at a time."""
    seed = int(torch.randint(2**62, ()))
    kept = torch.empty(B, HEADS, length, length, dtype=torch.float64)
    for n, (b, rows) in enumerate(relative._parts(kept)):
        part = kept[b, :, rows]
        part.copy_(-keep_mask(tuple(part.shape), p, seed + n).double() / (1 - p))
    return kept


@pytest.mark.parametrize("p", [0.0, 0.25])
@pytest.mark.parametrize("length", [1, 7, 70])
def test_pytorch_equals_the_plain_formula_and_its_gradients(length, p):
    torch.manual_seed(5)
    found = {name: torch.from_numpy(value).requires_grad_() for name, value in operands(length).items()}
    out = ours(found, *map(torch.from_numpy, windows(length)), p)
    weight = torch.from_numpy(operands(length, 1)["q"])
    grads = torch.autograd.grad((out * weight).sum(), list(found.values()))
    torch.manual_seed(5)
    # Sums over rows are in float32.
    for value, exact in zip(
        [out.detach(), *grads], expected(length, drawn(length, p) if p else torch.ones(())), strict=True
    ):
        np.testing.assert_allclose(value.numpy(), exact, atol=2e-5)


@pytest.mark.parametrize("length", [1, 7, 70])
def test_tensorflow_equals_the_plain_formula_and_its_gradients(length):
    x = {name: tf.constant(value, tf.float32) for name, value in operands(length).items()}
    types, real = (tf.constant(value) for value in windows(length))
    with tf.GradientTape() as tape:
        tape.watch(list(x.values()))
        biases = (x["content"], x["position"], x["segment"])
        out = tf_relative_attention(x["q"], x["k"], x["v"], x["r"], biases, x["segments"], types, real, 0.0, None)
        total = tf.reduce_sum(out * tf.constant(operands(length, 1)["q"], tf.float32))
    grads = tape.gradient(total, list(x.values()))
    for value, exact in zip([out, *grads], expected(length, torch.ones(())), strict=True):
        np.testing.assert_allclose(value, exact, atol=3e-5)


class Largest(TorchDispatchMode):
    """Knows the most elements that a tensor of an operation had."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        sizes = [
            leaf.untyped_storage().size() // leaf.element_size()
            for leaf in tree_leaves(result)
            if torch.is_tensor(leaf)
        ]
        self.elements = max([self.elements, *sizes])
        return result


@pytest.mark.parametrize("p", [0.0, 0.1])
def test_no_tensor_of_all_scores_exists_forward_or_backward(p, monkeypatch):
    length = 256
    monkeypatch.setattr(relative, "_SCORES", 1)  # these windows are small: several would fit
    x = {name: torch.from_numpy(value).float().requires_grad_() for name, value in operands(length).items()}
    kept: list[torch.Size] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.shape)
        return tensor

    with Largest() as largest, torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        ours(x, *map(torch.from_numpy, windows(length)), p).sum().backward()
    assert kept and not [shape for shape in kept if list(shape[-2:]) == [length, length]]
    # Some rows of one window, by distance.
    assert largest.elements <= HEADS * relative._ROWS * (length + relative._ROWS) < B * HEADS * length * length


def test_tensorflow_makes_no_tensor_of_twice_the_scores():
    """Counted in the compiled program, forward and backward."""
    length = 512
    shapes = [x.shape for x in operands(length).values()]

    def gradients(*x: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(x)
            types, real = (tf.constant(value) for value in windows(length))
            out = tf_relative_attention(*x[:4], x[4:7], x[7], types, real, 0.0, None)
        return tape.gradient(out, x)

    compiled = tf.function(gradients, jit_compile=True, autograph=False)
    text = compiled.experimental_get_compiler_ir(*(tf.zeros(shape) for shape in shapes))(stage="hlo")
    sizes = [np.prod([int(n) for n in dims.split(",")]) for dims in re.findall(r"f32\[([\d,]+)\]", text)]
    scores = B * HEADS * length * length
    assert scores <= max(sizes) <= scores * (length + relative._ROWS) / length


def test_a_graph_for_any_length_holds_the_same_numbers():
    class Module(torch.nn.Module):
        def forward(self, *x: torch.Tensor) -> torch.Tensor:
            return relative.relative_attention(*x[:4], x[4:7], *x[7:], 0.1, training=False)

    def given(length: int) -> tuple[torch.Tensor, ...]:
        values = [torch.from_numpy(value).float() for value in operands(length).values()]
        return (*values, *map(torch.from_numpy, windows(length)))

    length = torch.export.Dim("length", min=2, max=512)
    long = [{2: length}] * 3 + [{1: 2 * length - 1}, None, None, None, None, {1: length}, {1: length}]
    program = torch.export.export(Module(), given(40), dynamic_shapes=(tuple(long),))
    for n in (7, 70):
        torch.testing.assert_close(program.module()(*given(n)), Module()(*given(n)), atol=1e-5, rtol=0)
