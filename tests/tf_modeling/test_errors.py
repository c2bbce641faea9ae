"""What TensorFlow's errors mean to whoever knows no framework."""

from __future__ import annotations

import tensorflow as tf

from tf_modeling.errors import translated


def test_an_error_says_what_it_means():
    found = translated(tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor"))
    assert type(found) is MemoryError and "OOM when allocating tensor" in str(found)


def test_any_other_error_stays_what_it_is():
    error = tf.errors.InvalidArgumentError(None, None, "Incompatible shapes")
    assert translated(error) is error
