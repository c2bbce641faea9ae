"""A training whose questions are augmented counts what was made, and a task that can't learn from it refuses it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from experiment.cli import main
from experiment.inputs.data import Apart
from experiment.options.arguments import from_values
from experiment.options.flags import TrainOptions
from experiment.training.prepare import prepare
from preprocess.base.hashing import sha256
from tests.support.served import CORPUS

CONTEXT = "小猫住在北京。小狗住在上海。天气很好。"


@pytest.fixture
def files(tmp_path):
    """Write questions of SQuAD 2.0's layout: two texts of an article, one answer that is not quite in its text."""
    model = {
        "vocab_size": 432, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 32, "max_position_embeddings": 96,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(model))
    qas = [
        {"id": f"q{n}", "question": f"第{n}问？", "is_impossible": False,
         "answers": [{"text": text, "answer_start": max(0, CONTEXT.find(text))}]}
        for n, text in enumerate(["北京", "上海", "住在上海市"])
    ]  # fmt: skip
    other = [{"id": "r", "question": "谁？", "is_impossible": True, "answers": []}]
    paragraphs = [{"context": CONTEXT, "qas": qas}, {"context": "天上有云。", "qas": other}]
    (tmp_path / "data.json").write_text(json.dumps({"data": [{"title": "t", "paragraphs": paragraphs}]}))
    return tmp_path


def _options(files, task, **options):
    values = {
        "task": task, "config_name": str(files / "config.json"), "tokenizer_name": str(CORPUS / "vocab.txt"),
        "train_file": str(files / "data.json"), "validation_file": str(files / "data.json"), "max_seq_length": 64,
        "doc_stride": 32, "feature_cache_dir": str(files / "cache"), "output_dir": str(files / "run"), "seeds": [1],
        "device": "cpu", **options,
    }  # fmt: skip
    return from_values(values, TrainOptions)


def _prepared(files, task, **options):
    setup, lines, reports = prepare(_options(files, task, **options))
    return setup.parts[0].source.data, lines, reports


def test_questions_are_added_to_the_training_and_to_nothing_else(files):
    plain, _, report = _prepared(files, "squad_v2")
    assert "augmentation" not in report["train"]
    data, lines, reports = _prepared(files, "squad_v2", augment_delete_answer=1.0, augment_other_context=1.0)
    ids = [example.id for example in data.examples]
    assert ids[: len(plain.examples)] == [example.id for example in plain.examples] == ["q0", "q1", "r"]
    made = ["q0#answer-deleted", "q1#answer-deleted", "q0#other-context", "q1#other-context"]
    assert ids[3:] == made
    counts = reports["train"]["augmentation"]
    assert counts["delete_answer"]["ids"] + counts["other_context"]["ids"] == made
    assert reports["train"]["n_kept"] == 4 and reports["train"]["encoding"]["n_examples"] == 7
    assert reports["dev"]["encoding"]["n_examples"] == 4 and "augmentation" not in reports["dev"]
    assert any("questions made by deleting the sentence of their answer: 2" in line for line in lines)
    assert "  trained on: 7; not trained on for want of a located answer: 1" in lines
    # What is made is cached under its own name: the plain questions are found again.
    assert len(list((files / "cache").glob("*"))) == 3  # plain and augmented training, and dev
    again, _, _ = _prepared(files, "squad_v2")
    assert again.features.input_ids.tolist() == plain.features.input_ids.tolist()


def test_a_part_of_an_answer_is_trained_on_where_it_is_asked_for(files):
    data, _, reports = _prepared(files, "squad_v2", augment_weak_spans=0.8)
    assert [example.id for example in data.examples] == ["q0", "q1", "q2", "r"]
    assert data.examples[2].answers[-1].text == "住在上海"
    assert reports["train"]["augmentation"]["weak_spans"]["ids"] == ["q2"]
    assert reports["train"]["without_target"] == []


