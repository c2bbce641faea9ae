"""Several spans, and answers with evidence, from a file to a score: learned, saved, used and scored."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from experiment.cli import main
from tests.support.task_runs import check_answers_again, check_learned, read_json, train, write_model

LETTERS = "甲乙丙丁戊己庚辛"
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "。", "问", *LETTERS]


def _cail2021(draw: random.Random, number: int) -> dict[str, Any]:
    """Every 甲乙 is a part of the answer; without one it is YES where there are 庚, and else nothing."""
    letters = draw.choices("丙丁戊己", k=9)
    starts = sorted(draw.sample((0, 3, 6), draw.choice((0, 1, 2, 2))))
    for start in starts:
        letters[start : start + 2] = "甲乙"
    answers: list[Any] = [[{"text": "甲乙", "answer_start": start} for start in starts]]
    if not starts:
        has_yes = draw.random() < 0.5
        letters = draw.choices("庚辛", k=9) if has_yes else letters
        answers = [[{"text": "YES", "answer_start": -1}]] if has_yes else []
    qas = [{"id": f"q{number}", "question": "问", "answers": answers}]
    return {"caseid": str(number), "paragraphs": [{"context": "".join(letters), "casename": "", "qas": qas}]}


def _sentences(draw: random.Random, mark: str) -> tuple[list[str], list[int]]:
    """Return sentences, and which of them have a mark."""
    marked = sorted(draw.sample(range(4), draw.randint(1, 2)))
    parts = ["".join(draw.choices("丙丁", k=draw.randint(2, 3))) for _ in range(4)]
    return [f"{mark if n in marked else ''}{part}。" for n, part in enumerate(parts)], marked


def _cail2020(draw: random.Random, number: int) -> dict[str, Any]:
    """Sentences that begin with 甲 say why; the answer is the 戊 or 己 that is there, or yes where there are 庚."""
    sentences, facts = _sentences(draw, "甲")
    answer = draw.choice("戊己庚")
    place = draw.randrange(4)
    sentences[place] = f"{sentences[place][:-1]}{answer}。"
    if answer == "庚":
        sentences = [sentence.replace("丙", "庚").replace("丁", "辛") for sentence in sentences]
    title = sentences[0]
    return {
        "_id": number,
        "question": "问",
        "context": [[title, sentences]],
        "answer": "YES" if answer == "庚" else answer,
        "supporting_facts": [[title, fact] for fact in facts],
    }


def _expmrc_c3(draw: random.Random, number: int) -> dict[str, Any]:
    """The right option has 甲 in it; the evidence are sentences that begin with 庚."""
    sentences, marked = _sentences(draw, "庚")
    options = ["甲" + draw.choice("乙丙"), *draw.sample(["丙丁", "丁戊", "戊己"], 2)]
    right = options[0]
    draw.shuffle(options)
    return {
        "id": f"m{number}",
        "article": "".join(sentences),
        "questions": ["问"],
        "options": [options],
        "answers": ["ABC"[options.index(right)]],
        "evidences": [["".join(sentences[marked[0] : marked[-1] + 1])]],
    }


#: task -> what makes one entry of its file, what the file holds of them, and what is learned at least, in percent.
MADE: dict[str, tuple[Any, Any, dict[str, float]]] = {
    "cail2021": (_cail2021, lambda articles: {"data": articles}, {"f1": 90.0, "em": 85.0}),
    "cail2020": (_cail2020, lambda questions: questions, {"joint_f1": 85.0, "sp_em": 80.0, "em": 85.0}),
    "expmrc_c3": (_expmrc_c3, lambda articles: {"data": articles}, {"answer": 90.0, "evidence": 85.0}),
}
RUNS = [("cail2021", "pytorch"), ("cail2021", "tensorflow"), ("cail2020", "pytorch"), ("cail2020", "tensorflow")]
RUNS.append(("expmrc_c3", "pytorch"))


@pytest.fixture(scope="module", params=RUNS, ids="-".join)
def trained(request: Any, tmp_path_factory: Any) -> tuple[str, str, Path]:
    """Task, framework, and a directory with "dev.json" and a finished "run"."""
    task, framework = request.param
    directory = write_model(tmp_path_factory.mktemp(f"{task}-{framework}"), VOCABULARY)
    make, document, _ = MADE[task]
    draw = random.Random(0)
    for name, n in (("train", 160), ("dev", 32)):
        content = document([make(draw, i) for i in range(n)])
        (directory / f"{name}.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    steps = {"per_device_train_batch_size": 16, "num_train_epochs": 12, "eval_epochs": 12}
    train(task, framework, directory, directory, max_seq_length=32, **steps)
    return task, framework, directory


def test_it_is_learned_selected_and_tabled_by_its_own_metric(trained: Any) -> None:
    task, _, directory = trained
    check_learned(directory, MADE[task][2])


def test_what_was_saved_answers_as_what_was_trained_and_is_scored_alike(
    trained: Any, tmp_path: Path, capsys: Any
) -> None:
    task, framework, directory = trained
    names = ["predictions.json"] if task == "expmrc_c3" else ["predictions.json", "predictions_official.json"]
    check_answers_again(task, framework, directory, tmp_path, names)
    capsys.readouterr()


def test_one_question_is_answered_with_all_that_there_is_to_say(trained: Any, capsys: Any) -> None:
    task, framework, directory = trained
    if task == "expmrc_c3":
        pytest.skip("its questions have options, which files give")
    context = "甲乙丙甲乙丁丙丁丁" if task == "cail2021" else "甲丙丁。丁丙戊。甲丁丁。"
    assert main([
        "predict", "--task", task, "--framework", framework, "--question", "问", "--context", context,
        "--model_name_or_path", str(directory / "run" / "seed_1" / "checkpoint-best"),
    ]) == 0  # fmt: skip
    answer, value = capsys.readouterr().out.splitlines()[-2:]
    if task == "cail2021":
        assert answer.startswith("甲乙甲乙  p=") and json.loads(value) == ["甲乙", "甲乙"]
    else:
        # The text is cut into sentences here: no file says which they are.
        assert answer.startswith("戊  [6:7]") and json.loads(value) == {"answer": "戊", "sp": [["", 0], ["", 2]]}


def test_answers_have_the_form_of_their_task(trained: Any) -> None:
    task, _, directory = trained
    answers = read_json(directory / "run" / "seed_1" / "predictions_dev.json").values()
    if task == "cail2021":
        assert ["甲乙", "甲乙"] in answers and ["YES"] in answers and [""] in answers
    elif task == "cail2020":
        assert all(answer["answer"] in ("戊", "己", "yes", "no", "unknown") for answer in answers)
        assert any(len(answer["sp"]) == 2 for answer in answers)
    else:
        assert {answer["answer"] for answer in answers} == set("ABC")
        assert any(answer["evidence"].count("。") > 1 for answer in answers)


def test_files_of_them_are_validated_and_measured(trained: Any, tmp_path: Path, capsys: Any) -> None:
    task, framework, directory = trained
    if framework != "pytorch":
        pytest.skip("no model takes part")
    files = ["--train", str(directory / "train.json"), "--dev", str(directory / "dev.json")]
    assert main(["validate", "--task", task, *files]) == 0
    assert "question and context shared" in capsys.readouterr().out
    assert main([
        "split", "--task", task, "--data_file", str(directory / "dev.json"), "--output_dir", str(tmp_path / "split"),
        "--test_size", "0.25",
    ]) == 0  # fmt: skip
    assert "8 questions" in capsys.readouterr().out
    if task == "expmrc_c3":
        return  # of answers that are no spans there is nothing to measure
    assert main([
        "stats", "--task", task, "--data_file", str(directory / "dev.json"), "--tokenizer_name", str(directory),
        "--max_seq_length", "32",
    ]) == 0  # fmt: skip
    assert "context, pieces" in capsys.readouterr().out
