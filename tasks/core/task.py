"""What a task is: a data set's problem, reader, targets and official metric, as one value."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

from preprocess.readers.parts import Parts, json_parts
from preprocess.readers.report import DataReport
from preprocess.text.offsets import TextTransform
from preprocess.types import Example
from tasks.core.prediction import Prediction, Score, Scorer
from tasks.core.problem import Problem
from tasks.core.recipe import PUBLISHED_RECIPE as PUBLISHED_RECIPE


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOptions:
    """What a user may choose about a task; None leaves the task's own choice. A task names those it knows.

    Args:
        opencc_config: OpenCC configuration (such as "t2s") that the model's text is converted by; "none" for no
            conversion.
        answer_policy: which of several annotated answers are trained on: "first", "majority" or "all".
        assignment: how candidates are given to the blanks of a passage: to each its best ("independent"), or each
            candidate to one blank, so that all together are likeliest ("one_to_one").
    """

    opencc_config: str | None = None
    answer_policy: str | None = None
    assignment: str | None = None


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


_TEXT = attrgetter("text")


@dataclass(frozen=True)
class Task:
    """A data set's problem, reader, targets and official metric, as one value.

    Args:
        name: the name users type; also the name of the task's module.
        version: changes whenever a change here can move a score.
        title: the data set's name in tables.
        read: path of a published file to (examples, report); raises `DataError`.
        problem: the kind of answer that it asks for.
        targets: what an example is trained on, as its problem takes it (answers, for spans), one copy of the example
            each; the first labels it in evaluation; empty where nothing can be trained on.
        scorer: prepares the gold of some examples once; the result scores any number of prediction files.
        selection: metric names whose sum selects the best checkpoint.
        defaults: training parameters by the names of their options.
        conditioned: its problem for models whose authors' head for it reads the end of a span given its start, by
            how many starts and how many ends of each are searched; None where `problem` is for all models.
        transform: what the model reads instead of the published text, with the way back to its characters.
        options: names of the `TaskOptions` that `configure` understands.
        configure: returns the task with a user's choices made; its version names them if they can move a score.
        report: what else to say of predictions (text by id): JSON-able, with printable "lines".
        official: predictions (answer by id) of examples in the form that the task's official scorer reads, if not
            {id: answer}.
        from_official: the way back, from what stands in a file of JSON to answers by id; what has another form comes
            back as it is.
        na_scorer: the metric that also reads each question's probability of having no answer, and a threshold on it.
        null_odds: how sure n-best predictions are of having no answer, by question id, the higher the surer.
        sources: where the data is published.
        inputs: which texts of an `Example` ask something: "question" and "context", or one of them; `predict` takes
            them as options, and a task with others is only given files.
        answer: what a file of predictions holds of one, and the metric reads: its text, if nothing else is said.
        takes: whether a value of a file of predictions is an answer, where `answer` is more than a text; texts (and
            numbers) are answers to any task.
        parts: content and path of a data file to what `split` divides; raises `DataError`.
        pipeline: what the hub calls the kind of task.
        language: of the texts, as ISO 639-1 names it.
        hub_dataset: the data set on the hub, "owner/name"; "" where its publisher has not put it there.
    """

    name: str
    version: str
    title: str
    read: Callable[[str | Path], tuple[list[Example], DataReport]]
    problem: Problem
    targets: Callable[[Example], tuple[Any, ...]]
    scorer: Callable[[Sequence[Example]], Scorer]
    selection: tuple[str, ...]
    defaults: Mapping[str, Any]
    conditioned: Callable[[int, int], Problem] | None = None
    transform: TextTransform | None = None
    options: frozenset[str] = frozenset()
    configure: Callable[[TaskOptions], Task] | None = None
    report: Callable[[Sequence[Example], Mapping[str, str]], dict[str, Any]] | None = None
    official: Callable[[Sequence[Example], Mapping[str, Any]], Any] | None = None
    from_official: Callable[[Sequence[Example], Any], Any] | None = None
    na_scorer: Callable[[Sequence[Example], Mapping[str, Any], Mapping[str, float], float], Score] | None = None
    null_odds: Callable[[Mapping[str, Prediction]], dict[str, float]] | None = None
    sources: tuple[Source, ...] = ()
    inputs: tuple[str, ...] = ("question", "context")
    answer: Callable[[Prediction], Any] = _TEXT
    takes: Callable[[Any], bool] | None = None
    parts: Callable[[bytes, str | Path], Parts] = json_parts
    pipeline: str = "question-answering"
    language: str = "zh"
    hub_dataset: str = ""

    @property
    def answers_with_text(self) -> bool:
        """Whether what the metric reads of a prediction is its text."""
        return self.answer is _TEXT

    def split_of(self, sha256: str) -> str:
        """Return which split's published file has this SHA-256; "" for none."""
        return next((source.split for source in self.sources if sha256 and source.sha256 == sha256), "")

    def score(self, examples: Sequence[Example], predictions: Mapping[str, Any]) -> Score:
        """Return the official score of predictions (id to text); `scorer` is cheaper when called repeatedly."""
        return self.scorer(examples)(predictions)
