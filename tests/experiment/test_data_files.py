"""Data files of a run: named when they can't be used, hashed as they are read, asked for only where published."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from experiment import evaluate as score_of
from experiment.cli import main
from experiment.inputs import splits
from experiment.inputs.data import read_examples
from experiment.inputs.download import how_to_get
from experiment.options.arguments import from_values
from experiment.options.data import DEFAULT_DATA_DIR
from experiment.options.flags import TrainOptions
from experiment.report.page.answers import Questions
from experiment.training.prepare import files_of, resolved
from experiment.training.record import Record
from preprocess.base.errors import DataError, UsageError
from preprocess.base.hashing import hash_of_files
from preprocess.readers.report import DataReport
from preprocess.types import Example
from tasks.core.discovery import get_task, task_names
from tests.support.samples import sample_of


def _without(path: Path, keys: dict[str, str], *ids: str) -> Path:
    """Write a copy of a data file in which keys of the named questions (none named: of all) have other names."""
    document = json.loads(path.read_text("utf-8"))
    for article in document["data"]:
        for paragraph in article["paragraphs"]:
            paragraph["qas"] = [
                {keys.get(key, key): value for key, value in qa.items()} if not ids or qa["id"] in ids else qa
                for qa in paragraph["qas"]
            ]
    copy = path.with_name("copy.json")
    copy.write_text(json.dumps(document), "utf-8")
    return copy


def _with(arguments: list[str], **flags: object) -> list[str]:
    changed = list(arguments)
    for flag, value in flags.items():
        changed[changed.index(f"--{flag}") + 1] = str(value)
    return changed


@pytest.mark.parametrize("task", ["cmrc2018", "cjrc", "squad_v2"])
def test_files_without_answers_are_named_with_the_key_that_may_be_meant(
    capsys: Any, corpus: Any, flags: Any, tmp_path: Path, task: str
) -> None:
    misspelt = _without(corpus.data, {"answers": "answer"})
    arguments = _with(flags(corpus, tmp_path / "run"), task=task)
    said = "6 of 6 questions have no \"answers\" ('T_0_Q_0': nothing (its key 'answer': did you mean 'answers'?)); "
    for flag, remedy in (("train_file", "give a training file"), ("validation_file", "add them")):
        assert main(_with(arguments, **{flag: misspelt})) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"error: {misspelt}: {said}{remedy}")
    # Both at once: all that is wrong with the data of a run is said in one line.
    assert main(_with(arguments, train_file=misspelt, validation_file=misspelt)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "; give a training file with answers; " in line and line.endswith("they can't be scored")
    assert not (tmp_path / "run").exists()


def test_a_training_file_of_which_no_answer_is_in_its_context_is_named(
    capsys: Any, corpus: Any, flags: Any, tmp_path: Path
) -> None:
    document = json.loads(corpus.data.read_text("utf-8"))
    for article in document["data"]:
        article["paragraphs"][0]["context"] = "无"
    (tmp_path / "nowhere.json").write_text(json.dumps(document))
    assert main(_with(flags(corpus, tmp_path / "run"), train_file=tmp_path / "nowhere.json")) == 2
    error = capsys.readouterr().err
    assert f"error: {tmp_path}/nowhere.json: no answer to its 6 questions stands in its context; give a" in error


def test_unlabelled_questions_are_counted_and_not_trained_on_as_unanswerable(
    corpus: Any, flags: Any, tmp_path: Path
) -> None:
    mixed = _without(corpus.data, {"answers": "answer"}, "T_0_Q_0", "T_2_Q_1")
    arguments = _with(flags(corpus, tmp_path / "run", "--seeds", "1"), train_file=mixed, task="squad_v2")
    assert main(arguments) == 0
    report = json.loads((tmp_path / "run" / "data_report.json").read_text())["train"]
    assert report["notes"]["unlabelled"]["ids"] == report["without_target"] == ["T_0_Q_0", "T_2_Q_1"]
    assert "  trained on: 4; not trained on for want of a located answer: 2" in report["lines"]


def test_the_record_holds_the_hash_of_what_was_read_from_a_pipe(corpus: Any, flags: Any, tmp_path: Path) -> None:
    content = corpus.data.read_bytes()
    os.mkfifo(tmp_path / "fifo")
    threading.Thread(target=(tmp_path / "fifo").write_bytes, args=(content,), daemon=True).start()
    assert main(_with(flags(corpus, tmp_path / "run", "--seeds", "1"), train_file=tmp_path / "fifo")) == 0
    hashes = json.loads((tmp_path / "run" / "seed_1" / "record.json").read_text())["hashes"]
    assert hashes["train_file"] == hashes["dev_file"] == hashlib.sha256(content).hexdigest()


def test_a_file_that_is_replaced_after_it_was_read_is_not_vouched_for(
    corpus: Any, flags: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    content = corpus.data.read_bytes()

    def read_and_replace(*arguments: Any) -> Any:
        try:
            return read_examples(*arguments)
        finally:
            corpus.data.write_text("another file")
            corpus.data.write_bytes(content.replace("北京".encode(), "天津".encode()))

    monkeypatch.setattr(splits, "read_examples", read_and_replace)
    assert main(flags(corpus, tmp_path / "run", "--seeds", "1")) == 0
    hashes = json.loads((tmp_path / "run" / "seed_1" / "record.json").read_text())["hashes"]
    assert hashes["train_file"] == hashlib.sha256(content).hexdigest() != hashes["dev_file"]


@pytest.mark.parametrize("name", task_names())
def test_every_task_says_the_hash_of_what_it_read(tmp_path: Path, name: str) -> None:
    path = sample_of(get_task(name), tmp_path)
    assert get_task(name).read(path)[1].sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_reader_that_does_not_hash_is_helped_out(corpus: Any) -> None:
    class Own:
        @staticmethod
        def read(path: Path) -> tuple[list[Example], DataReport]:
            return [Example("q", "?", "甲")], DataReport(str(path))

    report = read_examples(Own, corpus.data)[1]  # type: ignore[arg-type]
    assert report.sha256 == hashlib.sha256(corpus.data.read_bytes()).hexdigest()


def test_several_files_are_read_as_one_and_rows_of_the_same_number_stay_apart(tmp_path: Path) -> None:
    """Ids of rows are numbers of lines, and groups are named after them: MRR would mix two questions."""
    paths = tuple(tmp_path / name for name in ("a.tsv", "b.tsv"))
    for path, rows in zip(paths, ("问一\t甲\t1\n问一\t乙\t0\n坏", "问二\t丙\t0\n问三\t丁\t1\n"), strict=True):
        path.write_text(rows, encoding="utf-8")
    task = get_task("dbqa")
    examples, report = read_examples(task, paths)
    assert [(one.id, one.group) for one in examples] == [
        *(("1_1", "1"), ("1_2", "1")),
        *(("1_1#file-2", "1#file-2"), ("2_2", "2")),
    ]
    assert (report.n_questions, report.n_kept, report.dropped) == (5, 4, {"columns_wrong": ["line 3"]})
    assert report.file == f"{paths[0]}, {paths[1]}" and report.layout == "rows"
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    assert report.sha256 == hash_of_files(digests) and hash_of_files(digests[:1]) == digests[0]
    assert report.sha256 != read_examples(task, paths[::-1])[1].sha256
    assert read_examples(task, paths, 3)[0] == examples[:3]
    with pytest.raises(DataError, match=r"no_1: no such file; check the path; .*no_2: no such file"):
        read_examples(task, (paths[0], tmp_path / "no_1", tmp_path / "no_2"))


def _halves(directory: Path, split: str) -> tuple[Path, ...]:
    directory.mkdir(exist_ok=True)
    halves = {"m": [["小猫住在北京。"], "1"], "d": [["男：你好。", "女：你好。"], "1"]}
    paths = []
    for half, (lines, id) in halves.items():
        document = [lines, [{"question": "哪里？", "choice": ["北京", "上海"], "answer": "北京"}], id]
        paths.append(directory / f"c3-{half}-{split}.json")
        paths[-1].write_text(json.dumps([document]), encoding="utf-8")
    return tuple(paths)


def test_all_that_download_fetched_of_a_split_is_read(corpus: Any, tmp_path: Path) -> None:
    """C3 publishes each split as two files; one of them alone is no dev set of C3's."""
    train, dev = (_halves(tmp_path / "c3", split) for split in ("train", "dev"))
    model = {"config_name": str(corpus.model), "tokenizer_name": str(corpus.model / "vocab.txt")}
    values = {**model, "task": "c3", "data_dir": str(tmp_path), "output_dir": str(tmp_path / "run")}
    values |= {"max_seq_length": 64, "doc_stride": 32, "max_query_length": 16}
    (own,) = resolved(from_values(values, TrainOptions)).tasks
    assert own.options.train_file == train and own.options.validation_file == dev
    assert own.recipe.config["validation_file"] == [str(path) for path in dev]
    read = splits.read_splits(own.task, *files_of(own.options))
    assert [len(split.examples) for split in read.values()] == [2, 2]
    assert {"accuracy_m", "accuracy_d"} <= read["dev"].scorer({}).values.keys()  # type: ignore[misc]
    dev[1].unlink()
    with pytest.raises(UsageError, match="give --validation_file, or fetch the published file"):
        resolved(from_values(values, TrainOptions))


