"""A model as a SavedModel: what TensorFlow Serving, TensorFlow's C++ and Java interfaces and converters read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from preprocess.types import input_names
from tf_modeling.model import MRCModel, parameters


def export(model: MRCModel, directory: Path, assets: Iterable[Path]) -> None:
    """Write a SavedModel for inference in float32, on whatever device it is loaded.

    Its signature "serving_default" takes input_ids, attention_mask and token_type_ids, and answer_mask where the head
    asks for it, int32 [B, S], of any B and of any S up to the position table's length; the graph itself refuses a
    longer S. It returns what `predict` computes, float32: the values of each output under its name and "_logits".

    Args:
        model: with a head; its variables keep their framework-neutral names.
        directory: must be absent or empty.
        assets: files that go along, in the subdirectory "assets".

    Raises:
        OSError: if it can't be written, as on a full disk.
    """
    limit = model.config.family.usable_length(model.config)
    names = input_names(model.head_spec)

    def serve(
        input_ids: tf.Tensor,
        attention_mask: tf.Tensor,
        token_type_ids: tf.Tensor,
        answer_mask: tf.Tensor | None = None,
    ) -> dict[str, tf.Tensor]:
        given = (input_ids, attention_mask, token_type_ids, *([] if answer_mask is None else [answer_mask]))
        length = tf.shape(input_ids)[1]
        # Said before any position is looked up: that fails with less clear words on a CPU, and in silence on a GPU.
        problem = f"input_ids: more than max_position_embeddings {limit} tokens; cut the text into windows"
        with tf.control_dependencies([tf.debugging.assert_less_equal(length, limit, message=problem)]):
            inputs = dict(zip(names, map(tf.identity, given), strict=True))
        return {f"{name}_logits": values for name, values in model(inputs).items()}

    served = tf.Module()
    served.parameters = {name: parameter.variable.value for name, parameter in parameters(model).items()}
    served.assets = [tf.saved_model.Asset(str(path)) for path in assets]
    served.serve = tf.function(
        serve, input_signature=[tf.TensorSpec([None, None], tf.int32, name) for name in names], autograph=False
    )
    try:
        tf.saved_model.save(served, str(directory), {"serving_default": served.serve})
    except tf.errors.OpError as error:
        reason = error.message.rpartition("}} ")[2]  # what is before names the graph's node
        raise OSError(f"the SavedModel can't be written: {reason}") from None


def load_export(directory: Path) -> Callable[[Mapping[str, NDArray[np.integer]]], dict[str, NDArray[np.float32]]]:
    """Return what computes an exported model's outputs, by their names in the signature, from its inputs."""
    loaded = tf.saved_model.load(str(directory))

    def answer(inputs: Mapping[str, NDArray[np.integer]]) -> dict[str, NDArray[np.float32]]:
        values = loaded.signatures["serving_default"](**{n: tf.constant(x, tf.int32) for n, x in inputs.items()})
        return {name: value.numpy() for name, value in values.items()}

    return answer
