"""The JSON of a name map, with what it takes over from the map that it extends; see `namemap` for its keys."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

DIRECTORY = Path(__file__).with_name("namemaps")


def read(name: str) -> dict[str, Any]:
    """Read a map's JSON, with what it takes over from the map that it extends."""
    text = (DIRECTORY / f"{name}.json").read_text(encoding="utf-8")
    own: dict[str, Any] = json.loads(text)
    if "extends" not in own:
        return own
    base = read(own["extends"])
    taken = json.dumps({key: base.get(key, []) for key in ("rules", "ignore", "aliases")})
    for old, new in own.get("replace", {}).items():
        taken = taken.replace(json.dumps(old)[1:-1], json.dumps(new)[1:-1])
    theirs = json.loads(taken)
    overruled = {rule["ours"] for rule in own["rules"]}
    kept = [rule for rule in theirs["rules"] if not _covers(overruled, rule["ours"])]
    lists = {
        "rules": own["rules"] + kept,
        "ignore": own.get("ignore", []) + theirs["ignore"],
        "aliases": own.get("aliases", []) + theirs["aliases"],
    }
    return {**base, **own, **lists}


def _covers(templates: Iterable[str], ours: str) -> bool:
    """Say whether one of the templates writes the same module's parameters as `ours`."""
    return any(module(template) == module(ours) for template in templates)


def module(name: str) -> str:
    """Return what a parameter's name begins with: the module that it is of."""
    return name.rpartition(".")[0]
