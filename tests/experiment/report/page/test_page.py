"""The page: well formed, with the right numbers, whole without a network, and no text leaves its place."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from collections import Counter

import numpy as np
import pytest

from experiment.cli import main
from experiment.io.text import visible
from experiment.report.page.answers import QuestionSet, System
from experiment.report.page.browser import script_json
from experiment.report.page.views import View
from tasks.core.discovery import get_task
from tests.support.answered import ANSWERS, BETTER, CONTEXT, NASTY, PARAGRAPHS, candidates, write_data, write_run
from tests.support.markup import Parsed


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("page")
    data = write_data(root / "dev.json", PARAGRAPHS)
    write_run(root / "one", "cmrc2018", data, [ANSWERS, BETTER])
    write_run(root / "two", "cmrc2018", data, [BETTER], model=f"evil {NASTY}")
    return root


def page_of(capsys, *arguments, output):
    assert main(["report", *map(str, arguments), "--output", str(output)]) == 0, capsys.readouterr().err
    return (output / "index.html").read_text(encoding="utf-8"), capsys.readouterr()


@pytest.fixture
def page(place, tmp_path, capsys):
    return page_of(capsys, place / "one", place / "two", "--title", f"All {NASTY}", output=tmp_path / "out")[0]


def test_the_page_is_well_formed_and_every_reference_leads_somewhere(page):
    parsed = Parsed(page)
    assert page.startswith("<!DOCTYPE html>")
    assert [id for id, n in Counter(parsed.ids).items() if n > 1] == []
    assert set(parsed.targets) <= set(parsed.ids)
    assert parsed.tags["svg"] >= 8 and parsed.tags["main"] == parsed.tags["h1"] == 1


def test_nothing_is_fetched_and_only_our_script_runs(page):
    """The policy of the page forbids all but the script with this digest; a script of a context would not run."""
    parsed = Parsed(page)
    assert not [a for a in parsed.attributes if a[1] in ("src", "srcset", "action", "data", "poster")]
    assert not [a for a in parsed.attributes if a[1] == "href" and not a[2].startswith("#")]
    assert not re.search(r"@import|url\(", page)
    policy = next(a[2] for a in parsed.attributes if a[1] == "content" and "default-src" in a[2])
    digest = base64.b64encode(hashlib.sha256(parsed.scripts[1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy and "default-src 'none'" in policy
    assert len(parsed.scripts) == 2


def test_names_and_texts_stay_text(page):
    parsed = Parsed(page)
    assert parsed.tags["img"] == 0 and "onerror" not in {a[1] for a in parsed.attributes}
    assert f"All {visible(NASTY)}" in parsed.texts  # the title and the head line
    assert any(cell == f"evil {visible(NASTY)}, seed 1" for cell in parsed.cells)
    # What turns the direction of writing stands nowhere but in the data, which the script shows by its code.
    assert "\u202e" not in page.replace(parsed.scripts[0], "")


def test_the_data_is_what_was_read(page):
    data = json.loads(Parsed(page).scripts[0])
    (questions,) = data["sets"]
    assert questions["contexts"] == [context for context, _ in PARAGRAPHS]
    assert questions["questions"][1] == ["Q_2", "小狗住在哪里？", 0, [["上海", "span", 12, 14]]]
    names = [(system["model"], system["seed"]) for system in questions["systems"]]
    assert names == [("one", 1), ("one", 2), (f"evil {NASTY}", 1)]
    mistakes = [data["mistakes"][answer[0]][0] for answer in questions["systems"][0]["answers"]]
    assert mistakes == ["right", "too_long", "too_long"]
    _, scores, sure, span, nbest = questions["systems"][0]["answers"][1]
    assert (scores[1], sure, CONTEXT[slice(*span)]) == (0.0, 0.6, "住在上海")
    assert [CONTEXT[start:end] for start, end, _ in nbest] == ["住在上海", "上海"]


def test_half_of_a_pair_is_escaped():
    assert json.loads(script_json("a\ud800b")) == "a\ud800b"
    script_json("a\ud800b").encode()


@pytest.mark.parametrize("text", ["</script>", "<!--", "<script>", "]]>", "&lt;", "\u2028"])
def test_no_text_ends_the_element_that_it_stands_in(text):
    dumped = script_json([text])
    assert not set("<>&\u2028\u2029") & set(dumped)
    assert json.loads(dumped) == [text]


def test_the_numbers_are_those_of_the_answers(page):
    cells = Parsed(page).cells
    # Both seeds of "one": Q_1 twice 0.9 and right, Q_2 0.6 wrong and 0.8 right, Q_3 twice 0.7 and wrong.
    at = cells.index("ECE in %")
    row = cells[at + 5 : at + 11]
    assert row[0] == "one"
    # Bins: 0.6 (wrong), 0.7 twice (wrong), 0.8 (right), 0.9 twice (right).
    ece = (0.6 + 2 * 0.7 + 0.2 + 2 * 0.1) / 6
    assert row[1:4] == [f"{100 * x:.2f}" for x in (ece, (2 * 0.9 + 0.6 + 0.8 + 1.4) / 6, 3 / 6)]
    # Surest first: right, right, right, wrong, wrong, wrong; mean of 0, 0, 0, 1/4, 2/5, 3/6.
    assert row[4:] == [f"{100 * (1 / 4 + 2 / 5 + 1 / 2) / 6:.2f}", "6"]


def test_the_command_and_the_facts_of_each_run_are_there(page, place):
    texts = " ".join(Parsed(page).texts)
    assert re.search(rf"chinese-mrc train .*--validation_file {re.escape(str(place / 'dev.json'))}", texts)
    assert "CPU, 2 threads; 1 min 15 s" in texts


def test_a_file_that_is_gone_or_changed_is_named_and_the_rest_is_shown(place, tmp_path, capsys):
    data = write_data(tmp_path / "dev.json", PARAGRAPHS[:1])
    run = write_run(tmp_path / "run", "cmrc2018", data, [{id: ANSWERS[id] for id in ("Q_1", "Q_2")}])
    moved = data.rename(tmp_path / "moved.json")
    page, said = page_of(capsys, run, output=tmp_path / "a")
    assert f"no questions to look at ({data} is not there); give the file with --data_file" in said.err
    assert 'id="browser"' not in page and "Seeds: cmrc2018, dev" in page
    Parsed(page)
    page, said = page_of(capsys, run, "--data_file", moved, output=tmp_path / "b")
    assert said.err == "" and 'id="browser"' in page
    write_data(data, PARAGRAPHS)
    assert "has changed" in page_of(capsys, run, output=tmp_path / "c")[1].err


def test_dev_and_test_may_be_one_file_and_a_limit_is_on_dev_alone(place, tmp_path, capsys):
    data = write_data(tmp_path / "dev.json", PARAGRAPHS)
    run = write_run(tmp_path / "run", "cmrc2018", data, [ANSWERS])
    seed = run / "seed_1"
    for name in ("predictions", "scores", "nbest_predictions"):
        shutil.copy(seed / f"{name}_dev.json", seed / f"{name}_test.json")
    record = json.loads((seed / "record.json").read_text())
    record["scores"]["test"], record["hashes"]["test_file"] = record["scores"]["dev"], record["hashes"]["dev_file"]
    record["config"] |= {"test_file": str(data), "max_eval_samples": 2}
    (seed / "record.json").write_text(json.dumps(record))
    page, _ = page_of(capsys, run, output=tmp_path / "out")
    sets = json.loads(Parsed(page).scripts[0])["sets"]
    assert [len(questions["systems"]) for questions in sets] == [1, 1]
    assert [len(questions["questions"]) for questions in sets] == [2, len(ANSWERS)]


def test_prediction_files_stand_beside_runs(place, tmp_path, capsys):
    file = tmp_path / "llm.json"
    file.write_text(json.dumps({"Q_1": "我想是北京", "Q_2": "上海"}), encoding="utf-8")
    given = ["--task", "cmrc2018", "--data_file", place / "dev.json", "--predictions", f"llm={file}"]
    page, _ = page_of(capsys, place / "one", *given, output=tmp_path / "out")
    data = json.loads(Parsed(page).scripts[0])
    (questions,) = data["sets"]
    llm = questions["systems"][-1]
    assert llm["model"] == "llm"
    found = [data["mistakes"][answer[0]][0] for answer in llm["answers"]]
    assert found == ["not_in_context", "right", "missing"]
    assert [answer[3] for answer in llm["answers"]] == ["我想是北京", [12, 14], None]


def test_two_runs_of_one_name_are_told_apart(place, tmp_path, capsys):
    write_run(tmp_path / "other", "cmrc2018", place / "dev.json", [ANSWERS], model="one")
    page, _ = page_of(capsys, place / "one", tmp_path / "other", output=tmp_path / "out")
    systems = json.loads(Parsed(page).scripts[0])["sets"][0]["systems"]
    assert [s["model"] for s in systems] == [f"one ({place / 'one'})"] * 2 + [f"one ({tmp_path / 'other'})"]


def test_a_run_without_a_score_and_without_nbest_has_a_page(place, tmp_path, capsys):
    unfinished = write_run(
        tmp_path / "unfinished",
        "cmrc2018",
        place / "dev.json",
        [ANSWERS],
        status="running",
        scores={},
        evaluations=[],
    )
    plain = write_run(tmp_path / "plain", "cmrc2018", place / "dev.json", [ANSWERS])
    (plain / "seed_1/nbest_predictions_dev.json").unlink()
    page, _ = page_of(capsys, unfinished, plain, output=tmp_path / "out")
    assert "Calibration" not in Parsed(page).texts
    page, _ = page_of(capsys, unfinished, output=tmp_path / "alone")
    Parsed(page)


def test_scores_at_a_threshold_are_those_of_the_answers_there():
    """SQuAD 2.0: the first question gets its span up to 3 logits, the second up to -1; the second has no answer."""
    task = get_task("squad_v2")
    context = "小猫住在北京。"
    examples = _examples(context, {"a": ["北京"], "b": []})
    nbest = {"a": _null_list("北京", 0.0, 3.0), "b": _null_list("小猫", 0.0, -1.0)}
    answers = {"a": "", "b": ""}
    scores = task.scorer(examples)(answers).per_example
    view = View(QuestionSet(task, "dev", examples, [System("m", 1, answers, scores, nbest, 2.0)]), {"m": 0})
    chart, grid = view.thresholds()
    (line,) = chart.lines
    # At -1 b gets its span (wrong), a none (wrong); at 3 both get theirs, and a is right.
    assert (line.x.tolist(), line.y.tolist()) == ([-1.0, 3.0], [0.0, 50.0])
    assert grid.rows == [["m, seed 1", "2.000", "3.000", "50.00"]]
    assert [name for name, _ in view.confusions()] == ["m"]
    assert [j.mistake for j in view.judged[0].judgements] == ["left_unanswered", "right"]


def _examples(context, answers):
    from preprocess.types import Answer, Example

    return [
        Example(id, "何处？", context, tuple(Answer(t, context.index(t), context.index(t) + len(t)) for t in texts))
        for id, texts in answers.items()
    ]


def _null_list(text, span, null):
    listed = candidates((text, 0.5), ("", 0.5))
    for candidate, score in zip(listed, (span, null), strict=True):
        candidate["start_logit"], candidate["end_logit"] = score, 0.0
    return listed


def test_lengths_are_those_of_the_questions(place):
    task = get_task("cmrc2018")
    examples = _examples(CONTEXT, {"a": ["北京"], "b": ["小狗住在上海"]})
    scores = task.scorer(examples)({"a": "北京", "b": "北京"}).per_example
    view = View(QuestionSet(task, "dev", examples, [System("m", 1, {"a": "北京", "b": "北京"}, scores)]), {"m": 0})
    found = {bars.x_label: grid for bars, grid in view.lengths()}
    grid = found["characters of the answer"]
    assert grid.header == ["characters of the answer", "2", "6"]
    assert grid.rows[1] == ["m, EM", "100.00", "0.00"]
    assert grid.rows[-1] == ["questions", "1", "1"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "report: give RUNS or --predictions"),
        (["--predictions", "a=b.json"], "--predictions needs --task and one --data_file"),
        (["nothing"], "nothing: not a run directory"),
        (["nothing", "--data_file", "no.json"], "--data_file no.json: no such file"),
    ],
)
def test_a_mistake_is_one_line(arguments, said, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["report", *arguments, "--output", "out"]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "nbest",
    [
        '{"Q_1": [{"text": "a"}]}',
        '{"Q_1": 3}',
        '{"Q_1": [{"text": "a", "probability": NaN, "start_logit": 1, "end_logit": 1}]}',
    ],
)
def test_a_damaged_nbest_file_is_named(nbest, place, tmp_path, capsys):
    run = write_run(tmp_path / "run", "cmrc2018", place / "dev.json", [ANSWERS])
    (run / "seed_1/nbest_predictions_dev.json").write_text(nbest)
    assert main(["report", str(run), "--output", str(tmp_path / "out")]) == 2
    assert "nbest_predictions_dev.json: 'Q_1' has no list of texts with probabilities" in capsys.readouterr().err


def test_five_thousand_questions_take_seconds(tmp_path):
    """And a page that a browser opens: most of it is the contexts and answers themselves."""
    context = "北京上海" * 100
    task = get_task("cmrc2018")
    examples = _examples(context, {f"Q_{i}": ["上海"] for i in range(5000)})
    nbest = candidates(*[("上海北京"[: 1 + i % 4], 0.05) for i in range(20)])
    answers = dict.fromkeys((e.id for e in examples), "上")
    system = System("m", 1, answers, dict.fromkeys(answers, {"em": 0.0, "f1": 0.5}), dict.fromkeys(answers, nbest))
    from experiment.report.page.browser import browser_data

    view = View(QuestionSet(task, "dev", examples, [system]), {"m": 0})
    text = script_json(browser_data([view], 5))
    assert len(text) < 200 * 5000
    assert np.isfinite(view.judged[0].confidence).all()


def test_classes_are_right_or_wrong_and_stand_against_each_other():
    from preprocess.types import Answer, Example

    task = get_task("chnsenticorp")
    examples = [Example(id, "", "好", (Answer(label, kind="class"),)) for id, label in zip("abc", "101", strict=True)]
    answers = {"a": "1", "b": "1", "c": "neither"}
    scores = task.scorer(examples)(answers).per_example
    nbest = {
        id: [{"text": text, "probability": 0.75, "start_logit": 1.0, "end_logit": 0.0}]
        for id, text in answers.items()
    }
    view = View(QuestionSet(task, "dev", examples, [System("m", 1, answers, scores, nbest)]), {"m": 0})
    assert view.exact == "accuracy" and view.thresholds() is None
    assert [j.mistake for j in view.judged[0].judgements] == ["right", "wrong", "wrong"]
    ((model, grid),) = view.confusions()
    assert model == "m" and list(grid.header[1:]) == ["0", "1", "no class"]
    assert grid.rows == [["0", "0", "1", "0"], ["1", "0", "1", "1"], ["no class", "0", "0", "0"]]
    assert [bars.x_label for bars, _ in view.lengths()] == ["characters of the context"]
    assert view.calibration() is not None


def test_entities_have_no_kinds_and_their_answers_are_not_looked_for_in_the_text():
    from preprocess.types import Answer, Example

    task = get_task("msra_ner")
    examples = [Example("a", "", "在北京", (Answer("北京", 1, 3, "LOC"),)), Example("b", "", "在", ())]
    answers = {"a": "PER 1-3 北京", "b": ""}
    scores = task.scorer(examples)(answers).per_example
    view = View(QuestionSet(task, "dev", examples, [System("m", 1, answers, scores)]), {"m": 0})
    assert [j.mistake for j in view.judged[0].judgements] == ["wrong", "right"]
    assert not list(view.confusions()) and view.thresholds() is None
