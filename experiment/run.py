"""One seed: train, evaluate as it goes, keep the best checkpoint, predict with it, and leave a Record."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiment import backend as backends
from experiment.backend import Backend
from experiment.config import TrainOptions
from experiment.files import new_directory, write_json
from experiment.predict import predict_data, write_predictions, write_score
from experiment.record import Record, versions
from experiment.runlog import Events, RunLog
from experiment.settings import write_settings
from experiment.setup import Data, ModelSource, decode_options, logits_of, precision_of
from preprocess.batch import collate, epoch_batches
from preprocess.types import Batch, FeatureSet, Logits
from tasks.core.task import DecodeOptions, Scorer, Task

BEST = "checkpoint-best"


class TrainingError(RuntimeError):
    """Training can't go on; the message says at which step and why."""


@dataclass(frozen=True)
class Job:
    """What all seeds of a run share.

    Args:
        options: with every default resolved.
        task: the task.
        source: the model to start from.
        backend: the framework.
        device: name of the device that computes.
        train: training windows; every example has a target.
        dev: development windows.
        test: test windows, if there is a test file.
        scorers: split -> the metric with its gold prepared; none for a test file without answers.
        record_fields: config and hashes as every Record holds them.
    """

    options: TrainOptions
    task: Task
    source: ModelSource
    backend: Backend
    device: str
    train: Data
    dev: Data
    test: Data | None
    scorers: dict[str, Scorer]
    record_fields: dict[str, Any]


def run_seed(job: Job, seed: int, directory: Path, log: RunLog) -> Record:
    """Train one seed and write its files; a Record with its status is left whatever happens."""
    directory.mkdir(parents=True, exist_ok=True)
    record = Record(
        task=job.task.name,
        task_version=job.task.version,
        model=job.source.name,
        seed=seed,
        status="running",
        selection=list(job.task.selection),
        versions=versions(),
        **job.record_fields,
    )
    record.write(directory)
    started = time.perf_counter()
    try:
        _Seed(job, seed, directory, log, record).run()
        record.status = "finished"
    except BaseException as error:
        record.status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        record.error = f"{type(error).__name__}: {error}"
        record.scores = {}
        raise
    finally:
        record.wall_s = time.perf_counter() - started
        record.write(directory)
    return record


