"""What PyTorch's errors mean."""

from __future__ import annotations

import torch
import torch.distributed as dist

from preprocess.base.errors import LostPeerError


def is_out_of_memory(error: Exception) -> bool:
    """Tell whether memory ran out, on a GPU or in the process."""
    # A CPU's allocator, and libraries that take their memory from CUDA themselves, raise a plain RuntimeError.
    said = ("can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDA error: out of memory")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(text in str(error) for text in said)


def translated(error: Exception) -> Exception:
    """Return what an error means: a MemoryError, a LostPeerError; any other one as it is."""
    if is_out_of_memory(error):
        return MemoryError(str(error))
    # NCCL's errors have a class; gloo's connections break at once, with a plain RuntimeError.
    if isinstance(error, dist.DistBackendError) or (isinstance(error, RuntimeError) and "gloo" in str(error)):
        return LostPeerError(str(error))
    return error
