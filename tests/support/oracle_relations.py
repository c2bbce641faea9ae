"""Programs whose attention looks at distances, and ERNIE's with task embeddings, in float64, as in `oracle.py`.

The sources: transformers 4's BertModel with `position_embedding_type` (Shaw et al. 2018; Huang et al. 2020) and its
NezhaModel; huawei-noah's TensorFlow NEZHA (Wei et al. 2019), whose "gelu" is the tanh form and whose distances end at
64; PaddleNLP's ErnieModel (paddlenlp_ernie), whose LayerNorms add Paddle's 1e-5, and its NeZhaModel, with the 1e-12
that its weights were trained with.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tests.support.oracle_layers import (
    TF_ACTS,
    Arrays,
    Config,
    Layer,
    Program,
    Shapes,
    Variables,
    bert_layer,
    dense_shapes,
    gelu_erf,
    layer_shapes,
    relu,
    run,
    softmax,
    table_shapes,
)


@dataclass
class RelativeLayer(Layer):
    """A layer with a vector for each pair of tokens."""

    vectors: Callable | None = None  # S -> [S, S, d]
    on_keys: bool = False
    in_values: bool = False

    def attend(self, x, mask):
        def split(y):
            return y.reshape(*y.shape[:2], self.heads, -1).transpose(0, 2, 1, 3)

        q, k, v = split(self.query(x)), split(self.key(x)), split(self.value(x))
        a = self.vectors(x.shape[1])
        scores = q @ k.swapaxes(-1, -2) + np.einsum("bhid,ijd->bhij", q, a)
        if self.on_keys:
            scores = scores + np.einsum("bhjd,ijd->bhij", k, a)
        probs = softmax(scores / math.sqrt(q.shape[-1]) + (1 - mask[:, None, None, :]) * -10000.0)
        mixed = probs @ v + (np.einsum("bhij,ijd->bhid", probs, a) if self.in_values else 0)
        return self.project(mixed.transpose(0, 2, 1, 3).reshape(x.shape))


def _relative(layer: Layer, vectors, **where) -> RelativeLayer:
    return RelativeLayer(**vars(layer), vectors=vectors, **where)


def _sinusoids(most: int, d: int):
    def vectors(s: int):
        place = np.clip(np.arange(s)[None, :] - np.arange(s)[:, None], -most, most) + most
        angles = place[..., None] / 10000.0 ** (2 * (np.arange(d) // 2) / d)
        return np.where(np.arange(d) % 2, np.cos(angles), np.sin(angles))

    return vectors


def _embed(v: Variables, scope: str, ids, types):
    words, segments = (f"{scope}.word_embeddings.weight", f"{scope}.token_type_embeddings.weight")
    if not v.torch:
        words, segments = (f"{scope}/word_embeddings", f"{scope}/token_type_embeddings")
    return v.norm(f"{scope}{'.' if v.torch else '/'}LayerNorm")(v[words][ids] + v[segments][types])


def _relative_bert_shapes(c: Config) -> Shapes:
    h = c["hidden_size"]
    shapes = table_shapes("bert.embeddings", c, h, h, torch=True)
    for i in range(c["num_hidden_layers"]):
        shapes |= layer_shapes(bert_layer(f"bert.encoder.layer.{i}", "."), c, torch=True)
        table = (2 * c["max_position_embeddings"] - 1, h // c["num_attention_heads"])
        shapes[f"bert.encoder.layer.{i}.attention.self.distance_embedding.weight"] = table
    return shapes | dense_shapes("bert.pooler.dense", h, h, torch=True)


def _relative_bert(arrays: Arrays, c: Config, ids, mask, types) -> Arrays:
    v = Variables(arrays, 1e-12, torch=True)

    def vectors(i: int):
        table = v[f"bert.encoder.layer.{i}.attention.self.distance_embedding.weight"]
        return lambda s: table[np.arange(s)[:, None] - np.arange(s)[None, :] + c["max_position_embeddings"] - 1]

    on_keys = c["position_embedding_type"] == "relative_key_query"
    layers = [
        _relative(
            v.layer(bert_layer(f"bert.encoder.layer.{i}", "."), gelu_erf, c["num_attention_heads"]),
            vectors(i),
            on_keys=on_keys,
        )
        for i in range(c["num_hidden_layers"])
    ]
    x = _embed(v, "bert.embeddings", ids, types)
    return run(x, x, layers, mask, v.dense("bert.pooler.dense"))


def _nezha(torch: bool) -> Program:
    root, dot = ("nezha", ".") if torch else ("bert", "/")
    place = ".layer." if torch else "/layer_"

    def names(i: int):
        return bert_layer(f"{root}{dot}encoder{place}{i}", dot)

    def shapes(c: Config) -> Shapes:
        h = c["hidden_size"]
        made = table_shapes(f"{root}{dot}embeddings", c, h, h, torch=torch)
        made = {name: shape for name, shape in made.items() if "position" not in name}
        for i in range(c["num_hidden_layers"]):
            made |= layer_shapes(names(i), c, torch=torch)
        return made | dense_shapes(f"{root}{dot}pooler{dot}dense", h, h, torch=torch)

    def forward(arrays: Arrays, c: Config, ids, mask, types) -> Arrays:
        v = Variables(arrays, 1e-12, torch=torch)
        act = gelu_erf if torch else TF_ACTS[c["hidden_act"]]
        heads = c["num_attention_heads"]
        vectors = _sinusoids(c["max_relative_position"] if torch else 64, c["hidden_size"] // heads)
        layers = [
            _relative(v.layer(names(i), act, heads), vectors, in_values=True) for i in range(c["num_hidden_layers"])
        ]
        x = _embed(v, f"{root}{dot}embeddings", ids, types)
        return run(x, x, layers, mask, v.dense(f"{root}{dot}pooler{dot}dense"))

    return Program(shapes, forward)


@dataclass(frozen=True)
class _Paddle:
    """How a model of PaddleNLP calls its parts, and what its LayerNorms add."""

    root: str
    layer: str
    steps: dict[str, str]
    norm_1: str
    norm_2: str
    eps: float


_PADDLE_ERNIE = _Paddle(
    "ernie",
    "encoder.layers",
    {
        "query": "self_attn.q_proj",
        "key": "self_attn.k_proj",
        "value": "self_attn.v_proj",
        "project": "self_attn.out_proj",
        "up": "linear1",
        "down": "linear2",
    },
    "norm1",
    "norm2",
    1e-5,
)
_PADDLE_NEZHA = _Paddle(
    "nezha",
    "encoder.layer",
    {
        "query": "attention.query",
        "key": "attention.key",
        "value": "attention.value",
        "project": "attention.dense",
        "up": "ffn",
        "down": "ffn_output",
    },
    "attention.layer_norm",
    "layer_norm",
    1e-12,
)


def _paddlenlp(names: _Paddle) -> Program:
    relative = names is _PADDLE_NEZHA

    def tables(c: Config) -> dict[str, str]:
        sizes = {"word": "vocab_size", "token_type": "type_vocab_size"}
        if not relative:
            sizes["position"] = "max_position_embeddings"
        return {**sizes, "task_type": "task_type_vocab_size"} if c.get("use_task_id") else sizes

    def shapes(c: Config) -> Shapes:
        h, inner, root = c["hidden_size"], c["intermediate_size"], names.root
        made: Shapes = {f"{root}.embeddings.{n}_embeddings.weight": (c[size], h) for n, size in tables(c).items()}
        norms = ["embeddings.layer_norm"]
        for i in range(c["num_hidden_layers"]):
            norms += [f"{names.layer}.{i}.{names.norm_1}", f"{names.layer}.{i}.{names.norm_2}"]
            for step, name in names.steps.items():
                n_in, n_out = {"up": (h, inner), "down": (inner, h)}.get(step, (h, h))
                stem = f"{root}.{names.layer}.{i}.{name}"
                made |= {f"{stem}.weight": (n_in, n_out), f"{stem}.bias": (n_out,)}
        made |= {f"{root}.{name}.{leaf}": (h,) for name in norms for leaf in ("weight", "bias")}
        return made | {f"{root}.pooler.dense.weight": (h, h), f"{root}.pooler.dense.bias": (h,)}

    def forward(arrays: Arrays, c: Config, ids, mask, types) -> Arrays:
        v, root = Variables(arrays, names.eps, torch=True), names.root

        def dense(name):
            return lambda x: x @ v[f"{name}.weight"] + v[f"{name}.bias"]

        rows = {
            "word": ids,
            "token_type": types,
            "position": np.arange(ids.shape[1]),
            "task_type": np.zeros_like(ids),
        }
        x = sum(v[f"{root}.embeddings.{name}_embeddings.weight"][rows[name]] for name in tables(c))
        x = v.norm(f"{root}.embeddings.layer_norm")(x)
        layers = [
            Layer(
                **{step: dense(f"{root}.{names.layer}.{i}.{name}") for step, name in names.steps.items()},
                norm_1=v.norm(f"{root}.{names.layer}.{i}.{names.norm_1}"),
                norm_2=v.norm(f"{root}.{names.layer}.{i}.{names.norm_2}"),
                act={"relu": relu, "gelu": gelu_erf}[c["hidden_act"]],
                heads=c["num_attention_heads"],
            )
            for i in range(c["num_hidden_layers"])
        ]
        if relative:
            vectors = _sinusoids(c["max_relative_position"], c["hidden_size"] // c["num_attention_heads"])
            layers = [_relative(layer, vectors, in_values=True) for layer in layers]
        return run(x, x, layers, mask, dense(f"{root}.pooler.dense"))

    return Program(shapes, forward)


RELATIONS = {
    "relative_bert": Program(_relative_bert_shapes, _relative_bert),
    "google_nezha": _nezha(torch=False),
    "transformers_nezha": _nezha(torch=True),
    "paddlenlp_ernie": _paddlenlp(_PADDLE_ERNIE),
    "paddlenlp_nezha": _paddlenlp(_PADDLE_NEZHA),
}
