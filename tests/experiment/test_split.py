"""Splitting a data file: articles stay whole, domains keep their shares, both parts are valid."""

from __future__ import annotations

import json
import os
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from experiment.commands.split import split
from experiment.inputs.partition import draw, groups_of
from experiment.options.flags import SplitOptions
from preprocess.base.errors import DataError, UsageError
from preprocess.readers.parts import article_ties
from tasks.core.discovery import get_task


def article(
    number: int, domain: str | None = None, context: str | None = None, n_questions: int = 2
) -> dict[str, Any]:
    questions = [
        {"id": f"{number}_{k}", "question": "问？", "answers": [{"text": "文", "answer_start": 1}], "note": k}
        for k in range(n_questions)
    ]
    published = {"caseid": number, "paragraphs": [{"context": context or f"第文{number}", "qas": questions}]}
    return {**published, "domain": domain} if domain else published


def write(path: Path, document: Any) -> Path:
    file = path / "data.json"
    file.write_text(json.dumps(document), "utf-8")
    return file


def run(folder: Path, document: Any, task: str = "cjrc", **options: Any) -> tuple[Any, Any]:
    file = write(folder, document)
    output = folder / f"out{len(list(folder.iterdir()))}"
    split(SplitOptions(task=task, data_file=file, output_dir=output, **options))
    train, dev = (json.loads((output / f"{name}.json").read_text("utf-8")) for name in ("train", "dev"))
    return train, dev


def cases(part: Any) -> list[int]:
    return [item["caseid"] for item in part["data"]]


def test_every_article_is_in_one_part_unchanged_and_in_order(tmp_path: Path) -> None:
    document = {"version": "1.0", "data": [article(n, "civil" if n < 30 else "criminal") for n in range(40)]}
    train, dev = run(tmp_path, document, seed=3)
    assert train["version"] == dev["version"] == "1.0"
    assert cases(train) == sorted(cases(train)) and cases(dev) == sorted(cases(dev))
    together = sorted(train["data"] + dev["data"], key=lambda item: item["caseid"])
    assert together == document["data"]
    assert len(dev["data"]) == 4


def test_each_domain_gives_its_share(tmp_path: Path) -> None:
    document = {"data": [article(n, "civil" if n < 60 else "criminal") for n in range(80)]}
    for seed in range(5):
        train, dev = run(tmp_path, document, seed=seed)
        assert Counter(item["domain"] for item in dev["data"]) == {"civil": 6, "criminal": 2}
        assert Counter(item["domain"] for item in train["data"]) == {"civil": 54, "criminal": 18}


