"""MLQA-zh: the Chinese part of a multilingual test of span extraction (Lewis et al., 2020), for evaluation only.

Its files are {dev,test}-context-zh-question-zh.json of one archive, dl.fbaipublicfiles.com/MLQA/MLQA_V1.zip.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from preprocess.types import Example
from tasks.core.prediction import Scorer
from tasks.metrics.mlqa import normalise
from tasks.metrics.squad import SquadScorer
from tasks.xquad_zh import TASK as XQUAD_ZH


def _scorer(examples: Sequence[Example]) -> Scorer:
    gold = {example.id: [answer.text for answer in example.answers] for example in examples}
    return SquadScorer(gold, normalise)


TASK = replace(
    XQUAD_ZH,
    name="mlqa_zh",
    version="1",
    title="MLQA-zh",
    hub_dataset="facebook/mlqa",
    scorer=_scorer,
    sources=(),
)
