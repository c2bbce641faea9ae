"""The published numbers: all of them, as they were printed, and what may be said of them."""

from __future__ import annotations

import csv
import json
from collections import Counter

import pytest

from experiment.cli import main
from experiment.report.board import Layout, tables
from experiment.report.published import collections, entries_of, published
from pretrained_configs import catalog
from tasks.core.discovery import task_names


@pytest.fixture(scope="module")
def every():
    return published(collections())


def test_collections_are_those_of_the_documentation():
    assert collections() == [
        "albert_zh", "clue", "ernie", "ernie1", "hfl", "human", "llm", "multilingual", "others", "paddlenlp",
        "reference", "squad",
    ]  # fmt: skip


def test_every_number_is_a_percentage_or_not_stated(every):
    assert len(every) == 1152
    for score in every:
        numbers = [float(text) for text in (score.mean, score.max) if text]
        assert numbers and all(0 <= number <= 100 for number in numbers), score
        assert len(numbers) == 1 or numbers[0] <= numbers[1], score
        assert score.source and score.metric in ("em", "f1", "accuracy", "mrr"), score


def test_mean_and_maximum_are_both_there_where_the_source_prints_both(every):
    for score in every:
        assert bool(score.mean and score.max) == (score.order in ("mean(max)", "max(mean)")), score


def test_every_checkpoint_that_is_named_is_known(every):
    assert {score.our_model for score in every} - {""} <= set(catalog.names())


def test_tasks_are_called_as_ours_where_there_is_one(every):
    assert {"cmrc2018", "drcd", "cjrc", "squad", "squad_v2"} <= {score.task for score in every} & set(task_names())


def test_no_number_stands_twice_in_a_column(every):
    columns = Counter(
        (entry.task, entry.split, entry.model, entry.protocol, metric)
        for entry in entries_of(every)
        for metric in entry.values
    )
    assert [key for key, n in columns.items() if n > 1] == []


def test_reference_system_has_all_rows_of_its_three_tables(capsys):
    """Two numbers of the first, the last and the only suspect pair, read in its README."""
    assert main(["leaderboard", "--published", "reference", "--style", "reference", "--format", "terminal"]) == 0
    out = capsys.readouterr().out
    titles = [line for line in out.splitlines() if line in ("cmrc2018, dev", "drcd, dev", "drcd, test", "cjrc, dev")]
    assert titles == ["cmrc2018, dev", "drcd, dev", "drcd, test", "cjrc, dev"]
    assert out.count("F1:87.521(88.628) EM:67.381(69.152)") == 2
    assert "F1:94.254 EM:89.350" in out
    assert "reference_F1:81.879(82.328) reference_EM:66.164(66.387)" in out
    n_rows = {
        title: len(block.split("\n[1]")[0].splitlines()) - 2
        for title, block in zip(titles, out.split("\n\n"), strict=True)
    }
    # People stand below: DRCD's and CJRC's.
    assert n_rows == {"cmrc2018, dev": 12, "drcd, dev": 12, "drcd, test": 12, "cjrc, dev": 7}


def test_people_stand_beside_every_source():
    entries = entries_of(published(["human"]))
    assert {(e.task, e.split): e.values["em"].text for e in entries}["cmrc2018", "test"] == "92.400"
    assert all(e.kind == "human" and not e.comparable for e in entries)


def test_known_suspects_are_marked(every):
    suspects = {(score.model, score.metric, score.mean or score.max) for score in every if score.suspect}
    assert ("hfl roberta_wwm_ext_base", "f1", "87.521") in suspects
    assert ("sibert_base", "em", "67.381") in suspects
    assert ("ChineseBERT-base", "em", "95.7") in suspects
    assert ("UER/Chinese-RoBERTa-Tiny", "em", "3.08") in suspects


def test_one_model_has_the_numbers_of_each_source():
    """ERNIE 3.0-Xbase on CMRC2018 dev: two READMEs, two pairs of numbers, two columns."""
    found = [e for e in entries_of(published(["clue", "paddlenlp"])) if e.model == "ERNIE 3.0-Xbase-zh"]
    pairs = [(e.values["em"].text, e.values["f1"].text) for e in found if (e.task, e.split) == ("cmrc2018", "dev")]
    assert {("75.49", "92.67"), ("75.99", "93.00")} <= set(pairs)
    (table,) = tables([e for e in found if (e.task, e.split) == ("cmrc2018", "dev")], Layout())
    filled = [cell.text for cell in table.rows[0] if cell.text]
    assert {"75.49", "75.99"} <= set(filled) and len(filled) == 1 + 2 * len(pairs)


def test_scores_whose_split_is_guessed_stand_in_its_table_and_apart(runs, capsys):
    """ChatGPT's, beside a run on dev: they would be left out without a word."""
    run = runs.make("a", [0.7, 0.7])
    assert main(["leaderboard", str(run), "--published", "llm,hfl", "--format", "json"]) == 0
    facts = [fact for fact in json.loads(capsys.readouterr().out) if "guessed" in fact["protocol_other"]]
    assert {"ChatGPT (2023)", "WeLM"} <= {fact["model"] for fact in facts}
    assert len(facts) == 7 + 18 and {fact["split"] for fact in facts} == {"dev"}
    entries = entries_of(published(["llm", "hfl"]))
    assert not any(entry.comparable for entry in entries if "guessed" in entry.protocol.other)


def test_single_value_is_never_a_mean(every):
    for entry in entries_of(every):
        if entry.protocol.order in ("single", "max_only"):
            assert all(value.mean is None for value in entry.values.values())


def test_only_the_same_metric_on_the_same_data_may_be_reproduced(every):
    comparable = [entry for entry in entries_of(every) if entry.comparable]
    assert {entry.task for entry in comparable} == {"cmrc2018", "drcd"}
    assert all("evaluate" in entry.protocol.scorer and not entry.protocol.other for entry in comparable)
    of_cjrc = [entry for entry in entries_of(every) if entry.task == "cjrc"]
    assert {e.metric_is_ours for e in of_cjrc if e.protocol.source.startswith("ymcui")} == {"other"}


def test_numbers_are_those_of_the_collected_tables(every, data_dir):
    """Every row of both tables, digit by digit."""
    # Those of ERNIE 1.0 were read in its README later.
    collected = [score for score in every if score.collection != "ernie1"]
    ours = Counter((s.task, s.split, s.model, s.metric, s.mean, s.max) for s in collected)
    names = {"squad1.1": "squad", "squad2.0": "squad_v2", "Acc": "accuracy"}
    theirs = Counter()
    for name in ("reference_scores", "published_extra"):
        with (data_dir / "published" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                metric = names.get(row["metric"], row["metric"].lower())
                dataset = names.get(row["dataset"], row["dataset"])
                theirs[dataset, row["split"], row["model"], metric, row["mean"], row["max"]] += 1
    assert ours == theirs


def test_data_form_holds_each_number_once(capsys):
    """People's scores on DRCD, of no stated split, stand in two tables."""
    names = ",".join(collections())
    assert main(["leaderboard", "--published", names, "--format", "json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert len(facts) == 1152
    assert {fact["kind"] for fact in facts} == {"published", "human"}
