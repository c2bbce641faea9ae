"""transformers' own classes of every family it has: their files here and ours there, in both backends."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest
import torch

from preprocess.types import NO_TARGET, Batch, HeadSpec
from pretrained_configs.checkpoint import read_checkpoint
from tests.support.values import SPAN, span_batch

transformers = pytest.importorskip("transformers")

SIZES = {
    "vocab_size": 97,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 40,
}
GROUPED = {"num_hidden_layers": 4, "num_hidden_groups": 2, "inner_group_num": 2}

#: id -> transformers' name of the family, and its configuration.
FAMILIES = {
    "bert": ("Bert", {}),
    "bert-tanh": ("Bert", {"hidden_act": "gelu_new", "layer_norm_eps": 1e-3}),
    "bert-relu": ("Bert", {"hidden_act": "relu"}),
    "albert": ("Albert", {"embedding_size": 16}),
    "albert-square": ("Albert", {"embedding_size": 32, "hidden_act": "gelu"}),
    "albert-grouped": ("Albert", {"embedding_size": 16, **GROUPED}),
    "albert-grouped-square": ("Albert", {"embedding_size": 32, **GROUPED}),
    "electra": ("Electra", {"embedding_size": 16}),
    "electra-square": ("Electra", {"embedding_size": 32, "hidden_act": "gelu_new"}),
    "roberta": ("Roberta", {"type_vocab_size": 1, "layer_norm_eps": 1e-5}),
    "roberta-segments": ("Roberta", {"type_vocab_size": 2, "pad_token_id": 3}),
    "xlm-roberta": ("XLMRoberta", {"type_vocab_size": 1, "layer_norm_eps": 1e-5, "max_position_embeddings": 22}),
    "ernie": ("Ernie", {"hidden_act": "relu", "layer_norm_eps": 1e-5}),
    "ernie-tasks": ("Ernie", {"use_task_id": True, "task_type_vocab_size": 5, "type_vocab_size": 4}),
}
#: Families whose own programs find the padding by its id: they number tokens, and padding has one row.
COUNTING = ("roberta", "xlm-roberta")

#: The weights are the very same, so only float32's rounding is left. Relative to the largest output (below 5) it was
#: 9.9e-7 at most, over 13 seeds of the weights, all families, both backends and both padding sides; a CPU that sums
#: in another order may round worse. A wrong setting is well above: the smallest error of one in the golden README is
#: 6e-5, or 1.2e-5 of 5; in these models an epsilon of 1e-5 makes 3.1e-5 of the largest output, another GELU 9e-5.
ROUNDING = 3e-6


@pytest.fixture(params=["pytorch_modeling", "tf_modeling"])
def backend(request):
    if request.param == "tf_modeling":
        pytest.importorskip("tensorflow")
    return importlib.import_module(request.param)


@pytest.fixture(params=FAMILIES)
def family(request):
    return request.param


def _build(family: str, head: str) -> torch.nn.Module:
    """Make one of transformers' models, with no weight at its default: one that is swapped or skipped shows."""
    name, changes = FAMILIES[family]
    config = getattr(transformers, f"{name}Config")(**{**SIZES, **changes})
    # SDPA and eager attention are the same formula; the second is the one in the papers.
    config._attn_implementation = "eager"
    model = getattr(transformers, f"{name}{head}")(config).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            mean = 1.0 if key.lower().endswith(("layernorm.weight", "layer_norm.weight")) else 0.0
            parameter.normal_(mean, 0.1, generator=generator)
    return model


def _batch(side: str, model: torch.nn.Module) -> Batch:
    """Draw three rows of 20, 15 and 9 tokens, with padding on one side."""
    config = model.config
    pad = config.pad_token_id
    random = np.random.RandomState(1)
    n, length = 3, 20
    real = np.array([20, 15, 9])[:, None]
    place = np.arange(length) - (0 if side == "right" else length - real)
    mask = ((place >= 0) & (place < real)).astype(np.int32)
    zeros = np.zeros(n, np.int32)
    return span_batch(
        window=np.arange(n, dtype=np.int32),
        input_ids=np.where(mask, random.randint(pad + 1, SIZES["vocab_size"], (n, length)), pad).astype(np.int32),
        attention_mask=mask,
        token_type_ids=np.minimum((place >= 5) * mask, config.type_vocab_size - 1).astype(np.int32),
        start=zeros,
        end=zeros,
        kind=np.full(n, NO_TARGET, np.int32),
    )


