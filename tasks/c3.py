"""C3: free-form multiple choice about Chinese dialogues and texts (Sun et al., 2020), https://github.com/nlpdata/c3."""

from __future__ import annotations

from collections.abc import Sequence

from preprocess.readers.c3 import DIALOGUE, MIXED, c3_parts, read_c3
from preprocess.types import Answer, Example
from tasks.core.prediction import Scorer
from tasks.core.recipe import PUBLISHED_RECIPE
from tasks.core.task import Source, Task
from tasks.metrics.choice import AccuracyScorer
from tasks.problems.multiple_choice import ChoiceProblem


def _targets(example: Example) -> tuple[Answer, ...]:
    return example.answers


def _scorer(examples: Sequence[Example]) -> Scorer:
    """Score all questions, and those of each half, as `accuracy_m` and `accuracy_d`, where a file holds some."""
    parts = {
        domain: frozenset(example.id for example in examples if example.extra["domain"] == domain)
        for domain in (MIXED, DIALOGUE)
    }
    return AccuracyScorer({example.id: example.answers[0].text for example in examples}, parts)


_URL = "https://raw.githubusercontent.com/nlpdata/c3/1f41682ebb684d63afe7c583c8f38e137fc8a826/data/"
_LICENCE = "non-commercial research purpose only"
_FILES = {
    "c3-m-train.json": ("4c84a534f1eec2c72e5f60f0c044cc39e2e42a88df01134e677e03217472d6af", 3292571),
    "c3-d-train.json": ("baf81f327dee84c6f451c9a4dd662e6193c67473b8791ffb72cce75cdb528f20", 2683529),
    "c3-m-dev.json": ("357d0d8d2a29bc845cbe50e048c263629f5e527b70f24c3e0838c387c8d3cb54", 1103725),
    "c3-d-dev.json": ("8c7054930a40aeb288ad7c51c42fa93d54aef678ccab29c75d46a7432f4f6278", 813459),
    "c3-m-test.json": ("7d8074be56cf574536a3284bc2d6b04d137694d5e5f5b1368143c0cf3e336822", 1085489),
    "c3-d-test.json": ("e9920491b31f9d00ecf31e51727b495dd6b0d05f4a96f273a343e81b6775a8f0", 855404),
}

TASK = Task(
    name="c3",
    version="2",
    title="C3",
    read=read_c3,
    problem=ChoiceProblem(),
    targets=_targets,
    scorer=_scorer,
    selection=("accuracy",),
    parts=c3_parts,
    inputs=("question", "context", "options"),
    pipeline="multiple-choice",
    # As CLUE's baselines, 24 questions of 3.9 options; windows overlap less than for spans, which need no place here.
    defaults={
        **PUBLISHED_RECIPE,
        "num_train_epochs": 8,
        "per_device_train_batch_size": 96,
        "learning_rate": 2e-5,
        "doc_stride": 320,
        "max_query_length": 128,
    },
    sources=tuple(
        Source(name.rsplit("-", 1)[1].removesuffix(".json"), name, _URL + name, _LICENCE, sha256, n_bytes)
        for name, (sha256, n_bytes) in _FILES.items()
    ),
)
