"""The rules of the house: who may import whom, and what a process must not load."""

from __future__ import annotations

import ast
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import tasks
from tasks.core.discovery import find_tasks, task_names
from tests.support.values import KINDS, SPAN, head_of

ROOT = Path(__file__).resolve().parents[2]
OURS = {"preprocess", "tasks", "pretrained_configs", "pytorch_modeling", "tf_modeling", "experiment"}
FRAMEWORKS = {"torch", "tensorflow", "keras", "transformers"}
#: package -> what it may import of ours, and which frameworks
ARROWS: dict[str, tuple[set[str], set[str]]] = {
    "preprocess": (set(), set()),
    "pretrained_configs": ({"preprocess"}, {"torch", "tensorflow"}),  # each lazily, to open a file of its own
    "tasks": ({"preprocess"}, set()),
    "pytorch_modeling": ({"preprocess", "pretrained_configs"}, {"torch"}),
    "tf_modeling": ({"preprocess", "pretrained_configs"}, {"tensorflow", "keras"}),
    "experiment": ({"preprocess", "pretrained_configs", "tasks"}, set()),
}


def _imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
    return names


@pytest.mark.parametrize("package", sorted(ARROWS))
def test_only_the_arrows_of_the_house_exist(package):
    own, frameworks = ARROWS[package]
    for path in (ROOT / package).rglob("*.py"):
        for name in _imports(path):
            head = name.split(".")[0]
            assert head not in OURS - own - {package}, f"{path} imports {name}"
            assert head not in FRAMEWORKS - frameworks, f"{path} imports {name}"


@pytest.mark.parametrize("package", ["pytorch_modeling", "tf_modeling"])
def test_backends_see_only_the_types_and_the_base_of_preprocess(package):
    for path in (ROOT / package).rglob("*.py"):
        for name in _imports(path):
            if name.startswith("preprocess"):
                assert name == "preprocess.types" or name.startswith("preprocess.base."), f"{path} imports {name}"


def test_what_is_known_of_published_models_sees_only_the_base_of_preprocess():
    for path in (ROOT / "pretrained_configs").rglob("*.py"):
        for name in _imports(path):
            assert not name.startswith("preprocess") or name.startswith("preprocess.base."), f"{path} imports {name}"


def test_nothing_imports_the_commands_but_the_command_line():
    for path in (ROOT / "experiment").rglob("*.py"):
        if path.parent.name != "commands" and path.name != "cli.py":
            assert not any(name.startswith("experiment.commands") for name in _imports(path)), path


def _words(path: Path) -> set[str]:
    """Return the words of a file's names and strings; what is said about it in docstrings does not count."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    said = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    texts = [path.stem]
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant):
            texts += [value for _, value in ast.iter_fields(node) if isinstance(value, str)]
        elif isinstance(node.value, str) and id(node) not in said:
            texts.append(node.value)
    return {word for text in texts for word in re.split(r"[\W_]+", text.lower())}


@pytest.mark.parametrize("package", ["pytorch_modeling", "tf_modeling"])
def test_no_framework_names_a_task_or_a_problem(package):
    heads = [task.problem.head for task in find_tasks(tasks).values()]
    projections = {name for head in heads for name in head.projections}
    names = {*task_names(), *projections, *(path.stem for path in (ROOT / "tasks" / "problems").glob("[a-z]*.py"))}
    assert {"cmrc2018", "span", "kind", "kinds"} <= names
    for path in (ROOT / package).rglob("*.py"):
        assert not _words(path) & names, path


def _modules_after(code: str) -> set[str]:
    program = f"import sys\n{code}\nprint('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_help_imports_no_framework():
    code = "from experiment.cli import main\nmain(['train', '--help'])"
    assert not _modules_after(code) & (FRAMEWORKS | {"nltk", "tokenizers", "huggingface_hub"})


@pytest.mark.parametrize(
    "module", ["preprocess.readers.mrc", "tasks.core.discovery", "tasks.cmrc2018", "experiment.backend"]
)
def test_shared_packages_import_no_framework(module):
    assert not _modules_after(f"import {module}") & FRAMEWORKS


def test_pytorch_backend_imports_neither_tensorflow_nor_transformers():
    assert not _modules_after("import pytorch_modeling") & {"tensorflow", "keras", "transformers"}


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"]])
def test_help_takes_few_times_what_python_takes_to_start(arguments):
    def seconds(*command: str) -> float:
        """CPU time of the process: what it takes on a machine that does nothing else."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    start = min(seconds("-c", "import argparse, dataclasses, json") for _ in range(5))
    # Measured: 2.3 times for both. Importing numpy would make it 4, tyro made it 6; torch is 45, TensorFlow 140.
    assert min(seconds("run_mrc.py", *arguments) for _ in range(5)) < 4 * start


