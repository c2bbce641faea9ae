"""XLNet in both backends: what the authors' program and transformers compute from the same files, everywhere."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from preprocess.base.errors import CheckpointError
from preprocess.types import Batch
from pretrained_configs.checkpoint import read_checkpoint
from pretrained_configs.config import ModelConfig
from pretrained_configs.formats.safetensors_file import write_safetensors
from pretrained_configs.parameters import parameter_shapes
from pretrained_configs.published import format_for, read_config, saved_format
from pretrained_configs.writer import write_checkpoint
from tests.support import oracle_xlnet
from tests.support.oracle_layers import draw
from tests.support.values import SPAN, span_batch

transformers = pytest.importorskip("transformers")

#: As in the golden README: a float32 pass errs by some 1e-6, the least wrong setting by 6e-5.
ATOL = 2e-5
PUBLISHED = {
    "d_head": 8,
    "d_inner": 48,
    "d_model": 32,
    "ff_activation": "gelu",
    "n_head": 4,
    "n_layer": 3,
    "n_token": 61,
    "untie_r": True,
}
HF = {"vocab_size": 61, "d_model": 32, "n_layer": 3, "n_head": 4, "d_inner": 48}


@pytest.fixture(params=["pytorch_modeling", "tf_modeling"])
def backend(request):
    return importlib.import_module(request.param)


def inputs(side: str, length: int = 24) -> list[np.ndarray]:
    """Three windows, A sep B sep cls with their segments; padding is of segment 3 and of ids that mean something."""
    random = np.random.RandomState(3)
    real = np.array([length, length - 7, 5])[:, None]
    place = np.arange(length) - (0 if side == "right" else length - real)
    mask = ((place >= 0) & (place < real)).astype(np.int64)
    types = np.where(mask == 0, 3, (place >= np.array([[9], [3], [2]])) * 1 + (place == real - 1))
    return [random.randint(1, 61, (3, length)), mask, types]


def original(directory: Path, config: dict, seed: int = 0) -> dict[str, np.ndarray]:
    """Write random variables under the names of the authors' program; none is at its default."""
    arrays = draw(oracle_xlnet.shapes(config), seed)
    directory.mkdir(exist_ok=True)
    (directory / "xlnet_config.json").write_text(json.dumps(config), encoding="utf-8")
    write_safetensors(directory / "model.safetensors", arrays)
    return arrays


def batch_of(given: list[np.ndarray], spans: list[list[int]]) -> Batch:
    names = ("input_ids", "attention_mask", "token_type_ids")
    start, end = np.array(spans).T
    return span_batch(window=np.arange(len(start)), start=start, end=end, **dict(zip(names, given, strict=True)))


def states(backend, path: Path, given: list[np.ndarray]) -> dict[str, np.ndarray]:
    model, report = backend.load_model(read_checkpoint(path), None, device="cpu", fresh_head=True)
    assert set(report.fresh) <= {"pooler.weight", "pooler.bias"}
    return backend.hidden_states(model, *given)


def close(found: dict[str, np.ndarray], expected: dict[str, np.ndarray], atol: float = ATOL) -> None:
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=atol, rtol=0, err_msg=name)


# --- the authors' program -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change", [{}, {"untie_r": False}, {"ff_activation": "relu"}], ids=["untied", "tied", "relu"]
)
def test_every_layer_equals_the_authors_program_at_all_positions(tmp_path, backend, change):
    config = PUBLISHED | change
    arrays = original(tmp_path, config)
    assert read_checkpoint(tmp_path).namemap.name == "xlnet"
    # Lengths that are less, and not a multiple of, the rows that are computed at a time.
    for given in (inputs("left"), inputs("right"), inputs("left", 75)):
        close(states(backend, tmp_path, given), oracle_xlnet.forward(arrays, config, *given))
    ids, mask, _ = inputs("left")
    without = oracle_xlnet.forward(arrays, config, ids, mask, None)
    close(states(backend, tmp_path, [ids, mask, np.zeros_like(ids)]), without)


