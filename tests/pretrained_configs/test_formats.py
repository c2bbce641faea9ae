"""Every published format, in every container, computes what its authors' program computes (`tests/oracle.py`)."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from pretrained_configs.checkpoint import read_checkpoint
from pretrained_configs.formats.reader import write_safetensors
from pytorch_modeling import build_model, hidden_states, load_weights, parameter_shapes
from tests.oracle import PROGRAMS, draw, inputs
from tests.support.values import head_of

#: The golden README: the smallest error of any wrong setting is 6e-5, the noise of float32 a few 1e-6.
ATOL = 2e-5
KINDS = ("unknown", "yes", "no")

#: What the published files say beside the sizes, so that no key of theirs is taken for something else.
GOOGLE = {
    "attention_probs_dropout_prob": 0.1,
    "directionality": "bidi",
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": 32,
    "initializer_range": 0.02,
    "intermediate_size": 80,
    "max_position_embeddings": 40,
    "num_attention_heads": 4,
    "num_hidden_layers": 3,
    "pooler_fc_size": 768,
    "pooler_num_attention_heads": 12,
    "pooler_num_fc_layers": 3,
    "pooler_size_per_head": 128,
    "pooler_type": "first_token_transform",
    "type_vocab_size": 2,
    "vocab_size": 61,
}
ZH = {**GOOGLE, "embedding_size": 16, "ln_type": "postln"}
SIZES = {name: GOOGLE[name] for name in GOOGLE if not name.startswith(("pooler", "directionality"))}
ALBERT = {
    **SIZES,
    "embedding_size": 16,
    "num_hidden_groups": 1,
    "net_structure_type": 0,
    "gap_size": 0,
    "num_memory_blocks": 0,
    "inner_group_num": 1,
    "down_scale_factor": 1,
}
FAST = {**ALBERT, "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 4, "num_hidden_groups": 12}
ERNIE = {name: value for name, value in SIZES.items() if name != "intermediate_size"}

#: id -> program, the name map that it must be recognised as, the name of its configuration file, and that.
MODELS = {
    "bert": ("google_bert", "google_bert", "bert_config.json", GOOGLE),
    "bert-relu": ("google_bert", "google_bert", "config.json", {**GOOGLE, "hidden_act": "relu"}),
    "roberta_zh": ("google_bert", "google_bert", "bert_config_large.json", {**GOOGLE, "num_hidden_layers": 4}),
    "zh": ("albert_zh", "albert_zh", "albert_config_large.json", ZH),
    "zh-preln": ("albert_zh", "albert_zh", "albert_config_xxlarge.json", {**ZH, "ln_type": "preln"}),
    "zh-square": ("albert_zh", "albert_zh", "albert_config_tiny.json", {**ZH, "embedding_size": 32}),
    "zh-square-preln": (
        "albert_zh",
        "albert_zh",
        "albert_config.json",
        {**ZH, "embedding_size": 32, "ln_type": "preln"},
    ),
    "albert": ("google_albert", "google_albert", "albert_config.json", ALBERT),
    "albert-square": ("google_albert", "google_albert", "albert_config.json", {**ALBERT, "embedding_size": 32}),
    "albert-grouped": (
        "google_albert",
        "google_albert",
        "albert_config.json",
        {**ALBERT, "num_hidden_layers": 5, "num_hidden_groups": 3, "inner_group_num": 2},
    ),
    "fast": ("fast_albert", "google_albert", "albert_config_tiny_google_fast.json", FAST),
    "fast-inner": (
        "fast_albert",
        "google_albert",
        "albert_config_tiny_g.json",
        {**FAST, "embedding_size": 48, "inner_group_num": 2},
    ),
    "electra": ("electra", "google_electra", "electra_config.json", {**SIZES, "embedding_size": 16}),
    "electra-square": (
        "electra",
        "google_electra",
        "base_discriminator_config.json",
        {**SIZES, "embedding_size": 32},
    ),
    "ernie": ("paddle_ernie", "paddle_ernie", "ernie_config.json", {**ERNIE, "hidden_act": "relu"}),
    "hf": ("transformers_bert", "transformers_bert", "config.json", {**GOOGLE, "model_type": "bert"}),
    "hf-hfl": ("transformers_bert", "transformers_bert", "bert_config.json", GOOGLE),
    "hf-tanh": (
        "transformers_bert",
        "transformers_bert",
        "config.json",
        {**GOOGLE, "model_type": "bert", "hidden_act": "gelu_new", "layer_norm_eps": 1e-3},
    ),
    "ref-zh": ("reference_albert", "reference_albert", "albert_config_base.json", ZH),
    "ref-zh-preln": ("reference_albert", "reference_albert", "bert_config.json", {**ZH, "ln_type": "preln"}),
    "ref-zh-square": ("reference_albert", "reference_albert", "bert_config.json", {**ZH, "embedding_size": 32}),
    "ref-google": ("reference_google_albert", "reference_google_albert", "albert_config.json", ALBERT),
    "ref-google-square": (
        "reference_google_albert",
        "reference_google_albert",
        "albert_config.json",
        {**ALBERT, "embedding_size": 32},
    ),
}

#: Weights that the programs save beside the encoder: name -> shape, in sizes of the configuration.
PRETRAINING = {
    "google_bert": {
        "cls/predictions/output_bias": ("vocab_size",),
        "cls/predictions/transform/LayerNorm/beta": ("hidden_size",),
        "cls/predictions/transform/LayerNorm/gamma": ("hidden_size",),
        "cls/predictions/transform/dense/bias": ("hidden_size",),
        "cls/predictions/transform/dense/kernel": ("hidden_size", "hidden_size"),
        "cls/seq_relationship/output_bias": ("type_vocab_size",),
        "cls/seq_relationship/output_weights": ("type_vocab_size", "hidden_size"),
    },
    "electra": {
        "discriminator_predictions/dense/kernel": ("hidden_size", "hidden_size"),
        "discriminator_predictions/dense_1/bias": ("type_vocab_size",),
        "generator/encoder/layer_0/attention/self/query/kernel": ("embedding_size", "embedding_size"),
        "generator/embeddings_project/kernel": ("hidden_size", "embedding_size"),
        "generator_predictions/LayerNorm/beta": ("embedding_size",),
        "generator_predictions/output_bias": ("vocab_size",),
    },
    "transformers_bert": {
        "cls.predictions.bias": ("vocab_size",),
        "cls.predictions.transform.dense.weight": ("hidden_size", "hidden_size"),
        "cls.predictions.decoder.weight": ("vocab_size", "hidden_size"),
        "cls.seq_relationship.weight": ("type_vocab_size", "hidden_size"),
    },
    "paddle_ernie": {
        "mask_lm_trans_fc.w_0": ("hidden_size", "hidden_size"),
        "next_sent_fc.b_0": ("type_vocab_size",),
    },
}
PRETRAINING |= dict.fromkeys(("albert_zh", "google_albert", "fast_albert"), PRETRAINING["google_bert"])
PRETRAINING |= dict.fromkeys(("reference_bert", "reference_albert"), PRETRAINING["transformers_bert"])


def heads_of(program: str, config: dict) -> dict[str, tuple[int, ...]]:
    return {name: tuple(config[size] for size in sizes) for name, sizes in PRETRAINING.get(program, {}).items()}


def weights(model: str, seed: int = 0) -> dict[str, np.ndarray]:
    """The variables of a published file: the encoder's and those of its pre-training heads."""
    program, _, _, config = MODELS[model]
    return draw({**PROGRAMS[program].shapes(config), **heads_of(program, config)}, seed)


