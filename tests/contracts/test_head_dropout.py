"""Classes, tags and options are read through dropout while they are learned; spans are not, in both frameworks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from preprocess.types import HeadSpec, Output
from pretrained_configs.config import ModelConfig
from tasks.core.discovery import get_task

WIDTH = 64
CONFIG = ModelConfig(vocab_size=9, hidden_size=WIDTH, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8,
                     hidden_dropout_prob=0.25)  # fmt: skip
#: Each value of a window, and of a token, is one element of the state: what is dropped shows.
CLASSES = Output("class", reads="sequence", size=WIDTH, loss="class", drops=True)
TAGS = Output("tag", reads="token", size=WIDTH, loss="tag", drops=True)
SPEC = HeadSpec((CLASSES, TAGS, replace(CLASSES, name="kept", projection="kept", drops=False)))
SEQUENCE, POOLED = np.ones((50, 7, WIDTH), np.float32), np.ones((50, WIDTH), np.float32)


def pytorch(spec, training):
    import torch

    from pytorch_modeling.heads import Head

    head = Head(CONFIG, spec).train(training)
    for name in spec.rows:
        torch.nn.init.eye_(head[name].weight)
        torch.nn.init.zeros_(head[name].bias)
    with torch.no_grad():
        values = head(torch.from_numpy(SEQUENCE), torch.from_numpy(POOLED), None, {})
    return {name: value.numpy() for name, value in values.items()}


def tensorflow(spec, training):
    import tensorflow as tf

    from tf_modeling.heads import Head
    from tf_modeling.nn import Pass

    head = Head(CONFIG, spec)
    for readout in head.projections.values():
        readout.kernel.assign(tf.eye(WIDTH))
        readout.bias.assign(tf.zeros(WIDTH))
    run = Pass(seed=tf.constant([3, 4]) if training else None)
    values = head(tf.constant(SEQUENCE), tf.constant(POOLED), None, {}, run=run)
    return {name: value.numpy() for name, value in values.items()}


@pytest.mark.parametrize("compute", [pytorch, tensorflow])
@pytest.mark.parametrize(("share", "expected"), [(0.25, 0.25), (0.5, 0.5), (0.0, 0.0)])
def test_a_share_of_the_state_is_dropped_while_it_is_learned_and_the_rest_makes_up_for_it(compute, share, expected):
    found = compute(replace(SPEC, dropout=share), True)
    for name in ("class", "tag"):
        values = found[name]
        assert {*np.unique(values).round(6)} <= {0.0, np.float32(1 / (1 - expected)).round(6)}
        # 3,200 and more draws: four standard deviations.
        assert np.mean(values == 0) == pytest.approx(expected, abs=4 * np.sqrt(0.25 / 3200) * (expected > 0))
    assert (found["kept"] == 1).all()
    assert all((values == 1).all() for values in compute(replace(SPEC, dropout=share), False).values())


def test_it_is_what_published_programs_of_these_tasks_do():
    for name, outputs in {
        "xnli": {"category"}, "dbqa": {"category"}, "msra_ner": {"mark"}, "c3": {"option"}, "chid": {"option"},
        "cmrc2019": {"option"}, "cmrc2018": set(), "cjrc": set(), "squad_v2": set(),
    }.items():  # fmt: skip
        head = get_task(name).problem.head
        assert {output.name for output in head.outputs if output.drops} == outputs, name
