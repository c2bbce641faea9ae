"""What the authors' programs are made of, in float64: layers, tables, heads, and the names of their variables."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

Arrays = dict[str, np.ndarray]
Shapes = dict[str, tuple[int, ...]]
Config = Mapping[str, object]


def gelu_tanh(x):
    return x * 0.5 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def gelu_erf(x):
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def gelu_sigmoid(x):
    return x / (1 + np.exp(-1.702 * x))


def relu(x):
    return np.maximum(x, 0)


def layer_norm(x, gain, shift, eps):
    centred = x - x.mean(-1, keepdims=True)
    return gain * centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps) + shift


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def blockwise(x, kernel, bias):
    """The dense layer of modeling_google_fast.py: kernel [in / 16, out / 16, 16], read as HOG."""
    n_in, n_out, groups = kernel.shape
    x = x.reshape(*x.shape[:-1], n_in, groups)
    out = np.zeros((*x.shape[:-2], groups * n_out))
    for g in range(groups):
        out[..., g * n_out : (g + 1) * n_out] = x[..., g] @ kernel[:, :, g]
    return out + bias


@dataclass
class Layer:
    """The steps of one transformer layer, each a function of its input."""

    query: Callable
    key: Callable
    value: Callable
    project: Callable
    norm_1: Callable
    up: Callable
    down: Callable
    norm_2: Callable
    act: Callable
    heads: int
    pre_norm: bool = False

    def attend(self, x, mask):
        def split(y):
            return y.reshape(*y.shape[:2], self.heads, -1).transpose(0, 2, 1, 3)

        q, k, v = split(self.query(x)), split(self.key(x)), split(self.value(x))
        scores = q @ k.swapaxes(-1, -2) / math.sqrt(q.shape[-1]) + (1 - mask[:, None, None, :]) * -10000.0
        return self.project((softmax(scores) @ v).transpose(0, 2, 1, 3).reshape(x.shape))

    def __call__(self, x, mask):
        if self.pre_norm:
            x = x + self.attend(self.norm_1(x), mask)
            return x + self.down(self.act(self.up(self.norm_2(x))))
        x = self.norm_1(x + self.attend(x, mask))
        return self.norm_2(x + self.down(self.act(self.up(x))))


@dataclass
class Program:
    """A published program: the shapes of its variables for a config, and what it computes."""

    shapes: Callable[[Config], Shapes]
    forward: Callable[..., Arrays]


def draw(shapes: Shapes, seed: int, dtype=np.float32) -> Arrays:
    """Weights of which none is at its default, so that one that is skipped, swapped or turned shows."""
    arrays = {}
    for name, shape in shapes.items():
        # One stream per name: adding a tensor does not change the others.
        noise = np.random.RandomState(zlib.crc32(f"{seed} {name}".encode())).standard_normal(shape)
        leaf = name.lower().replace("/", ".")
        if leaf.endswith(("gamma", "norm.weight", "norm_1.weight", "norm_scale")):
            values = 1 + 0.2 * noise
        elif len(shape) == 1:
            values = 0.1 * noise
        else:
            values = 0.2 * noise
        arrays[name] = values.astype(dtype)
    return arrays


def inputs(config: Config, seed: int, b: int = 3, s: int = 20) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ids, mask and token types [b, s] with right padding of three different lengths."""
    random = np.random.RandomState(seed)
    mask = (np.arange(s) < np.array([s, s - 5, s - 11])[:b, None]).astype(np.int64)
    ids = random.randint(1, config["vocab_size"], (b, s)) * mask
    types = (np.arange(s) >= np.array([7, 4, 5])[:b, None]) * mask
    return ids, mask, types


def run(embedded, entering, layers, mask, pool) -> Arrays:
    found = {"embedding_output": embedded, "layer_0": entering}
    x = entering
    for i, layer in enumerate(layers, 1):
        x = found[f"layer_{i}"] = layer(x, mask)
    found["sequence_output"] = x
    if pool is not None:
        found["pooled_output"] = np.tanh(pool(x[:, 0]))
    return found


