"""The commands of the tutorials, in the order in which a reader meets them, and their Chinese pages beside them."""

from __future__ import annotations

import json
import re
import shlex
import sys
import threading
import time
from pathlib import Path

import pytest

from experiment.cli import main
from experiment.commands import COMMANDS
from experiment.options.fields import options_of
from tests.experiment.grid.conftest import InThisProcess

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PROGRAM = "chinese-mrc "
#: In an order in which each finds what those before it have left.
NAMES = (
    "first-fine-tune", "your-own-data", "cjrc-from-scratch", "reproducing-a-table", "cluster", "serving",
    "tensorflow-user",
)  # fmt: skip
PACKAGES = {"cluster": ("ray", "submitit"), "serving": ("fastapi", "uvicorn", "prometheus_client", "onnxscript")}
#: What tests of other pages run: `docs/serving.md` asks a server that runs.
ELSEWHERE = ("pip install ", "curl ")


def _text(name, language=""):
    return (DOCS / language / "tutorials" / f"{name}.md").read_text(encoding="utf-8")


def _commands(text):
    blocks = re.findall(r"```console\n(.*?)```", text, re.S)
    lines = [line for block in blocks for line in block.splitlines()]
    assert all(line.startswith("$ ") for line in lines)
    return [line.removeprefix("$ ") for line in lines]


def _words(command):
    return shlex.split(command.removeprefix(PROGRAM).partition(" < ")[0])


def test_there_is_a_test_for_every_tutorial():
    assert {path.stem for path in (DOCS / "tutorials").glob("*.md")} == set(NAMES)
    assert {path.stem for path in (DOCS / "zh/tutorials").glob("*.md")} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_options_that_there_are(name):
    serving = (DOCS / "serving.md").read_text(encoding="utf-8")
    for command in _commands(_text(name)):
        if command.startswith(PROGRAM):
            word, *rest = _words(command)
            known = {option.name for option in options_of(COMMANDS[word].options)} | {"config"}
            named = {each.removeprefix("--") for each in rest if each.startswith("--")}
            assert named <= known, (command, named - known)
        else:
            assert command.startswith(ELSEWHERE), command
            assert not command.startswith("curl ") or command in serving, command


@pytest.mark.parametrize("name", NAMES)
def test_a_chinese_tutorial_has_the_commands_and_files_of_the_english_one(name):
    blocks = r"```(?:console|python|json|text)\n.*?```"
    assert re.findall(blocks, _text(name, "zh"), re.S) == re.findall(blocks, _text(name), re.S)
    chinese = re.findall(r"[\u4e00-\u9fff]", re.sub(r"```.*?```", "", _text(name, "zh"), flags=re.S))
    assert len(chinese) > 150, name


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """A reader's empty directory, in which each tutorial goes on where those before it have ended."""
    root = tmp_path_factory.mktemp("tutorials")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("HOME", str(root))
        patch.delenv("MRC_API_KEY", raising=False)
        (root / "article.txt").write_text("许云松开店于1765年。", encoding="utf-8")
        (root / "questions.txt").write_text("谁开店？\n哪一年？\n", encoding="utf-8")
        (mine,) = re.findall(r"```json\n(.*?)```", _text("your-own-data"), re.S)
        (root / "mine.json").write_text(mine, encoding="utf-8")
        patch.setattr("experiment.grid.run.executor_of", lambda options: InThisProcess({}, []))
        yield root


def _shorten(root):
    """Leave a few articles of each corpus, so that a training takes seconds."""
    for path in (root / "examples/corpus").glob("demo_*.json"):
        value = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(value, dict):
            value["data"] = value["data"][:8] + value["data"][-8:]
            path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


def _run(command, monkeypatch):
    words = _words(command)
    if " < " in command:
        with open(command.partition(" < ")[2], encoding="utf-8") as lines:
            monkeypatch.setattr(sys, "stdin", lines)
            return main(words)
    if words[0] == "serve":
        return _serve([*words, "--port", "0"], monkeypatch)
    if words[0] == "grid" and "--executor" in words:
        words += ["--dry_run"]  # who trains them there is tested in tests/experiment/grid
    return main(words)


def _serve(words, monkeypatch):
    """Start the server of the page, and stop it when it is ready."""
    from experiment.serving import run

    class Started(run.Server):
        def run(self, sockets=None):
            def stop():
                while not self.started:
                    time.sleep(0.01)
                self.should_exit = True

            threading.Thread(target=stop).start()
            super().run(sockets)

    monkeypatch.setattr(run, "Server", Started)
    at = words.index("--port")
    return main(words[:at] + words[at + 2 :])


@pytest.mark.soak
@pytest.mark.parametrize("name", NAMES)
def test_a_reader_gets_through(name, session, monkeypatch, capsys):
    for package in PACKAGES.get(name, ("tensorflow",) if name == "tensorflow-user" else ()):
        pytest.importorskip(package)
    for command in _commands(_text(name)):
        if command.startswith(PROGRAM):
            status = _run(command, monkeypatch)
            said = capsys.readouterr()
            assert status == 0, f"{command}\n{said.out}\n{said.err}"
            if command == f"{PROGRAM}examples":
                _shorten(session)
    for program in re.findall(r"```python\n(.*?)```", _text(name), re.S):
        exec(program, {})
