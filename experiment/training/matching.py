"""A teacher whose hidden states a student is to have: both read the same windows, piece by piece."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from experiment.backend import Backend
from experiment.inputs.model import ModelSource, check_limits
from experiment.options.recipe import TrainRecipe
from experiment.training.teachers import Teacher
from preprocess.base.errors import UsageError
from preprocess.base.methods import STATE_SHARES, STATES
from preprocess.types import Batch
from pretrained_configs.checkpoint import Checkpoint


@dataclass(frozen=True, eq=False)
class HiddenStates:
    """A teacher in memory, which computes its hidden states of each batch as it comes.

    Args:
        backend: the framework.
        model: of the backend.
        width: of a state.
    """

    backend: Backend
    model: Any
    width: int

    def added_to(self, batch: Batch, n_tokens: int) -> Batch:
        """Return a batch with the teacher's last hidden states among its soft targets.

        Args:
            batch: windows of a step.
            n_tokens: real tokens of all windows of the step, over which the mean is taken.
        """
        shares = (batch.inputs["attention_mask"] / n_tokens).astype(np.float32)
        states = self.backend.last_states(self.model, batch)
        return replace(batch, soft={**batch.soft, STATES: states, STATE_SHARES: shares})


def check_matching(teachers: Sequence[Teacher], recipe: TrainRecipe, source: ModelSource) -> None:
    """Refuse to match hidden states where it can't be, before any weights are read.

    Args:
        teachers: of the student.
        recipe: of the student.
        source: its architecture and tokenizer.

    Raises:
        UsageError: saying what is missing.
    """
    if not recipe.distill_hidden:
        return
    if len(teachers) != 1:
        raise UsageError(f"--distill_hidden: matches the states of one --teacher, and {len(teachers)} are given")
    (teacher,) = teachers
    own = teacher.prepared.source
    if own.tokenizer.fingerprint != source.tokenizer.fingerprint or own.template != source.template:
        raise UsageError(
            f"--distill_hidden: --teacher {teacher.name} has another tokenizer or layout of windows than the "
            "student, and so no state for each of its pieces; leave it out, or give another teacher"
        )
    read = replace(teacher.prepared.recipe, max_seq_length=recipe.max_seq_length)
    check_limits(read, own.name, own.config, own.published)


def load_states(teacher: Teacher, backend: Backend, device: str) -> HiddenStates:
    """Read a teacher's weights, to stay in memory beside the student.

    Raises:
        CheckpointError: if they can't be used.
    """
    prepared = teacher.prepared
    assert isinstance(prepared.model, Checkpoint), "what was exported is no teacher"
    model, _ = backend.load_model(prepared.model, prepared.task.problem.head, device=device, fresh_head=False)
    return HiddenStates(backend, model, prepared.source.config.hidden_size)
