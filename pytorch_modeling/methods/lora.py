"""LoRA (Hu et al. 2022): matrices stay as they are, and a change of low rank is learned beside them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from preprocess.base.methods import LORA_PLACES
from pretrained_configs.draws import normal
from pretrained_configs.levels import n_levels
from pytorch_modeling.hooks import TrainerHook
from pytorch_modeling.methods.layers import freeze
from pytorch_modeling.model import MRCModel, parameter_name

if TYPE_CHECKING:
    from pytorch_modeling.trainer import Trainer


class LoRALinear(nn.Linear):
    """y = x W' + b + s x (B A)', where A and B are learned: a product for each adapted part of the rows of W."""

    def __init__(self, linear: nn.Linear, rank: int, scale: float, parts: Sequence[int], n_parts: int) -> None:
        """Take over W [out, in] and b; B is 0, and A without values.

        Args:
            linear: with W and b.
            rank: rows of each A.
            scale: s.
            parts: the adapted ones, in order.
            n_parts: how many parts the rows have in all, of the same size.
        """
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        self.scale = scale
        device = linear.weight.device
        self.lora_down = nn.Parameter(torch.empty(len(parts), rank, self.in_features, device=device))
        self.lora_up = nn.Parameter(torch.zeros(len(parts), self.out_features // n_parts, rank, device=device))
        self._places = torch.eye(n_parts, device=device)[:, list(parts)]

    def forward(self, x: Tensor) -> Tensor:
        """Project [..., in] -> [..., out]."""
        inner = F.linear(x, self.lora_down.flatten(0, 1))
        return super().forward(x) + self.scale * F.linear(inner, self._up())

    def change(self) -> Tensor:
        """Return s B A, [out, in]."""
        return self.scale * (self._up() @ self.lora_down.flatten(0, 1))

    def _up(self) -> Tensor:
        """Return B of all parts in one matrix, [out, parts * rank]: 0 where rows and rank are of different parts."""
        rows = torch.einsum("ap,por->aopr", self._places, self.lora_up)
        return rows.flatten(2).flatten(0, 1)


class LoRA(TrainerHook):
    """Trains changes of low rank, pooler and head; where the model is evaluated or saved they are in its weights."""

    def __init__(self, rank: int, alpha: float, targets: Sequence[str], seed: int) -> None:
        """Take rank and scale times rank, the names of the adapted matrices (`LORA_PLACES`), and the seed of A."""
        self.rank = rank
        self.scale = alpha / rank
        self.targets = tuple(targets)
        self.seed = seed
        # The module that holds an adapted matrix, its attribute, what stands there as published, and what is trained.
        self._adapted: list[tuple[nn.Module, str, nn.Module, LoRALinear]] = []

    def prepare(self, model: MRCModel) -> None:
        """Freeze the encoder and put the changes beside its matrices."""
        freeze(model, n_levels(model.config))
        for layer in dict.fromkeys(model.encoder.layer_sequence()):
            for place in dict.fromkeys(LORA_PLACES[target][0] for target in self.targets):
                self._adapt(layer, place)
        for name, p in model.named_parameters():
            if name.endswith(".lora_down"):
                values = normal(parameter_name(name), tuple(p.shape), p.shape[-1] ** -0.5, self.seed)
                p.data.copy_(torch.from_numpy(values))

    def _adapt(self, layer: nn.Module, place: str) -> None:
        chosen = [LORA_PLACES[name] for name in LORA_PLACES if name in self.targets]
        parts = [(part, n_parts) for where, part, n_parts in chosen if where == place]
        parent_name, _, attribute = place.rpartition(".")
        parent = layer.get_submodule(parent_name)
        linear = getattr(parent, attribute)
        assert isinstance(linear, nn.Linear), f"{place} is not a matrix"
        adapted = LoRALinear(linear, self.rank, self.scale, [part for part, _ in parts], parts[0][1])
        setattr(parent, attribute, adapted)
        self._adapted.append((parent, attribute, linear, adapted))

    @contextlib.contextmanager
    def evaluating(self, trainer: Trainer) -> Iterator[None]:
        """Add the changes to the weights, and let the model be what it is without them."""
        kept = []
        with torch.no_grad():
            for parent, attribute, linear, adapted in self._adapted:
                kept.append(adapted.weight.clone())
                adapted.weight.add_(adapted.change())
                setattr(parent, attribute, linear)
        try:
            yield
        finally:
            with torch.no_grad():
                for (parent, attribute, _, adapted), weight in zip(self._adapted, kept, strict=True):
                    adapted.weight.copy_(weight)
                    setattr(parent, attribute, adapted)
