"""Several devices, several hosts: one batch split over the processes that torchrun starts, one per device.

Every process holds the parameters and goes through the same data in the same order; it computes its rows of every
batch. Since losses are divided by the number of windows of the whole optimizer step, the sum of all processes'
gradients is that of the whole batch, and a step is that of one device with the same batch, up to rounding.
"""

from __future__ import annotations

import atexit
import gc
import os
import time
import weakref
from collections.abc import Iterable
from datetime import timedelta
from functools import cache
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

# Its functions' defaults keep the group that is there when it is imported, and its threads: here there is none yet.
import torch.distributed.nn.functional
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.nn.parallel import DistributedDataParallel

from preprocess.types import Batch

#: A process that has not answered for this long is dead or stuck: rank 0 may decode a large file meanwhile.
_TIMEOUT = timedelta(minutes=30)
#: For so long the threads of a group that can't be ended may go on to free what they used last.
_FREEING_S = 0.5


class Group:
    """The processes of a run; without torchrun, this one alone.

    Args:
        rank: number of this process, from 0; process 0 alone writes files.
        size: number of processes.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        """Take this process's place; `current` finds it."""
        self.rank = rank
        self.size = size

    @staticmethod
    @cache
    def current() -> Group:
        """Return the group that this process is in, and join it when first called.

        Raises:
            OSError: if more processes than GPUs were started on a host that has some.
        """
        if not dist.is_torchelastic_launched() or os.environ["WORLD_SIZE"] == "1":
            return Group()
        if n_gpus := torch.cuda.device_count():
            index = int(os.environ["LOCAL_RANK"])
            if index >= n_gpus:
                raise OSError(
                    f"torchrun --nproc_per_node {os.environ['LOCAL_WORLD_SIZE']}: this host has {n_gpus} GPUs; start "
                    "one process for each, or hide them all with CUDA_VISIBLE_DEVICES="
                )
            torch.cuda.set_device(index)
        store, rank, size = next(dist.rendezvous("env://", timeout=_TIMEOUT))
        if os.environ["LOCAL_WORLD_SIZE"] == os.environ["WORLD_SIZE"]:
            # torchrun --max_restarts keeps its store, and processes would find the addresses of dead ones there. The
            # hosts of a larger group may count restarts differently.
            store = dist.PrefixStore(f"attempt_{os.environ['TORCHELASTIC_RESTART_COUNT']}", store)
        backend = "cpu:gloo,cuda:nccl" if n_gpus else "gloo"
        dist.init_process_group(backend, timeout=_TIMEOUT, store=store, rank=rank, world_size=size)
        atexit.register(_leave)
        return Group(dist.get_rank(), dist.get_world_size())

    def gather(self, value: Any) -> list[Any]:
        """Return every process's value, in their order; called by all of them."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def first(self, value: Any) -> Any:
        """Return the value of process 0; called by all of them."""
        if self.size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, 0)
        return values[0]


def _leave() -> None:
    """End the group's threads: one that still frees a tensor while the interpreter ends would abort the process."""
    group = weakref.ref(dist.group.WORLD)
    gc.collect()  # what uses the group, in cycles, keeps it and its threads
    dist.destroy_process_group()
    if group() is not None:
        time.sleep(_FREEING_S)  # caches of FSDP2 keep it, too: the threads stay, and get the time to finish


def share(batch: Batch, group: Group, *, whole_groups: bool = False) -> tuple[Batch, float]:
    """Return this process's rows of a batch and the weight of their loss.

    A batch of fewer rows than there are processes leaves some without any; they compute a row that weighs 0, because
    all take part in the sum of the gradients. With `whole_groups` the windows of an example stay together.
    """
    if group.size == 1:
        return batch, 1.0
    rows = batch.shares(group.size, whole_groups=whole_groups)[group.rank]
    weight = 1.0 if len(rows) else 0.0
    rows = rows if len(rows) else np.zeros(1, np.int64)
    return batch.take(rows), weight


def summing(model: nn.Module, group: Group) -> nn.Module:
    """Wrap a model so that a backward pass sums the gradients of all processes, while it computes."""
    if group.size == 1:
        return model
    device = next(model.parameters()).device
    devices = [device] if device.type == "cuda" else None
    parallel = DistributedDataParallel(model, device_ids=devices, gradient_as_bucket_view=True)
    # Not _sum itself: its annotations are strings here, and would be taken for wrong ones.
    parallel.register_comm_hook(None, lambda _, bucket: _sum(bucket))
    return parallel


def sharded(model: nn.Module, layers: Iterable[nn.Module], group: Group) -> nn.Module:
    """Leave each process a part of every parameter, gradient and moment; it borrows a layer's others to compute it.

    Args:
        model: changed in place; its parameters are DTensors from now on, and all processes have to run it together.
        layers: what is borrowed at once; the rest of the model is one more such part.
        group: of at least two processes.

    Returns:
        the model, whose backward pass sums the gradients of all processes.
    """
    from torch.distributed.fsdp import FSDPModule, fully_shard  # half a second

    mesh = init_device_mesh(next(model.parameters()).device.type, (group.size,))
    for module in [*dict.fromkeys(layers), model]:
        fully_shard(module, mesh=mesh, reshard_after_forward=True)  # also the whole, which may be saved next
        assert isinstance(module, FSDPModule)
        module.set_gradient_divide_factor(1.0)  # a sum, not a mean
        module.set_force_sum_reduction_for_comms(True)  # gloo has no other
    return model


def whole(tensor: Tensor) -> Tensor:
    """Return a tensor with the parts of all processes, if it is a sharded one; then all of them have to call this."""
    return tensor.full_tensor() if _is_sharded(tensor) else tensor  # type: ignore[attr-defined]


def part(tensor: Tensor) -> Tensor:
    """Return what this process holds of a tensor: the same memory, all of it if it is not a sharded one."""
    return tensor.to_local() if _is_sharded(tensor) else tensor  # type: ignore[attr-defined]


def to_array(tensor: Tensor) -> NDArray[Any]:
    """Copy a whole tensor to the host, as `whole`."""
    return whole(tensor.detach()).to("cpu", copy=True).numpy()


def fill(tensor: Tensor, values: Tensor) -> None:
    """Copy whole values into a tensor; into this process's part of it, if it is a sharded one."""
    if _is_sharded(tensor):
        from torch.distributed.tensor import DTensor, distribute_tensor

        assert isinstance(tensor, DTensor)
        values = values.to(tensor.device, tensor.dtype)
        values = distribute_tensor(values, tensor.device_mesh, tensor.placements, src_data_rank=None)
    tensor.copy_(values)


def _is_sharded(tensor: Tensor) -> bool:
    # Not by the class: its module takes half a second to import.
    return hasattr(tensor, "full_tensor")


def total(value: Tensor, group: Group) -> Tensor:
    """Sum a tensor over all processes, in place."""
    if group.size > 1:
        dist.all_reduce(value)
    return value


def summed(gradient: Tensor, group: Group) -> Tensor:
    """Return a gradient of this process's rows, summed over all processes; that of a sharded tensor is so already."""
    return gradient if _is_sharded(gradient) or group.size == 1 else total(gradient.clone(), group)


def sum_gradients(model: nn.Module, group: Group) -> None:
    """Sum the gradients of all processes, after backward."""
    if group.size > 1:
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        for work in [dist.all_reduce(gradient, async_op=True) for gradient in gradients]:
            work.wait()


def _sum(bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
    """Add up a bucket of gradients; DistributedDataParallel's own hook would average them."""
    future = dist.all_reduce(bucket.buffer(), async_op=True).get_future()
    return future.then(lambda done: done.value()[0])
