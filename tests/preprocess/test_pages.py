"""The pages on data and metrics name what is there: modules, files, reasons and notes."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DATA = "\n".join((ROOT / "docs" / page).read_text("utf-8") for page in ("data.md", "options.md"))


@pytest.mark.parametrize("page", ["data.md", "metrics.md"])
def test_modules_and_files_that_a_page_names_are_there(page: str) -> None:
    text = (ROOT / "docs" / page).read_text("utf-8")
    for module, names in re.findall(r"^from (\S+) import (.+)$", text, re.M):
        for name in names.split(", "):
            assert hasattr(import_module(module), name), f"{page}: from {module} import {name}"
    files = re.findall(r"`((?:preprocess|tasks|benchmarks|experiment)/[\w/]+\.py)`", text)
    assert [name for name in files if not (ROOT / name).is_file()] == []


def test_every_reason_and_note_of_the_readers_is_explained() -> None:
    sources = [*(ROOT / "preprocess" / "readers").glob("*.py"), *(ROOT / "tasks").glob("*.py")]
    code = "\n".join(path.read_text("utf-8") for path in sources)
    raised = r'(?:MalformedError\(|note\(|notes\.append\(\(|Problem\(\w+(?:\.id)?, |kind(?:, \w+)? = )"(\w+)"'
    kinds = set(re.findall(raised, code)) | set(re.findall(r'return (?:-1|char_start), "(\w+)"', code))
    assert len(kinds) > 20 and {kind for kind in kinds if f"`{kind}`" not in DATA} == set()
