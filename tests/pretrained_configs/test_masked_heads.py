"""The head that guesses hidden pieces: read from published files, and written as transformers reads it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from preprocess.base.errors import CheckpointError
from preprocess.types import NO_TARGET, PLACES, Batch
from pretrained_configs.checkpoint import read_checkpoint
from pretrained_configs.config import ModelConfig
from pretrained_configs.namemap import NameMap
from pretrained_configs.parameters import parameter_shapes
from pytorch_modeling import load_model, save_weights
from pytorch_modeling.model import to_tensors
from tasks.problems.masked_lm import PIECE, MaskedProblem

HEAD = MaskedProblem.head
SIZES = {
    "vocab_size": 61, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40,
    "max_position_embeddings": 20, "type_vocab_size": 2,
}  # fmt: skip
#: What transformers calls a model -> what its configuration has beside the sizes.
CLASSES = {
    "Bert": {},
    "Roberta": {"type_vocab_size": 1, "layer_norm_eps": 1e-5},
    "XLMRoberta": {"type_vocab_size": 1},
    "Albert": {"embedding_size": 10, "hidden_act": "gelu_new"},
    "Electra": {"embedding_size": 10},
    "Ernie": {"use_task_id": True, "task_type_vocab_size": 3},
}
AT = np.array([[2, 5], [1, 3]], np.int32)
#: The sum of 24 products, some dozen times in a row.
TOLERANCE = 2e-5


def _batch():
    ids = np.random.RandomState(0).randint(2, 61, (2, 8)).astype(np.int32)
    ones = np.ones_like(ids)
    inputs = {"input_ids": ids, "attention_mask": ones, "token_type_ids": 0 * ones, PLACES: AT}
    index = np.arange(2, dtype=np.int32)
    return Batch(index, index, inputs, {PIECE: np.full(AT.shape, NO_TARGET, np.int32)})


def _published(name):
    import transformers

    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**{**SIZES, **CLASSES[name]})
    model = getattr(transformers, f"{name}ForMaskedLM")(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # biases, too: else one that is lost would not show
            parameter.normal_(0.0, 0.3)
    return model


def _expected(model):
    batch = _batch()
    ids, mask = (torch.from_numpy(batch.inputs[name]).long() for name in ("input_ids", "attention_mask"))
    with torch.no_grad():
        scores = model(input_ids=ids, attention_mask=mask).logits
    return scores[torch.arange(2)[:, None], torch.from_numpy(AT).long()].numpy()


def _computed(model):
    with torch.no_grad():
        return model(to_tensors(_batch(), torch.device("cpu")))[PIECE].numpy()


@pytest.mark.parity
@pytest.mark.parametrize("name", CLASSES)
def test_a_published_head_is_read_and_written_back(name, tmp_path):
    import transformers

    published = _published(name)
    published.save_pretrained(tmp_path / "published")
    model, report = load_model(read_checkpoint(tmp_path / "published"), HEAD, device="cpu", fresh_head=True)
    assert report.fresh == []
    expected = _expected(published)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(_computed(model), expected, rtol=0, atol=TOLERANCE * scale)
    (tmp_path / "ours").mkdir()
    save_weights(model, tmp_path / "ours")
    config = json.loads((tmp_path / "ours/config.json").read_text())
    assert config["architectures"] == [f"{name}ForMaskedLM"]
    again, loading = getattr(transformers, f"{name}ForMaskedLM").from_pretrained(
        tmp_path / "ours", output_loading_info=True
    )
    assert not loading["missing_keys"] and not loading["unexpected_keys"]
    np.testing.assert_allclose(_expected(again.eval()), expected, rtol=0, atol=TOLERANCE * scale)


@pytest.mark.parametrize(
    ("namemap", "config", "prefix"),
    [
        ("google_bert", {}, "cls/predictions/"),
        ("google_nezha", {"model_type": "nezha"}, "cls/predictions/"),
        ("google_albert", {"model_type": "albert", "embedding_size": 10, "embedding_projection": "output"},
         "cls/predictions/"),
        ("albert_zh", {"model_type": "albert", "embedding_size": 10, "embedding_projection": "word"},
         "cls/predictions/"),
    ],
)  # fmt: skip
def test_google_s_names_hold_the_head(namemap, config, prefix):
    shapes = parameter_shapes(ModelConfig(**SIZES, **config), pooled=False, tied=HEAD.tied)
    random = np.random.RandomState(0)
    ours = {name: random.randn(*shape).astype(np.float32) for name, shape in shapes.items()}
    theirs = NameMap.load(namemap).to_theirs(ours)
    assert (theirs[prefix + "output_bias"] == ours["head.piece.bias"]).all()
    assert (theirs[prefix + "transform/dense/kernel"] == ours["head.piece.dense.weight"].T).all()
    assert (theirs[prefix + "transform/LayerNorm/gamma"] == ours["head.piece.norm.weight"]).all()
    back, report = NameMap.load(namemap).to_ours(theirs, shapes)
    assert report.fresh == [] and all((back[name] == ours[name]).all() for name in ours)
    # Fine-tuning has no such head: it is reported as it always was.
    encoder = parameter_shapes(ModelConfig(**SIZES, **config), pooled=False)
    _, report = NameMap.load(namemap).to_ours(theirs, encoder)
    assert {reason for key, reason in report.ignored if key.startswith(prefix)} == {"pre-training heads"}
    assert NameMap.load(namemap).heads_in(theirs) == {}


def test_a_checkpoint_without_the_head_gets_a_fresh_one_and_half_a_head_is_refused():
    shapes = parameter_shapes(ModelConfig(**SIZES), pooled=False, tied=HEAD.tied)
    ours = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    names = NameMap.load("transformers_bert")
    theirs = names.to_theirs(ours)
    encoder = {name: x for name, x in theirs.items() if not name.startswith("cls.")}
    assert names.report(encoder, shapes).fresh == [name for name in shapes if name.startswith("head.")]
    del theirs["cls.predictions.transform.dense.bias"]
    with pytest.raises(CheckpointError, match=r"head\.piece\.dense\.bias"):
        names.to_ours(theirs, shapes)