def compute(path: Path, seed: int = 0) -> tuple[dict[str, np.ndarray], object]:
    """Load a checkpoint as a user would and run it on the inputs of this seed."""
    checkpoint = read_checkpoint(path)
    model = build_model(checkpoint.config, None, device="cpu", seed=99)
    report = load_weights(model, checkpoint, fresh_head=True)
    assert report.fresh in ([], ["pooler.weight", "pooler.bias"])
    found = hidden_states(model, *inputs({"vocab_size": checkpoint.config.vocab_size}, seed))
    if report.fresh:
        del found["pooled_output"]
    return found, checkpoint.namemap.name


def expect(model: str, arrays: dict[str, np.ndarray], seed: int = 0) -> dict[str, np.ndarray]:
    program, _, _, config = MODELS[model]
    return PROGRAMS[program].forward(arrays, config, *inputs(config, seed))


@pytest.fixture
def same(record_property):
    """Compare every output at every position, padding included."""

    def check(found: dict[str, np.ndarray], expected: dict[str, np.ndarray], atol: float = ATOL) -> None:
        assert set(found) == set(expected)
        worst = max(float(np.abs(found[name] - expected[name]).max()) for name in expected)
        record_property("max_abs_difference", worst)
        for name, values in expected.items():
            np.testing.assert_allclose(found[name], values, atol=atol, rtol=0, err_msg=name)

    return check


