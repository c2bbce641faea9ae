"""One seed: train, evaluate as it goes, keep the best checkpoint, predict with it, and leave a Record."""

from __future__ import annotations

import contextlib
import gc
import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiment import backend as backends
from experiment.answering import outputs_of
from experiment.backend import ONLY_IN
from experiment.estimate.hardware import peak_flops
from experiment.inputs.data import Data
from experiment.inputs.settings import write_settings
from experiment.training.checkpoints import Checkpoints
from experiment.training.evaluation import brief, evaluate, predict_split, selection
from experiment.training.guards import Divergence, TrainingError, all_empty, nonfinite_steps
from experiment.training.interrupts import held_back
from experiment.training.job import Job
from experiment.training.meter import Meter
from experiment.training.record import Record, versions
from experiment.training.rundir import BEST
from experiment.training.runlog import Events, RunLog
from experiment.training.steps import Steps
from preprocess.base.files import new_directory
from preprocess.types import Outputs
from pretrained_configs.checkpoint import read_checkpoint
from tasks.core.prediction import DecodeOptions

#: Seconds between training checkpoints, where --save_steps does not say how many steps.
_SAVE_EVERY_S = 600
#: What a Record has gathered, and a seed counted, by the time of a training checkpoint.
_GATHERED = ("step", "decode", "n_skipped", "warnings", "evaluations", "wall_s")
_COUNTED = ("step", "n_logged", "losses", "halved_to")
#: Steps of a process that --profile records: what the first ones compile and allocate is not among them.
_PROFILED = range(5, 8)
#: A metric that is not worth a place in the log.
_NONE_SKIPPED = ("skipped_steps", 0.0)