def test_backend_has_every_name_of_the_protocol():
    import pytorch_modeling
    from experiment.backend import Backend

    names = [name for name in vars(Backend) if not name.startswith("_")] + list(Backend.__annotations__)
    assert sorted(names) == sorted(pytorch_modeling.__all__)
    for name in names:
        assert hasattr(pytorch_modeling, name)


def test_every_published_config_builds_on_the_meta_device():
    import torch

    from pretrained_configs import catalog
    from pytorch_modeling.model import MRCModel

    for name in catalog.names():
        with torch.device("meta"):
            model = MRCModel(catalog.lookup(name).config, SPAN)
        assert sum(p.numel() for p in model.parameters()) > 1_000_000, name


@pytest.mark.parametrize("kinds", [(), ("unknown", "yes", "no")])
def test_models_have_just_the_parameters_that_are_said_to_be_there(kinds):
    import torch

    from pretrained_configs import catalog
    from pretrained_configs.parameters import parameter_shapes
    from pytorch_modeling import parameter_shapes as built_shapes
    from pytorch_modeling.model import MRCModel

    for name in catalog.names():
        config = catalog.lookup(name).config
        with torch.device("meta"):
            built = built_shapes(MRCModel(config, head_of(kinds)))
        said = parameter_shapes(config, pooled=bool(kinds), heads=head_of(kinds).rows)
        assert list(built.items()) == list(said.items()), name


def test_every_published_model_has_a_map_for_every_parameter():
    import torch

    from pretrained_configs import catalog
    from pretrained_configs.namemap import NameMap
    from pytorch_modeling.checkpoint import parameter_shapes
    from pytorch_modeling.model import MRCModel

    for name in catalog.names():
        model = catalog.lookup(name)
        with torch.device("meta"):
            shapes = parameter_shapes(MRCModel(model.config, KINDS))
        report = NameMap.load(model.namemap).report({}, shapes)
        # A published encoder comes without our task's heads, and ELECTRA without a pooler.
        without = [p for p in report.missing if "no rule" in p and not p.startswith(("head.", "pooler."))]
        assert not without, name


def test_pages_name_files_and_directories_that_are_there():
    """Apart from the pages that lead a reader to a new file."""
    pages = [ROOT / "README.md", *(page for page in (ROOT / "docs").glob("*.md") if "adding-" not in page.name)]
    named = re.compile(rf"`((?:{'|'.join(sorted(OURS))}|benchmarks|examples|tests)/[\w./-]*)`")
    paths = {(page.name, path) for page in pages for path in named.findall(page.read_text(encoding="utf-8"))}
    missing = {(page, path) for page, path in paths if not (ROOT / path).exists()}
    assert len(paths) > 20 and missing == {("architecture.md", "experiment/commands/x.py")}


def test_no_file_outgrows_its_ideas():
    """Four hundred lines are the most that somebody reads at once; a longer file is two."""
    paths = [path for name in (*OURS, "tests", "benchmarks", "examples") for path in (ROOT / name).rglob("*.py")]
    lengths = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8").count("\n") for path in paths}
    assert len(lengths) > 300 and {name: n for name, n in lengths.items() if n > 400} == {}
