"""What is installed: a wheel with every file that a command reads, and no package that only some commands need."""

from __future__ import annotations

import ast
import fnmatch
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from zipfile import ZipFile

import pytest

from experiment.cli import main
from experiment.commands.examples import PATTERNS

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("experiment", "preprocess", "pretrained_configs", "pytorch_modeling", "tasks", "tf_modeling")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
DATA_FILES = PROJECT["tool"]["setuptools"]["data-files"]
EXTRAS = PROJECT["project"]["optional-dependencies"]


def _files(package):
    """Files of a package, seen from the root, without what Python has compiled."""
    paths = [path for path in (ROOT / package).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return {path.relative_to(ROOT).as_posix() for path in paths}


def _examples():
    """Files of the examples, seen from their directory."""
    here = ROOT / "examples"
    return {path.relative_to(here).as_posix() for pattern in PATTERNS for path in here.glob(pattern)}


def test_every_file_of_a_package_that_is_no_module_is_named_as_its_data():
    data = PROJECT["tool"]["setuptools"]["package-data"]
    patterns = [f"{name.replace('.', '/')}/{pattern}" for name, many in data.items() for pattern in many]
    others = {path for package in PACKAGES for path in _files(package) if not path.endswith(".py")}
    assert len(others) > 100
    for path in others:
        depth = path.count("/")
        assert any(fnmatch.fnmatch(path, p) and p.count("/") == depth for p in patterns), f"{path} is in no wheel"
    for pattern in patterns:
        assert fnmatch.filter(others, pattern), f"{pattern}: there is no such file"


def test_every_directory_of_modules_is_a_package():
    # Without __init__.py, setuptools passes it over, and only an installation shows it.
    for directory in {
        (ROOT / path).parent for package in PACKAGES for path in _files(package) if path.endswith(".py")
    }:
        assert (directory / "__init__.py").is_file(), directory


def test_a_wheel_holds_the_examples_that_the_command_copies(tmp_path, capsys):
    packed = {
        f"{target.removeprefix('share/chinese-mrc/examples').strip('/')}/{Path(path).name}".lstrip("/")
        for target, patterns in DATA_FILES.items()
        for pattern in patterns
        for path in ROOT.glob(pattern)
    }
    assert packed == _examples() >= {"README.md", "demo.yaml", "corpus/vocab.txt", "grids/reference.yaml"}
    output = tmp_path / "examples"
    assert main(["examples", "--output", str(output)]) == 0
    assert {path.relative_to(output).as_posix() for path in output.rglob("*") if path.is_file()} == packed
    assert f"{len(packed)} files" in capsys.readouterr().out
    assert main(["examples", "--output", str(output)]) == 2  # what somebody may have changed is never overwritten
    assert str(output) in capsys.readouterr().err


def test_extras_are_those_that_messages_name():
    assert {"tensorflow", "serve", "onnx", "export", "ray", "report", "all"} <= set(EXTRAS)
    (all_of,) = EXTRAS["all"]
    parts = set(all_of.partition("[")[2].rstrip("]").split(","))
    # These are for who works on the toolkit, for other machines, or are accounts somewhere.
    assert set(EXTRAS) - parts == {"all", "browser", "dev", "docs", "onnx", "tensorflow-gpu", "trackers"}


def _imported_at_once(path):
    """Names of the modules that a module imports when it is imported, whatever is called later."""
    todo: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            todo += ast.iter_child_nodes(node)


def test_what_only_an_extra_installs_is_imported_when_it_is_used():
    heavy = {
        "matplotlib",
        "sklearn",
        "scipy",
        "pandas",
        "ray",
        "submitit",
        "optuna",
        "onnx",
        "onnxruntime",
        "openvino",
    }
    for path in (ROOT / name for package in PACKAGES for name in _files(package) if name.endswith(".py")):
        assert not heavy & set(_imported_at_once(path)), path
    core = " ".join(PROJECT["project"]["dependencies"])
    assert not [name for name in (*heavy, "scikit-learn", "tensorflow") if name in core]


@pytest.mark.parametrize(
    ("package", "arguments", "said"),
    [
        ("matplotlib", ["stats", "--task", "cmrc2018", "--data_file", "examples/corpus/demo_dev.json",
                        "--tokenizer_name", "examples/corpus/vocab.txt", "--histogram", "{}/a.png"],
         "--histogram needs matplotlib: pip install 'chinese-mrc[report]'"),
        ("scipy", ["evaluate", "--task", "chid", "--assignment", "one_to_one", "--data_file", "x",
                   "--predictions", "x"],
         "--assignment one_to_one needs scipy: pip install 'chinese-mrc[assignment]'"),
    ],
)  # fmt: skip
def test_a_package_of_an_extra_that_is_missing_is_named_before_anything_is_computed(
    package, arguments, said, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(ROOT)
    module = {"matplotlib": "experiment.commands.stats", "scipy": "tasks.problems.candidates"}[package]
    monkeypatch.setattr(f"{module}.find_spec", lambda name: None)
    assert main([argument.format(tmp_path) for argument in arguments]) == 2
    assert capsys.readouterr().err == f"error: {said}\n"


@pytest.mark.soak
def test_the_wheel_holds_every_file_of_the_tree(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for name in (*PACKAGES, "examples"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "run_mrc.py"):
        shutil.copyfile(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*pip, "-w", str(tmp_path), str(source)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
        (points,) = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
        assert "chinese-mrc = experiment.cli:main" in archive.read(points).decode()
    prefix = f"{'-'.join(wheel.name.split('-')[:2])}.data/data/share/chinese-mrc/examples/"
    expected = {path for package in PACKAGES for path in _files(package)} | {"run_mrc.py"}
    assert packed == expected | {prefix + name for name in _examples()}
