"""`--help`: what a person reads of a command."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from experiment.cli import main
from experiment.commands import COMMANDS
from experiment.options.fields import options_of

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def helped(capsys, monkeypatch):
    """Return the help of a command at a width of so many columns."""

    def call(*arguments, columns=100):
        monkeypatch.setenv("COLUMNS", str(columns))
        assert main([*arguments, "--help"]) == 0
        return capsys.readouterr().out

    return call


def _entry(text, flag):
    """Return what a help says of a flag, in one line."""
    lines = text.splitlines()
    (at,) = (i for i, line in enumerate(lines) if re.match(rf"  {re.escape(flag)}( |$)", line))
    more = [line for line in lines[at + 1 :]]
    end = next(i for i, line in enumerate(more) if not line.startswith(" " * 30))
    return " ".join(" ".join([lines[at], *more[:end]]).split())


def _titles(text):
    return [line.removesuffix(":") for line in text.splitlines() if re.fullmatch(r"[A-Z][^.]*:", line)]


def test_options_stand_in_groups_and_what_must_be_given_comes_first(helped):
    text = helped("train")
    assert text.startswith("usage: run_mrc.py train --task TEXT --output_dir PATH [OPTIONS]\n")
    assert _titles(text) == [
        "Required", "Task", "Data", "Augmentation", "Model (one of the first two)", "Vocabulary",
        "Windows and answers", "Optimisation", "Precision and devices", "Run directory, logging, resuming",
        "Examples",
    ]  # fmt: skip
    of_group = dict(re.findall(r"^([A-Z].*):\n((?:  .*\n)+)", text, re.M))
    assert re.findall(r"^  --(\S+)", of_group["Required"], re.M) == ["task", "output_dir"]
    assert "--max_grad_norm" in of_group["Optimisation"] and "--save_steps" in of_group[_titles(text)[-2]]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_explained_once_without_a_riddle(helped, command):
    text = helped(command)
    for option in options_of(COMMANDS[command].options):
        if option.positional:
            assert (option.flag if option.many else ",".join(option.choices)) in text.splitlines()[0]
            continue
        flag = f"--[no_]{option.name}" if option.is_switch else f"--{option.name}"
        entry = _entry(text, flag)
        assert entry.count("default:") <= 1 and entry.endswith("."), entry
    assert "None}" not in text and "default: None" not in text and "e-0" not in text
    assert f"\nExamples:\n  run_mrc.py {command}" in text


@pytest.mark.parametrize("columns", [40, 80, 300])
def test_it_is_as_wide_as_the_terminal_within_reason(helped, columns):
    widest = max(len(line) for line in helped("train", columns=columns).splitlines())
    assert widest <= min(max(columns, 70), 110)


def test_values_that_a_recipe_gives_are_shown_for_the_task_and_the_model(helped):
    def learning_rate(*arguments):
        return _entry(helped("train", *arguments), "--learning_rate")

    assert learning_rate().endswith("Peak learning rate (default: recipe's, e.g. 3e-5).")
    assert learning_rate("--task", "drcd").endswith("(default: 3e-5, drcd's).")
    assert learning_rate("--task=no_such_task").endswith("(default: recipe's, e.g. 3e-5).")
    published = "--task", "cmrc2018", "--model_name_or_path", "roberta-zh-large"
    length = _entry(helped("train", *published), "--max_seq_length")
    assert length.endswith("(default: 256, published for roberta-zh-large).")
    assert _entry(helped("train", *published), "--doc_stride").endswith("(default: 128, cmrc2018's).")


def test_other_defaults_are_shown_as_they_would_be_typed(helped):
    text = helped("train")
    for flag, default in {
        "--seeds": "123 456 789 556 977", "--optim": "adamw", "--[no_]group_by_length": "on", "--[no_]bf16": "off",
        "--adam_beta2": "0.999", "--data_dir": "~/.cache/chinese_mrc/data",
    }.items():  # fmt: skip
        assert _entry(text, flag).endswith(f"(default: {default})."), flag


def test_defaults_that_no_recipe_fills_in_are_the_options_own(helped):
    length = _entry(helped("stats", "--task", "cmrc2018"), "--max_seq_length")
    assert length.endswith("(default: 128 256 384 512).")
    size = _entry(helped("parity", "--task", "cmrc2018"), "--per_device_train_batch_size")
    assert size.endswith("(default: 8).")


def test_an_example_can_be_pasted(helped):
    for columns in (70, 110):
        text = helped("train", columns=columns).partition("Examples:\n")[2].replace("\\\n", " ")
        first = text.splitlines()[0].split()
        assert first == [
            "run_mrc.py", "train", "--task", "cmrc2018", "--model_name_or_path", "hfl/chinese-roberta-wwm-ext",
            "--output_dir", "runs/roberta",
        ]  # fmt: skip


def test_help_works_beside_mistakes_and_without_a_command(capsys):
    assert main(["train", "--nonsense", "--help"]) == 0
    assert capsys.readouterr().out.startswith("usage: run_mrc.py train ")
    assert main(["--help"]) == 0
    overview = capsys.readouterr().out
    assert [line.split()[0] for line in overview.splitlines() if line.startswith("  ")] == list(COMMANDS)
    assert main([]) == 2


def test_the_program_is_called_what_it_was_called(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["/usr/local/bin/chinese-mrc"])
    main(["train", "--help"])
    text = capsys.readouterr().out
    assert "chinese-mrc train --task cmrc2018" in text and "run_mrc.py" not in text


def test_the_installed_program_is_the_command_line():
    import tomllib

    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"chinese-mrc": "experiment.cli:main"}


def test_help_loads_nothing_that_takes_time():
    program = (
        "import sys\nfrom experiment.cli import main\nfor command in (['--help'], ['train', '--help']):\n"
        "    assert main(command) == 0\n"
        "print(sorted({'numpy', 'yaml', 'rich', 'torch', 'tensorflow', 'tokenizers', 'nltk'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
