"""`models`: the table of published models, one of them in full, and both as JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiment.cli import main
from pretrained_configs import catalog

ROOT = Path(__file__).resolve().parents[2]


def _out(capsys, *arguments):
    assert main(["models", *arguments]) == 0
    return capsys.readouterr().out


def test_table_has_every_model_in_a_line(capsys):
    header, *lines = _out(capsys).splitlines()
    assert header.split("  ")[0] == "name"
    assert [line.split()[0] for line in lines] == list(catalog.names())
    row = next(line for line in lines if line.startswith("bert-base-chinese "))
    assert row.split() == ["bert-base-chinese", "bert", "12", "x", "768", "102.3", "M", "512", "Apache-2.0",
                           "google-bert/bert-base-chinese"]  # fmt: skip
    tiny = next(line for line in lines if line.startswith("albert-zh-tiny "))
    assert tiny.endswith("none stated  https://storage.googleapis.com/albert_zh/albert_tiny_489k.zip")


@pytest.mark.parametrize("columns", ["40", "300"])
def test_lines_are_whole_in_a_pipe_whatever_the_terminal(columns):
    command = [sys.executable, "run_mrc.py", "models"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "COLUMNS": columns}, timeout=600
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(catalog.names()) + 1


def test_one_model_in_full(capsys):
    text = _out(capsys, "--model_name_or_path", "roberta-zh-large")
    model = catalog.lookup("roberta-zh-large")
    for fact in (*model.notes, *model.files, model.homepage, "google_bert", "max_position_embeddings: 512"):
        assert fact in text, fact
    assert "recipe for cmrc2018: --num_train_epochs 2" in text and "--max_seq_length 256" in text
    assert "source: ewrfcas/bert_cn_finetune README.md" in text
    assert _out(capsys, "--model_name_or_path", "hfl/rbt3") == _out(capsys, "--model_name_or_path", "rbt3")
    assert "no published recipe" in _out(capsys, "--model_name_or_path", "infoxlm-base")


@pytest.mark.parametrize("name", catalog.names())
def test_every_model_can_be_shown_in_full(capsys, name):
    assert _out(capsys, "--model_name_or_path", name).startswith(f"{name}: ")


def test_json_holds_the_files_as_they_are(capsys):
    facts = json.loads(_out(capsys, "--json"))
    assert list(facts) == list(catalog.names())
    for name, values in facts.items():
        stored = json.loads((Path(catalog.__file__).parent / "models" / f"{name}.json").read_text(encoding="utf-8"))
        assert values.pop("n_parameters") > 1e6
        assert values.pop("architecture").items() >= stored.pop("architecture").items()
        assert values == stored
    assert list(json.loads(_out(capsys, "--json", "--model_name_or_path", "hfl/rbt3"))) == ["rbt3"]


def test_unknown_model_is_one_line_and_exit_status_2(capsys):
    assert main(["models", "--model_name_or_path", "rbt33"]) == 2
    assert capsys.readouterr().err == "error: unknown model 'rbt33'; did you mean 'rbt3'?\n"
