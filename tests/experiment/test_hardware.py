"""FLOPs against PyTorch's own counter, the table of GPUs, and what this machine is."""

from __future__ import annotations

import os
import re

import numpy as np
import pytest

from experiment.estimate.hardware import (
    DEVICES,
    bf16_is_slow,
    forward_flops,
    host_memory,
    peak_flops,
    training_flops,
)
from pretrained_configs.config import ModelConfig
from tests.support.values import SPAN

SMALL = {
    "vocab_size": 50,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 16,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
ALBERT = {"model_type": "albert", "embedding_size": 8}


def test_forward_flops_counted_by_hand():
    config = ModelConfig(**{**SMALL, "num_hidden_layers": 1})
    # Per token: query, key, value, output 4 x 32 x 32, feed-forward 2 x 32 x 48, head 32 x 2; two per multiply-add.
    # Attention: 16 x 16 scores and as many weights, 32 wide.
    assert forward_flops(config, 16) == 2 * (16 * (4096 + 3072 + 64) + 2 * 16 * 16 * 32)


def test_the_products_with_distances_count_as_one_of_attention():
    config = ModelConfig(**{**SMALL, "num_hidden_layers": 1, "model_type": "xlnet"})
    # Scores by content and by distance, and the weighted sum.
    assert forward_flops(config, 16) == 2 * (16 * (4096 + 3072 + 64) + 3 * 16 * 16 * 32)


@pytest.mark.parametrize(
    ("changes", "products"),
    [
        ({"position_embedding_type": "relative_key"}, 1),
        ({"position_embedding_type": "relative_key_query"}, 2),
        ({"model_type": "nezha"}, 2),
    ],
)
def test_each_pair_of_tokens_costs_a_product_with_the_vector_of_its_distance(changes, products):
    plain, relative = (ModelConfig(**{**SMALL, "num_hidden_layers": 1}, **more) for more in ({}, changes))
    assert forward_flops(relative, 16) - forward_flops(plain, 16) == 2 * products * 16 * 16 * 32


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"model_type": "electra", "embedding_size": 8, "embedding_projection": "output"},
        {**ALBERT, "embedding_projection": "output"},
        {**ALBERT, "embedding_projection": "word", "inner_group_num": 2},
        {"ffn_num_groups": 4},
    ],
    ids=["bert", "electra", "albert", "albert_inner_groups", "blocks"],
)
def test_training_flops_are_what_pytorch_counts(changes):
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    from benchmarks.memory import random_batch
    from pytorch_modeling import build_model
    from pytorch_modeling.model import to_tensors
    from pytorch_modeling.objective import objective

    config = ModelConfig(**{**SMALL, **changes})
    model = build_model(config, SPAN, device="cpu")
    tensors = to_tensors(random_batch(2, 16, config.vocab_size), torch.device("cpu"))
    # The counter knows no CPU kernel of attention; as plain products it sees all of it.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        objective(SPAN, model(tensors), tensors, {"span": 2}).backward()
    assert counter.get_total_flops() == 2 * training_flops(config, 16)


def test_flops_of_several_lengths_at_once():
    config, lengths = ModelConfig(**SMALL), np.array([7, 512])
    assert training_flops(config, lengths).tolist() == [training_flops(config, 7), training_flops(config, 512)]


@pytest.mark.parametrize(
    "name, precision, flops",
    [
        ("NVIDIA H200", "bf16", 989.4e12),
        ("NVIDIA H100 80GB HBM3", "bf16", 989.4e12),
        ("NVIDIA H100 80GB HBM3", "tf32", 494.7e12),
        ("NVIDIA H100 PCIe", "fp16", 756e12),
        ("NVIDIA H100 NVL", "bf16", 835.5e12),
        ("NVIDIA A100-SXM4-40GB", "bf16", 312e12),
        ("NVIDIA A100-SXM4-80GB", "fp32", 19.5e12),
        ("NVIDIA A100 80GB PCIe", "bf16", 312e12),
        ("A100-PCIE-40GB", "fp16", 312e12),
        ("NVIDIA A10", "bf16", 125e12),
        ("NVIDIA L4", "bf16", 121e12),
        ("NVIDIA L40S", "bf16", 362e12),
        ("Tesla V100-SXM2-16GB", "fp16", 125e12),
        ("Tesla T4", "fp16", 65e12),
        ("NVIDIA GeForce RTX 3090", "bf16", 71e12),
        ("NVIDIA GeForce RTX 4090", "bf16", 165.2e12),
    ],
)
def test_peaks_are_found_by_the_names_that_torch_gives(name, precision, flops):
    assert peak_flops(name, precision) == flops


@pytest.mark.parametrize(
    "name, precision",
    [
        ("Tesla T4", "bf16"),  # no such unit
        ("Tesla V100-SXM2-16GB", "tf32"),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", "bf16"),  # a part of the GPU
        ("NVIDIA A10G", "bf16"),  # another GPU than the A10
        ("NVIDIA GeForce RTX 4090 Laptop GPU", "bf16"),
        ("CPU, 2 threads", "fp32"),
    ],
)
def test_no_peak_is_made_up(name, precision):
    assert peak_flops(name, precision) is None


def test_peaks_are_of_dense_products():
    for device in DEVICES:
        half, tf32 = device.tflops["fp16"], device.tflops.get("tf32")
        assert half == device.tflops.get("bf16", half), device.name
        # Every generation that has TF32 computes it half as fast; a figure "with sparsity" among them would be twice.
        assert tf32 is None or 1.95 < half / tf32 < 2.05, device.name
        assert device.tflops["fp32"] <= (tf32 or half) and device.source, device.name


def test_short_names_and_patterns_are_told_apart():
    assert len({device.name for device in DEVICES}) == len(DEVICES)
    for name in ("NVIDIA H100 80GB HBM3", "NVIDIA A100 80GB PCIe", "NVIDIA L4", "Tesla V100-SXM2-32GB"):
        assert sum(bool(re.fullmatch(device.pattern, name)) for device in DEVICES) == 1, name


@pytest.mark.parametrize(
    ("text", "slow"),
    [
        ("processor\t: 0\nflags\t\t: fpu sse avx2 avx512f avx512_vnni\n\nprocessor\t: 1\n", True),
        ("flags\t\t: fpu avx512f avx512_bf16\n", False),
        ("flags\t\t: fpu amx_bf16 amx_tile\n", False),
        ("Features\t: fp asimd sve bf16\n", False),
        ("Features\t: fp asimd\n", True),
        ("model name\t: of a system that says no more\n", False),
    ],
)
def test_a_cpu_without_instructions_for_bfloat16_is_told_from_its_flags(tmp_path, text, slow):
    path = tmp_path / "cpuinfo"
    path.write_text(text)
    said = bf16_is_slow(path)
    assert (said is not None) == slow
    assert said is None or ("slower" in said and "\n" not in said)


def test_where_no_flags_are_to_be_read_nothing_is_said(tmp_path):
    assert bf16_is_slow(tmp_path / "cpuinfo") is None


@pytest.mark.parametrize(("file", "text", "limit"), [
    ("memory.max", "2000000000\n", 2_000_000_000),
    ("memory.max", "max\n", None),
    ("memory/memory.limit_in_bytes", "3000000000\n", 3_000_000_000),
    ("memory/memory.limit_in_bytes", "9223372036854771712\n", None),
    ("nothing", "", None),
])  # fmt: skip
def test_a_container_has_the_memory_that_it_may_take(tmp_path, file, text, limit):
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(text)
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert host_memory(tmp_path) == (limit or physical)
