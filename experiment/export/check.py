"""The gate of an export: a real file answered by the model and by what was made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiment.answering import Prepared, outputs_of
from experiment.backend import Predictor
from experiment.export.forms import Form, predictor
from experiment.inputs.data import read_examples
from experiment.io.terminal import Bars
from preprocess.base.errors import CheckpointError
from preprocess.readers.report import DataReport
from preprocess.types import Example, FeatureSet, HeadSpec, Outputs
from tasks.core.prediction import Prediction

#: Outputs that differ by less, as those of other kernels do, compute the same.
_ROUNDING = 1e-3


@dataclass(frozen=True)
class Gate:
    """Questions that an exported model has to answer as the model does.

    Args:
        prepared: what they are answered with.
        examples: the questions.
        report: on their file.
    """

    prepared: Prepared
    examples: list[Example]
    report: DataReport

    @classmethod
    def of(cls, path: Path, limit: int | None, prepared: Prepared) -> Gate:
        """Read the first `limit` questions of a file, or all.

        Raises:
            DataError: if it can't be used.
        """
        return cls(prepared, *read_examples(prepared.task, path, limit))

    def compare(self, own: Predictor, form: Form, directory: Path, bars: Bars) -> dict[str, Any]:
        """Answer all questions with the model and with what was made of it.

        Args:
            own: the model itself.
            form: what was made of it,
            directory: and where that lies.
            bars: get one for each.

        Returns:
            what was compared, and by how much outputs differ, as JSON values.

        Raises:
            CheckpointError: naming the first question that is answered otherwise.
            DataError: if an output is not finite.
        """
        prepared = self.prepared
        problem, recipe = prepared.task.problem, prepared.recipe
        data = prepared.windows(self.examples, cached=False)
        exported = predictor(form, form.load(directory))
        ours = list(outputs_of(own, data, recipe, bars, "model"))
        theirs = list(outputs_of(exported, data, recipe, bars, "exported"))
        wanted, found = (problem.decode(data.examples, data.features, part, recipe.decode) for part in (ours, theirs))
        largest = _largest_difference(problem.head, data.features, ours, theirs)
        _refuse_differences(f"--check {self.report.file}", wanted, found, largest)
        return {
            "file": Path(self.report.file).name,
            "sha256": self.report.sha256,
            "task": prepared.task.name,
            "n_questions": len(wanted),
            "n_windows": len(data.features),
            "largest_difference": largest,
        }


def _largest_difference(
    head: HeadSpec, features: FeatureSet, ours: Sequence[Outputs], theirs: Sequence[Outputs]
) -> float:
    """Return by how much any value differs that is to be read: those of padding are not."""
    largest = 0.0
    for a, b in zip(ours, theirs, strict=True):
        assert np.array_equal(a.window, b.window), "batches come back in the order in which they were given"
        for output in head.outputs:
            difference = np.abs(a.values[output.name] - b.values[output.name])
            if output.per_token:
                position = np.arange(difference.shape[1])
                difference = difference[position < features.lengths[a.window][:, None]]
            largest = max(largest, float(difference.max()))
    return largest


def _refuse_differences(
    check: str, wanted: Mapping[str, Prediction], found: Mapping[str, Prediction], largest: float
) -> None:
    different = [id for id in wanted if _answer(wanted[id]) != _answer(found[id])]
    if not different:
        return
    model, exported = wanted[different[0]], found[different[0]]
    tie = ""
    if largest < _ROUNDING and abs(model.score - exported.score) <= 4 * largest:  # two outputs each, of two spans
        tie = "; both answers score the same but for rounding: leave such a question out of the file"
    raise CheckpointError(
        f"{check}: the exported model answers question {different[0]!r} with {_shown(exported)}, the model itself "
        f"with {_shown(model)} ({len(different)} of {len(wanted)} answers differ, outputs by at most {largest:.2g}); "
        f"nothing was written{tie}"
    )


def _answer(prediction: Prediction) -> tuple[Any, ...]:
    return prediction.kind, prediction.text, prediction.char_start, prediction.char_end, prediction.value


def _shown(prediction: Prediction) -> str:
    place = f" [{prediction.char_start}:{prediction.char_end}]" if prediction.char_start >= 0 else ""
    value = "" if prediction.value is None else f", {prediction.value}"
    return f"{prediction.text!r}{place}{value} (score {prediction.score:.6g})"
