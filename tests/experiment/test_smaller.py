"""`quantize` writes what answers well enough or nothing; `prune_vocabulary` what answers the same."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import experiment.commands.quantize as quantize
import experiment.export.quantization as quantization
from experiment.cli import main
from experiment.reading.reader import Reader
from preprocess.base.jsonfile import read_json_object
from pretrained_configs.checkpoint import read_checkpoint
from tasks.core.discovery import get_task
from tasks.core.prediction import Prediction
from tests.support.served import CORPUS, corpus_questions, write_model


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("smaller") / "model")


@pytest.fixture(scope="module")
def own_answers(checkpoint, tmp_path_factory):
    """A file whose gold answers are the model's: what it loses shows at once."""
    values = json.loads((CORPUS / "demo_dev.json").read_text(encoding="utf-8"))
    values["data"] = values["data"][:2]
    paragraphs = [paragraph for article in values["data"] for paragraph in article["paragraphs"]]
    with Reader.load(checkpoint, device="cpu") as reader:
        for paragraph in paragraphs:
            for qa in paragraph["qas"]:
                answer = reader.answer(qa["question"], paragraph["context"])
                qa["answers"] = [{"text": answer.text, "answer_start": answer.char_start}]
    path = tmp_path_factory.mktemp("own") / "own.json"
    path.write_text(json.dumps(values, ensure_ascii=False), encoding="utf-8")
    return path


def _quantize(model, check, output, *flags):
    return main(["quantize", *map(str, (model, "--check", check, "--output", output, *flags))])


@pytest.mark.parametrize("runtime", ["openvino", "onnx"])
def test_a_rounded_model_is_a_bundle_that_answers(runtime, checkpoint, own_answers, tmp_path, capsys, monkeypatch):
    for package in ("onnxscript", "onnxruntime", "openvino"):
        pytest.importorskip(package)
    monkeypatch.setattr(quantization, "_FEW_ROWS", 200)
    assert (
        main(
            [
                "export",
                "--model_name_or_path",
                str(checkpoint),
                "--format",
                "onnx",
                "--output",
                str(tmp_path / "whole"),
            ]
        )
        == 0
    )
    # Of the checkpoint itself, and of what was exported of it.
    source = {"openvino": checkpoint, "onnx": tmp_path / "whole"}[runtime]
    output = tmp_path / "int8"
    assert _quantize(source, own_answers, output, "--framework", runtime, "--max_f1_drop", 60) == 0
    assert "checked: f1 100.000 -> " in capsys.readouterr().out
    about = read_json_object(output / "mrc_export.json")
    assert (about["runtime"], about["quantized"], about["check"]["metric"]) == (runtime, "int8", "f1")
    assert about["check"]["before"] == 100.0 and about["check"]["after"] >= 40
    sizes = [(place / "model.onnx").stat().st_size for place in (tmp_path / "whole", output)]
    assert sizes[1] < sizes[0]
    with Reader.load(output) as small, Reader.load(checkpoint, device="cpu") as whole:
        asked = corpus_questions(8)
        answers = [[each.text for each in reader.answer_many(asked)] for reader in (small, whole)]
    assert sum(a == b for a, b in zip(*answers, strict=True)) >= 4
    assert _quantize(output, own_answers, tmp_path / "again") == 2
    assert "has weights of 8 bits already" in capsys.readouterr().err


def test_a_model_that_loses_too_much_is_refused_and_leaves_nothing(
    checkpoint, own_answers, tmp_path, capsys, monkeypatch
):
    for package in ("onnxscript", "openvino"):
        pytest.importorskip(package)
    rounded = quantization.rounded

    def rough(values, axis):
        numbers, scales = rounded(values, axis)
        return np.roll(numbers, 1, 0), scales

    monkeypatch.setattr(quantization, "rounded", rough)
    assert _quantize(checkpoint, own_answers, tmp_path / "out", "--max_f1_drop", 0.5) == 2
    *_, last = capsys.readouterr().err.splitlines()
    assert "f1 100.000 -> " in last and "more than --max_f1_drop 0.5; nothing was written" in last
    assert list(tmp_path.iterdir()) == []


