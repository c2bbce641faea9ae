"""What TensorFlow's errors mean."""

from __future__ import annotations

import tensorflow as tf


def is_out_of_memory(error: Exception) -> bool:
    """Tell whether memory ran out, on a GPU or in the process."""
    return isinstance(error, tf.errors.ResourceExhaustedError | MemoryError)


def translated(error: Exception) -> Exception:
    """Return what an error means: a MemoryError; any other one as it is."""
    return MemoryError(str(error)) if is_out_of_memory(error) else error