def place(directory: Path, model: str) -> Path:
    """Make a directory that holds the configuration under its published name."""
    directory.mkdir(parents=True, exist_ok=True)
    _, _, name, config = MODELS[model]
    (directory / name).write_text(json.dumps(config))
    return directory


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


# --- TensorFlow 1 -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tf():
    return pytest.importorskip("tensorflow")


def save_tf1(tf, prefix: Path, arrays: dict[str, np.ndarray], step: int | None = None) -> None:
    """Write a checkpoint as a TensorFlow 1 program does; it writes a "checkpoint" file with the path it is given."""
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        holders = {}
        for name, array in arrays.items():
            holders[name] = v1.placeholder(array.dtype, array.shape)
            v1.get_variable(name, initializer=holders[name], use_resource=False)
        saver = v1.train.Saver()
        session.run(v1.global_variables_initializer(), {holders[name]: arrays[name] for name in arrays})
        saver.save(session, str(prefix), global_step=step, write_meta_graph=True)


def with_optimizer(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    slots = {
        f"{name}/{slot}": np.full_like(array, 7) for name, array in arrays.items() for slot in ("adam_m", "adam_v")
    }
    return {**arrays, **slots, "global_step": np.array(1000, np.int64)}


@pytest.mark.parametrize("model", [m for m in MODELS if MODELS[m][0] in ("google_bert", "albert_zh", "electra")])
def test_tensorflow_1_by_prefix_and_by_directory(tf, tmp_path, model, same):
    path = place(tmp_path / "model", model)
    arrays = weights(model)
    prefix = path / "bert_model.ckpt"
    save_tf1(tf, prefix, arrays)
    expected = expect(model, arrays)
    given = [prefix, path, *sorted(path.glob("bert_model.ckpt.*"))]
    assert {p.suffix for p in given[2:]} == {".index", ".meta", ".data-00000-of-00001"}
    for each in given:
        found, namemap = compute(each)
        assert namemap == MODELS[model][1]
        same(found, expected)
    # As published: without a "checkpoint" file.
    (path / "checkpoint").unlink()
    found, _ = compute(path)
    same(found, expected)


@pytest.mark.parametrize("model", ["bert", "zh-preln", "albert-grouped", "fast", "fast-inner", "electra"])
def test_tensorflow_1_of_a_training_run(tf, tmp_path, model, same):
    path = place(tmp_path / "run", model)
    older, newer = weights(model, 1), weights(model, 2)
    save_tf1(tf, path / "model.ckpt", with_optimizer(newer), 30)
    save_tf1(tf, path / "model.ckpt", with_optimizer(older), 4)
    save_tf1(tf, path / "model.ckpt", with_optimizer(newer), 5)
    state = (path / "checkpoint").read_text()
    assert str(path) in state, "TensorFlow writes an absolute path"
    moved = tmp_path / "elsewhere"
    path.rename(moved)
    assert "model.ckpt-5" in str(read_checkpoint(moved).files.weights[0])
    same(compute(moved)[0], expect(model, newer))
    same(compute(moved / "model.ckpt-4")[0], expect(model, older))
    (moved / "checkpoint").write_text(state.replace("model.ckpt-5", "model.ckpt-4", 1))
    same(compute(moved)[0], expect(model, older))


def test_tensorflow_1_half_precision_and_several_data_files(tf, tmp_path, same):
    path = place(tmp_path, "bert")
    arrays = {name: array.astype(np.float16) for name, array in weights("bert").items()}
    save_tf1(tf, path / "half.ckpt", arrays)
    same(compute(path / "half.ckpt")[0], expect("bert", arrays))
    names = sorted(weights("bert"))
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        parts = []
        for i, chosen in enumerate((names[::2], names[1::2])):
            part = str(path / f"part{i}")
            values = [tf.constant(weights("bert")[name]) for name in chosen]
            session.run(
                tf.raw_ops.SaveV2(
                    prefix=part, tensor_names=chosen, shape_and_slices=[""] * len(chosen), tensors=values
                )
            )
            parts.append(part)
        session.run(
            tf.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=parts, destination_prefix=str(path / "two.ckpt"))
        )
    assert len(list(path.glob("two.ckpt.data-*-of-00002"))) == 2
    same(compute(path / "two.ckpt")[0], expect("bert", weights("bert")))


