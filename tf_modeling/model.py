"""A model for extractive MRC: an encoder of some family and a head."""

from __future__ import annotations

import os
import random
import resource
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from preprocess.types import PLACES, Batch, HeadSpec, soft_name
from pretrained_configs.config import ModelConfig
from tf_modeling.distribute import choose_strategy
from tf_modeling.families import encoder_class
from tf_modeling.heads import Head
from tf_modeling.layers import initialise
from tf_modeling.nn import Module, Pass


class MRCModel(Module):
    """Encoder and head; without a head it is the bare pretrained model.

    Its parameters carry the framework-neutral names of the name maps (`parameter_name`).
    """

    def __init__(self, config: ModelConfig, head: HeadSpec | None) -> None:
        """Build the modules; a pooler exists where something reads it."""
        super().__init__()
        self.config = config
        self.head_spec = head
        self.encoder = encoder_class(config.model_type)(config, pooled=head is None or head.reads("sequence"))
        self.head = Head(config, head) if head is not None else None
        self.strategy = tf.distribute.get_strategy()
        self._functions: dict[Any, Callable[..., Any]] = {}

    def call(self, batch: dict[str, tf.Tensor], run: Pass | None = None) -> dict[str, tf.Tensor]:
        """Return the values of the head's outputs for a batch, by name; see `Output`.

        Targets in the batch are there to be learned from: what is given to an output is then its target.
        """
        assert self.head is not None, "this model was built without a head"
        run = run or Pass()
        mask = batch["attention_mask"]
        sequence_output = self.encoder(batch["input_ids"], mask, batch["token_type_ids"], run=run)
        pooled = self.encoder.pool(sequence_output, mask, run=run) if self.encoder.pooler is not None else None
        reads_state = self.head.spec.reads("sequence_given")
        state = self.encoder.pooled_state(sequence_output, mask) if reads_state else None
        # A product with the word table is as large as a layer's, and runs in the precision of these.
        tied = (batch[PLACES], self.encoder.embeddings) if PLACES in batch else None
        pieces = {} if tied is None else self.head.pieces(sequence_output, *tied, run=run)
        # The rest is tiny, and logits rounded to 8 bits would tie: it computes in float32 whatever the precision.
        return self.head(sequence_output, pooled, state, batch, run=Pass(seed=run.seed())) | pieces

    @property
    def device(self) -> str:
        """The device that holds the weights, as TensorFlow calls it."""
        return next(self.named_parameters())[1].value.device

    @contextmanager
    def placed(self) -> Iterator[None]:
        """Compute on the model's device, and make variables where the model's are."""
        if self.strategy.num_replicas_in_sync > 1:
            with self.strategy.scope():
                yield
        else:
            with tf.device(self.device):
                yield

    def compiled(self, key: tuple[Any, ...], build: Callable[[], Callable[..., Any]]) -> Callable[..., Any]:
        """Return the traced function of this key, made by `build` when first asked for."""
        if key not in self._functions:
            self._functions[key] = build()
        return self._functions[key]


def parameter_name(module_name: str) -> str:
    """Translate a name of `MRCModel.named_parameters` to the framework-neutral one."""
    stem, _, leaf = module_name.removeprefix("encoder.").replace("head.projections.", "head.").rpartition(".")
    return f"{stem}.{'weight' if leaf == 'kernel' else leaf}"


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter between TensorFlow and the framework-neutral layout: the only place that knows both.

    Args:
        variable: as TensorFlow computes with it.
        transposed: whether it is a kernel [in, out], whose neutral form is [out, in].
    """

    variable: keras.Variable
    transposed: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """The neutral shape."""
        shape = tuple(self.variable.shape)
        return shape[::-1] if self.transposed else shape

    def neutral(self, values: tf.Tensor) -> NDArray[np.float32]:
        """Turn something of the variable's shape (its value, its gradient) into the neutral layout."""
        array = values.numpy()
        return array.T if self.transposed else array

    def assign(self, array: NDArray[np.float32]) -> None:
        """Set the variable from a value in the neutral layout."""
        self.variable.assign(array.T if self.transposed else array)


def parameters(model: MRCModel) -> dict[str, Parameter]:
    """Return every parameter by its framework-neutral name."""
    return {
        parameter_name(name): Parameter(variable, name.endswith(".kernel"))
        for name, variable in model.named_parameters()
    }


