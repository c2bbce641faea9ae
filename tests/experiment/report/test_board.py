"""What stands in which column, beside what, and with which mark."""

from __future__ import annotations

import json

import numpy as np
import pytest

from experiment.cli import main
from experiment.report.board import Layout, tables
from experiment.report.failures import did_not_learn
from experiment.report.measured import value_of
from experiment.training.record import read_record, seed_directory
from tests.experiment.report.conftest import IDS, cells, entries


def table_of(*runs, **layout):
    (table,) = tables(entries(*runs), Layout(**layout))
    return table


def with_evaluations(run, seed, *dev):
    """Give a seed's Record other evaluations."""
    directory = seed_directory(run, seed)
    record = read_record(directory / "record.json")
    record.evaluations = [{"step": i, "dev": values} for i, values in enumerate(dev)]
    record.write(directory)


def test_best_is_bold_and_what_is_not_worse_is_marked(runs):
    """75 and 74 % can't be told apart on 120 questions, 40 % can."""
    table = table_of(runs.make("a", [0.75, 0.75]), runs.make("b", [0.75, 0.73]), runs.make("c", [0.4, 0.4]))
    rows = cells(table)
    assert list(rows) == ["a", "b", "c"]
    assert [(row["EM 1"].best, row["EM 1"].not_worse) for row in rows.values()] == [
        (True, False),
        (False, True),
        (False, False),
    ]
    assert "Holm" in table.notes["†"]


def test_interval_holds_the_mean_and_stands_beside_it(runs):
    table = table_of(runs.make("a", [0.75, 0.7, 0.72]), sort="f1")
    low, high = map(float, cells(table)["a"]["95 % EM 1"].text.split(" to "))
    mean = np.mean([90, 84, 86]) / 1.2
    assert cells(table)["a"]["EM 1"].text == f"{mean:.3f}({75:.3f})"
    assert low < mean < high


