"""SQuAD 1.1: English span extraction (Rajpurkar et al., 2016), https://rajpurkar.github.io/SQuAD-explorer."""

from __future__ import annotations

from collections.abc import Sequence

from preprocess.readers.mrc import read_examples
from preprocess.types import Answer, Example
from tasks.core.prediction import Scorer
from tasks.core.task import PUBLISHED_RECIPE, Source, Task
from tasks.metrics.squad import SquadScorer
from tasks.problems.span import SpanProblem

_URL = "https://rajpurkar.github.io/SQuAD-explorer/dataset/"


def _targets(example: Example) -> tuple[Answer, ...]:
    return tuple(answer for answer in example.answers if answer.located)[:1]


def _scorer(examples: Sequence[Example]) -> Scorer:
    return SquadScorer({example.id: [answer.text for answer in example.answers] for example in examples})


TASK = Task(
    name="squad",
    version="1",
    title="SQuAD 1.1",
    language="en",
    hub_dataset="rajpurkar/squad",
    read=read_examples,
    targets=_targets,
    problem=SpanProblem(),
    scorer=_scorer,
    selection=("f1", "em"),
    # What google-research/bert publishes for SQuAD.
    defaults={**PUBLISHED_RECIPE, "max_seq_length": 384, "max_answer_length": 30},
    sources=(
        Source(
            split="train",
            file_name="train-v1.1.json",
            url=_URL + "train-v1.1.json",
            licence="CC BY-SA 4.0",
            sha256="3527663986b8295af4f7fcdff1ba1ff3f72d07d61a20f487cb238a6ef92fd955",
            n_bytes=30288272,
        ),
        Source(
            split="dev",
            file_name="dev-v1.1.json",
            url=_URL + "dev-v1.1.json",
            licence="CC BY-SA 4.0",
            sha256="95aa6a52d5d6a735563366753ca50492a658031da74f301ac5238b03966972c9",
            n_bytes=4854279,
        ),
    ),
)
