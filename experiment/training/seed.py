"""One seed: train, evaluate as it goes, keep the best checkpoint, predict with it, and leave a Record."""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiment.answering import outputs_of, predictor_of
from experiment.backend import Trainer
from experiment.estimate.hardware import peak_flops
from experiment.inputs.data import Data
from experiment.training.build import build
from experiment.training.checkpoints import Checkpoints, Saved
from experiment.training.evaluation import brief, predict_split
from experiment.training.guards import all_empty
from experiment.training.hooks import Hook, HookFactory, restore_hooks
from experiment.training.interrupts import held_back
from experiment.training.loop import take_steps
from experiment.training.meter import Meter
from experiment.training.mixture import Mixture
from experiment.training.record import Record, versions
from experiment.training.rundir import BEST, check_resumed
from experiment.training.runlog import RunLog
from experiment.training.saving import Saving, progress_of
from experiment.training.selection import Selection
from experiment.training.setup import RunSetup
from experiment.training.state import Progress
from experiment.training.steps import Steps, windows_per_step
from experiment.training.stopping import EarlyStopping
from experiment.training.tracking import Curves
from experiment.training.watching import Profile, TrainingLog
from preprocess.types import Outputs
from pretrained_configs.checkpoint import read_checkpoint
from tasks.core.prediction import DecodeOptions


def run_seed(
    setup: RunSetup,
    seed: int,
    directory: Path,
    log: RunLog,
    checkpoints: Checkpoints,
    saved: Saved | None,
    methods: Sequence[HookFactory] = (),
) -> Record:
    """Train one seed and write its files; a Record with its status is left whatever happens.

    Args:
        setup: what all seeds share.
        seed: of weights, dropout and data order.
        directory: of the seed.
        log: gets the lines.
        checkpoints: the seed's training checkpoints, deleted when it is finished; used by the first process alone.
        saved: what one of them holds, to go on from; None to begin.
        methods: make the hooks that are attached to the loop, before its own.
    """
    record = Record(
        task=setup.task.name,
        task_version=setup.task.version,
        model=setup.source.name,
        seed=seed,
        status="running",
        selection=list(setup.task.selection),
        versions=versions(),
        n_devices=setup.n_devices,
        **setup.record_fields,
    )
    run = SeedRun(setup, seed, directory, log, record, Saving(checkpoints), [make() for make in methods])
    run.progress.warnings += setup.source.loaded_tokenizer.warnings
    if saved is not None:
        run.restore(saved)
    run.write_record()
    try:
        run.run(saved)
    except BaseException as error:
        record.status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        record.error = f"{type(error).__name__}: {error}"
        record.scores = {}
        with contextlib.suppress(OSError):  # a full disk may be the very error
            run.write_record()
        raise
    record.status = "finished"
    run.write_record()
    if run.writes:
        checkpoints.remove()
    return record


