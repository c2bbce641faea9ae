"""What a backend (a framework's implementation of the models) offers, and how one is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module, util
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from experiment.config import UsageError
from preprocess.types import Batch, HeadSpec, Logits
from pretrained_configs.config import ModelConfig
from pretrained_configs.namemap import LoadReport

#: --framework -> package. A package is imported only when it is asked for.
PACKAGES = {"pytorch": "pytorch_modeling", "tensorflow": "tf_modeling"}


class Trainer(Protocol):
    """Takes optimizer steps on a model."""

    def step(self, batches: Sequence[Batch]) -> None:
        """Take one optimizer step on the union of the batches."""

    def metrics(self) -> dict[str, float]:
        """Return means since the last call: "loss", "grad_norm", "learning_rate"."""


class Backend(Protocol):
    """The names a backend package exports; a model is whatever its own functions take."""

    #: trainer class: Trainer(model, n_steps=…, learning_rate=…, …)
    Trainer: Any

    def build_model(self, config: ModelConfig, head: HeadSpec | None, *, device: str, seed: int) -> Any:
        """Build a model with fresh weights."""

    def load_weights(self, model: Any, name_or_path: str, *, fresh_head: bool) -> LoadReport:
        """Load a checkpoint into the model, refusing silent misses."""

    def check_weights(
        self, config: ModelConfig, head: HeadSpec | None, name_or_path: str, *, fresh_head: bool
    ) -> LoadReport:
        """Refuse what `load_weights` would refuse, without reading the tensors."""

    def save_weights(self, model: Any, directory: Path) -> None:
        """Write config.json and weights in the layout of transformers."""

    def predict(self, model: Any, batches: Iterable[Batch], *, precision: str) -> Iterator[Logits]:
        """Yield logits per batch."""

    def hidden_states(
        self,
        model: Any,
        input_ids: NDArray[np.integer],
        attention_mask: NDArray[np.integer],
        token_type_ids: NDArray[np.integer],
    ) -> dict[str, NDArray[np.float32]]:
        """Compute every layer's output."""

    def parameter_shapes(self, model: Any) -> dict[str, tuple[int, ...]]:
        """Return the shape of every parameter by its framework-neutral name."""

    def devices(self) -> tuple[str, ...]:
        """Return the names of the devices there are, the fastest first, "cpu" last."""

    def set_seed(self, seed: int) -> None:
        """Seed all generators."""

    def device_facts(self, model: Any) -> dict[str, Any]:
        """Return "device" (its name) and "peak_bytes" (its peak memory so far, or None on a CPU)."""


def choose_device(backend: Backend, device: str) -> str:
    """Turn --device into the name of a device that exists.

    Raises:
        UsageError: if there is no such device.
    """
    known = backend.devices()
    if device == "auto":
        return known[0]
    name = f"{device}:0" if device == "cuda" else device
    if name not in known:
        raise UsageError(f"--device {device}: no such device here; there are auto, {', '.join(known)}")
    return name


def load_backend(framework: str) -> Backend:
    """Import a backend.

    Raises:
        UsageError: if it is not part of this installation.
    """
    package = PACKAGES[framework]
    if util.find_spec(package) is None:
        raise UsageError(f"--framework {framework}: this version has no package {package}; use --framework pytorch")
    module: Any = import_module(package)
    return module
