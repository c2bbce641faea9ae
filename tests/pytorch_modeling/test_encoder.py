"""What an encoder computes again in backward is what it computed."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from pretrained_configs.config import ModelConfig
from pytorch_modeling import build_model
from tests.support.values import SPAN

CONFIG = ModelConfig(
    60, 32, 3, 4, 48, max_position_embeddings=40, hidden_dropout_prob=0.2, attention_probs_dropout_prob=0.2
)
ALBERT = {"model_type": "albert", "embedding_projection": "output"}
XLNET = {"model_type": "xlnet"}


def run(config: ModelConfig, n_recomputed: int) -> tuple[list[torch.Tensor], int]:
    """Return loss and gradients, and the elements that autograd kept for the backward pass."""
    model = build_model(config, SPAN, device="cpu", seed=1).train()
    model.encoder.n_recomputed = n_recomputed
    torch.manual_seed(2)
    ids = torch.arange(36).reshape(2, 18)
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        values = model(batch)
    loss = values["start"].square().sum() + values["end"].sum()
    loss.backward()
    return [loss.detach(), *(p.grad for p in model.parameters())], sum(kept.values())


@pytest.mark.parametrize(
    "changes",
    [{}, ALBERT, XLNET, {**XLNET, "untie_r": False}],
    ids=["bert", "albert", "xlnet", "xlnet-tied"],
)
def test_recomputed_layers_give_the_same_gradients_from_less_memory(changes):
    config = replace(CONFIG, **changes)
    (expected, all_kept), (found, some_kept) = run(config, 0), run(config, 2)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    # Two of three layers keep their input alone.
    assert some_kept < 0.6 * all_kept
