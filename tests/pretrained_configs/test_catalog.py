"""The catalogue: every JSON loads, its facts agree with each other and with what is published."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import fields
from pathlib import Path

import pytest

from experiment.options.flags import TrainOptions
from preprocess.base.errors import CheckpointError
from pretrained_configs import catalog
from pretrained_configs.catalog import NAMEMAPS, SCHEMA, n_parameters
from pretrained_configs.config import ModelConfig
from pretrained_configs.namemap import NameMap
from tasks.core.discovery import task_names

DIRECTORY = Path(catalog.__file__).parent / "models"
MANUAL = Path(catalog.__file__).parents[1] / "docs" / "adding-a-checkpoint.md"

#: Short name -> published number of parameters in millions: HFL's, brightmart's and PaddleNLP's READMEs, the rows of
#: the papers of BERT (which round 109 to 110 and 335 to 340), RoBERTa and XLM-R, and the sizes given with conversions
#: of Google's Chinese ALBERT.
PUBLISHED_SIZES = {
    "bert-base-chinese": 102,
    "bert-base-uncased": 110,
    "bert-large-uncased": 340,
    "chinese-bert-wwm": 102,
    "chinese-roberta-wwm-ext": 102,
    "chinese-roberta-wwm-ext-large": 325,
    "rbt3": 38,
    "rbtl3": 61,
    "chinese-macbert-base": 102,
    "chinese-macbert-large": 324,
    "chinese-lert-small": 15,
    "chinese-lert-base": 102,
    "chinese-lert-large": 325,
    "chinese-electra-180g-small-discriminator": 12,
    "chinese-electra-180g-small-ex-discriminator": 25,
    "chinese-electra-180g-base-discriminator": 102,
    "chinese-electra-180g-large-discriminator": 324,
    "albert-zh-tiny": 4,
    "albert-zh-large": 17,
    "albert-zh-xlarge": 59,
    "albert-google-base-zh": 10.5,
    "albert-google-xxlarge-zh": 222,
    "roberta-base": 125,
    "roberta-large": 355,
    "xlm-roberta-large": 550,
    "ernie-3.0-nano-zh": 18,
    "ernie-3.0-micro-zh": 23,
    "ernie-3.0-mini-zh": 27,
    "ernie-3.0-medium-zh": 75,
    "ernie-3.0-base-zh": 118,
    "ernie-3.0-xbase-zh": 296,
    "minirbt-h256": 10.4,
    "minirbt-h288": 12.3,
    "chinese-xlnet-base": 117,
    "chinese-xlnet-mid": 209,
}

WANTED = set(PUBLISHED_SIZES) | {
    *("bert-base-cased", "bert-large-cased"),
    *("bert-large-uncased-whole-word-masking", "bert-large-cased-whole-word-masking"),
    *("chinese-bert-wwm-ext", "rbt4", "rbt6", "chinese-pert-base", "chinese-pert-large"),
    *("roberta-zh-l12", "roberta-zh-l24-middle", "roberta-zh-large"),
    *("albert-zh-base", "albert-zh-xxlarge", "albert-zh-tiny-google", "albert-zh-small-google"),
    *("albert-google-large-zh", "albert-google-xlarge-zh"),
    *("ernie-1.0-base-zh", "sibert-base", "sialbert-middle"),
    *("xlm-roberta-base", "infoxlm-base", "infoxlm-large", "Multilingual-MiniLM-L12-H384", "multilingual-e5-small"),
    *("all-MiniLM-L6-v2", "bert-base-multilingual-cased", "mengzi-bert-base", "nezha-cn-base"),
    *("bert-base-uncased-embedding-relative-key", "bert-base-uncased-embedding-relative-key-query"),
    "bert-large-uncased-whole-word-masking-embedding-relative-key-query",
    *("chinese_roberta_L-2_H-128", "chinese_roberta_L-4_H-256", "chinese_roberta_L-4_H-512"),
    *("chinese_roberta_L-8_H-512", "roberta-base-chinese-extractive-qa"),
    *("roberta-base-squad2", "bert-base-cased-squad2", "xlm-roberta-base-squad2", "xlm-roberta-large-squad2"),
    *("xlnet-base-cased", "xlnet-large-cased"),
}
#: Kind of tokenizer -> the files of which one is needed.
VOCABULARIES = {
    "wordpiece": {"vocab.txt", "vocab_chinese.txt"},
    "unigram": {"spiece.model", "sentencepiece.bpe.model", "tokenizer.json"},
    "byte_bpe": {"vocab.json"},
}
#: Map of names -> the family of all its models, where that is not BERT.
FAMILIES = {
    "transformers_roberta": "roberta",
    "transformers_xlm_roberta": "xlm-roberta",
    "transformers_ernie_tasks": "ernie",
    "transformers_nezha": "nezha",
    "transformers_xlnet": "xlnet",
}


@pytest.mark.parametrize("name", catalog.names())
def test_every_model_is_complete_and_consistent(name):
    values = json.loads((DIRECTORY / f"{name}.json").read_text(encoding="utf-8"))
    assert list(values) == list(SCHEMA)
    model = catalog.lookup(name)
    assert model.name == name
    assert model.config == ModelConfig(**values["architecture"])
    assert model.max_seq_length <= model.config.max_position_embeddings
    assert model.namemap in NAMEMAPS
    assert model.max_seq_length <= model.config.family.usable_length(model.config)
    assert VOCABULARIES[model.tokenizer] & set(model.files)
    assert model.homepage.startswith("https://") and model.download.startswith("https://")
    assert model.notes and all(note.isascii() and note.endswith(".") for note in model.notes)
    if model.hub_id:
        assert catalog.lookup(model.hub_id) is catalog.find(model.hub_id) is model
        assert model.hub_id.split("/")[1] == name and model.namemap.startswith("transformers_")


@pytest.mark.parametrize("name", catalog.names())
def test_the_projection_of_the_embeddings_fits_the_format(name):
    model = catalog.lookup(name)
    config, projection = model.config, model.config.embedding_projection
    if model.namemap in ("albert_zh", "reference_albert"):
        assert (config.model_type, projection) == ("albert", "word")
    elif model.namemap == "google_albert":
        assert (config.model_type, projection) == ("albert", "output")
    elif model.namemap == "transformers_electra":
        assert config.model_type == "electra"
        assert projection == ("none" if config.embedding_size == config.hidden_size else "output")
    else:
        assert (config.model_type, projection) == (FAMILIES.get(model.namemap, "bert"), "none")


@pytest.mark.parametrize("name", catalog.names())
def test_recipes_name_real_tasks_and_options_and_their_source(name):
    model = catalog.lookup(name)
    assert set(model.recipes) <= set(task_names())
    for recipe in model.recipes.values():
        assert set(recipe) <= {f.name for f in fields(TrainOptions)} | {"source"}
        assert recipe["source"] and 0 < recipe["learning_rate"] < 1e-3
        assert recipe.get("max_seq_length", 0) <= model.max_seq_length


def test_models_of_a_short_position_limit_have_recipes_within_it():
    # Without one, the task's default of 512 tokens would be refused.
    for name in catalog.names():
        model = catalog.lookup(name)
        if model.max_seq_length < 512:
            assert {recipe["max_seq_length"] for recipe in model.recipes.values()} == {model.max_seq_length}, name


def test_the_published_models_are_there():
    assert set(catalog.names()) >= WANTED


@pytest.mark.parametrize("namemap", NAMEMAPS)
def test_every_name_map_that_a_model_may_have_is_there(namemap):
    assert NameMap.load(namemap).name == namemap


def test_hub_ids_are_unique():
    ids = [model.hub_id for name in catalog.names() if (model := catalog.lookup(name)).hub_id]
    assert len(ids) == len(set(ids)) > 20


@pytest.mark.parametrize(("name", "published"), PUBLISHED_SIZES.items())
def test_sizes_are_the_published_ones(name, published):
    # The authors print whole millions, some of them with the pooler and some without.
    assert n_parameters(catalog.lookup(name).config) / 1e6 == pytest.approx(published, rel=0.025, abs=0.5)


def test_parameters_are_counted_as_by_hand():
    config = ModelConfig(10, 4, 2, 2, 6, max_position_embeddings=8)
    embeddings = 10 * 4 + 8 * 4 + 2 * 4 + 2 * 4
    layer = 4 * (4 * 4 + 4) + (4 * 6 + 6) + (6 * 4 + 4) + 2 * 2 * 4
    pooler = 4 * 4 + 4
    assert n_parameters(config) == embeddings + 2 * layer + pooler
    sizes = {"embedding_size": 3, "model_type": "albert", "max_position_embeddings": 8}
    word = ModelConfig(10, 4, 2, 2, 6, embedding_projection="word", **sizes)
    assert n_parameters(word) == 10 * 3 + 3 * 4 + (8 + 2 + 2) * 4 + layer + pooler
    output = ModelConfig(10, 4, 2, 2, 6, embedding_projection="output", **sizes)
    assert n_parameters(output) == (10 + 8 + 2 + 2) * 3 + (3 * 4 + 4) + layer + pooler
    groups = ModelConfig(10, 4, 2, 2, 6, embedding_projection="output", num_hidden_groups=2, **sizes)
    assert n_parameters(groups) == n_parameters(output) + layer
    electra = ModelConfig(10, 4, 2, 2, 6, model_type="electra", max_position_embeddings=8)
    assert n_parameters(electra) == n_parameters(config) - pooler


def test_facts_that_are_easily_wrong():
    config = {name: catalog.lookup(name).config for name in catalog.names()}
    assert catalog.lookup("roberta-zh-large").max_seq_length == 256
    assert config["roberta-zh-large"].max_position_embeddings == 512
    middle = config["roberta-zh-l24-middle"]
    assert (middle.num_hidden_layers, middle.hidden_size) == (24, 768)
    # In Google's own files "gelu" is the tanh form; on the hub it is the erf form.
    assert config["albert-zh-large"].hidden_act == "gelu_tanh"
    assert config["bert-base-chinese"].hidden_act == config["chinese-roberta-wwm-ext"].hidden_act == "gelu"
    # github.com/google-research/albert/issues/153 and 154
    assert config["albert-google-xxlarge-zh"].hidden_act == "relu"
    assert config["albert-google-xxlarge-zh"].num_attention_heads == 16
    ernie = config["ernie-1.0-base-zh"]
    assert (ernie.hidden_act, ernie.layer_norm_eps, ernie.max_position_embeddings) == ("relu", 1e-5, 513)
    preln = [name for name in catalog.names() if config[name].layer_norm_type == "preln"]
    assert preln == ["albert-zh-xxlarge"]
    models = [catalog.lookup(name) for name in catalog.names()]
    cased = [model.name for model in models if model.tokenizer == "wordpiece" and not model.do_lower_case]
    assert cased == [
        *("bert-base-cased", "bert-base-cased-squad2", "bert-base-multilingual-cased"),
        *("bert-large-cased", "bert-large-cased-whole-word-masking"),
    ]
    # 514 rows are 512 tokens, and the vocabulary of XLM-R does not make a RoBERTa.
    counting = {model.config.model_type for model in models if model.config.family.padding_row}
    assert counting == {"roberta", "xlm-roberta"}
    assert {model.config.max_position_embeddings for model in models if model.config.model_type in counting} == {514}
    assert config["multilingual-e5-small"].model_type == config["Multilingual-MiniLM-L12-H384"].model_type == "bert"
    assert (config["multilingual-e5-small"].vocab_size, config["xlm-roberta-base"].vocab_size) == (250037, 250002)
    assert config["ernie-3.0-base-zh"].task_type_vocab_size == 3
    assert config["bert-base-uncased-embedding-relative-key"].position_embedding_type == "relative_key"


def test_recipe_of_sixteen_devices_is_the_published_one():
    recipe = dict(catalog.lookup("roberta-base").recipes["squad"])
    assert "1984" in recipe.pop("source")
    assert recipe == {
        "num_train_epochs": 2,
        "per_device_train_batch_size": 256,
        "learning_rate": 6e-5,
        "warmup_ratio": 0.25,
        "weight_decay": 0.01,
        "max_seq_length": 384,
        "doc_overlap": 128,
        "loss_scale": "64",
    }


def test_short_name_and_hub_id_find_the_same_model():
    assert catalog.lookup("hfl/chinese-roberta-wwm-ext") is catalog.lookup("chinese-roberta-wwm-ext")
    assert catalog.find("hfl/chinese-roberta-wwm-ext") is catalog.find("chinese-roberta-wwm-ext")
    assert catalog.find("") is catalog.find("hfl/none") is catalog.find("/some/directory") is None


def test_model_that_is_not_on_the_hub_says_how_to_get_it():
    text = catalog.lookup("albert-zh-tiny").how_to_get
    assert text.startswith(
        "albert-zh-tiny is not on the hub; get albert_config_tiny.json, vocab.txt, albert_model.ckpt"
    )
    assert "https://storage.googleapis.com/albert_zh/albert_tiny_489k.zip" in text and "\n" not in text


def test_unknown_model_is_named_with_the_closest():
    with pytest.raises(CheckpointError, match="unknown model 'bert-base-chines'; did you mean 'bert-base-chinese'"):
        catalog.lookup("bert-base-chines")
    with pytest.raises(CheckpointError, match="known: albert-google-base-zh, "):
        catalog.lookup("?")
    with pytest.raises(CheckpointError, match="unknown model ''"):
        catalog.lookup("")


@pytest.fixture
def edited(tmp_path):
    """Return a function that writes a model's JSON with some keys changed; None takes a key away."""

    def edit(**changes):
        values = json.loads((DIRECTORY / "rbt3.json").read_text(encoding="utf-8")) | changes
        path = tmp_path / "rbt3.json"
        path.write_text(json.dumps({key: value for key, value in values.items() if value is not None}))
        return path

    return edit


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"licence": None}, "'licence' is missing"),
        ({"license": "MIT"}, "unknown key 'license'; did you mean 'licence'?"),
        ({"max_seq_length": "512"}, "'max_seq_length' '512' is not an integer"),
        ({"max_seq_length": True}, "'max_seq_length' True is not an integer"),
        ({"notes": "none"}, "'notes' 'none' is not a list"),
        ({"files": []}, "'files' is empty"),
        ({"files": ["vocab.txt", 3]}, "'files' 3 is not a string"),
        ({"hub_id": "rbt3"}, "'hub_id' 'rbt3' is not owner/name"),
        ({"namemap": "transformer_bert"}, "did you mean 'transformers_bert'?"),
        ({"tokenizer": {"kind": "wordpiece"}}, "tokenizer: 'do_lower_case' is missing"),
        ({"tokenizer": {"kind": "bpe", "do_lower_case": True}}, "tokenizer: kind 'bpe' is none of wordpiece"),
        ({"architecture": {"hidden_size": 768}}, "architecture: 'vocab_size' is missing"),
        (
            {"architecture": {"hidden_sizes": 768}},
            "architecture: unknown key 'hidden_sizes'; did you mean 'hidden_size'?",
        ),
        ({"recipes": {"cmrc2018": {"learning_rate": 3e-5}}}, "recipes: 'cmrc2018' has no \"source\""),
        ({"recipes": {"cmrc2018": 3e-5}}, "recipes: 'cmrc2018' has no \"source\""),
    ],
)
def test_a_wrong_file_is_refused_with_file_and_key(edited, changes, problem):
    path = edited(**changes)
    with pytest.raises(CheckpointError, match=re.escape(str(path))) as caught:
        catalog.read(path)
    assert problem in str(caught.value)


