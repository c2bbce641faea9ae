"""Names of models that were saved inside something: the same model, and one line that says what was taken off."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from preprocess.base.errors import CheckpointError
from pretrained_configs.checkpoint import read_checkpoint
from pretrained_configs.config import ModelConfig
from pretrained_configs.formats.safetensors_file import write_safetensors
from pretrained_configs.parameters import parameter_shapes
from pretrained_configs.published import format_for
from pretrained_configs.wrappers import wrappings
from pretrained_configs.writer import write_checkpoint

BERT = ModelConfig(
    vocab_size=11,
    hidden_size=4,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=6,
    max_position_embeddings=5,
)
WHY = "which a program that wraps models has put in"
SHAPES = parameter_shapes(BERT, pooled=False, heads={"span": 2})


@pytest.fixture
def ours() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {name: random.standard_normal(shape).astype(np.float32) for name, shape in SHAPES.items()}


def _save(directory: Path, ours: dict[str, np.ndarray], rename: Callable[[str], str], target: str) -> Path:
    namemap = format_for(BERT, target)
    write_checkpoint(directory, BERT, ours, namemap)
    stored = {rename(name): array for name, array in namemap.to_theirs(ours).items()}
    for path in directory.glob("*.ckpt.*"):
        path.unlink()
    write_safetensors(directory / "model.safetensors", stored)
    return directory


#: How the names came about -> the stored name of a published one, and what has to be taken off.
WRAPPED = {
    "DataParallel": (lambda name: "module." + name, ["module."]),
    "torch.compile": (lambda name: "_orig_mod." + name, ["_orig_mod."]),
    "compiled, then distributed": (lambda name: "module._orig_mod." + name, ["module.", "_orig_mod."]),
    "distributed, then compiled": (lambda name: "_orig_mod.module." + name, ["_orig_mod.", "module."]),
    "FSDP": (lambda name: "_fsdp_wrapped_module." + name, ["_fsdp_wrapped_module."]),
    "the encoder alone compiled": (lambda name: name.replace("bert.", "bert._orig_mod.", 1), ["_orig_mod."]),
    "each layer compiled": (lambda name: name.replace("layer.1.", "layer.1._orig_mod.", 1), ["_orig_mod."]),
    "layers checkpointed": (
        lambda name: name.replace("layer.0.", "layer.0._checkpoint_wrapped_module.", 1),
        ["_checkpoint_wrapped_module."],
    ),
    "Lightning": (lambda name: "model." + name, ["model."]),
    "Lightning, compiled": (lambda name: "model._orig_mod." + name, ["_orig_mod.", "model."]),
    "compiled Lightning, distributed": (
        lambda name: "module._orig_mod.model." + name,
        ["module.", "_orig_mod.", "model."],
    ),
    "a module in a module": (lambda name: "net.backbone." + name, ["net.backbone."]),
    "an attribute of the encoder's own name": (lambda name: "bert." + name, ["bert."]),
}


def test_bert_that_its_config_calls_a_roberta_is_a_bert(tmp_path, ours):
    """CLUE's roberta_chinese models, which their authors load with BertModel; a RoBERTa has one token type."""
    _save(tmp_path, ours, str, "transformers")
    path = tmp_path / "config.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "model_type": "roberta"}))
    checkpoint = read_checkpoint(tmp_path)
    assert checkpoint.config == BERT and checkpoint.wrapping.taken_off == ()
    with checkpoint.stream(SHAPES, fresh_head=False) as (report, tensors):
        assert all(np.array_equal(ours[name], array) for name, array in tensors)
    assert [line.split()[1:4] for line in report.lines() if "note" in line] == [["config.json", "calls", "the"]]
    # A RoBERTa that some program keeps in an attribute called "bert" is one.
    path.write_text(json.dumps({**values, "model_type": "roberta", "type_vocab_size": 1}))
    assert read_checkpoint(tmp_path).config.model_type == "roberta"


@pytest.mark.parametrize("how", WRAPPED)
def test_wrapped_model_is_the_same_model_and_it_is_said_what_was_taken_off(tmp_path, ours, how):
    rename, taken_off = WRAPPED[how]
    checkpoint = read_checkpoint(_save(tmp_path, ours, rename, "transformers"))
    assert checkpoint.namemap.name == "transformers_bert"
    with checkpoint.stream(SHAPES, fresh_head=False) as (report, tensors):
        found = dict(tensors)
    assert all(np.array_equal(found[name], array) for name, array in ours.items())
    said = [line for line in report.lines() if line.startswith("  note ")]
    assert said == [f"  note     names are read without {' and '.join(map(repr, taken_off))}, {WHY}"]


