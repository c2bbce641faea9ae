"""What a checkpoint was fine-tuned with and must be used with: a small JSON file beside its weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiment.options.flags import FeatureOptions
from preprocess.base.errors import UsageError
from preprocess.base.files import write_json
from pretrained_configs.locate import resolve
from tasks.core.task import Task

FILE_NAME = "mrc_settings.json"
_FEATURES = ("max_seq_length", "doc_stride", "doc_overlap", "max_query_length")


def write_settings(directory: Path, task: Task, options: FeatureOptions, decode: Mapping[str, Any]) -> None:
    """Write task, window and decoding settings into a checkpoint's directory."""
    features = {name: getattr(options, name) for name in _FEATURES}
    write_json(directory / FILE_NAME, {"task": task.name, "version": task.version, "options": {**features, **decode}})


def read_settings(checkpoint: str, task: Task) -> dict[str, Any]:
    """Return the options that a checkpoint was fine-tuned with for this task; none for other checkpoints.

    Raises:
        UsageError: if the file is damaged.
        CheckpointError: if there is no such checkpoint.
    """
    path = resolve(checkpoint).directory / FILE_NAME
    if not path.is_file():
        return {}
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
        options: dict[str, Any] = settings["options"]
        return options if settings["task"] == task.name else {}
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path}: not a settings file of this version ({error}); delete it") from None