def test_several_files_are_scored_as_one(capsys: Any, tmp_path: Path) -> None:
    halves = _halves(tmp_path, "dev")
    predictions = tmp_path / "predictions.json"
    predictions.write_text(json.dumps({"m-1-1": "北京", "d-1-1": "上海"}))
    typed = ["evaluate", "--task", "c3", "--predictions", str(predictions), "--data_file"]
    assert main([*typed, *map(str, halves)]) == 0
    printed = capsys.readouterr().out.split()
    assert [float(printed[printed.index(name) + 1]) for name in ("accuracy", "accuracy_m", "accuracy_d")] == [
        50,
        100,
        0,
    ]
    assert score_of("c3", halves, {"m-1-1": "北京"}).n_missing == 1


def test_a_report_finds_several_files_again(tmp_path: Path) -> None:
    dev = _halves(tmp_path, "dev")
    wanted = hash_of_files([hashlib.sha256(path.read_bytes()).hexdigest() for path in dev])
    config = {"validation_file": [str(path) for path in dev]}
    facts: Any = {"model": "m", "seed": 1, "status": "finished", "selection": [], "versions": {}, "task_version": ""}
    record = Record(task="c3", hashes={"dev_file": wanted}, config=config, **facts)
    found = Questions(()).of(record, "dev")
    assert found is not None and [one.id for one in found[1]] == ["m-1-1", "d-1-1"]
    moved = tuple(path.rename(path.with_suffix(".moved")) for path in dev)
    questions = Questions(())
    assert questions.of(record, "dev") is None
    assert f"({dev[0]}, {dev[1]} is not there); give the file with --data_file" in questions.notes[0]
    assert Questions(moved).of(record, "dev") == found


