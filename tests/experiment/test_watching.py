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
