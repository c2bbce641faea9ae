"""A new command is one file: it is found by itself, with its options, its help and its completion."""

from __future__ import annotations

import re
import subprocess

import pytest

import experiment.cli
import experiment.commands
from experiment.cli import main
from experiment.commands import COMMANDS, find_commands
from experiment.options.completion import script

GREET = '''
"""Greetings."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class GreetTwiceOptions:
    """Greet somebody.

    Examples:
        greet_twice --name 小猫
    """

    name: str
    """Whom to greet."""
    loud: bool = False
    """In capital letters."""


def greet_twice(options: GreetTwiceOptions) -> int:
    """Greet."""
    words = f"hello {options.name} " * 2
    print(words.upper() if options.loud else words)
    return 1
'''


@pytest.fixture
def greet(tmp_path, monkeypatch):
    (tmp_path / "greet_twice.py").write_text(GREET)
    monkeypatch.setattr(experiment.commands, "__path__", [*experiment.commands.__path__, str(tmp_path)])
    monkeypatch.setattr(experiment.cli, "COMMANDS", find_commands())


def test_it_runs_with_its_options(greet, capsys):
    assert main(["greet_twice", "--name", "you", "--loud"]) == 1
    assert capsys.readouterr().out == "HELLO YOU HELLO YOU \n"
    assert main(["greet_twice"]) == 2
    assert capsys.readouterr().err == "error: give --name (--help explains all)\n"
    assert main(["greet_twic"]) == 2
    assert "did you mean 'greet_twice'" in capsys.readouterr().err


def test_it_is_listed_and_explained_like_any_other(greet, capsys):
    assert main(["--help"]) == 0
    assert re.search("^  greet_twice +Greet somebody.$", capsys.readouterr().out, re.M)
    assert main(["greet_twice", "--help"]) == 0
    text = capsys.readouterr().out
    assert "--name TEXT" in text and "--[no_]loud" in text and "run_mrc.py greet_twice --name 小猫" in text


def test_it_is_completed(greet):
    commands = {name: command.options for name, command in find_commands().items()}
    assert '"greet_twice --name"' in script("bash", commands)
    assert subprocess.run(["bash", "-n"], input=script("bash", commands), text=True, timeout=60).returncode == 0


def test_every_command_has_its_function_and_class():
    assert list(COMMANDS)[0] == "train"
    for command in COMMANDS.values():
        assert callable(vars(command._module)[command.name])
        assert command.options.__name__ == f"{command.name.title().replace('_', '')}Options"
