"""Published models by short name: where they are, how they are built, and how their authors fine-tuned them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

from preprocess.base.errors import CheckpointError
from preprocess.base.jsonfile import read_json_object
from preprocess.base.names import did_you_mean
from pretrained_configs.config import ModelConfig
from pretrained_configs.namemap import NameMap
from pretrained_configs.parameters import parameter_shapes

_DIRECTORY = Path(__file__).with_name("models")

#: The maps that a published model's tensors can have names of.
NAMEMAPS = tuple(NameMap.names())

#: Kinds of tokenizers that can be built.
TOKENIZERS = ("wordpiece", "unigram", "byte_bpe")

#: Key of a model's JSON -> the type of its value. All are needed, and there are no others.
SCHEMA: Mapping[str, type] = {
    "hub_id": str,
    "homepage": str,
    "download": str,
    "files": list,
    "namemap": str,
    "licence": str,
    "architecture": dict,
    "max_seq_length": int,
    "tokenizer": dict,
    "notes": list,
    "recipes": dict,
}
_TOKENIZER: Mapping[str, type] = {"kind": str, "do_lower_case": bool, "n_spare_rows": int}
#: Those of them that may be left out, and may be null: not known.
_OPTIONAL = ("n_spare_rows",)
_JSON_NAMES = {str: "a string", list: "a list", dict: "an object", int: "an integer", bool: "true or false"}


@dataclass(frozen=True, slots=True)
class PublishedModel:
    """One published checkpoint.

    Args:
        name: short name, the stem of its JSON file.
        hub_id: where it is on the hub, "owner/name"; "" where its authors' files are not there.
        homepage: its authors' page.
        download: where its files are had from.
        files: names of the published files that are needed: configuration, vocabulary, weights.
        namemap: the map of its tensors' names, one of `NAMEMAPS`.
        licence: SPDX identifier, as its authors state it; "" where they state none.
        config: its architecture, as the programs that `files` were made for compute it.
        max_seq_length: the longest input it was made for, in tokens.
        tokenizer: kind of its tokenizer, one of `TOKENIZERS`.
        do_lower_case: whether its authors' tokenizer lower-cases and strips accents.
        n_spare_rows: rows of its word table that no entry of its vocabulary stands for; None where nobody counted.
        notes: what else is known of it, and what could not be verified, one sentence each.
        recipes: task -> published fine-tuning parameters (names of their flags) and their "source".
    """

    name: str
    hub_id: str
    homepage: str
    download: str
    files: tuple[str, ...]
    namemap: str
    licence: str
    config: ModelConfig
    max_seq_length: int
    tokenizer: str
    do_lower_case: bool
    n_spare_rows: int | None
    notes: tuple[str, ...]
    recipes: Mapping[str, Mapping[str, Any]]

    @property
    def how_to_get(self) -> str:
        """What to do for its files, in one line: for the error where there is no hub to ask."""
        return (
            f"{self.name} is not on the hub; get {', '.join(self.files)} from {self.download} "
            "and give their directory instead of the name"
        )


@cache
def names() -> tuple[str, ...]:
    """Return the short names, sorted without regard to case."""
    return tuple(sorted((path.stem for path in _DIRECTORY.glob("*.json")), key=str.casefold))


@cache
def lookup(name: str) -> PublishedModel:
    """Return a published model by short name or hub id.

    Raises:
        CheckpointError: if there is none of that name, with the closest.
    """
    if name in names():
        return read(_DIRECTORY / f"{name}.json")
    for known in names():
        if name and (model := lookup(known)).hub_id == name:
            return model
    raise CheckpointError(unknown(name))


def unknown(name: str) -> str:
    """Return the error for a name that is not in the catalogue, with the closest name."""
    return f"unknown model {name!r}{did_you_mean(name, names()) or '; known: ' + ', '.join(names())}"


def find(name: str) -> PublishedModel | None:
    """Return a published model by short name or hub id, or None if it is not in the catalogue."""
    try:
        return lookup(name) if name in names() or "/" in name else None
    except CheckpointError:
        return None


def vocabulary_sizes(n_rows: int) -> frozenset[int]:
    """Return how many entries the vocabularies of those published models have whose word table has so many rows.

    What is not known of one of them is not known of any: then there are none.
    """
    spare = {model.n_spare_rows for model in map(lookup, names()) if model.config.vocab_size == n_rows}
    return frozenset() if None in spare else frozenset(n_rows - n for n in spare if n is not None)


def n_parameters(config: ModelConfig) -> int:
    """Count the parameters of an encoder: embeddings, layers (shared ones once), and the pooler if it has one."""
    shapes = parameter_shapes(config, pooled=config.family.published_pooler)
    return sum(math.prod(shape) for shape in shapes.values())


def read(path: Path) -> PublishedModel:
    """Read the JSON of one model.

    Raises:
        CheckpointError: naming the file and every key that is missing, unknown or can't be meant.
    """
    values = read_json_object(path)
    problems = _wrong_keys(values, SCHEMA, "")
    if not problems:
        problems = _wrong_values(values)
    if problems:
        raise CheckpointError(f"{path}: {'; '.join(problems)}")
    try:
        config = ModelConfig(**values["architecture"])
    except CheckpointError as error:
        raise CheckpointError(f"{path}: architecture: {error}") from None
    return PublishedModel(
        name=path.stem,
        hub_id=values["hub_id"],
        homepage=values["homepage"],
        download=values["download"],
        files=tuple(values["files"]),
        namemap=values["namemap"],
        licence=values["licence"],
        config=config,
        max_seq_length=values["max_seq_length"],
        tokenizer=values["tokenizer"]["kind"],
        do_lower_case=values["tokenizer"]["do_lower_case"],
        n_spare_rows=values["tokenizer"].get("n_spare_rows", 0),
        notes=tuple(values["notes"]),
        recipes=values["recipes"],
    )


def _wrong_keys(values: Mapping[str, Any], schema: Mapping[str, type], where: str) -> list[str]:
    """List missing keys, unknown keys, and values of another type."""
    problems = [f"{where}{key!r} is missing" for key in schema if key not in (*values, *_OPTIONAL)]
    problems += [
        f"unknown key {where}{key!r}{did_you_mean(key, list(schema))}" for key in values if key not in schema
    ]
    for key, wanted in schema.items():
        # bool is an int to Python.
        if key in values and type(values[key]) is not wanted and not (key in _OPTIONAL and values[key] is None):
            problems.append(f"{where}{key!r} {values[key]!r} is not {_JSON_NAMES[wanted]}")
    return problems


def _wrong_values(values: Mapping[str, Any]) -> list[str]:
    problems = _wrong_keys(values["tokenizer"], _TOKENIZER, "tokenizer: ")
    problems += [
        f"{key!r} {item!r} is not a string"
        for key in ("files", "notes")
        for item in values[key]
        if type(item) is not str
    ]
    if values["hub_id"] and values["hub_id"].count("/") != 1:
        problems.append(f"'hub_id' {values['hub_id']!r} is not owner/name")
    problems += [f"{key!r} is empty" for key in ("homepage", "download", "files") if not values[key]]
    for what, value, known in (
        ("namemap", values["namemap"], NAMEMAPS),
        ("tokenizer: kind", values["tokenizer"].get("kind"), TOKENIZERS),
    ):
        if value not in known:
            problems.append(f"{what} {value!r} is none of {', '.join(known)}{did_you_mean(value, known)}")
    needed = {f.name: f.default is MISSING for f in fields(ModelConfig)}
    problems += [
        f"architecture: unknown key {key!r}{did_you_mean(key, needed)}"
        for key in values["architecture"]
        if key not in needed
    ]
    problems += [
        f"architecture: {key!r} is missing" for key in needed if needed[key] and key not in values["architecture"]
    ]
    for task, recipe in values["recipes"].items():
        if not isinstance(recipe, dict) or not isinstance(recipe.get("source"), str) or not recipe["source"]:
            problems.append(f'recipes: {task!r} has no "source"')
    return problems
