"""One file per family: all that differs between them, as far as it needs no framework.

A family is a module here, named as its `model_type` with underscores for dashes, that defines `FAMILY`. It is found
by its file and imported when first asked for: there is no list to keep.
"""

from __future__ import annotations

import importlib
import pkgutil

from preprocess.base.errors import CheckpointError
from preprocess.base.names import unknown
from pretrained_configs.families.base import Family


def names() -> tuple[str, ...]:
    """Return the families that there are, by `model_type`, sorted."""
    files = (module.name for module in pkgutil.iter_modules(__path__))
    return tuple(sorted(name.replace("_", "-") for name in files if name != "base"))


def module_name(model_type: str) -> str:
    """Return what the modules of a family are called, here and in each framework."""
    return model_type.replace("-", "_")


def find(model_type: str) -> Family:
    """Return a family.

    Raises:
        CheckpointError: if there is none of that name, with the closest.
    """
    known = names()
    if model_type not in known:
        raise CheckpointError(unknown("model_type", model_type, known))
    family: Family = importlib.import_module(f"{__name__}.{module_name(model_type)}").FAMILY
    return family
