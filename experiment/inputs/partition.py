"""Dividing the items of a file in two, so that none is apart from those that it belongs with."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Hashable, Sequence


def groups_of(ties: Sequence[Sequence[Hashable]]) -> list[list[int]]:
    """Return the numbers of items that must stay together, groups and numbers in file order.

    Args:
        ties: of each item; those with one in common belong together, and so on along the chain.
    """
    leader = list(range(len(ties)))

    def find(index: int) -> int:
        while leader[index] != index:
            leader[index] = leader[leader[index]]
            index = leader[index]
        return index

    first: dict[Hashable, int] = {}
    for index, own in enumerate(ties):
        for key in own:
            here, before = find(index), find(first.setdefault(key, index))
            leader[max(here, before)] = min(here, before)
    groups: dict[int, list[int]] = {}
    for index in range(len(ties)):
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
