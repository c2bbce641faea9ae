"""Every published format, in every container, computes what its authors' program computes (`support/oracle.py`)."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from pretrained_configs.checkpoint import read_checkpoint
from pretrained_configs.formats.reader import write_safetensors
from pytorch_modeling import build_model, load_weights, parameter_shapes
from tests.support.formats import ATOL, GOOGLE, KINDS, MODELS, compute, expect, heads_of, place, weights
from tests.support.oracle import PROGRAMS
from tests.support.oracle_layers import draw, inputs
from tests.support.values import head_of

# --- the oracle against the original programs ---------------------------------------------------------------------

GOLDEN = {
    "bert_google": ("google_bert", "bert_model.ckpt"),
    "bert_google_adam": ("google_bert", "model.ckpt-3"),
    "albert_zh_postln": ("albert_zh", "albert_model.ckpt"),
    "albert_zh_preln": ("albert_zh", "albert_model.ckpt"),
    "albert_google": ("google_albert", "model.ckpt-best"),
}


@pytest.mark.golden
@pytest.mark.parametrize("name", GOLDEN)
def test_oracle_agrees_with_the_original_tensorflow_programs(golden_dir, name, same):
    tf = pytest.importorskip("tensorflow")
    program, prefix = GOLDEN[name]
    directory = golden_dir / "checkpoints" / name
    config = json.loads(next(directory.glob("*config*.json")).read_text())
    reader = tf.train.load_checkpoint(str(directory / prefix))
    arrays = {key: reader.get_tensor(key) for key in PROGRAMS[program].shapes(config)}
    golden = np.load(directory / "expected.npz")
    found = PROGRAMS[program].forward(
        arrays, config, golden["input_ids"], golden["input_mask"], golden["token_type_ids"]
    )
    del found["layer_0"]
    same(found, {key: golden[key] for key in found})


@pytest.mark.golden
@pytest.mark.parametrize(("hidden_act", "prefix"), [("gelu", ""), ("gelu_new", "tanh_")])
def test_oracle_agrees_with_transformers(golden_dir, hidden_act, prefix, same):
    directory = golden_dir / "checkpoints" / "hf_bert"
    config = {**json.loads((directory / "config.json").read_text()), "hidden_act": hidden_act}
    arrays = torch.load(directory / "pytorch_model_fp16.bin", weights_only=True)
    exact = torch.load(directory / "pytorch_model_noprefix.bin", weights_only=True)
    arrays = {name: exact[name.removeprefix("bert.")].numpy() for name in arrays if name.startswith("bert.")}
    golden = np.load(directory / "expected.npz")
    found = PROGRAMS["transformers_bert"].forward(
        arrays, config, golden["input_ids"], golden["input_mask"], golden["token_type_ids"]
    )
    names = {"sequence_output": "sequence_output", "pooled_output": "pooled_output", "layer_1": "hidden_state_1"}
    kept = {ours: theirs for ours, theirs in names.items() if prefix + theirs in golden.files}
    same({ours: found[ours] for ours in kept}, {ours: golden[prefix + theirs] for ours, theirs in kept.items()})


@pytest.mark.golden
@pytest.mark.parametrize("name", [*GOLDEN, "roberta_zh_names"])
def test_published_variables_are_all_accounted_for_and_fill_the_model(golden_dir, tmp_path, name, same):
    """By the lists of names and shapes beside the checkpoints; of roberta_zh there is nothing else."""
    program = GOLDEN[name][0] if name in GOLDEN else "google_bert"
    directory = golden_dir / "checkpoints" / name
    (published,) = directory.glob("*config*.json")
    (tmp_path / published.name).write_bytes(published.read_bytes())
    config = json.loads(published.read_text())
    shapes = {
        entry["name"]: tuple(entry["shape"]) for entry in json.loads((directory / "variables.json").read_text())
    }
    arrays = draw(shapes, 0)
    write_safetensors(tmp_path / "model.safetensors", arrays)
    checkpoint = read_checkpoint(tmp_path)
    assert checkpoint.namemap.name == program
    model = build_model(checkpoint.config, None, device="cpu", seed=9)
    report = load_weights(model, checkpoint, fresh_head=False)
    assert {ours for ours, *_ in report.mapped} == set(parameter_shapes(model)) and not report.fresh
    mapped = [theirs for _, names, *_ in report.mapped for theirs in names]
    assert set(mapped) == set(PROGRAMS[program].shapes(config))
    assert sorted(mapped + [theirs for theirs, _ in report.ignored]) == sorted(shapes)
    assert all(reason for _, reason in report.ignored)
    same(compute(tmp_path)[0], PROGRAMS[program].forward(arrays, config, *inputs(config, 0)))


# --- every architecture and naming --------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("model", MODELS)
def test_every_layer_equals_the_authors_program(tmp_path, model, seed, same):
    arrays = weights(model, seed)
    path = place(tmp_path, model)
    write_safetensors(path / "model.safetensors", arrays)
    found, namemap = compute(path, seed)
    assert namemap == MODELS[model][1]
    same(found, expect(model, arrays, seed))


@pytest.mark.parametrize("model", ["bert", "zh-preln", "albert-grouped", "electra", "ref-google", "ernie"])
def test_a_changed_tensor_changes_the_outputs(tmp_path, model):
    """The comparison bites: no tensor of the encoder is left out of it."""
    arrays = weights(model)
    expected = expect(model, arrays)
    path = place(tmp_path, model)
    program, _, _, config = MODELS[model]
    for name in PROGRAMS[program].shapes(config):
        if name.endswith(("key/bias", "key.bias", "key_fc.b_0")):
            continue  # The softmax does not see it: it adds the same to all scores of a row.
        noise = np.random.default_rng(0).normal(0, 0.5, arrays[name].shape)
        changed = {**arrays, name: (arrays[name] + noise).astype(np.float32)}
        write_safetensors(path / "model.safetensors", changed)
        found, _ = compute(path)
        assert max(np.abs(found[output] - expected[output]).max() for output in expected) > ATOL, name


# --- PyTorch files and safetensors --------------------------------------------------------------------------------


def tensors(arrays: dict[str, np.ndarray], dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array).to(dtype) for name, array in arrays.items()}


@pytest.mark.parametrize("form", ["zip", "legacy", "module", "bare", "old", "shared", "fp16", "bf16"])
@pytest.mark.parametrize("model", ["hf", "hf-hfl"])
def test_pytorch_files(tmp_path, model, form, same):
    arrays = weights(model)
    path = place(tmp_path, model)
    dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(form, torch.float32)
    state = tensors(arrays, dtype)
    if form == "module":
        state = {f"module.{name}": tensor for name, tensor in state.items()}
    if form == "bare":
        state = {name.removeprefix("bert."): t for name, t in state.items() if name.startswith("bert.")}
        state["embeddings.position_ids"] = torch.arange(40)[None]
    if form == "old":
        renamed = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
        state = {re.sub("|".join(renamed), lambda m: renamed[m[0]], name): t for name, t in state.items()}
    if form == "shared":
        state["cls.predictions.decoder.weight"] = state["bert.embeddings.word_embeddings.weight"]
    torch.save(state, path / "pytorch_model.bin", _use_new_zipfile_serialization=form != "legacy")
    found, namemap = compute(path)
    assert namemap == "transformers_bert"
    same(found, expect(model, {name: t.float().numpy() for name, t in tensors(arrays, dtype).items()}))


@pytest.mark.parametrize("form", ["fp16", "bf16", "fp64", "sharded", "sharded-bin", "named"])
@pytest.mark.parametrize("model", ["hf", "electra", "fast", "ernie", "ref-zh"])
def test_safetensors_files(tmp_path, model, form, same):
    from safetensors.torch import save_file

    arrays = weights(model)
    path = place(tmp_path, model)
    dtypes = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp64": torch.float64}
    dtype = dtypes.get(form, torch.float32)
    state = tensors(arrays, dtype)
    given = path
    if form.startswith("sharded"):
        stem, suffix = ("pytorch_model", "bin") if form == "sharded-bin" else ("model", "safetensors")
        files = {name: f"{stem}-0000{1 + i % 3}-of-00003.{suffix}" for i, name in enumerate(sorted(state))}
        for file in set(files.values()):
            shard = {name: state[name] for name in state if files[name] == file}
            if suffix == "bin":
                torch.save(shard, path / file)
            else:
                save_file(shard, path / file)
        (path / f"{stem}.{suffix}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}))
    else:
        given = path / "anything.safetensors" if form == "named" else path
        save_file(state, path / ("anything.safetensors" if form == "named" else "model.safetensors"))
    found, _ = compute(given)
    same(found, expect(model, {name: t.float().numpy() for name, t in state.items()}))


# --- the reference system's .pth files ----------------------------------------------------------------------------

REFERENCE = {
    "ref-bert": ("reference_bert", "reference_bert", "bert_config.json", GOOGLE),
    "ref-zh": MODELS["ref-zh"],
    "ref-zh-preln": MODELS["ref-zh-preln"],
    "ref-zh-square": MODELS["ref-zh-square"],
}
FORMS = ("plain", "legacy", "half", "module", "nested", "nested-module", "state_dict")


def save_pth(path: Path, arrays: dict[str, np.ndarray], form: str) -> dict[str, np.ndarray]:
    """Save as the reference system's training does, or people do; return the values that the file holds."""
    state = tensors(arrays, torch.float16 if form == "half" else torch.float32)
    kept = {name: t.float().numpy() for name, t in state.items()}
    if "module" in form:
        state = {f"module.{name}": t for name, t in state.items()}
    content = state
    if form.startswith("nested"):
        optimizer = {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}
        content = {"model": state, "epoch": 3, "optimizer": optimizer, "best_f1": 0.5}
    if form == "state_dict":
        content = {"state_dict": state, "step": 7}
    torch.save(content, path, _use_new_zipfile_serialization=form != "legacy")
    return kept


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("model", REFERENCE)
def test_reference_pth_pretrained(tmp_path, model, form, same):
    program, namemap, name, config = REFERENCE[model]
    (tmp_path / name).write_text(json.dumps(config))
    arrays = draw({**PROGRAMS[program].shapes(config), **heads_of(program, config)}, 4)
    kept = save_pth(tmp_path / "pytorch_model.pth", arrays, form)
    found, recognised = compute(tmp_path / "pytorch_model.pth", 4)
    assert recognised == namemap
    same(found, PROGRAMS[program].forward(kept, config, *inputs(config, 4)))


