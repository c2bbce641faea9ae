"""A SavedModel computes what `predict` computes, in a process that knows nothing of this toolkit."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys

import numpy as np

from preprocess.types import INPUTS
from tests.support.values import SPAN
from tf_modeling import build_model, predict
from tf_modeling.export import export

#: Answers each request with its logits, or with the error's first line that says what is wrong.
PROGRAM = """
import pickle, sys
import tensorflow as tf

answers = {}
for directory, requests in pickle.load(open("requests.pickle", "rb")).items():
    loaded = tf.saved_model.load(directory)
    serve = loaded.signatures["serving_default"]
    for number, request in enumerate(requests):
        try:
            logits = serve(**{name: tf.constant(value) for name, value in request.items()})
            answers[directory, number] = {name: value.numpy() for name, value in logits.items()}
        except tf.errors.InvalidArgumentError as error:
            answers[directory, number] = str(error)
    answers[directory] = [open(asset.asset_path.numpy(), "rb").read() for asset in loaded.assets]
ours = {"tf_modeling", "experiment", "preprocess", "pretrained_configs"} & set(sys.modules)
pickle.dump((answers, ours), open("answers.pickle", "wb"))
"""
LIMIT = 40


def _request(batch):
    return {name: batch.inputs[name] for name in INPUTS}


def test_served_logits_are_those_of_predict_at_every_shape(config, kinds, make_batch, tmp_path):
    albert = {
        "model_type": "albert",
        "embedding_size": 16,
        "embedding_projection": "word",
        "layer_norm_type": "preln",
    }
    models = {
        "span": build_model(config(), SPAN, device="cpu", seed=1),
        "kinds": build_model(config(**albert), kinds, device="cpu", seed=2),
    }
    batches = [make_batch(n=1, length=LIMIT), make_batch(n=5, length=33, padded=True)]
    batches += [make_batch(n=2, length=12, padded=True, left=True), make_batch(n=3, length=LIMIT + 1)]
    (tmp_path / "vocab.txt").write_text("[PAD]\n", encoding="utf-8")
    for name, model in models.items():
        export(model, tmp_path / name, [tmp_path / "vocab.txt"])
    requests = {name: [_request(batch) for batch in batches] for name in models}
    (tmp_path / "requests.pickle").write_bytes(pickle.dumps(requests))
    (tmp_path / "vocab.txt").unlink()  # what is served stands in the SavedModel
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    subprocess.run([sys.executable, "-c", PROGRAM], cwd=tmp_path, env=environment, check=True, timeout=600)
    answers, ours = pickle.loads((tmp_path / "answers.pickle").read_bytes())
    assert not ours
    for name, model in models.items():
        expected = list(predict(model, batches[:3]))
        for number, logits in enumerate(expected):
            found = answers[name, number]
            wanted = {f"{output}_logits": values for output, values in logits.values.items()}
            assert found.keys() == wanted.keys()
            for output, values in wanted.items():
                assert found[output].dtype == np.float32
                # The same graph on the same kernels; logits are of the order of 1.
                np.testing.assert_allclose(found[output], values, atol=1e-6, rtol=0, err_msg=f"{name} {output}")
        assert f"more than max_position_embeddings {LIMIT} tokens" in answers[name, 3]
        assert answers[name] == [b"[PAD]\n"]