@dataclass
class _Seed:
    """The state of one seed's run."""

    job: Job
    seed: int
    directory: Path
    log: RunLog
    record: Record
    best: float = -math.inf
    train_s: float = 0.0
    n_tokens: int = 0
    losses: list[tuple[int, float]] = field(default_factory=list)
    model: Any = field(init=False)
    trainer: backends.Trainer = field(init=False)
    events: Events = field(init=False)

    def run(self) -> None:
        self._build()
        self.events = Events(self.directory / "tensorboard")
        try:
            self._train()
        finally:
            self.events.close()
        self._predict_with_best()

    def _build(self) -> None:
        job, options = self.job, self.job.options
        job.backend.set_seed(self.seed)
        self.model = job.backend.build_model(job.source.config, job.task.head, device=job.device, seed=self.seed)
        if job.source.checkpoint is not None:
            report = job.backend.load_weights(self.model, job.source.checkpoint, fresh_head=True)
            for line in report.lines():
                self.log.line(line)
        self.record.n_steps = math.ceil(_steps_per_epoch(job) * _epochs(options))
        self.trainer = job.backend.Trainer(
            self.model,
            n_steps=self.record.n_steps,
            learning_rate=options.learning_rate,
            warmup_ratio=options.warmup_ratio,
            weight_decay=options.weight_decay,
            max_grad_norm=options.max_grad_norm,
            adam_beta1=options.adam_beta1,
            adam_beta2=options.adam_beta2,
            adam_epsilon=options.adam_epsilon,
            precision=precision_of(options),
        )

    def _train(self) -> None:
        n_steps, evaluate_at = self.record.n_steps, _evaluation_steps(self.job, self.record.n_steps)
        with self.log.progress(f"seed {self.seed}", n_steps) as bar:
            clock = time.perf_counter()
            for step, rows in enumerate(_step_rows(self.job, self.seed, n_steps), start=1):
                self.trainer.step(_micro_batches(self.job, rows))
                self.n_tokens += int(self.job.train.features.lengths[rows].sum())
                if step in evaluate_at or step % self.job.options.logging_steps == 0:
                    self._log_training(step)
                    self.train_s += time.perf_counter() - clock
                    if step in evaluate_at:
                        self._evaluate(step)
                    clock = time.perf_counter()
                bar.advance(bar.task_ids[0])
        self.record.tokens_per_s = self.n_tokens / self.train_s
        facts = self.job.backend.device_facts(self.model)
        self.record.device, self.record.peak_bytes = facts["device"], facts["peak_bytes"]

    def _log_training(self, step: int) -> None:
        metrics = self.trainer.metrics()
        self.events.add("train", metrics, step)
        if not math.isfinite(metrics["loss"]):
            raise TrainingError(
                f"seed {self.seed}: the loss is {metrics['loss']} at step {step}; lower --learning_rate, "
                "or use --bf16 instead of --fp16"
            )
        values = " ".join(f"{name} {value:.4g}" for name, value in metrics.items())
        self.log.line(f"seed {self.seed} step {step}/{self.record.n_steps} {values}")
        self.losses.append((step, metrics["loss"]))

    def _mean_loss(self) -> float:
        """Return the mean loss of all steps since the last evaluation."""
        last = self.record.evaluations[-1]["step"] if self.record.evaluations else 0
        total, done = 0.0, last
        for step, loss in self.losses:
            total += loss * (step - done)
            done = step
        self.losses.clear()
        return total / (done - last)

    def _evaluate(self, step: int) -> None:
        job = self.job
        logits = list(logits_of(job.backend, self.model, job.dev, job.options))
        options = self._tuned(logits)
        answers = job.task.best_answers(job.dev.examples, job.dev.features, logits, options)
        values = dict(job.scorers["dev"](answers).values)
        self.events.add("dev", values, step)
        total = sum(values[name] for name in job.task.selection)
        chosen = total > self.best
        epoch = step / _steps_per_epoch(job)
        self.record.evaluations.append({"step": step, "epoch": epoch, "loss": self._mean_loss(), "dev": values})
        if chosen:
            self.best, self.record.step, self.record.decode = total, step, asdict(options)
            self._save_best()
        self.record.write(self.directory)
        note = " (best so far)" if chosen else ""
        self.log.line(f"seed {self.seed} epoch {epoch:.2f} dev {self._brief(values)}{note}")

    def _tuned(self, logits: Sequence[Logits]) -> DecodeOptions:
        """Return the decoding options, tuned on dev where the task can and the user has not chosen."""
        job, options = self.job, decode_options(self.job.options)
        if job.task.tune is None or job.options.null_score_diff_threshold is not None:
            return options
        return job.task.tune(job.dev.examples, job.dev.features, logits, options, job.scorers["dev"])

    def _save_best(self) -> None:
        with new_directory(self.directory / BEST) as directory:
            self.job.backend.save_weights(self.model, directory)
            self.job.source.tokenizer.save(directory)
            write_settings(directory, self.job.task, self.job.options, self.record.decode)

    def _predict_with_best(self) -> None:
        job = self.job
        job.backend.load_weights(self.model, str((self.directory / BEST).resolve()), fresh_head=False)
        for split, data in {"dev": job.dev, "test": job.test}.items():
            if data is None:
                continue
            options = DecodeOptions(**self.record.decode)
            predictions = predict_data(job.task, job.backend, self.model, data, job.options, options)
            write_predictions(job.task, self.directory, predictions, suffix=f"_{split}")
            answers = {id: prediction.text for id, prediction in predictions.items()}
            if split not in job.scorers:
                self.log.line(f"seed {self.seed} {split}: no answers to score against, predictions written")
                continue
            score = job.scorers[split](answers)
            write_score(self.directory / f"scores_{split}.json", job.task, score)
            if job.task.report is not None:
                report = job.task.report(data.examples, answers)
                write_json(self.directory / f"report_{split}.json", report)
                for line in report["lines"]:
                    self.log.line(line)
            self.record.scores[split] = dict(score.values)
            values = self._brief(score.values)
            self.log.line(f"seed {self.seed} {split} with the checkpoint of step {self.record.step}: {values}")

    def _brief(self, values: Mapping[str, float]) -> str:
        """Format the metrics that select the checkpoint; the Record and the scores file hold all of them."""
        return " ".join(f"{name} {values[name]:.3f}" for name in self.job.task.selection)


def _epochs(options: TrainOptions) -> float:
    assert options.num_train_epochs is not None
    return options.num_train_epochs


def _batch_size(options: TrainOptions) -> int:
    assert options.per_device_train_batch_size is not None
    return options.per_device_train_batch_size


def _steps_per_epoch(job: Job) -> int:
    windows = len(job.train.features)
    return math.ceil(windows / (_batch_size(job.options) * job.options.gradient_accumulation_steps))


def _evaluation_steps(job: Job, n_steps: int) -> set[int]:
    """Every `eval_epochs` epochs, and after the last step."""
    interval = _steps_per_epoch(job) * job.options.eval_epochs
    count = math.floor(n_steps / interval)
    return {max(1, round(k * interval)) for k in range(1, count + 1)} | {n_steps}


def _step_rows(job: Job, seed: int, n_steps: int) -> Iterator[NDArray[np.int32]]:
    """Yield the windows of each optimizer step, epoch after epoch."""
    size = _batch_size(job.options) * job.options.gradient_accumulation_steps
    group = job.options.group_by_length
    done = 0
    for epoch in range(math.ceil(_epochs(job.options))):
        for rows in epoch_batches(job.train.features, size, seed=seed, epoch=epoch, group_by_length=group):
            if done == n_steps:
                return
            yield rows
            done += 1


def _micro_batches(job: Job, rows: NDArray[np.int32]) -> list[Batch]:
    size, features = _batch_size(job.options), job.train.features
    return [collate(features, rows[i : i + size]) for i in range(0, len(rows), size)]


def describe(features: FeatureSet) -> str:
    """Return the counts of an encoding as one line."""
    return ", ".join(f"{name} {value}" for name, value in features.meta["counts"].items())
