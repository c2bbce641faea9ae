"""A reader answers as `predict` does, from a run or a checkpoint, for one question or many, and gives memory back."""

from __future__ import annotations

import gc
import json
import math
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import pytest

from experiment import Question, Reader, UsageError, evaluate, leaderboard, train
from experiment.cli import main
from tests.support.served import CORPUS, corpus_questions, write_finished_run, write_model

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("reader") / "model")


@pytest.fixture(scope="module")
def reader(checkpoint):
    with Reader.load(checkpoint, device="cpu") as loaded:
        yield loaded


def _long_text():
    return "".join(dict.fromkeys(context for _, context in corpus_questions(400)))


def test_answers_are_those_of_predict_and_stand_where_they_say(reader, checkpoint, tmp_path):
    data = tmp_path / "data.json"
    values = json.loads((CORPUS / "demo_dev.json").read_text(encoding="utf-8"))
    values["data"] = values["data"][:4]
    data.write_text(json.dumps(values), encoding="utf-8")
    command = ["predict", "--task", "cmrc2018", "--model_name_or_path", str(checkpoint), "--test_file", str(data)]
    assert main([*command, "--feature_cache_dir", "None", "--output_dir", str(tmp_path / "out")]) == 0
    expected = json.loads((tmp_path / "out/predictions.json").read_text(encoding="utf-8"))
    n_best = json.loads((tmp_path / "out/nbest_predictions.json").read_text(encoding="utf-8"))
    asked = [
        Question(qa["question"], paragraph["context"], id=qa["id"])
        for article in values["data"] for paragraph in article["paragraphs"] for qa in paragraph["qas"]
    ]  # fmt: skip
    results = reader.answer_many(asked, n_best=20)
    assert {each.id: each.text for each in results} == expected and len(results) > 10
    for question, result in zip(asked, results, strict=True):
        assert result.text == question.context[result.char_start : result.char_end]
        assert (result.kind, result.document, result.answered) == ("span", 0, True)
        given = n_best[result.id]
        assert [each.text for each in result.n_best] == [each["text"] for each in given]
        shares = [each.confidence for each in result.n_best]
        assert shares == pytest.approx([each["probability"] for each in given], abs=1e-6)
        assert math.isclose(sum(shares), 1.0) and result.confidence == shares[0]
    # Asked one by one, in other batches, they are the same.
    alone = reader.answer(asked[3].question, asked[3].context, n_best=2)
    assert alone.text == results[3].text and len(alone.n_best) == 2


def test_a_long_text_is_read_in_windows_that_hold_all_of_it(reader):
    text = _long_text()
    result = reader.answer("许云松是哪一年开店的？", text)
    assert len(text) > 1000 and len(result.windows) > 10
    assert result.windows[0].char_start == 0 and result.windows[-1].char_end == len(text)
    for before, after in zip(result.windows, result.windows[1:], strict=False):
        assert before.char_start < after.char_start < before.char_end < after.char_end
    assert result.text == text[result.char_start : result.char_end] != ""


def test_the_best_of_several_documents_answers_and_says_which_it_is(reader):
    (question, first), (_, second) = corpus_questions(100)[0], corpus_questions(100)[-1]
    assert first != second
    alone = [reader.answer(question, text, n_best=20) for text in (first, second)]
    both = reader.answer(question, [first, second], n_best=20)
    assert both.text == (first, second)[both.document][both.char_start : both.char_end]
    assert both.text == alone[both.document].text and both.confidence < alone[both.document].confidence
    assert {each.document for each in both.n_best} == {0, 1}
    swapped = reader.answer(question, [second, first], n_best=20)
    assert (swapped.text, swapped.document) == (both.text, 1 - both.document)
    assert swapped.confidence == pytest.approx(both.confidence)
    assert {window.document for window in both.windows} == {0, 1}


def test_who_is_not_sure_enough_gives_no_answer_and_says_what_it_would_have_been(reader):
    (question, context), *_ = corpus_questions(1)
    sure = reader.answer(question, context)
    unsure = reader.answer(question, context, min_confidence=1.0)
    assert not unsure.answered and (unsure.text, unsure.char_start, unsure.document) == ("", -1, -1)
    assert unsure.n_best == sure.n_best and unsure.confidence == sure.confidence < 1
    assert reader.answer(question, context, min_confidence=sure.confidence).answered


