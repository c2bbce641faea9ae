"""Classes and tags through all commands: trained, selected, tabled, reported and used by the task's own metric."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from experiment.cli import main
from tasks.core.entities import read_entities

_CHARACTERS = "甲乙丙丁戊己庚辛"
_MODEL = {
    "model_type": "bert",
    "vocab_size": 5 + len(_CHARACTERS),
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 32,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}


def _review(draw: random.Random) -> str:
    """A text with 甲 in it is positive."""
    text = "".join(draw.choices(_CHARACTERS[2:], k=7)) + draw.choice("甲乙")
    return f"{int('甲' in text)}\t{text}"


def _candidate(draw: random.Random) -> str:
    """A sentence answers a question if it begins with 甲."""
    text = draw.choice("甲乙") + "".join(draw.choices(_CHARACTERS[2:], k=5))
    return f"{draw.choice('丙丁戊')}\t{text}\t{int('甲' in text)}"


def _tagged(draw: random.Random) -> str:
    """甲 is a person, 乙丙 a place."""
    text = "".join(draw.choices(["甲", "乙丙", "丁", "戊", "己"], k=6))
    tags = {"甲": "B-PER", "乙": "B-LOC", "丙": "I-LOC"}
    return "\x02".join(text) + "\t" + "\x02".join(tags.get(c, "O") for c in text)


#: task -> header, and what makes a row.
_FILES = {
    "chnsenticorp": ("label\ttext_a", _review),
    "dbqa": ("text_a\ttext_b\tlabel", _candidate),
    "msra_ner": ("text_a\tlabel", _tagged),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A model, and train and dev files of each task."""
    directory = tmp_path_factory.mktemp("rows")
    model = directory / "model"
    model.mkdir()
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *_CHARACTERS]
    (model / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
    (model / "config.json").write_text(json.dumps(_MODEL), encoding="utf-8")
    draw = random.Random(1)
    for task, (header, row) in _FILES.items():
        for split, n in (("train", 96), ("dev", 24)):
            lines = [header, *(row(draw) for _ in range(n)), ""]
            (directory / f"{task}_{split}.tsv").write_text("\n".join(lines), encoding="utf-8")
    return directory


def _train(place: Path, task: str, framework: str) -> Path:
    run = place / f"{task}_{framework}"
    status = main([
        "train", "--task", task, "--framework", framework, "--config_name", str(place / "model"), "--seeds", "1",
        "--train_file", str(place / f"{task}_train.tsv"), "--validation_file", str(place / f"{task}_dev.tsv"),
        "--output_dir", str(run), "--max_seq_length", "32", "--max_query_length", "8", "--num_train_epochs", "16",
        "--per_device_train_batch_size", "16", "--eval_epochs", "8", "--learning_rate", "1e-2",
        "--feature_cache_dir", str(place / "cache"),
    ])  # fmt: skip
    assert status == 0
    return run


@pytest.fixture(scope="module")
def runs(place) -> dict[str, Path]:
    return {task: _train(place, task, "pytorch") for task in _FILES}


def _dev_scores(run: Path) -> dict[str, float]:
    return json.loads((run / "seed_1" / "record.json").read_text(encoding="utf-8"))["scores"]["dev"]


@pytest.mark.parametrize("task", _FILES)
def test_a_task_is_learned_and_scored_alike_in_training_by_evaluate_and_after_predict(
    task, runs, place, tmp_path, capsys
):
    data = str(place / f"{task}_dev.tsv")
    scores = _dev_scores(runs[task])
    assert min(scores.values()) > 90.0
    predictions = runs[task] / "seed_1" / "predictions_dev.json"
    output = tmp_path / "scores.json"
    command = ["evaluate", "--task", task, "--data_file", data, "--predictions", str(predictions)]
    assert main([*command, "--output", str(output)]) == 0
    assert json.loads(output.read_text(encoding="utf-8"))["values"] == scores
    best = str(runs[task] / "seed_1" / "checkpoint-best")
    predict = ["predict", "--task", task, "--model_name_or_path", best, "--test_file", data, "--output_dir"]
    assert main([*predict, str(tmp_path), "--feature_cache_dir", "None"]) == 0
    assert json.loads((tmp_path / "predictions.json").read_text("utf-8")) == json.loads(
        predictions.read_text("utf-8")
    )
    capsys.readouterr()


@pytest.mark.parametrize("task", ["chnsenticorp", "msra_ner"])
def test_the_other_framework_learns_the_same(task, place):
    assert min(_dev_scores(_train(place, task, "tensorflow")).values()) > 90.0


def test_one_text_or_pair_is_answered_as_its_task_asks_for_it(runs, capsys):
    def answer(task, *texts):
        best = str(runs[task] / "seed_1" / "checkpoint-best")
        status = main(["predict", "--task", task, "--model_name_or_path", best, *texts])
        return status, capsys.readouterr()

    status, printed = answer("chnsenticorp", "--context", "戊己庚甲")
    assert status == 0 and printed.out.splitlines()[-1].startswith("1  p=0.9")
    status, printed = answer("msra_ner", "--context", "丁乙丙甲")
    assert status == 0 and printed.out.splitlines()[-1] == "LOC 1-3 乙丙; PER 3-4 甲"
    status, printed = answer("dbqa", "--question", "丙", "--context", "甲戊己庚辛己")
    assert status == 0 and printed.out.splitlines()[-1].startswith("1  p=")
    for task, texts, message in (
        ("chnsenticorp", ("--question", "甲", "--context", "乙"), "give either --test_file, or --context"),
        ("dbqa", ("--context", "乙"), "give either --test_file, or --question and --context"),
        ("msra_ner", (), "give either --test_file, or --context"),
    ):
        status, printed = answer(task, *texts)
        assert (status, printed.err) == (2, f"error: {message}\n")


def test_a_text_that_was_cut_is_said_to_be(runs, capsys):
    best = str(runs["chnsenticorp"] / "seed_1" / "checkpoint-best")
    assert main(["predict", "--task", "chnsenticorp", "--model_name_or_path", best, "--context", "甲" * 40]) == 0
    assert "the text was cut to 32 tokens; --max_seq_length raises that" in capsys.readouterr().err.replace("\n", " ")


def test_a_leaderboard_of_tasks_prints_the_columns_of_each(runs, capsys):
    assert main(["leaderboard", *map(str, runs.values())]) == 0
    plain = capsys.readouterr().out
    heads = [line for line in plain.splitlines() if line.startswith("| task")]
    assert ["accuracy:mean(max)" in head for head in heads] == [True, False, False]
    assert "MRR:mean(max)" in heads[1] and "F1:mean(max)" in heads[1] and "EM" not in plain
    assert main(["leaderboard", *map(str, runs.values()), "--format", "csv"]) == 0
    rows = capsys.readouterr().out
    assert {task for task in _FILES if task in rows} == set(_FILES) and "mrr" in rows


def test_the_report_and_the_card_speak_of_the_tasks_own_metrics_and_classes(runs, place, tmp_path, capsys):
    assert main(["report", *map(str, runs.values()), "--output", str(tmp_path)]) == 0
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "MRR" in page and "accuracy" in page and "annotated ↓ answered →" in page
    for task, kind in (("chnsenticorp", "text-classification"), ("msra_ner", "token-classification")):
        assert main(["card", str(runs[task]), "--output", str(tmp_path)]) == 0
        card = (tmp_path / "README.md").read_text(encoding="utf-8")
        assert f"pipeline_tag: {kind}" in card and "question-answering" not in card
        assert "--model_name_or_path DIRECTORY --context …" in card
    capsys.readouterr()


def test_stats_show_the_windows_and_the_classes(place, capsys):
    def stats(task):
        options = ["--data_file", str(place / f"{task}_dev.tsv"), "--tokenizer_name", str(place / "model")]
        assert main(["stats", "--task", task, *options, "--max_seq_length", "8", "32"]) == 0
        return capsys.readouterr().out

    classes = stats("chnsenticorp")
    assert "texts truncated" in classes and "answers in no window" not in classes
    assert "24 (100.00%)" in classes and "question, characters" not in classes
    (share,) = [line.split() for line in classes.splitlines() if line.startswith("1 ")]
    assert share[2].endswith("%")
    tags = stats("msra_ner")
    assert "answers across pieces" in tags and "LOC" in tags and "answer, characters" in tags


def test_files_are_validated_and_divided_by_class(place, tmp_path, capsys):
    data = place / "chnsenticorp_train.tsv"
    assert main(["validate", "--task", "chnsenticorp", "--train", str(data), "--dev", str(data)]) == 0
    assert "96 questions, 96 kept, 0 dropped" in capsys.readouterr().out
    split = ["split", "--task", "chnsenticorp", "--data_file", str(data), "--output_dir", str(tmp_path)]
    assert main([*split, "--test_size", "0.25"]) == 0
    lines = [(tmp_path / f"{name}.tsv").read_text("utf-8").splitlines() for name in ("train", "dev")]
    assert [line[0] for line in lines] == ["label\ttext_a"] * 2
    assert sorted(lines[0][1:] + lines[1][1:]) == sorted(data.read_text("utf-8").splitlines()[1:])
    assert not {row.split("\t")[1] for row in lines[0][1:]} & {row.split("\t")[1] for row in lines[1][1:]}
    positive = [sum(row.startswith("1") for row in part[1:]) / (len(part) - 1) for part in lines]
    assert abs(positive[0] - positive[1]) < 0.1
    assert main(split) == 2 and "train.tsv: is there already" in capsys.readouterr().err
    # A question and all its candidates stand together; nothing can be held out of a single one.
    one = tmp_path / "one.tsv"
    one.write_text("丙\t甲\t1\n丙\t乙\t0\n", encoding="utf-8")
    assert main(["split", "--task", "dbqa", "--data_file", str(one), "--output_dir", str(tmp_path / "d")]) == 2
    assert "holds rows that belong together; it can't be split" in capsys.readouterr().err


def test_predictions_that_the_metric_cannot_read_are_named_with_their_file(place, tmp_path, capsys):
    predictions = tmp_path / "p.json"
    predictions.write_text('{"2": "甲"}', encoding="utf-8")
    command = ["evaluate", "--task", "msra_ner", "--data_file", str(place / "msra_ner_dev.tsv"), "--predictions"]
    assert main([*command, str(predictions)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {predictions}: '2' has '甲'; entities like") and error.count("\n") == 1


def test_training_writes_which_entities_were_found(runs):
    report = json.loads((runs["msra_ner"] / "seed_1" / "report_dev.json").read_text(encoding="utf-8"))
    assert set(report["types"]) == {"PER", "LOC", "ORG"} and report["types"]["PER"]["f1"] > 0.9
    answers = json.loads((runs["msra_ner"] / "seed_1" / "predictions_dev.json").read_text(encoding="utf-8"))
    assert {e.type for id, text in answers.items() for e in read_entities(id, text, 99)} == {"PER", "LOC"}
