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

import numpy as np

from tests.support.oracle_layers import (
    TF_ACTS,
    Arrays,
    Config,
    Layer,
    Program,
    Shapes,
    Variables,
    albert_layer,
    bert_layer,
    dense_shapes,
    embed,
    gelu_erf,
    gelu_sigmoid,
    gelu_tanh,
    layer_norm,
    layer_shapes,
    relu,
    run,
    table_shapes,
)
from tests.support.oracle_relations import RELATIONS


def _google_bert_shapes(c: Config) -> Shapes:
    h = c["hidden_size"]
    shapes = table_shapes("bert/embeddings", c, h, h, torch=False)
    for i in range(c["num_hidden_layers"]):
        shapes |= layer_shapes(bert_layer(f"bert/encoder/layer_{i}", "/"), c, torch=False)
    return shapes | dense_shapes("bert/pooler/dense", h, h, torch=False)


def _google_bert(arrays: Arrays, c: Config, ids, mask, types, eps: float = 1e-12) -> Arrays:
    v = Variables(arrays, eps, torch=False)
    x = embed(v, "bert/embeddings", ids, types)
    act, heads = TF_ACTS[c["hidden_act"]], c["num_attention_heads"]
    layers = [v.layer(bert_layer(f"bert/encoder/layer_{i}", "/"), act, heads) for i in range(c["num_hidden_layers"])]
    return _tf_heads(v, run(x, x, layers, mask, v.dense("bert/pooler/dense")))


def _reference_tf_bert(arrays: Arrays, c: Config, ids, mask, types) -> Arrays:
    return _google_bert(arrays, c, ids, mask, types, 1e-5)


def _groups_run(c: Config) -> list[int]:
    n, groups = c["num_hidden_layers"], c.get("num_hidden_groups", 1)
    return [int(i / n * groups) for i in range(n)]


def _google_albert_shapes(c: Config, blocks: int = 1) -> Shapes:
    e, h = c["embedding_size"], c["hidden_size"]
    shapes = table_shapes("bert/embeddings", c, e, e, torch=False)
    if e != h:
        shapes |= dense_shapes("bert/encoder/embedding_hidden_mapping_in", e, h, torch=False)
    for g in sorted(set(_groups_run(c))):
        for j in range(c.get("inner_group_num", 1)):
            names = albert_layer(f"bert/encoder/transformer/group_{g}/inner_group_{j}", "/")
            shapes |= layer_shapes(names, c, torch=False, blocks=blocks)
    return shapes | dense_shapes("bert/pooler/dense", h, h, torch=False)


def _fast_albert_shapes(c: Config) -> Shapes:
    return _google_albert_shapes(c, blocks=16)


def _google_albert(arrays: Arrays, c: Config, ids, mask, types, eps: float = 1e-12) -> Arrays:
    v = Variables(arrays, eps, torch=False)
    embedded = x = embed(v, "bert/embeddings", ids, types)
    if c["embedding_size"] != c["hidden_size"]:
        x = v.dense("bert/encoder/embedding_hidden_mapping_in")(x)
    layers = [
        v.layer(
            albert_layer(f"bert/encoder/transformer/group_{g}/inner_group_{j}", "/"),
            TF_ACTS[c["hidden_act"]],
            c["num_attention_heads"],
        )
        for g in _groups_run(c)
        for j in range(c.get("inner_group_num", 1))
    ]
    return _tf_heads(v, run(embedded, x, layers, mask, v.dense("bert/pooler/dense")))


def _reference_tf_albert(arrays: Arrays, c: Config, ids, mask, types) -> Arrays:
    return _google_albert(arrays, c, ids, mask, types, 1e-5)


def _tf_heads(v: Variables, found: Arrays) -> Arrays:
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
    shapes = table_shapes("bert/embeddings", c, e, h, torch=False)
    shapes["bert/embeddings/word_embeddings_2"] = (e, h)
    shapes |= layer_shapes(bert_layer("bert/encoder/layer_shared", "/"), c, torch=False)
    return shapes | dense_shapes("bert/pooler/dense", h, h, torch=False)


def _albert_zh(arrays: Arrays, c: Config, ids, mask, types) -> Arrays:
    v = Variables(arrays, 1e-12, torch=False)
    x = embed(v, "bert/embeddings", ids, types, v["bert/embeddings/word_embeddings_2"])
    names = bert_layer("bert/encoder/layer_shared", "/")
    pre_norm = c["ln_type"] not in ("postln", None)
    layer = v.layer(names, TF_ACTS[c["hidden_act"]], c["num_attention_heads"], pre_norm)
    return run(x, x, [layer] * c["num_hidden_layers"], mask, v.dense("bert/pooler/dense"))


def _electra_shapes(c: Config) -> Shapes:
    e, h = c["embedding_size"], c["hidden_size"]
    shapes = table_shapes("electra/embeddings", c, e, e, torch=False)
    if e != h:
        shapes |= dense_shapes("electra/embeddings_project", e, h, torch=False)
    for i in range(c["num_hidden_layers"]):
        shapes |= layer_shapes(bert_layer(f"electra/encoder/layer_{i}", "/"), c, torch=False)
    return shapes


