"""One framework's side of a comparison: what it computes, stage by stage, in a process of its own."""

from __future__ import annotations

import multiprocessing
import signal
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from experiment.backend import Backend, choose_device, load_backend
from preprocess.base.errors import CheckpointError, UsageError
from preprocess.base.spec import TrainerSpec
from preprocess.types import Batch, HeadSpec
from pretrained_configs.checkpoint import Checkpoint
from pretrained_configs.config import ModelConfig

FRAMEWORKS = ("pytorch", "tensorflow")
WEIGHTS, GRADIENTS, STEP, ANSWERS = "weights", "gradients", "step", "answers"

#: What torch.amp.GradScaler starts with; halved until no gradient overflows.
_LOSS_SCALE = 65536.0

#: AdamW's epsilon where none is asked for, as a share of the largest gradient. With 1e-8 AdamW moves an element by
#: the learning rate even if its gradient is a rounding error, as most of a well-trained model's are.
_EPSILON = 1e-3


@dataclass(frozen=True)
class ParityJob:
    """What both frameworks compute.

    Args:
        config: the architecture, without dropout.
        head: the task's head.
        checkpoint: what to load, of that architecture; None for fresh weights.
        batches: one per optimizer step; the first is looked at in detail.
        eval_batches: what to answer after the last step.
        trainer: keyword arguments of a backend's Trainer, apart from n_steps; "adam_epsilon" None stands for a
            thousandth of the largest gradient of the first batch.
        device: "cpu", "cuda" or "cuda:N".
        seed: of fresh weights.
    """

    config: ModelConfig
    head: HeadSpec
    checkpoint: Checkpoint | None
    batches: list[Batch]
    eval_batches: list[Batch]
    trainer: dict[str, Any]
    device: str = "cpu"
    seed: int = 0


class Observation(NamedTuple):
    """One thing that a framework computed.

    Args:
        stage: where: `WEIGHTS`, what `Backend.activations` and `gradients` call their outputs, `GRADIENTS`,
            `STEP` and a number from 1, `ANSWERS`.
        name: the parameter's, for stages with many; else "".
        value: an array; `Logits` for `ANSWERS`.
    """

    stage: str
    name: str
    value: Any


def observe(backend: Backend, job: ParityJob) -> Iterator[Observation]:
    """Compute every stage, in the order in which data flows; both frameworks yield the same stages and names."""
    precision = job.trainer["precision"]
    model = _build(backend, job)
    yield from _named(WEIGHTS, backend.parameter_values(model))
    for name, value in backend.activations(model, job.batches[0], precision=precision).items():
        yield Observation(name, "", value)
    outputs, gradients = _finite_gradients(backend, model, job.batches[0], precision)
    for name, value in outputs.items():
        yield Observation(name, "", value)
    yield from _named(GRADIENTS, gradients)
    arguments = dict(job.trainer)
    if arguments["adam_epsilon"] is None:
        # The frameworks' largest gradients agree to 1e-5, and so do these.
        arguments["adam_epsilon"] = _EPSILON * max(float(np.abs(g).max()) for g in gradients.values())
    trainer = backend.Trainer(model, TrainerSpec(n_steps=len(job.batches), **arguments))
    for step, batch in enumerate(job.batches, start=1):
        trainer.step([batch])
        with trainer.evaluating():
            values = backend.parameter_values(model)
        yield from _named(f"{STEP} {step}", values)
    with trainer.evaluating():
        for logits in backend.predict(model, job.eval_batches, precision=precision):
            yield Observation(ANSWERS, "", logits)


def _named(stage: str, values: Mapping[str, NDArray[np.float32]]) -> Iterator[Observation]:
    for name in sorted(values):
        yield Observation(stage, name, values[name])


def _build(backend: Backend, job: ParityJob) -> Any:
    backend.set_seed(job.seed)
    device = choose_device(backend, job.device)
    if job.checkpoint is None:
        model = backend.build_model(job.config, job.head, device=device, seed=job.seed)
        fresh = list(backend.parameter_shapes(model))
    else:
        model, report = backend.load_model(job.checkpoint, job.head, device=device, fresh_head=True)
        fresh = report.fresh
    shapes = backend.parameter_shapes(model)
    std = job.config.initializer_range
    backend.set_parameters(model, {name: fresh_value(name, shapes[name], std, job.seed) for name in fresh})
    return model


def fresh_value(name: str, shape: tuple[int, ...], std: float, seed: int) -> NDArray[np.float32]:
    """Draw a parameter, the same in every framework.

    Other than before training, biases and LayerNorm's shift and scale are random too: what is zero or one could be
    left out or put in the wrong place unseen.
    """
    random = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, zlib.crc32(name.encode())])))
    value = std * np.clip(random.standard_normal(shape, np.float32), -2, 2)
    return (value + name.endswith("norm.weight")).astype(np.float32)


def _finite_gradients(backend: Backend, model: Any, batch: Batch, precision: str) -> tuple[dict, dict]:
    scale = _LOSS_SCALE if precision == "fp16" else 1.0
    while True:
        outputs, gradients = backend.gradients(model, batch, precision=precision, loss_scale=scale)
        if scale == 1.0 or all(np.isfinite(gradient).all() for gradient in gradients.values()):
            return outputs, gradients
        scale /= 2


@contextmanager
def observing(framework: str, job: ParityJob) -> Iterator[Iterator[Observation]]:
    """Run `observe` in a new process, which alone imports the framework; it ends with the block.

    Yields:
        what it observes, as it comes: the process waits while nobody takes it.

    Raises:
        UsageError, CheckpointError: as the process raised it.
        ChildProcessError: if the process died otherwise; its own message went to stderr.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(framework, job, sender), name=framework, daemon=True)
    process.start()
    sender.close()  # so that the end of the process is the end of the file
    try:
        yield _received(receiver, process)
    finally:
        process.kill()
        process.join()
        receiver.close()


def _serve(framework: str, job: ParityJob, connection: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which ends this process
    try:
        for observation in observe(load_backend(framework), job):
            connection.send(observation)
    except (UsageError, CheckpointError) as error:
        connection.send(error)


def _received(receiver: Connection, process: Any) -> Iterator[Observation]:
    while True:
        try:
            message = receiver.recv()
        except EOFError:
            process.join()
            if process.exitcode:
                raise ChildProcessError(
                    f"the {process.name} process ended with status {process.exitcode} before it was done "
                    "(-9 is what the system does when memory runs out)"
                ) from None
            return
        if isinstance(message, Exception):
            raise message
        yield message
