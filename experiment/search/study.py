"""The study: what has been tried and what came of it, in a file that several workers share."""

from __future__ import annotations

import contextlib
import random
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiment.options.searching import SearchOptions
from experiment.search.space import Space
from preprocess.base.errors import UsageError
from preprocess.base.files import locked

#: In the directory of a search: the files of the study, and an empty directory per trial that its worker holds.
_STORAGE, _CLAIMS = "storage", "claims"
_NAME = "search"
#: Trials, if nobody says how many.
_N_TRIALS = 12
#: Seconds that a worker waits for others to have written into SQLite's file.
_PATIENCE_S = 120
#: What must not change while a search goes on.
_FIXED = "what is searched"


def import_optuna() -> Any:
    """Return the library.

    Raises:
        UsageError: if it is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise UsageError("search needs Optuna: pip install 'chinese-mrc[search]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    return optuna


@dataclass(frozen=True)
class Trial:
    """A trial that this process works on.

    Args:
        number: of it, from 0.
        settings: option of train -> value.
        known: its evaluations that were reported before, from 1.
        asked: Optuna's.
    """

    number: int
    settings: dict[str, str]
    known: frozenset[int]
    asked: Any


class Study:
    """A study, as one of its workers sees it."""

    def __init__(self, options: SearchOptions, space: Space) -> None:
        """Open the study of a directory, or begin one.

        Raises:
            UsageError: if Optuna is not installed, or the study that is there searches something else.
        """
        self._optuna = import_optuna()
        self._options, self.space, self._directory = options, space, options.output_dir
        self._combinations = space.combinations() if options.sampler == "grid" else []
        random.Random(options.search_seed).shuffle(self._combinations)
        place = options.output_dir / _STORAGE
        place.mkdir(parents=True, exist_ok=True)
        (options.output_dir / _CLAIMS).mkdir(exist_ok=True)
        with locked(self._directory, waits=True):
            self._check_kind(place)
            try:
                self._storage = self._storage_in(place)
                self.study = self._optuna.create_study(
                    storage=self._storage,
                    study_name=_NAME,
                    direction="maximize",
                    load_if_exists=True,
                    pruner=self._pruner(),
                )
            except (self._optuna.exceptions.StorageInternalError, ValueError) as error:
                raise UsageError(
                    f"{place}: the study in it can't be read ({error}); give another directory"
                ) from None
            self._check_fixed()

    @property
    def trials(self) -> list[Any]:
        """All trials as they stand, by number."""
        trials: list[Any] = self.study.get_trials(deepcopy=False)
        return trials

    @property
    def n_trials(self) -> int:
        """How many there are to be."""
        if self._options.sampler == "grid":
            most = len(self.trials) + len(self._left())
            return min(self._options.n_trials or most, most)
        return self._options.n_trials or _N_TRIALS

    @property
    def best(self) -> Any | None:
        """The best of those that are finished, the first of equals; None if none is."""
        finished = [trial for trial in self.trials if trial.state.name == "COMPLETE"]
        return max(finished, key=lambda trial: trial.value, default=None)

    def is_drawn(self, trial: Any) -> bool:
        """Whether all settings of an earlier trial are known: its worker may have ended before."""
        return {dimension.name for dimension in self.space.dimensions} <= trial.params.keys()

    def settings(self, trial: Any) -> dict[str, str]:
        """Return what an earlier trial was trained with."""
        return self.space.draw(self._optuna.trial.FixedTrial(trial.params))

    @contextlib.contextmanager
    def next_trial(self) -> Iterator[Trial | None]:
        """Hold a trial: one whose worker has ended before it, or a new one; None if all have been begun."""
        with contextlib.ExitStack() as held:
            with locked(self._directory, waits=True):
                trial = self._left_behind(held) or self._new(held)
            yield trial

    def finished(self, trial: Trial, value: float) -> None:
        """Note the score of a trial."""
        self.study.tell(trial.number, value)

    def pruned(self, trial: Trial) -> None:
        """Note that a trial was given up."""
        self.study.tell(trial.number, state=self._optuna.trial.TrialState.PRUNED)

    def failed(self, trial: Trial, why: str) -> None:
        """Note that a trial can't be trained."""
        trial.asked.set_user_attr("error", why)
        self.study.tell(trial.number, state=self._optuna.trial.TrialState.FAIL)

    def like(self, trial: Trial) -> Any | None:
        """Return an earlier trial with the same settings that has ended with a score or was given up, or None."""
        for other in self.trials[: trial.number]:
            if other.state.name in ("COMPLETE", "PRUNED") and other.params == trial.asked.params:
                return other
        return None

    def _left_behind(self, held: contextlib.ExitStack) -> Trial | None:
        """Hold a trial that was begun and that nobody works on."""
        for number in [trial.number for trial in self.trials if _is_open(trial)]:
            with contextlib.suppress(BlockingIOError), contextlib.ExitStack() as claim:
                claim.enter_context(locked(self._claim(number)))
                if not _is_open(self.trials[number]):
                    continue  # its worker has come to the end of it meanwhile
                held.enter_context(claim.pop_all())
                study_id = self._storage.get_study_id_from_name(_NAME)
                trial_id = self._storage.get_trial_id_from_study_id_trial_number(study_id, number)
                self.study.sampler = self._sampler(number)
                return self._drawn(self._optuna.trial.Trial(self.study, trial_id))
        return None

    def _new(self, held: contextlib.ExitStack) -> Trial | None:
        """Begin and hold a trial, if there are not enough."""
        number = sum(trial.state.name != "WAITING" for trial in self.trials)
        if number >= self.n_trials:
            return None
        held.enter_context(locked(self._claim(number)))
        if self._options.sampler == "grid" and number == len(self.trials):
            self.study.enqueue_trial(self._left()[0])
        self.study.sampler = self._sampler(number)
        return self._drawn(self.study.ask())

    def _left(self) -> list[dict[str, Any]]:
        """Return the combinations that no trial has had, whoever drew it."""
        had = [{**trial.system_attrs.get("fixed_params", {}), **trial.params} for trial in self.trials]
        return [combination for combination in self._combinations if combination not in had]

    def _drawn(self, asked: Any) -> Trial:
        known = self.trials[asked.number].intermediate_values
        return Trial(asked.number, self.space.draw(asked), frozenset(known), asked)

    def _sampler(self, number: int) -> Any:
        """Return what draws a trial, by its number: who draws it, and after which interruptions, moves nothing."""
        seed = random.Random(f"{self._options.search_seed} {number}").getrandbits(32)
        if self._options.sampler != "tpe":
            return self._optuna.samplers.RandomSampler(seed=seed)
        n_random = min(10, max(2, self.n_trials // 4))
        return self._optuna.samplers.TPESampler(seed=seed, n_startup_trials=n_random, constant_liar=True)

    def _pruner(self) -> Any:
        pruners = self._optuna.pruners
        if self._options.pruner == "median":
            return pruners.MedianPruner(n_startup_trials=3)
        if self._options.pruner == "halving":
            return pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=2)
        return pruners.NopPruner()

    def _claim(self, number: int) -> Path:
        path = self._directory / _CLAIMS / f"{number:03}"
        path.mkdir(exist_ok=True)
        return path

    def _storage_in(self, place: Path) -> Any:
        storages = self._optuna.storages
        if self._options.storage == "journal":
            file = place / "journal.log"
            return storages.JournalStorage(storages.journal.JournalFileBackend(str(file), _JournalLock(file)))
        url = f"sqlite:///{(place / 'study.db').resolve()}"
        return storages.RDBStorage(url, engine_kwargs={"connect_args": {"timeout": _PATIENCE_S}})

    def _check_kind(self, place: Path) -> None:
        other = {"journal": "study.db", "sqlite": "journal.log"}[self._options.storage]
        if (place / other).exists():
            kind = {"journal": "sqlite", "sqlite": "journal"}[self._options.storage]
            raise UsageError(f"--output_dir {self._directory}: its search has --storage {kind}; give that")

    def _check_fixed(self) -> None:
        here = {
            "space": {name: values for name, values in self.space.plain.items()},
            "trial_seeds": list(self._options.trial_seeds),
        }
        there = self.study.user_attrs.get(_FIXED)
        if there is None:
            self.study.set_user_attr(_FIXED, here)
            return
        said = [
            f"{name} {there.get(name)} there, {here[name]} here" for name in here if there.get(name) != here[name]
        ]
        if said:
            raise UsageError(
                f"--output_dir {self._directory}: holds another search ({'; '.join(said)}); give those again, or "
                "another directory"
            )


def _is_open(trial: Any) -> bool:
    return bool(trial.state.name == "RUNNING")


class _JournalLock:
    """Holds the journal while a worker writes into it; goes with the process, however that ends.

    Optuna's own locks stay behind a process that was killed, and half a line that it has written would make all that
    follows unreadable.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._held = contextlib.ExitStack()

    def acquire(self) -> bool:
        self._held.enter_context(locked(self._file.parent, waits=True))
        self._mend()
        return True

    def release(self) -> None:
        self._held.close()

    def _mend(self) -> None:
        """Take back the end of a line whose writer did not come to the end."""
        with self._file.open("rb+") as file:
            text = file.read()
            if text and not text.endswith(b"\n"):
                file.truncate(text.rfind(b"\n") + 1)
