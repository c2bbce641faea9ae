"""Prompts are data that never changes, and say only what their task can be answered with."""

from __future__ import annotations

import json

import pytest

from experiment.asking.prompts import PROMPTS, read_prompt
from preprocess.base.errors import DataError, UsageError
from preprocess.types import Example
from tasks.core.discovery import get_task

#: Scores name a prompt by its version: one that is published stays what it is, and a better one gets a new version.
PUBLISHED = {
    "cjrc/1": "af2567b18bb15384",
    "cmrc2018/1": "93a1c275f2585b57",
    "drcd/1": "4f94e260e95ef521",
    "squad/1": "7da916f8be3b0e3f",
    "squad_v2/1": "e5415b7b34279f06",
    "xquad_zh/1": "93a1c275f2585b57",
}


@pytest.mark.parametrize("path", sorted(PROMPTS.glob("*/*.json")), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_published_prompt_never_changes(path):
    prompt = read_prompt(get_task(path.parent.name), path.stem)
    assert prompt.sha256[:16] == PUBLISHED[prompt.name]


def test_question_and_context_stand_as_they_are():
    """A context that holds "{question}" must not have the question put into it."""
    prompt = read_prompt(get_task("cmrc2018"), None)
    messages = prompt.messages(Example("1", "什么{context}？", "文中有{question}与{}。"))
    assert [message["role"] for message in messages] == ["system", "user"]
    assert "文章：\n文中有{question}与{}。\n" in messages[1]["content"]
    assert "问题：什么{context}？\n" in messages[1]["content"]


def test_replies_stand_for_the_answers_of_the_task():
    assert read_prompt(get_task("cjrc"), "1").replies["无法回答"] == ""
    assert read_prompt(get_task("cjrc"), "1").replies["是"] == "YES"
    assert read_prompt(get_task("squad_v2"), "1").replies["unanswerable"] == ""


@pytest.mark.parametrize(
    "values, message",
    [
        ({"user": "{question}"}, '"user" must hold {context} and {question}'),
        ({"user": "{context}{question}", "repplies": {}}, "unknown key 'repplies'"),
        ({"user": "{context}{question}", "replies": {"是": "yes"}}, "none: leave it out"),
        ({"user": 3}, "must be texts"),
        ([], "a list of 0; give a JSON object"),
    ],
)
def test_a_prompt_that_can_not_be_used_is_refused(values, message, tmp_path):
    path = tmp_path / "prompt.json"
    path.write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_prompt(get_task("cmrc2018"), str(path))


def test_a_version_that_is_not_there_is_refused():
    with pytest.raises(UsageError, match="--prompt 9: no such file or version; task cmrc2018 has the versions 1;"):
        read_prompt(get_task("cmrc2018"), "9")
