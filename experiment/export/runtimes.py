"""What computes an ONNX graph on a CPU: onnxruntime, or OpenVINO."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiment.launch import n_threads
from preprocess.base.errors import CheckpointError, UsageError

#: The inputs of a window by name -> the outputs' values, by their names in the signature.
Served = Callable[[Mapping[str, NDArray[np.integer]]], dict[str, NDArray[np.float32]]]

#: Precision -> what OpenVINO calls it.
_OPENVINO = {"fp32": "f32", "bf16": "bf16"}


@dataclass(frozen=True)
class Runtime:
    """A program that computes a graph.

    Args:
        title: what messages call it.
        package: that it takes.
        extra: of ours, which installs that.
        precisions: that it can compute in, where the processor can.
        start: loads the graph in a file, in a precision.
    """

    title: str
    package: str
    extra: str
    precisions: tuple[str, ...]
    start: Callable[[Path, str], Served]

    def load(self, path: Path, precision: str = "fp32") -> Served:
        """Load a graph, to be computed by as many threads as this process has processors.

        Args:
            path: of the ONNX file.
            precision: one of `precisions`.

        Raises:
            UsageError: if the package is not installed, or the processor can't compute so.
            CheckpointError: if the file can't be loaded.
        """
        require((self.package,), str(path.parent), self.extra)
        try:
            return self.start(path, precision)
        except UsageError:
            raise
        except Exception as error:  # the errors of neither have another class in common
            reason = " ".join(str(error).split())
            raise CheckpointError(f"{path}: {self.title} can't load it ({reason}); export it again") from None


def require(packages: Iterable[str], what: str, extra: str = "export") -> dict[str, str]:
    """Import packages.

    Args:
        packages: their names.
        what: whatever needs them, as the user wrote it.
        extra: of ours, which installs them.

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
                f"{what}: {missing} is not installed; pip install 'chinese-mrc[{extra}]' installs it"
            ) from None
    return versions


def _onnxruntime(path: Path, _precision: str) -> Served:
    runtime = import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 3  # errors alone
    # Its own choice is every core of the machine, and a place for each thread: processes would compute on the same.
    options.intra_op_num_threads = n_threads()
    session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda inputs: dict(zip(names, session.run(names, dict(inputs)), strict=True))


def _openvino(path: Path, precision: str) -> Served:
    core = import_module("openvino").Core()
    if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise UsageError("--bf16: this processor does not compute in bfloat16; leave it out")
    # Left to itself it takes bfloat16 wherever there is a unit for it.
    asked: dict[str, Any] = {"INFERENCE_PRECISION_HINT": _OPENVINO[precision], "INFERENCE_NUM_THREADS": n_threads()}
    model = core.compile_model(path, "CPU", {"PERFORMANCE_HINT": "LATENCY", **asked})
    names = {output: output.get_any_name() for output in model.outputs}

    def compute(inputs: Mapping[str, NDArray[np.integer]]) -> dict[str, NDArray[np.float32]]:
        # A request of its own for each call: one that is shared would compute for a single thread at a time.
        values = model.create_infer_request().infer(dict(inputs))
        return {name: np.asarray(values[output], np.float32) for output, name in names.items()}

    return compute


#: By the value of --framework.
RUNTIMES: Mapping[str, Runtime] = {
    "onnx": Runtime("onnxruntime", "onnxruntime", "export", ("fp32",), _onnxruntime),
    "openvino": Runtime("OpenVINO", "openvino", "openvino", ("fp32", "bf16"), _openvino),
}
