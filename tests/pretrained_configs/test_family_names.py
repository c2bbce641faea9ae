"""Names of RoBERTa and XLNet: in tf_model.h5, and where no configuration says which family it is."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from pretrained_configs.checkpoint import read_checkpoint
from pretrained_configs.config import ModelConfig
from pretrained_configs.formats.reader import write_safetensors
from pretrained_configs.namemap import NameMap
from pretrained_configs.parameters import parameter_shapes
from pretrained_configs.published import write_values

h5py = pytest.importorskip("h5py")

SIZES = {"vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
#: family -> how its Keras classes' names begin, and a head of pre-training: PyTorch's name -> shape.
FAMILIES = {
    "roberta": ("tf_roberta", {"lm_head.bias": (97,), "lm_head.layer_norm.weight": (32,)}),
    "xlm-roberta": ("tfxlm_roberta", {"lm_head.bias": (97,), "lm_head.layer_norm.weight": (32,)}),
    "xlnet": ("tfxl_net", {"lm_loss.bias": (97,), "transformer.mask_emb": (1, 1, 32)}),
}


def keras(name: str, values: np.ndarray, model: str) -> tuple[str, np.ndarray]:
    """Return the dataset that transformers 4's Keras class keeps a PyTorch parameter in."""
    *parts, leaf = name.split(".")
    is_norm, is_table = "norm" in parts[-1].lower(), "embedding" in parts[-1]
    if leaf == "weight":
        word = parts[-1].startswith("word_")
        leaf = ("weight" if word else "embeddings") if is_table else "gamma" if is_norm else "kernel"
    elif leaf == "bias" and is_norm:
        leaf = "beta"
    path = re.sub(r"/layer/(\d+)/", r"/layer_._\1/", "/".join([*parts, leaf]))
    return f"{parts[0]}/{model}/{path}:0", values.T if leaf == "kernel" else values


@pytest.mark.parametrize("head", ["span", "pretraining"])
@pytest.mark.parametrize("family", FAMILIES)
def test_keras_h5_has_pytorch_s_names_and_layout(tmp_path: Path, family: str, head: str) -> None:
    classes, others = FAMILIES[family]
    config = ModelConfig(**SIZES, intermediate_size=48, model_type=family, pad_token_id=5)
    namemap = NameMap.load(f"transformers_{family.replace('-', '_')}")
    random = np.random.RandomState(0)
    shapes = parameter_shapes(config, pooled=True, heads={"span": 2} if head == "span" else {})
    ours = {name: random.randn(*shape).astype(np.float32) for name, shape in shapes.items()}
    stored = namemap.to_theirs(ours, config.num_attention_heads)
    if head == "pretraining":
        stored |= {name: np.zeros(shape, np.float32) for name, shape in others.items()}
    (tmp_path / "config.json").write_text(json.dumps(write_values(config, namemap)), "utf-8")
    with h5py.File(tmp_path / "tf_model.h5", "w") as file:
        for name, values in stored.items():
            key, values = keras(name, values, f"{classes}_model")
            file.create_dataset(key, data=values)
    checkpoint = read_checkpoint(tmp_path)
    with checkpoint.open() as source:
        assert set(source) == set(stored)
    with checkpoint.stream(shapes, fresh_head=False) as (report, tensors):
        found = dict(tensors)
    assert not report.notes and found.keys() == ours.keys()
    assert all(np.array_equal(found[name], ours[name]) for name in ours)
    assert {name for name, _ in report.ignored} == (set(others) if head == "pretraining" else set())


def test_roberta_s_names_say_so_where_the_configuration_does_not(tmp_path: Path) -> None:
    # Configurations of 2019 have no model_type; read as BERT, all positions would be two rows too low.
    config = ModelConfig(**SIZES, intermediate_size=48, model_type="roberta", pad_token_id=1)
    shapes = parameter_shapes(config, pooled=True)
    stored = NameMap.load("transformers_roberta").to_theirs({k: np.zeros(s, np.float32) for k, s in shapes.items()})
    (tmp_path / "config.json").write_text(json.dumps({**SIZES, "intermediate_size": 48}), "utf-8")
    for names in (stored, {f"model.{name}": values for name, values in stored.items()}):
        write_safetensors(tmp_path / "model.safetensors", names)
        found = read_checkpoint(tmp_path).config
        assert (found.model_type, found.pad_token_id) == ("roberta", 1)