# --- transformers 4's Keras classes -------------------------------------------------------------------------------

_ALBERT_NAMES = {
    r"transformer/group_(\d+)/inner_group_(\d+)": r"albert_layer_groups_._\1/albert_layers_._\2",
    r"attention_1/self/": "attention/",
    r"attention_1/output/dense": "attention/dense",
    r"(albert_layers_._\d+)/LayerNorm/": r"\1/attention/LayerNorm/",
    r"ffn_1/intermediate/output/dense": "ffn_output",
    r"ffn_1/intermediate/dense": "ffn",
    r"LayerNorm_1": "full_layer_layer_norm",
    r"pooler/dense": "pooler",
}


def keras_name(name: str, family: str) -> str:
    """The path of a Google variable within transformers' Keras class; kernels lie alike in both."""
    name = name.split("/", 1)[1]
    if family == "albert":
        for pattern, new in _ALBERT_NAMES.items():
            name = re.sub(pattern, new, name)
    name = re.sub(r"encoder/layer_(\d+)/", r"encoder/layer_._\1/", name)
    name = re.sub(r"(word_embeddings)$", r"\1/weight", name)
    return re.sub(r"(position_embeddings|token_type_embeddings)$", r"\1/embeddings", name)


def object_name(name: str, family: str) -> str:
    """The path of a Google variable in the object graph of that class: attributes, and lists by their numbers."""
    name = keras_name(name, family).replace("_._", "/")
    name = name.replace("attention/self/", "attention/self_attention/")
    name = name.replace("attention/output/", "attention/dense_output/")
    name = re.sub(r"(layer/\d+)/output/", r"\1/bert_output/", name)
    name = name.replace("embeddings/word_embeddings/weight", "embeddings/weight")
    return re.sub(r"(position_embeddings|token_type_embeddings)/embeddings$", r"\1", name)


#: family -> the model that has the same variables under Google's names, its config.json, the Keras classes' names.
KERAS = {
    "bert": ("bert", {**GOOGLE, "model_type": "bert", "hidden_act": "gelu_new"}, "tf_bert"),
    "albert": ("albert-grouped", None, "tf_albert"),
    "electra": ("electra", None, "tf_electra"),
    "electra-square": ("electra-square", None, "tf_electra"),
}
KERAS["albert"] = (
    "albert-grouped",
    {**MODELS["albert-grouped"][3], "model_type": "albert", "hidden_act": "gelu_new"},
    "tf_albert",
)
for _name in ("electra", "electra-square"):
    KERAS[_name] = (_name, {**MODELS[_name][3], "model_type": "electra"}, "tf_electra")
QA = {"kernel": (32, 2), "bias": (2,)}


def encoder_only(model: str, seed: int = 0) -> dict[str, np.ndarray]:
    program, _, _, config = MODELS[model]
    return draw(PROGRAMS[program].shapes(config), seed)


