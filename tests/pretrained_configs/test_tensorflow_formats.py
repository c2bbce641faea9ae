"""TensorFlow's and Keras's files of every published format compute what their authors' programs compute."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from pretrained_configs.checkpoint import read_checkpoint
from pytorch_modeling import build_model, load_weights
from tests.support.formats import GOOGLE, MODELS, compute, expect, place, weights
from tests.support.oracle import PROGRAMS
from tests.support.oracle_layers import draw, inputs
from tests.support.values import head_of

# --- TensorFlow 1 -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tf():
    return pytest.importorskip("tensorflow")


def save_tf1(tf, prefix: Path, arrays: dict[str, np.ndarray], step: int | None = None) -> None:
    """Write a checkpoint as a TensorFlow 1 program does; it writes a "checkpoint" file with the path it is given."""
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        holders = {}
        for name, array in arrays.items():
            holders[name] = v1.placeholder(array.dtype, array.shape)
            v1.get_variable(name, initializer=holders[name], use_resource=False)
        saver = v1.train.Saver()
        session.run(v1.global_variables_initializer(), {holders[name]: arrays[name] for name in arrays})
        saver.save(session, str(prefix), global_step=step, write_meta_graph=True)


def with_optimizer(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    slots = {
        f"{name}/{slot}": np.full_like(array, 7) for name, array in arrays.items() for slot in ("adam_m", "adam_v")
    }
    return {**arrays, **slots, "global_step": np.array(1000, np.int64)}


@pytest.mark.parametrize("model", [m for m in MODELS if MODELS[m][0] in ("google_bert", "albert_zh", "electra")])
def test_tensorflow_1_by_prefix_and_by_directory(tf, tmp_path, model, same):
    path = place(tmp_path / "model", model)
    arrays = weights(model)
    prefix = path / "bert_model.ckpt"
    save_tf1(tf, prefix, arrays)
    expected = expect(model, arrays)
    given = [prefix, path, *sorted(path.glob("bert_model.ckpt.*"))]
    assert {p.suffix for p in given[2:]} == {".index", ".meta", ".data-00000-of-00001"}
    for each in given:
        found, namemap = compute(each)
        assert namemap == MODELS[model][1]
        same(found, expected)
    # As published: without a "checkpoint" file.
    (path / "checkpoint").unlink()
    found, _ = compute(path)
    same(found, expected)


@pytest.mark.parametrize("model", ["bert", "zh-preln", "albert-grouped", "fast", "fast-inner", "electra"])
def test_tensorflow_1_of_a_training_run(tf, tmp_path, model, same):
    path = place(tmp_path / "run", model)
    older, newer = weights(model, 1), weights(model, 2)
    save_tf1(tf, path / "model.ckpt", with_optimizer(newer), 30)
    save_tf1(tf, path / "model.ckpt", with_optimizer(older), 4)
    save_tf1(tf, path / "model.ckpt", with_optimizer(newer), 5)
    state = (path / "checkpoint").read_text()
    assert str(path) in state, "TensorFlow writes an absolute path"
    moved = tmp_path / "elsewhere"
    path.rename(moved)
    assert "model.ckpt-5" in str(read_checkpoint(moved).files.weights[0])
    same(compute(moved)[0], expect(model, newer))
    same(compute(moved / "model.ckpt-4")[0], expect(model, older))
    (moved / "checkpoint").write_text(state.replace("model.ckpt-5", "model.ckpt-4", 1))
    same(compute(moved)[0], expect(model, older))


def test_tensorflow_1_half_precision_and_several_data_files(tf, tmp_path, same):
    path = place(tmp_path, "bert")
    arrays = {name: array.astype(np.float16) for name, array in weights("bert").items()}
    save_tf1(tf, path / "half.ckpt", arrays)
    same(compute(path / "half.ckpt")[0], expect("bert", arrays))
    names = sorted(weights("bert"))
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        parts = []
        for i, chosen in enumerate((names[::2], names[1::2])):
            part = str(path / f"part{i}")
            values = [tf.constant(weights("bert")[name]) for name in chosen]
            session.run(
                tf.raw_ops.SaveV2(
                    prefix=part, tensor_names=chosen, shape_and_slices=[""] * len(chosen), tensors=values
                )
            )
            parts.append(part)
        session.run(
            tf.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=parts, destination_prefix=str(path / "two.ckpt"))
        )
    assert len(list(path.glob("two.ckpt.data-*-of-00002"))) == 2
    same(compute(path / "two.ckpt")[0], expect("bert", weights("bert")))


# --- transformers 4's Keras classes -------------------------------------------------------------------------------

_ALBERT_NAMES = {
    r"transformer/group_(\d+)/inner_group_(\d+)": r"albert_layer_groups_._\1/albert_layers_._\2",
    r"attention_1/self/": "attention/",
    r"attention_1/output/dense": "attention/dense",
    r"(albert_layers_._\d+)/LayerNorm/": r"\1/attention/LayerNorm/",
    r"ffn_1/intermediate/output/dense": "ffn_output",
    r"ffn_1/intermediate/dense": "ffn",
    r"LayerNorm_1": "full_layer_layer_norm",
    r"pooler/dense": "pooler",
}


def keras_name(name: str, family: str) -> str:
    """The path of a Google variable within transformers' Keras class; kernels lie alike in both."""
    name = name.split("/", 1)[1]
    if family == "albert":
        for pattern, new in _ALBERT_NAMES.items():
            name = re.sub(pattern, new, name)
    name = re.sub(r"encoder/layer_(\d+)/", r"encoder/layer_._\1/", name)
    name = re.sub(r"(word_embeddings)$", r"\1/weight", name)
    return re.sub(r"(position_embeddings|token_type_embeddings)$", r"\1/embeddings", name)


