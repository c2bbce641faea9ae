"""ModelConfig: what a config.json means, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from preprocess.base.errors import CheckpointError
from pretrained_configs.config import ModelConfig
from pretrained_configs.namemap import NameMap
from pretrained_configs.published import format_of_config, read_config, read_values, write_values

TINY = {
    "vocab_size": 11,
    "hidden_size": 6,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 8,
}


def from_transformers(values: dict, source: str = "x") -> ModelConfig:
    return read_values(values, format_of_config(values, source), source)


def to_transformers(config: ModelConfig, head: str | None = None) -> dict:
    return write_values(config, NameMap.load("transformers_bert"), head)


def test_absent_optional_keys_have_transformers_defaults():
    from transformers import BertConfig

    ours = from_transformers(TINY, "x")
    theirs = BertConfig(**TINY)
    for name in ours.__slots__:
        if not hasattr(theirs, name):
            continue
        assert getattr(ours, name) == getattr(theirs, name), name
    assert ours.layer_norm_eps == 1e-12


@pytest.mark.parametrize(
    ("published", "ours"),
    [("gelu", "gelu"), ("gelu_new", "gelu_tanh"), ("gelu_pytorch_tanh", "gelu_tanh"), ("relu", "relu")],
)
def test_activation_has_the_meaning_of_transformers(published, ours):
    import torch
    from transformers.activations import ACT2FN

    x = torch.linspace(-4, 4, 101, dtype=torch.float64)
    function = {
        "gelu": torch.nn.functional.gelu,
        "gelu_tanh": lambda v: torch.nn.functional.gelu(v, approximate="tanh"),
        "relu": torch.relu,
    }[ours]
    assert from_transformers({**TINY, "hidden_act": published}, "x").hidden_act == ours
    torch.testing.assert_close(ACT2FN[published](x), function(x), atol=1e-12, rtol=0)


@pytest.mark.parametrize("act", ["gelu", "gelu_tanh", "relu"])
def test_writing_and_reading_gives_the_same_config(act):
    config = replace(ModelConfig(**TINY), hidden_act=act, layer_norm_eps=1e-5, pad_token_id=3, type_vocab_size=4)
    assert from_transformers(json.loads(json.dumps(to_transformers(config, "span"))), "x") == config


def test_written_config_builds_the_class_of_the_head():
    config = ModelConfig(**TINY)
    assert to_transformers(config)["architectures"] == ["BertModel"]
    assert to_transformers(config, "span")["architectures"] == ["BertForQuestionAnswering"]
    assert to_transformers(config, "span")["model_type"] == "bert"
    with pytest.raises(CheckpointError, match="head 'spam'.*did you mean 'span'"):
        to_transformers(config, "spam")


@pytest.mark.parametrize(
    ("added", "family", "eps"),
    [
        ({"use_relative_position": True}, "nezha", 1e-12),  # huawei-noah's bert_config.json
        ({"use_task_id": True}, "ernie", 1e-5),  # PaddleNLP's model_config.json
        ({"use_task_id": True, "sent_type_vocab_size": 4}, "ernie", 1e-5),  # ERNIE 2.0's
        ({"sent_type_vocab_size": 4}, "bert", 1e-5),  # ERNIE 1.0's ernie_config.json
        ({"use_relative_position": False, "use_task_id": False}, "bert", 1e-12),
        ({"model_type": "roberta", "type_vocab_size": 2}, "roberta", 1e-12),
    ],
)
def test_authors_configs_without_weights_are_of_their_families(added, family, eps):
    config = from_transformers({**TINY, **added})
    assert (config.model_type, config.layer_norm_eps) == (family, eps)
    assert config.type_vocab_size == added.get("sent_type_vocab_size", 2)


def test_original_google_config_without_model_type_is_a_bert(tmp_path):
    (tmp_path / "bert_config.json").write_text(json.dumps(TINY))
    assert read_config(tmp_path).model_type == "bert"
    (tmp_path / "config.json").write_text(json.dumps({**TINY, "vocab_size": 12}))
    assert read_config(tmp_path).vocab_size == 12  # config.json goes before bert_config.json


def test_hidden_act_overrules_the_file_even_if_the_file_names_an_unknown_one(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**TINY, "hidden_act": "silu"}))
    assert read_config(path, hidden_act="gelu_tanh").hidden_act == "gelu_tanh"
    with pytest.raises(CheckpointError, match="hidden_act 'silu' is not supported"):
        read_config(path)
    with pytest.raises(CheckpointError, match="'gelu_tan'.*did you mean 'gelu_tanh'"):
        read_config(path, hidden_act="gelu_tan")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": None, "vocab_size": None}, "missing 'vocab_size', 'hidden_size'"),
        ({"model_type": "t5"}, "model_type 't5' is not supported .supported: 'albert', 'bert'"),
        ({"model_type": "xlm_roberta"}, "did you mean 'xlm-roberta'"),
        ({"model_type": "brt"}, "did you mean 'bert'"),
        ({"model_type": ["bert"]}, "model_type"),
        ({"hidden_size": "6"}, "hidden_size '6' is not an integer"),
        ({"hidden_size": True}, "hidden_size True is not an integer"),
        ({"num_hidden_layers": 2.0}, "num_hidden_layers 2.0 is not an integer"),
        ({"num_hidden_layers": 0}, "num_hidden_layers 0 is not positive"),
        ({"layer_norm_eps": "1e-12"}, "layer_norm_eps '1e-12' is not a number"),
        ({"layer_norm_eps": float("nan")}, "layer_norm_eps nan is not positive"),
        ({"hidden_dropout_prob": 1.5}, "hidden_dropout_prob 1.5 is not in"),
        ({"num_attention_heads": 4}, "hidden_size 6 is not divisible by num_attention_heads 4"),
        ({"hidden_act": "swish"}, "hidden_act 'swish' is not supported"),
        ({"hidden_act": 3}, "hidden_act 3 is not supported"),
        (
            {"position_embedding_type": "relative_keys"},
            "'relative_keys' is not .* did you mean 'relative_key'",
        ),
        (
            {"position_embedding_type": "relative_key", "model_type": "roberta"},
            "position_embedding_type 'relative_key' is not supported",
        ),
        ({"max_position_embeddings": 2, "model_type": "roberta"}, "leaves no row for a token: 2 are not used"),
        (
            {"hidden_size": 9, "num_attention_heads": 3, "model_type": "nezha"},
            "3 dimensions per head can't be filled",
        ),
        ({"task_type_vocab_size": 4}, "task_type_vocab_size 4 means nothing to model_type 'bert'"),
        ({"is_decoder": True}, "is_decoder True is not supported"),
        ({"pad_token_id": 11}, "pad_token_id 11 is not in the vocabulary of 11"),
        ({"type_vocab_size": 0}, "type_vocab_size 0 is not positive"),
        ({"inner_group_num": 2}, "inner_group_num 2 means nothing to model_type 'bert'"),
        # What PyTorch can't multiply, or would take for ever to build: known before anything is deleted.
        ({"vocab_size": 2**40}, "vocab_size 1099511627776 is more than 2147483647"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers 1000000000 is more than 1000"),
        ({"hidden_size": 3 * 2**29}, r"would take 9.3e\+19 bytes .layers.0.attention.qkv.weight alone has 7.8e\+18"),
        ({"intermediate_size": 10**400}, "intermediate_size 1000.* is more than 2147483647"),
        ({"initializer_range": 1e300}, r"initializer_range 1e\+300 is more than 1e\+18"),
    ],
)
def test_config_that_would_be_computed_wrongly_is_refused(change, message):
    with pytest.raises(CheckpointError, match=message) as error:
        from_transformers({**TINY, **change}, "D/config.json")
    assert str(error.value).startswith("D/config.json: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("sizes", [{"num_hidden_layers": 1000}, {"vocab_size": 2**30, "hidden_size": 3 * 2**19}])
def test_what_is_not_refused_can_be_built(sizes):
    from pytorch_modeling import outline, parameter_shapes

    config = ModelConfig(**{**TINY, **sizes})
    assert parameter_shapes(outline(config, None)) == config.family.parameters(config, pooled=True)


def test_layers_of_an_albert_are_counted_with_their_inner_groups():
    with pytest.raises(CheckpointError, match="^1200 layers are more than 1000$"):
        ModelConfig(**{**TINY, "num_hidden_layers": 600}, model_type="albert", inner_group_num=2)


def test_activation_that_nobody_states_is_the_familys(monkeypatch):
    from pretrained_configs.families import bert

    assert ModelConfig(**TINY).hidden_act == "gelu"
    monkeypatch.setattr(bert, "FAMILY", replace(bert.FAMILY, hidden_act="relu"))
    assert ModelConfig(**TINY).hidden_act == "relu"
    assert ModelConfig(**TINY, hidden_act="gelu").hidden_act == "gelu"


def test_every_problem_of_a_config_is_named_at_once():
    with pytest.raises(CheckpointError) as error:
        from_transformers({**TINY, "hidden_size": "6", "vocab_size": -1}, "x")
    assert "hidden_size" in str(error.value) and "vocab_size" in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[1]", "a JSON object was expected, found a list"),
        (b"\xff{}", "not JSON"),
    ],
)
def test_file_that_is_no_config_is_refused(tmp_path, content, message):
    path = tmp_path / "config.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(CheckpointError, match=message):
        read_config(path)


def test_missing_config_is_one_line(tmp_path):
    with pytest.raises(CheckpointError, match="no such file"):
        read_config(tmp_path / "config.json")
    with pytest.raises(CheckpointError, match="no config.json"):
        read_config(tmp_path)


@pytest.mark.golden
def test_golden_config_is_read(golden_dir: Path):
    config = read_config(golden_dir / "checkpoints" / "hf_bert")
    assert (config.vocab_size, config.hidden_size, config.num_hidden_layers) == (1200, 32, 2)
    assert (config.hidden_act, config.max_position_embeddings) == ("gelu", 48)
