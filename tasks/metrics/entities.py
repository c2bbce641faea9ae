"""Entities: precision, recall and F1 over all of them, as seqeval counts by default."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tasks.core.entities import Entity, read_entities
from tasks.core.prediction import Score
from tasks.metrics.gold import require_questions


class Gold(NamedTuple):
    """The entities of a text, and how many characters it has."""

    entities: frozenset[Entity]
    n_characters: int


class EntityScorer:
    """An entity is right if its type and both of its ends are.

    Args:
        gold: id -> what is annotated; never empty.

    Raises:
        DataError: there is no example.
    """

    def __init__(self, gold: Mapping[str, Gold]) -> None:
        """Keep the gold."""
        require_questions(gold)
        self._gold = gold

    def __call__(self, predictions: Mapping[str, object]) -> Score:
        """Return "f1", "precision" and "recall" over all entities; of each text its own F1, 1 where both have none.

        A missing prediction has no entities.

        Raises:
            DataError: if a prediction names entities in no known way.
        """
        found = self.read(predictions)
        counts = [
            (len(gold.entities & found[id]), len(found[id]), len(gold.entities)) for id, gold in self._gold.items()
        ]
        totals = map(sum, zip(*counts, strict=True))
        per_example = {
            id: {"f1": _f1(*own) if id in predictions and any(own[1:]) else float(id in predictions)}
            for id, own in zip(self._gold, counts, strict=True)
        }
        both, n_found, n_gold = totals
        values = {
            "f1": 100 * _f1(both, n_found, n_gold),
            "precision": 100 * both / n_found if n_found else 0.0,
            "recall": 100 * both / n_gold if n_gold else 0.0,
        }
        return Score(values, per_example, len(per_example), len(self._gold.keys() - predictions.keys()))

    def read(self, predictions: Mapping[str, object]) -> dict[str, frozenset[Entity]]:
        """Return the entities of every prediction, by id; none where there is no prediction."""
        return {
            id: frozenset(read_entities(id, str(predictions.get(id, "")), gold.n_characters))
            for id, gold in self._gold.items()
        }

    def report(self, predictions: Mapping[str, str], types: Sequence[str]) -> dict[str, Any]:
        """Return the same of each type, JSON-able, with printable "lines"."""
        found = self.read(predictions)
        counts: dict[str, Counter[str]] = {kind: Counter() for kind in types}
        for id, gold in self._gold.items():
            for name, entities in (
                ("right", gold.entities & found[id]),
                ("found", found[id]),
                ("gold", gold.entities),
            ):
                for entity in entities:
                    counts.setdefault(entity.type, Counter())[name] += 1
        scores = {
            kind: {
                "precision": n["right"] / n["found"] if n["found"] else 0.0,
                "recall": n["right"] / n["gold"] if n["gold"] else 0.0,
                "f1": _f1(n["right"], n["found"], n["gold"]),
                "support": n["gold"],
            }
            for kind, n in counts.items()
        }
        lines = [f"{'':<12}{'precision':>10}{'recall':>10}{'f1':>10}{'entities':>10}"]
        for kind, of in scores.items():
            numbers = "".join(f"{of[name]:>10.3f}" for name in ("precision", "recall", "f1"))
            lines.append(f"{kind:<12}{numbers}{of['support']:>10}")
        return {"types": scores, "lines": lines}


def _f1(n_both: int, n_found: int, n_gold: int) -> float:
    return 2 * n_both / (n_found + n_gold) if n_found + n_gold else 0.0
