"""Several devices, several hosts: one batch split over the replicas of a tf.distribute strategy.

Every replica holds the parameters and computes the gradients of its share of the batch; their sum, the gradient of
the whole batch, is what each of them updates its copy by. Since losses are divided by the number of windows of the
whole optimizer step, a step is that of one device with the same batch, up to rounding.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import tensorflow as tf

from preprocess.types import Batch


def choose_strategy(device: str) -> tf.distribute.Strategy:
    """Return the strategy in whose scope a model is built.

    Args:
        device: one of `model.devices()`; or "cuda" for all GPUs of the host.

    Returns:
        the current one if there is one; across hosts where TF_CONFIG describes a cluster (every process is to take
        the same steps with the same batches); mirrored over the GPUs for "cuda"; else the default, of one device.

    Raises:
        OSError: if TF_CONFIG is malformed.
    """
    if tf.distribute.has_strategy():
        return tf.distribute.get_strategy()
    if os.environ.get("TF_CONFIG"):
        return _cluster()
    if device == "cuda":
        return tf.distribute.MirroredStrategy()
    return tf.distribute.get_strategy()


@cache
def _cluster() -> tf.distribute.Strategy:
    """Join the cluster of TF_CONFIG, once per process."""
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise OSError(f"TF_CONFIG {os.environ['TF_CONFIG']!r} describes no cluster: {reason}") from None


class Group:
    """The processes of a run that share its files: this one alone, since each process of a cluster writes its own.

    Args:
        rank: number of this process, from 0; process 0 alone writes files.
        size: number of processes.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        """Take this process's place; `current` finds it."""
        self.rank = rank
        self.size = size

    @staticmethod
    def current() -> Group:
        """Return the group that this process is in.

        Raises:
            OSError: if torchrun has started several.
        """
        if "TORCHELASTIC_RUN_ID" in os.environ and os.environ["WORLD_SIZE"] != "1":
            raise OSError(
                "torchrun starts processes for PyTorch; TensorFlow takes all GPUs of a host with --device cuda, and "
                "several hosts by TF_CONFIG"
            )
        return Group()

    def gather(self, value: Any) -> list[Any]:
        """Return every process's value, in their order; called by all of them."""
        return [value]

    def first(self, value: Any) -> Any:
        """Return the value of process 0; called by all of them."""
        return value


class Replicas:
    """The replicas of a strategy that this process runs."""

    def __init__(self, strategy: tf.distribute.Strategy) -> None:
        """Number them; with the default strategy there is one, and nothing is done to run it."""
        self.strategy = strategy
        self.n_all = strategy.num_replicas_in_sync
        self.local: tuple[int, ...] = (0,)
        if self.n_all > 1:
            ids = strategy.experimental_distribute_values_from_function(
                lambda context: context.replica_id_in_sync_group
            )
            self.local = tuple(int(i) for i in strategy.experimental_local_results(ids))

    def split(self, batch: Batch, *, whole_groups: bool = False) -> list[tuple[int, Batch]]:
        """Return (replica, its rows of the batch) for the replicas of this process; a share may be empty.

        With `whole_groups` the windows of an example stay together.
        """
        if self.n_all == 1:
            return [(0, batch)]
        rows = batch.shares(self.n_all, whole_groups=whole_groups)
        return [(i, batch.take(rows[i])) for i in self.local]

    def run(self, function: Callable[..., Any], inputs: Sequence[Sequence[Any]]) -> Any:
        """Call a function in every replica, with its inputs; return what the first one returns."""
        if self.n_all == 1:
            return function(*inputs[0])

        def replica() -> Any:
            i = tf.get_static_value(tf.distribute.get_replica_context().replica_id_in_sync_group)
            return function(*inputs[self.local.index(int(i))])

        results = self.strategy.run(replica)
        return tf.nest.map_structure(lambda value: self.strategy.experimental_local_results(value)[0], results)

    def total(self, values: list[tf.Tensor]) -> list[tf.Tensor]:
        """Sum over all replicas, in each of them."""
        if self.n_all == 1:
            return values
        return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, values)


def assign(variable: tf.Variable, value: tf.Tensor) -> None:
    """Set a variable in the replica that runs, and no other."""
    tf.raw_ops.AssignVariableOp(resource=variable.handle, value=value)