def test_the_seed_decides_and_decides_again(tmp_path: Path) -> None:
    document = {"data": [article(n) for n in range(50)]}
    drawn = [cases(run(tmp_path, document, seed=seed)[1]) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_articles_with_one_context_or_one_id_stay_together() -> None:
    items = [article(0), article(1, context="同文"), article(2), article(3, context="同文"), article(2), article(4)]
    assert groups_of([list(article_ties(item)) for item in items]) == [[0], [1, 3], [2, 4], [5]]
    # 1 shares its context with 3, and 3 its id with 2: all three belong together.
    chained = [
        article(1, context="同文"),
        article(2),
        {**article(3, context="同文"), "id": 9},
        {**article(2), "id": 9},
    ]
    assert groups_of([list(article_ties(item)) for item in chained]) == [[0, 1, 2, 3]]


def test_share_is_of_the_groups_and_neither_part_is_empty() -> None:
    groups = [[n] for n in range(10)]
    assert [len(draw(groups, [""] * 10, share, 0)) for share in (0.01, 0.1, 0.25, 0.5, 0.99)] == [1, 1, 2, 5, 9]


def test_original_layout_is_split_too(tmp_path: Path) -> None:
    contexts = [
        {"context_id": f"C{n}", "context_text": f"第文{n}", "qas": [{"query_id": f"q{n}", "query_text": "问"}]}
        for n in range(10)
    ]
    train, dev = run(tmp_path, contexts, task="cmrc2018", test_size=0.2)
    assert len(train) == 8 and len(dev) == 2
    assert sorted(train + dev, key=lambda item: item["context_id"]) == contexts


def test_json_lines_stay_json_lines(tmp_path: Path) -> None:
    rows = [
        {
            "id": f"q{n}_{k}",
            "context": f"第文{n}",
            "question": "问？",
            "answers": {"text": ["文"], "answer_start": [1]},
        }
        for n in range(10)
        for k in range(2)
    ]
    file = tmp_path / "data.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    split(SplitOptions(task="cmrc2018", data_file=file, output_dir=tmp_path / "out", test_size=0.2))
    train, dev = (
        [json.loads(line) for line in (tmp_path / "out" / f"{name}.json").read_text("utf-8").splitlines()]
        for name in ("train", "dev")
    )
    # Questions about one context stay together.
    assert len(dev) == 4 and sorted(train + dev, key=lambda row: row["id"]) == rows
    assert not {row["context"] for row in train} & {row["context"] for row in dev}


@pytest.mark.parametrize("n_questions", [2, 0])
def test_a_pipe_is_split_and_named(tmp_path: Path, n_questions: int, capsys: Any) -> None:
    document = {"data": [article(n, n_questions=n_questions) for n in range(4)]}
    os.mkfifo(tmp_path / "fifo")
    content = json.dumps(document).encode()
    threading.Thread(target=(tmp_path / "fifo").write_bytes, args=(content,), daemon=True).start()
    options = SplitOptions(task="cjrc", data_file=tmp_path / "fifo", output_dir=tmp_path / "out", test_size=0.25)
    if not n_questions:
        with pytest.raises(DataError, match=f"^{tmp_path}/fifo: no questions in it"):
            split(options)
        return
    split(options)
    assert capsys.readouterr().out.startswith(f"{tmp_path}/fifo: 4 articles")
    assert len(json.loads((tmp_path / "out" / "train.json").read_text())["data"]) == 3


def test_half_a_surrogate_pair_stays_what_it_was(tmp_path: Path) -> None:
    document = {"data": [{**article(n), "note": "\ud800文"} for n in range(4)]}
    train, dev = run(tmp_path, document)
    assert {item["note"] for item in train["data"] + dev["data"]} == {"\ud800文"}


def test_files_that_are_there_are_not_replaced(tmp_path: Path) -> None:
    file = write(tmp_path, {"data": [article(n) for n in range(4)]})
    options = SplitOptions(task="cjrc", data_file=file, output_dir=tmp_path)
    (tmp_path / "dev.json").write_text("mine")
    with pytest.raises(UsageError, match=r"dev\.json: is there already"):
        split(options)
    assert (tmp_path / "dev.json").read_text() == "mine" and not (tmp_path / "train.json").exists()


@pytest.mark.parametrize("size", [0.0, 1.0, -0.5, float("nan")])
def test_impossible_shares_are_refused(tmp_path: Path, size: float) -> None:
    file = write(tmp_path, {"data": [article(n) for n in range(4)]})
    with pytest.raises(UsageError, match="a share between 0 and 1"):
        split(SplitOptions(task="cjrc", data_file=file, output_dir=tmp_path / "out", test_size=size))


def test_one_case_and_useless_files_are_one_clear_line(tmp_path: Path) -> None:
    file = write(tmp_path, {"data": [article(1), article(1)]})
    with pytest.raises(UsageError, match="holds one article"):
        split(SplitOptions(task="cjrc", data_file=file, output_dir=tmp_path / "out"))
    file.write_text("{")
    with pytest.raises(DataError, match="not JSON"):
        split(SplitOptions(task="cjrc", data_file=file, output_dir=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.realdata
def test_cjrc_dev_is_split_by_case_and_domain(data_dir: Path, tmp_path: Path) -> None:
    file = data_dir / "cjrc" / "dev_ground_truth.json"
    split(SplitOptions(task="cjrc", data_file=file, output_dir=tmp_path, seed=1))
    task = get_task("cjrc")
    whole, train, dev = (task.read(path)[0] for path in (file, tmp_path / "train.json", tmp_path / "dev.json"))
    assert sorted(train + dev, key=lambda e: e.id) == sorted(whole, key=lambda e: e.id)
    assert not {e.group for e in train} & {e.group for e in dev}
    assert not {e.context for e in train} & {e.context for e in dev}
    n = Counter(domain for _, domain in {(e.group, e.extra["domain"]) for e in dev})
    # 999 groups: cases 337 and 338 have one text, so one of the parts may have one case more.
    assert n["civil"] in (50, 51) and n["criminal"] == 50 and len(dev) == 6 * sum(n.values())


@pytest.mark.parametrize("fault", ["a part without questions", "a full disk"])
def test_a_split_that_fails_leaves_nothing(fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the next try would find train.json and refuse to replace it."""
    articles = [article(n, n_questions=0 if n and fault == "a part without questions" else 2) for n in range(2)]
    options = SplitOptions(task="cjrc", data_file=write(tmp_path, {"data": articles}), output_dir=tmp_path / "out")

    def second_fails(path: Path, text: str) -> None:
        if path.name == "dev.json":
            raise OSError("No space left on device")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)

    if fault == "a full disk":
        monkeypatch.setattr("experiment.commands.split.write_text", second_fails)
    with pytest.raises((DataError, OSError), match=r"out/(train|dev)\.json: no questions in it|No space left"):
        split(options)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())
