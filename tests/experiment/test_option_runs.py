"""Questions with options, and blanks, from a file to a score: learned, saved, used and scored in both frameworks."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from experiment.cli import main
from experiment.commands.leaderboard import leaderboard
from experiment.options.flags import LeaderboardOptions
from tasks.core.discovery import get_task
from tests.support.task_runs import check_answers_again, check_learned, read_json, train, write_model

FRAMEWORKS = ("pytorch", "tensorflow")
LETTERS = "甲乙丙丁戊己庚辛"
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "?", *LETTERS]


def _options(draw: random.Random) -> tuple[list[str], str]:
    """Two options or three, and the right one: it has 甲 in it."""
    options = ["甲" + draw.choice("乙丙"), *draw.sample(["丙丁", "丁戊", "戊己"], draw.choice((1, 2)))]
    right = options[0]
    draw.shuffle(options)
    return options, right


def _c3(draw: random.Random, number: int) -> list[Any]:
    """Some texts take two windows."""
    options, right = _options(draw)
    lines = ["".join(draw.choices("庚辛", k=draw.choice((3, 12)))) for _ in range(2)]
    return [lines, [{"question": "庚?", "choice": options, "answer": right}], f"{number}-1"]


def _cmrc2019(draw: random.Random, number: int) -> dict[str, Any]:
    """The right candidate belongs in both blanks."""
    choices, right = _options(draw)
    text = "".join(f"{''.join(draw.choices('庚辛', k=9))}[BLANK{n}]" for n in (1, 2))
    answers = [choices.index(right)] * 2
    return {"context_id": f"P{number}", "context": text, "choices": choices, "answers": answers}


MADE = {
    "c3": (lambda draw, n: [_c3(draw, i) for i in range(n)]),
    "cmrc2019": (lambda draw, n: {"data": [_cmrc2019(draw, i) for i in range(n)]}),
}
#: What chance gives, in percent, is at most half of this.
LEARNED = {"c3": {"accuracy": 90.0, "accuracy_m": 90.0}, "cmrc2019": {"qac": 90.0, "pac": 90.0}}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"), VOCABULARY)


@pytest.fixture(scope="module", params=[(task, framework) for task in MADE for framework in FRAMEWORKS], ids="-".join)
def trained(request, tmp_path_factory, model) -> tuple[str, str, Path]:
    """Task, framework, and a directory with "dev.json" and a finished "run"."""
    task, framework = request.param
    directory = _write(task, tmp_path_factory.mktemp(f"{task}-{framework}"))
    steps = {"per_device_train_batch_size": 48, "num_train_epochs": 8, "eval_epochs": 8}
    train(task, framework, model, directory, max_seq_length=24, **steps)
    return task, framework, directory


def _write(task: str, directory: Path) -> Path:
    draw = random.Random(0)
    for name, n in (("train", 96), ("dev", 30)):
        (directory / f"{name}.json").write_text(json.dumps(MADE[task](draw, n)), encoding="utf-8")
    return directory


def test_it_is_learned_selected_and_tabled_by_its_own_metric(trained) -> None:
    task, _, directory = trained
    check_learned(directory, LEARNED[task])


def test_what_was_saved_answers_as_what_was_trained_and_is_scored_alike(trained, tmp_path, capsys) -> None:
    task, framework, directory = trained
    names = ["predictions.json"] if task == "c3" else ["predictions.json", "predictions_official.json"]
    check_answers_again(task, framework, directory, tmp_path, names)
    if task == "cmrc2019":
        assert set(read_json(tmp_path / "predictions_official.json")) == {f"P{i}" for i in range(30)}
    capsys.readouterr()


@pytest.mark.parametrize("trained", [("cmrc2019", framework) for framework in FRAMEWORKS], indirect=True)
def test_candidates_may_be_given_out_once_by_a_model_that_was_trained_without_that(trained, tmp_path) -> None:
    task, framework, directory = trained
    assert main([
        "predict", "--task", task, "--framework", framework, "--assignment", "one_to_one",
        "--model_name_or_path", str(directory / "run" / "seed_1" / "checkpoint-best"),
        "--test_file", str(directory / "dev.json"), "--output_dir", str(tmp_path), "--feature_cache_dir", "None",
    ]) == 0  # fmt: skip
    given = read_json(tmp_path / "predictions_official.json").values()
    assert all(len(set(indices)) == len(indices) == 2 for indices in given)
    free = read_json(directory / "run" / "seed_1" / "predictions_official_dev.json").values()
    assert sum(len(set(indices)) == 1 for indices in free) > 25


@pytest.mark.parametrize("task", list(MADE))
def test_a_file_of_them_is_divided_and_measured(task: str, tmp_path, model, capsys) -> None:
    dev = _write(task, tmp_path) / "dev.json"
    assert main(["split", "--task", task, "--data_file", str(dev), "--output_dir", str(tmp_path / "parts")]) == 0
    parts = [get_task(task).read(tmp_path / "parts" / f"{name}.json")[0] for name in ("train", "dev")]
    whole = get_task(task).read(dev)[0]
    assert sorted(e.id for part in parts for e in part) == sorted(e.id for e in whole)
    # The questions of one text stay together.
    assert not {e.group for e in parts[0]} & {e.group for e in parts[1]} and len({e.group for e in parts[1]}) == 3
    capsys.readouterr()
    assert main(["stats", "--task", task, "--data_file", str(dev), "--tokenizer_name", str(model)]) == 0
    shares = [1 / len(example.options) for example in whole]
    assert f"{sum(shares) / len(shares):.1%}" in capsys.readouterr().out


@pytest.mark.parametrize("task", list(MADE))
def test_a_file_of_them_is_validated(task: str, tmp_path, capsys) -> None:
    damaged = MADE[task](random.Random(1), 3)
    question = damaged[1][1][0] if task == "c3" else damaged["data"][1]
    question["choice" if task == "c3" else "choices"] = "甲"
    (tmp_path / "damaged.json").write_text(json.dumps(damaged), encoding="utf-8")
    files = [str(_write(task, tmp_path) / "dev.json"), str(tmp_path / "damaged.json")]
    assert main(["validate", "--task", task, *files]) == 1
    text = capsys.readouterr().out
    assert "options_malformed: 1 in 1" in text if task == "c3" else "options_malformed: 2 in 2" in text


@pytest.mark.parametrize("task", ["c3", "chid"])
def test_published_scores_stand_in_the_leaderboard(task: str, capsys) -> None:
    leaderboard(LeaderboardOptions(published="clue"))
    lines = [line for line in capsys.readouterr().out.splitlines() if task in line.lower()]
    assert lines
