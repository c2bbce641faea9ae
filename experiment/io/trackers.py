"""Programs that keep the curves of many runs: one small class each, behind one interface.

Where they keep them, and under whose account, is their own business: each reads its own environment variables, such
as MLFLOW_TRACKING_URI or WANDB_MODE.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol

from preprocess.base.errors import UsageError

TENSORBOARD = "tensorboard"
NONE = "none"
_PROJECT = "chinese-mrc"
#: What MLflow's older servers take of a parameter.
_LONGEST_PARAMETER = 500


class Tracker(Protocol):
    """Keeps the curves of one seed."""

    def __init__(self, name: str, group: str, config: Mapping[str, Any]) -> None:
        """Begin a run.

        Args:
            name: of the run and its seed.
            group: of runs that belong together: the task.
            config: options, JSON-able.
        """

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Keep values by their names, such as "train/loss"."""

    def end(self, succeeded: bool) -> None:
        """End the run."""


class _MLflow:
    def __init__(self, name: str, group: str, config: Mapping[str, Any]) -> None:
        self._mlflow: Any = import_module("mlflow")
        self._mlflow.set_experiment(f"{_PROJECT} {group}")
        self._mlflow.start_run(run_name=name)
        self._mlflow.log_params({key: str(value)[:_LONGEST_PARAMETER] for key, value in config.items()})

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._mlflow.log_metrics(dict(values), step=step)

    def end(self, succeeded: bool) -> None:
        self._mlflow.end_run(status="FINISHED" if succeeded else "FAILED")


class _Wandb:
    def __init__(self, name: str, group: str, config: Mapping[str, Any]) -> None:
        wandb: Any = import_module("wandb")
        self._run = wandb.init(project=_PROJECT, group=group, name=name, config=dict(config))

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._run.log(dict(values), step=step)

    def end(self, succeeded: bool) -> None:
        self._run.finish(exit_code=0 if succeeded else 1)


class _SwanLab:
    def __init__(self, name: str, group: str, config: Mapping[str, Any]) -> None:
        self._swanlab: Any = import_module("swanlab")
        self._swanlab.init(project=_PROJECT, experiment_name=f"{group} {name}", config=dict(config))

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._swanlab.log(dict(values), step=step)

    def end(self, succeeded: bool) -> None:
        self._swanlab.finish()


class _Trackio:
    def __init__(self, name: str, group: str, config: Mapping[str, Any]) -> None:
        self._trackio: Any = import_module("trackio")
        self._trackio.init(project=_PROJECT, name=f"{group} {name}", config=dict(config))

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._trackio.log(dict(values), step=step)

    def end(self, succeeded: bool) -> None:
        self._trackio.finish()


#: Name, which is that of the package -> its adapter.
TRACKERS: Mapping[str, type[Tracker]] = {
    "mlflow": _MLflow,
    "wandb": _Wandb,
    "swanlab": _SwanLab,
    "trackio": _Trackio,
}


def trackers_of(report_to: tuple[str, ...]) -> list[str]:
    """Return the names that --report_to holds, each once; TensorBoard may be among them.

    Raises:
        UsageError: if a package is not installed.
    """
    names = list(dict.fromkeys(name for text in report_to for name in split_names(text) if name != NONE))
    for name in names:
        if name != TENSORBOARD and not _is_installed(name):
            raise UsageError(f"--report_to {name}: {name} is not installed; pip install {name}, or leave it out")
    return names


def _is_installed(name: str) -> bool:
    spec = find_spec(name)
    # A directory of that name, such as wandb's own in the working directory, is found, too; it has no module.
    return spec is not None and spec.origin is not None


def split_names(text: str) -> list[str]:
    """Return the names in a list with commas."""
    return [name.strip() for name in text.split(",") if name.strip()]
