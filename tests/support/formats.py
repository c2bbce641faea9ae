"""The models that the tests of formats write, and what must come of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from pretrained_configs.checkpoint import read_checkpoint
from pytorch_modeling import build_model, hidden_states, load_weights
from tests.support.oracle import PROGRAMS
from tests.support.oracle_layers import draw, inputs

#: The golden README: the smallest error of any wrong setting is 6e-5, the noise of float32 a few 1e-6.
ATOL = 2e-5
KINDS = ("unknown", "yes", "no")

#: What the published files say beside the sizes, so that no key of theirs is taken for something else.
GOOGLE = {
    "attention_probs_dropout_prob": 0.1,
    "directionality": "bidi",
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": 32,
    "initializer_range": 0.02,
    "intermediate_size": 80,
    "max_position_embeddings": 40,
    "num_attention_heads": 4,
    "num_hidden_layers": 3,
    "pooler_fc_size": 768,
    "pooler_num_attention_heads": 12,
    "pooler_num_fc_layers": 3,
    "pooler_size_per_head": 128,
    "pooler_type": "first_token_transform",
    "type_vocab_size": 2,
    "vocab_size": 61,
}
ZH = {**GOOGLE, "embedding_size": 16, "ln_type": "postln"}
SIZES = {name: GOOGLE[name] for name in GOOGLE if not name.startswith(("pooler", "directionality"))}
ALBERT = {
    **SIZES,
    "embedding_size": 16,
    "num_hidden_groups": 1,
    "net_structure_type": 0,
    "gap_size": 0,
    "num_memory_blocks": 0,
    "inner_group_num": 1,
    "down_scale_factor": 1,
}
FAST = {**ALBERT, "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 4, "num_hidden_groups": 12}
ERNIE = {name: value for name, value in SIZES.items() if name != "intermediate_size"}

#: id -> program, the name map that it must be recognised as, the name of its configuration file, and that.
MODELS = {
    "bert": ("google_bert", "google_bert", "bert_config.json", GOOGLE),
    "bert-relu": ("google_bert", "google_bert", "config.json", {**GOOGLE, "hidden_act": "relu"}),
    "roberta_zh": ("google_bert", "google_bert", "bert_config_large.json", {**GOOGLE, "num_hidden_layers": 4}),
    "zh": ("albert_zh", "albert_zh", "albert_config_large.json", ZH),
    "zh-preln": ("albert_zh", "albert_zh", "albert_config_xxlarge.json", {**ZH, "ln_type": "preln"}),
    "zh-square": ("albert_zh", "albert_zh", "albert_config_tiny.json", {**ZH, "embedding_size": 32}),
    "zh-square-preln": (
        "albert_zh",
        "albert_zh",
        "albert_config.json",
        {**ZH, "embedding_size": 32, "ln_type": "preln"},
    ),
    "albert": ("google_albert", "google_albert", "albert_config.json", ALBERT),
    "albert-square": ("google_albert", "google_albert", "albert_config.json", {**ALBERT, "embedding_size": 32}),
    "albert-grouped": (
        "google_albert",
        "google_albert",
        "albert_config.json",
        {**ALBERT, "num_hidden_layers": 5, "num_hidden_groups": 3, "inner_group_num": 2},
    ),
    "fast": ("fast_albert", "google_albert", "albert_config_tiny_google_fast.json", FAST),
    "fast-inner": (
        "fast_albert",
        "google_albert",
        "albert_config_tiny_g.json",
        {**FAST, "embedding_size": 48, "inner_group_num": 2},
    ),
    "electra": ("electra", "google_electra", "electra_config.json", {**SIZES, "embedding_size": 16}),
    "electra-square": (
        "electra",
        "google_electra",
        "base_discriminator_config.json",
        {**SIZES, "embedding_size": 32},
    ),
    "ernie": ("paddle_ernie", "paddle_ernie", "ernie_config.json", {**ERNIE, "hidden_act": "relu"}),
    "ernie-tasks": (
        "paddle_ernie",
        "paddle_ernie_tasks",
        "ernie_config.json",
        {**ERNIE, "hidden_act": "relu", "use_task_id": True, "task_type_vocab_size": 5},
    ),
    "paddlenlp": ("paddlenlp_ernie", "paddlenlp_ernie", "model_config.json", {**SIZES, "use_task_id": False}),
    "paddlenlp-tasks": (
        "paddlenlp_ernie",
        "paddlenlp_ernie_tasks",
        "config.json",
        {**SIZES, "use_task_id": True, "task_type_vocab_size": 5},
    ),
    "paddlenlp-nezha": (
        "paddlenlp_nezha",
        "paddlenlp_nezha",
        "model_config.json",
        {**SIZES, "max_relative_position": 6, "use_relative_position": True},
    ),
    "nezha": ("google_nezha", "google_nezha", "bert_config.json", {**GOOGLE, "use_relative_position": True}),
    "hf-nezha": (
        "transformers_nezha",
        "transformers_nezha",
        "config.json",
        {**SIZES, "model_type": "nezha", "max_relative_position": 6, "embedding_size": 128},
    ),
    "hf-relative": (
        "relative_bert",
        "transformers_bert",
        "config.json",
        {**SIZES, "model_type": "bert", "position_embedding_type": "relative_key"},
    ),
    "hf-relative-query": (
        "relative_bert",
        "transformers_bert",
        "config.json",
        {**SIZES, "model_type": "bert", "position_embedding_type": "relative_key_query"},
    ),
    "hf": ("transformers_bert", "transformers_bert", "config.json", {**GOOGLE, "model_type": "bert"}),
    "hf-hfl": ("transformers_bert", "transformers_bert", "bert_config.json", GOOGLE),
    "hf-tanh": (
        "transformers_bert",
        "transformers_bert",
        "config.json",
        {**GOOGLE, "model_type": "bert", "hidden_act": "gelu_new", "layer_norm_eps": 1e-3},
    ),
    "ref-zh": ("reference_albert", "reference_albert", "albert_config_base.json", ZH),
    "ref-zh-preln": ("reference_albert", "reference_albert", "bert_config.json", {**ZH, "ln_type": "preln"}),
    "ref-zh-square": ("reference_albert", "reference_albert", "bert_config.json", {**ZH, "embedding_size": 32}),
    "ref-google": ("reference_google_albert", "reference_google_albert", "albert_config.json", ALBERT),
    "ref-google-square": (
        "reference_google_albert",
        "reference_google_albert",
        "albert_config.json",
        {**ALBERT, "embedding_size": 32},
    ),
}

#: Weights that the programs save beside the encoder: name -> shape, in sizes of the configuration.
PRETRAINING = {
    "google_bert": {
        "cls/predictions/output_bias": ("vocab_size",),
        "cls/predictions/transform/LayerNorm/beta": ("hidden_size",),
        "cls/predictions/transform/LayerNorm/gamma": ("hidden_size",),
        "cls/predictions/transform/dense/bias": ("hidden_size",),
        "cls/predictions/transform/dense/kernel": ("hidden_size", "hidden_size"),
        "cls/seq_relationship/output_bias": ("type_vocab_size",),
        "cls/seq_relationship/output_weights": ("type_vocab_size", "hidden_size"),
    },
    "electra": {
        "discriminator_predictions/dense/kernel": ("hidden_size", "hidden_size"),
        "discriminator_predictions/dense_1/bias": ("type_vocab_size",),
        "generator/encoder/layer_0/attention/self/query/kernel": ("embedding_size", "embedding_size"),
        "generator/embeddings_project/kernel": ("hidden_size", "embedding_size"),
        "generator_predictions/LayerNorm/beta": ("embedding_size",),
        "generator_predictions/output_bias": ("vocab_size",),
    },
    "transformers_bert": {
        "cls.predictions.bias": ("vocab_size",),
        "cls.predictions.transform.dense.weight": ("hidden_size", "hidden_size"),
        "cls.predictions.decoder.weight": ("vocab_size", "hidden_size"),
        "cls.seq_relationship.weight": ("type_vocab_size", "hidden_size"),
    },
    "paddle_ernie": {
        "mask_lm_trans_fc.w_0": ("hidden_size", "hidden_size"),
        "next_sent_fc.b_0": ("type_vocab_size",),
    },
}
PRETRAINING |= dict.fromkeys(("albert_zh", "google_albert", "fast_albert"), PRETRAINING["google_bert"])
PRETRAINING |= dict.fromkeys(("reference_bert", "reference_albert"), PRETRAINING["transformers_bert"])


def heads_of(program: str, config: dict) -> dict[str, tuple[int, ...]]:
    return {name: tuple(config[size] for size in sizes) for name, sizes in PRETRAINING.get(program, {}).items()}


def weights(model: str, seed: int = 0) -> dict[str, np.ndarray]:
    """The variables of a published file: the encoder's and those of its pre-training heads."""
    program, _, _, config = MODELS[model]
    return draw({**PROGRAMS[program].shapes(config), **heads_of(program, config)}, seed)


def compute(path: Path, seed: int = 0) -> tuple[dict[str, np.ndarray], object]:
    """Load a checkpoint as a user would and run it on the inputs of this seed."""
    checkpoint = read_checkpoint(path)
    model = build_model(checkpoint.config, None, device="cpu", seed=99)
    report = load_weights(model, checkpoint, fresh_head=True)
    assert report.fresh in ([], ["pooler.weight", "pooler.bias"])
    found = hidden_states(model, *inputs({"vocab_size": checkpoint.config.vocab_size}, seed))
    if report.fresh:
        del found["pooled_output"]
    return found, checkpoint.namemap.name


def expect(model: str, arrays: dict[str, np.ndarray], seed: int = 0) -> dict[str, np.ndarray]:
    program, _, _, config = MODELS[model]
    return PROGRAMS[program].forward(arrays, config, *inputs(config, seed))


def place(directory: Path, model: str) -> Path:
    """Make a directory that holds the configuration under its published name."""
    directory.mkdir(parents=True, exist_ok=True)
    _, _, name, config = MODELS[model]
    (directory / name).write_text(json.dumps(config))
    return directory