def run_seed(
    job: Job, seed: int, directory: Path, log: RunLog, checkpoints: Checkpoints, saved: dict[str, Any] | None
) -> Record:
    """Train one seed and write its files; a Record with its status is left whatever happens.

    Args:
        job: what all seeds share.
        seed: of weights, dropout and data order.
        directory: of the seed.
        log: gets the lines.
        checkpoints: the seed's training checkpoints, deleted when it is finished; used by the first process alone.
        saved: the state in one of them, to go on from; None to begin.
    """
    record = Record(
        task=job.task.name,
        task_version=job.task.version,
        model=job.source.name,
        seed=seed,
        status="running",
        selection=list(job.task.selection),
        versions=versions(),
        warnings=list(job.source.found.warnings),
        n_devices=job.n_devices,
        **job.record_fields,
    )
    run = _Seed(job, seed, directory, log, checkpoints, record)
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
class _Seed:
    """The state of one seed's run."""

    job: Job
    seed: int
    directory: Path
    log: RunLog
    checkpoints: Checkpoints
    record: Record
    step: int = 0
    n_logged: int = 0  # steps that the lines of the log cover
    losses: list[tuple[int, float]] = field(default_factory=list)  # since the last evaluation: steps, mean of them
    save_due: bool = False
    saved_at: float = field(default_factory=time.perf_counter)
    started: float = field(default_factory=time.perf_counter)
    halved_to: int | None = None  # windows per forward pass and device, if memory did not suffice for more
    best_outputs: list[Outputs] | None = None  # on dev, of the best checkpoint, if it was evaluated in this process
    meter: Meter = field(init=False)
    interrupted: Callable[[], bool] = field(init=False)
    model: Any = field(init=False)
    trainer: backends.Trainer = field(init=False)
    events: Events = field(init=False)
    steps: Steps = field(init=False)
    divergence: Divergence = field(init=False)

    def __post_init__(self) -> None:
        features, options = self.job.train.features, self.job.options
        self.steps = Steps(features, options, self.seed, self.job.n_devices, self.job.task.problem.head.whole_groups)
        self.record.n_steps = self.steps.n
        self.meter = Meter(self.job.source.config)
        self.divergence = Divergence(self.job.task.problem.chance(features))

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Take over what a training checkpoint has counted."""
        for name in _GATHERED:
            setattr(self.record, name, saved["record"][name])
        for name in _COUNTED:
            setattr(self, name, saved["counted"][name])
        self.meter.restore(saved["meter"])
        self.divergence = Divergence(**saved["divergence"])
        self.started -= self.record.wall_s
        self.log.line(f"seed {self.seed}: goes on after step {self.step}/{self.steps.n}")
        n, n_now = saved["n_devices"], self.record.n_devices
        if n != n_now:
            self.log.line(
                f"seed {self.seed}: begun with {n} devices, now {n_now}; dropout differs, and with it numbers"
            )
        old, new = saved["versions"], self.record.versions
        if changed := sorted(name for name in {*old, *new} if old.get(name) != new.get(name)):
            self.log.line(f"seed {self.seed}: begun with another version of {', '.join(changed)}; numbers may differ")

    @property
    def wall_s(self) -> float:
        """Seconds so far."""
        return time.perf_counter() - self.started

    @property
    def pass_size(self) -> int:
        """Windows per forward pass and device."""
        size = self.job.options.per_device_train_batch_size
        return size if self.halved_to is None else min(size, self.halved_to)

    @property
    def writes(self) -> bool:
        """Whether this is the process that writes files; the others compute the same, and need none of their own."""
        return self.job.group.rank == 0

    def write_record(self) -> None:
        """Write the Record as it stands."""
        self.record.wall_s = self.wall_s
        if self.writes:
            self.record.write(self.directory)

    def run(self, saved: dict[str, Any] | None) -> None:
        """Train and predict; the trainer's state is taken out of what was saved, and its memory is free again."""
        self._build(saved)
        try:
            with held_back() as signalled:
                # A signal to any of the processes stops all of them at the same step.
                self.interrupted = lambda: any(self.job.group.gather(signalled()))
                directory = self.directory / "tensorboard" if self.writes else None
                self.events = Events(directory, self.step + 1, self.log.line)
                with contextlib.closing(self.events):
                    self._train()
                self._predict_with_best()
                self._stop_if_interrupted()
        finally:
            self.checkpoints.wait()

    def _build(self, saved: dict[str, Any] | None) -> None:
        job, options = self.job, self.job.options
        gc.collect()  # the seed before may have left cycles, and in them its model
        job.backend.set_seed(self.seed)
        head, checkpoint = job.task.problem.head, job.source.checkpoint
        if saved is None and checkpoint is not None:
            self.model, report = job.backend.load_model(
                checkpoint, head, device=job.device, fresh_head=True, seed=self.seed
            )
            for line in report.lines():
                self.log.line(line)
        else:
            self.model = job.backend.build_model(job.source.config, head, device=job.device, seed=self.seed)
        self.trainer = job.backend.Trainer(
            self.model,
            n_steps=self.steps.n,
            learning_rate=options.learning_rate,
            warmup_ratio=options.warmup_ratio,
            weight_decay=options.weight_decay,
            max_grad_norm=options.max_grad_norm,
            adam_beta1=options.adam_beta1,
            adam_beta2=options.adam_beta2,
            adam_epsilon=options.adam_epsilon,
            precision=options.precision,
            optim=options.optim,
            gradient_checkpointing=options.gradient_checkpointing,
            auto_find_batch_size=options.auto_find_batch_size,
            **{name: getattr(options, name) for name, only in ONLY_IN.items() if only == options.framework},
        )
        self.record.device = job.backend.device_facts(self.model)["device"]
        precision = "tf32" if options.tf32 and options.precision == "fp32" else options.precision
        peak = peak_flops(self.record.device, precision)
        self.meter.peak_flops = None if peak is None else peak * job.n_devices
        if saved is not None:
            self.trainer.load_state_dict(saved.pop("trainer"))

    def _train(self) -> None:
        options = self.job.options
        if options.profile and self.steps.n - self.step <= _PROFILED.start:
            self.log.line(f"seed {self.seed}: no profile, which begins after {_PROFILED.start} steps")
        bar = self.log.bars.counting(f"seed {self.seed}", self.steps.n, done=self.step)
        with bar as advance, self.meter.running(), contextlib.ExitStack() as profiled:
            self._evaluate_if_due()  # where the seed was interrupted in an evaluation
            for i, windows in enumerate(self.steps.windows(self.step)):
                if options.profile and self.writes and i == _PROFILED.start:
                    with self.meter.stopped():
                        profiled.enter_context(self.job.backend.profiler(self.directory / "profile"))
                self._take_step(windows)
                if i == _PROFILED.stop - 1 or self.step == self.steps.n:
                    with self.meter.stopped():
                        profiled.close()
                if self.step in self.steps.evaluated or self.step % options.logging_steps == 0:
                    self._log_training()
                self._evaluate_if_due()
                self._save_if_due()
                advance()
        self.record.speed = self.meter.whole()
        self.record.pass_size = self.pass_size
        self.record.peak_bytes = self._peak_bytes()

    def _take_step(self, windows: NDArray[np.int32]) -> None:
        """Take a step; where memory runs out and the user wants it so, in forward passes of half the size."""
        while True:
            with self.meter.waiting():
                batches = self.steps.batches(windows, self.pass_size)
            try:
                self.trainer.step(batches)
            except MemoryError as error:
                self._halve(error)
                continue
            self.step += 1
            self.meter.count(self.job.train.features.lengths[windows])
            return

    def _halve(self, error: MemoryError) -> None:
        old = self.pass_size
        if not self.job.options.auto_find_batch_size:
            raise error
        if old == 1:
            raise TrainingError(
                f"seed {self.seed} step {self.step + 1}: memory does not suffice for one window per forward pass "
                f"({str(error).partition(chr(10))[0]}); use --gradient_checkpointing, or a shorter --max_seq_length"
            )
        self.halved_to = (old + 1) // 2
        self.log.line(
            f"seed {self.seed} step {self.step + 1}: out of memory with {old} windows per forward pass; it is taken "
            f"again, and all that follow, with {self.pass_size} per pass and more passes"
        )

    def _log_training(self) -> None:
        metrics = self.trainer.metrics()
        # After the device has caught up.
        metrics |= self.meter.line() | {"peak_gb": self._peak_bytes() / 1e9}
        self.events.add("train", metrics, self.step)
        self.record.n_skipped += int(metrics["skipped_steps"])
        n, self.n_logged = self.step - self.n_logged, self.step
        values = " ".join(
            f"{name} {value:.0f}" if value >= 1000 else f"{name} {value:.4g}"
            for name, value in metrics.items()
            if (name, value) != _NONE_SKIPPED
        )
        self.log.line(f"seed {self.seed} step {self.step}/{self.steps.n} {values}")
        if "loss" in metrics:
            self.losses.append((n, metrics["loss"]))
            if self.divergence.notices(metrics["loss"]):
                self._warn(f"training has diverged: loss {metrics['loss']:.3g} at step {self.step} is that of chance")
        n_skipped = self.trainer.skipped_in_a_row
        nothing_new = self.step in self.steps.evaluated and not self.losses
        if nothing_new or n_skipped >= self.job.options.max_nonfinite_steps:
            first = self.step - n_skipped + 1
            windows = list(itertools.islice(self.steps.windows(first - 1), n_skipped))
            raise backends.by_first(
                self.job.group, lambda: nonfinite_steps(self.directory, first, windows, self.job.train)
            )

    def _peak_bytes(self) -> int:
        return int(self.job.backend.device_facts(self.model)["peak_bytes"])

    def _warn(self, text: str) -> None:
        if text not in self.record.warnings:  # before an interruption
            self.record.warnings.append(text)
        self.log.line(f"seed {self.seed} warning: {text}")

    def _evaluate_if_due(self) -> None:
        """Evaluate after the steps that are to be evaluated, if it has not been done before an interruption."""
        done = self.record.evaluations[-1]["step"] if self.record.evaluations else 0
        if self.step in self.steps.evaluated and self.step > done:
            with self.meter.stopped():
                self._evaluate()
        self._stop_if_interrupted()

    def _stop_if_interrupted(self) -> None:
        if self.interrupted():
            self._save()
            self.checkpoints.wait()
            self.job.group.first(None)  # no process ends, and with it the others, before the checkpoint is written
            raise KeyboardInterrupt

    def _evaluate(self) -> None:
        """Evaluate and keep the best checkpoint, or return as if nothing had been done if a signal comes."""
        job, record = self.job, self.record
        found = evaluate(job, self.model, self.interrupted, self.log.bars)
        if found is None:
            return
        values = found.values
        self.events.add("dev", values, self.step)
        best = max((selection(job.task, each["dev"]) for each in record.evaluations), default=-math.inf)
        chosen = selection(job.task, values) > best
        n = sum(n for n, _ in self.losses)
        loss = sum(n * loss for n, loss in self.losses) / n
        self.losses.clear()
        epoch = self.step / self.steps.per_epoch
        record.evaluations.append({"step": self.step, "epoch": epoch, "loss": loss, "dev": values})
        if chosen:
            record.step, record.decode, self.best_outputs = self.step, asdict(found.options), found.outputs
            self._save_best()
        try:
            self.write_record()
        except OSError as error:
            self.log.line(f"seed {self.seed}: the Record can't be written ({error}); training goes on")
        note = " (best so far)" if chosen else ""
        self.log.line(f"seed {self.seed} epoch {epoch:.2f} dev {brief(job.task, values)}{note}")

    def _save_best(self) -> None:
        place = new_directory(self.directory / BEST) if self.writes else contextlib.nullcontext()
        try:
            with place as directory:
                self.job.backend.save_weights(self.model, directory)
                if directory is not None:
                    tokenizer = self.job.source.tokenizer
                    tokenizer.save(directory)
                    write_settings(directory, self.job.task, self.job.options, self.record.decode, tokenizer)
        except OSError as error:
            raise OSError(f"{error}; when {BEST} can be written, the same command goes on") from error

    def _save_if_due(self) -> None:
        """Save a training checkpoint; later, if the one before is still being written."""
        every = self.job.options.save_steps
        if self.job.options.saves_by_time:
            late = time.perf_counter() - self.saved_at > _SAVE_EVERY_S
            self.save_due |= late or self.step in self.steps.evaluated
        else:
            self.save_due |= every > 0 and self.step % every == 0
        if self.job.group.first(self.save_due and not self.checkpoints.busy):
            self._save()

    def _save(self) -> None:
        with self.meter.stopped():
            self.record.wall_s = self.wall_s
            state = {
                "trainer": self.trainer.state_dict(),
                "record": {name: getattr(self.record, name) for name in _GATHERED},
                "counted": {name: getattr(self, name) for name in _COUNTED},
                "meter": self.meter.counts,
                "divergence": asdict(self.divergence),
                "versions": self.record.versions,
                "n_devices": self.record.n_devices,
            }
            if self.writes:
                self.checkpoints.save(self.step, state)
            self.saved_at, self.save_due = time.perf_counter(), False

    def _predict_with_best(self) -> None:
        job = self.job
        if self.best_outputs is None or job.test is not None:
            job.group.first(None)  # the first process has written it
            best = read_checkpoint(self.directory / BEST, job.source.config.hidden_act)
            job.backend.load_weights(self.model, best, fresh_head=False)
        self._predict("dev", job.dev, self.best_outputs)
        if job.test is not None:
            self._predict("test", job.test, None)

    def _stoppable(self, outputs: Iterable[Outputs]) -> Iterator[Outputs]:
        for each in outputs:
            self._stop_if_interrupted()
            yield each

    def _predict(self, split: str, data: Data, outputs: Iterable[Outputs] | None) -> None:
        if outputs is None:
            outputs = outputs_of(self.job.backend, self.model, data, self.job.options, self.log.bars, split)
        options = DecodeOptions(**self.record.decode)
        directory = self.directory if self.writes else None
        found = predict_split(self.job, split, data, self._stoppable(outputs), options, directory)
        if all_empty(found.answers):
            self._warn(f"the model answers no question of {split}: all {len(found.answers)} answers are empty")
        for line in found.lines:
            self.log.line(line)
        where = f"seed {self.seed} {split}"
        if found.values is None:
            self.log.line(f"{where}: no answers to score against, predictions written")
            return
        self.record.scores[split] = found.values
        values = brief(self.job.task, found.values)
        self.log.line(f"{where} with the checkpoint of step {self.record.step}: {values}")
