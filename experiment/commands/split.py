"""Splitting a data file in two, so that no article (case) and no context is in both parts."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiment.inputs.data import read_examples
from experiment.inputs.partition import draw, group_articles
from experiment.io.outputs import check_directory
from experiment.io.terminal import terminal
from experiment.options.flags import SplitOptions
from experiment.options.recipe import task_of
from preprocess.base.errors import DataError, UsageError
from preprocess.base.files import write_text
from preprocess.base.jsonfile import decode, parse_json, read_bytes
from preprocess.readers.layouts import detect
from preprocess.readers.report import DataReport
from preprocess.text.offsets import is_unicode
from preprocess.types import Example
from tasks.core.task import Task


def split(options: SplitOptions) -> None:
    """Write train.json and dev.json in the layout of the data file, articles in their published order.

    Articles with the same id, case id or title, or with a context in common, form a group that stays together. Groups
    are drawn by the seed, of each published "domain" as many as its share asks for.

    Raises:
        UsageError, DataError: for options and files that can't be used.
    """
    if not 0 < options.test_size < 1:
        raise UsageError(f"--test_size {options.test_size}: a share between 0 and 1 was expected, such as 0.1")
    check_directory("--output_dir", options.output_dir)
    paths = {name: options.output_dir / f"{name}.json" for name in ("train", "dev")}
    for path in paths.values():
        if path.exists():
            raise UsageError(f"{path}: is there already; delete it or give another --output_dir")
    task = task_of(options)
    content = read_bytes(options.data_file, DataError)
    document = parse_json(content, options.data_file, DataError, "give a JSON data file", lines=True)
    items, _ = detect(options.data_file, document)
    _, report = _read(task, options.data_file, content)
    groups = group_articles(items)
    if len(groups) < 2:
        raise UsageError(f"{options.data_file}: holds one article (or case); it can't be split")
    held_out = draw(groups, [_domain(items[group[0]]) for group in groups], options.test_size, options.seed)
    in_lines = isinstance(document, list) and not decode(content).lstrip().startswith("[")
    lines, texts = report.lines(), {}
    for name, path in paths.items():
        part = [item for index, item in enumerate(items) if (index in held_out) == (name == "dev")]
        values = part if in_lines else [{**document, "data": part} if isinstance(document, dict) else part]
        texts[path] = "".join(map(_as_json, values))
        examples, _ = _read(task, path, texts[path].encode("utf-8"))
        domains = Counter(map(_domain, part))
        counts = "".join(f", {domain} {n}" for domain, n in sorted(domains.items()) if domain)
        lines.append(f"{path}: {len(part)} articles{counts}; {len(examples)} questions")
    _write(texts)
    console = terminal()
    for line in lines:
        console.print(line)


def _write(texts: Mapping[Path, str]) -> None:
    """Write files that are not there yet: all of them, or none."""
    try:
        for path, text in texts.items():
            write_text(path, text)
    except BaseException:
        for path in texts:
            path.unlink(missing_ok=True)
        raise


def _read(task: Task, path: Path, content: bytes) -> tuple[list[Example], DataReport]:
    """Let the task read what was read of a file, or will be written; a pipe can't be read again."""
    if path.is_file():
        return read_examples(task, path)
    with tempfile.NamedTemporaryFile() as copy:
        copy.write(content)
        copy.flush()
        try:
            examples, report = read_examples(task, Path(copy.name))
        except DataError as error:
            raise DataError(str(error).replace(copy.name, str(path))) from None
    report.file = str(path)
    return examples, report


def _domain(item: Any) -> str:
    return str(item.get("domain", "")) if isinstance(item, dict) else ""


def _as_json(document: Any) -> str:
    text = json.dumps(document, ensure_ascii=False)
    # Half a surrogate pair, which JSON can hold and UTF-8 can't, stays what it was.
    return (text if is_unicode(text) else json.dumps(document)) + "\n"