def object_name(name: str, family: str) -> str:
    """The path of a Google variable in the object graph of that class: attributes, and lists by their numbers."""
    name = keras_name(name, family).replace("_._", "/")
    name = name.replace("attention/self/", "attention/self_attention/")
    name = name.replace("attention/output/", "attention/dense_output/")
    name = re.sub(r"(layer/\d+)/output/", r"\1/bert_output/", name)
    name = name.replace("embeddings/word_embeddings/weight", "embeddings/weight")
    return re.sub(r"(position_embeddings|token_type_embeddings)/embeddings$", r"\1", name)


#: family -> the model that has the same variables under Google's names, its config.json, the Keras classes' names.
KERAS = {
    "bert": ("bert", {**GOOGLE, "model_type": "bert", "hidden_act": "gelu_new"}, "tf_bert"),
    "albert": ("albert-grouped", None, "tf_albert"),
    "electra": ("electra", None, "tf_electra"),
    "electra-square": ("electra-square", None, "tf_electra"),
}
KERAS["albert"] = (
    "albert-grouped",
    {**MODELS["albert-grouped"][3], "model_type": "albert", "hidden_act": "gelu_new"},
    "tf_albert",
)
for _name in ("electra", "electra-square"):
    KERAS[_name] = (_name, {**MODELS[_name][3], "model_type": "electra"}, "tf_electra")
QA = {"kernel": (32, 2), "bias": (2,)}


def encoder_only(model: str, seed: int = 0) -> dict[str, np.ndarray]:
    program, _, _, config = MODELS[model]
    return draw(PROGRAMS[program].shapes(config), seed)