@dataclass
class SeedRun:
    """One seed on its way: what its loop and its hooks work on.

    Args:
        setup: what all seeds share.
        seed: of weights, dropout and data order.
        directory: of the seed.
        log: gets the lines.
        record: of the seed, written from `progress`.
        saving: writes the training checkpoints.
        methods: hooks before the loop's own.
        progress: how far it has come.
        steps: all of them, done or not.
        meter: of the speed.
        hooks: all of them, in the order in which each point calls them.
        model: of the setup's backend.
        trainer: of the model.
        curves: for TensorBoard and other trackers.
        interrupted: whether a signal has come to any process; called by all of them.
        best_outputs: on dev, of the best checkpoint, if it was evaluated in this process.
        best_is_lost: whether the checkpoint that was the best is damaged.
        ends_early: whether no more steps are taken, however many are left.
    """

    setup: RunSetup
    seed: int
    directory: Path
    log: RunLog
    record: Record
    saving: Saving
    methods: Sequence[Hook] = ()
    progress: Progress = field(default_factory=Progress)
    steps: Steps = field(init=False)
    meter: Meter = field(init=False)
    hooks: list[Hook] = field(init=False)
    model: Any = field(init=False)
    trainer: Trainer = field(init=False)
    curves: Curves = field(init=False)
    interrupted: Callable[[], bool] = field(init=False)
    best_outputs: list[Outputs] | None = None
    best_is_lost: bool = False
    ends_early: bool = False
    _started: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        """Lay out the steps."""
        options = self.setup.options
        mixture = Mixture(
            self.setup.sources, windows_per_step(options, self.setup.n_devices), self.seed, options.group_by_length
        )
        self.steps = Steps(mixture, options.num_train_epochs, options.eval_epochs)
        self.record.n_steps = self.steps.n
        self.meter = Meter(self.setup.source.config, self.progress.counts)
        patience = options.early_stopping_patience
        stopping = [EarlyStopping(patience)] if patience else []
        profile = [Profile()] if options.profile else []
        self.hooks = [*self.methods, *stopping, *profile, TrainingLog(), Selection(), self.saving]

    def restore(self, saved: Saved) -> None:
        """Take over what a training checkpoint has counted; the states of trainer and hooks follow in `run`."""
        state = saved.state
        check_resumed(self.setup.options, self.record, state)
        self.progress = progress_of(state)
        self.best_is_lost = saved.best_is_lost
        self.meter = Meter(self.setup.source.config, self.progress.counts)
        self._started -= self.progress.wall_s
        self.log.line(f"seed {self.seed}: goes on after step {self.progress.step}/{self.steps.n}")
        n, n_now = state["n_devices"], self.record.n_devices
        if n != n_now:
            self.log.line(
                f"seed {self.seed}: begun with {n} devices, now {n_now}; dropout differs, and with it numbers"
            )
        old, new = state["versions"], self.record.versions
        if changed := sorted(name for name in {*old, *new} if old.get(name) != new.get(name)):
            self.log.line(f"seed {self.seed}: begun with another version of {', '.join(changed)}; numbers may differ")

    @property
    def wall_s(self) -> float:
        """Seconds so far."""
        return time.perf_counter() - self._started

    @property
    def pass_size(self) -> int:
        """Windows per forward pass and device."""
        size = self.setup.options.per_device_train_batch_size
        return size if self.progress.halved_to is None else min(size, self.progress.halved_to)

    @property
    def writes(self) -> bool:
        """Whether this is the process that writes files; the others compute the same, and need none of their own."""
        return self.setup.group.rank == 0

    def peak_bytes(self) -> int:
        """Return the most memory held so far."""
        return int(self.setup.backend.device_facts(self.model)["peak_bytes"])

    def warn(self, text: str) -> None:
        """Say it, now and in the Record."""
        if text not in self.progress.warnings:  # before an interruption
            self.progress.warnings.append(text)
        self.log.line(f"seed {self.seed} warning: {text}")

    def write_record(self) -> None:
        """Write the Record as it stands."""
        self.progress.wall_s = self.wall_s
        self.progress.enter_into(self.record)
        if self.writes:
            self.record.write(self.directory)

    def run(self, saved: Saved | None) -> None:
        """Train and predict; the states are taken out of what was saved, and their memory is free again."""
        self._build(saved)
        try:
            with held_back() as signalled:
                # A signal to any of the processes stops all of them at the same step.
                self.interrupted = lambda: any(self.setup.group.gather(signalled()))
                self.curves = Curves(self)
                with self.curves:
                    take_steps(self)
                self._sum_up()
                self.record.pass_size = self.pass_size
                self.record.peak_bytes = self.peak_bytes()
                with self.trainer.evaluating():  # whose weights those of the best checkpoint take the place of
                    self._predict_with_best()
                self.saving.stop_if_interrupted(self)
        finally:
            self.saving.wait()

    def _sum_up(self) -> None:
        """Say and record what training took, and how many windows an evaluation has."""
        setup = self.setup
        splits = {"dev": setup.dev, "test": setup.test}
        self.record.eval_samples = {name: len(data.features) for name, data in splits.items() if data is not None}
        took = self.meter.summary(self.progress.step)
        self.record.speed = self.meter.whole() | took
        told = [*took.items(), ("eval_samples", self.record.eval_samples["dev"])]
        self.log.line(f"seed {self.seed}: " + " ".join(f"{name} {value:.6g}" for name, value in told))

    def _build(self, saved: Saved | None) -> None:
        gc.collect()  # the seed before may have left cycles, and in them its model
        self.model, self.trainer, lines = build(self.setup, self.seed, self.steps.n, loads=saved is None)
        for line in lines:
            self.log.line(line)
        options, device = self.setup.options, self.setup.backend.device_facts(self.model)["device"]
        self.record.device = device
        precision = "tf32" if options.tf32 and options.precision == "fp32" else options.precision
        peak = peak_flops(device, precision)
        self.meter.peak_flops = None if peak is None else peak * self.setup.n_devices
        for hook in self.hooks:
            hook.attach(self)
        if saved is not None:
            if (then := saved.state.get("device", device)) != device:
                self.log.line(f"seed {self.seed}: begun on {then}, now on {device}; numbers may differ")
            self.trainer.load_state_dict(saved.state.pop("trainer"))
            restore_hooks(self.hooks, saved.state.pop("hooks"))

    def _predict_with_best(self) -> None:
        setup = self.setup
        if self.best_outputs is None or setup.test is not None:
            setup.group.first(None)  # the first process has written it
            best = read_checkpoint(self.directory / BEST, setup.source.config.hidden_act)
            setup.backend.load_weights(self.model, best, fresh_head=False)
        self._predict("dev", setup.dev, self.best_outputs)
        if setup.test is not None:
            self._predict("test", setup.test, None)

    def _predict(self, split: str, data: Data, outputs: Iterable[Outputs] | None) -> None:
        if outputs is None:
            predict = predictor_of(self.setup.backend, self.model, self.setup.options)
            outputs = outputs_of(predict, data, self.setup.options, self.log.bars, split)
        options = DecodeOptions(**self.progress.decode)
        directory = self.directory if self.writes else None
        result = predict_split(self.setup, split, data, self._stoppable(outputs), options, directory)
        if all_empty(result.answers):
            self.warn(f"the model answers no question of {split}: all {len(result.answers)} answers are empty")
        for line in result.lines:
            self.log.line(line)
        where = f"seed {self.seed} {split}"
        if result.values is None:
            self.log.line(f"{where}: no answers to score against, predictions written")
            return
        self.record.scores[split] = result.values
        values = brief(self.setup.task, result.values)
        self.log.line(f"{where} with the checkpoint of step {self.progress.best_step}: {values}")

    def _stoppable(self, outputs: Iterable[Outputs]) -> Iterator[Outputs]:
        for batch in outputs:
            self.saving.stop_if_interrupted(self)
            yield batch
