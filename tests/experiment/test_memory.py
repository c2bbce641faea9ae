"""The memory formula against what a real training step holds, tensor by tensor."""

from __future__ import annotations

import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.memory import CASES, build_trainer, peak_bytes, predicted_bytes, random_batch
from experiment.estimate.memory import check_host_memory, training_memory
from preprocess.base.errors import UsageError
from preprocess.base.methods import Methods
from pretrained_configs import catalog
from pretrained_configs.config import ModelConfig
from pytorch_modeling import build_model
from tests.support.values import SPAN, head_of

SMALL = {
    "vocab_size": 500,
    "hidden_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 512,
    "max_position_embeddings": 128,
}
BASE_WIDTH = {
    **SMALL,
    "hidden_size": 768,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "num_hidden_layers": 2,
}
TABLE = {**SMALL, "vocab_size": 5000}
ALBERT = {**SMALL, "model_type": "albert", "embedding_size": 32, "num_hidden_layers": 4}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of the storages that operations have returned and that still exist.

    Memory that an operation takes and gives back by itself is not seen; benchmarks/memory.py sees that too.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and tensor.device.type == "cpu":
                self._see(tensor.untyped_storage())
        return result

    def _see(self, storage: torch.UntypedStorage) -> None:
        if storage._cdata not in self._known:
            self._known.add(storage._cdata)
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._gone, storage._cdata, storage.nbytes())

    def _gone(self, key: int, n_bytes: int) -> None:
        self._known.remove(key)
        self.now -= n_bytes


def _measured(config, head, batch, length, precision, n_recomputed, n_passes, **methods):
    with LiveBytes() as live:
        trainer = build_trainer(config, head, "cpu", precision, n_recomputed, **methods)
        live.peak = live.now  # of the steps; where most of a model is frozen, drawing its weights took more
        trainer.step([random_batch(batch, length, config.vocab_size, head.rows.get("kind", 0))] * n_passes)
    return live.peak


@pytest.mark.parametrize(
    "shape, batch, length, precision, n_recomputed, n_passes",
    [
        (SMALL, 8, 128, "fp32", 0, 1),
        (SMALL, 8, 128, "bf16", 0, 1),
        (SMALL, 32, 32, "bf16", 0, 1),
        (SMALL, 1, 32, "bf16", 0, 1),  # gradients weigh more than activations
        (SMALL, 8, 128, "bf16", 0, 3),
        (TABLE, 1, 32, "fp32", 0, 3),
        (SMALL, 8, 128, "fp32", 2, 1),
        (SMALL, 8, 128, "bf16", 3, 1),
        ({**SMALL, "hidden_act": "relu"}, 8, 128, "bf16", 0, 1),
        ({**SMALL, "hidden_act": "relu"}, 8, 128, "fp32", 0, 1),
        ({**SMALL, "hidden_act": "quick_gelu"}, 8, 128, "fp32", 0, 1),
        ({**SMALL, "layer_norm_type": "preln"}, 8, 128, "bf16", 0, 1),
        ({**SMALL, **NO_DROPOUT}, 8, 128, "bf16", 0, 1),
        ({**ALBERT, "embedding_projection": "word"}, 8, 128, "bf16", 0, 1),
        ({**ALBERT, "embedding_projection": "output"}, 8, 128, "fp32", 0, 1),
        ({**ALBERT, "embedding_projection": "output"}, 8, 128, "bf16", 0, 1),
    ],
)
def test_formula_counts_the_tensors_of_a_step(shape, batch, length, precision, n_recomputed, n_passes):
    # The formula leaves out scalars and vectors alone. The smallest thing it could forget, one dropout mask in each
    # layer, is 0.8 % of the largest total here.
    _compare(shape, batch, length, precision, n_recomputed, n_passes, rel=0.005)


@pytest.mark.parametrize(
    "shape, batch, length, precision, n_recomputed",
    [
        (BASE_WIDTH, 4, 96, "bf16", 0),
        (BASE_WIDTH, 4, 96, "fp32", 1),
        ({**ALBERT, "embedding_projection": "word"}, 8, 128, "bf16", 4),
    ],
)
def test_formula_where_weights_matter_as_much_as_activations(shape, batch, length, precision, n_recomputed):
    # The formula takes a layer's gradients to come all at once, and those of shared layers to be summed in float32.
    _compare(shape, batch, length, precision, n_recomputed, 1, rel=0.03)


@pytest.mark.parametrize(
    "changes, batch, length, precision, n_recomputed",
    [
        ({}, 8, 128, "fp32", 0),
        ({}, 8, 128, "bf16", 0),
        ({"hidden_act": "relu"}, 8, 128, "fp32", 0),
        ({}, 2, 512, "fp32", 0),
        ({}, 8, 128, "fp32", 2),
    ],
)
def test_formula_of_an_attention_by_projected_distances(changes, batch, length, precision, n_recomputed):
    # What the rows of scores that exist at a time hold is a rough sum; without any of it 10 to 20 % would be missing.
    _compare({**SMALL, "model_type": "xlnet", **changes}, batch, length, precision, n_recomputed, 1, rel=0.04)


