"""The scripts for the shells: their syntax, and what bash offers after sourcing its one."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from experiment.cli import main
from experiment.commands import COMMANDS
from experiment.options.completion import script
from experiment.options.fields import options_of
from pretrained_configs import catalog
from tasks.core.discovery import task_names

BASH = shutil.which("bash")
_ASK = """
source "$1"; shift
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_chinese_mrc
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    directory = tmp_path_factory.mktemp("completion")
    for shell in ("bash", "zsh", "fish"):
        (directory / shell).write_text(script(shell, {name: command.options for name, command in COMMANDS.items()}))
    return directory


@pytest.fixture
def offered(scripts):
    """Return what bash offers for the last of some words."""
    if BASH is None:
        pytest.skip("there is no bash")

    def call(*words):
        arguments = [BASH, "-c", _ASK, "bash", str(scripts / "bash"), "chinese-mrc", *words]
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=True)
        assert done.stderr == ""
        return done.stdout.split()

    return call


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_one_that_its_shell_reads(shell, scripts):
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"there is no {shell}")
    done = subprocess.run([program, "-n", str(scripts / shell)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_command_option_and_task_is_in_the_script(shell, scripts):
    text = (scripts / shell).read_text()
    for command in COMMANDS:
        assert command in text
        for option in options_of(COMMANDS[command].options):
            assert option.positional or (f"-l {option.name} " if shell == "fish" else f"--{option.name}") in text
    for name in (*task_names(), *catalog.names(), "chinese-mrc", "run_mrc.py", "adamw8bit"):
        assert name in text, name


def test_the_command_prints_it(capsys, scripts):
    assert main(["completion", "bash"]) == 0
    assert capsys.readouterr().out == (scripts / "bash").read_text()
    assert main(["completion", "tcsh"]) == 2
    assert "SHELL 'tcsh': one of bash, zsh, fish was expected" in capsys.readouterr().err
    assert main(["completion"]) == 2
    assert main(["completion", "bash", "zsh"]) == 2


def test_bash_offers_commands_options_and_values(offered):
    assert offered("tr") == ["train"]
    assert set(offered("")) == set(COMMANDS)
    assert offered("train", "--max_s") == ["--max_seq_length"]
    assert offered("train", "--no_b") == ["--no_bf16"]
    assert "--question" in offered("predict", "") and "--question" not in offered("train", "")
    assert offered("train", "--task", "c") == [name for name in task_names() if name.startswith("c")]
    assert offered("train", "--task", "=", "dr") == ["drcd"]
    assert offered("train", "--optim", "=") == ["adamw", "bert_adam", "adamw8bit"]
    assert offered("convert", "--to", "t") == ["transformers", "tf1"]
    assert offered("train", "--model_name_or_path", "rbt") == ["rbt3", "rbt4", "rbt6", "rbtl3"]
    assert offered("completion", "z") == ["zsh"]


def test_bash_leaves_paths_to_its_own_completion(offered):
    assert offered("train", "--output_dir", "") == []
    assert offered("train", "--config", "") == []
    assert offered("leaderboard", "runs/") == []