def outline(config: ModelConfig, head: HeadSpec | None) -> MRCModel:
    """Build a model whose parameters have shapes, and neither values nor memory."""
    with keras.StatelessScope(initialize_variables=False):
        return MRCModel(config, head)


def build_model(config: ModelConfig, head: HeadSpec | None, *, device: str, seed: int = 0) -> MRCModel:
    """Build a model with fresh weights, in float32.

    Args:
        config: the architecture.
        head: what the task needs; None for the bare encoder with its pooler.
        device: one of `devices()`; see `distribute.choose_strategy` for several.
        seed: seed of the fresh weights; the same on every device.

    Returns:
        the model.
    """
    model = zero_model(config, head, device)
    draw_fresh(model, parameters(model), seed)
    return model


def zero_model(config: ModelConfig, head: HeadSpec | None, device: str) -> MRCModel:
    """Build a model whose parameters are all zero, on the device."""
    with choose_strategy(device).scope(), tf.device(_tensorflow_name(device)):
        return MRCModel(config, head)


def draw_fresh(model: MRCModel, names: Collection[str], seed: int) -> None:
    """Draw the values of whole modules, by the framework-neutral names of their parameters."""
    named = ((parameter_name(name), variable) for name, variable in model.named_parameters())
    with model.strategy.scope(), tf.device("CPU:0"):
        initialise(((name, v) for name, v in named if name in names), model.config.initializer_range, seed)


def set_seed(seed: int) -> None:
    """Seed Python's, numpy's and TensorFlow's generators, on all devices."""
    random.seed(seed)
    np.random.seed(seed)
    tf.random.set_seed(seed)


def allow_tf32(allowed: bool) -> None:
    """Say whether GPUs may round the factors of float32 matrix products to 10 bits of mantissa, on all of them."""
    tf.config.experimental.enable_tensor_float_32_execution(allowed)


def be_deterministic(wanted: bool) -> None:
    """Say whether operations have to compute the same bits each time; TensorFlow can't go back from that."""
    if wanted:
        tf.config.experimental.enable_op_determinism()


def devices() -> tuple[str, ...]:
    """Return "cuda:0" … for the GPUs there are, "cuda" for all of them if they are several, then "cpu"."""
    gpus = [f"cuda:{i}" for i in range(len(tf.config.list_physical_devices("GPU")))]
    return (*gpus, *(["cuda"] if len(gpus) > 1 else []), "cpu")


def _tensorflow_name(device: str) -> str:
    return device.replace("cuda", "GPU") if device.startswith("cuda:") else "CPU:0"


def on_gpu(model: MRCModel) -> bool:
    """Whether the model computes on a GPU."""
    return "GPU" in model.device


def n_devices(device: str) -> int:
    """Return how many devices share each batch: the replicas of the strategy that `build_model` will take."""
    return choose_strategy(device).num_replicas_in_sync


def device_facts(model: MRCModel) -> dict[str, Any]:
    """Return "device", its name, and "peak_bytes", the most memory held so far (of the process, on a CPU)."""
    if on_gpu(model):
        index = int(model.device.rpartition(":")[2])
        details = tf.config.experimental.get_device_details(tf.config.list_physical_devices("GPU")[index])
        peak = tf.config.experimental.get_memory_info(f"GPU:{index}")["peak"]
        return {"device": details.get("device_name", "GPU"), "peak_bytes": peak}
    # ru_maxrss counts KiB on Linux and bytes on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    # 0 stands for one thread per core.
    threads = tf.config.threading.get_intra_op_parallelism_threads() or os.cpu_count()
    return {"device": f"CPU, {threads} threads", "peak_bytes": peak}


def to_tensors(batch: Batch, device: str) -> dict[str, tf.Tensor]:
    """Copy a batch to the device as int32 tensors: inputs and targets by their names, "group" and "answered".

    Soft targets, by their `soft_name`s, are float32.
    """
    columns = {**batch.inputs, **batch.targets, "group": batch.group}
    if batch.answered is not None:
        columns["answered"] = batch.answered.astype(np.int32)
    with tf.device(device):
        tensors = {name: tf.constant(np.asarray(column, dtype=np.int32)) for name, column in columns.items()}
        return tensors | {soft_name(name): tf.constant(column, tf.float32) for name, column in batch.soft.items()}
