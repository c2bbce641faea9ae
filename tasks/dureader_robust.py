"""DuReader-robust: Chinese span extraction that tests robustness (Tang et al., 2021), arxiv.org/abs/2004.11142.

Its files are published in one archive, dataset-bj.cdn.bcebos.com/dureader_robust/data/dureader_robust-data.tar.gz.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from preprocess.readers.mrc import read_examples
from preprocess.types import Example
from tasks.cmrc2018 import TASK as CMRC2018
from tasks.core.prediction import Scorer
from tasks.metrics.dureader import DureaderScorer


def _scorer(examples: Sequence[Example]) -> Scorer:
    return DureaderScorer({example.id: [answer.text for answer in example.answers] for example in examples})


TASK = replace(
    CMRC2018,
    name="dureader_robust",
    version="1",
    title="DuReader-robust",
    hub_dataset="PaddlePaddle/dureader_robust",
    read=read_examples,
    scorer=_scorer,
    sources=(),
)
