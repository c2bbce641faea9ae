"""The forms that a model can be exported in: what writes one, and what computes with it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiment.backend import PACKAGES, Predictor, load_backend
from preprocess.base.errors import CheckpointError, UsageError
from preprocess.types import Batch, Outputs

#: What an output's values are called in a signature, after the output's own name.
SUFFIX = "_logits"

#: The inputs of a window by name -> the outputs' values, by their names in the signature.
Served = Callable[[Mapping[str, NDArray[np.integer]]], dict[str, NDArray[np.float32]]]


@dataclass(frozen=True)
class Form:
    """What a framework itself saves and loads.

    Args:
        title: what messages call it.
        framework: whose model it is made of, one of `backend.PACKAGES`.
        entry: what other programs load or call.
        dtype: of the inputs.
        assets: the directory in the bundle where vocabulary and settings lie, "" for the bundle itself.
        writers: packages that it takes to write it.
        readers: packages that it takes to compute with it.
    """

    title: str
    framework: str
    entry: str
    dtype: str
    assets: str
    writers: tuple[str, ...]
    readers: tuple[str, ...]

    def write(self, model: Any, directory: Path, assets: Iterable[Path]) -> None:
        """Write a model of the framework, and files that go along.

        Raises:
            OSError: if they can't be written.
        """
        self._module.export(model, directory, assets)

    def load(self, directory: Path) -> Served:
        """Load what `write` has written.

        Raises:
            UsageError: if what it takes is not installed.
        """
        load_backend(self.framework)
        served: Served = self._module.load_export(directory)
        return served

    @property
    def _module(self) -> Any:
        return import_module(f"{PACKAGES[self.framework]}.export")


class OnnxForm(Form):
    """A graph of a PyTorch model that onnxruntime computes, and many other runtimes."""

    def write(self, model: Any, directory: Path, assets: Iterable[Path]) -> None:
        """Write the graph, and the files beside it; errors are those of `Form.write`."""
        for path in assets:
            shutil.copy(path, directory)
        self._module.export_onnx(model, directory / self.entry)

    def load(self, directory: Path) -> Served:
        """Load the graph into onnxruntime, on the CPU; errors are those of `Form.load`."""
        require(self.readers, str(directory))
        runtime = import_module("onnxruntime")
        options = runtime.SessionOptions()
        options.log_severity_level = 3  # errors alone
        path = directory / self.entry
        try:
            session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its errors have no class in common but this one
            reason = " ".join(str(error).split())
            raise CheckpointError(f"{path}: onnxruntime can't load it ({reason}); export it again") from None
        names = [output.name for output in session.get_outputs()]
        return lambda inputs: dict(zip(names, session.run(names, dict(inputs)), strict=True))


FORMS: Mapping[str, Form] = {
    "saved_model": Form(
        "SavedModel", "tensorflow", "serving_default", "int32", "assets", ("tensorflow",), ("tensorflow",)
    ),
    "onnx": OnnxForm("ONNX", "pytorch", "model.onnx", "int64", "", ("torch", "onnx", "onnxscript"), ("onnxruntime",)),
    "exported_program": Form("ExportedProgram", "pytorch", "model.pt2", "int64", "", ("torch",), ("torch",)),
}


def require(packages: Iterable[str], what: str) -> dict[str, str]:
    """Import packages that a form needs.

    Args:
        packages: their names.
        what: whatever needs them, as the user wrote it.

    Returns:
        the version of each.

    Raises:
        UsageError: naming the one that is not installed.
    """
    versions = {}
    for package in packages:
        try:
            versions[package] = str(import_module(package).__version__)
        except ModuleNotFoundError as error:
            missing = (error.name or package).partition(".")[0]
            raise UsageError(
                f"{what}: {missing} is not installed; pip install 'chinese-mrc[export]' installs it"
            ) from None
    return versions


def predictor(form: Form, served: Served) -> Predictor:
    """Return what an exported model predicts with: batches in, outputs out, in the same order."""

    def predict(batches: Iterable[Batch]) -> Iterator[Outputs]:
        for batch in batches:
            values = served({name: column.astype(form.dtype) for name, column in batch.inputs.items()})
            yield Outputs(batch.window, {name.removesuffix(SUFFIX): value for name, value in values.items()})

    return predict
