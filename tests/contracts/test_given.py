"""Outputs that are given a position, in both frameworks: XLNet's published head beside its programs."""

from __future__ import annotations

import importlib
import json
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from experiment.options.optimisation import OptimizerOptions
from experiment.parity.compare import TOLERANCES, Comparison
from experiment.parity.observe import ParityJob, observe
from experiment.parity.windows import random_batch
from preprocess.base.spec import TrainerSpec
from preprocess.batch import collate, unpadded
from preprocess.template import TEMPLATES
from preprocess.types import Batch, FeatureSet, HeadSpec, Output, Outputs
from pretrained_configs.checkpoint import read_checkpoint
from pretrained_configs.config import ModelConfig
from pretrained_configs.formats.safetensors_file import write_safetensors
from pretrained_configs.parameters import parameter_shapes
from pretrained_configs.published import format_for
from tasks.problems.conditioned import ConditionedProblem, best_given
from tests.support import oracle_xlnet
from tests.support.oracle_layers import draw
from tests.support.values import span_features

#: A float32 pass errs by some 1e-6.
ATOL = 2e-5
N_STARTS, N_ENDS = 3, 4
HEAD = ConditionedProblem({"unknown": ""}, n_starts=N_STARTS, n_ends=N_ENDS).head
PUBLISHED = {"d_head": 8, "d_inner": 48, "d_model": 32, "ff_activation": "gelu", "n_head": 4, "n_layer": 2}
PUBLISHED |= {"n_token": 61, "untie_r": True}
LENGTHS, CONTEXTS = np.array([24, 17, 6]), np.array([12, 5, 2])


@pytest.fixture(params=["pytorch_modeling", "tf_modeling"])
def backend(request):
    return importlib.import_module(request.param)


def windows(side: str = "left") -> FeatureSet:
    """Three windows `A sep B sep cls`; the last has fewer places for an answer than starts are searched."""
    ids = np.random.RandomState(3).randint(6, 61, LENGTHS.sum()).astype(np.uint16)
    pieces = np.arange(CONTEXTS.sum(), dtype=np.int32)
    pieces -= np.repeat(np.cumsum(CONTEXTS) - CONTEXTS, CONTEXTS).astype(np.int32)
    template = replace(TEMPLATES["xlnet"], padding_side=side)
    found = span_features(
        input_ids=ids,
        row_splits=np.concatenate([[0], np.cumsum(LENGTHS)]),
        example_index=np.arange(3),
        context_index=np.arange(3),
        doc_offset=np.zeros(3, np.int32),
        doc_length=CONTEXTS.astype(np.int32),
        piece_start=np.zeros(3, np.int32),
        max_context=np.stack([np.zeros(3, np.int32), CONTEXTS.astype(np.int32)], 1),
        piece_spans=np.stack([pieces, pieces + 1], 1),
        piece_splits=np.concatenate([[0], np.cumsum(CONTEXTS)]),
        start=np.zeros(3),
        end=np.zeros(3),
        meta={"template": template.as_json(), "max_seq_length": 32, "pad_id": 5},
    )
    # The answer of the second window stands elsewhere.
    targets = {"start": [4, 16, 0], "end": [7, 16, 1], "unanswerable": [0, 1, 0]}
    return found.with_targets(HEAD, {name: np.array(values, np.int32) for name, values in targets.items()}, {})


def batch_of(features: FeatureSet) -> Batch:
    return collate(features, np.arange(3))


def original(directory: Path) -> dict[str, np.ndarray]:
    """Write variables of the authors' programs, none at its default."""
    arrays = draw({**oracle_xlnet.shapes(PUBLISHED), **oracle_xlnet.head_shapes(PUBLISHED["d_model"])}, 0)
    (directory / "xlnet_config.json").write_text(json.dumps(PUBLISHED), encoding="utf-8")
    write_safetensors(directory / "model.safetensors", arrays)
    return arrays


def loaded(backend, directory: Path):
    model, report = backend.load_model(read_checkpoint(directory), HEAD, device="cpu", fresh_head=False)
    assert not report.fresh
    return model, {name for name, _ in report.ignored}


def said(arrays, batch: Batch, **starts) -> dict[str, np.ndarray]:
    inputs = [batch.inputs[name].astype(np.int64) for name in ("input_ids", "attention_mask", "token_type_ids")]
    states = oracle_xlnet.forward(arrays, PUBLISHED, *inputs)["sequence_output"]
    cls = inputs[1].cumsum(1).argmax(1)
    return oracle_xlnet.answers(arrays, states, 1 - batch.inputs["answer_mask"], cls, n_starts=N_STARTS, **starts)