@pytest.mark.parametrize("scope", ["model/", "tower/model/"])
def test_scope_of_a_tensorflow_program_is_taken_off(tmp_path, ours, scope):
    checkpoint = read_checkpoint(_save(tmp_path, ours, lambda name: scope + name, "tf1"))
    assert checkpoint.namemap.name == "google_bert"
    with checkpoint.stream(SHAPES, fresh_head=False) as (_, tensors):
        assert all(np.array_equal(ours[name], array) for name, array in tensors)


@pytest.mark.parametrize("rename", [lambda name: name, lambda name: name.removeprefix("bert.")])
def test_published_names_are_left_as_they_are(tmp_path, ours, rename):
    encoder = {name: array for name, array in ours.items() if not name.startswith("head.")}
    checkpoint = read_checkpoint(_save(tmp_path, encoder, rename, "transformers"))
    assert checkpoint.wrapping.taken_off == ()
    report = checkpoint.check(SHAPES, fresh_head=True)
    assert not report.notes and report.fresh == ["head.span.weight", "head.span.bias"]


def test_a_prefix_is_not_taken_off_for_nothing(tmp_path, ours):
    """A file of another architecture stays what it is, and the refusal names what all its names begin with."""
    _save(tmp_path, ours, lambda name: name, "transformers")
    write_safetensors(tmp_path / "model.safetensors", {"net.conv.weight": np.ones((2, 2), np.float32)})
    with pytest.raises(CheckpointError, match=r"no known format: net\.conv\.weight .*names begin with 'net\.conv\.'"):
        read_checkpoint(tmp_path)


def test_what_is_wrong_beside_the_prefix_is_said_together_with_it(tmp_path, ours):
    lacking = {name: array for name, array in ours.items() if name != "embeddings.norm.bias"}
    checkpoint = read_checkpoint(_save(tmp_path, lacking, lambda name: "model." + name, "transformers"))
    with pytest.raises(
        CheckpointError, match=r"1 parameter missing: embeddings\.norm\.bias.*without 'model\.'"
    ) as error:
        checkpoint.check(SHAPES, fresh_head=False)
    assert "\n" not in str(error.value)


def test_tensors_beside_the_wrapped_model_are_what_the_refusal_names(tmp_path, ours):
    """A loss with class weights, say: that it is there is the problem, not the 20 names that begin with "model."."""
    _save(tmp_path, ours, lambda name: "model." + name, "transformers")
    stored = {f"model.{key}": x for key, x in format_for(BERT, "transformers").to_theirs(ours).items()}
    write_safetensors(tmp_path / "model.safetensors", {**stored, "loss.weight": np.ones(2, np.float32)})
    with pytest.raises(CheckpointError, match=r"1 source tensor unmapped: loss\.weight \(.*read without 'model\.'"):
        read_checkpoint(tmp_path).check(SHAPES, fresh_head=False)


def test_file_that_changes_after_it_was_found_is_not_read_as_another(tmp_path, ours):
    checkpoint = read_checkpoint(_save(tmp_path, ours, lambda name: name, "transformers"))
    write_safetensors(tmp_path / "model.safetensors", {"bert.embeddings.LayerNorm.bias": np.ones(4, np.float32)})
    with pytest.raises(CheckpointError, match="has changed since it was first read"):
        checkpoint.check(SHAPES, fresh_head=True)


def test_file_that_gets_other_values_after_it_was_found_is_not_read(tmp_path, ours):
    """Names and shapes tell nothing, and a Record would hold the hash of the first one."""
    checkpoint = read_checkpoint(_save(tmp_path, ours, lambda name: name, "transformers"))
    path = tmp_path / "model.safetensors"
    before = path.stat()
    with checkpoint.open() as tensors:
        values = {name: np.asarray(tensor.read()) for name, tensor in tensors.items()}
    write_safetensors(path, {name: value + 1 for name, value in values.items()})
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 10**9))  # not within the clock's last tick
    assert path.stat().st_size == before.st_size
    with pytest.raises(CheckpointError, match="has changed since it was first read"):
        checkpoint.check(SHAPES, fresh_head=True)


def test_names_that_would_be_equal_without_torchs_parts_are_left_alone():
    names = ["module.a.weight", "a.weight"]
    (way,) = wrappings(names)
    assert way.taken_off == () and way.stored == dict(zip(names, names, strict=True))
    assert [way.taken_off for way in wrappings(["m.a.weight", "m.b.weight", "a.weight"])] == [()]


def test_the_wrong_configuration_of_a_wrapped_model_is_said_as_of_a_bare_one(tmp_path, ours):
    _save(tmp_path, ours, lambda name: "model." + name, "transformers")
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "hidden_act": "swish"}))
    with pytest.raises(CheckpointError, match="hidden_act 'swish' is not supported"):
        read_checkpoint(tmp_path)
