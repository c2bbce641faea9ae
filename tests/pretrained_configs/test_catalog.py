"""The catalogue: every JSON loads, and its facts agree with each other."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from pretrained_configs import catalog
from pretrained_configs.config import CheckpointError
from pretrained_configs.namemap import NameMap


@pytest.mark.parametrize("name", catalog.names())
def test_every_model_is_complete_and_consistent(name):
    model = catalog.lookup(name)
    assert model.name == name and model.hub_id.count("/") == 1
    assert catalog.lookup(model.hub_id) == model
    assert model.max_seq_length <= model.config.max_position_embeddings
    NameMap.load(model.namemap)
    for recipe in model.recipes.values():
        assert recipe["source"]
        assert recipe["max_seq_length"] <= model.max_seq_length
        assert 0 < recipe["learning_rate"] < 1e-3 and recipe["per_device_train_batch_size"] > 0


def test_the_models_needed_now_are_there():
    assert set(catalog.names()) >= {
        "bert-base-chinese",
        "chinese-bert-wwm-ext",
        "chinese-roberta-wwm-ext",
        "chinese-roberta-wwm-ext-large",
    }
    large = catalog.lookup("chinese-roberta-wwm-ext-large").config
    assert (large.hidden_size, large.num_hidden_layers, large.num_attention_heads) == (1024, 24, 16)
    assert large.hidden_act == "gelu" and large.vocab_size == 21128


def test_unknown_model_is_named_with_the_closest():
    with pytest.raises(CheckpointError, match="unknown model 'bert-base-chines'; did you mean 'bert-base-chinese'"):
        catalog.lookup("bert-base-chines")
    with pytest.raises(CheckpointError, match="known: bert-base-chinese, "):
        catalog.lookup("?")


@pytest.mark.realdata
def test_recipes_are_the_published_ones(data_dir: Path):
    rows = {
        "google_bert_base": "bert-base-chinese",
        "hfl bert_wwm_ext_base": "chinese-bert-wwm-ext",
        "hfl roberta_wwm_ext_base": "chinese-roberta-wwm-ext",
        "hfl roberta_wwm_ext_large": "chinese-roberta-wwm-ext-large",
    }
    published = {}
    with (data_dir / "published" / "reference_scores.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["model"] in rows:
                published[rows[row["model"]], row["dataset"]] = {
                    "num_train_epochs": float(row["epochs"]),
                    "per_device_train_batch_size": int(row["batch"]),
                    "learning_rate": float(row["lr"]),
                    "warmup_ratio": float(row["warmup"]),
                    "max_seq_length": int(row["max_len"]),
                }
    ours = {
        (name, task): {key: value for key, value in recipe.items() if key != "source"}
        for name in rows.values()
        for task, recipe in catalog.lookup(name).recipes.items()
    }
    assert ours == published