def test_a_changed_variable_changes_the_outputs(tmp_path):
    """The comparison bites: no variable of the encoder is left out of it."""
    import pytorch_modeling

    config = PUBLISHED | {"n_layer": 2}
    given = inputs("left")
    arrays = original(tmp_path, config)
    expected = states(pytorch_modeling, tmp_path, given)["sequence_output"]
    for name, array in arrays.items():
        if name.endswith(("mask_emb", "lm_loss/bias")):
            continue  # of pre-training alone
        noise = np.random.RandomState(1).normal(0, 0.5, array.shape).astype(np.float32)
        write_safetensors(tmp_path / "model.safetensors", {**arrays, name: array + noise})
        found = states(pytorch_modeling, tmp_path, given)["sequence_output"]
        assert np.abs(found - expected).max() > 10 * ATOL, name


def test_far_distances_are_one_where_they_are_clamped(tmp_path, backend):
    arrays = original(tmp_path / "theirs", PUBLISHED)
    checkpoint = read_checkpoint(tmp_path / "theirs")
    shapes = parameter_shapes(checkpoint.config, pooled=False)
    with checkpoint.open() as source:
        ours, _ = checkpoint.namemap.to_ours(source, shapes)
    (tmp_path / "ours").mkdir()
    config = replace(checkpoint.config, clamp_len=6)
    write_checkpoint(tmp_path / "ours", config, ours, saved_format(config))
    given = inputs("left")
    expected = oracle_xlnet.forward(arrays, PUBLISHED, *given, clamp_len=6)
    close(states(backend, tmp_path / "ours", given), expected)
    assert np.abs(oracle_xlnet.forward(arrays, PUBLISHED, *given)["layer_1"] - expected["layer_1"]).max() > 0.01


def test_padding_changes_nothing_for_real_tokens(tmp_path, backend):
    original(tmp_path, PUBLISHED)
    ids, mask, types = (x[:1] for x in inputs("left"))
    alone = states(backend, tmp_path, [ids, mask, types])["sequence_output"]
    for sides in ((9, 0), (0, 9)):
        given = [np.pad(x, ((0, 0), sides), constant_values=c) for x, c in ((ids, 7), (mask, 0), (types, 3))]
        real = given[1][0] == 1
        found = states(backend, tmp_path, given)["sequence_output"]
        np.testing.assert_allclose(found[:, real], alone, atol=ATOL)
        # A padded position sees the text and itself, and so differs from the next one of the same id.
        assert np.isfinite(found).all() and np.abs(np.diff(found[0][~real], axis=0)).max() > 1e-3


@pytest.mark.golden
def test_published_variables_are_all_accounted_for_and_fill_the_model(golden_dir, tmp_path, backend):
    directory = golden_dir / "checkpoints" / "xlnet_names"
    config = json.loads((directory / "xlnet_config.json").read_text())
    listed = {e["name"]: tuple(e["shape"]) for e in json.loads((directory / "variables.json").read_text())}
    assert listed == oracle_xlnet.shapes(config)
    arrays = original(tmp_path, config)
    model, report = backend.load_model(read_checkpoint(tmp_path), None, device="cpu", fresh_head=True)
    mapped = {theirs for _, names, *_ in report.mapped for theirs in names}
    assert mapped | {theirs for theirs, _ in report.ignored} == set(listed)
    assert all(reason for _, reason in report.ignored) and not report.unmapped
    given = inputs("left")
    close(backend.hidden_states(model, *given), oracle_xlnet.forward(arrays, config, *given))


