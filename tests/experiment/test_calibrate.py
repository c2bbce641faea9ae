"""A checkpoint is calibrated once, and its probabilities mean something from then on; no question is lost."""

from __future__ import annotations

import errno
import json
import os
import shutil

import pytest

from experiment import Reader
from experiment.cli import main
from experiment.reading.calibration import calibration_of
from preprocess.base.errors import DataError
from preprocess.types import Example
from tasks.core.confidence import Temperatures, confidences
from tasks.core.prediction import Candidate, Prediction
from tests.support.served import CORPUS, write_finished_run, write_model


def _json(path):
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Some articles of the corpus; random weights answer some of their questions rightly, once we say so."""
    file = tmp_path_factory.mktemp("data") / "dev.json"
    values = _json(CORPUS / "demo_dev.json")
    values["data"] = values["data"][:6]
    file.write_text(json.dumps(values, ensure_ascii=False), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model") / "model")


@pytest.fixture(scope="module")
def gold(data, model, tmp_path_factory):
    """The same questions, with the model's answers as gold to three of four."""
    values = _json(data)
    with Reader.load(model, device="cpu") as reader:
        number = 0
        for article in values["data"]:
            for paragraph in article["paragraphs"]:
                for qa in paragraph["qas"]:
                    number += 1
                    found = reader.answer(qa["question"], paragraph["context"])
                    if number % 4:
                        qa["answers"] = [{"text": found.text, "answer_start": found.char_start}]
    file = tmp_path_factory.mktemp("gold") / "dev.json"
    file.write_text(json.dumps(values, ensure_ascii=False), encoding="utf-8")
    return file


def _predict(model, data, output, *more):
    command = ["predict", "--task", "cmrc2018", "--model_name_or_path", model, "--test_file", data,
               "--feature_cache_dir", "None", "--output_dir", output, *more]  # fmt: skip
    assert main(list(map(str, command))) == 0
    return _json(output / "predictions.json"), _json(output / "nbest_predictions.json")