def decoded(backend, model, features: FeatureSet) -> tuple[object, Outputs]:
    (outputs,) = backend.predict(model, [batch_of(features)])
    return best_given(features, [unpadded(features, outputs)], N_STARTS, N_ENDS), outputs


@pytest.mark.parametrize("side", ["left", "right"])
def test_starts_ends_and_answerability_equal_the_authors_program(tmp_path, backend, side):
    arrays, features = original(tmp_path), windows(side)
    model, ignored = loaded(backend, tmp_path)
    assert ignored == {"model/lm_loss/bias", "model/transformer/mask_emb/mask_emb"}
    best, outputs = decoded(backend, model, features)
    expected = said(arrays, batch_of(features))
    shift = 0 if side == "right" else batch_of(features).inputs["input_ids"].shape[1] - LENGTHS
    np.testing.assert_allclose(outputs.values["unanswerable"], expected["cls"], atol=ATOL, rtol=0)
    for n_kept, rows in ((N_STARTS, [0, 1]), (3, [2])):  # the last window's three places are its beams
        np.testing.assert_array_equal((best.start + np.reshape(shift, (-1, 1)))[rows], expected["given"][rows])
        top = np.take_along_axis(expected["start"], expected["given"], 1)
        np.testing.assert_allclose(best.start_logit[rows], top[rows], atol=ATOL, rtol=0)
        places = min(n_kept, N_ENDS)
        order = np.argsort(-expected["end"], axis=2, kind="stable")[:, :, :places]
        found = best.end[:, :, :places] + np.reshape(shift, (-1, 1, 1))
        np.testing.assert_array_equal(found[rows], order[rows])
        top = np.take_along_axis(expected["end"], order, 2)
        np.testing.assert_allclose(best.end_logit[rows, :, :places], top[rows], atol=ATOL, rtol=0)


def test_the_loss_is_the_authors_and_reads_the_right_starts(tmp_path, backend):
    arrays, features = original(tmp_path), windows()
    batch = batch_of(features)
    start, end = (batch.targets[name].astype(np.int64) for name in ("start", "end"))
    model = _without_dropout(backend, tmp_path)
    expected = said(arrays, batch, start_positions=start)
    outputs, gradients = backend.gradients(model, batch, precision="fp32")
    loss = oracle_xlnet.squad_loss(expected, start, end, batch.targets["unanswerable"])
    assert float(outputs["loss"]) == pytest.approx(loss, abs=ATOL)
    assert outputs["end_logits"].shape == (LENGTHS.sum(),)
    # Central differences in float64 of a weight of each part: the loss depends on them all as the gradient says.
    for theirs, ours, index in (
        ("start_logits/dense/kernel", "head.start.weight", (3, 0)),
        ("end_logits/dense_0/kernel", "head.end.hidden.weight", (40, 2)),
        ("end_logits/LayerNorm/gamma", "head.end.norm.weight", (5,)),
        ("end_logits/dense_1/kernel", "head.end.output.weight", (7, 0)),
        ("answer_class/dense_0/kernel", "head.unanswerable.hidden.weight", (50, 4)),
        ("answer_class/dense_1/kernel", "head.unanswerable.output.weight", (9, 0)),
    ):
        sides = []
        for step in (1e-4, -1e-4):
            moved = arrays[theirs].astype(np.float64)
            moved[index] += step
            moved_said = said({**arrays, theirs: moved}, batch, start_positions=start)
            sides.append(oracle_xlnet.squad_loss(moved_said, start, end, batch.targets["unanswerable"]))
        slope = (sides[0] - sides[1]) / 2e-4
        assert gradients[ours][index[::-1]] == pytest.approx(slope, abs=1e-5), ours