@pytest.mark.parametrize("untie_r", [True, False])
def test_the_authors_format_is_written_as_it_was_read(tmp_path, untie_r):
    config = PUBLISHED | {"untie_r": untie_r}
    arrays = original(tmp_path, config)
    checkpoint = read_checkpoint(tmp_path)
    shapes = parameter_shapes(checkpoint.config, pooled=False)
    with checkpoint.open() as source:
        ours, _ = checkpoint.namemap.to_ours(source, shapes)
    again = format_for(checkpoint.config, "tf1").to_theirs(ours, checkpoint.config.num_attention_heads)
    kept = {name for name in arrays if not name.endswith(("mask_emb", "lm_loss/bias"))}
    assert set(again) == kept and all(np.array_equal(again[name], arrays[name]) for name in kept)
    # transformers gives every layer its own biases, whatever the configuration says.
    assert saved_format(checkpoint.config).name == ("transformers_xlnet" if untie_r else "native")


def test_more_layers_in_a_tensor_than_in_the_configuration_are_named(tmp_path):
    arrays = original(tmp_path, PUBLISHED)
    config = PUBLISHED | {"n_layer": 2}
    (tmp_path / "xlnet_config.json").write_text(json.dumps(config), encoding="utf-8")
    kept = {name: array for name, array in arrays.items() if "layer_2" not in name}
    write_safetensors(tmp_path / "model.safetensors", kept)
    checkpoint = read_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match=r"r_w_bias: found \[3, 4, 8\], expected 2 rows, one for each layer"):
        checkpoint.check(parameter_shapes(checkpoint.config, pooled=False), fresh_head=True)
    # Tied weights under a configuration that says otherwise are of the wrong shape.
    original(tmp_path, PUBLISHED | {"untie_r": False})
    (tmp_path / "xlnet_config.json").write_text(json.dumps(PUBLISHED), encoding="utf-8")
    checkpoint = read_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match="r_w_bias: found"):
        checkpoint.check(parameter_shapes(checkpoint.config, pooled=False), fresh_head=True)


def test_configurations_say_what_is_not_supported(tmp_path):
    path = tmp_path / "config.json"

    def read(values: dict) -> ModelConfig:
        path.write_text(json.dumps(values), encoding="utf-8")
        return read_config(path)

    # "gelu" is the tanh form to the authors' program and erf to transformers; without a type the keys decide.
    assert read(PUBLISHED).hidden_act == "gelu_tanh"
    config = read({**HF, "model_type": "xlnet", "ff_activation": "gelu", "dropout": 0.3, "clamp_len": 9})
    assert (config.hidden_act, config.clamp_len, config.pad_token_id, config.untie_r) == ("gelu", 9, 5, True)
    assert (config.hidden_dropout_prob, config.attention_probs_dropout_prob) == (0.3, 0.3)
    assert read({**PUBLISHED, "model_type": "xlnet"}).hidden_act == "gelu"  # old files of transformers
    for change, problem in {
        ("d_head", 16): "d_head 16 is not supported",
        ("d_model", 33): "d_head 8 is not supported",
        ("attn_type", "uni"): "attn_type 'uni' is not supported",
        ("bi_data", True): "bi_data True is not supported",
    }.items():
        with pytest.raises(CheckpointError, match=problem):
            read({**PUBLISHED, "model_type": "xlnet", change[0]: change[1]})
    with pytest.raises(CheckpointError, match="missing 'd_model'"):
        read({name: value for name, value in HF.items() if name != "d_model"} | {"model_type": "xlnet"})
    sizes = {"vocab_size": 61, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4}
    sizes |= {"intermediate_size": 48, "model_type": "xlnet"}
    for change, problem in {
        ("untie_r", 1): "untie_r 1 is not true or false",
        ("embedding_projection", "word"): "an XLNet projects no embeddings",
        ("layer_norm_type", "preln"): "an XLNet's is 'postln'",
    }.items():
        with pytest.raises(CheckpointError, match=problem):
            ModelConfig(**{**sizes, change[0]: change[1]})
    with pytest.raises(CheckpointError, match="untie_r False means nothing to model_type 'bert'"):
        ModelConfig(**{**sizes, "model_type": "bert", "untie_r": False})


# --- transformers -------------------------------------------------------------------------------------------------


