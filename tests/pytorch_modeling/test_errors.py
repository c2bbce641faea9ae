"""What PyTorch's errors mean to whoever knows no framework."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist

from preprocess.base.errors import LostPeerError
from pytorch_modeling.errors import translated


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB"), MemoryError),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"), MemoryError),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), MemoryError),
        (MemoryError("Unable to allocate 8.00 TiB"), MemoryError),
        (dist.DistBackendError("NCCL communicator was aborted"), LostPeerError),
        (
            RuntimeError("[../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer"),
            LostPeerError,
        ),
    ],
)
def test_an_error_says_what_it_means(error, meaning):
    found = translated(error)
    assert type(found) is meaning and str(found) == str(error)


def test_any_other_error_stays_what_it_is():
    error = RuntimeError("mat1 and mat2 shapes cannot be multiplied")
    assert translated(error) is error
