"""The two backends have the same modules, public names and signatures, and load only their own framework."""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import pytorch_modeling
import tf_modeling

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(
    ".".join(path.relative_to(ROOT / "pytorch_modeling").with_suffix("").parts)
    for path in (ROOT / "pytorch_modeling").rglob("*.py")
    if path.stem not in ("__init__", "packing")  # for a kernel that TensorFlow has not
)

#: What only the TensorFlow package has, and why.
EXTRA = {
    "optim": {"AdamW"},  # torch.optim has one; Keras's differs
    "trainer": {"LossScaler"},  # torch.amp.GradScaler
    "distribute": {"choose_strategy", "Replicas", "assign"},  # tf.distribute splits within a process too
    "model": {"Parameter", "parameters", "on_gpu", "zero_model"},  # the neutral layout, which is PyTorch's own
}
#: What only the PyTorch package has: a `Pass` takes autocast's place and hands out seeds, XLA takes the compiler's,
#: masks of bits are a CPU's, ONNX is made of PyTorch's models.
MISSING = {
    "export": {"export_onnx"},
    "trainer": {"autocast"},
    "encoder": {"compile_layers"},
    "model": {"HOST_MASK"},
    "dropout": {"drop_", "drop_seeded_", "draw_seed"},
    "distribute": {
        "share",
        "sharded",
        "summing",
        "total",
        "whole",
        "fill",
        "sum_gradients",
        "part",
        "to_array",
        "summed",
    },
}
#: Parameters that only the TensorFlow side has: a `Pass` takes the place of autocast and Module.training, an explicit
#: seed that of the generator, and XLA has a switch in predictions.
EXTRA_PARAMETERS = {"run", "seed", "jit_compile", "added"}
#: Parameters that only the PyTorch side has: a seed takes the place of the one, packing alone needs the other.
MISSING_PARAMETERS = {"training", "host_mask"}


def _pair(name: str) -> tuple[ModuleType, ModuleType]:
    return importlib.import_module(f"pytorch_modeling.{name}"), importlib.import_module(f"tf_modeling.{name}")


def _public(module: ModuleType) -> dict[str, object]:
    """Return what a module defines itself: imports are left out."""
    tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
    names = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return {name: getattr(module, name) for name in sorted(names) if not name.startswith("_")}


def _signature(function: object, drop: set[str]) -> list[tuple[str, str, object]]:
    parameters = inspect.signature(function).parameters.values()  # type: ignore[arg-type]
    return [(p.name, p.kind.name, p.default) for p in parameters if p.name not in drop]


def _check(theirs: object, ours: object, where: str) -> None:
    known = {p for p in inspect.signature(theirs).parameters}  # type: ignore[arg-type]
    expected = _signature(theirs, MISSING_PARAMETERS)
    assert _signature(ours, EXTRA_PARAMETERS - known) == expected, where


def test_the_packages_export_the_same_names():
    assert tf_modeling.__all__ == pytorch_modeling.__all__


@pytest.mark.parametrize("name", MODULES)
def test_modules_define_the_same_names(name):
    theirs, ours = (set(_public(module)) for module in _pair(name))
    assert ours - EXTRA.get(name, set()) == theirs - MISSING.get(name, set())


@pytest.mark.parametrize("name", MODULES)
def test_functions_and_methods_have_the_same_signatures(name):
    theirs, ours = (_public(module) for module in _pair(name))
    for shared in theirs.keys() & ours.keys():
        a, b = theirs[shared], ours[shared]
        if inspect.isfunction(a):
            _check(a, b, f"{name}.{shared}")
        elif inspect.isclass(a):
            _check_class(a, b, f"{name}.{shared}")


def _check_class(theirs: type, ours: object, where: str) -> None:
    for method, function in vars(theirs).items():
        twin = "call" if method == "forward" else method
        if method.startswith("_") and method != "__init__":
            continue
        assert hasattr(ours, twin), f"{where}.{method} is missing"
        if inspect.isfunction(function):
            _check(function, getattr(ours, twin), f"{where}.{method}")


def _modules_after(package: str) -> set[str]:
    program = f"import sys, {package}; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_tensorflow_backend_imports_neither_torch_nor_transformers():
    modules = _modules_after("tf_modeling")
    assert "tensorflow" in modules
    assert not modules & {"torch", "pytorch_modeling", "transformers"}


def test_the_pytorch_backend_imports_neither_tensorflow_nor_keras():
    assert not _modules_after("pytorch_modeling") & {"tensorflow", "keras", "tf_modeling"}


def test_determinism_is_what_was_asked_for_last(monkeypatch):
    """TensorFlow can't go back, and is not asked where nothing is wanted."""
    import tensorflow as tf
    import torch

    calls = []
    monkeypatch.setattr(tf.config.experimental, "enable_op_determinism", lambda: calls.append("tensorflow"))
    monkeypatch.setattr(torch, "use_deterministic_algorithms", calls.append)
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    for wanted in (False, True):
        pytorch_modeling.be_deterministic(wanted)
        tf_modeling.be_deterministic(wanted)
    assert calls == [False, True, "tensorflow"]
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


def test_tf32_is_what_was_asked_for_last():
    import tensorflow as tf
    import torch

    for allowed in (True, False):
        pytorch_modeling.allow_tf32(allowed)
        tf_modeling.allow_tf32(allowed)
        assert torch.backends.cuda.matmul.allow_tf32 is allowed
        assert tf.config.experimental.tensor_float_32_execution_enabled() is allowed
