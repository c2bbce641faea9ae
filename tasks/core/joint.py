"""One head for several tasks: each has its own outputs in it, whose names begin with the task's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from preprocess.types import NO_TARGET, Batch, HeadSpec, Output, Outputs

#: Between a task's name and that of an output or projection: no name of a task has it, and parameters may.
_SEPARATOR = "-"


def shared_name(task: str, name: str) -> str:
    """Return what a task's output or projection is called in a head that several tasks share."""
    return f"{task}{_SEPARATOR}{name}"


@dataclass(frozen=True)
class SharedHead:
    """The head of a model that answers for one task or several; that of one is the task's own.

    Args:
        heads: task -> the head that its problem asks for; at least one.
        dropout: of what is read by outputs that drop some of it.
    """

    heads: Mapping[str, HeadSpec]
    dropout: float = 0.0

    @cached_property
    def spec(self) -> HeadSpec:
        """What the model has to say in all."""
        if not self._is_shared:
            (own,) = self.heads.values()
            return own if own.dropout == self.dropout else replace(own, dropout=self.dropout)
        outputs = tuple(_renamed(task, output) for task, head in self.heads.items() for output in head.outputs)
        return HeadSpec(outputs, dropout=self.dropout)

    def projections(self, task: str) -> dict[str, str]:
        """Return what a task's projections are called here, by their own names."""
        return {name: self._name(task, name) for name in self.heads[task].rows}

    def batch(self, task: str, batch: Batch) -> Batch:
        """Return a task's batch as the shared head learns from it: no other task's output has a target in it."""
        if not self._is_shared:
            return batch
        own = {self._name(task, name): column for name, column in batch.targets.items()}
        targets = {o.name: own.get(o.name, _nothing(batch, o)) for o in self.spec.outputs}
        inputs = batch.inputs
        if self.spec.answer_mask and "answer_mask" not in inputs:  # of a task that lets answers be anywhere
            inputs = {**inputs, "answer_mask": inputs["attention_mask"]}
        return replace(batch, inputs=inputs, targets=targets)

    def outputs(self, task: str, outputs: Outputs) -> Outputs:
        """Return what a task's problem reads of the outputs of the shared head, by its own names."""
        if not self._is_shared:
            return outputs
        values = {output.name: outputs.values[self._name(task, output.name)] for output in self.heads[task].outputs}
        return Outputs(outputs.window, values)

    @property
    def _is_shared(self) -> bool:
        return len(self.heads) > 1

    def _name(self, task: str, name: str) -> str:
        return shared_name(task, name) if self._is_shared else name


def _renamed(task: str, output: Output) -> Output:
    given = shared_name(task, output.given) if output.given else ""
    projection = shared_name(task, output.projection)
    return replace(output, name=shared_name(task, output.name), projection=projection, given=given)


def _nothing(batch: Batch, output: Output) -> NDArray[np.int32]:
    """Return a column without a target.

    A column there must be: its loss is then 0 and so are the gradients, in both frameworks and on all devices, where
    an output without a column would have none in PyTorch and break the fixed signature of TensorFlow's step.
    """
    shape = batch.inputs["input_ids"].shape if output.loss == "tag" else (len(batch),)
    # Of a choice, a window without a target would belong to the option of the window before.
    return np.full(shape, 0 if output.loss == "choice" else NO_TARGET, np.int32)
