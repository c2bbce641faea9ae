"""What an encoder computes again in backward is what it computed."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.support.values import SPAN
from tf_modeling import build_model
from tf_modeling.model import parameters
from tf_modeling.nn import Pass


@pytest.mark.parametrize(
    "changes",
    [{}, {"model_type": "albert"}, {"model_type": "xlnet"}, {"model_type": "xlnet", "untie_r": False}],
    ids=["bert", "albert", "xlnet", "xlnet-tied"],
)
def test_recomputed_layers_give_the_same_gradients(config, changes):
    dropping = {"hidden_dropout_prob": 0.2, "attention_probs_dropout_prob": 0.2, "num_hidden_layers": 3}
    model = build_model(config(**changes, **dropping), SPAN, device="cpu", seed=1)
    ids = tf.reshape(tf.range(36), [2, 18])
    batch = {"input_ids": ids, "attention_mask": tf.ones_like(ids), "token_type_ids": tf.zeros_like(ids)}
    variables = [p.variable.value for p in parameters(model).values()]

    @tf.function(autograph=False)
    def gradients(n_recomputed: int) -> list[tf.Tensor]:
        model.encoder.n_recomputed = n_recomputed
        with tf.GradientTape() as tape:
            values = model(batch, run=Pass(tf.float32, tf.constant([3, 4])))
            loss = tf.reduce_sum(values["start"] * values["start"]) + tf.reduce_sum(values["end"])
        return [loss, *(tf.convert_to_tensor(g) for g in tape.gradient(loss, variables))]

    expected, found = gradients(0), gradients(2)
    for a, b in zip(found, expected, strict=True):
        # The graph is another one, so kernels may be fused differently: float32's rounding, and no other dropout.
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * float(tf.reduce_max(tf.abs(b))))
