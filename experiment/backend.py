"""What a backend (a framework's implementation of the models) offers, and how one is loaded."""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from preprocess.base.errors import UsageError
from preprocess.base.spec import TrainerSpec
from preprocess.types import Batch, HeadSpec, Outputs
from pretrained_configs.checkpoint import Checkpoint
from pretrained_configs.config import ModelConfig
from pretrained_configs.report import LoadReport

#: --framework -> package. A package is imported only when it is asked for.
PACKAGES = {"pytorch": "pytorch_modeling", "tensorflow": "tf_modeling"}
_TENSORFLOW = "pip install 'chinese-mrc[tensorflow]' installs it ('chinese-mrc[tensorflow-gpu]' for NVIDIA GPUs)"
#: What a package needs from outside -> how to get it.
INSTALLS = {"torch": "pip install torch installs it", "tensorflow": _TENSORFLOW, "keras": _TENSORFLOW}

Result = TypeVar("Result")

#: Batches in, outputs out: a model of a backend, or what was exported of one.
Predictor = Callable[[Iterable[Batch]], Iterator[Outputs]]


class Trainer(Protocol):
    """Takes optimizer steps on a model."""

    #: steps in a row, up to the last before `metrics`, that had no effect
    skipped_in_a_row: int

    def attach(self, hook: Any) -> None:
        """Attach one of the framework's `TrainerHook`s, before the first step."""

    def evaluating(self) -> contextlib.AbstractContextManager[None]:
        """Return the context in which the model is as its hooks want it to be evaluated, and saved."""

    def step(self, batches: Sequence[Batch]) -> None:
        """Take one optimizer step on the union of the batches; none if its loss or gradients are not finite.

        Raises:
            MemoryError: with auto_find_batch_size, if memory ran out; nothing has changed.
        """

    def metrics(self) -> dict[str, float]:
        """Return means since the last call: those of `step_metrics`, and "learning_rate"."""

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of all that later steps depend on: nested dicts of numpy arrays and JSON values."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from the state of another trainer of the same model and schedule."""


class Group(Protocol):
    """The processes of a run, which all take the same steps and call the same of these methods in the same order."""

    #: number of this process, from 0; process 0 alone writes files
    rank: int
    #: number of processes
    size: int

    def gather(self, value: Any) -> list[Any]:
        """Return every process's value, in their order."""

    def first(self, value: Any) -> Any:
        """Return the value of process 0."""


def by_first(group: Group, function: Callable[[], Result]) -> Result:
    """Call a function in the first process; what it returns, or raises, comes to all."""
    result: Any = None
    problem: Exception | None = None
    if group.rank == 0:
        try:
            result = function()
        except Exception as error:
            problem = error
    result, problem = group.first((result, problem))
    if problem is not None:
        raise problem
    return result


