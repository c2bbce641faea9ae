"""A set of questions -> what the page shows of it: calibration, thresholds, lengths, kinds and mistakes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiment.report.page.answers import QuestionSet, System
from experiment.report.page.curves import title_of
from experiment.report.page.groups import buckets, confusion, null_difference, threshold_curve
from experiment.report.page.mistakes import MISTAKES, UNANSWERED, Judgement, gold_kinds, judge, kind_of
from experiment.report.page.plots import Bars, Chart, Line
from tasks.core.prediction import name_of
from tasks.metrics.calibration import confidence, exact_of, reliability, risk_coverage, without_twin

Floats = NDArray[np.float64]
#: What a text is that names no class.
_NO_CLASS = "no class"


@dataclass(frozen=True)
class Grid:
    """A table: cells are text, the first of a row heads it.

    Args:
        header: titles.
        rows: as many cells each.
        shades: as many numbers each, 0-1, that colour the cells; none for no colours.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    shades: Sequence[Sequence[float]] = ()


class View:
    """One set of questions, judged."""

    def __init__(self, questions: QuestionSet, styles: Mapping[str, int]) -> None:
        """Judge every answer.

        Args:
            questions: with who answered them.
            styles: model -> number of its colour.
        """
        self.set = questions
        self.styles = styles
        self.title = f"{questions.task.title}, {questions.split}"
        self.kinds = questions.kinds
        #: That by which an answer is right or wrong.
        self.exact = exact_of(questions.metrics)
        self.judged = [JudgedSystem(system, questions, self.kinds, self.exact) for system in questions.systems]

    @cached_property
    def models(self) -> dict[str, list[JudgedSystem]]:
        """Model -> its seeds."""
        found: dict[str, list[JudgedSystem]] = {}
        for judged in self.judged:
            found.setdefault(judged.system.model, []).append(judged)
        return found

    @property
    def mistakes(self) -> Iterator[tuple[int, JudgedSystem, Mapping[str, int]]]:
        """Number of a system, the system, and how many of its answers are of each type."""
        for number, judged in enumerate(self.judged):
            yield number, judged, Counter(found.mistake for found in judged.judgements)

    @property
    def mistake_types(self) -> list[str]:
        """Those that occur, in their order."""
        there = {found.mistake for judged in self.judged for found in judged.judgements}
        return [name for name in MISTAKES if name in there]

    def calibration(self) -> tuple[list[Chart], Grid] | None:
        """Return the reliability diagram, risk against coverage, and a table; None where no probability is known."""
        diagonal, risks, rows = [], [], []
        for model, seeds in self.models.items():
            pairs = np.concatenate([judged.calibrated for judged in seeds])
            if not len(pairs):
                continue
            sure, right = pairs.T
            bins, curve = reliability(sure, right), risk_coverage(sure, right)
            filled, style = bins.n_questions > 0, self.styles.get(model, 0)
            diagonal.append(Line(model, bins.confidence[filled], bins.accuracy[filled], style, dots=True))
            risks.append(Line(model, 100 * curve.coverage, 100 * curve.risk, style))
            numbers = [100 * bins.error, 100 * sure.mean(), 100 * right.mean(), 100 * curve.area]
            rows.append([model, *(f"{number:.2f}" for number in numbers), str(len(pairs))])
        if not rows:
            return None
        exact = title_of(self.exact)
        charts = [
            Chart("Reliability", "confidence", f"share that is right ({exact})", diagonal, (0, 1), (0, 1), True),
            Chart(
                "Risk against coverage", "questions answered in %, the surest first", "wrong in %", risks, (0, 100)
            ),
        ]
        header = ["model", "ECE in %", "mean confidence in %", f"{exact} in %", "area under risk in %", "answers"]
        return charts, Grid(header, rows)

    def thresholds(self) -> tuple[Chart, Grid] | None:
        """Return the score by the threshold of the null answer; None of a task without one."""
        metric = self.set.metrics[0] if self.set.metrics else ""
        lines, marks, rows = [], [], []
        for model, seeds in self.models.items():
            for judged in seeds if self.kinds else ():
                curve = judged.null_curve(metric)
                if curve is None:
                    continue
                style, used = self.styles.get(model, 0), judged.system.threshold
                label = f"{model}, seed {judged.system.seed}"
                lines.append(Line(label, curve.threshold, 100 * curve.score, style))
                if used is not None:
                    marks.append((used, style))
                highest = f"{100 * curve.score.max():.2f}"
                rows.append([label, "-" if used is None else f"{used:.3f}", f"{curve.best:.3f}", highest])
        if not rows:
            return None
        every = np.concatenate([line.x for line in lines])
        ends = float(np.quantile(every, 0.005)), float(np.quantile(every, 0.995))
        ends = (min([ends[0], *(at for at, _ in marks)]) - 0.5, max([ends[1], *(at for at, _ in marks)]) + 0.5)
        inside = [_cut(line, ends) for line in lines]
        title = f"{title_of(metric)} by the threshold of “no answer”"
        chart = Chart(
            title, "null score − span score, in logits", f"{title_of(metric)} in %", inside, ends, marks=marks
        )
        return chart, Grid(["model", "threshold used", "best threshold here", f"{title_of(metric)} there"], rows)

    def lengths(self) -> Iterator[tuple[Bars, Grid]]:
        """Yield scores by length of question, context and answer, in characters."""
        if not self.set.metrics:
            return
        for what, lengths in _lengths(self.set):
            known = np.array([length is not None for length in lengths])
            if not known.any():
                continue
            numbers = np.array([length or 0 for length in lengths])
            found = buckets(numbers[known])
            groups = [known & bucket.holds(numbers) for bucket in found]
            series, rows = [], []
            for model, seeds in self.models.items():
                means = {
                    metric: [
                        float(np.mean([judged.metric(metric)[group] for judged in seeds])) * 100 for group in groups
                    ]
                    for metric in self.set.metrics
                }
                series.append((model, self.styles.get(model, 0), means[self.set.metrics[0]]))
                rows += [[f"{model}, {title_of(m)}", *(f"{v:.2f}" for v in values)] for m, values in means.items()]
            title = f"{title_of(self.set.metrics[0])} by length of {what}"
            names = [bucket.text for bucket in found]
            rows.append(["questions", *(str(int(group.sum())) for group in groups)])
            axis = f"characters of the {what}"
            bars = Bars(title, axis, f"{title_of(self.set.metrics[0])} in %", names, series)
            yield bars, Grid([axis, *names], rows)

    def confusions(self) -> Iterator[tuple[str, Grid]]:
        """Yield for each model the kinds of annotated answers (rows) against those of its answers, over its seeds.

        Of a task with classes, these.
        """
        if self.kinds:
            names = list(dict.fromkeys(["span", UNANSWERED, *self.kinds.values()]))
            gold = [gold_kinds(example.answers)[0] for example in self.set.examples]
            name = partial(kind_of, kinds=self.kinds)
        elif labels := self.set.labels:
            names, gold = [*labels, _NO_CLASS], [name_of(example.answers[0]) for example in self.set.examples]
            name = partial(_class_of, labels=labels)
        else:
            return
        for model, seeds in self.models.items():
            counts = np.zeros((len(names), len(names)), np.int64)
            for judged in seeds:
                answered = [(kind, text) for kind, text in zip(gold, judged.texts, strict=True) if text is not None]
                predicted = [name(text) for _, text in answered]
                counts += confusion([kind for kind, _ in answered], predicted, names)
            shades = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
            rows = [[name, *map(str, row)] for name, row in zip(names, counts.tolist(), strict=True)]
            yield model, Grid(["annotated ↓ answered →", *names], rows, shades.tolist())


