"""Splitting a data file in two, so that no article (case) and no context is in both parts."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from experiment.inputs.data import read_examples
from experiment.io.outputs import check_directory
from experiment.io.terminal import terminal
from experiment.options.flags import SplitOptions
from experiment.options.recipe import task_of
from preprocess.base.errors import UsageError
from preprocess.base.files import write_text
from preprocess.text.offsets import is_unicode

#: Published keys that say which articles belong together.
_IDS = ("id", "caseid", "context_id", "title")


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
    _, report = read_examples(task, options.data_file)
    document = json.loads(options.data_file.read_bytes().decode("utf-8-sig"))
    items = document["data"] if isinstance(document, dict) else document
    groups = group_articles(items)
    if len(groups) < 2:
        raise UsageError(f"{options.data_file}: holds one article (or case); it can't be split")
    held_out = draw(groups, [_domain(items[group[0]]) for group in groups], options.test_size, options.seed)
    console = terminal()
    for line in report.lines():
        console.print(line)
    for name, path in paths.items():
        part = [item for index, item in enumerate(items) if (index in held_out) == (name == "dev")]
        write_text(path, _as_json({**document, "data": part} if isinstance(document, dict) else part))
        examples, _ = read_examples(task, path)
        domains = Counter(map(_domain, part))
        counts = "".join(f", {domain} {n}" for domain, n in sorted(domains.items()) if domain)
        console.print(f"{path}: {len(part)} articles{counts}; {len(examples)} questions")


def group_articles(items: Sequence[Any]) -> list[list[int]]:
    """Return indices of articles that must stay together, groups and indices in published order."""
    leader = list(range(len(items)))

    def find(index: int) -> int:
        while leader[index] != index:
            leader[index] = leader[leader[index]]
            index = leader[index]
        return index

    first: dict[tuple[str, str], int] = {}
    for index, item in enumerate(items):
        for key in _identities(item):
            one, other = find(index), find(first.setdefault(key, index))
            leader[max(one, other)] = min(one, other)
    groups: dict[int, list[int]] = {}
    for index in range(len(items)):
        groups.setdefault(find(index), []).append(index)
    return list(groups.values())


def draw(groups: Sequence[Sequence[int]], strata: Sequence[str], share: float, seed: int) -> set[int]:
    """Return the members of randomly drawn groups.

    Args:
        groups: at least two.
        strata: one per group; each gives its share, and all together `share` of the groups, rounded (at least one,
            never all).
        share: between 0 and 1.
        seed: of the draw.
    """
    order = list(range(len(groups)))
    random.Random(seed).shuffle(order)
    sizes, seen = Counter(strata), Counter[str]()
    rank = {}
    for index in order:
        # The k-th group of a stratum comes when the share has reached it, so that all strata advance alike.
        rank[index] = (seen[strata[index]] + 0.5) / sizes[strata[index]]
        seen[strata[index]] += 1
    n_drawn = min(max(1, round(share * len(groups))), len(groups) - 1)
    drawn = sorted(order, key=rank.__getitem__)[:n_drawn]
    return {member for index in drawn for member in groups[index]}


def _identities(item: Any) -> Iterator[tuple[str, str]]:
    if not isinstance(item, dict):
        return
    for name in _IDS:
        if item.get(name) not in (None, ""):
            yield name, str(item[name])
    paragraphs = item.get("paragraphs", [item])
    for paragraph in paragraphs if isinstance(paragraphs, list) else []:
        if isinstance(paragraph, dict):
            context = paragraph.get("context", paragraph.get("context_text"))
            if isinstance(context, str) and context:
                yield "context", context


def _domain(item: Any) -> str:
    return str(item.get("domain", "")) if isinstance(item, dict) else ""


def _as_json(document: Any) -> str:
    text = json.dumps(document, ensure_ascii=False)
    # Half a surrogate pair, which JSON can hold and UTF-8 can't, stays what it was.
    return (text if is_unicode(text) else json.dumps(document)) + "\n"