@pytest.mark.parametrize("n_passes", [1, 3])
@pytest.mark.parametrize(
    ("precision", "methods", "rel"),
    [
        ("fp32", {"ema_decay": 0.9}, 0.005),
        ("bf16", {"rdrop_alpha": 1.0}, 0.005),
        ("fp32", {"fgm_epsilon": 1.0}, 0.01),
        ("bf16", {"freeze_layers": 2, "ema_decay": 0.9}, 0.01),
        # What frozen matrices do not keep of their inputs is counted.
        ("bf16", {"lora_rank": 8, "lora_targets": ("query", "value", "up")}, 0.25),
    ],
    ids=["ema", "rdrop", "fgm", "freeze", "lora"],
)
def test_formula_knows_what_methods_hold(precision, methods, rel, n_passes):
    _compare(TABLE, 4, 64, precision, 0, n_passes, rel, **methods)


def _compare(shape, batch, length, precision, n_recomputed, n_passes, rel, **methods):
    config, head = ModelConfig(**shape), SPAN
    measured = _measured(config, head, batch, length, precision, n_recomputed, n_passes, **methods)
    predicted = training_memory(
        config,
        head,
        batch=batch,
        length=length,
        precision=precision,
        gradient_checkpointing=n_recomputed,
        keeps_gradients=n_passes > 1,
        methods=Methods(**methods),
    )
    assert predicted.total == pytest.approx(measured, rel=rel)


def test_answer_kinds_have_their_place():
    config, head = ModelConfig(**SMALL), head_of(("yes", "no", "unknown"))
    measured = _measured(config, head, 8, 64, "bf16", 0, 1)
    predicted = training_memory(config, head, batch=8, length=64, precision="bf16")
    assert predicted.total == pytest.approx(measured, rel=0.03)
    assert predicted.weights == 4 * sum(p.numel() for p in build_model(config, head, device="cpu").parameters())


@pytest.mark.parametrize("case", CASES["cuda"], ids=lambda case: f"{case['name']}-{case['precision']}")
@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_formula_is_within_10_percent_of_what_a_gpu_allocates(case):
    if predicted_bytes(case) > 0.8 * torch.cuda.get_device_properties(0).total_memory:
        pytest.skip("too large for this GPU")
    assert predicted_bytes(case) == pytest.approx(peak_bytes(case, "cuda"), rel=0.10)


def test_a_model_larger_than_the_machine_is_refused_before_it_is_built():
    config = ModelConfig(**SMALL)
    n_bytes = 4 * sum(p.numel() for p in build_model(config, SPAN, device="cpu").parameters())
    check_host_memory(config, SPAN, n_bytes)
    with pytest.raises(UsageError, match=r"weights alone take 0.0 GB, and this machine has 0.0 GB"):
        check_host_memory(config, SPAN, n_bytes - 1)
    wide = ModelConfig(**{**SMALL, "hidden_size": 1 << 20})
    with pytest.raises(UsageError, match=r"take 57,190.3 GB, and this machine has 20.0 GB"):
        check_host_memory(wide, None, 20 * 10**9)


def test_8_bit_moments_by_hand():
    config = ModelConfig(10, 64, 1, 1, 128, max_position_embeddings=80)

    def moments(optim):
        return training_memory(config, SPAN, batch=1, length=8, precision="fp32", optim=optim).moments

    # Matrices of 4096 elements or more take two bytes and two float32 scales per 256: qkv, output, up and down.
    in_bytes = 3 * 64 * 64 + 64 * 64 + 2 * 64 * 128
    # The position table has 5120 elements and stays in 32 bits, as do all tables, vectors and the head.
    others = (10 + 80 + 2) * 64 + 3 * 2 * 64 + (3 * 64 + 64 + 128 + 64) + (2 * 64 + 2)
    assert moments("adamw") == moments("bert_adam") == 8 * (in_bytes + others)
    assert moments("adamw8bit") == 2 * (in_bytes + 4 * in_bytes // 256) + 8 * others


def test_memory_of_published_models_keeps_its_order():
    def total(name, **more):
        arguments = {"batch": 8, "length": 512, "precision": "bf16", **more}
        return training_memory(catalog.lookup(name).config, SPAN, **arguments).total

    large = "chinese-roberta-wwm-ext-large"
    assert total("rbt3") < total("chinese-roberta-wwm-ext") < total(large) < total(large, precision="fp32")
    by_layers = [total(large, gradient_checkpointing=n) for n in (0, 8, 16, 24)]
    assert by_layers == sorted(by_layers, reverse=True)
    # Linear in the windows once activations outweigh gradients: no S x S tensor is in it.
    steps = [total(large, batch=n + 8) - total(large, batch=n) for n in (16, 24)]
    assert steps[0] == steps[1]
    assert total(large, batch=8, length=512) == total(large, batch=16, length=256)
