"""What the published programs compute, in float64 numpy, from their own variable names and config.json values.

Written from the programs, not from this toolkit, which none of it imports: a mistake would have to be made twice to
go unseen. `test_formats.py` holds it against the outputs of the original programs.

Each program is a `Program`: the shapes of its variables, and its forward pass. The sources:

* google-research/bert modeling.py (also HFL's TensorFlow checkpoints and brightmart/roberta_zh);
* google-research/albert modeling.py; brightmart/albert_zh modeling_google_fast.py for block-diagonal kernels;
* brightmart/albert_zh modeling.py (albert_zh);
* google-research/electra model/modeling.py (electra);
* ewrfcas/bert_cn_finetune models/pytorch_modeling.py (reference_bert, reference_albert),
  models/google_albert_pytorch_modeling.py (reference_google_albert), and its TensorFlow programs
  models/tf_modeling.py (reference_tf_bert) and models/tf_albert_modeling.py (reference_tf_albert, without
  blocksparse);
* PaddlePaddle/ERNIE's ERNIE 1.0 (paddle_ernie);
* transformers' BertModel (transformers_bert), which is reference_bert with its own epsilon and activations.
"""

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


def _run(embedded, entering, layers, mask, pool) -> Arrays:
    found = {"embedding_output": embedded, "layer_0": entering}
    x = entering
    for i, layer in enumerate(layers, 1):
        x = found[f"layer_{i}"] = layer(x, mask)
    found["sequence_output"] = x
    if pool is not None:
        found["pooled_output"] = np.tanh(pool(x[:, 0]))
    return found


class _Variables:
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


def _bert_layer(at: str, dot: str) -> dict[str, str]:
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


def _albert_layer(at: str, dot: str) -> dict[str, str]:
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


def _layer_shapes(names: Mapping[str, str], c: Config, *, torch: bool, blocks: int = 1) -> Shapes:
    h, i = c["hidden_size"], c["intermediate_size"]
    shapes: Shapes = {}
    for step, name in names.items():
        if step.startswith("norm"):
            leaves = (".weight", ".bias") if torch else ("/gamma", "/beta")
            shapes |= {name + leaf: (h,) for leaf in leaves}
            continue
        n_in, n_out = {"up": (h, i), "down": (i, h)}.get(step, (h, h))
        shapes |= _dense_shapes(name, n_in, n_out, torch=torch, blocks=blocks if step in ("up", "down") else 1)
    return shapes


