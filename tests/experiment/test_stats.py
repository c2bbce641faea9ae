"""Lengths are measured on the text that the model reads."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

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
