"""`--config FILE.yaml`: options by name, each value taken as the text that stands there.

YAML 1.1 would read `seeds: [010]` as 8, `12:30` as 750, `1e-5` as text and `no` as false. Here scalars stay texts,
and what reads the flags of the command line reads them, too: `name: value` means just what `--name value` means.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import yaml

from experiment.options.fields import Given
from preprocess.base.errors import UsageError

_TAG = "tag:yaml.org,2002:"
#: Scalars that another tag than a local one may mark; the text counts, not the type.
_PLAIN_TAGS = {_TAG + name for name in ("str", "int", "float", "bool", "null", "timestamp", "merge", "value")}
#: What leaves an option out, unless it is quoted.
_NULL = ("", "~", "null", "Null", "NULL", "None")
#: What the parser says of frequent mistakes -> what is said instead.
_SAID = {
    "found character '\\t' that cannot start any token": "a tab; indent by spaces",
    "but found another document": "a second document; one holds all options",
}


def read_config(path: Path, mappings: Collection[str] = (), by_task: Collection[str] = ()) -> list[Given]:
    """Read the options in a YAML file.

    Args:
        path: of the file.
        mappings: names of options whose value may be a mapping; it is given on as YAML text.
        by_task: names of options that each task may have a value of; the mapping is given on as TASK=VALUE texts.

    Raises:
        UsageError: if it can't be read or is not a mapping of names to values, naming every line at fault.
    """
    label = f"--config {path}"
    try:
        text = path.expanduser().read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{label}: the file is not UTF-8 text ({error.reason} at byte {error.start})") from None
    except OSError as error:
        raise UsageError(f"{label}: {_reason(error)}") from None
    return _options(_mapping(text, label, "the file"), label, mappings, by_task)


def read_sections(text: str, label: str, by_task: Collection[str] = ()) -> list[tuple[str, list[Given]]]:
    """Read a YAML mapping of names to mappings of options, such as `cjrc: {learning_rate: 4e-5}`.

    Args:
        text: the mapping.
        label: what messages call it.
        by_task: as for `read_config`.

    Raises:
        UsageError: if it is anything else, naming what is at fault.
    """
    sections = []
    for key, value in _mapping(text, label, "the text").value:
        name = key.value if isinstance(key, yaml.ScalarNode) else _kind(key)
        if not isinstance(key, yaml.ScalarNode) or not isinstance(value, yaml.MappingNode):
            raise UsageError(f"{label}, {name}: `name: {{option: value}}` was expected, found {_kind(value)}")
        sections.append((name, _options(value, f"{label}, {name}", (), by_task, numbered=False)))
    return sections


def read_texts(text: str, label: str) -> dict[str, Any]:
    """Read a YAML mapping of names to anything: dicts and lists, whose scalars are texts as they would be typed.

    Args:
        text: the mapping.
        label: what messages call it.

    Raises:
        UsageError: if it is anything else.
    """
    values: dict[str, Any] = _texts(_mapping(text, label, "the text"), label)
    return values


def _texts(node: yaml.Node, label: str) -> Any:
    if isinstance(node, yaml.MappingNode):
        names = [key.value if isinstance(key, yaml.ScalarNode) else _kind(key) for key, _ in node.value]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise UsageError(f"{label}: {twice[0]} stands there twice; which of the two is meant?")
        return {name: _texts(value, label) for name, (_, value) in zip(names, node.value, strict=True)}
    if isinstance(node, yaml.SequenceNode):
        return [_texts(item, label) for item in node.value]
    assert isinstance(node, yaml.ScalarNode)
    return "None" if node.style is None and node.value in _NULL else node.value


def _mapping(text: str, label: str, what: str) -> yaml.MappingNode:
    try:
        # Composed and not constructed: aliases are resolved, and no value is turned into anything else.
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError) as error:
        raise UsageError(f"{label}: {what} is not YAML ({_said(error)})") from None
    if not isinstance(root, yaml.MappingNode):
        kind = "nothing" if root is None else _kind(root)
        raise UsageError(f"{label}: options were expected, one `name: value` per line; found {kind}")
    return root


def _options(
    root: yaml.MappingNode,
    label: str,
    mappings: Collection[str] = (),
    by_task: Collection[str] = (),
    *,
    numbered: bool = True,
) -> list[Given]:
    """Return the options of a mapping; `numbered` says whether its lines are those that the user wrote."""
    given: list[Given] = []
    problems = []
    lines: dict[str, int] = {}
    for key, value in root.value:
        line = key.start_mark.line + 1
        name = key.value if isinstance(key, yaml.ScalarNode) else ""
        at = f"{label}, line {line}" if numbered else label
        where = f"{at}: {name}"
        same = name.replace("-", "_")
        is_mapping = isinstance(value, yaml.MappingNode) and same in {*mappings, *by_task}
        problem = _problem_by_task(value) if is_mapping and same in by_task else None
        problem = problem if is_mapping else _problem(key, value)
        if problem is None and same in lines:
            place = f"stands in line {lines[same]} already" if numbered else "stands there twice"
            problem = f"{place}; which of the two is meant?"
        if problem is not None:
            problems.append(f"{where}: {problem}" if name else f"{at}: {problem}")
            continue
        lines[same] = line
        if is_mapping and same in by_task:
            texts = tuple(f"{task.value}={own.value}" for task, of_task in value.value for own in _items(of_task))
            given.append(Given(name, texts, where, is_list=len(texts) > 1))
        elif is_mapping:
            given.append(Given(name, (_text(value),), where, is_list=True))
        else:
            given.append(_given(name, value, where))
    if problems:
        raise UsageError("; ".join(problems))
    return given


def _problem_by_task(node: yaml.Node) -> str | None:
    """Say why a mapping does not hold a value, or a list of them, for each task, or return None."""
    for key, value in node.value:
        items = _items(value)
        values = items and all(isinstance(item, yaml.ScalarNode) and item.value for item in items)
        if not isinstance(key, yaml.ScalarNode) or not values:
            return "`task: value` was expected for each task"
    return None if node.value else "the mapping is empty"


def _items(node: yaml.Node) -> list[yaml.Node]:
    """Return the items of a list; what is no list is an item by itself."""
    return node.value if isinstance(node, yaml.SequenceNode) else [node]


def _text(node: yaml.Node) -> str:
    """Return a mapping as YAML of its own."""
    for part in _scalars(node):
        if part.style is None and part.value == "":
            part.value = "~"  # what is written for nothing would be quoted, and an empty text
    return yaml.serialize(node)


def _scalars(node: yaml.Node) -> Iterator[yaml.ScalarNode]:
    if isinstance(node, yaml.ScalarNode):
        yield node
        return
    for part in node.value:
        for each in part if isinstance(part, tuple) else (part,):
            yield from _scalars(each)


def _problem(key: yaml.Node, value: yaml.Node) -> str | None:
    """Say why a line is not an option, or return None."""
    if not isinstance(key, yaml.ScalarNode):
        return "a name was expected before the colon"
    if key.tag == _TAG + "merge":
        return "merging is not supported here; write the options out"
    for node in _items(value):
        if not isinstance(node, yaml.ScalarNode):
            return f"a value or a list of values was expected, found {_kind(node)}"
        if node.tag not in _PLAIN_TAGS:
            return f"the tag {node.tag.replace(_TAG, '!!')} is not supported; write the value alone"
    return None


def _given(name: str, value: yaml.Node, where: str) -> Given:
    if isinstance(value, yaml.SequenceNode):
        return Given(name, tuple(node.value for node in value.value), where, is_list=True)
    assert isinstance(value, yaml.ScalarNode)
    is_null = value.style is None and value.value in _NULL
    return Given(name, () if is_null else (value.value,), where, is_null=is_null)


def _kind(node: yaml.Node) -> str:
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    return "a list" if isinstance(node, yaml.SequenceNode) else "a text"


def _reason(error: OSError) -> str:
    return "no such file" if isinstance(error, FileNotFoundError) else str(error.strerror)


def _said(error: Exception) -> str:
    """Return what a YAML parser says, in one line, with the line in the file."""
    if isinstance(error, RecursionError):
        return "nested too deeply"
    problem, mark = getattr(error, "problem", None), getattr(error, "problem_mark", None)
    if problem is None or mark is None:
        return " ".join(str(error).split())
    return f"line {mark.line + 1}: {_SAID.get(problem, problem)}"
