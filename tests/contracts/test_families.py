"""A family is a room: nothing outside asks for a model_type, and three files in the right places are a family."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import json
import random
import re
import sys
from pathlib import Path

import numpy as np
import pytest

import pytorch_modeling
import pytorch_modeling.families
from experiment.cli import main
from experiment.inputs.model import template_of
from preprocess.base.errors import CheckpointError
from preprocess.batch import collate
from preprocess.template import Template
from preprocess.tokenizers.base import load_tokenizer
from preprocess.types import Answer, Batch, Example
from pretrained_configs import families
from pretrained_configs.checkpoint import read_checkpoint
from pretrained_configs.config import ModelConfig
from pretrained_configs.families.base import UNLIMITED, InputTemplate
from pretrained_configs.parameters import parameter_shapes
from pretrained_configs.published import read_config
from tests.support.values import KINDS, SPAN, encode, span_batch

ROOT = Path(__file__).resolve().parents[2]
#: Those that know a `ModelConfig`.
PACKAGES = ("pretrained_configs", "pytorch_modeling", "tf_modeling", "experiment")
PAGE = (ROOT / "docs" / "adding-a-family.md").read_text(encoding="utf-8")
FILES = dict(zip(PACKAGES[:3], re.findall(r"```python\n(.*?)```", PAGE, re.S), strict=True))
CONFIG = json.loads(re.findall(r"```json\n(.*?)```", PAGE, re.S)[0])
SIZES = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
}


def _asks(node: ast.AST, names: tuple[str, ...]) -> bool:
    """Whether a node compares a model_type, or the name of a family, or looks something up by one."""
    if isinstance(node, ast.Compare):
        sides = [node.left, *node.comparators]
        return any(_is_model_type(side) or _is_name(side, names) for side in sides)
    if isinstance(node, ast.Match):
        return _is_model_type(node.subject)
    return isinstance(node, ast.Subscript) and (_is_model_type(node.slice) or _is_name(node.slice, names))


def _is_model_type(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == "model_type"


def _is_name(node: ast.AST, names: tuple[str, ...]) -> bool:
    parts = node.elts if isinstance(node, ast.Tuple | ast.List | ast.Set) else [node]
    return any(isinstance(part, ast.Constant) and part.value in names for part in parts)


def test_no_file_outside_the_families_compares_a_model_type():
    names = families.names()
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            if "families" not in path.parts:
                tree = ast.parse(path.read_text(encoding="utf-8"))
                lines = [node.lineno for node in ast.walk(tree) if _asks(node, names)]
                assert not lines, f"{path}, lines {lines}: ask `config.family` instead"


@pytest.mark.parametrize(
    "code",
    [
        'config.model_type == "albert"',
        'model_type in ("bert", "electra")',
        "ENCODERS[config.model_type]",
        'match config.model_type:\n    case "bert": pass',
    ],
)
def test_questions_for_a_model_type_are_seen(code):
    assert any(_asks(node, families.names()) for node in ast.walk(ast.parse(code)))


@pytest.mark.parametrize("package", ["pytorch_modeling", "tf_modeling"])
@pytest.mark.parametrize("model_type", families.names())
def test_every_family_has_an_encoder_of_just_its_parameters(package, model_type):
    backend = importlib.import_module(package)
    config = ModelConfig(**SIZES, model_type=model_type)
    built = backend.parameter_shapes(backend.outline(config, KINDS))
    assert list(built.items()) == list(parameter_shapes(config, pooled=True, heads=KINDS.rows).items())


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """Put the page's files where families are looked for; returns a model's directory."""
    importlib.import_module("tf_modeling.families")
    for package, code in FILES.items():
        directory = tmp_path / package
        directory.mkdir()
        (directory / "mirror.py").write_text(code, encoding="utf-8")
        module = sys.modules[f"{package}.families"]
        monkeypatch.setattr(module, "__path__", [*module.__path__, str(directory)])
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"甲乙丙丁戊己庚"]
    (model / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
    yield model
    for package in FILES:
        sys.modules.pop(f"{package}.families.mirror", None)
        if hasattr(sys.modules[f"{package}.families"], "mirror"):
            delattr(sys.modules[f"{package}.families"], "mirror")


def test_a_new_family_differs_in_what_its_file_says(mirror):
    assert "mirror" in families.names()
    config = read_config(mirror)
    shapes = parameter_shapes(config, pooled=False)
    assert "embeddings.token_type.weight" not in shapes and shapes["embeddings.position.weight"] == (34, 32)
    assert config.family.usable_length(config) == 32


def test_windows_of_a_new_family_are_laid_out_as_its_file_says(mirror):
    template, tokenizer = template_of(read_config(mirror), load_tokenizer(mirror)), load_tokenizer(mirror)
    examples = [Example("1", "庚", "乙丙甲", (Answer("甲", 2, 3),)), Example("2", "庚", "乙")]
    features = encode(examples, [examples[0].answers[0], None], tokenizer, template=template)
    batch = collate(features, np.arange(2))
    pieces = (mirror / "vocab.txt").read_text(encoding="utf-8").split()
    windows = ["".join(pieces[i] for i in row[row != 0]) for row in batch.inputs["input_ids"]]
    assert windows == ["乙丙甲[SEP]庚[SEP][CLS]", "乙[SEP]庚[SEP][CLS]"]
    assert batch.inputs["attention_mask"][:, -1].tolist() == [1, 1]
    # The answer is the third of seven tokens; "no answer" is the last token, [CLS].
    length = batch.inputs["input_ids"].shape[1]
    assert batch.targets["start"].tolist() == [length - 5, length - 1]


def test_templates_of_families_are_those_that_windows_are_laid_out_by():
    for f, ours in zip(dataclasses.fields(Template), dataclasses.fields(InputTemplate), strict=True):
        assert (f.name, f.default) == (ours.name, ours.default)


def _inputs(n_padding: int, left: bool) -> list[np.ndarray]:
    """Two windows of six tokens, with padding on one side."""
    ids = np.array([[4, 5, 6, 3, 7, 2], [8, 9, 10, 3, 4, 2]])
    sides = ((0, 0), (n_padding, 0) if left else (0, n_padding))
    return [np.pad(x, sides) for x in (ids, np.ones_like(ids), np.ones_like(ids))]


def test_a_new_family_computes_the_same_in_both_frameworks(mirror, tmp_path):
    import tf_modeling

    config = read_config(mirror)
    theirs = pytorch_modeling.build_model(config, None, device="cpu", seed=1)
    pytorch_modeling.save_weights(theirs, tmp_path)
    ours = tf_modeling.build_model(config, None, device="cpu", seed=2)
    tf_modeling.load_weights(ours, read_checkpoint(tmp_path), fresh_head=False)
    found, expected = (
        b.hidden_states(m, *_inputs(3, True)) for b, m in ((tf_modeling, ours), (pytorch_modeling, theirs))
    )
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=2e-5, err_msg=name)
    # Positions start at row 2, on the first real token; the last one, which follows no padding, is pooled.
    table = pytorch_modeling.parameter_values(theirs)
    summed = table["embeddings.word.weight"][[4, 5, 6, 3, 7, 2]] + table["embeddings.position.weight"][2:8]
    normed = (summed - summed.mean(-1, keepdims=True)) / np.sqrt(summed.var(-1, keepdims=True) + 1e-12)
    np.testing.assert_allclose(expected["embedding_output"][0, 3:], normed, atol=2e-5)
    pooled = np.tanh(expected["sequence_output"][:, -1] @ table["pooler.weight"].T + table["pooler.bias"])
    np.testing.assert_allclose(expected["pooled_output"], pooled, atol=2e-5)
    for backend, model in ((tf_modeling, ours), (pytorch_modeling, theirs)):
        right = backend.hidden_states(model, *_inputs(3, False))["pooled_output"]
        np.testing.assert_allclose(right, pooled, atol=2e-5)


def _questions(path: Path, n: int) -> str:
    """Write n contexts of eight characters that hold 甲 once: it is the answer."""
    draw = random.Random(n)
    paragraphs = []
    for i in range(n):
        context = "".join(draw.sample("甲" + "".join(draw.choices("乙丙丁戊己", k=7)), 8))
        answers = [{"text": "甲", "answer_start": context.index("甲")}]
        paragraphs.append({"context": context, "qas": [{"id": str(i), "question": "庚", "answers": answers}]})
    document = {"version": "", "data": [{"title": "", "paragraphs": paragraphs}]}
    path.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("framework", ["pytorch", "tensorflow"])
def test_a_new_family_is_trained_saved_and_used(mirror, tmp_path, framework, capsys):
    run = tmp_path / "run"
    flags = ["--task", "cmrc2018", "--framework", framework, "--feature_cache_dir", "None"]
    status = main([
        "train", *flags, "--max_seq_length", "32", "--config_name", str(mirror), "--output_dir", str(run),
        "--train_file", _questions(tmp_path / "train", 96), "--validation_file", _questions(tmp_path / "dev", 32),
        "--per_device_train_batch_size", "16", "--num_train_epochs", "12", "--eval_epochs", "12",
        "--learning_rate", "1e-2", "--seeds", "1",
    ])  # fmt: skip
    assert status == 0
    record = json.loads((run / "seed_1" / "record.json").read_text(encoding="utf-8"))
    # One of eight places is right by chance.
    assert record["scores"]["dev"]["em"] > 80
    capsys.readouterr()
    best = ["predict", *flags, "--model_name_or_path", str(run / "seed_1" / "checkpoint-best"), "--question", "庚"]
    assert main([*best, "--context", "乙丙甲戊"]) == 0
    assert "甲" in capsys.readouterr().out
    assert main([*best, "--context", "乙丙甲戊", "--max_seq_length", "33"]) == 2
    assert "--max_seq_length 33 > max_position_embeddings - 2 32" in capsys.readouterr().err


def test_a_family_that_a_framework_does_not_have_is_one_line(mirror, tmp_path):
    (tmp_path / "pytorch_modeling" / "mirror.py").unlink()
    importlib.invalidate_caches()
    with pytest.raises(CheckpointError, match="^model_type 'mirror' has no encoder in PyTorch [^\n]*$"):
        pytorch_modeling.outline(read_config(mirror), None)


def test_every_fact_of_a_family_is_explained():
    prose = re.sub(r"```.*?```", "", PAGE, flags=re.S)
    facts = [name for name in vars(families.Family) if not name.startswith("_")]
    facts += list(families.Family.__dataclass_fields__)
    assert not [name for name in facts if f"`{name}`" not in prose]


#: What models are built of: every family as it is, and BERT with each kind of positions.
MODELS = {
    **{model_type: {"model_type": model_type} for model_type in families.names()},
    # No file of theirs has a length that means nothing to them.
    "xlnet": {"model_type": "xlnet", "max_position_embeddings": 512},
    **{kind: {"position_embedding_type": kind} for kind in ("relative_key", "relative_key_query")},
}


@pytest.mark.parametrize("model", MODELS)
def test_both_frameworks_learn_the_same_from_a_saved_model(model, tmp_path):
    """Saved by one, opened by the other: logits, loss and gradients agree, and are 0 where the family says so."""
    import tf_modeling

    sizes = {**SIZES, "max_position_embeddings": 40, "pad_token_id": 1, "initializer_range": 0.3, **MODELS[model]}
    config = ModelConfig(**sizes, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    theirs = pytorch_modeling.build_model(config, SPAN, device="cpu", seed=1)
    pytorch_modeling.save_weights(theirs, tmp_path)
    checkpoint = read_checkpoint(tmp_path)
    if config.family.usable_length(config) == UNLIMITED:  # such a family's files state no number of positions
        config = dataclasses.replace(config, max_position_embeddings=checkpoint.config.max_position_embeddings)
    assert checkpoint.config == config
    ours = tf_modeling.build_model(config, SPAN, device="cpu", seed=2)
    tf_modeling.load_weights(ours, checkpoint, fresh_head=False)
    batch = _span_batch(config)
    (found, found_gradients), (expected, gradients) = (
        backend.gradients(m, batch, precision="fp32")
        for backend, m in ((tf_modeling, ours), (pytorch_modeling, theirs))
    )
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=2e-5, err_msg=name)
    largest = max(np.abs(values).max() for values in gradients.values())
    for name, values in gradients.items():
        np.testing.assert_allclose(found_gradients[name], values, atol=1e-5 * largest, err_msg=name)
    idle = config.family.idle_parameters(config, gradients, competing=True)
    assert all(np.abs(gradients[name][part]).max() < 1e-5 * largest for name, part in idle.items())


def _span_batch(config: ModelConfig) -> Batch:
    """Three windows of 12, 9 and 6 tokens, filled up on the family's side; the answer is the third token or so."""
    draw, template = np.random.RandomState(0), config.family.template
    real, length = np.array([12, 9, 6])[:, None], 12
    place = np.arange(length) - (length - real if template.padding_side == "left" else 0)
    mask = (place >= 0) & (place < real)
    ids = np.where(mask, draw.randint(5, config.vocab_size, mask.shape), config.pad_token_id)
    start = np.argmax(mask, axis=1) + 2
    types = (place > 3) * mask * min(config.type_vocab_size - 1, template.n_segments - 1)
    return span_batch(
        window=np.arange(3), input_ids=ids, attention_mask=mask, token_type_ids=types, start=start, end=start + 1
    )
