"""The points of the loop at which methods attach."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from experiment.training.evaluation import Evaluation
    from experiment.training.mixture import Draw
    from experiment.training.seed import SeedRun


class GivenUp(Exception):  # noqa: N818 - it is no error
    """Raised at one of the points by a hook that ends the seed, and with it the run: its Record says so, and why."""


class Hook:
    """What is attached to the loop of one seed. Each point does nothing unless a subclass says otherwise.

    All processes of a run call all points, in the same order. What happens inside a step (after backward, after the
    update) is the framework's: attach one of its own `TrainerHook`s to `run.trainer`.
    """

    #: Whether it only looks on: it has no state and moves no number, so that a seed may go on with it or without it.
    looks_on = False

    def attach(self, run: SeedRun) -> None:
        """Model and trainer are built; no step is taken, and nothing is restored yet."""

    def begin(self, run: SeedRun) -> None:
        """All is as it was after the last step, and the next one comes: `run.progress.step` steps are done."""

    def before_step(self, run: SeedRun, draw: Draw) -> None:
        """These windows come next."""

    def after_step(self, run: SeedRun) -> None:
        """A step is taken and counted."""

    def evaluating(self, run: SeedRun) -> contextlib.AbstractContextManager[None]:
        """Return the context in which the model is evaluated and, if it is the best so far, saved."""
        return contextlib.nullcontext()

    def after_evaluation(self, run: SeedRun, evaluation: Evaluation) -> None:
        """The evaluation is in the Record, and the model is what it was before."""

    def end(self, run: SeedRun) -> None:
        """The loop ends: after the last step, or by an error or a signal."""

    def state_dict(self) -> dict[str, Any]:
        """Return what it needs to go on from here: nested dicts of numpy arrays and JSON values."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from the state of another one of its kind."""


#: What makes the hook of a seed; a class of hooks is one.
HookFactory = Callable[[], Hook]


def hook_states(hooks: Sequence[Hook]) -> dict[str, dict[str, Any]]:
    """Return each hook's state by its class's name, of two with a number; those that only look on have none."""
    return {name: hook.state_dict() for name, hook in _named(hooks).items()}


def restore_hooks(hooks: Sequence[Hook], saved: Mapping[str, Mapping[str, Any]]) -> None:
    """Give each hook its state back.

    Raises:
        ValueError: if the states are of other hooks.
    """
    named = _named(hooks)
    if named.keys() != saved.keys():
        raise ValueError(f"begun with the hooks {', '.join(saved)}, and to go on with {', '.join(named)}")
    for name, hook in named.items():
        hook.load_state_dict(saved[name])


def _named(hooks: Sequence[Hook]) -> dict[str, Hook]:
    named: dict[str, Hook] = {}
    for hook in (hook for hook in hooks if not hook.looks_on):
        name = type(hook).__name__
        named[name if name not in named else f"{name} {len(named)}"] = hook
    return named