class Variables:
    """float64 variables by their published names, and the layers that read them."""

    def __init__(self, arrays: Arrays, eps: float, *, torch: bool) -> None:
        self.arrays = {name: array.astype(np.float64) for name, array in arrays.items()}
        self.eps = eps
        self.torch = torch

    def __getitem__(self, name):
        return self.arrays[name]

    def dense(self, name):
        if self.torch:
            weight, bias = self[f"{name}.weight"], self[f"{name}.bias"]
            return lambda x: x @ weight.T + bias
        kernel, bias = self[f"{name}/kernel"], self[f"{name}/bias"]
        if kernel.ndim == 3:
            return lambda x: blockwise(x, kernel, bias)
        return lambda x: x @ kernel + bias

    def norm(self, name):
        if self.torch:
            return lambda x: layer_norm(x, self[f"{name}.weight"], self[f"{name}.bias"], self.eps)
        return lambda x: layer_norm(x, self[f"{name}/gamma"], self[f"{name}/beta"], self.eps)

    def layer(self, names: Mapping[str, str], act, heads, pre_norm=False) -> Layer:
        steps = {
            step: self.norm(name) if step.startswith("norm") else self.dense(name) for step, name in names.items()
        }
        return Layer(**steps, act=act, heads=heads, pre_norm=pre_norm)


def bert_layer(at: str, dot: str) -> dict[str, str]:
    """The names of one layer of BERT, of albert_zh and of ELECTRA."""
    names = {
        "query": "attention/self/query",
        "key": "attention/self/key",
        "value": "attention/self/value",
        "project": "attention/output/dense",
        "norm_1": "attention/output/LayerNorm",
        "up": "intermediate/dense",
        "down": "output/dense",
        "norm_2": "output/LayerNorm",
    }
    return {step: at + dot + name.replace("/", dot) for step, name in names.items()}


def albert_layer(at: str, dot: str) -> dict[str, str]:
    """The names of one layer of google-research/albert."""
    names = {
        "query": "attention_1/self/query",
        "key": "attention_1/self/key",
        "value": "attention_1/self/value",
        "project": "attention_1/output/dense",
        "norm_1": "LayerNorm",
        "up": "ffn_1/intermediate/dense",
        "down": "ffn_1/intermediate/output/dense",
        "norm_2": "LayerNorm_1",
    }
    return {step: at + dot + name.replace("/", dot) for step, name in names.items()}


def layer_shapes(names: Mapping[str, str], c: Config, *, torch: bool, blocks: int = 1) -> Shapes:
    h, i = c["hidden_size"], c["intermediate_size"]
    shapes: Shapes = {}
    for step, name in names.items():
        if step.startswith("norm"):
            leaves = (".weight", ".bias") if torch else ("/gamma", "/beta")
            shapes |= {name + leaf: (h,) for leaf in leaves}
            continue
        n_in, n_out = {"up": (h, i), "down": (i, h)}.get(step, (h, h))
        shapes |= dense_shapes(name, n_in, n_out, torch=torch, blocks=blocks if step in ("up", "down") else 1)
    return shapes


def dense_shapes(name: str, n_in: int, n_out: int, *, torch: bool, blocks: int = 1) -> Shapes:
    if torch:
        return {f"{name}.weight": (n_out, n_in), f"{name}.bias": (n_out,)}
    kernel = (n_in, n_out) if blocks == 1 else (n_in // blocks, n_out // blocks, blocks)
    return {f"{name}/kernel": kernel, f"{name}/bias": (n_out,)}


def table_shapes(at: str, c: Config, e: int, width: int, *, torch: bool) -> Shapes:
    dot, leaf = (".", ".weight") if torch else ("/", "")
    gain, shift = ("weight", "bias") if torch else ("gamma", "beta")
    return {
        f"{at}{dot}word_embeddings{leaf}": (c["vocab_size"], e),
        f"{at}{dot}position_embeddings{leaf}": (c["max_position_embeddings"], width),
        f"{at}{dot}token_type_embeddings{leaf}": (c["type_vocab_size"], width),
        f"{at}{dot}LayerNorm{dot}{gain}": (width,),
        f"{at}{dot}LayerNorm{dot}{shift}": (width,),
    }


def embed(v: Variables, at: str, ids, types, word_projection=None):
    dot, leaf = (".", ".weight") if v.torch else ("/", "")
    words = v[f"{at}{dot}word_embeddings{leaf}"][ids]
    if word_projection is not None:
        words = words @ word_projection
    places = v[f"{at}{dot}position_embeddings{leaf}"][np.arange(ids.shape[1])]
    return v.norm(f"{at}{dot}LayerNorm")(words + places + v[f"{at}{dot}token_type_embeddings{leaf}"][types])


TF_ACTS = {"gelu": gelu_tanh, "relu": relu}