@pytest.mark.parametrize("head", ["model", "for_pre_training", "for_question_answering"])
@pytest.mark.parametrize("family", KERAS)
def test_keras_h5_of_transformers_4(tmp_path, family, head, same):
    h5py = pytest.importorskip("h5py")
    model, config, classes = KERAS[family]
    kind = family.split("-")[0]
    (tmp_path / "config.json").write_text(json.dumps(config))
    arrays = encoder_only(model)
    stored = {f"{kind}/{classes}_{head}/{kind}/{keras_name(name, kind)}:0": array for name, array in arrays.items()}
    outer = f"{classes}_{head}"
    extra: dict[str, tuple[int, ...]] = {}
    if head == "for_pre_training":
        if kind == "bert":
            extra = {
                f"mlm___cls/{outer}/mlm___cls/predictions/bias:0": (61,),
                f"mlm___cls/{outer}/mlm___cls/predictions/transform/dense/kernel:0": (32, 32),
                f"mlm___cls/{outer}/mlm___cls/predictions/transform/LayerNorm/gamma:0": (32,),
                f"nsp___cls/{outer}/nsp___cls/seq_relationship/kernel:0": (32, 2),
            }
        elif kind == "albert":
            extra = {
                f"predictions/{outer}/predictions/bias:0": (61,),
                f"predictions/{outer}/predictions/decoder_bias:0": (61,),
                f"predictions/{outer}/predictions/dense/kernel:0": (32, 16),
                f"predictions/{outer}/predictions/LayerNorm/gamma:0": (16,),
                f"sop_classifier/{outer}/sop_classifier/classifier/kernel:0": (32, 2),
            }
        else:
            extra = {
                f"discriminator_predictions/{outer}/discriminator_predictions/dense/kernel:0": (32, 32),
                f"discriminator_predictions/{outer}/discriminator_predictions/dense_prediction/bias:0": (1,),
            }
    qa = draw({f"qa_outputs/{leaf}": shape for leaf, shape in QA.items()}, 3)
    if head == "for_question_answering":
        stored |= {f"qa_outputs/{outer}/{name}:0": array for name, array in qa.items()}
    stored |= draw(extra, 8)
    with h5py.File(tmp_path / "tf_model.h5", "w") as file:
        for name, array in stored.items():
            file.create_dataset(name, data=array)
        file.create_group("top_level_model_weights")
        file.attrs["backend"] = b"tensorflow"
        file.attrs["layer_names"] = [name.encode() for name in sorted({n.split("/")[0] for n in stored})]
    found, namemap = compute(tmp_path)
    assert namemap == f"transformers_{kind}"
    expected = expect(model, arrays)
    same(found, expected)
    if head == "for_question_answering":
        checkpoint = read_checkpoint(tmp_path / "tf_model.h5")
        task = build_model(checkpoint.config, head_of(()), device="cpu", seed=9)
        assert not load_weights(task, checkpoint, fresh_head=False).fresh
        ids, mask, types = (torch.from_numpy(x) for x in inputs(config, 0))
        with torch.inference_mode():
            values = task({"input_ids": ids, "attention_mask": mask, "token_type_ids": types})
        logits = expected["sequence_output"] @ qa["qa_outputs/kernel"] + qa["qa_outputs/bias"]
        found = {name: value.numpy() for name, value in values.items()}
        same(found, {"start": logits[..., 0], "end": logits[..., 1]})


def trackable(tf, arrays: dict[str, np.ndarray]):
    """Nest arrays by the parts of their names; parts that are numbers make lists, as in the Keras classes."""
    tree: dict = {}
    for name, array in arrays.items():
        *parts, leaf = name.split("/")
        node = tree
        for part in parts:
            node = node.setdefault(part, {})
        node[leaf] = array

    def build(node):
        if not isinstance(node, dict):
            return tf.Variable(node)
        if all(key.isdigit() for key in node):
            return [build(node[str(i)]) for i in range(len(node))]
        made = tf.Module()
        for key, value in node.items():
            setattr(made, key, build(value))
        return made

    return build(tree)


@pytest.mark.parametrize("form", ["bare", "wrapped", "span"])
@pytest.mark.parametrize("family", KERAS)
def test_tensorflow_2_objects_of_transformers_4(tf, tmp_path, family, form, same):
    model, config, _ = KERAS[family]
    kind = family.split("-")[0]
    (tmp_path / "config.json").write_text(json.dumps(config))
    arrays = encoder_only(model)
    stored = {f"{kind}/{object_name(name, kind)}": array for name, array in arrays.items()}
    qa = draw({f"qa_outputs/{leaf}": shape for leaf, shape in QA.items()}, 3)
    if form == "span":
        stored |= qa
    root = trackable(tf, stored)
    if form == "wrapped":
        tf.train.Checkpoint(model=root).write(str(tmp_path / "tf_model"))
    else:
        tf.train.Checkpoint(root).write(str(tmp_path / "tf_model"))
    for given in (tmp_path, tmp_path / "tf_model", tmp_path / "tf_model.index"):
        found, namemap = compute(given)
        assert namemap == f"transformers_{kind}"
        same(found, expect(model, arrays))
    if form == "span":
        checkpoint = read_checkpoint(tmp_path)
        task = build_model(checkpoint.config, head_of(()), device="cpu", seed=9)
        assert not load_weights(task, checkpoint, fresh_head=False).fresh
        np.testing.assert_array_equal(task.head.span.weight.detach().numpy(), qa["qa_outputs/kernel"].T)
