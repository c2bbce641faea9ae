"""A small model and batches on which training methods are tried, in either framework."""

from __future__ import annotations

import dataclasses

import numpy as np

from preprocess.base.spec import TrainerSpec
from pretrained_configs.config import ModelConfig
from tests.support.values import SPAN, span_batch

CONFIG = ModelConfig(
    vocab_size=30,
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=24,
    max_position_embeddings=16,
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
    initializer_range=0.2,
)
#: Nothing decays and nothing is clipped: what a gradient is can be read from Adam's first moment.
SPEC = TrainerSpec(
    n_steps=100, learning_rate=1e-3, warmup_ratio=0.0, weight_decay=0.0, max_grad_norm=1e9, adam_beta1=0.9,
    adam_beta2=0.999, adam_epsilon=1e-12, precision="fp32",
)  # fmt: skip
STILL = dataclasses.replace(SPEC, learning_rate=0.0)
TABLE = "embeddings.word.weight"


def method_batch(seed=0, n=3):
    random = np.random.RandomState(seed)
    mask = (np.arange(8)[None] < random.randint(5, 9, n)[:, None]).astype(np.int32)
    start = random.randint(0, 4, n)
    ids = random.randint(1, 30, (n, 8)) * mask
    return span_batch(
        window=np.arange(n), input_ids=ids, attention_mask=mask, token_type_ids=mask * 0, start=start, end=start + 1
    )


def method_trainer(backend, spec=SPEC, config=CONFIG, head=SPAN):
    backend.set_seed(1)
    model = backend.build_model(config, head, device="cpu", seed=3)
    return backend.Trainer(model, spec)


def asking(spec=SPEC, **methods):
    return dataclasses.replace(spec, **methods)


def moments(trainer):
    """Return Adam's first moments, by the parameters that have some."""
    optimizer = trainer.state_dict()["optimizer"]
    return optimizer["exp_avg"] if "exp_avg" in optimizer else {k: v["exp_avg"] for k, v in optimizer.items()}


def used_gradients(trainer):
    """Return the gradients of the first step."""
    return {name: moment / (1 - SPEC.adam_beta1) for name, moment in moments(trainer).items()}


def weights(backend, trainer):
    return backend.parameter_values(trainer.model)


def assert_close(found, expected, atol=2e-6):
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=atol * max(1.0, np.abs(values).max()), err_msg=name)


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


LORA = {"lora_rank": 2, "lora_alpha": 6.0, "lora_targets": ("query", "value", "down")}
