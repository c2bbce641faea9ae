"""The encoder against the golden outputs, padding, positions and seeds."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pretrained_configs.checkpoint import read_checkpoint
from pretrained_configs.config import ModelConfig
from pretrained_configs.published import read_config
from pytorch_modeling import build_model, hidden_states, load_weights, parameter_shapes, save_weights
from pytorch_modeling.layers import position_ids
from tests.support.values import KINDS, SPAN

CONFIG = ModelConfig(
    vocab_size=97,
    hidden_size=32,
    num_hidden_layers=3,
    num_attention_heads=4,
    intermediate_size=48,
    max_position_embeddings=40,
    # As wide as in the golden checkpoints: with std 0.02 a wrong activation hides below the tolerance.
    initializer_range=0.2,
)
#: The golden README: the smallest error of any wrong setting is 6e-5, the noise of float32 1.5e-6.
ATOL = 2e-5


def _batch(seed=0, b=3, s=20):
    random = np.random.RandomState(seed)
    mask = (np.arange(s)[None, :] < np.array([s, s - 5, s - 11])[:, None]).astype(np.int64)
    ids = random.randint(1, CONFIG.vocab_size, (b, s)) * mask
    types = (np.arange(s)[None, :] >= np.array([7, 4, 5])[:, None]).astype(np.int64) * mask
    return ids, mask, types


@pytest.mark.parametrize(
    ("file", "prefix", "atol"),
    [
        ("model.safetensors", "", ATOL),
        ("pytorch_model.bin", "", ATOL),
        ("pytorch_model_noprefix.bin", "", ATOL),
        ("pytorch_model_fp16.bin", "fp16weights_", ATOL),
    ],
)
@pytest.mark.golden
def test_golden_hf_bert_at_all_positions(golden_dir, file, prefix, atol):
    _check_golden(golden_dir, file, None, prefix, atol)


@pytest.mark.golden
def test_golden_hf_bert_with_the_tanh_form(golden_dir):
    _check_golden(golden_dir, "model.safetensors", "gelu_tanh", "tanh_", ATOL)


def _check_golden(golden_dir, file, hidden_act, prefix, atol):
    directory = golden_dir / "checkpoints" / "hf_bert"
    expected = np.load(directory / "expected.npz")
    model = build_model(read_config(directory, hidden_act), None, device="cpu", seed=0)
    report = load_weights(model, read_checkpoint(directory / file), fresh_head=False)
    assert not report.fresh
    found = hidden_states(model, expected["input_ids"], expected["input_mask"], expected["token_type_ids"])
    compared = 0
    pairs = {
        "sequence_output": "sequence_output",
        "pooled_output": "pooled_output",
        "embedding_output": "hidden_state_0",
    }
    pairs |= {f"layer_{i}": f"hidden_state_{i}" for i in (1, 2)}
    for ours, theirs in pairs.items():
        if prefix + theirs in expected.files:
            np.testing.assert_allclose(found[ours], expected[prefix + theirs], atol=atol, err_msg=ours)
            compared += 1
    assert compared >= 1


def test_padding_side_and_length_change_nothing():
    model = build_model(CONFIG, KINDS, device="cpu", seed=1)
    ids, mask, types = _batch()
    rows = [slice(0, int(n)) for n in mask.sum(1)]
    plain = hidden_states(model, ids, mask, types)
    for left, right in ((0, 12), (12, 0), (3, 5)):
        padded = [np.pad(x, ((0, 0), (0, right))) for x in (ids, mask, types)]
        for x in padded:
            for i, row in enumerate(rows):
                # Move each row's real tokens so that its padding stands left and right as asked.
                values = x[i, row].copy()
                x[i] = 0
                start = left if left + row.stop <= x.shape[1] else x.shape[1] - row.stop
                x[i, start : start + row.stop] = values
        found = hidden_states(model, *padded)
        for i, row in enumerate(rows):
            start = int(padded[1][i].argmax())
            np.testing.assert_allclose(
                found["sequence_output"][i, start : start + row.stop], plain["sequence_output"][i, row], atol=1e-5
            )
        np.testing.assert_allclose(found["pooled_output"], plain["pooled_output"], atol=1e-5)


def test_positions_count_from_the_first_real_token():
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 0, 0]])
    assert position_ids(mask).tolist() == [[0, 0, 0, 1, 2], [0, 1, 2, 3, 4]]


def test_same_seed_same_weights_and_another_seed_others():
    first, again, other = (build_model(CONFIG, SPAN, device="cpu", seed=s).head.span.weight for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_building_a_model_leaves_the_global_generator_alone():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    build_model(CONFIG, SPAN, device="cpu", seed=1)
    assert torch.equal(torch.rand(2), expected)


def test_span_models_have_no_pooler_and_kind_models_have_one():
    assert "pooler.weight" not in parameter_shapes(build_model(CONFIG, SPAN, device="cpu"))
    shapes = parameter_shapes(build_model(CONFIG, KINDS, device="cpu"))
    assert shapes["head.kind.weight"] == (3, 32)
    assert shapes["pooler.weight"] == (32, 32)


def test_loading_what_was_saved_is_bit_exact(tmp_path):
    model = build_model(CONFIG, SPAN, device="cpu", seed=4)
    save_weights(model, tmp_path)
    other = build_model(read_config(tmp_path), SPAN, device="cpu", seed=5)
    report = load_weights(other, read_checkpoint(tmp_path), fresh_head=False)
    assert not report.fresh and not report.ignored
    for (name, a), b in zip(model.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b), name
