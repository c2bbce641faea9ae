"""One seed: train, evaluate as it goes, keep the best checkpoint, predict with it, and leave a Record."""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from experiment.backend import Trainer
from experiment.estimate.hardware import peak_flops
from experiment.inputs.data import Data
from experiment.training.build import build
from experiment.training.checkpoints import Checkpoints, Saved
from experiment.training.evaluation import brief, predict_split, task_outputs
from experiment.training.guards import all_empty
from experiment.training.hooks import GivenUp, Hook, HookFactory, restore_hooks
from experiment.training.interrupts import held_back
from experiment.training.loop import take_steps
from experiment.training.meter import Meter
from experiment.training.mixture import Mixture
from experiment.training.record import PRUNED, Record, task_directory, versions
from experiment.training.rundir import BEST, check_resumed
from experiment.training.runlog import RunLog
from experiment.training.saving import Saving, progress_of
from experiment.training.selection import Selection
from experiment.training.setup import Part, Rule, RunSetup, own_values
from experiment.training.state import Progress
from experiment.training.steps import Steps, windows_per_step
from experiment.training.stopping import EarlyStopping
from experiment.training.tracking import Curves
from experiment.training.watching import Profile, TrainingLog
from preprocess.types import Outputs
from pretrained_configs.checkpoint import read_checkpoint
from tasks.core.guessing import guessing
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
        task=",".join(setup.tasks),
        task_version=",".join(part.task.version for part in setup.parts),
        model=setup.source.name,
        seed=seed,
        status="running",
        selection=list(setup.rules[0].metrics),
        versions=versions(),
        n_devices=setup.n_devices,
        guessing={} if setup.is_joint else guessing(setup.parts[0].task, setup.parts[0].dev.examples),
        joint=list(setup.tasks) if setup.is_joint else [],
        **setup.record_fields,
    )
    run = SeedRun(setup, seed, directory, log, record, Saving(checkpoints), [make() for make in methods])
    run.progress.warnings += [*setup.source.loaded_tokenizer.warnings, *setup.warnings]
    if saved is not None:
        run.restore(saved)
    run.write_record()
    try:
        run.run(saved)
        record.status = "finished"
    except GivenUp as why:
        record.status, record.error = PRUNED, str(why)
        log.line(f"seed {seed}: given up at step {run.progress.step}/{run.steps.n} ({why})")
    except BaseException as error:
        record.status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        record.error = f"{type(error).__name__}: {error}"
        record.scores = {}
        run.own_scores.clear()
        with contextlib.suppress(OSError):  # a full disk may be the very error
            run.write_record()
        raise
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
        best_outputs: rule -> task -> what the best checkpoint says on dev, if it was evaluated in this process.
        own_scores: of several tasks, each one's scores with the checkpoint that is its own best: split -> metric.
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
    best_outputs: dict[str, dict[str, list[Outputs]]] = field(default_factory=dict)
    own_scores: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    best_is_lost: bool = False
    ends_early: bool = False
    _started: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        """Lay out the steps."""
        options = self.setup.options
        size = windows_per_step(options, self.setup.n_devices)
        mixture = Mixture(self.setup.sources, size, self.seed, options.group_by_length, options.sampling)
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

    def directory_of(self, rule: Rule) -> Path:
        """Return where a rule's checkpoint and what comes of it stand."""
        return directory_of(self.directory, rule.task)

    def write_record(self) -> None:
        """Write the Record as it stands, and of several tasks each one's."""
        self.progress.wall_s = self.wall_s
        self.progress.enter_into(self.record)
        if self.writes:
            for part in self.setup.parts if self.setup.is_joint else ():
                self._record_of(part).write(directory_of(self.directory, part.task.name))
            self.record.write(self.directory)  # the last one: by it, the seed is finished

    def _record_of(self, part: Part) -> Record:
        """Return the Record of one of several tasks: the seed's, by the task's own rule."""
        task, chosen = part.task, self.progress.by_task.get(part.task.name, {})
        return replace(
            self.record,
            task=task.name,
            task_version=task.version,
            selection=list(task.selection),
            hashes=part.hashes,
            step=chosen.get("best_step", 0),
            decode=chosen.get("decode", {}),
            scores=self.own_scores.get(task.name, {}),
            evaluations=[{**e, "dev": own_values(task, e["dev"])} for e in self.record.evaluations],
            eval_samples=_eval_samples([part]) if self.record.eval_samples else {},
            guessing=guessing(task, part.dev.examples),
        )

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
        self.record.eval_samples = _eval_samples(self.setup.parts)
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
        for rule in self.setup.rules:
            self._predict_by(rule)

    def _predict_by(self, rule: Rule) -> None:
        """Answer every split of a rule's tasks with its checkpoint."""
        setup, known = self.setup, self.best_outputs.get(rule.task, {})
        if not known or any(part.test is not None for part in rule.parts):
            setup.group.first(None)  # the first process has written it
            best = read_checkpoint(self.directory_of(rule) / BEST, setup.source.config.hidden_act)
            setup.backend.load_weights(self.model, best, fresh_head=False)
        scores: dict[str, dict[str, dict[str, float]]] = {}
        for part in rule.parts:
            splits = {"dev": part.dev, "test": part.test}
            for split, data in splits.items():
                if data is None:
                    continue
                outputs = known.get(part.task.name) if split == "dev" else None
                values = self._predict(rule, part, split, data, outputs)
                if values is not None:
                    scores.setdefault(split, {})[part.task.name] = values
        if rule.task:
            self.own_scores[rule.task] = {split: by_task[rule.task] for split, by_task in scores.items()}
        else:
            self.record.scores |= {split: setup.values(by_task) for split, by_task in scores.items()}

    def _predict(
        self, rule: Rule, part: Part, split: str, data: Data, outputs: Iterable[Outputs] | None
    ) -> dict[str, float] | None:
        """Answer a split of a task; returns its scores, None if there is nothing to score against."""
        if outputs is None:
            outputs = task_outputs(self.setup, self.model, part, data, self.log.bars, split)
        task = part.task.name
        step, options = self._chosen_by(rule, task)
        directory = self.directory_of(rule) if self.writes else None
        several = len(rule.parts) > 1
        suffix = f"_{split}_{task}" if several else f"_{split}"
        result = predict_split(part, split, data, self._stoppable(outputs), options, directory, suffix)
        what = f"{split} of {task}" if self.setup.is_joint else split
        if all_empty(result.texts):
            self.warn(f"the model answers no question of {what}: all {len(result.texts)} answers are empty")
        for line in () if several else result.lines:  # of several tasks, as each answers by itself
            self.log.line(line)
        where = f"seed {self.seed} {what}"
        if result.values is None:
            self.log.line(f"{where}: no answers to score against, predictions written")
            return None
        values = brief(part.task.selection, result.values)
        own = "" if not self.setup.is_joint else " of all tasks" if several else " of its own"
        self.log.line(f"{where} with the checkpoint{own} of step {step}: {values}")
        return result.values

    def _chosen_by(self, rule: Rule, task: str) -> tuple[int, DecodeOptions]:
        """Return the step of a rule's checkpoint, and the options that it decodes a task's outputs by."""
        progress = self.progress
        step, decode = progress.best_step, progress.decode[task] if self.setup.is_joint else progress.decode
        if rule.task:
            step, decode = progress.by_task[rule.task]["best_step"], progress.by_task[rule.task]["decode"]
        return step, DecodeOptions(**decode)

    def _stoppable(self, outputs: Iterable[Outputs]) -> Iterator[Outputs]:
        for batch in outputs:
            self.saving.stop_if_interrupted(self)
            yield batch


def directory_of(seed: Path, task: str) -> Path:
    """Return where a seed leaves what is one of several tasks' own; "" for what is the run's."""
    return task_directory(seed.parent, task) / seed.name if task else seed


def _eval_samples(parts: Sequence[Part]) -> dict[str, int]:
    """Return how many windows an evaluation of each split has."""
    n: dict[str, int] = {}
    for split, data in (item for part in parts for item in (("dev", part.dev), ("test", part.test))):
        if data is not None:
            n[split] = n.get(split, 0) + len(data.features)
    return n