def test_all_problems_of_a_file_are_named_at_once(edited):
    with pytest.raises(CheckpointError, match="'licence' is missing; 'notes' is missing; unknown key 'size'"):
        catalog.read(edited(licence=None, notes=None, size=3))


def test_an_architecture_that_can_not_be_is_refused(edited):
    architecture = json.loads((DIRECTORY / "rbt3.json").read_text(encoding="utf-8"))["architecture"]
    with pytest.raises(CheckpointError, match=r"rbt3\.json: architecture: hidden_size 767 is not divisible"):
        catalog.read(edited(architecture=architecture | {"hidden_size": 767}))


def test_the_manual_names_every_key_and_every_name_map():
    text = MANUAL.read_text(encoding="utf-8")
    for name in (*SCHEMA, *NAMEMAPS):
        assert f"`{name}`" in text, name


def test_the_manuals_example_can_be_read(tmp_path):
    example = re.search(r"```json\n(\{\n  \"hub_id\".*?)```", MANUAL.read_text(encoding="utf-8"), re.S)
    assert example
    path = tmp_path / "my-model.json"
    path.write_text(example[1], encoding="utf-8")
    model = catalog.read(path)
    assert model.name == "my-model" and n_parameters(model.config) > 1e6


#: ewrfcas/bert_cn_finetune's name -> ours
THEIR_NAMES = {
    "google_bert_base": "bert-base-chinese",
    "sibert_base": "sibert-base",
    "sialbert_middle": "sialbert-middle",
    "hfl bert_wwm_ext_base": "chinese-bert-wwm-ext",
    "hfl roberta_wwm_ext_base": "chinese-roberta-wwm-ext",
    "hfl roberta_wwm_ext_large": "chinese-roberta-wwm-ext-large",
    "ernie1.0": "ernie-1.0-base-zh",
    "brightmart roberta_middle": "roberta-zh-l24-middle",
    "brightmart roberta_large": "roberta-zh-large",
    "brightmart albert_large": "albert-zh-large",
    "brightmart albert_xlarge": "albert-zh-xlarge",
}


@pytest.mark.realdata
def test_recipes_are_the_published_ones(data_dir: Path):
    published = {}
    with (data_dir / "published" / "reference_scores.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["model"].lower() in THEIR_NAMES and row["batch"]:
                published[THEIR_NAMES[row["model"].lower()], row["dataset"]] = {
                    "num_train_epochs": float(row["epochs"]),
                    "per_device_train_batch_size": int(row["batch"]),
                    "learning_rate": float(row["lr"]),
                    "warmup_ratio": float(row["warmup"]),
                    "max_seq_length": int(row["max_len"]),
                }
    ours = {
        (name, task): {key: value for key, value in recipe.items() if key != "source"}
        for name in THEIR_NAMES.values()
        for task, recipe in catalog.lookup(name).recipes.items()
    }
    # The README gives the middle RoBERTa's parameters for three tasks, and its scores for one.
    for task in ("drcd", "cjrc"):
        published["roberta-zh-l24-middle", task] = published["roberta-zh-l24-middle", "cmrc2018"]
    assert ours == published
