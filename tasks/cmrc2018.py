"""CMRC2018: Chinese span extraction (Cui et al., 2019), https://github.com/ymcui/cmrc2018."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from preprocess.readers.mrc import read_examples
from preprocess.readers.report import DataReport
from preprocess.types import Answer, Example
from tasks.core.prediction import Scorer
from tasks.core.task import PUBLISHED_RECIPE, Source, Task
from tasks.metrics.cmrc import CmrcScorer
from tasks.problems.span import SpanProblem


def _read(path: str | Path) -> tuple[list[Example], DataReport]:
    # CMRC2018 counts UTF-16 code units: 33 answers stand behind an astral character.
    return read_examples(path, offset_unit="utf16")


def _targets(example: Example) -> tuple[Answer, ...]:
    return tuple(answer for answer in example.answers if answer.located)[:1]


def _scorer(examples: Sequence[Example]) -> Scorer:
    return CmrcScorer({example.id: [answer.text for answer in example.answers] for example in examples})


_URL = "https://raw.githubusercontent.com/ymcui/cmrc2018/master/squad-style-data/"
_FILES = {
    "train": ("5497aa2f81908e31d6b0e27d99b1f90ab63a8f58fa92fffe5d17cf62eba0c212", 7408757),
    "dev": ("e9ff74231f05c230c6fa88b84441ee334d97234cbb610991cd94b82db00c7f1f", 3299139),
    "trial": ("f3fae95b57da8e03afb2b57467dd221417060ef4d82db13bf22fc88589f3a6f3", 800221),
}


def _source(split: str) -> Source:
    sha256, n_bytes = _FILES[split]
    name = f"cmrc2018_{split}.json"
    return Source(split, name, _URL + name, "CC BY-SA 4.0", sha256, n_bytes)


TASK = Task(
    name="cmrc2018",
    version="1",
    title="CMRC 2018",
    hub_dataset="hfl/cmrc2018",
    read=_read,
    targets=_targets,
    problem=SpanProblem(),
    scorer=_scorer,
    selection=("f1", "em"),
    defaults=PUBLISHED_RECIPE,
    sources=tuple(map(_source, _FILES)),
)