def test_a_share_of_further_files_is_trained_on_too_and_hashed(files):
    more = files / "more.json"
    qas = [
        {"id": f"q{n}", "question": f"又第{n}问？", "answers": [{"text": "北京", "answer_start": 4}]}
        for n in range(8)
    ]  # fmt: skip
    more.write_text(json.dumps({"data": [{"title": "m", "paragraphs": [{"context": CONTEXT, "qas": qas}]}]}))
    plain, _, _ = _prepared(files, "squad_v2")
    data, lines, reports = _prepared(
        files, "squad_v2", more_train_files=[str(more), str(files / "data.json")], more_train_rates=[0.5, 0.0]
    )
    n = len(plain.examples)
    assert data.examples[:n] == plain.examples
    drawn = data.examples[n:]
    assert len(drawn) == 4 and all(example.question.startswith("又") for example in drawn)
    # A question of another file may have the same id, and is another question.
    taken = {"q0", "q1", "q2", "r"}
    assert all((example.id.split("#")[0] in taken) == example.id.endswith("#file-2") for example in drawn)
    first, second = reports["train"]["augmentation"]["further_files"]
    assert (first["n_kept"], first["rate"], first["drawn"]) == (8, 0.5, 4) and second["drawn"] == 0
    assert "  drawn of these, at a rate of 0.5: 4 of 8 questions" in lines
    # And so may an article: what another file calls "m" is none of its texts.
    named = replace(plain.examples[0], group="m")
    assert {one.group for one in Apart([named]).named([named, replace(named, group="n")], 2)} == {"m#file-2", "n"}
    again, _, _ = _prepared(files, "squad_v2", more_train_files=[str(more)], more_train_rates=[0.5])
    assert again.examples == data.examples
    setup, _, _ = prepare(_options(files, "squad_v2", more_train_files=[str(more)]))
    assert setup.record_fields["hashes"]["train_file_2"] == sha256(more)
    assert len(setup.parts[0].source.data.examples) == n + 8


@pytest.mark.parametrize(
    ("task", "flags", "said"),
    [
        ("cmrc2018", ["--augment_delete_answer", "0.5"],
         "--augment_delete_answer: task cmrc2018 has no unanswerable questions to learn from"),
        ("drcd", ["--augment_other_context", "0.5"], "--augment_other_context: task drcd has no unanswerable"),
        ("xnli", ["--augment_weak_spans", "0.8"], "--augment_weak_spans: the answers of task xnli need no place"),
        ("squad_v2", ["--more_train_rates", "0.5"], "--more_train_rates: 1 for 0 --more_train_files; give one for"),
        ("squad_v2", ["--augment_delete_answer", "1.5"], "1.5: must be at least 0 and at most 1"),
    ],
)  # fmt: skip
def test_a_task_that_can_not_learn_from_it_refuses_it(files, capsys, task, flags, said):
    command = ["train", "--task", task, "--config_name", files / "config.json", "--tokenizer_name",
               CORPUS / "vocab.txt", "--train_file", files / "data.json", "--validation_file", files / "data.json",
               "--max_seq_length", "64", "--doc_stride", "32", "--output_dir", files / "run", *flags]  # fmt: skip
    assert main(list(map(str, command))) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert said in error and not (files / "run").exists()


def test_plan_counts_the_windows_that_are_added(files, capsys):
    command = ["plan", "--task", "squad_v2", "--config_name", files / "config.json", "--tokenizer_name",
               CORPUS / "vocab.txt", "--train_file", files / "data.json", "--validation_file", files / "data.json",
               "--max_seq_length", "64", "--doc_stride", "32", "--gpu", "t4",
               "--feature_cache_dir", "None"]  # fmt: skip
    said = []
    for more in ((), ("--augment_delete_answer", "1")):
        assert main([*map(str, command), *more, "--json", str(files / "plan.json")]) == 0
        said.append(capsys.readouterr().out)
    assert "3 windows" in said[0] and "5 windows" in said[1]
