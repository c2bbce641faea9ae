"""One file per family, named as in `pretrained_configs.families`: it defines `ENCODER`, imported when asked for."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from preprocess.base.errors import CheckpointError
from pretrained_configs.families import module_name

if TYPE_CHECKING:
    from pytorch_modeling.encoder import Encoder


def encoder_class(model_type: str) -> type[Encoder]:
    """Return the encoder of a family.

    Raises:
        CheckpointError: if it is one that PyTorch has no encoder for.
    """
    name = f"{__name__}.{module_name(model_type)}"
    try:
        encoder: type[Encoder] = importlib.import_module(name).ENCODER
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise CheckpointError(f"model_type {model_type!r} has no encoder in PyTorch (there is no {name})") from None
    return encoder
