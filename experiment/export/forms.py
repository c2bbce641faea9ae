"""The forms that a model can be exported in: what writes one, and what computes with it."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from experiment.backend import PACKAGES, Predictor, load_backend
from experiment.export.runtimes import RUNTIMES, Served
from preprocess.types import Batch, Outputs

#: What an output's values are called in a signature, after the output's own name.
SUFFIX = "_logits"


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

    def load(self, directory: Path, runtime: str = "", precision: str = "fp32") -> Served:
        """Load what `write` has written.

        Args:
            directory: of the bundle.
            runtime: one of `runtimes.RUNTIMES`, where several compute the form.
            precision: in which they do.

        Raises:
            UsageError: if what it takes is not installed.
            CheckpointError: if a file is damaged.
        """
        load_backend(self.framework)
        served: Served = self._module.load_export(directory)
        return served

    @property
    def _module(self) -> Any:
        return import_module(f"{PACKAGES[self.framework]}.export")


class OnnxForm(Form):
    """A graph of a PyTorch model that onnxruntime and OpenVINO compute, and many other runtimes."""

    def write(self, model: Any, directory: Path, assets: Iterable[Path]) -> None:
        """Write the graph, and the files beside it; errors are those of `Form.write`."""
        for path in assets:
            shutil.copy(path, directory)
        self._module.export_onnx(model, directory / self.entry)

    def load(self, directory: Path, runtime: str = "onnx", precision: str = "fp32") -> Served:
        """Load the graph, to be computed on the CPU; errors are those of `Runtime.load`."""
        return RUNTIMES[runtime].load(directory / self.entry, precision)


FORMS: Mapping[str, Form] = {
    "saved_model": Form(
        "SavedModel", "tensorflow", "serving_default", "int32", "assets", ("tensorflow",), ("tensorflow",)
    ),
    "onnx": OnnxForm("ONNX", "pytorch", "model.onnx", "int64", "", ("torch", "onnx", "onnxscript"), ("onnxruntime",)),
    "exported_program": Form("ExportedProgram", "pytorch", "model.pt2", "int64", "", ("torch",), ("torch",)),
}


def predictor(form: Form, served: Served) -> Predictor:
    """Return what an exported model predicts with: batches in, outputs out, in the same order."""

    def predict(batches: Iterable[Batch]) -> Iterator[Outputs]:
        for batch in batches:
            values = served({name: column.astype(form.dtype) for name, column in batch.inputs.items()})
            yield Outputs(batch.window, {name.removesuffix(SUFFIX): value for name, value in values.items()})

    return predict
