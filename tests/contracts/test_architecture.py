"""The rules of the house: who may import whom, and what a process must not load."""

from __future__ import annotations

import ast
import resource
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OURS = {"preprocess", "tasks", "pretrained_configs", "pytorch_modeling", "tf_modeling", "experiment"}
FRAMEWORKS = {"torch", "tensorflow", "keras", "transformers"}
#: package -> what it may import of ours, and which frameworks
ARROWS: dict[str, tuple[set[str], set[str]]] = {
    "preprocess": (set(), set()),
    "pretrained_configs": (set(), {"torch"}),  # torch lazily, to open a torch file
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
def test_backends_see_only_the_types_of_preprocess(package):
    for path in (ROOT / package).rglob("*.py"):
        found = {name for name in _imports(path) if name.startswith("preprocess")}
        assert found <= {"preprocess.types"}, path


def _modules_after(code: str) -> set[str]:
    program = f"import sys\n{code}\nprint('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_help_imports_no_framework():
    code = "from experiment.cli import main\ntry: main(['train', '--help'])\nexcept SystemExit: pass"
    assert not _modules_after(code) & (FRAMEWORKS | {"nltk", "tokenizers", "huggingface_hub"})


@pytest.mark.parametrize(
    "module", ["preprocess.readers", "tasks.core.discovery", "tasks.cmrc2018", "experiment.backend"]
)
def test_shared_packages_import_no_framework(module):
    assert not _modules_after(f"import {module}") & FRAMEWORKS


def test_pytorch_backend_imports_neither_tensorflow_nor_transformers():
    assert not _modules_after("import pytorch_modeling") & {"tensorflow", "keras", "transformers"}


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"]])
def test_help_answers_within_half_a_second(arguments):
    def seconds() -> float:
        """CPU time of the process: what it takes on a machine that does nothing else."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "run_mrc.py", *arguments], cwd=ROOT, capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(seconds() for _ in range(3)) < 0.5


def test_backend_has_every_name_of_the_protocol():
    import pytorch_modeling
    from experiment.backend import Backend

    names = [name for name in vars(Backend) if not name.startswith("_")] + list(Backend.__annotations__)
    assert sorted(names) == sorted(pytorch_modeling.__all__)
    for name in names:
        assert hasattr(pytorch_modeling, name)


def test_every_published_config_builds_on_the_meta_device():
    import torch

    from preprocess.types import HeadSpec
    from pretrained_configs import catalog
    from pytorch_modeling.model import MRCModel

    for name in catalog.names():
        with torch.device("meta"):
            model = MRCModel(catalog.lookup(name).config, HeadSpec())
        assert sum(p.numel() for p in model.parameters()) > 1_000_000, name


def test_every_map_covers_every_parameter_of_its_models():
    import torch

    from preprocess.types import HeadSpec
    from pretrained_configs import catalog
    from pretrained_configs.namemap import NameMap
    from pytorch_modeling.checkpoint import NAME_MAPS, parameter_shapes
    from pytorch_modeling.model import MRCModel

    for name in catalog.names():
        config = catalog.lookup(name).config
        with torch.device("meta"):
            model = MRCModel(config, HeadSpec(("unknown", "yes", "no")))
        namemap = NameMap.load(NAME_MAPS[config.model_type])
        report = namemap.report({}, parameter_shapes(model))
        assert not [missing for missing in report.missing if "no rule" in missing], name