def _dense_shapes(name: str, n_in: int, n_out: int, *, torch: bool, blocks: int = 1) -> Shapes:
    if torch:
        return {f"{name}.weight": (n_out, n_in), f"{name}.bias": (n_out,)}
    kernel = (n_in, n_out) if blocks == 1 else (n_in // blocks, n_out // blocks, blocks)
    return {f"{name}/kernel": kernel, f"{name}/bias": (n_out,)}


def _table_shapes(at: str, c: Config, e: int, width: int, *, torch: bool) -> Shapes:
    dot, leaf = (".", ".weight") if torch else ("/", "")
    gain, shift = ("weight", "bias") if torch else ("gamma", "beta")
    return {
        f"{at}{dot}word_embeddings{leaf}": (c["vocab_size"], e),
        f"{at}{dot}position_embeddings{leaf}": (c["max_position_embeddings"], width),
        f"{at}{dot}token_type_embeddings{leaf}": (c["type_vocab_size"], width),
        f"{at}{dot}LayerNorm{dot}{gain}": (width,),
        f"{at}{dot}LayerNorm{dot}{shift}": (width,),
    }


def _embed(v: _Variables, at: str, ids, types, word_projection=None):
    dot, leaf = (".", ".weight") if v.torch else ("/", "")
    words = v[f"{at}{dot}word_embeddings{leaf}"][ids]
    if word_projection is not None:
        words = words @ word_projection
    places = v[f"{at}{dot}position_embeddings{leaf}"][np.arange(ids.shape[1])]
    return v.norm(f"{at}{dot}LayerNorm")(words + places + v[f"{at}{dot}token_type_embeddings{leaf}"][types])


_TF_ACTS = {"gelu": gelu_tanh, "relu": relu}


def _google_bert_shapes(c: Config) -> Shapes:
    h = c["hidden_size"]
    shapes = _table_shapes("bert/embeddings", c, h, h, torch=False)
    for i in range(c["num_hidden_layers"]):
        shapes |= _layer_shapes(_bert_layer(f"bert/encoder/layer_{i}", "/"), c, torch=False)
    return shapes | _dense_shapes("bert/pooler/dense", h, h, torch=False)


def _google_bert(arrays: Arrays, c: Config, ids, mask, types, eps: float = 1e-12) -> Arrays:
    v = _Variables(arrays, eps, torch=False)
    x = _embed(v, "bert/embeddings", ids, types)
    act, heads = _TF_ACTS[c["hidden_act"]], c["num_attention_heads"]
    layers = [v.layer(_bert_layer(f"bert/encoder/layer_{i}", "/"), act, heads) for i in range(c["num_hidden_layers"])]
    return _tf_heads(v, _run(x, x, layers, mask, v.dense("bert/pooler/dense")))


def _reference_tf_bert(arrays: Arrays, c: Config, ids, mask, types) -> Arrays:
    return _google_bert(arrays, c, ids, mask, types, 1e-5)


def _groups_run(c: Config) -> list[int]:
    n, groups = c["num_hidden_layers"], c.get("num_hidden_groups", 1)
    return [int(i / n * groups) for i in range(n)]


def _google_albert_shapes(c: Config, blocks: int = 1) -> Shapes:
    e, h = c["embedding_size"], c["hidden_size"]
    shapes = _table_shapes("bert/embeddings", c, e, e, torch=False)
    if e != h:
        shapes |= _dense_shapes("bert/encoder/embedding_hidden_mapping_in", e, h, torch=False)
    for g in sorted(set(_groups_run(c))):
        for j in range(c.get("inner_group_num", 1)):
            names = _albert_layer(f"bert/encoder/transformer/group_{g}/inner_group_{j}", "/")
            shapes |= _layer_shapes(names, c, torch=False, blocks=blocks)
    return shapes | _dense_shapes("bert/pooler/dense", h, h, torch=False)


def _fast_albert_shapes(c: Config) -> Shapes:
    return _google_albert_shapes(c, blocks=16)


def _google_albert(arrays: Arrays, c: Config, ids, mask, types, eps: float = 1e-12) -> Arrays:
    v = _Variables(arrays, eps, torch=False)
    embedded = x = _embed(v, "bert/embeddings", ids, types)
    if c["embedding_size"] != c["hidden_size"]:
        x = v.dense("bert/encoder/embedding_hidden_mapping_in")(x)
    layers = [
        v.layer(
            _albert_layer(f"bert/encoder/transformer/group_{g}/inner_group_{j}", "/"),
            _TF_ACTS[c["hidden_act"]],
            c["num_attention_heads"],
        )
        for g in _groups_run(c)
        for j in range(c.get("inner_group_num", 1))
    ]
    return _tf_heads(v, _run(embedded, x, layers, mask, v.dense("bert/pooler/dense")))


def _reference_tf_albert(arrays: Arrays, c: Config, ids, mask, types) -> Arrays:
    return _google_albert(arrays, c, ids, mask, types, 1e-5)


def _tf_heads(v: _Variables, found: Arrays) -> Arrays:
    """Add the logits of span heads, where the variables hold one (the reference system also hides padding's)."""
    sequence = found["sequence_output"]
    if "qa_outputs/kernel" in v.arrays:
        logits = v.dense("qa_outputs")(sequence)
        found |= {"start": logits[..., 0], "end": logits[..., 1]}
    if "cls/squad/output_weights" in v.arrays:
        logits = sequence @ v["cls/squad/output_weights"].T + v["cls/squad/output_bias"]
        found |= {"start": logits[..., 0], "end": logits[..., 1]}
    if "finetune_mrc/start_dense/kernel" in v.arrays:
        found["start"] = v.dense("finetune_mrc/start_dense")(sequence)[..., 0]
        found["end"] = v.dense("finetune_mrc/end_dense")(sequence)[..., 0]
    return found


def _albert_zh_shapes(c: Config) -> Shapes:
    e, h = c["embedding_size"], c["hidden_size"]
    shapes = _table_shapes("bert/embeddings", c, e, h, torch=False)
    shapes["bert/embeddings/word_embeddings_2"] = (e, h)
    shapes |= _layer_shapes(_bert_layer("bert/encoder/layer_shared", "/"), c, torch=False)
    return shapes | _dense_shapes("bert/pooler/dense", h, h, torch=False)


def _albert_zh(arrays: Arrays, c: Config, ids, mask, types) -> Arrays:
    v = _Variables(arrays, 1e-12, torch=False)
    x = _embed(v, "bert/embeddings", ids, types, v["bert/embeddings/word_embeddings_2"])
    names = _bert_layer("bert/encoder/layer_shared", "/")
    pre_norm = c["ln_type"] not in ("postln", None)
    layer = v.layer(names, _TF_ACTS[c["hidden_act"]], c["num_attention_heads"], pre_norm)
    return _run(x, x, [layer] * c["num_hidden_layers"], mask, v.dense("bert/pooler/dense"))


def _electra_shapes(c: Config) -> Shapes:
    e, h = c["embedding_size"], c["hidden_size"]
    shapes = _table_shapes("electra/embeddings", c, e, e, torch=False)
    if e != h:
        shapes |= _dense_shapes("electra/embeddings_project", e, h, torch=False)
    for i in range(c["num_hidden_layers"]):
        shapes |= _layer_shapes(_bert_layer(f"electra/encoder/layer_{i}", "/"), c, torch=False)
    return shapes


def _electra(arrays: Arrays, c: Config, ids, mask, types) -> Arrays:
    v = _Variables(arrays, 1e-12, torch=False)
    embedded = x = _embed(v, "electra/embeddings", ids, types)
    if c["embedding_size"] != c["hidden_size"]:
        x = v.dense("electra/embeddings_project")(x)
    act = {"gelu": gelu_erf, "relu": relu}[c["hidden_act"]]
    layers = [
        v.layer(_bert_layer(f"electra/encoder/layer_{i}", "/"), act, c["num_attention_heads"])
        for i in range(c["num_hidden_layers"])
    ]
    return _run(embedded, x, layers, mask, None)


def _reference_bert_shapes(c: Config) -> Shapes:
    h = c["hidden_size"]
    shapes = _table_shapes("bert.embeddings", c, h, h, torch=True)
    for i in range(c["num_hidden_layers"]):
        shapes |= _layer_shapes(_bert_layer(f"bert.encoder.layer.{i}", "."), c, torch=True)
    return shapes | _dense_shapes("bert.pooler.dense", h, h, torch=True)


def _torch_bert(arrays: Arrays, c: Config, ids, mask, types, act, eps: float) -> Arrays:
    v = _Variables(arrays, eps, torch=True)
    x = _embed(v, "bert.embeddings", ids, types)
    layers = [
        v.layer(_bert_layer(f"bert.encoder.layer.{i}", "."), act, c["num_attention_heads"])
        for i in range(c["num_hidden_layers"])
    ]
    return _torch_heads(v, _run(x, x, layers, mask, v.dense("bert.pooler.dense")))


def _reference_bert(arrays: Arrays, c: Config, ids, mask, types) -> Arrays:
    act = {"gelu": gelu_erf, "relu": relu}[c["hidden_act"]]
    return _torch_bert(arrays, c, ids, mask, types, act, 1e-5)


def _transformers_bert(arrays: Arrays, c: Config, ids, mask, types) -> Arrays:
    act = {"gelu": gelu_erf, "gelu_new": gelu_tanh, "relu": relu}[c["hidden_act"]]
    return _torch_bert(arrays, c, ids, mask, types, act, c.get("layer_norm_eps", 1e-12))


def _reference_albert_shapes(c: Config) -> Shapes:
    e, h = c["embedding_size"], c["hidden_size"]
    shapes = _table_shapes("bert.embeddings", c, e, h, torch=True)
    if e != h:
        shapes["bert.embeddings.word_embeddings_2.weight"] = (h, e)
    shapes |= _layer_shapes(_bert_layer("bert.encoder.layer_shared", "."), c, torch=True)
    return shapes | _dense_shapes("bert.pooler.dense", h, h, torch=True)


def _reference_albert(arrays: Arrays, c: Config, ids, mask, types) -> Arrays:
    v = _Variables(arrays, 1e-5, torch=True)
    same = c["embedding_size"] == c["hidden_size"]
    x = _embed(v, "bert.embeddings", ids, types, None if same else v["bert.embeddings.word_embeddings_2.weight"].T)
    act = {"gelu": gelu_erf, "relu": relu}[c["hidden_act"]]
    names = _bert_layer("bert.encoder.layer_shared", ".")
    layer = v.layer(names, act, c["num_attention_heads"], c.get("ln_type") == "preln")
    found = _run(x, x, [layer] * c["num_hidden_layers"], mask, v.dense("bert.pooler.dense"))
    return _torch_heads(v, found)


def _reference_google_albert_shapes(c: Config) -> Shapes:
    e, h = c["embedding_size"], c["hidden_size"]
    shapes = _table_shapes("bert.embeddings", c, e, e, torch=True)
    shapes |= _dense_shapes("bert.encoder.embedding_hidden_mapping_in", e, h, torch=True)
    shapes |= _layer_shapes(_albert_layer("bert.encoder.transformer", "."), c, torch=True)
    return shapes | _dense_shapes("bert.pooler.dense", h, h, torch=True)


def _reference_google_albert(arrays: Arrays, c: Config, ids, mask, types) -> Arrays:
    v = _Variables(arrays, 1e-5, torch=True)
    embedded = _embed(v, "bert.embeddings", ids, types)
    act = {"gelu": gelu_sigmoid, "relu": relu}[c["hidden_act"]]
    layer = v.layer(_albert_layer("bert.encoder.transformer", "."), act, c["num_attention_heads"])
    x = v.dense("bert.encoder.embedding_hidden_mapping_in")(embedded)
    found = _run(embedded, x, [layer] * c["num_hidden_layers"], mask, v.dense("bert.pooler.dense"))
    return _torch_heads(v, found)


def _torch_heads(v: _Variables, found: Arrays) -> Arrays:
    """Add the logits of the heads that the reference system fine-tunes, where the variables hold one."""
    sequence = found["sequence_output"]
    if "qa_outputs.weight" in v.arrays:
        logits = v.dense("qa_outputs")(sequence)
        found |= {"start": logits[..., 0], "end": logits[..., 1]}
    if "finetune_mrc.start_dense.weight" in v.arrays:
        found["start"] = v.dense("finetune_mrc.start_dense")(sequence)[..., 0]
        found["end"] = v.dense("finetune_mrc.end_dense")(sequence)[..., 0]
    if "cls_outputs.weight" in v.arrays:
        found["kind"] = v.dense("cls_outputs")(found["pooled_output"])
    return found


_ERNIE_STEPS = {
    "query": "multi_head_att_query_fc",
    "key": "multi_head_att_key_fc",
    "value": "multi_head_att_value_fc",
    "project": "multi_head_att_output_fc",
    "up": "ffn_fc_0",
    "down": "ffn_fc_1",
}


def _paddle_ernie_shapes(c: Config) -> Shapes:
    h, inner = (
        c["hidden_size"],
        4 * c["hidden_size"],
    )  # The program takes 4 * hidden_size; its config has no such key.
    shapes: Shapes = {
        "word_embedding": (c["vocab_size"], h),
        "pos_embedding": (c["max_position_embeddings"], h),
        "sent_embedding": (c["type_vocab_size"], h),
        "pre_encoder_layer_norm_scale": (h,),
        "pre_encoder_layer_norm_bias": (h,),
        "pooled_fc.w_0": (h, h),
        "pooled_fc.b_0": (h,),
    }
    for i in range(c["num_hidden_layers"]):
        for step, name in _ERNIE_STEPS.items():
            n_in, n_out = {"up": (h, inner), "down": (inner, h)}.get(step, (h, h))
            shapes |= {f"encoder_layer_{i}_{name}.w_0": (n_in, n_out), f"encoder_layer_{i}_{name}.b_0": (n_out,)}
        for norm in ("att", "ffn"):
            for leaf in ("scale", "bias"):
                shapes[f"encoder_layer_{i}_post_{norm}_layer_norm_{leaf}"] = (h,)
    return shapes


def _paddle_ernie(arrays: Arrays, c: Config, ids, mask, types) -> Arrays:
    v = {name: array.astype(np.float64) for name, array in arrays.items()}

    def dense(name):
        return lambda x: x @ v[f"{name}.w_0"] + v[f"{name}.b_0"]

    def norm(name):
        return lambda x: layer_norm(x, v[f"{name}_layer_norm_scale"], v[f"{name}_layer_norm_bias"], 1e-5)

    x = v["word_embedding"][ids] + v["pos_embedding"][np.arange(ids.shape[1])] + v["sent_embedding"][types]
    x = norm("pre_encoder")(x)
    layers = [
        Layer(
            **{step: dense(f"encoder_layer_{i}_{name}") for step, name in _ERNIE_STEPS.items()},
            norm_1=norm(f"encoder_layer_{i}_post_att"),
            norm_2=norm(f"encoder_layer_{i}_post_ffn"),
            act={"relu": relu, "gelu": gelu_erf}[c["hidden_act"]],
            heads=c["num_attention_heads"],
        )
        for i in range(c["num_hidden_layers"])
    ]
    return _run(x, x, layers, mask, dense("pooled_fc"))


PROGRAMS = {
    "google_bert": Program(_google_bert_shapes, _google_bert),
    "google_albert": Program(_google_albert_shapes, _google_albert),
    "fast_albert": Program(_fast_albert_shapes, _google_albert),
    "albert_zh": Program(_albert_zh_shapes, _albert_zh),
    "electra": Program(_electra_shapes, _electra),
    "reference_bert": Program(_reference_bert_shapes, _reference_bert),
    "reference_albert": Program(_reference_albert_shapes, _reference_albert),
    "reference_google_albert": Program(_reference_google_albert_shapes, _reference_google_albert),
    "transformers_bert": Program(_reference_bert_shapes, _transformers_bert),
    "reference_tf_bert": Program(_google_bert_shapes, _reference_tf_bert),
    "reference_tf_albert": Program(_google_albert_shapes, _reference_tf_albert),
    "paddle_ernie": Program(_paddle_ernie_shapes, _paddle_ernie),
}
