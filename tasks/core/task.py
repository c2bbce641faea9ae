"""What a task is, and the values that its decoder and its metric return."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from preprocess.readers.report import DataReport
from preprocess.text.offsets import TextTransform
from preprocess.types import Answer, Example, FeatureSet, HeadSpec, Logits


@dataclass(frozen=True, slots=True)
class DecodeOptions:
    """How answers are searched in the logits.

    Args:
        n_best_size: start and end positions kept per window, and candidates kept per question; at least 1.
        max_answer_length: longest answer, in word pieces; at least 1.
        null_score_diff_threshold: tasks with unanswerable questions give the empty answer where its score minus that
            of the best span is above this.
    """

    n_best_size: int = 20
    max_answer_length: int = 50
    null_score_diff_threshold: float = 0.0

    def __post_init__(self) -> None:
        """Raise ValueError where a size is below 1."""
        for name in ("n_best_size", "max_answer_length"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, found {getattr(self, name)}.")


class Candidate(NamedTuple):
    """One entry of a question's n-best list; a tuple because a data set has tens of thousands of them.

    Args:
        text: the slice char_start to char_end of the published context; "" where no span is valid.
        char_start: first code point in `Example.context`; -1 for the empty candidate.
        char_end: one past the last code point; -1 likewise.
        probability: softmax of start_logit + end_logit over the question's n-best list, 0-1.
        start_logit: start score of the first piece; 0 for the empty candidate.
        end_logit: end score of the last piece; 0 likewise.
    """

    text: str
    char_start: int
    char_end: int
    probability: float
    start_logit: float
    end_logit: float


@dataclass(frozen=True, slots=True)
class Prediction:
    """The answer to one question.

    Args:
        id: question id.
        text: the best candidate's text, which is what the metric scores.
        char_start: first code point in `Example.context`; -1 where the answer has no place.
        char_end: one past the last code point; -1 likewise.
        kind: "span", or the name of another kind of answer of the task.
        score: start_logit + end_logit of the best candidate.
        nbest: all candidates, best first, never empty.
    """

    id: str
    text: str
    char_start: int
    char_end: int
    kind: str
    score: float
    nbest: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True)
class Score:
    """A metric's result.

    Args:
        values: metric name to percent; "em" and "f1" are the task's official metric.
        per_example: question id to metric name to 0-1, in the order of the gold file.
        n: number of questions, those without a prediction included.
        n_missing: questions without a prediction; they score 0.
    """

    values: Mapping[str, float]
    per_example: Mapping[str, Mapping[str, float]]
    n: int
    n_missing: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOptions:
    """What a user may choose about a task; None leaves the task's own choice. A task names those it knows.

    Args:
        opencc_config: OpenCC configuration (such as "t2s") that the model's text is converted by; "none" for no
            conversion.
        answer_policy: which of several annotated answers are trained on: "first", "majority" or "all".
    """

    opencc_config: str | None = None
    answer_policy: str | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """A published file of a task.

    Args:
        split: "train", "dev", "test" or "trial".
        file_name: what it is called after download.
        url: where it is published.
        licence: as its publisher states it; "" where none is stated.
        sha256: of the published file; "" where unknown.
        n_bytes: its size; 0 where unknown.
    """

    split: str
    file_name: str
    url: str
    licence: str
    sha256: str = ""
    n_bytes: int = 0


#: The recipe of the reference results, for tasks to start from. Answers may be longer than transformers' default of
#: 30: 5.1 % of CMRC2018's dev questions have only longer ones.
PUBLISHED_RECIPE: Mapping[str, Any] = MappingProxyType(
    {
        "num_train_epochs": 2,
        "per_device_train_batch_size": 32,
        "learning_rate": 3e-5,
        "warmup_ratio": 0.1,
        "weight_decay": 0.01,
        "max_seq_length": 512,
        "doc_stride": 128,
        "max_query_length": 64,
        "max_answer_length": 50,
        "n_best_size": 20,
    }
)


#: A metric with its gold prepared: predictions (id to text) in, score out.
Scorer = Callable[[Mapping[str, Any]], Score]


@dataclass(frozen=True)
class Task:
    """A data set's reader, label, decoder and official metric, as one value.

    Args:
        name: the name users type; also the name of the task's module.
        version: changes whenever a change here can move a score.
        title: the data set's name in tables.
        read: path of a published file to (examples, report); raises `DataError`.
        targets: the answers that an example is trained on, one copy of the example each; the first labels it in
            evaluation; empty where nothing can be trained on.
        decode: (examples, features, logits in any order, options) to n-best predictions by question id.
        best_answers: the same arguments to the best texts only, equal to those of `decode` and much faster.
        scorer: prepares the gold of some examples once; the result scores any number of prediction files.
        selection: metric names whose sum selects the best checkpoint.
        defaults: training parameters by the name of their run configuration field.
        head: the answers beside spans that the model must score.
        transform: what the model reads instead of the published text, with the way back to its characters.
        options: names of the `TaskOptions` that `configure` understands.
        configure: returns the task with a user's choices made; its version names them if they can move a score.
        tune: finds the decoding options that score best on some logits (the arguments of decode, and a scorer).
        report: what else to say of predictions (text by id): JSON-able, with printable "lines".
        official: predictions (text by id) in the form that the task's official scorer reads, if not {id: text}.
        na_scorer: the metric that also reads each question's probability of having no answer, and a threshold on it.
        null_odds: how sure n-best predictions are of having no answer, by question id, the higher the surer.
        sources: where the data is published.
    """

    name: str
    version: str
    title: str
    read: Callable[[str | Path], tuple[list[Example], DataReport]]
    targets: Callable[[Example], tuple[Answer, ...]]
    decode: Callable[[Sequence[Example], FeatureSet, Iterable[Logits], DecodeOptions], dict[str, Prediction]]
    best_answers: Callable[[Sequence[Example], FeatureSet, Iterable[Logits], DecodeOptions], dict[str, str]]
    scorer: Callable[[Sequence[Example]], Scorer]
    selection: tuple[str, ...]
    defaults: Mapping[str, Any]
    head: HeadSpec = field(default_factory=HeadSpec)
    transform: TextTransform | None = None
    options: frozenset[str] = frozenset()
    configure: Callable[[TaskOptions], Task] | None = None
    tune: Callable[[Sequence[Example], FeatureSet, Sequence[Logits], DecodeOptions, Scorer], DecodeOptions] | None = (
        None
    )
    report: Callable[[Sequence[Example], Mapping[str, str]], dict[str, Any]] | None = None
    official: Callable[[Mapping[str, str]], Any] | None = None
    na_scorer: Callable[[Sequence[Example], Mapping[str, Any], Mapping[str, float], float], Score] | None = None
    null_odds: Callable[[Mapping[str, Prediction]], dict[str, float]] | None = None
    sources: tuple[Source, ...] = ()

    def score(self, examples: Sequence[Example], predictions: Mapping[str, Any]) -> Score:
        """Return the official score of predictions (id to text); `scorer` is cheaper when called repeatedly."""
        return self.scorer(examples)(predictions)