def _without_dropout(backend, directory: Path):
    checkpoint = read_checkpoint(directory)
    config = replace(checkpoint.config, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    checkpoint = replace(checkpoint, config=config)
    return backend.load_model(checkpoint, HEAD, device="cpu", fresh_head=False)[0]


def test_the_authors_format_is_written_as_it_was_read(tmp_path):
    arrays = original(tmp_path)
    checkpoint = read_checkpoint(tmp_path)
    with checkpoint.open() as source:
        heads, given = checkpoint.namemap.heads_in(source), checkpoint.namemap.given_in(source)
        assert (heads, given) == (HEAD.rows, HEAD.given)
        shapes = parameter_shapes(checkpoint.config, pooled=False, heads=heads, given=given)
        ours, _ = checkpoint.namemap.to_ours(source, shapes)
    again = format_for(checkpoint.config, "tf1").to_theirs(ours, checkpoint.config.num_attention_heads)
    assert all(np.array_equal(array, arrays[name]) for name, array in again.items())
    assert set(oracle_xlnet.head_shapes(1)) <= set(again)


@pytest.mark.parity
def test_transformers_computes_the_same_and_reads_what_is_saved(tmp_path, backend):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    config = transformers.XLNetConfig(
        vocab_size=61, d_model=32, n_layer=2, n_head=4, d_inner=48, start_n_top=N_STARTS, end_n_top=N_ENDS
    )
    model, generator = transformers.XLNetForQuestionAnswering(config).eval(), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(1.0 if name.lower().endswith("norm.weight") else 0.0, 0.2, generator=generator)
    model.save_pretrained(tmp_path / "theirs")
    checkpoint = read_checkpoint(tmp_path / "theirs")
    assert (checkpoint.config.start_n_top, checkpoint.config.end_n_top) == (N_STARTS, N_ENDS)
    ours, ignored = loaded(backend, tmp_path / "theirs")
    assert ignored == {"transformer.mask_emb"}
    features = windows()
    batch = batch_of(features)
    given = {name: torch.from_numpy(column).long() for name, column in batch.inputs.items() if name != "answer_mask"}
    given |= {"p_mask": torch.from_numpy(1.0 - batch.inputs["answer_mask"]).float()}
    given |= {"cls_index": given["attention_mask"].cumsum(1).argmax(1)}
    with torch.inference_mode():
        expected = model(**given)
    best, outputs = decoded(backend, ours, features)
    shift = batch.inputs["input_ids"].shape[1] - LENGTHS[:2]
    np.testing.assert_allclose(outputs.values["unanswerable"], expected.cls_logits, atol=ATOL, rtol=0)
    # What it calls logarithms are the probabilities themselves, and its ends go by rank, then by start.
    np.testing.assert_array_equal(best.start[:2] + shift[:, None], expected.start_top_index[:2])
    np.testing.assert_allclose(np.exp(best.start_logit), expected.start_top_log_probs, atol=ATOL, rtol=0)
    ends, log_probs = (
        x.reshape(3, N_ENDS, N_STARTS).mT.numpy() for x in (expected.end_top_index, expected.end_top_log_probs)
    )
    np.testing.assert_array_equal(best.end[:2] + shift[:, None, None], ends[:2])
    np.testing.assert_allclose(np.exp(best.end_logit[:2]), log_probs[:2], atol=ATOL, rtol=0)
    targets = {name: torch.from_numpy(column).long() for name, column in batch.targets.items()}
    with torch.inference_mode():
        loss = model(**given, start_positions=targets["start"], end_positions=targets["end"]).loss
        states = model.transformer(**{name: given[name] for name in list(given)[:3]})[0]
        probability = model.start_logits(states, p_mask=given["p_mask"]).softmax(-1)
        mean = torch.einsum("blh,bl->bh", states, probability)
        odds = model.answer_class(states, start_states=mean, cls_index=given["cls_index"])
        bce = torch.nn.functional.binary_cross_entropy_with_logits(odds, targets["unanswerable"].float())
    found, _ = backend.gradients(_without_dropout(backend, tmp_path / "theirs"), batch, precision="fp32")
    assert float(found["loss"]) == pytest.approx(float(loss + bce / 2), abs=ATOL)
    (tmp_path / "ours").mkdir()
    backend.save_weights(ours, tmp_path / "ours")
    assert read_checkpoint(tmp_path / "ours").config == checkpoint.config
    saved = json.loads((tmp_path / "ours" / "config.json").read_text(encoding="utf-8"))
    assert saved["architectures"] == ["XLNetForQuestionAnswering"]
    read, info = transformers.XLNetForQuestionAnswering.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert set(info["missing_keys"]) == {"transformer.mask_emb"} and not info["unexpected_keys"]
    left = dict(model.named_parameters())
    assert all(torch.equal(p, left[n]) for n, p in read.named_parameters() if "mask_emb" not in n)


def test_any_family_may_have_outputs_that_are_given_a_position(backend):
    """Trained on a few windows, a BERT finds their spans: each end where its own start says that it is."""
    config = ModelConfig(30, 16, 1, 2, 32, max_position_embeddings=16, initializer_range=0.2)
    random = np.random.RandomState(0)
    ids, start = random.randint(5, 30, (6, 12)), random.randint(1, 6, 6)
    columns = {"input_ids": ids, "attention_mask": ids * 0 + 1, "token_type_ids": ids * 0, "answer_mask": ids * 0 + 1}
    targets = {"start": start, "end": start + 2, "unanswerable": start % 2}
    inputs, labels = ({n: x.astype(np.int32) for n, x in part.items()} for part in (columns, targets))
    batch = Batch(np.arange(6, dtype=np.int32), np.arange(6, dtype=np.int32), inputs, labels)
    backend.set_seed(1)
    model = backend.build_model(config, HEAD, device="cpu", seed=1)
    before = backend.parameter_values(model)
    spec = TrainerSpec(
        n_steps=60, learning_rate=1e-2, warmup_ratio=0.1, weight_decay=0.0, max_grad_norm=1.0, adam_beta1=0.9,
        adam_beta2=0.999, adam_epsilon=1e-8, precision="fp32",
    )  # fmt: skip
    trainer = backend.Trainer(model, spec)
    for _ in range(60):
        trainer.step([batch])
    assert trainer.metrics()["loss"] > 0
    moved = backend.parameter_values(model)
    assert all(np.abs(moved[name] - before[name]).max() > 1e-3 for name in moved if name.startswith("head."))
    (outputs,) = backend.predict(model, [batch])
    values = outputs.values
    assert values["end"].shape == (6, 12, N_STARTS)
    np.testing.assert_array_equal(values["start"].argmax(1), start)
    np.testing.assert_array_equal(values["end"][:, :, 0].argmax(1), start + 2)
    np.testing.assert_array_equal(values["unanswerable"] > 0, start % 2 == 1)
    # Targets are not read where questions are answered.
    (without,) = backend.predict(model, [replace(batch, targets={})])
    np.testing.assert_array_equal(without.values["end"], values["end"])


def test_models_have_just_the_parameters_that_are_said_to_be_there(backend):
    config = ModelConfig(30, 16, 1, 2, 32, model_type="xlnet")
    said = parameter_shapes(config, pooled=False, heads=HEAD.rows, given=HEAD.given)
    assert list(backend.parameter_shapes(backend.outline(config, HEAD)).items()) == list(said.items())


def test_of_equal_starts_the_first_are_given(backend):
    config = ModelConfig(30, 16, 1, 2, 32, max_position_embeddings=16)
    model = backend.build_model(config, HEAD, device="cpu", seed=1)
    zero = {"head.start.weight": np.zeros((1, 16), np.float32), "head.start.bias": np.zeros(1, np.float32)}
    backend.set_parameters(model, zero)
    ids = np.arange(5, 15, dtype=np.int32)[None]
    inputs = {"input_ids": ids, "attention_mask": ids * 0 + 1, "token_type_ids": ids * 0, "answer_mask": ids * 0}
    inputs["answer_mask"][0, [2, 3, 5, 8, 9]] = 1
    index = np.zeros(1, np.int32)
    (all_equal,) = backend.predict(model, [Batch(index, index, inputs, {})])
    for rank, position in enumerate([2, 3, 5]):
        backend.set_parameters(model, {"head.start.weight": zero["head.start.weight"]})
        alone = {**inputs, "answer_mask": (np.arange(10) == position).astype(np.int32)[None]}
        (one,) = backend.predict(model, [Batch(index, index, alone, {})])
        np.testing.assert_allclose(one.values["end"][:, :, 0], all_equal.values["end"][:, :, rank], atol=1e-6)


@pytest.mark.parity
def test_the_frameworks_agree_at_every_stage():
    import pytorch_modeling
    import tf_modeling

    trainer = {field.name: field.default for field in fields(OptimizerOptions)} | {"precision": "fp32"}
    trainer |= {"learning_rate": 3e-5, "warmup_ratio": 0.1, "weight_decay": 0.01, "adam_epsilon": None}
    config = ModelConfig(
        50, 32, 2, 4, 64, model_type="xlnet", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        initializer_range=0.2,
    )  # fmt: skip
    random = np.random.Generator(np.random.Philox(7))
    batches = [random_batch(config, HEAD, (4, 24), random) for _ in range(2)]
    job = ParityJob(config, HEAD, None, batches, [], trainer)
    comparison = Comparison(TOLERANCES["fp32"], config, HEAD, trainer["learning_rate"])
    rows = {row.stage: row for row in comparison.rows(observe(pytorch_modeling, job), observe(tf_modeling, job))}
    assert all(row.ok for row in rows.values()), rows
    assert {"start logits", "end logits", "unanswerable logits", "loss", "gradients", "step 2"} <= set(rows)


def test_what_is_given_comes_first_and_is_a_position():
    start = Output("start", reads="token", size=1, loss="position")
    end = Output("end", reads="token_given", size=1, loss="position", given="start")
    assert HeadSpec((start, end)).given == {"end": "token_given"}
    for outputs in ((end, start), (end,)):
        with pytest.raises(AssertionError, match="output end: start comes first"):
            HeadSpec(outputs)
    with pytest.raises(AssertionError, match="token_given of what"):
        Output("end", reads="token_given", size=1, loss="position")
