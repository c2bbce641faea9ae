"""Accuracy, MRR and entity F1, held against counts that are made in another way."""

from __future__ import annotations

import itertools
import random
from statistics import mean

import pytest

from preprocess.base.errors import DataError
from preprocess.readers.rows import Labels
from preprocess.tags import chunks
from tasks.core.entities import Entity, entities_text, read_entities
from tasks.metrics.classes import AccuracyScorer, RankingScorer, reciprocal_rank
from tasks.metrics.entities import EntityScorer, Gold


def test_accuracy_takes_labels_as_files_have_them_and_counts_what_is_missing_as_wrong():
    labels = Labels(("sports", "game"), {"7": "sports"})
    gold = {"a": "sports", "b": "sports", "c": "game", "d": "game"}
    score = AccuracyScorer(gold, labels.find)({"a": "sports", "b": 7, "c": "sport", "z": "game"})
    assert score.values == {"accuracy": 50.0} and (score.n, score.n_missing) == (4, 1)
    assert [score.per_example[id]["accuracy"] for id in gold] == [1.0, 1.0, 0.0, 0.0]


def _mrr_by_orders(candidates):
    """Try every order in which no candidate stands before one with a higher score."""
    orders = [
        order
        for order in itertools.permutations(candidates)
        if all(a[0] >= b[0] for a, b in itertools.pairwise(order))
    ]
    return mean(next((1 / rank for rank, (_, right) in enumerate(order, 1) if right), 0.0) for order in orders)


def test_reciprocal_rank_is_the_mean_over_all_orders_of_equal_candidates():
    draw = random.Random(2)
    for _ in range(300):
        candidates = [(draw.choice((0.1, 0.5, 0.9)), draw.random() < 0.4) for _ in range(draw.randint(1, 5))]
        assert reciprocal_rank(candidates) == pytest.approx(_mrr_by_orders(candidates)), candidates


def test_ranking_groups_candidates_by_question():
    gold = {"1_1": False, "1_2": True, "2_3": True, "2_4": False, "3_5": False}
    groups = {id: id[0] for id in gold}
    score = RankingScorer(gold, groups)({"1_1": "0.9", "1_2": 0.6, "2_3": "1e-9", "2_4": "1e-10", "3_5": 0})
    # Ranks 2 and 1; nothing is right about question 3.
    assert score.values["mrr"] == pytest.approx(100 * (1 / 2 + 1 + 0) / 3)
    # Found right: 1_1 and 1_2; right are 1_2 and 2_3.
    assert score.values["f1"] == pytest.approx(50.0) and score.values["accuracy"] == pytest.approx(60.0)
    assert list(score.per_example) == list(gold)
    missing = RankingScorer(gold, groups)({"1_1": "0.1"})
    assert missing.n_missing == 4 and missing.per_example["1_2"] == {"accuracy": 0.0, "mrr": 0.0}


def test_a_ranking_that_is_no_number_is_named():
    for wrong in ("yes", "nan", ""):
        with pytest.raises(DataError, match="'a' has .*; the probability that it is right was expected"):
            RankingScorer({"a": True}, {"a": "1"})({"a": wrong})


def test_entity_f1_is_that_of_pairs_compared_one_by_one():
    draw = random.Random(3)
    names = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
    for _ in range(1000):
        sizes = [draw.randint(1, 8) for _ in range(draw.randint(1, 4))]
        gold, found = ([draw.choices(names, k=size) for size in sizes] for _ in range(2))
        both = sum(a == b for g, f in zip(gold, found, strict=True) for a in chunks(g) for b in chunks(f))
        n_gold, n_found = (sum(len(chunks(tags)) for tags in every) for every in (gold, found))
        precision, recall = both / n_found if n_found else 0.0, both / n_gold if n_gold else 0.0
        f1 = 2 * precision * recall / (precision + recall) if both else 0.0
        known = {f"{i}": Gold(frozenset(Entity(*c) for c in chunks(tags)), len(tags)) for i, tags in enumerate(gold)}
        score = EntityScorer(known)({f"{i}": " ".join(tags) for i, tags in enumerate(found)})
        assert score.values == pytest.approx(
            {"f1": 100 * f1, "precision": 100 * precision, "recall": 100 * recall}
        )  # fmt: skip


def test_an_entity_counts_with_its_type_and_both_ends():
    entities = frozenset({Entity("LOC", 0, 2), Entity("PER", 3, 5)})
    scorer = EntityScorer({"a": Gold(entities, 5), "b": Gold(frozenset(), 2)})
    for text, right in (("LOC 0-2 北京; PER 3-5 张三", 1.0), ("ORG 0-2 北京; PER 3-4 张", 0.0), ("", 0.0)):
        score = scorer({"a": text, "b": ""})
        assert score.values["f1"] == 100 * right and score.per_example == {"a": {"f1": right}, "b": {"f1": 1.0}}
    assert scorer({"a": ""}).per_example["b"] == {"f1": 0.0}
    report = scorer.report({"a": "LOC 0-2 北京; PER 3-4 张", "b": ""}, ("PER", "LOC", "ORG"))
    assert report["types"]["LOC"] == {"precision": 1.0, "recall": 1.0, "f1": 1.0, "support": 1}
    assert report["types"]["PER"]["f1"] == 0.0 and report["types"]["ORG"]["support"] == 0


def test_entities_are_read_as_they_were_written_whatever_they_hold():
    context = "甲; LOC 0-2 乙 丙"
    entities = [Entity("PER", 0, 11), Entity("LOC", 11, 14)]
    assert read_entities("a", entities_text(context, entities), len(context)) == entities
    assert read_entities("a", "", 3) == []
    for wrong, message in (("O O", "'a' has 2 tags; one for each of its 3"), ("北京", "entities like 'LOC 0-2 北京")):
        with pytest.raises(DataError, match=message):
            read_entities("a", wrong, 3)


@pytest.mark.parametrize("place", ["900-2", "2-2", "0-4", "99999999-3"])
def test_entities_outside_of_their_text_are_refused(place):
    """An end far before its start would have read the same entity again and again."""
    with pytest.raises(DataError, match=f"'a' has the place {place}; a start before its end was expected"):
        read_entities("a", f"LOC {place} 北京", 3)
    with pytest.raises(DataError, match="entities like"):
        read_entities("a", f"LOC 0-{'9' * 5000} 北京", 3)