def _electra(arrays: Arrays, c: Config, ids, mask, types) -> Arrays:
    v = Variables(arrays, 1e-12, torch=False)
    embedded = x = embed(v, "electra/embeddings", ids, types)
    if c["embedding_size"] != c["hidden_size"]:
        x = v.dense("electra/embeddings_project")(x)
    act = {"gelu": gelu_erf, "relu": relu}[c["hidden_act"]]
    layers = [
        v.layer(bert_layer(f"electra/encoder/layer_{i}", "/"), act, c["num_attention_heads"])
        for i in range(c["num_hidden_layers"])
    ]
    return run(embedded, x, layers, mask, None)


def _reference_bert_shapes(c: Config) -> Shapes:
    h = c["hidden_size"]
    shapes = table_shapes("bert.embeddings", c, h, h, torch=True)
    for i in range(c["num_hidden_layers"]):
        shapes |= layer_shapes(bert_layer(f"bert.encoder.layer.{i}", "."), c, torch=True)
    return shapes | dense_shapes("bert.pooler.dense", h, h, torch=True)


def _torch_bert(arrays: Arrays, c: Config, ids, mask, types, act, eps: float) -> Arrays:
    v = Variables(arrays, eps, torch=True)
    x = embed(v, "bert.embeddings", ids, types)
    layers = [
        v.layer(bert_layer(f"bert.encoder.layer.{i}", "."), act, c["num_attention_heads"])
        for i in range(c["num_hidden_layers"])
    ]
    return _torch_heads(v, run(x, x, layers, mask, v.dense("bert.pooler.dense")))


def _reference_bert(arrays: Arrays, c: Config, ids, mask, types) -> Arrays:
    act = {"gelu": gelu_erf, "relu": relu}[c["hidden_act"]]
    return _torch_bert(arrays, c, ids, mask, types, act, 1e-5)


def _transformers_bert(arrays: Arrays, c: Config, ids, mask, types) -> Arrays:
    act = {"gelu": gelu_erf, "gelu_new": gelu_tanh, "relu": relu}[c["hidden_act"]]
    return _torch_bert(arrays, c, ids, mask, types, act, c.get("layer_norm_eps", 1e-12))


def _reference_albert_shapes(c: Config) -> Shapes:
    e, h = c["embedding_size"], c["hidden_size"]
    shapes = table_shapes("bert.embeddings", c, e, h, torch=True)
    if e != h:
        shapes["bert.embeddings.word_embeddings_2.weight"] = (h, e)
    shapes |= layer_shapes(bert_layer("bert.encoder.layer_shared", "."), c, torch=True)
    return shapes | dense_shapes("bert.pooler.dense", h, h, torch=True)


def _reference_albert(arrays: Arrays, c: Config, ids, mask, types) -> Arrays:
    v = Variables(arrays, 1e-5, torch=True)
    same = c["embedding_size"] == c["hidden_size"]
    x = embed(v, "bert.embeddings", ids, types, None if same else v["bert.embeddings.word_embeddings_2.weight"].T)
    act = {"gelu": gelu_erf, "relu": relu}[c["hidden_act"]]
    names = bert_layer("bert.encoder.layer_shared", ".")
    layer = v.layer(names, act, c["num_attention_heads"], c.get("ln_type") == "preln")
    found = run(x, x, [layer] * c["num_hidden_layers"], mask, v.dense("bert.pooler.dense"))
    return _torch_heads(v, found)


def _reference_google_albert_shapes(c: Config) -> Shapes:
    e, h = c["embedding_size"], c["hidden_size"]
    shapes = table_shapes("bert.embeddings", c, e, e, torch=True)
    shapes |= dense_shapes("bert.encoder.embedding_hidden_mapping_in", e, h, torch=True)
    shapes |= layer_shapes(albert_layer("bert.encoder.transformer", "."), c, torch=True)
    return shapes | dense_shapes("bert.pooler.dense", h, h, torch=True)


def _reference_google_albert(arrays: Arrays, c: Config, ids, mask, types) -> Arrays:
    v = Variables(arrays, 1e-5, torch=True)
    embedded = embed(v, "bert.embeddings", ids, types)
    act = {"gelu": gelu_sigmoid, "relu": relu}[c["hidden_act"]]
    layer = v.layer(albert_layer("bert.encoder.transformer", "."), act, c["num_attention_heads"])
    x = v.dense("bert.encoder.embedding_hidden_mapping_in")(embedded)
    found = run(embedded, x, [layer] * c["num_hidden_layers"], mask, v.dense("bert.pooler.dense"))
    return _torch_heads(v, found)


def _torch_heads(v: Variables, found: Arrays) -> Arrays:
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
        **({"task_embedding": (c["task_type_vocab_size"], h)} if c.get("use_task_id") else {}),
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
    if c.get("use_task_id"):
        x = x + v["task_embedding"][0]
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
    return run(x, x, layers, mask, dense("pooled_fc"))


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
    **RELATIONS,
}