def test_advice_to_download_only_what_is_published(tmp_path: Path) -> None:
    xquad, cmrc = get_task("xquad_zh"), get_task("cmrc2018")
    assert how_to_get(xquad, "train", "train_file", DEFAULT_DATA_DIR) == (
        "give --train_file: task 'xquad_zh' publishes only test, no train file"
    )
    advice = "give --train_file, or fetch the published file: run_mrc.py download --task cmrc2018"
    assert how_to_get(cmrc, "train", "train_file", DEFAULT_DATA_DIR) == advice
    # Where train will look for it again.
    assert how_to_get(cmrc, "train", "train_file", tmp_path) == f"{advice} --data_dir {tmp_path}"


def test_train_and_plan_give_that_advice(capsys: Any, corpus: Any, flags: Any, tmp_path: Path) -> None:
    arguments = _with(flags(corpus, tmp_path / "run"), task="xquad_zh")
    at = arguments.index("--train_file")
    del arguments[at : at + 2]
    assert main([*arguments, "--data_dir", str(tmp_path)]) == 2
    assert capsys.readouterr().err == "error: give --train_file: task 'xquad_zh' publishes only test, no train file\n"
    plan = ["plan", "--task", "xquad_zh", "--config_name", str(corpus.model), "--max_seq_length", "64"]
    assert main([*plan, "--data_dir", str(tmp_path)]) == 0
    assert "give --train_file: task 'xquad_zh' publishes only test, no train file" in capsys.readouterr().out


IMPOSSIBLE = {"answers": [], "is_impossible": True}


@pytest.mark.parametrize(
    ("task", "questions", "scored"),
    [
        ("squad_v2", [IMPOSSIBLE, IMPOSSIBLE], True),
        ("cjrc", [IMPOSSIBLE, {"answers": [], "is_impossible": "true"}], True),
        ("squad_v2", [{"answers": []}, {"answers": []}], False),
        ("cjrc", [IMPOSSIBLE, {"answers": [], "is_impossible": "false"}], False),
        ("cmrc2018", [IMPOSSIBLE], False),
        ("squad_v2", [{}], False),
    ],
)
def test_a_test_file_is_scored_if_it_tells_the_answers(
    task: str, questions: list[Any], scored: bool, tmp_path: Path
) -> None:
    """Empty lists may be those of a file whose answers are kept secret; to say that there are none is an answer."""
    path = tmp_path / "test.json"
    qas = [{"id": str(i), "question": "谁？", **question} for i, question in enumerate(questions)]
    path.write_text(json.dumps({"data": [{"paragraphs": [{"context": "小猫", "qas": qas}]}]}), "utf-8")
    assert (splits.read_splits(get_task(task), {"test": path}, {})["test"].scorer is not None) == scored
