"""A small model, its twin with the same weights, and random batches."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from preprocess.types import NO_TARGET
from pretrained_configs.checkpoint import read_checkpoint
from pretrained_configs.config import ACTIVATIONS, ModelConfig
from tests.support.values import KINDS, span_batch

CONFIG = ModelConfig(
    vocab_size=60,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=48,
    max_position_embeddings=40,
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
    # As wide as in the golden checkpoints: with std 0.02 a wrong activation hides below the tolerance.
    initializer_range=0.2,
)
ARGUMENTS = {
    "learning_rate": 1e-3,
    "warmup_ratio": 0.1,
    "weight_decay": 0.01,
    "max_grad_norm": 1.0,
    "adam_beta1": 0.9,
    "adam_beta2": 0.999,
    "adam_epsilon": 1e-8,
    "precision": "fp32",
}
KINDS = KINDS


#: The architectures, as changes of CONFIG.
VARIANTS = [
    *({"hidden_act": act} for act in ACTIVATIONS),
    {"model_type": "electra", "embedding_size": 16, "embedding_projection": "output"},
    {"model_type": "albert", "embedding_size": 16, "embedding_projection": "output", "num_hidden_layers": 3},
    {"model_type": "albert", "num_hidden_layers": 4, "num_hidden_groups": 2, "inner_group_num": 2},
    {
        "model_type": "albert",
        "embedding_size": 16,
        "embedding_projection": "word",
        "layer_norm_type": "preln",
        "ffn_num_groups": 4,
    },
    {"model_type": "xlnet"},
    {"model_type": "xlnet", "untie_r": False, "clamp_len": 4},
]


@pytest.fixture(params=VARIANTS, ids=lambda v: "-".join(map(str, v.values())))
def variant(request):
    """Changes of `config` that make another architecture."""
    return request.param


@pytest.fixture
def config():
    """Two layers without dropout; `config(hidden_act=…)` changes fields."""
    return lambda **changes: dataclasses.replace(CONFIG, **changes)


@pytest.fixture
def arguments():
    """Keyword arguments of a Trainer; `arguments(precision=…)` changes some."""
    return lambda **changes: {**ARGUMENTS, **changes}


@pytest.fixture
def kinds():
    """The head of a task with three answers that are no span."""
    return KINDS


@pytest.fixture
def make_batch():
    """Make a random batch; padding stands on the right or, shifted, on the left."""

    def make(n=4, length=16, seed=0, padded=False, left=False, kinds=0):
        random = np.random.RandomState(seed)
        lengths = random.randint(9, length + 1, n) if padded else np.full(n, length)
        shift = (length - lengths)[:, None] if left else np.zeros((n, 1), np.int64)
        column = np.arange(length)[None] - shift
        mask = ((column >= 0) & (column < lengths[:, None])).astype(np.int32)
        start = random.randint(0, 7, n) + shift[:, 0]
        return span_batch(
            window=np.arange(n, dtype=np.int32),
            input_ids=(random.randint(1, 60, (n, length)) * mask).astype(np.int32),
            attention_mask=mask,
            token_type_ids=((column >= 5) * mask).astype(np.int32),
            start=start.astype(np.int32),
            end=(start + random.randint(0, 2, n)).astype(np.int32),
            kind=(random.randint(-1, kinds, n) if kinds else np.full(n, NO_TARGET)).astype(np.int32),
        )

    return make


@pytest.fixture
def twins(tmp_path):
    """Build (PyTorch model, TensorFlow model) with the same random weights."""
    import pytorch_modeling
    import tf_modeling

    def build(config, head):
        theirs = pytorch_modeling.build_model(config, head, device="cpu", seed=1)
        pytorch_modeling.save_weights(theirs, tmp_path)
        ours = tf_modeling.build_model(config, head, device="cpu", seed=2)
        tf_modeling.load_weights(ours, read_checkpoint(tmp_path), fresh_head=False)
        return theirs, ours

    return build