def build(head: str, **changes) -> torch.nn.Module:
    """Make one of transformers' models, with no weight at its default."""
    model = getattr(transformers, f"XLNet{head}")(transformers.XLNetConfig(**HF, **changes)).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(1.0 if name.endswith("layer_norm.weight") else 0.0, 0.2, generator=generator)
    return model


def theirs(model: torch.nn.Module, given: list[np.ndarray]):
    ids, mask, types = map(torch.from_numpy, given)
    with torch.inference_mode():
        return model(ids, attention_mask=mask, token_type_ids=types, output_hidden_states=True)


@pytest.mark.parity
@pytest.mark.parametrize("change", [{}, {"ff_activation": "relu", "clamp_len": 5}], ids=["gelu", "relu-clamped"])
def test_every_layer_equals_transformers_and_saving_is_bit_exact(tmp_path, backend, change):
    model = build("Model", **change)
    model.save_pretrained(tmp_path / "theirs")
    checkpoint = read_checkpoint(tmp_path / "theirs")
    ours, report = backend.load_model(checkpoint, None, device="cpu", fresh_head=True)
    assert [name for name, _ in report.ignored] == ["mask_emb"]
    for side in ("left", "right"):
        given = inputs(side)
        expected = theirs(model, given)
        layers = {f"layer_{i}": values.numpy() for i, values in enumerate(expected.hidden_states)}
        close(backend.hidden_states(ours, *given), layers | {"sequence_output": expected[0].numpy()})
    (tmp_path / "ours").mkdir()
    backend.save_weights(ours, tmp_path / "ours")
    again, info = transformers.XLNetModel.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert set(info["missing_keys"]) == {"mask_emb"} and not info["mismatched_keys"]
    assert set(info["unexpected_keys"]) <= {"sequence_summary.summary.weight", "sequence_summary.summary.bias"}
    assert torch.equal(theirs(again.eval(), given)[0], theirs(model, given)[0])
    assert read_checkpoint(tmp_path / "ours").config == checkpoint.config


def test_the_published_span_head_is_left_out_with_its_reason_where_the_head_is_another(tmp_path):
    model = build("ForQuestionAnswering")
    model.save_pretrained(tmp_path)
    shapes = parameter_shapes(read_checkpoint(tmp_path).config, pooled=False, heads=SPAN.rows)
    report = read_checkpoint(tmp_path).check(shapes, fresh_head=True)
    ignored = {name: reason for name, reason in report.ignored if "mask_emb" not in name}
    assert {name.partition(".")[0] for name in ignored} == {"start_logits", "end_logits", "answer_class"}
    assert all("reads no end given a start" in reason for reason in ignored.values())
    assert report.fresh == ["head.span.weight", "head.span.bias"]


@pytest.mark.parity
def test_span_logits_and_pooled_states_equal_transformers(tmp_path, backend):
    span, summary = build("ForQuestionAnsweringSimple"), build("ForSequenceClassification")
    span.save_pretrained(tmp_path / "span")
    (tmp_path / "summary").mkdir()
    summary.config.save_pretrained(tmp_path / "summary")
    torch.save(summary.state_dict(), tmp_path / "summary" / "pytorch_model.bin")
    given = inputs("left")
    ours, report = backend.load_model(read_checkpoint(tmp_path / "span"), SPAN, device="cpu", fresh_head=False)
    assert not report.fresh
    expected = theirs(span, given)
    (found,) = backend.predict(ours, [batch_of(given, [[9, 12], [5, 6], [1, 1]])])
    close(found.values, {"start": expected.start_logits.numpy(), "end": expected.end_logits.numpy()})
    ours, report = backend.load_model(read_checkpoint(tmp_path / "summary"), None, device="cpu", fresh_head=False)
    assert {name.partition(".")[0] for name, _ in report.ignored} == {"transformer", "logits_proj"}
    last = theirs(summary.transformer, given)[0]
    with torch.inference_mode():
        pooled = summary.sequence_summary.summary(last[:, -1]).tanh().numpy()
    close(backend.hidden_states(ours, *given), {"pooled_output": pooled})
