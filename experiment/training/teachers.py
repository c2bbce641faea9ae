"""Teachers: fine-tuned models whose outputs a student learns from, computed once and kept."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np

from experiment.answering import Prepared, prepare
from experiment.backend import Group, by_first
from experiment.export.bundle import Bundle
from experiment.inputs.data import Data, encode
from experiment.inputs.splits import Split
from experiment.io.terminal import Bars, terminal
from experiment.options.flags import PredictOptions, TrainOptions
from experiment.reading.reader import Reader
from preprocess.base.errors import DataError, UsageError
from preprocess.base.files import replacing
from preprocess.cache import cache_key
from preprocess.types import NO_TARGET, Example
from tasks.core.task import Task
from tasks.problems.kinds import KindProblem
from tasks.problems.soft_targets import Opinion, kind_names, opinion, soft_targets
from tasks.problems.span import SpanProblem

_LOG = logging.getLogger(__name__)
#: Changes whenever the same teacher is to say something else of the same questions, or in another form.
_VERSION = "1"
_DEPENDING = "the ends of spans depend on their starts, and have no probabilities of their own"


@dataclass(frozen=True)
class Teacher:
    """A fine-tuned model that answers the student's task.

    Args:
        name: as it was typed.
        prepared: what it answers with.
        problem: of both.
    """

    name: str
    prepared: Prepared
    problem: SpanProblem | KindProblem

    @property
    def sha256(self) -> str:
        """Hash of its checkpoint."""
        return self.prepared.source.checkpoint_sha256

    def opinion(self, examples: Sequence[Example], cache: Path | None, group: Group, bars: Bars) -> Opinion:
        """Return what it says of some questions; all processes of the group have to ask.

        Args:
            examples: the questions.
            cache: directory of features, which keeps this, too; None to compute it anew.
            group: the processes that train the student.
            bars: show how far it is.

        Raises:
            UsageError, CheckpointError, DataError: if its weights can't be used.
        """
        file = None if cache is None else cache.expanduser() / f"teacher-{self._key(examples)}.npz"
        kept = by_first(group, lambda: None if file is None else _read(file))
        if kept is not None:
            return kept
        prepared = self.prepared
        nothing = [None] * len(examples)
        texts = prepared.task, list(examples), nothing, prepared.source.tokenizer
        data = encode(*texts, prepared.recipe, cache, template=prepared.source.template)
        with Reader(prepared) as reader:
            try:
                outputs = reader.outputs(data, bars, f"teacher {reader.name}")
                found = opinion(self.problem, len(examples), data.features, outputs)
            except DataError as error:
                raise DataError(f"--teacher {self.name}: {error}") from None
        if file is not None:
            by_first(group, lambda: _write(file, found))
        return found

    def _key(self, examples: Sequence[Example]) -> str:
        """Return the hash (32 hex digits) of all that it says depends on."""
        prepared = self.prepared
        task, source, recipe = prepared.task, prepared.source, prepared.recipe
        windows = cache_key(
            task.problem,
            examples,
            [None] * len(examples),
            source.tokenizer,
            transform=task.transform,
            template=source.template,
            **recipe.windows,
        )
        facts = [_VERSION, windows, self.sha256, source.config.architecture, prepared.options.framework]
        return hashlib.blake2b(
            json.dumps([*facts, recipe.precision], sort_keys=True).encode(), digest_size=16
        ).hexdigest()


def find_teachers(options: TrainOptions, tasks: Sequence[Task]) -> tuple[list[Teacher], list[str]]:
    """Find the teachers that options name, before their weights are read; returns lines on them, too.

    They compute in the framework of the student, and in float32.

    Args:
        options: as typed.
        tasks: of the student.

    Raises:
        UsageError, CheckpointError: for what can't teach this task.
    """
    found: list[Teacher] = []
    lines: list[str] = []
    if not options.teacher:
        return found, lines
    if len(tasks) > 1:
        raise UsageError(f"--teacher: has one task, and {len(tasks)} are to be learned; give one --task")
    if options.label_smoothing:
        raise UsageError(
            "--label_smoothing and --teacher both given: a teacher spreads targets itself; leave one out"
        )
    (task,) = tasks
    if not isinstance(task.problem, SpanProblem | KindProblem):
        raise UsageError(f"--teacher: the answers of task {task.name} are no spans, and others can't be taught")
    if task.problem.head.given:
        raise UsageError(f"--teacher: of the student {_DEPENDING}; give another model")
    for name in options.teacher:
        prepared = prepare(_asked(options, name))
        if isinstance(prepared.model, Bundle):
            raise UsageError(f"--teacher {name}: is an exported model; give the checkpoint that it was made from")
        problem = prepared.task.problem
        assert isinstance(problem, SpanProblem | KindProblem), "of one task"
        if problem.head.given:
            raise UsageError(f"--teacher {name}: of this one {_DEPENDING}; give another")
        found.append(Teacher(name, prepared, problem))
        lines += [f"--teacher {name}: {note}" for note in prepared.notes]
    if len({teacher.sha256 for teacher in found}) < len(found):
        raise UsageError("--teacher: a checkpoint stands there twice, and would count twice; give each once")
    return found, lines


def _asked(options: TrainOptions, name: str) -> PredictOptions:
    """Return the options of `predict` for a teacher: what can be left out is as in its own fine-tuning."""
    shared = ("task", "version_2_with_negative", "framework", "device", "feature_cache_dir")
    return PredictOptions(model_name_or_path=name, **{field: getattr(options, field) for field in shared})


def hashes_of_teachers(teachers: Sequence[Teacher]) -> dict[str, str]:
    """Return the hashes of teachers as a Record holds them, by their number."""
    return {f"teacher_{number}": teacher.sha256 for number, teacher in enumerate(teachers, 1)}


def teach_all(teachers: Sequence[Teacher], options: TrainOptions) -> bool:
    """Whether all questions are learned from, those without an annotated answer, too."""
    return bool(teachers) and options.distill_weight > 0


def taught(data: Data, split: Split, teachers: Sequence[Teacher], options: TrainOptions, group: Group) -> Data:
    """Return training windows with what teachers say of them.

    Args:
        data: the student's windows.
        split: the questions that they are of, with their targets; None is learned from the teachers alone.
        teachers: at least one.
        options: of the student.
        group: the processes that train it, all of which have to call this.
    """
    distinct = {example.id: example for example in split.examples}
    number = {id: i for i, id in enumerate(distinct)}
    question = np.array([number[example.id] for example in split.examples])
    cache = options.feature_cache_dir
    with Bars(terminal(quiet=group.rank > 0)) as bars:
        opinions = [teacher.opinion(list(distinct.values()), cache, group, bars) for teacher in teachers]
    features, temperature = data.features, options.distill_temperature
    soft = soft_targets(features, question, opinions, temperature, kind_names(teachers[0].problem))
    without = np.array([target is None for target in split.targets])[features.example_index]
    hard = {
        name: np.where(without, NO_TARGET, column).astype(column.dtype) for name, column in features.targets.items()
    }
    return replace(data, features=replace(features, targets=hard, soft=soft))


def _read(file: Path) -> Opinion | None:
    """Return what is kept in a file; None if there is none, or it is damaged."""
    if not file.is_file():
        return None
    try:
        with np.load(file, allow_pickle=False) as columns:
            found = Opinion(**{field.name: columns[field.name] for field in fields(Opinion)})
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        _LOG.warning("%s: what a teacher said is damaged (%s); it is asked again", file, error)
        return None
    with contextlib.suppress(OSError):  # of a cache that is only read, nobody needs to know what was used
        os.utime(file)
    return found


def _write(file: Path, found: Opinion) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as stream:
            np.savez(stream, **{field.name: getattr(found, field.name) for field in fields(Opinion)})
    except OSError as error:
        _LOG.warning("what a teacher said can't be kept in %s (%s)", file.parent, error)