def test_settings_that_can_not_be_written_are_noticed_before_anything_is_computed(model, gold, monkeypatch, capsys):
    def full(**_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    monkeypatch.setattr(Reader, "calibrate", lambda *_, **__: pytest.fail("the model has answered"))
    assert main(["calibrate", str(model), "--data_file", str(gold), "--device", "cpu"]) == 2
    assert f"MODEL {model / 'mrc_settings.json'}: can't be written" in capsys.readouterr().err


def test_temperature_is_kept_with_the_checkpoint_and_no_answer_changes(model, gold, tmp_path, capsys):
    mine = tmp_path / "model"
    shutil.copytree(model, mine)
    answers, before = _predict(mine, gold, tmp_path / "before")
    capsys.readouterr()
    assert main(["calibrate", str(mine), "--data_file", str(gold), "--device", "cpu"]) == 0
    said = capsys.readouterr().out
    kept = _json(mine / "mrc_settings.json")["calibration"]
    assert kept["n_fitted"] + kept["n_held_out"] == len(answers) and min(kept["n_fitted"], kept["n_held_out"]) > 5
    assert kept["metric"] == "em" and kept["temperature"] != 1 and len(kept["data_sha256"]) == 64
    assert f"temperature {kept['temperature']:.3f}" in said and f"on {kept['n_held_out']} others" in said
    assert f"NLL {kept['loss_before']:.4f} -> {kept['loss_after']:.4f}" in said
    again, after = _predict(mine, gold, tmp_path / "after")
    assert again == answers
    for id, own in before.items():
        assert [c["text"] for c in after[id]] == [c["text"] for c in own]
        scaled = [c["probability"] ** (1 / kept["temperature"]) for c in own]
        assert [c["probability"] for c in after[id]] == pytest.approx([s / sum(scaled) for s in scaled], abs=1e-5)
    # A second time finds the same: it starts from the model's own probabilities. So does the other framework.
    for framework in ("pytorch", "tensorflow"):
        command = ["calibrate", str(mine), "--data_file", str(gold), "--device", "cpu", "--framework", framework]
        assert main(command) == 0
        assert _json(mine / "mrc_settings.json")["calibration"]["temperature"] == pytest.approx(
            kept["temperature"], rel=1e-2
        )
    with Reader.load(mine, device="cpu") as reader, Reader.load(mine, device="cpu", temperature=1.0) as plain:
        context = "小猫住在北京。小狗住在上海。"
        one, other = (each.answer("小猫住在哪里？", context) for each in (reader, plain))
        assert one.text == other.text and one.confidence != pytest.approx(other.confidence, abs=1e-3)


def test_all_finished_seeds_of_a_run_are_calibrated(gold, tmp_path):
    run = write_finished_run(tmp_path / "run", {3: 50.0, 4: 60.0})
    assert main(["calibrate", str(run), "--data_file", str(gold), "--device", "cpu", "--seed", "1"]) == 0
    kept = [_json(run / f"seed_{n}/checkpoint-best/mrc_settings.json")["calibration"] for n in (3, 4)]
    assert kept[0]["temperature"] != kept[1]["temperature"]


def test_answers_that_are_not_sure_are_left_empty_counted_and_scored(model, gold, tmp_path, capsys):
    answers, nbest = _predict(model, gold, tmp_path / "all")
    sure = {id: next(c["probability"] for c in nbest[id] if c["text"] == text) for id, text in answers.items()}
    least = sorted(sure.values())[len(sure) // 2] + 1e-6
    capsys.readouterr()
    held, same = _predict(model, gold, tmp_path / "held", "--min_confidence", f"{least}")
    empty = [id for id, text in held.items() if not text]
    assert empty == [id for id, share in sure.items() if share < least] and len(sure) // 2 < len(empty) < len(sure)
    assert same == nbest and held.keys() == answers.keys()
    output, errors = capsys.readouterr()
    assert f"{len(empty)} of {len(sure)} answers were less sure than" in output
    assert "the checkpoint is not calibrated" in errors
    protocol = _json(tmp_path / "held" / "protocol.json")
    assert protocol["abstained"] == empty and protocol["n_abstained"] == len(empty)
    assert protocol["n_questions"] == len(sure) and protocol["min_confidence"] == pytest.approx(least)
    flags = ["--task", "cmrc2018", "--data_file", str(gold)]
    scores = []
    for name in ("all", "held"):
        files = tmp_path / name / "predictions.json", tmp_path / "all" / "nbest_predictions.json"
        command = ["evaluate", *flags, "--predictions", str(files[0]), "--nbest_file", str(files[1])]
        assert main([*command, "--output", str(tmp_path / f"{name}.json")]) == 0
        scores.append(_json(tmp_path / f"{name}.json"))
    assert [score["n"] for score in scores] == [len(sure)] * 2 and not scores[1]["n_missing"]
    assert scores[1]["values"]["em"] < scores[0]["values"]["em"]
    assert scores[1]["confidence"]["n_unknown"] == len(empty) and scores[0]["confidence"]["n_unknown"] == 0
    said = capsys.readouterr().out
    assert "ECE in %" in said and "em of the surest 50 %" in said and "without a probability" in said
    assert scores[0]["confidence"]["accuracy"]["100"] == pytest.approx(scores[0]["values"]["em"])


def test_a_single_question_is_not_answered_where_the_model_is_not_sure(model, capsys):
    command = ["predict", "--task", "cmrc2018", "--model_name_or_path", str(model), "--question", "谁？"]
    assert main([*command, "--context", "小猫住在北京。", "--min_confidence", "1"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("(no answer: less sure than 1.0)  ") and "p=0." in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["predict", "--task", "msra_ner", "--model_name_or_path", "x", "--context", "甲", "--min_confidence", "0.5"],
         "--min_confidence: task msra_ner has no empty answer to give instead"),
        (["predict", "--task", "dbqa", "--model_name_or_path", "x", "--context", "甲", "--question", "乙",
          "--min_confidence", "0.5"], "--min_confidence: task dbqa has no empty answer"),
        (["evaluate", "--task", "msra_ner", "--data_file", "x", "--predictions", "x", "--nbest_file", "x"],
         "--nbest_file: an answer of task msra_ner is all of its list"),
    ],
)  # fmt: skip
def test_what_has_no_probability_is_refused(arguments, said, capsys):
    assert main(arguments) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert said in error


def test_mistakes_of_calibrate_are_one_line(model, data, tmp_path, capsys):
    bare = tmp_path / "bare"
    shutil.copytree(model, bare)
    (bare / "mrc_settings.json").unlink()
    one = tmp_path / "one.json"
    values = _json(data)
    one.write_text(json.dumps({**values, "data": values["data"][:1]}), encoding="utf-8")
    for arguments, said in (
        ([bare, "--data_file", data], "no mrc_settings.json there to keep a temperature in"),
        ([model, "--data_file", data, "--task", "cjrc"], "was fine-tuned for cmrc2018; leave it out"),
        ([model, "--data_file", one, "--device", "cpu"], f"{one}: holds questions about one article only"),
    ):
        assert main(["calibrate", *map(str, arguments)]) == 2
        (error,) = capsys.readouterr().err.splitlines()
        assert said in error
    settings = bare / "mrc_settings.json"
    settings.write_text(json.dumps({**_json(model / "mrc_settings.json"), "calibration": {"temperature": -1}}))
    assert main(["calibrate", str(bare), "--data_file", str(data)]) == 2
    assert "a temperature above 0 was expected" in capsys.readouterr().err
    values = {**_json(model / "mrc_settings.json"), "calibration": {"temperature": 1.0, "null_temperature": "hot"}}
    settings.write_text(json.dumps(values))
    assert main(["calibrate", str(bare), "--data_file", str(data)]) == 2
    assert "a temperature above 0 was expected, found the string 'hot'" in capsys.readouterr().err


def test_two_temperatures_are_found_said_kept_and_used(tmp_path, capsys):
    """Random weights, which give both spans and null answers; some of either are right."""
    mine, data = write_model(tmp_path / "model", "cjrc", seed=8), CORPUS / "demo_cjrc_dev.json"
    command = ["predict", "--model_name_or_path", str(mine), "--test_file", str(data), "--feature_cache_dir", "None"]
    assert main([*command, "--output_dir", str(tmp_path / "before")]) == 0
    capsys.readouterr()
    assert main(["calibrate", str(mine), "--data_file", str(data), "--device", "cpu"]) == 0
    kept = _json(mine / "mrc_settings.json")["calibration"]
    at = Temperatures(kept["temperature"], kept["null_temperature"])
    assert f"temperature {at.spans:.3f} of spans, {at.null:.3f} of other answers, found on" in capsys.readouterr().out
    assert main([*command, "--output_dir", str(tmp_path / "after"), "--min_confidence", "0.5"]) == 0
    protocol = _json(tmp_path / "after" / "protocol.json")
    assert (protocol["temperature"], protocol["null_temperature"]) == at
    before, after = (_json(tmp_path / name / "nbest_predictions.json") for name in ("before", "after"))
    for id, own in before.items():
        places = [-1 if c["text"] in ("YES", "NO", "") else 0 for c in own]
        numbers = ((c["probability"], c["start_logit"], c["end_logit"]) for c in own)
        nbest = [Candidate(c["text"], p, p, *n) for c, p, n in zip(own, places, numbers, strict=True)]
        assert [c["probability"] for c in after[id]] == pytest.approx(confidences(nbest, at), abs=1e-4)


def _question(number, group):
    return Example(f"q{number}", "？", f"文{group}", group=f"g{group}")


def test_halves_share_no_article_and_one_is_only_tried():
    """In group 0 to 5 three of four answers are right; all are 90 % sure."""
    examples = [_question(number, number // 4) for number in range(24)]
    nbest = (Candidate("甲", 0, 1, 0.9, 0.0, 0.0), Candidate("乙", 1, 2, 0.1, 0.0, 0.0))
    predictions = {e.id: Prediction(e.id, "甲", 0, 1, "span", 0.0, nbest) for e in examples}
    scores = {e.id: {"f1": 1.0, "em": float(i % 4 > 0)} for i, e in enumerate(examples)}
    found = calibration_of(examples, predictions, scores)
    assert (found.n_fitted, found.n_held_out, found.metric) == (12, 12, "em")
    assert found.temperature == pytest.approx(2.0, rel=1e-3)
    assert found.error_before == pytest.approx(0.15) and found.error_after == pytest.approx(0.0, abs=1e-3)
    assert found.loss_after < found.loss_before
    with pytest.raises(DataError, match="one article only"):
        calibration_of(examples[:4], predictions, scores)


@pytest.mark.parametrize(
    ("task", "file", "metric"), [("cjrc", "demo_cjrc_dev.json", "em"), ("lcqmc", "demo_pairs_dev.tsv", "accuracy")]
)
def test_answers_of_other_kinds_and_classes_are_calibrated_and_held_back_too(task, file, metric, tmp_path, capsys):
    mine = write_model(tmp_path / "model", task)
    flags = ["--data_file", str(CORPUS / file), "--device", "cpu", "--max_eval_samples", "24"]
    assert main(["calibrate", str(mine), *flags]) == 0
    kept = _json(mine / "mrc_settings.json")["calibration"]
    assert kept["metric"] == metric and kept["n_fitted"] + kept["n_held_out"] == 24
    command = ["predict", "--task", task, "--model_name_or_path", mine, "--test_file", CORPUS / file,
               "--feature_cache_dir", "None", "--output_dir", tmp_path / "out", "--min_confidence", "1"]  # fmt: skip
    assert main(list(map(str, command))) == 0
    lists = _json(tmp_path / "out/nbest_predictions.json")
    for candidates in lists.values():
        texts = {(c["start_logit"], c["end_logit"]) for c in candidates if c["text"] in ("YES", "NO")}
        one_each = [c for c in candidates if c["text"] or (c["start_logit"], c["end_logit"]) not in texts]
        assert sum(c["probability"] for c in one_each) == pytest.approx(1.0)
    held = _json(tmp_path / "out/predictions.json")
    abstained = _json(tmp_path / "out/protocol.json")["abstained"]
    assert len(abstained) > len(held) // 2 and not any(held[id] for id in abstained)
    command = ["evaluate", "--task", task, "--data_file", CORPUS / file, "--predictions",
               tmp_path / "out/predictions.json", "--output", tmp_path / "scores.json"]  # fmt: skip
    assert main(list(map(str, command))) == 0
    assert _json(tmp_path / "scores.json")["n"] == len(held)