SPAN = {"qa_outputs.weight": (2, 32), "qa_outputs.bias": (2,)}
SPAN_AND_KIND = {**SPAN, "cls_outputs.weight": (3, 32), "cls_outputs.bias": (3,)}
TWO_SPANS = {
    "finetune_mrc.start_dense.weight": (1, 32),
    "finetune_mrc.start_dense.bias": (1,),
    "finetune_mrc.end_dense.weight": (1, 32),
    "finetune_mrc.end_dense.bias": (1,),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("model", "heads"),
    [
        *((model, SPAN) for model in REFERENCE),
        *((model, SPAN_AND_KIND) for model in REFERENCE),
        ("ref-google", TWO_SPANS),
    ],
    ids=lambda v: v if isinstance(v, str) else "-".join(sorted({name.split(".")[0] for name in v})),
)
def test_reference_pth_fine_tuned_gives_its_own_logits(tmp_path, model, heads, form, same):
    program, namemap, name, config = REFERENCE[model] if model in REFERENCE else MODELS[model]
    (tmp_path / name).write_text(json.dumps(config))
    arrays = draw({**PROGRAMS[program].shapes(config), **heads}, 5)
    path = tmp_path / "model_f1:90.123_em:70.456.pth"
    kept = save_pth(path, arrays, form)
    checkpoint = read_checkpoint(path)
    assert checkpoint.namemap.name == namemap
    spec = head_of(KINDS if "cls_outputs.weight" in heads else ())
    task = build_model(checkpoint.config, spec, device="cpu", seed=9)
    report = load_weights(task, checkpoint, fresh_head=False)
    assert not report.fresh
    ids, mask, types = inputs(config, 5)
    batch = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
    with torch.inference_mode():
        values = task({key: torch.from_numpy(value) for key, value in batch.items()})
    found = {name: value.numpy() for name, value in values.items()}
    everything = PROGRAMS[program].forward(kept, config, ids, mask, types)
    same(found, {key: everything[key] for key in found})
    assert list(found) == [output.name for output in spec.outputs]