def test_no_text_is_no_answer(reader):
    result = reader.answer("谁？", "")
    assert not result.answered and result.text == "" and len(result.windows) == 1


def test_a_question_that_was_cut_is_said(reader):
    results = reader.answer_many([("谁在哪里" * 6, "小猫住在北京。"), ("谁？", "小猫住在北京。")])
    assert [result.question_cut for result in results] == [True, False]


def test_mistakes_are_one_line_each(reader, checkpoint, tmp_path):
    for arguments, said in (
        (("谁？", 3), "context: a text was expected"),
        (("谁？", []), "context: a text or several were expected, found none"),
        (("谁\ud800？", "甲"), "question: a text in UTF-8 was expected"),
    ):
        with pytest.raises(UsageError, match=said):
            reader.answer(*arguments) if arguments[1] != 3 else reader.answer(arguments[0], [3])
    with pytest.raises(UsageError, match="options: task cmrc2018 does not choose among options; leave them out"):
        reader.answer("谁？", "甲", options=["甲"])
    with pytest.raises(UsageError, match="n_best 0"):
        reader.answer("谁？", "甲", n_best=0)
    for options, said in (
        ({"precision": "int3"}, "precision 'int3'"),
        ({"framework": "jax"}, "framework 'jax': one of pytorch, tensorflow, onnx, openvino was expected"),
        ({"device": "cuda:99"}, "--device cuda:99"),
        ({"doc_strid": 3}, "doc_strid: unknown option; did you mean 'doc_stride'"),
        ({"framework": "onnx", "precision": "bf16"}, "--bf16: --framework onnx computes on the CPU and in float32"),
        ({"framework": "openvino", "precision": "fp16"}, "--fp16: .* in float32 or bfloat16"),
    ):
        with pytest.raises(UsageError, match=said):
            Reader.load(checkpoint, **options)
    with pytest.raises(ValueError, match="no such"):
        Reader.load(tmp_path / "nothing")


def test_tasks_without_spans_say_what_they_take_and_what_they_found(tmp_path):
    with Reader.load(write_model(tmp_path / "c3", "c3"), device="cpu") as chooses:
        assert chooses.answer("谁？", "小猫住在北京。", options=["小猫", "小狗"]).kind == "option"
        with pytest.raises(UsageError, match="question 1: options: task c3 chooses among options; give them"):
            chooses.answer_many([Question("谁？", "甲", ["甲"]), Question("谁？", "甲")])
    model = write_model(tmp_path / "ner", "msra_ner")
    with Reader.load(model, device="cpu") as tags:
        found = tags.answer("", "小猫住在北京。")
    assert found.kind == "entities" and found.value
    assert 0 < found.confidence <= min(each.confidence for each in found.n_best)
    for entity in found.value:
        assert entity["text"] == "小猫住在北京。"[entity["char_start"] : entity["char_end"]] and entity["type"]
        assert f"{entity['type']} {entity['char_start']}-{entity['char_end']} {entity['text']}" in found.text
    with pytest.raises(UsageError, match="temperature: task msra_ner: .* has no probability"):
        Reader.load(model, temperature=2.0)


def test_threads_get_the_answers_to_their_own_questions(reader):
    asked = corpus_questions(24)
    expected = [result.text for result in reader.answer_many(asked)]
    found: dict[int, list[str]] = {}

    def ask(thread):
        found[thread] = [reader.answer(*asked[n]).text for n in range(thread, 24, 8)]

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {n: expected[n::8] for n in range(8)} and len({*expected}) > 10


def test_a_closed_reader_holds_no_weights_and_says_that_it_is_closed(checkpoint, monkeypatch):
    import pytorch_modeling

    models, load = [], pytorch_modeling.load_model

    def watched(*arguments, **options):
        model, report = load(*arguments, **options)
        models.append(weakref.ref(model))
        return model, report

    monkeypatch.setattr(pytorch_modeling, "load_model", watched)
    with Reader.load(checkpoint) as reader:
        assert reader.answer("谁？", "小猫住在北京。").text
    gc.collect()
    assert [model() for model in models] == [None]
    with pytest.raises(UsageError, match="this reader is closed"):
        reader.answer("谁？", "小猫住在北京。")
    reader.close()


