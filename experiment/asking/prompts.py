"""Prompts: data of the project, one file per task and version, which never changes once it is published."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tasks
from preprocess.base.errors import DataError, UsageError
from preprocess.base.jsonfile import describe, parse_json, read_bytes
from preprocess.types import Example
from tasks.core.task import Task
from tasks.problems.kinds import KindProblem

PROMPTS = Path(str(tasks.__file__)).parent / "prompts"
_PLACEHOLDER = re.compile(r"\{(context|question)\}")
_KEYS = {"system", "user", "replies"}


@dataclass(frozen=True)
class Prompt:
    """What a model is asked, and what some of its replies stand for.

    Args:
        name: "TASK/VERSION", or the file that the user gave.
        sha256: of the file.
        system: the system message; "" for none.
        user: the user's message, with {context} and {question}.
        replies: reply -> the text of the answer that it stands for, such as "unanswerable" -> "".
    """

    name: str
    sha256: str
    system: str
    user: str
    replies: Mapping[str, str]

    def messages(self, example: Example) -> list[dict[str, str]]:
        """Return the messages of a question."""
        texts = {"context": example.context, "question": example.question}
        # In one pass: a context may hold "{question}" itself.
        user = _PLACEHOLDER.sub(lambda place: texts[place[1]], self.user)
        system = [{"role": "system", "content": self.system}] if self.system else []
        return [*system, {"role": "user", "content": user}]


def read_prompt(task: Task, choice: str | None) -> Prompt:
    """Read the prompt of a task.

    Args:
        task: that is asked about.
        choice: a version of the task's own prompt, or a JSON file; None for the newest version.

    Raises:
        UsageError, DataError: if there is none, or the file is none.
    """
    if not any(output.name == "start" for output in task.problem.head.outputs):
        raise UsageError(f"--task {task.name}: its answers are no parts of a text, and no other replies can be read")
    versions = _versions(task.name)
    if choice is None and versions:
        choice = max(versions, key=int)
    if choice in versions:
        return _read(task, versions[choice], f"{task.name}/{choice}")
    path = Path(choice).expanduser() if choice is not None else None
    if path is None or not path.exists():
        there = f"has the versions {', '.join(sorted(versions, key=int))}" if versions else "has no prompt"
        found = f"--prompt {choice}: no such file or version; task" if choice is not None else "--prompt: task"
        raise UsageError(f'{found} {task.name} {there}; or give a JSON file with "user" (docs/llm.md)')
    return _read(task, path, str(choice))


def _versions(task: str) -> dict[str, Path]:
    return {path.stem: path for path in (PROMPTS / task).glob("*.json") if path.stem.isdecimal()}


def _read(task: Task, path: Path, name: str) -> Prompt:
    content, remedy = read_bytes(path, DataError), "give a JSON object with the prompt"
    values = parse_json(content, path, DataError, remedy)
    if not isinstance(values, dict):
        raise DataError(f"{path}: {describe(values)}; {remedy}")
    system, user, replies = values.get("system", ""), values.get("user", ""), values.get("replies", {})
    problem = _problem(task, values, system, user, replies)
    if problem:
        raise DataError(f"{path}: {problem}")
    texts = task.problem.texts if isinstance(task.problem, KindProblem) else {}
    sha256 = hashlib.sha256(content).hexdigest()
    return Prompt(name, sha256, system, user, {reply: texts[kind] for reply, kind in replies.items()})


def _problem(task: Task, values: Mapping[str, Any], system: Any, user: Any, replies: Any) -> str:
    """Say what is wrong with a prompt; "" for nothing."""
    kinds = list(task.problem.texts) if isinstance(task.problem, KindProblem) else []
    if unknown := sorted(values.keys() - _KEYS):
        return f"unknown key {unknown[0]!r}; expected {', '.join(sorted(_KEYS))}"
    if not isinstance(system, str) or not isinstance(user, str):
        return '"system" and "user" must be texts'
    if {place[1] for place in _PLACEHOLDER.finditer(user)} != {"context", "question"}:
        return '"user" must hold {context} and {question}, where they are to stand'
    if not isinstance(replies, dict) or any(kind not in kinds for kind in replies.values()):
        known = ", ".join(kinds) or "none: leave it out"
        return f'"replies" must be an object of replies and the kinds of answer that they stand for ({known})'
    return ""
