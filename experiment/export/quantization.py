"""A graph whose weights are numbers of 8 bits: a quarter of the size, and less to compute.

Tables keep a scale per row, matrices one per output: rows and outputs differ more in size than what is in them.
Activations are rounded while it computes, by the range that they have then: by onnxruntime once for a batch, by
OpenVINO for every 32 values of a token.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: The largest number of 8 bits; that there is one more below zero is not used, so that zero stays zero.
_LARGEST = 127
#: Tables of fewer rows (positions, token types) are not worth it, and every token adds theirs.
_FEW_ROWS = 1024
#: Matrices of fewer outputs (heads) decide the answer.
_FEW_OUTPUTS = 16


def rounded(values: NDArray[np.float32], axis: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Round a matrix to 8 bits.

    Args:
        values: [N, M].
        axis: along which numbers share a scale.

    Returns:
        numbers [N, M], and the scales by which they are multiplied, of the same two axes.
    """
    scales = np.abs(values).max(axis, keepdims=True) / _LARGEST
    scales[scales == 0] = 1
    return np.round(values / scales).astype(np.int8), scales.astype(np.float32)


def quantize_graph(source: Path, target: Path, runtime: str) -> None:
    """Write a graph with weights of 8 bits.

    Args:
        source: of the ONNX file.
        target: of the file to write.
        runtime: what will compute it, one of `runtimes.RUNTIMES`: they know different graphs.

    Raises:
        OSError: if it can't be written.
    """
    onnx = import_module("onnx")
    model = onnx.load(source)
    if runtime == "openvino":
        _round(model.graph, matrices=True)
        onnx.save(model, target)
        return
    _round(model.graph, matrices=False)
    quantization = import_module("onnxruntime.quantization")
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)  # it advises a step that changes nothing here
    try:
        with tempfile.TemporaryDirectory() as directory:
            tables = Path(directory) / target.name
            onnx.save(model, tables)
            quantization.quantize_dynamic(
                tables,
                target,
                per_channel=True,
                weight_type=quantization.QuantType.QInt8,
                op_types_to_quantize=["MatMul"],
            )
    finally:
        logging.disable(level)


def _round(graph: Any, *, matrices: bool) -> None:
    """Round the tables of a graph, and its matrices if so asked, and multiply by their scales behind them."""
    to_array = import_module("onnx.numpy_helper").to_array
    weights = {tensor.name: tensor for tensor in graph.initializer}
    nodes: list[Any] = []
    done: dict[str, list[Any]] = {}
    for node in graph.node:
        table = weights.get(node.input[0]) if node.op_type == "Gather" else None
        matrix = weights.get(node.input[1]) if node.op_type == "MatMul" and matrices else None
        if table is not None and len(table.dims) == 2 and table.dims[0] >= _FEW_ROWS:
            done.setdefault(table.name, list(_tensors(table.name, *rounded(to_array(table), 1))))
            nodes += _looked_up(table.name, node.input[1], node.output[0])
        elif matrix is not None and len(matrix.dims) == 2 and matrix.dims[1] >= _FEW_OUTPUTS:
            if matrix.name not in done:
                numbers, scales = rounded(to_array(matrix), 0)
                done[matrix.name] = list(_tensors(matrix.name, numbers, scales[0]))
                nodes.append(_node("DequantizeLinear", _names(matrix.name), f"{matrix.name}_real", axis=1))
            node.input[1] = f"{matrix.name}_real"
            nodes.append(node)
        else:
            nodes.append(node)
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend([*kept, *(tensor for tensors in done.values() for tensor in tensors)])


def _names(name: str) -> list[str]:
    return [f"{name}_int8", f"{name}_scale"]


def _tensors(name: str, *arrays: NDArray[Any]) -> Iterator[Any]:
    from_array = import_module("onnx.numpy_helper").from_array
    for own, array in zip(_names(name), arrays, strict=True):
        yield from_array(array, own)


def _node(kind: str, inputs: list[str], output: str, **attributes: int) -> Any:
    return import_module("onnx.helper").make_node(kind, inputs, [output], **attributes)


def _looked_up(name: str, ids: str, output: str) -> list[Any]:
    """Return the nodes that look rows of a rounded table up."""
    float32 = import_module("onnx").TensorProto.FLOAT
    numbers, scales = _names(name)
    return [
        _node("Gather", [numbers, ids], f"{output}_int8"),
        _node("Cast", [f"{output}_int8"], f"{output}_rounded", to=float32),
        _node("Gather", [scales, ids], f"{output}_scale"),
        _node("Mul", [f"{output}_rounded", f"{output}_scale"], output),
    ]
