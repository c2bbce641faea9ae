"""Dividing articles in two, so that no article (case) and no context is in both parts."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

#: Published keys that say which articles belong together.
_IDS = ("id", "caseid", "context_id", "title")


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
            here, before = find(index), find(first.setdefault(key, index))
            leader[max(here, before)] = min(here, before)
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