class Backend(Protocol):
    """The names a backend package exports; a model is whatever its own functions take."""

    #: class of this process's `Group`, which `Group.current()` returns
    Group: Any

    #: trainer class: Trainer(model, spec)
    Trainer: Any

    def check_trainer(self, spec: TrainerSpec, device: str) -> None:
        """Refuse what the framework, or so many devices or processes, can't do."""

    def build_model(self, config: ModelConfig, head: HeadSpec | None, *, device: str, seed: int) -> Any:
        """Build a model with fresh weights."""

    def outline(self, config: ModelConfig, head: HeadSpec | None) -> Any:
        """Build a model whose parameters have shapes, and neither values nor memory: what fails here fails in all."""

    def load_weights(self, model: Any, checkpoint: Checkpoint, *, fresh_head: bool) -> LoadReport:
        """Load a checkpoint into the model, refusing silent misses."""

    def load_model(
        self, checkpoint: Checkpoint, head: HeadSpec | None, *, device: str, fresh_head: bool, seed: int = 0
    ) -> tuple[Any, LoadReport]:
        """Build a model with a checkpoint's weights, and fresh ones where it has and may have none."""

    def check_weights(self, checkpoint: Checkpoint, head: HeadSpec | None, *, fresh_head: bool) -> LoadReport:
        """Refuse what `load_model` would refuse, without reading the tensors."""

    def save_weights(self, model: Any, directory: Path | None) -> None:
        """Write config.json and weights in the layout of transformers; all processes call it, most with None."""

    def predict(self, model: Any, batches: Iterable[Batch], *, precision: str) -> Iterator[Outputs]:
        """Yield logits per batch."""

    def hidden_states(
        self,
        model: Any,
        input_ids: NDArray[np.integer],
        attention_mask: NDArray[np.integer],
        token_type_ids: NDArray[np.integer],
    ) -> dict[str, NDArray[np.float32]]:
        """Compute every layer's output."""

    def last_states(self, model: Any, batch: Batch) -> NDArray[np.float32]:
        """Compute the last layer's output at each token of a batch."""

    def activations(self, model: Any, batch: Batch, *, precision: str) -> dict[str, NDArray[np.float32]]:
        """Compute every layer's output at the real tokens of a batch."""

    def gradients(
        self, model: Any, batch: Batch, *, precision: str, loss_scale: float = 1.0
    ) -> tuple[dict[str, NDArray[np.float32]], dict[str, NDArray[np.float32]]]:
        """Compute logits and loss of a batch, and the gradient of every parameter."""

    def parameter_values(self, model: Any) -> dict[str, NDArray[np.float32]]:
        """Return a copy of every parameter by its framework-neutral name."""

    def set_parameters(self, model: Any, values: Mapping[str, NDArray[np.float32]]) -> None:
        """Set parameters by their framework-neutral names."""

    def parameter_shapes(self, model: Any) -> dict[str, tuple[int, ...]]:
        """Return the shape of every parameter by its framework-neutral name."""

    def devices(self) -> tuple[str, ...]:
        """Return the names of the devices there are, the fastest first, "cpu" last."""

    def n_devices(self, device: str) -> int:
        """Return how many devices share each batch where this one is asked for."""

    def set_seed(self, seed: int) -> None:
        """Seed all generators."""

    def allow_tf32(self, allowed: bool) -> None:
        """Say whether float32 matrix products may be rounded to TF32 on GPUs."""

    def be_deterministic(self, wanted: bool) -> None:
        """Say whether GPUs have to compute the same bits each time; before anything is computed on one."""

    def profiler(self, directory: Path) -> contextlib.AbstractContextManager[None]:
        """Return a context that writes a trace of what is computed in it."""

    def device_facts(self, model: Any) -> dict[str, Any]:
        """Return "device" (its name) and "peak_bytes" (the most memory held so far: of the process, on a CPU)."""

    def release_memory(self) -> None:
        """Give memory back to the device that is kept for models that are gone."""

    def translated(self, error: Exception) -> Exception:
        """Return what an error of the framework means: a MemoryError, a LostPeerError; any other one as it is."""


def translated(error: Exception) -> Exception:
    """Return what an error means, if it is one of a framework that this process has loaded."""
    for package in PACKAGES.values():
        if package in sys.modules:
            backend: Any = sys.modules[package]
            error = backend.translated(error)
    return error


def choose_device(backend: Backend, device: str) -> str:
    """Turn --device into the name of a device that exists.

    Raises:
        UsageError: if there is no such device.
    """
    known = backend.devices()
    if device == "auto":
        return known[0]
    name = device
    if device == "cuda" and "cuda" not in known:  # it is no device of its own (all GPUs of the host), but the first
        name = next((gpu for gpu in known if gpu.startswith("cuda:")), device)
    if name not in known:
        raise UsageError(f"--device {device}: no such device here; there are auto, {', '.join(known)}")
    return name


def load_backend(framework: str) -> Backend:
    """Import a backend.

    Raises:
        UsageError: if the framework is not installed, or does not start.
    """
    first = not any(package in sys.modules for package in PACKAGES.values())
    try:
        module: Any = import_module(PACKAGES[framework])
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in INSTALLS:
            raise
        raise UsageError(f"--framework {framework}: {missing} is not installed; {INSTALLS[missing]}") from None
    except ImportError as error:
        raise UsageError(f"--framework {framework}: {' '.join(str(error).split())}") from error
    if first:
        # A framework's modules are half a million objects for good: without this each full collection walks them,
        # 0.1 s. Once: later there may be models among what is alive, or waits to be collected, and they would stay.
        gc.collect()
        gc.freeze()
    return module
