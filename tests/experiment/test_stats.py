"""Lengths are measured on the text that the model reads."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from experiment.cli import main
from experiment.commands.stats import stats
from experiment.options.flags import StatsOptions
from preprocess.tokenizers.wordpiece import SPECIAL_TOKENS


def _row(text: str, name: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if name in line]
    return re.findall(r"[\d.]+", line.split(name)[1])


def test_drcd_is_measured_on_what_the_conversion_makes_of_it(tmp_path: Path, capsys: Any) -> None:
    vocabulary, data = tmp_path / "vocab.txt", tmp_path / "data.json"
    vocabulary.write_text("\n".join([*SPECIAL_TOKENS, *"程式設計编"]) + "\n", "utf-8")
    qa = {"id": "q", "question": "程", "answers": [{"text": "程式設計", "answer_start": 0}]}
    data.write_text(json.dumps({"data": [{"paragraphs": [{"context": "程式設計", "qas": [qa]}]}]}))
    for config, n_pieces in (("none", "4"), ("tw2sp", "2")):  # 程式設計 becomes 编程
        options = {"task": "drcd", "data_file": data, "tokenizer_name": str(vocabulary), "opencc_config": config}
        stats(StatsOptions(**options))  # type: ignore[arg-type]
        text = capsys.readouterr().out
        assert _row(text, "context, characters")[-1] == "4" and _row(text, "context, pieces")[-1] == n_pieces


@pytest.fixture
def long_context(tmp_path: Path) -> list[str]:
    """A question of one piece and a context of 40; the flags that measure windows with 8 of the latter."""
    vocabulary, data = tmp_path / "vocab.txt", tmp_path / "data.json"
    vocabulary.write_text("\n".join([*SPECIAL_TOKENS, *"程式設計"]) + "\n", "utf-8")
    qa = {"id": "q", "question": "程", "answers": [{"text": "程", "answer_start": 0}]}
    data.write_text(json.dumps({"data": [{"paragraphs": [{"context": "程式設計" * 10, "qas": [qa]}]}]}))
    return ["stats", "--task", "cmrc2018", "--data_file", str(data), "--max_seq_length", "12", "--tokenizer_name"]


@pytest.mark.parametrize(("stride", "n_windows"), [("doc_stride", "17"), ("doc_overlap", "7")])
def test_windows_follow_each_other_as_in_the_checkpoints_fine_tuning(
    stride: str, n_windows: str, long_context: list[str], tmp_path: Path, capsys: Any
) -> None:
    options = {"doc_stride": None, "doc_overlap": None, "max_query_length": 8, stride: 2}
    settings = {"task": "cmrc2018", "version": "1", "options": options}
    (tmp_path / "mrc_settings.json").write_text(json.dumps(settings))
    assert main([*long_context, str(tmp_path)]) == 0
    assert _row(capsys.readouterr().out, "12 ")[0] == n_windows
