"""A model without this toolkit: as PyTorch's ExportedProgram, and as ONNX, which other runtimes read."""

from __future__ import annotations

import logging
import shutil
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx import GraphModule

from preprocess.types import input_names
from pytorch_modeling.model import MRCModel

_PROGRAM = "model.pt2"
#: The opset that PyTorch's own translations are written in: nothing has to be converted, and every runtime since 2023
#: reads it.
_OPSET = 18
#: Tokens of the input that the graph is recorded on; they stay free.
_LENGTH = 15
_AXES = ("batch", "length")


class _Served(nn.Module):
    """A model whose inputs are arguments, and whose outputs carry the names of the signature."""

    def __init__(self, model: MRCModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor, answer_mask: Tensor | None = None
    ) -> dict[str, Tensor]:
        given = (input_ids, attention_mask, token_type_ids, *([] if answer_mask is None else [answer_mask]))
        values = self.model(dict(zip(input_names(self.model.head_spec), given, strict=True)))
        return {_served_name(name): values[name] for name in _outputs(self.model)}


def export(model: MRCModel, directory: Path, assets: Iterable[Path]) -> None:
    """Write an ExportedProgram for inference in float32, `model.pt2`: `torch.export.load` reads it.

    It takes input_ids, attention_mask, token_type_ids, and answer_mask where the head asks for it, int64 [B, S], of
    any B and of any S up to the position table's length; the program itself refuses a longer S. It returns what
    `predict` computes, float32: the values of each output under its name and "_logits".

    Args:
        model: with a head, on a CPU.
        directory: must exist.
        assets: files that go along, beside the program.

    Raises:
        OSError: if it can't be written, as on a full disk.
    """
    for path in assets:
        shutil.copy(path, directory)
    with _silent(), torch.no_grad(), open(directory / _PROGRAM, "wb") as file:
        archive = _Unfailing(file)
        torch.export.save(_recorded(model), archive)
        if archive.error is not None:
            raise archive.error


def load_export(directory: Path) -> Callable[[Mapping[str, NDArray[np.integer]]], dict[str, NDArray[np.float32]]]:
    """Return what computes an exported model's outputs, by their names in the signature, from its inputs."""
    with _silent():
        exported = torch.export.load(directory / _PROGRAM)
    program, names = exported.module(), exported.graph_signature.user_inputs

    def answer(inputs: Mapping[str, NDArray[np.integer]]) -> dict[str, NDArray[np.float32]]:
        with torch.no_grad():
            values = program(*(torch.from_numpy(np.asarray(inputs[str(name)], np.int64)) for name in names))
        return {name: value.numpy() for name, value in values.items()}

    return answer


def export_onnx(model: MRCModel, path: Path) -> None:
    """Write a model as ONNX, with the inputs and outputs of `export`; weights of over 2 GB go into a file beside it.

    Args:
        model: with a head, on a CPU.
        path: of the file; its directory must exist.

    Raises:
        ModuleNotFoundError: if onnx or onnxscript is not installed.
        OSError: if it can't be written.
    """
    names = input_names(model.head_spec)
    # No gradients in the exporter's own passes either: with them attention lays its output out in another way than
    # was recorded.
    with _silent(), torch.no_grad():
        program = torch.onnx.export(
            _recorded(model),
            dynamo=True,
            verbose=False,
            opset_version=_OPSET,
            custom_translation_table={torch.ops.aten.sort.stable: _sorted},
            input_names=names,
            output_names=[_served_name(name) for name in _outputs(model)],
            dynamic_shapes=dict.fromkeys(names, dict(enumerate(_AXES))),  # of what is recorded: their names alone
        )
        assert program is not None, "the exporter by torch.export returns what it made"
        for node in program.model.graph:
            node.metadata_props.clear()
        program.save(path)


def _sorted(values: Any, *, stable: bool, dim: int = -1, descending: bool = False) -> Any:
    """Sort as torch.sort(stable=True), which the exporter does not know; of equals TopK takes the first, too."""
    op = import_module("onnxscript").opset18
    size = op.Gather(op.Shape(values), op.Constant(value_ints=[dim]))
    return op.TopK(values, size, axis=dim, largest=int(descending), sorted=int(stable))


def _outputs(model: MRCModel) -> list[str]:
    assert model.head_spec is not None, "this model was built without a head"
    return [output.name for output in model.head_spec.outputs]


def _served_name(output: str) -> str:
    return f"{output}_logits"


def _recorded(model: MRCModel) -> ExportedProgram:
    """Record what a model computes, as a graph in which batch and length are free."""
    assert model.head_spec is not None, "this model was built without a head"
    names, limit = input_names(model.head_spec), model.config.family.usable_length(model.config)
    beams = max(output.beams for output in model.head_spec.outputs)
    size = beams + 2, min(beams + _LENGTH, limit)  # no two of batch, length and beams are equal
    # Each a tensor of its own: a graph takes one tensor in three places for one input.
    examples = tuple(torch.ones(size, dtype=torch.int64) for _ in names)
    batch, length = _AXES
    axes = {0: Dim(batch), 1: Dim(length, min=beams + 1 if beams > 1 else 1, max=limit)}
    program = torch.export.export(_Served(model).eval(), examples, dynamic_shapes={name: axes for name in names})
    for part in program.graph_module.modules():
        for node in part.graph.nodes if isinstance(part, GraphModule) else ():
            node.meta.pop("stack_trace", None)  # where the sources lie on this machine is nobody else's
    return program


class _Unfailing(BytesIO):
    """A file for a writer that can't bear errors: PyTorch's would end the process where a disk is full.

    The first error is kept, and what comes after it is dropped.
    """

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self._file = file
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        if self.error is None:
            try:
                self._file.write(data)
                self._file.flush()
            except OSError as error:
                self.error = error
        return len(data)


@contextmanager
def _silent() -> Iterator[None]:
    """Let nothing be printed about what the exporter does without, such as torchvision."""
    level = logging.root.manager.disable
    with warnings.catch_warnings(), redirect_stdout(StringIO()):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(level)
