"""Chunks of tags, held against another way to say which there are."""

from __future__ import annotations

import random

import pytest

from preprocess.tags import Chunk, chunks


@pytest.mark.parametrize(
    ("tags", "found"),
    [
        ("", []),
        ("O O", []),
        ("B-PER I-PER O B-LOC", [("PER", 0, 2), ("LOC", 3, 4)]),
        ("B-PER B-PER", [("PER", 0, 1), ("PER", 1, 2)]),
        ("O I-PER I-PER", [("PER", 1, 3)]),
        ("B-PER I-LOC I-LOC", [("PER", 0, 1), ("LOC", 1, 3)]),
        ("B-PER E-PER I-PER S-LOC", [("PER", 0, 2), ("PER", 2, 3), ("LOC", 3, 4)]),
    ],
)
def test_chunks_begin_and_end_where_conlleval_says(tags, found):
    assert chunks(tags.split()) == [Chunk(*chunk) for chunk in found]


def _brute_force(tags):
    """Try all stretches: the first tag goes on with nothing, each further one with the one before it."""

    def goes_on(place):
        if not 0 < place < len(tags) or tags[place][0] not in "IE":
            return False
        return tags[place - 1][0] in "BI" and tags[place - 1][2:] == tags[place][2:]

    return [
        (tags[start][2:], start, end)
        for start in range(len(tags))
        for end in range(start + 1, len(tags) + 1)
        if tags[start] != "O" and not goes_on(start) and all(map(goes_on, range(start + 1, end))) and not goes_on(end)
    ]


def test_chunks_are_those_of_a_search_over_all_stretches():
    draw = random.Random(5)
    for schemes in ("BI", "BIES"):
        names = ["O", *(f"{prefix}-{kind}" for prefix in schemes for kind in ("PER", "LOC"))]
        for _ in range(1000):
            tags = draw.choices(names, k=draw.randrange(12))
            assert [tuple(chunk) for chunk in chunks(tags)] == _brute_force(tags), tags