@dataclass(frozen=True)
class JudgedSystem:
    """One seed's answers, judged; lists are in the order of the questions.

    Args:
        system: whose they are.
        questions: that they answer.
        kinds: text -> kind of the answers that are no spans.
        exact: name of the metric by which an answer is right.
    """

    system: System
    questions: QuestionSet
    kinds: Mapping[str, str]
    exact: str
    _metrics: dict[str, Floats] = field(default_factory=dict)

    @cached_property
    def texts(self) -> list[str | None]:
        """The answers; None for a question without a prediction."""
        return [self.system.answers.get(example.id) for example in self.questions.examples]

    def metric(self, name: str) -> Floats:
        """Return a metric of each question, 0-1; 0 where there is no score."""
        if name not in self._metrics:
            scores = [self.system.scores.get(example.id, {}).get(name, 0.0) for example in self.questions.examples]
            self._metrics[name] = np.array(scores, float)
        return self._metrics[name]

    @cached_property
    def judgements(self) -> list[Judgement]:
        """What is wrong with each."""
        triples = zip(self.questions.examples, self.texts, self.metric(self.exact), strict=True)
        return [judge(text, e.answers, e.context, exact, self.kinds) for e, text, exact in triples]

    @cached_property
    def nbest(self) -> list[list[Mapping[str, Any]]]:
        """The n-best lists, in which the null answer stands once; empty where there is none."""
        return [
            without_twin(self.system.nbest.get(example.id, ()), self.kinds) for example in self.questions.examples
        ]

    @cached_property
    def confidence(self) -> Floats:
        """Probability of each answer; NaN where it is not known."""
        pairs = zip(self.nbest, self.texts, strict=True)
        return np.array([float("nan") if text is None else confidence(nbest, text) for nbest, text in pairs])

    @property
    def calibrated(self) -> Floats:
        """Confidence, and whether it is right, of the answers whose confidence is known, [n, 2]."""
        known = np.isfinite(self.confidence)
        return np.stack([self.confidence[known], self.metric(self.exact)[known]], axis=1)

    def null_curve(self, metric: str) -> Any:
        """Return the metric by the threshold of the null answer; None where the n-best lists don't say."""
        found = [
            null_difference(self.system.nbest.get(example.id, ()), self.kinds) for example in self.questions.examples
        ]
        if not metric or any(item is None for item in found):
            return None
        ids = [example.id for example in self.questions.examples]
        items = [item for item in found if item is not None]
        scorer = self.questions.task.scorer(self.questions.examples)
        null, span = (
            scorer({id: item[place] for id, item in zip(ids, items, strict=True)}).per_example for place in (1, 2)
        )
        differences = np.array([item[0] for item in items])
        if not np.isfinite(differences).any():
            return None
        of_spans, of_nulls = (np.array([scores[id][metric] for id in ids]) for scores in (span, null))
        return threshold_curve(differences, of_spans, of_nulls)


def _class_of(text: str, labels: Sequence[str]) -> str:
    return text if text in labels else _NO_CLASS


def _cut(line: Line, ends: tuple[float, float]) -> Line:
    inside = (line.x >= ends[0]) & (line.x <= ends[1])
    return Line(line.label, line.x[inside], line.y[inside], line.style)


def _lengths(questions: QuestionSet) -> Iterator[tuple[str, list[int | None]]]:
    if "question" in questions.task.inputs:
        yield "question", [len(example.question) for example in questions.examples]
    yield "context", [len(example.context) for example in questions.examples]
    first = [next((a for a in example.answers if a.kind == "span"), None) for example in questions.examples]
    yield "answer", [len(answer.text) if answer is not None else None for answer in first]
