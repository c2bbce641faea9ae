"""Published models by short name: where they are, how they are built, and how their authors fine-tuned them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pretrained_configs.config import CheckpointError, ModelConfig, did_you_mean

_DIRECTORY = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class PublishedModel:
    """One published checkpoint.

    Args:
        name: short name, the stem of its JSON file.
        hub_id: where it is on the hub, "owner/name".
        homepage: its authors' page.
        licence: SPDX identifier, as its authors state it; "" where they state none.
        config: its architecture.
        namemap: the map of its tensors' names.
        max_seq_length: the longest input it was made for, in tokens.
        do_lower_case: whether its tokenizer lower-cases and strips accents.
        recipes: task -> published fine-tuning parameters (names of RunConfig fields) and their "source".
    """

    name: str
    hub_id: str
    homepage: str
    licence: str
    config: ModelConfig
    namemap: str
    max_seq_length: int
    do_lower_case: bool
    recipes: Mapping[str, Mapping[str, Any]]


@cache
def names() -> tuple[str, ...]:
    """Return the short names, sorted."""
    return tuple(sorted(path.stem for path in _DIRECTORY.glob("*.json")))


@cache
def lookup(name: str) -> PublishedModel:
    """Return a published model by short name or hub id.

    Raises:
        CheckpointError: if there is none of that name, with the closest.
    """
    if name in names():
        return _read(_DIRECTORY / f"{name}.json")
    for known in names():
        if (model := lookup(known)).hub_id == name:
            return model
    raise CheckpointError(unknown(name))


def unknown(name: str) -> str:
    """Return the error for a name that is not in the catalogue, with the closest name."""
    return f"unknown model {name!r}{did_you_mean(name, names()) or '; known: ' + ', '.join(names())}"


def _read(path: Path) -> PublishedModel:
    values = json.loads(path.read_text(encoding="utf-8"))
    return PublishedModel(
        name=path.stem,
        hub_id=values["hub_id"],
        homepage=values["homepage"],
        licence=values["licence"],
        config=ModelConfig.from_transformers(values["architecture"], path.name),
        namemap=values["namemap"],
        max_seq_length=values["max_seq_length"],
        do_lower_case=values["tokenizer"]["do_lower_case"],
        recipes=MappingProxyType(values["recipes"]),
    )


def find(name: str) -> PublishedModel | None:
    """Return a published model by short name or hub id, or None if it is not in the catalogue."""
    return next((model for known in names() if name in (known, (model := lookup(known)).hub_id)), None)
