"""The list of published models: how large they are, what they read, and where they are."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from experiment.io.tables import aligned
from experiment.io.terminal import terminal
from experiment.options.flags import ModelsOptions
from pretrained_configs import catalog
from pretrained_configs.catalog import PublishedModel

_HEADER = ("name", "family", "layers x hidden", "parameters", "max length", "licence", "hub id or download")
_RIGHT = ("parameters", "max length")


def models(options: ModelsOptions) -> None:
    """Print every published model in a line, or one in full.

    Raises:
        CheckpointError: if there is none of the name that was given.
    """
    chosen = options.model_name_or_path
    models = [catalog.lookup(name) for name in (catalog.names() if chosen is None else (chosen,))]
    # Lines are neither wrapped nor cut, whatever the width of the terminal, so that they can be piped.
    console = terminal()
    if options.json:
        text = json.dumps({model.name: facts(model) for model in models}, ensure_ascii=False, indent=2)
        lines: Iterator[str] = iter((text,))
    else:
        lines = table(models) if chosen is None else describe(models[0])
    for line in lines:
        console.print(line)


def facts(model: PublishedModel) -> dict[str, Any]:
    """Return everything that is known about a model, with the keys of its JSON file and its number of parameters."""
    spare_rows = {} if model.n_spare_rows == 0 else {"n_spare_rows": model.n_spare_rows}
    return {
        "hub_id": model.hub_id,
        "homepage": model.homepage,
        "download": model.download,
        "files": list(model.files),
        "namemap": model.namemap,
        "licence": model.licence,
        "architecture": asdict(model.config),
        "max_seq_length": model.max_seq_length,
        "tokenizer": {"kind": model.tokenizer, "do_lower_case": model.do_lower_case, **spare_rows},
        "notes": list(model.notes),
        "recipes": {task: dict(recipe) for task, recipe in model.recipes.items()},
        "n_parameters": catalog.n_parameters(model.config),
    }


def table(models: Sequence[PublishedModel]) -> Iterator[str]:
    """Return a header and one line per model, in columns."""
    return aligned(_HEADER, [_row(model) for model in models], right=_RIGHT)


def _row(model: PublishedModel) -> tuple[str, ...]:
    return (
        model.name,
        model.config.model_type,
        f"{model.config.num_hidden_layers} x {model.config.hidden_size}",
        _millions(model),
        str(model.max_seq_length),
        model.licence or "none stated",
        model.hub_id or model.download,
    )


def _millions(model: PublishedModel) -> str:
    return f"{catalog.n_parameters(model.config) / 1e6:.1f} M"


def describe(model: PublishedModel) -> Iterator[str]:
    """Yield the lines about one model."""
    config = model.config
    yield f"{model.name}: {config.model_type}, {_millions(model)} parameters, up to {model.max_seq_length} tokens"
    yield f"  hub id:    {model.hub_id or 'not on the hub'}"
    yield f"  homepage:  {model.homepage}"
    yield f"  download:  {model.download}"
    yield f"  files:     {' '.join(model.files)}"
    yield f"  name map:  {model.namemap}"
    yield f"  licence:   {model.licence or 'none stated'}"
    yield f"  tokenizer: {model.tokenizer}, {'lower-cased' if model.do_lower_case else 'cased'}" + (
        f", {model.n_spare_rows} rows of the word table are spare" if model.n_spare_rows else ""
    )
    yield "  architecture:"
    for name, value in asdict(config).items():
        yield f"    {name}: {value}"
    yield "  notes:"
    for note in model.notes:
        yield f"    {note}"
    for task, recipe in model.recipes.items():
        flags = " ".join(f"--{name} {value}" for name, value in recipe.items() if name != "source")
        yield f"  recipe for {task}: {flags}"
        yield f"    source: {recipe['source']}"
    if not model.recipes:
        yield "  no published recipe"
