"""A fine-tuned model, loaded once, that answers any number of questions, from any number of threads."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np

from experiment.answering import Prepared, find, outputs_of, prepare
from experiment.backend import PACKAGES, Predictor
from experiment.inputs.data import Data, read_examples, scorer_of
from experiment.inputs.settings import read_settings, trained_task
from experiment.io.terminal import Bars, terminal
from experiment.options.arguments import from_values
from experiment.options.flags import PredictOptions
from experiment.options.reading import ReadingOptions
from experiment.reading.calibration import Calibration, calibration_of
from experiment.reading.engines import load_predictor, release
from experiment.reading.results import Question, Result, pooled, result_of, windows_read
from experiment.training.finished import best_seed, is_run, trained_by
from preprocess.base.errors import DataError, UsageError
from preprocess.text.offsets import is_unicode
from preprocess.types import Batch, Example, Outputs
from tasks.core.confidence import Temperature, calibrated
from tasks.core.prediction import Prediction
from tasks.core.problem import Gathers

_PRECISIONS = ("fp32", "bf16", "fp16")


@dataclass(frozen=True)
class Asked:
    """Questions that have become windows.

    Args:
        questions: Q questions.
        cut: of each, whether it is too long.
        data: their windows; an example for each document of each question, in order.
    """

    questions: tuple[Question, ...]
    cut: tuple[bool, ...]
    data: Data


class Reader:
    """A fine-tuned model in memory.

    As a context manager it gives the memory back at the end of the block. Threads may share it: they read texts at
    the same time, and take turns at the model, batch by batch.

    Args:
        prepared: what it answers with.
        predict: runs the model; None reads the weights now.
        temperature: of the confidence; None for the one that the checkpoint was calibrated to, else 1.
    """

    def __init__(
        self, prepared: Prepared, predict: Predictor | None = None, temperature: float | None = None
    ) -> None:
        """Read the weights.

        Raises:
            UsageError, CheckpointError: for a device or weights that can't be used, and a temperature where
                answers have no probability.
        """
        self.prepared = prepared
        self._gathers = isinstance(prepared.task.problem, Gathers)
        if temperature is not None:
            self._refuse_gathered("temperature: ")
        path = Path(prepared.options.model_name_or_path)
        self.name = path.name if is_run(path) else prepared.source.name
        self.temperature: Temperature = prepared.temperature if temperature is None else temperature
        self._predict: Predictor | None = load_predictor(prepared) if predict is None else predict
        self._turn = threading.Lock()

    @classmethod
    def load(
        cls,
        path_or_run: str | Path,
        *,
        task: str | None = None,
        framework: str | None = None,
        device: str = "auto",
        precision: str = "fp32",
        temperature: float | None = None,
        **options: Any,
    ) -> Reader:
        """Load a fine-tuned model.

        Args:
            path_or_run: run directory, whose best seed on dev answers; checkpoint of either framework (directory,
                weights file, hub id or short name); or what `export` has written.
            task: name of the task; None for the one that the model was fine-tuned for here.
            framework: "pytorch", "tensorflow", or on the CPU "onnx" (onnxruntime) or "openvino";
                None for the framework that trained the run, and PyTorch for a single checkpoint. Of what was
                exported ONNX alone has a choice, between the last two.
            device: "auto" (the first GPU, else the CPU), "cpu" or "cuda:N".
            precision: "fp32", "bf16" or "fp16".
            temperature: of the confidence, above 0; None for the one that the checkpoint was calibrated to, else 1.
            **options: others of `predict` by name, such as max_seq_length or null_score_diff_threshold; what is left
                out is as in the fine-tuning.

        Raises:
            UsageError, DataError, CheckpointError: for options and files that can't be used; one line each.
        """
        if precision not in _PRECISIONS:
            raise UsageError(f"precision {precision!r}: one of {', '.join(_PRECISIONS)} was expected")
        values = {**options, "bf16": precision == "bf16", "fp16": precision == "fp16", "temperature": temperature}
        values |= {"model_name_or_path": str(path_or_run), "task": task, "framework": framework, "device": device}
        return cls.of(from_values(values, ReadingOptions))

    @classmethod
    def of(cls, options: ReadingOptions) -> Reader:
        """Load a fine-tuned model, as `load`, from options."""
        return cls(prepared_of(options), temperature=options.temperature)

    @property
    def task(self) -> str:
        """The task whose questions it answers."""
        return self.prepared.task.name

    @property
    def notes(self) -> Sequence[str]:
        """Lines about what differs from the fine-tuning, or may be wrong."""
        return self.prepared.notes

    def answer(
        self,
        question: str,
        context: str | Sequence[str],
        *,
        options: Sequence[str] = (),
        n_best: int = 5,
        min_confidence: float = 0.0,
    ) -> Result:
        """Answer a question.

        Args:
            question: the question; "" for tasks without one.
            context: the text that answers it, of any length; or several, which compete.
            options: the answers to choose from, for tasks with such.
            n_best: alternatives that are listed, at least 1.
            min_confidence: 0-1; where the best answer is less sure, there is none.

        Raises:
            UsageError: for texts that are no text, several documents for a task that finds no place in one, and
                options that the task chooses among where there are none, or that it does not choose among.
            DataError: where a task finds nothing that it could answer, such as no blank.
        """
        asked = Question(question, context, options)
        return self.answer_many([asked], n_best=n_best, min_confidence=min_confidence)[0]

    def answer_many(
        self,
        questions: Iterable[Question | tuple[str, str | Sequence[str]]],
        *,
        n_best: int = 5,
        min_confidence: float = 0.0,
    ) -> list[Result]:
        """Answer questions, in their order; windows of all of them share batches. See `answer`.

        Args:
            questions: each with its text, as a `Question` or as (question, context).
            n_best: alternatives that are listed.
            min_confidence: below it there is no answer.
        """
        asked = self.encode([each if isinstance(each, Question) else Question(*each) for each in questions])
        if not asked.questions:
            return []
        return self.decode(asked, self.outputs(asked.data), n_best=n_best, min_confidence=min_confidence)

    def predict(self, examples: Sequence[Example], *, bars: Bars | None = None) -> dict[str, Prediction]:
        """Return the answers to the questions of a data set, with their n-best lists, by question id.

        Args:
            examples: questions, whose ids differ.
            bars: show how far it is.
        """
        return self.predict_windows(self.prepared.windows(examples, cached=False), bars) if examples else {}

    def predict_windows(self, data: Data, bars: Bars | None = None) -> dict[str, Prediction]:
        """Return the answers to the questions of windows, as `predict`."""
        return calibrated(self.prepared.decode(data, self.outputs(data, bars)), self.temperature)

    def calibrate(
        self, data_file: str | Path, max_samples: int | None = None, *, seed: int = 0, bars: Bars | None = None
    ) -> Calibration:
        """Find the temperature at which confidence is the share of right answers, and use it from now on.

        Args:
            data_file: questions with answers, in the task's layout, that the model has not learned from. The
                temperature is found on one half of its texts and tried on the other.
            max_samples: use only the first so many questions.
            seed: of the draw of the half.
            bars: show how far it is.

        Raises:
            UsageError: if the task's answers have no probability.
            DataError: if the file can't be used.
        """
        task = self.prepared.task
        self._refuse_gathered()
        examples, report = read_examples(task, Path(data_file), max_samples)
        if not examples:
            raise DataError(f"{data_file}: holds no question; give a file with questions")
        scorer = scorer_of(task, examples, report)
        data = self.prepared.windows(examples, cached=False)
        predictions = self.prepared.decode(data, self.outputs(data, bars))
        scores = scorer({id: task.answer(each) for id, each in predictions.items()}).per_example
        try:
            found = replace(calibration_of(examples, predictions, scores, seed), data_sha256=report.sha256)
        except DataError as error:
            raise DataError(f"{data_file}: {error}") from None
        self.temperature = found.scale
        return found

    def encode(self, questions: Sequence[Question]) -> Asked:
        """Cut questions and their texts into windows; the model is not needed yet. See `answer` for errors."""
        for number, each in enumerate(questions):
            self._check(each, f"question {number}: " if len(questions) > 1 else "")
        pairs = [(n, d, text) for n, each in enumerate(questions) for d, text in enumerate(each.documents)]
        # The number of a question is its id, as messages name it; nobody else sees it.
        examples = [
            Example(f"{n}.{d}" if d else str(n), questions[n].question, text, options=tuple(questions[n].options))
            for n, d, text in pairs
        ]
        data = self.prepared.windows(examples, cached=False)
        return Asked(tuple(questions), self._cut(questions, data), data)

    def decode(
        self, asked: Asked, outputs: Iterable[Outputs], *, n_best: int = 5, min_confidence: float = 0.0
    ) -> list[Result]:
        """Return the answers to questions, given what the model says of all their windows."""
        numbers = isinstance(n_best, Integral) and isinstance(min_confidence, Real)
        if not numbers or n_best < 1 or not 0 <= min_confidence <= 1:
            raise UsageError(
                f"n_best {n_best!r} must be a whole number from 1, and min_confidence {min_confidence!r} from 0 to 1"
            )
        predictions = iter(self.prepared.decode(asked.data, outputs).values())
        results, example = [], 0
        for question, cut in zip(asked.questions, asked.cut, strict=True):
            places = range(example, example + len(question.documents))
            own = [next(predictions) for _ in places]
            windows = [w for d, place in enumerate(places) for w in windows_read(asked.data.features, place, d)]
            answer = pooled(own, self.prepared.recipe.decode)
            results.append(
                result_of(
                    question,
                    answer,
                    windows,
                    question_cut=cut,
                    n_best=n_best,
                    min_confidence=min_confidence,
                    temperature=self.temperature,
                    gathers=self._gathers,
                )
            )
            example = places.stop
        return results

    def outputs(self, data: Data, bars: Bars | None = None, description: str = "windows") -> Iterator[Outputs]:
        """Yield what the model says of all windows, with a progress bar if wanted."""
        bars = bars or Bars(terminal(quiet=True))
        return outputs_of(self.run, data, self.prepared.recipe, bars, description)

    def run(self, batches: Iterable[Batch]) -> Iterator[Outputs]:
        """Yield what the model says of each batch, in order.

        Raises:
            UsageError: after `close`.
        """
        for batch in batches:
            with self._turn:
                if self._predict is None:
                    raise UsageError("this reader is closed; load the model again")
                outputs = list(self._predict([batch]))
            yield from outputs

    def close(self) -> None:
        """Give the model's memory back; who asks afterwards gets an error. A second time does nothing."""
        with self._turn:
            self._predict = None
        gc.collect()
        release(self.prepared)

    def __enter__(self) -> Reader:
        """Return itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close it."""
        self.close()

    def _refuse_gathered(self, where: str = "") -> None:
        if self._gathers:
            raise UsageError(f"{where}task {self.task}: an answer is all that was found, which has no probability")

    def _check(self, question: Question, where: str) -> None:
        for name, given in (("context", question.context), ("options", question.options)):
            if not isinstance(given, Sequence) or name == "options" and isinstance(given, str):
                raise UsageError(f"{where}{name}: texts were expected, found {type(given).__name__}")
        named = [("question", question.question), *(("option", option) for option in question.options)]
        for name, text in [*named, *(("context", text) for text in question.documents)]:
            if not isinstance(text, str):
                raise UsageError(f"{where}{name}: a text was expected, found {type(text).__name__}")
            if not is_unicode(text):
                raise UsageError(f"{where}{name}: a text in UTF-8 was expected, found half of a character")
        if not question.documents:
            raise UsageError(f"{where}context: a text or several were expected, found none")
        losses = {output.loss for output in self.prepared.task.problem.head.outputs}
        if len(question.documents) > 1 and "position" not in losses:
            raise UsageError(f"{where}context: task {self.task} finds no place in a text; give one text, not several")
        if question.options and "choice" not in losses:
            raise UsageError(f"{where}options: task {self.task} does not choose among options; leave them out")
        if not question.options and "choice" in losses:
            raise UsageError(f"{where}options: task {self.task} chooses among options; give them")

    def _cut(self, questions: Sequence[Question], data: Data) -> tuple[bool, ...]:
        """Tell which questions are longer than windows have room for."""
        if not data.features.meta["counts"]["query_truncated"]:
            return (False,) * len(questions)
        texts = [each.question for each in questions]
        if (transform := self.prepared.task.transform) is not None:
            texts = [transform(text).text for text in texts]
        lengths = np.diff(self.prepared.source.tokenizer.encode(texts).splits)
        return tuple((lengths > self.prepared.recipe.max_query_length).tolist())


def prepared_of(options: ReadingOptions) -> Prepared:
    """Find out what a model answers with, where task and framework may be left out.

    Raises:
        UsageError, DataError, CheckpointError: for options and files that can't be used.
    """
    name = options.model_name_or_path
    model = find(name, options.hidden_act, options.task)
    task = options.task or trained_task(read_settings(model.directory), name)
    framework = options.framework or _framework_of(Path(name))
    return prepare(PredictOptions(**{**_shared(options), "task": task, "framework": framework}), model)


def _shared(options: ReadingOptions) -> Mapping[str, Any]:
    """Return the values of options that `predict` has, too."""
    names = {field.name for field in fields(PredictOptions)}
    return {field.name: getattr(options, field.name) for field in fields(options) if field.name in names}


def _framework_of(path: Path) -> str:
    return trained_by(path, best_seed(path)).framework if is_run(path) else next(iter(PACKAGES))