def test_a_run_answers_by_its_best_seed_in_the_framework_of_its_training(tmp_path):
    run = write_finished_run(tmp_path / "run", {1: 60.0, 2: 80.0, 3: 70.0})
    asked = corpus_questions(8)
    texts = {}
    for place in (run, *(run / f"seed_{seed}/checkpoint-best" for seed in (1, 2, 3))):
        with Reader.load(place) as reader:
            texts[place.parent.name] = [result.text for result in reader.answer_many(asked)]
            assert reader.task == "cmrc2018" and reader.prepared.options.framework == "pytorch"
    assert texts[tmp_path.name] == texts["seed_2"] != texts["seed_1"]
    table = leaderboard(run)
    assert "| cmrc2018 | dev | tiny | 70.000(80.000) |" in str(table) and table._repr_markdown_() == str(table)
    with pytest.raises(UsageError, match="give run directories"):
        leaderboard()


def test_tensorflow_answers_alike_and_is_what_a_run_of_its_own_loads(tmp_path, monkeypatch):
    pytest.importorskip("tensorflow")
    run = write_finished_run(tmp_path / "run", {1: 60.0}, framework="tensorflow")
    asked = corpus_questions(3)
    with Reader.load(run) as ours, Reader.load(run, framework="pytorch") as other:
        assert ours.prepared.options.framework == "tensorflow"
        assert [each.text for each in ours.answer_many(asked)] == [each.text for each in other.answer_many(asked)]


@pytest.mark.parametrize(("framework", "package"), [("onnx", "onnxruntime"), ("openvino", "openvino")])
def test_exported_graphs_answer_alike(framework, package, reader, checkpoint):
    for name in ("onnxscript", package):
        pytest.importorskip(name)
    asked = corpus_questions(6)
    with Reader.load(checkpoint, framework=framework) as exported:
        for ours, own in zip(exported.answer_many(asked), reader.answer_many(asked), strict=True):
            assert (ours.text, ours.char_start) == (own.text, own.char_start)
            assert ours.confidence == pytest.approx(own.confidence, abs=1e-4)


def test_answers_are_scored_from_a_reader_a_mapping_and_a_file(reader, tmp_path):
    data = tmp_path / "data.json"
    values = json.loads((CORPUS / "demo_dev.json").read_text(encoding="utf-8"))
    values["data"] = values["data"][:2]
    data.write_text(json.dumps(values), encoding="utf-8")
    own = evaluate("cmrc2018", data, reader)
    right = {
        qa["id"]: qa["answers"][0]["text"]
        for article in values["data"] for paragraph in article["paragraphs"] for qa in paragraph["qas"]
    }  # fmt: skip
    (tmp_path / "right.json").write_text(json.dumps(right), encoding="utf-8")
    assert evaluate("cmrc2018", data, right).values["em"] == 100.0 > own.values["em"]
    assert evaluate("cmrc2018", data, tmp_path / "right.json").values["f1"] == 100.0
    found = reader.calibrate(data)
    try:
        assert found.n_fitted + found.n_held_out == len(right) and reader.temperature == found.temperature > 1
        assert found.error_after < found.error_before
    finally:
        reader.temperature = 1.0


def test_training_takes_options_as_the_command_does_and_names_what_is_wrong(tmp_path):
    with pytest.raises(UsageError, match="learning_rte: unknown option; did you mean 'learning_rate'"):
        train("cmrc2018", tmp_path / "run", learning_rte=1e-3, seeds=[1, 2])
    with pytest.raises(UsageError, match="seeds 'x': a whole number was expected"):
        train("cmrc2018", tmp_path / "run", seeds=["x"])
    with pytest.raises(UsageError, match="give either --model_name_or_path"):
        train("cmrc2018", tmp_path / "run", seeds=[1, 2], learning_rate=1e-3)


def test_names_are_imported_without_a_framework():
    program = (
        "import sys; from experiment import *; from experiment import Reader, train; import experiment;"
        "assert 'Reader' in dir(experiment) and train.__doc__;"
        "print({'torch', 'tensorflow', 'keras', 'fastapi'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
