"""DRCD: span extraction from traditional Chinese (Shao et al., 2018), https://github.com/DRCKnowledgeTeam/DRCD.

The model reads simplified Chinese, which most Chinese checkpoints were trained on. Answers are slices of the
published text all the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from preprocess.readers.mrc import read_examples
from preprocess.readers.report import DataReport
from preprocess.text.opencc import NO_CONVERSION, OpenCCTransform, opencc_transform
from preprocess.types import Answer, Example
from tasks.core.prediction import Score
from tasks.core.task import PUBLISHED_RECIPE, Source, Task, TaskOptions
from tasks.metrics.cmrc import CmrcScorer
from tasks.problems.span import SpanProblem

DEFAULT_OPENCC_CONFIG = "t2s"
_URL = "https://raw.githubusercontent.com/DRCKnowledgeTeam/DRCD/master/"
_LICENCE = "CC BY-SA 3.0"
_SOURCES = (
    Source("train", "DRCD_training.json", f"{_URL}DRCD_training.json", _LICENCE),
    Source(
        "dev",
        "DRCD_dev.json",
        f"{_URL}DRCD_dev.json",
        _LICENCE,
        sha256="e236df03861ba241bd7b29628cd48b3b8e339c60137e041a4358b5320ed61928",
        n_bytes=2184379,
    ),
    Source(
        "test",
        "DRCD_test.json",
        f"{_URL}DRCD_test.json",
        _LICENCE,
        sha256="d9de0b4d247a8391ac8daee6c02c2c8272b75562a1e2377b50ae04ecc09a7438",
    ),
)


def _read(path: str | Path) -> tuple[list[Example], DataReport]:
    return read_examples(path, offset_unit="codepoint")


def _targets(example: Example) -> tuple[Answer, ...]:
    # Where the answer stands comes from answer_start: 14 % of dev questions repeat the answer's text before it.
    return tuple(answer for answer in example.answers if answer.located)[:1]


class _DrcdScorer:
    """The official metric on the published text, and the same on text converted to simplified Chinese."""

    def __init__(self, transform: OpenCCTransform | None, examples: Sequence[Example]) -> None:
        gold = {example.id: [answer.text for answer in example.answers] for example in examples}
        self._published = CmrcScorer(gold)
        # Only a conversion to simplified Chinese may be called that.
        self._transform = transform if transform is not None and transform.simplifies else None
        if self._transform is not None:
            convert = self._transform.convert
            self._simplified = CmrcScorer({question: list(map(convert, texts)) for question, texts in gold.items()})

    def __call__(self, predictions: Mapping[str, Any]) -> Score:
        score = self._published(predictions)
        if self._transform is None:
            return score
        convert = self._transform.convert
        simplified = self._simplified({question: convert(str(text)) for question, text in predictions.items()})
        values = {**score.values, **_named_simplified(simplified.values)}
        per_example = {
            question: {**scores, **_named_simplified(simplified.per_example[question])}
            for question, scores in score.per_example.items()
        }
        return Score(values, per_example, score.n, score.n_missing)


def _named_simplified(scores: Mapping[str, float]) -> dict[str, float]:
    return {f"{name}_simplified": value for name, value in scores.items()}


def _configure(options: TaskOptions) -> Task:
    return _task(DEFAULT_OPENCC_CONFIG if options.opencc_config is None else options.opencc_config)


def _task(opencc_config: str) -> Task:
    """Return the task for a model that reads text converted by an OpenCC configuration, or "none".

    Raises:
        DataError: OpenCC has no such configuration.
    """
    transform = opencc_transform(opencc_config)
    return Task(
        name="drcd",
        version=f"2+{transform.name if transform is not None else f'opencc-{NO_CONVERSION}'}",
        title="DRCD",
        read=_read,
        targets=_targets,
        problem=SpanProblem(),
        scorer=partial(_DrcdScorer, transform),
        selection=("f1", "em"),
        defaults=PUBLISHED_RECIPE,
        transform=transform,
        options=frozenset({"opencc_config"}),
        configure=_configure,
        sources=_SOURCES,
    )


TASK = _task(DEFAULT_OPENCC_CONFIG)
