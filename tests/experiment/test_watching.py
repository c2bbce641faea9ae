"""What a run says of its training: the loss of windows that hold an answer, apart from that of the others."""

from __future__ import annotations

import json
import re

import pytest

from experiment.cli import main


@pytest.mark.parametrize("framework", ["pytorch", "tensorflow"])
def test_windows_with_an_answer_are_told_from_the_others(framework, corpus, flags, tmp_path, capsys):
    # Windows of a few pieces of each context: most do not hold the answer.
    narrow = ("--max_seq_length", "16", "--doc_stride", "3", "--seeds", "1", "--framework", framework)
    assert main(flags(corpus, tmp_path / "run", *narrow, "--logging_steps", "2")) == 0
    lines = re.findall(
        r"loss (\S+) .*answered (\S+) loss_answered (\S+) loss_unanswered (\S+)", capsys.readouterr().out
    )
    assert lines
    for loss, share, answered, others in (map(float, line) for line in lines):
        assert 0 < share < 1
        # Every step has as many windows: the parts add up to the whole, as far as the line's four digits go.
        assert share * answered + (1 - share) * others == pytest.approx(loss, rel=0.02)
    evaluations = json.loads((tmp_path / "run/seed_1/record.json").read_text())["evaluations"]
    for entry in evaluations:
        assert 0 < entry["answered"] < 1
        parts = entry["answered"] * entry["loss_answered"] + (1 - entry["answered"]) * entry["loss_unanswered"]
        assert parts == pytest.approx(entry["loss"], rel=0.02)


def test_nothing_is_told_apart_where_every_window_holds_an_answer(corpus, flags, tmp_path, capsys):
    assert main(flags(corpus, tmp_path / "run", "--seeds", "1")) == 0
    assert "answered" not in capsys.readouterr().out
    evaluations = json.loads((tmp_path / "run/seed_1/record.json").read_text())["evaluations"]
    assert all(entry["answered"] == 1.0 and entry["loss_answered"] == entry["loss"] for entry in evaluations)
    assert not any("loss_unanswered" in entry for entry in evaluations)


def test_bfloat16_on_a_cpu_that_has_none_is_warned_of_once(corpus, flags, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("experiment.training.prepare.bf16_is_slow", lambda: "this CPU is slow at it")
    for name, more, n in (("bf16", ("--bf16",), 1), ("fp32", (), 0)):
        assert main(flags(corpus, tmp_path / name, "--num_train_epochs", "1", *more)) == 0
        assert capsys.readouterr().out.count("warning: this CPU is slow at it") == n
