"""The five forms: what stands in them, and that names can't break out of them."""

from __future__ import annotations

import csv
import io
import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from experiment.io.text import one_line
from experiment.report.board import Layout, tables
from experiment.report.measured import entries_of_run
from experiment.report.render.data import as_csv, as_json
from experiment.report.render.latex import escaped as latex_escaped
from experiment.report.render.latex import latex
from experiment.report.render.markdown import escaped as markdown_escaped
from experiment.report.render.markdown import markdown
from experiment.report.render.terminal import terminal

NASTY = [
    "a | b",
    "<script>alert(1)</script>",
    "<!-- -->&amp;<img src=x onerror=alert(1)>",
    "[x](javascript:alert(1)) ![y](http://z)",
    "http://evil.example www.evil.example a@b.example",
    "**bold** _it_ ~~no~~ `code` $x$ # head",
    r"\input{/etc/passwd} \\ & % $ # _ ^ ~ {",
    r"a\| b\\| c",
    "=cmd|' /C calc'!A0",
    "+1", "-1", "@SUM(1)", "＝1", "a,,b ''c''", '"quoted", and more',
    "\x1b[31mred\x1b[0m\x07", "line\nbreak\r\nmore\ttab", "\u202ereversed\u2066",
    "中文模型，〔一〕",
    "| --- |", "- item", "1. item", "> quote", "```", "\\",
]  # fmt: skip


@pytest.fixture
def table_of(runs):
    def make(name):
        runs.make("run", [0.75, 0.7], model=name)
        return tables(entries_of_run(runs.made[-1]), Layout())

    return make


@pytest.fixture
def found(runs):
    made = [runs.make("a", [0.75, 0.75]), runs.make("b", [0.73, 0.73], last=True)]
    return tables([entry for run in made for entry in entries_of_run(run)], Layout())


def visible(text):
    """Return what a reader should see of a name."""
    line = " ".join(text.split())
    return "".join(repr(c)[1:-1] if re.match(r"[\x00-\x1f\x7f\u202e\u2066]", c) else c for c in line)


@pytest.mark.parametrize("name", NASTY)
def test_names_stay_text_in_markdown(name, table_of):
    """Parsed as GitHub does: one table of as many cells as ever, the name as text, no link, code, image or HTML."""
    tokens = MarkdownIt("gfm-like", {"html": True, "linkify": False}).parse(markdown(table_of(name)))
    rows = [i for i, token in enumerate(tokens) if token.type == "tr_open"]
    assert len(rows) == 2
    cells = [token for token in tokens if token.type in ("th_open", "td_open")]
    assert len(cells) == 2 * 6
    first = tokens[[i for i, token in enumerate(tokens) if token.type == "td_open"][0] + 1]
    kinds = {child.type for child in first.children}
    assert kinds <= {"text", "text_special"}, kinds
    assert "".join(child.content for child in first.children) == visible(name)


def test_half_of_a_pair_is_shown_by_its_code():
    """UTF-8 has none; a file that JSON escapes can."""
    assert one_line("a\ud800b") == r"a\ud800b"


@settings(max_examples=150, deadline=None)
@given(st.text(st.characters(max_codepoint=0x2FF, exclude_categories=["Cc", "Cf"]), max_size=12))
def test_any_text_is_shown_as_it_is_in_markdown(text):
    """In a cell between two others; ASCII and Latin letters, in any order."""
    tokens = MarkdownIt("gfm-like", {"html": True, "linkify": False}).parse(
        f"| a | b | c |\n|---|---|---|\n| x | {markdown_escaped(text)} | y |\n"
    )
    cells = [tokens[i + 1] for i, token in enumerate(tokens) if token.type == "td_open"]
    assert [("".join(c.content for c in cell.children)) for cell in cells] == ["x", visible(text), "y"]


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=12))
def test_any_text_keeps_the_braces_of_latex_in_pairs(text):
    escaped = latex_escaped(text)
    depth = 0
    for part in re.findall(r"\\[{}]|[{}]", escaped):
        depth += {"{": 1, "}": -1}.get(part, 0)
        assert depth >= 0
    assert depth == 0 and not re.search(r"(?<!\\)[%#_&]", escaped)


