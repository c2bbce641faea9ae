"""What of a language model's reply is taken for the answer."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiment.asking.extraction import Extracted, closest_slice, extract

CONTEXT = "张三于１９８４年出生在北京市，是一位作家。他的票房为3.5亿元，New York 版于次年上映。"
YES_NO = {"YES": "YES", "是": "YES", "NO": "NO", "无法回答": ""}


@pytest.mark.parametrize(
    "reply, text, how",
    [
        ("北京市", "北京市", "exact"),
        ("  北京市。\n", "北京市", "exact"),
        ("答案：北京市", "北京市", "exact"),
        ("**答案是：**“北京市”。", "北京市", "exact"),
        ("<think>也许是上海？不，是北京市。</think>\n\n北京市", "北京市", "exact"),
        ("```\n北京市\n```", "北京市", "exact"),
        ('{"answer": "北京市"}', "北京市", "exact"),
        ("根据文章，他出生在「北京市」这个地方", "北京市", "exact"),
        ("因为文章说到了出生。\n答案：北京市", "北京市", "exact"),
        ("1984年", "１９８４年", "normalised"),
        ("new york版", "New York 版", "normalised"),
        ("一位 作家 。", "一位作家", "normalised"),
        ("张三于1984年生在北京", "张三于１９８４年出生在北京", "fuzzy"),
        ("上海浦东", "上海浦东", "raw"),
        ("", None, "empty"),
        ("<think>我想不出", None, "empty"),
        ("YES", "YES", "kind"),
        ("是。", "YES", "kind"),
        ("YES，因为他是作家", "YES", "kind"),
        ("无法回答", "", "kind"),
    ],
)
def test_a_reply_becomes_an_answer(reply, text, how):
    found = extract(reply, CONTEXT, YES_NO)
    assert (found.text, found.how) == (text, how)
    if found.char_start >= 0:
        assert CONTEXT[found.char_start : found.char_end] == text


def test_a_reply_of_json_that_never_ends_is_a_text_like_others():
    assert extract('{"answer":' * 50_000, CONTEXT, {}).how == "raw"


def test_a_word_of_the_context_is_no_other_kind_of_answer_where_the_prompt_names_none():
    assert extract("是", CONTEXT, {}).how == "exact"


def test_the_point_of_a_number_is_not_dropped():
    """ "35" is another amount than "3.5": what is wrong must not become right by extraction."""
    assert extract("35亿元", CONTEXT, {}) != extract("3.5亿元", CONTEXT, {})
    assert extract("3．5亿元", CONTEXT, {}).text == "3.5亿元"


def test_an_answer_that_is_unlike_all_of_the_context_is_scored_as_it_is():
    assert extract("完全不同的说法", CONTEXT, {}) == Extracted("完全不同的说法", "raw", similarity=0.0)


def _edits(a: str, b: str) -> int:
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        row, last = [i], row
        for j, y in enumerate(b, start=1):
            row.append(min(row[-1] + 1, last[j] + 1, last[j - 1] + (x != y)))
    return row[-1]


@given(st.text("甲乙丙", min_size=1, max_size=6), st.text("甲乙丙丁", min_size=1, max_size=10))
@settings(max_examples=200, deadline=None)
def test_no_slice_has_fewer_edits(wanted, text):
    first, end, n_edits = closest_slice(wanted, text)
    assert 0 <= first <= end <= len(text) and _edits(wanted, text[first:end]) == n_edits
    slices = [text[i:j] for i in range(len(text) + 1) for j in range(i, len(text) + 1)]
    assert n_edits == min(_edits(wanted, part) for part in slices)
