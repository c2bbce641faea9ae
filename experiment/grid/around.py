"""The file of a grid that trains one run in several ways: as it is typed, and readable by hand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from experiment.options.arguments import with_home
from experiment.options.changed import OF_THE_RUN
from experiment.options.flags import GridOptions, TrainOptions
from experiment.options.recipe import to_plain

GRID_FILE = "grid.yaml"


def grid_around(base: TrainOptions, variants: Mapping[str, TrainOptions], output_dir: Path) -> dict[str, Any]:
    """Return the options of a grid.

    Args:
        base: of a run, which says model, task, framework and seeds.
        variants: name -> options of the same run, some of them changed.
        output_dir: of the grid.

    Returns:
        options of `grid` by name, YAML-able.
    """
    default = to_plain(with_home(TrainOptions(task="", output_dir=Path())))
    plain = to_plain(base)
    model = "models" if base.model_name_or_path is not None else "config_names"
    return {
        "output_dir": str(output_dir),
        model: [base.model_name_or_path or base.config_name],
        "tasks": [base.task],
        "frameworks": [base.framework],
        "variants": list(variants),
        "seeds": list(base.seeds),
        "settings": {
            "all": _differing(plain, default),
            **{name: _differing(to_plain(options), plain) for name, options in variants.items()},
        },
    }


def grid_text(content: Mapping[str, Any], note: str) -> str:
    """Return the file of a grid.

    Args:
        content: its options.
        note: what a reader should know, in one line.
    """
    return f"# {note}\n" + yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True)


def grid_options(content: Mapping[str, Any], **others: Any) -> GridOptions:
    """Return what the file of a grid stands for, with options of who trains it."""
    settings = yaml.safe_dump(content["settings"], sort_keys=False, allow_unicode=True)
    axes: dict[str, Any] = {
        name: tuple(value) for name, value in content.items() if name not in ("settings", "output_dir")
    }
    return GridOptions(**axes, settings=(settings,), output_dir=Path(content["output_dir"]), **others)


def _differing(options: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name not in OF_THE_RUN and value != others[name]}
