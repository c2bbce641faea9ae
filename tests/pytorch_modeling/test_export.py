"""What is exported computes what `predict` computes, at every shape, and tells nothing about this machine."""

from __future__ import annotations

import functools
import resource
from pathlib import Path

import numpy as np
import pytest

import pytorch_modeling
from preprocess.types import INPUTS, HeadSpec, Output
from pretrained_configs import families
from pretrained_configs.config import ModelConfig
from pytorch_modeling import build_model, predict
from pytorch_modeling.export import _recorded, export, export_onnx, load_export
from tests.support.values import KINDS, SPAN, span_batch

pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")

LIMIT = 40
SIZES = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": LIMIT,
    "initializer_range": 0.2,
}
#: A head for a choice among windows, and for tags of tokens: neither is part of a span.
OTHERS = HeadSpec(
    (
        Output("tags", reads="token", size=3, loss="tag"),
        Output("chosen", reads="sequence", size=1, loss="choice"),
    )
)
MODELS = {
    "bert": ({}, SPAN),
    "electra": ({"model_type": "electra", "embedding_size": 16, "embedding_projection": "output"}, OTHERS),
    "albert": (
        {
            "model_type": "albert",
            "embedding_size": 16,
            "embedding_projection": "word",
            "layer_norm_type": "preln",
            "ffn_num_groups": 4,
        },
        KINDS,
    ),
    "relative positions": ({"position_embedding_type": "relative_key_query"}, SPAN),
}
#: Families with nothing of their own to choose here.
MODELS |= {name: ({"model_type": name}, KINDS) for name in families.names() if name not in MODELS}


def _batch(n, length, *, seed=0, left=False):
    """Windows of random lengths, filled up on one side."""
    random = np.random.RandomState(seed)
    lengths = random.randint(min(9, length), length + 1, n)
    mask = (np.arange(length) < lengths[:, None]).astype(np.int32)
    types = ((np.arange(length) >= 5) * mask).astype(np.int32)
    if left:
        mask, types = mask[:, ::-1].copy(), types[:, ::-1].copy()
    ids = (random.randint(1, 60, (n, length)) * mask).astype(np.int32)
    window = np.arange(n)
    return span_batch(
        window=window, input_ids=ids, attention_mask=mask, token_type_ids=types, start=window, end=window
    )


@pytest.fixture(scope="module", params=MODELS)
def exported(request, tmp_path_factory):
    """A model of each family, and the directory that holds its two forms."""
    changes, head = MODELS[request.param]
    # Several layers, in two families: one after another, and one used again.
    n_layers = 2 if request.param in ("bert", "albert") else 1
    model = build_model(ModelConfig(**SIZES | {"num_hidden_layers": n_layers} | changes), head, device="cpu", seed=1)
    directory = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch:  # recorded once for both
        patch.setattr("pytorch_modeling.export._recorded", functools.cache(_recorded))
        export(model, directory, [])
        export_onnx(model, directory / "model.onnx")
    return model, directory


@pytest.fixture(scope="module")
def forms(exported):
    """What answers: the name of a form -> its function from inputs to outputs."""
    _, directory = exported
    return {"ExportedProgram": load_export(directory), "ONNX": _onnx(directory / "model.onnx")}


def _limit(model):
    return model.config.family.usable_length(model.config)


def _onnx(path):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda inputs: dict(
        zip(names, session.run(names, {n: x.astype(np.int64) for n, x in inputs.items()}), strict=True)
    )


def test_outputs_are_those_of_predict_at_every_shape(exported, forms):
    model, _ = exported
    batches = [
        _batch(1, min(LIMIT, _limit(model))),
        _batch(5, 33, seed=1),
        _batch(2, 12, seed=2, left=True),
        _batch(1, 1),
    ]
    for batch, expected in zip(batches, predict(model, batches), strict=True):
        for form, served in forms.items():
            found = served({name: batch.inputs[name] for name in INPUTS})
            assert found.keys() == {f"{name}_logits" for name in expected.values}, form
            for output in model.head_spec.outputs:
                ours, theirs = expected.values[output.name], found[f"{output.name}_logits"]
                assert theirs.dtype == np.float32 and theirs.shape == ours.shape, (form, output.name)
                read = batch.inputs["attention_mask"] == 1 if output.reads == "token" else slice(None)
                # Logits are of the order of 1; onnxruntime's kernels add in another order.
                np.testing.assert_allclose(
                    theirs[read], ours[read], atol=2e-5, rtol=0, err_msg=f"{form} {output.name}"
                )


def test_longer_input_than_the_model_has_positions_for_is_refused(exported, forms):
    model, _ = exported
    limit = _limit(model)
    if limit > LIMIT:
        pytest.skip("this family reads inputs of any length")
    inputs = {**_batch(1, limit + 1).inputs, "attention_mask": np.ones((1, limit + 1), np.int32)}
    inputs["input_ids"] = np.maximum(inputs["input_ids"], 2)  # RoBERTa's padding has a position of its own
    with pytest.raises(AssertionError, match=str(limit)):
        forms["ExportedProgram"](inputs)
    if model.config.family.has_position_table:  # NEZHA's distances are computed: its graph would take any length
        with pytest.raises(Exception, match="out of data bounds"):
            forms["ONNX"](inputs)


def test_onnx_says_what_is_free_and_what_is_not(exported):
    model, directory = exported
    session = onnxruntime.InferenceSession(directory / "model.onnx", providers=["CPUExecutionProvider"])
    assert [(x.name, x.type, x.shape) for x in session.get_inputs()] == [
        (name, "tensor(int64)", ["batch", "length"]) for name in INPUTS
    ]
    shapes = {}
    for output in model.head_spec.outputs:
        axes = ["batch", "length"] if output.reads == "token" else ["batch"]
        shapes[f"{output.name}_logits"] = axes + ([output.size] if output.size > 1 else [])
    assert {x.name: x.shape for x in session.get_outputs()} == shapes


def test_files_do_not_tell_where_the_sources_lie(exported):
    _, directory = exported
    place = str(Path(pytorch_modeling.__file__).parent).encode()
    for name in ("model.pt2", "model.onnx"):
        assert place not in (directory / name).read_bytes(), name


def test_full_disk_is_an_error_that_can_be_caught(tmp_path):
    """PyTorch's own writer ends the process there."""
    model = build_model(ModelConfig(**SIZES | {"num_hidden_layers": 1}), SPAN, device="cpu")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            export(model, tmp_path, [])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