def test_addresses_are_no_links_in_markdown():
    assert "://" not in markdown_escaped("see http://x.example")
    assert "www." not in markdown_escaped("www.x.example")
    assert "@" not in markdown_escaped("a@b.example")


@pytest.mark.parametrize("name", NASTY)
def test_names_stay_text_in_latex(name, table_of):
    """No command but ours, braces in pairs, as many cells in every row."""
    text = latex(table_of(name))
    escaped = latex_escaped(name)
    known = {r"\textbackslash", r"\textasciicircum", r"\textasciitilde", r"\textless", r"\textgreater"}
    known |= {r"\textbar", r"\textquotedbl", r"\textasciigrave", r"\{", r"\}", r"\$", r"\&", r"\#", r"\%", r"\_"}
    assert set(re.findall(r"\\(?:[A-Za-z]+|.)", escaped)) <= known
    bare = re.sub(r"\\[{}]", "", escaped)
    assert bare.count("{") == bare.count("}")
    rows = re.findall(r"^(.*) \\\\$", text, flags=re.MULTILINE)
    assert [len(re.findall(r"(?<!\\)&", row)) for row in rows] == [5, 5]
    assert not re.search(r"(?<!\\)[#$^~](?!\\)", re.sub(r"\$\\Delta\$", "", escaped))
    assert not re.search(r",,|''|``|--|<<|>>", escaped)


@pytest.mark.parametrize("name", NASTY)
def test_names_stay_text_in_csv(name, table_of):
    """Read by csv: a record per metric, and no cell that a spreadsheet computes."""
    records = list(csv.DictReader(io.StringIO(as_csv(table_of(name)))))
    assert len(records) == 2 and None not in records[0]
    said = records[0]["model"]
    assert said.removeprefix("'") == visible(name) and not said.startswith(("=", "+", "-", "@", "＝"))


@pytest.mark.parametrize("name", NASTY)
def test_names_come_back_from_json(name, table_of):
    assert {fact["model"] for fact in json.loads(as_json(table_of(name)))} == {name}


@pytest.mark.parametrize("name", NASTY)
def test_names_move_no_cursor_in_a_terminal(name, table_of):
    text = terminal(table_of(name))
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u202e\u2066]", text)
    assert text.splitlines()[2].startswith(visible(name))


def test_best_and_not_worse_in_each_form(found):
    rows = markdown(found).splitlines()
    assert "**75.000(75.000)**" in rows[4] and "<sup>†</sup>" in rows[5]
    assert r"\textbf{75.000(75.000)}" in latex(found) and r"73.333(73.333)\textsuperscript{\dag{}}" in latex(found)
    assert "75.000(75.000)*" in terminal(found) and "73.333(73.333) [†]" in terminal(found)


def test_data_forms_hold_every_number_in_full(found):
    facts = json.loads(as_json(found))
    (one,) = [fact for fact in facts if (fact["model"], fact["metric"]) == ("b", "em")]
    assert one["mean"] == pytest.approx(100 * 88 / 120) and one["low"] < one["mean"] < one["high"]
    assert one["minus_best"] == pytest.approx(-100 * 2 / 120)
    assert (one["best"], one["not_worse_than_best"], one["interval_over_seeds"]) == (False, True, True)
    assert one["protocol_max_seq_length"] == "512" and 0 < one["p_holm"] <= 1
    (again,) = [r for r in csv.DictReader(io.StringIO(as_csv(found))) if (r["model"], r["metric"]) == ("b", "em")]
    assert float(again["mean"]) == one["mean"] and float(again["p_holm"]) == one["p_holm"]


def test_latex_is_a_booktabs_table_with_its_footnotes(found):
    text = latex(found)
    assert [text.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [1, 1, 1]
    assert text.count(r"\begin{") == text.count(r"\end{") == 2
    assert r"\textsuperscript{1}\,measured here" in text