def test_a_task_whose_answers_are_more_than_a_text_is_scored_by_all_of_them(monkeypatch):
    """Of an answer with its evidence the text alone would be scored as an answer without evidence, or refused."""
    task, value = get_task("expmrc_cmrc2018"), {"answer": "北京", "evidence": "小猫住在北京。"}
    answers = {"q": Prediction("q", "北京", 4, 6, "span", 1.0, (), value)}
    fake = SimpleNamespace(predict=lambda examples, bars: answers)
    monkeypatch.setattr(quantize, "Reader", lambda *_: nullcontext(fake))
    monkeypatch.setattr(quantize, "predictor", lambda *_: None)
    monkeypatch.setattr(quantize, "_FORM", SimpleNamespace(load=lambda *_: None))
    scorer = lambda given: SimpleNamespace(values=given)  # noqa: E731
    prepared = SimpleNamespace(task=task)
    assert quantize._score(prepared, [], scorer, Path("x"), "onnx", None) == {"q": value}


def test_rounding_keeps_each_row_within_half_a_step():
    values = np.array([[1.0, -0.5, 0.25], [100.0, 3.0, 0.0], [0.0, 0.0, 0.0]], np.float32)
    numbers, scales = quantization.rounded(values, 1)
    assert numbers.dtype == np.int8 and scales.shape == (3, 1)
    assert (np.abs(numbers * scales - values) <= scales / 2 + 1e-7).all()
    assert numbers[0, 0] == 127 and not numbers[2].any()


def _prune(model, output, *flags):
    return main(["prune_vocabulary", str(model), "--output", str(output), *map(str, flags)])


def test_a_pruned_model_answers_the_same_on_its_texts(checkpoint, own_answers, tmp_path, capsys):
    output = tmp_path / "small"
    assert _prune(checkpoint, output, "--data_files", own_answers, "--check", CORPUS / "demo_dev.json") == 0
    printed = capsys.readouterr().out
    before, after = read_checkpoint(checkpoint, None), read_checkpoint(output, None)
    assert after.config.vocab_size < before.config.vocab_size
    assert f"{after.config.vocab_size} of {before.config.vocab_size} rows" in printed
    assert "unknown were 0 of " in printed and "unknown were 0 of 0" not in printed
    values = json.loads(own_answers.read_text(encoding="utf-8"))
    asked = [
        (qa["question"], paragraph["context"])
        for article in values["data"] for paragraph in article["paragraphs"] for qa in paragraph["qas"]
    ]  # fmt: skip
    with Reader.load(checkpoint, device="cpu") as whole, Reader.load(output, device="cpu") as small:
        assert not any("fine-tuned with" in note for note in small.notes), "its settings know the new vocabulary"
        expected, found = whole.answer_many(asked), small.answer_many(asked)
        outside = small.answer("谁？", "饕餮")
    assert [(each.text, each.char_start) for each in found] == [(each.text, each.char_start) for each in expected]
    # The same rows, so the same numbers to the last bit.
    assert [each.confidence for each in found] == [each.confidence for each in expected]
    assert outside.windows


def test_a_pruned_model_needs_a_task_whose_files_it_reads(checkpoint, own_answers, tmp_path, capsys):
    (bare := tmp_path / "bare").mkdir()
    for path in Path(checkpoint).iterdir():
        if path.name != "mrc_settings.json":
            (bare / path.name).write_bytes(path.read_bytes())
    assert _prune(bare, tmp_path / "out", "--data_files", own_answers) == 2
    assert "does not say which task's layout the files have; give it with --task" in capsys.readouterr().err
    assert _prune(bare, tmp_path / "out", "--data_files", own_answers, "--task", "cmrc2018") == 0