@pytest.mark.parametrize("head", ["model", "for_pre_training", "for_question_answering"])
@pytest.mark.parametrize("family", KERAS)
def test_keras_h5_of_transformers_4(tmp_path, family, head, same):
    h5py = pytest.importorskip("h5py")
    model, config, classes = KERAS[family]
    kind = family.split("-")[0]
    (tmp_path / "config.json").write_text(json.dumps(config))
    arrays = encoder_only(model)
    stored = {f"{kind}/{classes}_{head}/{kind}/{keras_name(name, kind)}:0": array for name, array in arrays.items()}
    outer = f"{classes}_{head}"
    extra: dict[str, tuple[int, ...]] = {}
    if head == "for_pre_training":
        if kind == "bert":
            extra = {
                f"mlm___cls/{outer}/mlm___cls/predictions/bias:0": (61,),
                f"mlm___cls/{outer}/mlm___cls/predictions/transform/dense/kernel:0": (32, 32),
                f"mlm___cls/{outer}/mlm___cls/predictions/transform/LayerNorm/gamma:0": (32,),
                f"nsp___cls/{outer}/nsp___cls/seq_relationship/kernel:0": (32, 2),
            }
        elif kind == "albert":
            extra = {
                f"predictions/{outer}/predictions/bias:0": (61,),
                f"predictions/{outer}/predictions/decoder_bias:0": (61,),
                f"predictions/{outer}/predictions/dense/kernel:0": (32, 16),
                f"predictions/{outer}/predictions/LayerNorm/gamma:0": (16,),
                f"sop_classifier/{outer}/sop_classifier/classifier/kernel:0": (32, 2),
            }
        else:
            extra = {
                f"discriminator_predictions/{outer}/discriminator_predictions/dense/kernel:0": (32, 32),
                f"discriminator_predictions/{outer}/discriminator_predictions/dense_prediction/bias:0": (1,),
            }
    qa = draw({f"qa_outputs/{leaf}": shape for leaf, shape in QA.items()}, 3)
    if head == "for_question_answering":
        stored |= {f"qa_outputs/{outer}/{name}:0": array for name, array in qa.items()}
    stored |= draw(extra, 8)
    with h5py.File(tmp_path / "tf_model.h5", "w") as file:
        for name, array in stored.items():
            file.create_dataset(name, data=array)
        file.create_group("top_level_model_weights")
        file.attrs["backend"] = b"tensorflow"
        file.attrs["layer_names"] = [name.encode() for name in sorted({n.split("/")[0] for n in stored})]
    found, namemap = compute(tmp_path)
    assert namemap == f"transformers_{kind}"
    expected = expect(model, arrays)
    same(found, expected)
    if head == "for_question_answering":
        checkpoint = read_checkpoint(tmp_path / "tf_model.h5")
        task = build_model(checkpoint.config, head_of(()), device="cpu", seed=9)
        assert not load_weights(task, checkpoint, fresh_head=False).fresh
        ids, mask, types = (torch.from_numpy(x) for x in inputs(config, 0))
        with torch.inference_mode():
            values = task({"input_ids": ids, "attention_mask": mask, "token_type_ids": types})
        logits = expected["sequence_output"] @ qa["qa_outputs/kernel"] + qa["qa_outputs/bias"]
        found = {name: value.numpy() for name, value in values.items()}
        same(found, {"start": logits[..., 0], "end": logits[..., 1]})


def trackable(tf, arrays: dict[str, np.ndarray]):
    """Nest arrays by the parts of their names; parts that are numbers make lists, as in the Keras classes."""
    tree: dict = {}
    for name, array in arrays.items():
        *parts, leaf = name.split("/")
        node = tree
        for part in parts:
            node = node.setdefault(part, {})
        node[leaf] = array

    def build(node):
        if not isinstance(node, dict):
            return tf.Variable(node)
        if all(key.isdigit() for key in node):
            return [build(node[str(i)]) for i in range(len(node))]
        made = tf.Module()
        for key, value in node.items():
            setattr(made, key, build(value))
        return made

    return build(tree)


@pytest.mark.parametrize("form", ["bare", "wrapped", "span"])
@pytest.mark.parametrize("family", KERAS)
def test_tensorflow_2_objects_of_transformers_4(tf, tmp_path, family, form, same):
    model, config, _ = KERAS[family]
    kind = family.split("-")[0]
    (tmp_path / "config.json").write_text(json.dumps(config))
    arrays = encoder_only(model)
    stored = {f"{kind}/{object_name(name, kind)}": array for name, array in arrays.items()}
    qa = draw({f"qa_outputs/{leaf}": shape for leaf, shape in QA.items()}, 3)
    if form == "span":
        stored |= qa
    root = trackable(tf, stored)
    if form == "wrapped":
        tf.train.Checkpoint(model=root).write(str(tmp_path / "tf_model"))
    else:
        tf.train.Checkpoint(root).write(str(tmp_path / "tf_model"))
    for given in (tmp_path, tmp_path / "tf_model", tmp_path / "tf_model.index"):
        found, namemap = compute(given)
        assert namemap == f"transformers_{kind}"
        same(found, expect(model, arrays))
    if form == "span":
        checkpoint = read_checkpoint(tmp_path)
        task = build_model(checkpoint.config, head_of(()), device="cpu", seed=9)
        assert not load_weights(task, checkpoint, fresh_head=False).fresh
        np.testing.assert_array_equal(task.head.span.weight.detach().numpy(), qa["qa_outputs/kernel"].T)