def _theirs(model: torch.nn.Module, batch: Batch):
    """Run transformers' model, whose positions count from the left edge unless it is told otherwise."""
    names = ("input_ids", "attention_mask", "token_type_ids")
    inputs = {name: torch.from_numpy(batch.inputs[name].astype(np.int64)) for name in names}
    if not batch.inputs["attention_mask"][:, 0].all() and model.config.model_type not in COUNTING:
        inputs["position_ids"] = (inputs["attention_mask"].cumsum(1) - 1).clamp(min=0)
    with torch.inference_mode():
        return model(**inputs, output_hidden_states=True)


def _assert_close(found: np.ndarray, expected: torch.Tensor, where: np.ndarray, name: str) -> None:
    values = expected.numpy()[where]
    np.testing.assert_allclose(found[where], values, atol=ROUNDING * np.abs(values).max(), rtol=0, err_msg=name)


def _load(backend, model, directory: Path, head: HeadSpec | None):
    """Have transformers save its model, and load that as a user would."""
    model.save_pretrained(directory)
    checkpoint = read_checkpoint(directory)
    ours = backend.build_model(checkpoint.config, head, device="cpu", seed=9)
    report = backend.load_weights(ours, checkpoint, fresh_head=True)
    # transformers' ELECTRA has no pooler.
    assert set(report.fresh) <= {"pooler.weight", "pooler.bias"} and not report.ignored
    return ours


def _assert_saved_is_the_same(backend, ours, model: torch.nn.Module, directory: Path) -> None:
    """Save ours and open it in transformers: nothing made up or left out, and bit for bit what `model` computes."""
    if model.config.model_type == "ernie" and not model.config.use_task_id:
        return  # which is saved as the BERT that it is
    directory.mkdir()
    backend.save_weights(ours, directory)
    again, info = type(model).from_pretrained(directory, output_loading_info=True, attn_implementation="eager")
    poolers = {"pooler_outputs.weight", "pooler_outputs.bias"} if model.config.model_type == "electra" else set()
    assert set(info["unexpected_keys"]) <= poolers and not info["missing_keys"] and not info["mismatched_keys"]
    expected = model.state_dict()
    assert list(again.state_dict()) == list(expected)
    for name, tensor in again.state_dict().items():
        assert torch.equal(tensor, expected[name]), name
    # The first output sees the configuration too: the last layer's states, or the start logits.
    batch = _batch("right", model)
    assert torch.equal(_theirs(again.eval(), batch)[0], _theirs(model, batch)[0])


@pytest.mark.parity
def test_every_layer_equals_transformers_and_saving_is_bit_exact(tmp_path, backend, family):
    model = _build(family, "Model")
    ours = _load(backend, model, tmp_path / "theirs", None)
    for side in ("right", "left"):
        batch = _batch(side, model)
        expected = _theirs(model, batch)
        found = backend.hidden_states(
            ours, batch.inputs["input_ids"], batch.inputs["attention_mask"], batch.inputs["token_type_ids"]
        )
        layers = {f"layer_{i}": values for i, values in enumerate(expected.hidden_states)}
        assert list(layers) == [name for name in found if name.startswith("layer_")]
        for name, values in layers.items():
            # Padding has a state, too: on the right, and where it has a row of its own, the very same.
            compared = (batch.inputs["attention_mask"] == 1) | (
                side == "right" or model.config.model_type in COUNTING
            )
            _assert_close(found[name], values, compared, f"{side} {name}")
        if side == "right" and not family.startswith("electra"):  # theirs pools padding, or has no pooler
            _assert_close(found["pooled_output"], expected.pooler_output, np.full(3, True), "pooled_output")
    _assert_saved_is_the_same(backend, ours, model, tmp_path / "ours")


@pytest.mark.parity
def test_span_logits_equal_transformers_and_saving_is_bit_exact(tmp_path, backend, family):
    model = _build(family, "ForQuestionAnswering")
    ours = _load(backend, model, tmp_path / "theirs", SPAN)
    batches = {side: _batch(side, model) for side in ("right", "left")}
    for (side, batch), found in zip(batches.items(), backend.predict(ours, batches.values()), strict=True):
        expected = _theirs(model, batch)
        _assert_close(
            found.values["start"], expected.start_logits, batch.inputs["attention_mask"] == 1, f"{side} start"
        )
        _assert_close(found.values["end"], expected.end_logits, batch.inputs["attention_mask"] == 1, f"{side} end")
    _assert_saved_is_the_same(backend, ours, model, tmp_path / "ours")
