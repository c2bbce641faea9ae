"""An answer in the terminal: where it stands in its text, and what else it might be."""

from __future__ import annotations

import json

from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from experiment.io.text import one_line
from experiment.reading.results import Alternative, Result
from tasks.core.prediction import UNKNOWN

#: Characters of the text that are shown before and after an answer.
_AROUND = 60
_BAR = 20


def show(console: Console, context: str, result: Result) -> None:
    """Print an answer.

    Args:
        console: where to.
        context: the text that was asked about.
        result: what the model says.
    """
    facts = f"{percent(result.confidence)} sure"
    if len(result.windows) > 1:
        facts += f", {len(result.windows)} windows"
    if result.question_cut:
        facts += ", the question was too long and its end not read"
    best = next((each for each in result.n_best if each.char_start == result.char_start), None)
    body: list[Text | Table] = [_headline(result)]
    if result.answered and result.char_start >= 0 and best is not None:
        body.append(excerpt(context, best, marked=console.color_system is None))
        facts += f", characters {result.char_start} to {result.char_end}"
    if result.value not in (None, [result.text]):
        body.append(Text(one_line(json.dumps(result.value, ensure_ascii=False))))
    if len(result.n_best) > 1:
        body.append(_alternatives(result))
    console.print(Panel(Group(*body), title=Text(facts), title_align="left"))


def excerpt(context: str, best: Alternative, *, marked: bool) -> Text:
    """Return an answer in its surroundings, in one line.

    Args:
        context: the text.
        best: the answer.
        marked: put brackets around it, where it can't be highlighted.
    """
    start, end = max(0, best.char_start - _AROUND), min(len(context), best.char_end + _AROUND)
    before, after = context[start : best.char_start], context[best.char_end : end]
    answer = one_line(context[best.char_start : best.char_end])
    text = Text("…" if start else "")
    text.append(_kept(before))
    text.append(f"【{answer}】" if marked else answer, style="bold reverse")
    text.append(_kept(after))
    return text.append("…" if end < len(context) else "")


def percent(share: float) -> str:
    """Return a share in words."""
    return f"{100 * share:.1f} %"


def _headline(result: Result) -> Text:
    if result.answered:
        return Text(one_line(result.text), style="bold")
    unsure = any(each.text for each in result.n_best) and result.kind != UNKNOWN
    return Text("(no answer that is sure enough)" if unsure else "(no answer)", style="italic")


def _alternatives(result: Result) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 1, 0, 0))
    table.add_column(justify="right")
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for each in result.n_best:
        bar = Text(("█" * round(_BAR * each.confidence)).ljust(_BAR, "·"), style="dim")
        table.add_row(percent(each.confidence), bar, Text(one_line(each.text) or "(no answer)"))
    return table


def _kept(text: str) -> str:
    """Return a part of a text in one line, with the blanks at its ends."""
    line = one_line(text)
    blank = " " if line else ""
    return (blank if text[:1].isspace() else "") + line + (blank if text[-1:].isspace() else "")