@pytest.mark.parametrize(
    "change",
    [
        {"task_version": "2"},
        {"hashes": {"dev_file": "07e5"}},
        {"config": {"max_seq_length": 384}},
        {"decode": {"max_answer_length": 30}},
        {"config": {"max_seq_length": 512, "max_eval_samples": 7}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_scores_of_different_protocols_never_share_a_column(runs, change):
    table = table_of(runs.make("a", [0.75, 0.7]), runs.make("b", [0.75, 0.7], **change))
    rows = cells(table)
    assert rows["a"]["EM 1"].text == rows["b"]["EM 2"].text != ""
    assert rows["a"]["EM 2"].text == rows["b"]["EM 1"].text == ""
    assert table.notes["1"] != table.notes["2"]


def test_two_and_three_seeds_stand_in_different_columns_but_are_compared(runs):
    table = table_of(runs.make("a", [0.75, 0.75]), runs.make("b", [0.75, 0.73, 0.74]))
    rows = cells(table)
    assert (rows["a"]["EM 2"].text, rows["b"]["EM 1"].text) == ("", "")
    assert rows["b"]["EM 2"].not_worse


def test_the_best_of_the_same_questions_stands_out_also_alone_in_its_column(runs):
    """Without a mark it would say that it is worse than another."""
    table = table_of(runs.make("a", [0.75, 0.75]), runs.make("b", [0.3, 0.3, 0.3]))
    rows = cells(table)
    assert rows["a"]["EM 1"].best and not rows["b"]["EM 2"].best and not rows["b"]["EM 2"].not_worse
    other = table_of(runs.make("c", [0.75]), runs.make("d", [0.3], hashes={"dev_file": "07e5"}))
    assert not any(cell.best for row in other.rows for cell in row)


def test_scores_on_other_questions_are_not_compared(runs):
    table = table_of(runs.make("a", [0.75, 0.75]), runs.make("b", [0.75, 0.73], hashes={"dev_file": "07e5"}))
    assert not table.verdicts


def test_seed_that_did_not_learn_is_shown_and_counted(runs):
    """All answers empty: the mean holds it, the row says so, and gives the mean without it."""
    run = runs.make("a", [0.7, 0.7, 0.02])
    table = table_of(run)
    (row,) = table.rows
    assert row[-1].text == "3 (1 did not learn)"
    (mark,) = row[0].notes
    assert "seed 3: EM 1.67" in table.notes[mark] and "em 70.000" in table.notes[mark]
    assert cells(table)["a"]["EM 1"].text == "47.222(70.000)"


@pytest.mark.parametrize(
    ("values", "answers", "expected"),
    [
        ({"em": 60.0}, {"1": "", "2": ""}, "all 2 answers are empty"),
        ({"em": 60.0}, {"1": "a", "2": "a"}, "all 2 answers are the same"),
        ({"em": 3.08}, {"1": "a", "2": "b"}, "EM 3.08"),
        ({"em": 60.0}, {"1": "a"}, ""),
        ({"em": 60.0}, None, ""),
        ({"accuracy": 1.0}, {"1": "a", "2": "b"}, ""),
    ],
)
def test_what_tells_that_a_seed_did_not_learn(values, answers, expected):
    assert did_not_learn(values, answers) == expected


def test_unfinished_seeds_are_counted(runs):
    run = runs.make("a", [0.7, 0.7])
    record = read_record(seed_directory(run, 2) / "record.json")
    record.status, record.scores = "failed", {}
    record.write(seed_directory(run, 2))
    assert table_of(run).rows[0][-1].text == "1 (1 unfinished)"
    record.seed = 1
    record.write(seed_directory(run, 1))
    assert table_of(run).rows[0][-1].text == "0 (2 unfinished)"


def test_reference_rule_takes_each_metric_where_it_was_best(runs):
    run = runs.make("a", [0.7])
    with_evaluations(run, 1, {"em": 72.0, "f1": 80.0}, {"em": 70.0, "f1": 85.0})
    table = table_of(run, selections=("each_best",))
    assert [cells(table)["a"][f"{metric} 2"].text for metric in ("F1", "EM")] == ["85.000(85.000)", "72.000(72.000)"]
    assert "own best evaluation" in table.notes["2"]


def test_test_is_the_mean_without_a_maximum_and_the_seed_that_is_best_on_dev(runs):
    """The best of several test scores would be a choice made on test."""
    run = runs.make("a", [0.5, 0.8], split="test")
    for seed, dev in ((1, 90.0), (2, 10.0)):
        record = read_record(seed_directory(run, seed) / "record.json")
        record.scores["dev"] = {"f1": dev, "em": dev}
        record.write(seed_directory(run, seed))
    found = {(e.split, e.protocol.selection): e.values["em"].text for e in entries(run)}
    assert found["test", "checkpoint"] == "65.000"
    assert found["test", "best_dev"] == "50.000"


def test_metric_that_is_no_mean_over_questions_has_no_interval(runs):
    run = runs.make("a", [0.7])
    record = read_record(seed_directory(run, 1) / "record.json")
    record.scores["dev"]["yes_accuracy"] = 12.5
    record.write(seed_directory(run, 1))
    (entry, _) = entries(run)
    assert entry.samples.keys() == {"em", "f1"} and entry.values["yes_accuracy"].text == "12.500(12.500)"


def test_run_without_scores_per_question_has_no_interval_and_says_why(runs):
    run = runs.make("a", [0.7, 0.7])
    (seed_directory(run, 2) / "scores_dev.json").unlink()
    table = table_of(run)
    assert "95 % EM 1" not in cells(table)["a"]
    assert "scores per question are missing" in table.notes[table.rows[0][0].notes[0]]


def test_runs_of_one_model_are_told_apart(runs):
    first, second = runs.make("a", [0.7], model="m"), runs.make("b", [0.6], model="m")
    assert list(cells(table_of(first, second))) == [f"m ({first})", f"m ({second})"]


@pytest.mark.parametrize(
    ("sort", "expected"), [("score", "bca"), ("em", "bca"), ("model", "abc"), ("given", "cab"), ("f1", "bca")]
)
def test_rows_stand_in_the_order_that_was_asked_for(runs, sort, expected):
    given = [runs.make("c", [0.6, 0.6]), runs.make("a", [0.5, 0.5]), runs.make("b", [0.7, 0.7])]
    assert "".join(cells(table_of(*given, sort=sort))) == expected


def test_columns_and_metrics_are_those_that_were_asked_for(runs):
    table = table_of(runs.make("a", [0.7, 0.6]), parts=("score", "sd"), metrics=("em",))
    assert [cell.text for cell in table.header] == ["model", "EM", "sd EM"]
    assert [cell.text for cell in table.rows[0]] == ["a", "65.000(70.000)", "7.071"]


def test_reference_style_is_one_cell(runs):
    table = table_of(runs.make("a", [0.7, 0.6]), style="reference", parts=("score",))
    assert [cell.text for cell in table.rows[0]] == ["a", "F1:82.500(85.000) EM:65.000(70.000)"]


def test_reference_style_marks_what_is_best_in_all_metrics(runs):
    made = [
        runs.make(name, [share, share], last=name == "b") for name, share in (("a", 0.75), ("b", 0.74), ("c", 0.3))
    ]
    marks = [(row[1].best, row[1].not_worse) for row in table_of(*made, style="reference").rows]
    assert marks == [(True, False), (False, True), (False, False)]


# The command


def test_predictions_of_any_toolkit_are_scored_like_runs(corpus, tmp_path, capsys):
    """Two files of one name are its seeds; a list of {"id", "answer"} does as well."""
    document = json.loads(corpus.data.read_text(encoding="utf-8"))
    gold = {
        qa["id"]: qa["answers"][0]["text"]
        for article in document["data"]
        for paragraph in article["paragraphs"]
        for qa in paragraph["qas"]
    }
    wrong = dict.fromkeys(list(gold)[:2], "错")
    files = {"right": gold, "half": gold | wrong, "list": [{"id": i, "answer": a} for i, a in gold.items()]}
    for name, answers in files.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(answers), encoding="utf-8")
    given = [f"{name}={tmp_path / file}.json" for name, file in (("x", "right"), ("x", "half"), ("y", "list"))]
    command = ["leaderboard", "--predictions", *given, "--task", "cmrc2018", "--data_file", str(corpus.data)]
    assert main([*command, "--format", "json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    em = {fact["model"]: fact for fact in facts if fact["metric"] == "em"}
    assert (em["x"]["mean"], em["x"]["max"], em["x"]["protocol_n_runs"]) == (pytest.approx(100 - 100 / 6), 100, "2")
    assert em["y"]["mean"] == 100 and em["y"]["best"] and em["x"]["minus_best"] == pytest.approx(-100 / 6)


def test_predictions_stand_in_the_table_of_the_runs_on_the_same_file(runs, tmp_path, capsys):
    from preprocess.base.hashing import sha256

    paragraphs = [
        {"id": f"DEV_{c}", "context": "甲乙丙", "qas": [
            {"id": id, "question": "？", "answers": [{"text": "甲", "answer_start": 0}]}
            for id in IDS if id.startswith(f"DEV_{c}_")]}
        for c in range(30)
    ]  # fmt: skip
    data = tmp_path / "dev.json"
    articles = [{"id": p["id"], "title": "", "paragraphs": [p]} for p in paragraphs]
    data.write_text(json.dumps({"version": "v1.0", "data": articles}), encoding="utf-8")
    run = runs.make("a", [0.5, 0.5], hashes={"dev_file": sha256(data)})
    (tmp_path / "llm.json").write_text(json.dumps({id: "甲" for id in IDS[:-1]} | {"other": "乙"}), encoding="utf-8")
    command = ["leaderboard", str(run), "--task", "cmrc2018", "--data_file", str(data), "--predictions"]
    assert main([*command, f"llm={tmp_path / 'llm.json'}", "--format", "terminal"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("cmrc2018, dev\n") and out.count("cmrc2018, ") == 1 + out.count("metric: cmrc2018, ")
    assert "llm.json: 1 of 120 questions have no prediction" in out
    assert out.index("\nllm") > out.index("\nmodel")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--published", "refrence"], "did you mean 'reference'?"),
        (["--published", ","], "names of collections were expected"),
        (["--predictions", "a=b.json"], "needs --task and --data_file"),
        (["--published", "human", "--data_file", "x.json"], "--data_file needs --task"),
        (["--published", "human", "--task", "drcd"], "--task says how --data_file is read"),
        (["--published", "reference", "--sort", "emm"], "did you mean 'em'?"),
        (["--published", "reference", "--metrics", "f11"], "did you mean 'f1'?"),
        ([], "give RUNS, --predictions or --published"),
    ],
)
def test_mistakes_are_one_line(arguments, expected, capsys):
    assert main(["leaderboard", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert expected in line


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a.json", "name=FILE was expected"), ("=a.json", "name=FILE"), ("a=", "name=FILE"), ("a=none.json", "no such")],
)
def test_mistakes_about_predictions_are_one_line(text, expected, corpus, capsys):
    command = ["leaderboard", "--predictions", text, "--task", "cmrc2018", "--data_file", str(corpus.data)]
    assert main(command) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert expected in line


def test_answers_to_other_questions_are_refused(corpus, tmp_path, capsys):
    (tmp_path / "p.json").write_text('{"x": "y"}', encoding="utf-8")
    flags = ["--predictions", f"a={tmp_path / 'p.json'}", "--task", "cmrc2018", "--data_file", str(corpus.data)]
    assert main(["leaderboard", *flags]) == 2
    assert "none of its 1 ids is in the data file" in capsys.readouterr().err


def test_value_of_no_seed_is_a_dash():
    assert value_of([]).text == "-"


def test_a_seed_at_chance_did_not_learn(runs, capsys):
    """Where options are chosen there is no EM: two of four are guessed by nobody who has read."""
    run = runs.make("a", [0.7, 0.3], guessing={"em": 31.5}, selection=["em"])
    table = table_of(run)
    assert "seed 2: em 30.00 on dev, a guess up to 31.50" in table.notes[table.rows[0][0].notes[0]]
    assert main(["leaderboard", str(run)]) == 0
    assert (
        "seed 2 did not learn, and is in the mean (em 30.00 on dev, a guess up to 31.50)" in capsys.readouterr().err
    )


def test_a_limit_on_dev_is_none_on_test(runs):
    """Dev questions are limited, those of test never."""
    config = {"max_seq_length": 512, "max_eval_samples": 4}
    dev, test = (runs.make(split, [0.7], split=split, config=config) for split in ("dev", "test"))
    assert "first 4 questions" in entries(dev)[0].protocol.words()
    assert "first" not in entries(test)[0].protocol.words()


def test_data_forms_refuse_what_is_about_tables_and_keep_to_the_metrics(runs, capsys):
    run = str(runs.make("a", [0.7, 0.7]))
    for flags in (("--columns", "score"), ("--style", "reference"), ("--sort", "model")):
        assert main(["leaderboard", run, "--format", "csv", *flags]) == 2
        assert f"{flags[0]} is about tables to read" in capsys.readouterr().err
    assert main(["leaderboard", run, "--format", "json", "--metrics", "f1"]) == 0
    assert {fact["metric"] for fact in json.loads(capsys.readouterr().out)} == {"f1"}
