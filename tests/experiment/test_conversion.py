"""convert: every format that has a model's architecture holds it to the last bit, and says what it can't say."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from experiment.cli import main
from pretrained_configs.checkpoint import read_checkpoint
from pretrained_configs.config import ModelConfig
from pretrained_configs.formats.safetensors_file import write_safetensors
from pretrained_configs.namemap import NameMap
from pretrained_configs.parameters import parameter_shapes
from pretrained_configs.published import format_for
from pretrained_configs.writer import write_checkpoint

BERT = ModelConfig(
    vocab_size=30,
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=32,
    max_position_embeddings=12,
)
ALBERT = replace(BERT, model_type="albert", embedding_size=8, embedding_projection="output", hidden_act="gelu_tanh")
XLNET = replace(BERT, model_type="xlnet", max_position_embeddings=512, pad_token_id=5)
MODELS = {
    "bert": BERT,
    "electra": replace(BERT, model_type="electra", embedding_size=8, embedding_projection="output"),
    "google albert": replace(ALBERT, num_hidden_layers=4, num_hidden_groups=2, inner_group_num=2),
    "fast albert": replace(ALBERT, num_hidden_layers=4, num_hidden_groups=12, ffn_num_groups=16),
    "albert_zh": replace(ALBERT, embedding_projection="word", layer_norm_type="preln"),
    "albert, E = H": replace(ALBERT, embedding_size=16, embedding_projection="none"),
    "xlnet": XLNET,
    "tied xlnet": replace(XLNET, untie_r=False),
}
TARGETS = ("transformers", "tf1", "reference", "native")
#: (model, target) that no program of the target computes.
NO_PLACE = {
    ("albert_zh", "transformers"),
    ("fast albert", "transformers"),
    ("fast albert", "reference"),
    ("google albert", "reference"),
    ("electra", "reference"),
    ("xlnet", "reference"),
    ("tied xlnet", "reference"),
    ("tied xlnet", "transformers"),
}


def parameters(config: ModelConfig, *, span: bool = False, n_kinds: int = 0) -> dict[str, np.ndarray]:
    random = np.random.RandomState(7)
    pooled = config.model_type != "electra" or bool(n_kinds)
    heads = {name: rows for name, rows in (("span", 2 * span), ("kind", n_kinds)) if rows}
    shapes = parameter_shapes(config, pooled=pooled, heads=heads)
    return {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def written(directory: Path, config: ModelConfig, ours: dict[str, np.ndarray]) -> Path:
    directory.mkdir()
    write_checkpoint(directory, config, ours, format_for(config, "native"))
    (directory / "vocab.txt").write_text("[PAD]\n", encoding="utf-8")
    return directory


def read(directory: Path, ours: dict[str, np.ndarray]) -> tuple[ModelConfig, dict[str, np.ndarray]]:
    """Load the parameters that were written, and a projection if there is one now."""
    found = read_checkpoint(directory)
    config = found.config
    with found.open() as source:
        shapes = {name: array.shape for name, array in ours.items()}
        if config.embedding_projection == "output":
            every = parameter_shapes(config, pooled=False)
            shapes |= {name: shape for name, shape in every.items() if name.startswith("projection.")}
        return found.config, found.namemap.to_ours(source, shapes, may_be_fresh=())[0]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", MODELS)
def test_every_target_holds_every_model_that_it_has_a_place_for(name, target, tmp_path, capsys):
    config, ours = MODELS[name], parameters(MODELS[name])
    source, output = written(tmp_path / "source", config, ours), tmp_path / "output"
    status = main(["convert", "--from", str(source), "--to", target, "--output", str(output)])
    text = capsys.readouterr()
    if (name, target) in NO_PLACE:
        assert status == 2 and f"{target} has no such model" in text.err and text.err.count("\n") == 1
        assert not output.exists()
        return
    assert status == 0, text.err
    assert (output / "vocab.txt").read_text(encoding="utf-8") == "[PAD]\n"
    back_config, back = read(output, ours)
    for parameter, array in ours.items():
        assert np.array_equal(back[parameter], array), parameter
    # What the target's program hard-codes is read back as such, and was said.
    changed = {key for key, value in asdict(config).items() if asdict(back_config)[key] != value}
    assert changed <= {"hidden_act", "layer_norm_eps", "embedding_projection"}
    for field in changed - {"embedding_projection"}:
        assert f"compute with {field}" in text.out
    assert ("embedding_projection" in changed) == (name == "albert, E = H" and target == "transformers")


def test_identity_projection_is_put_in_and_taken_out_again(tmp_path):
    ours = parameters(MODELS["albert, E = H"])
    source = written(tmp_path / "a", MODELS["albert, E = H"], ours)
    assert main(["convert", "--from", str(source), "--to", "transformers", "--output", str(tmp_path / "b")]) == 0
    config, back = read(tmp_path / "b", ours)
    assert config.embedding_projection == "output" and np.array_equal(back["projection.weight"], np.eye(16))
    assert main(["convert", "--from", str(tmp_path / "b"), "--to", "tf1", "--output", str(tmp_path / "c")]) == 0
    config, back = read(tmp_path / "c", ours)
    assert config == MODELS["albert, E = H"]
    assert all(np.array_equal(back[name], array) for name, array in ours.items())


@pytest.mark.parametrize(
    ("name", "target"), [("bert", "reference"), ("albert_zh", "reference"), ("bert", "transformers"), ("bert", "tf1")]
)
@pytest.mark.parametrize("n_kinds", [0, 3])
def test_heads_go_along(name, target, n_kinds, tmp_path, capsys):
    config = MODELS[name]
    ours = parameters(config, span=True, n_kinds=n_kinds)
    source, output = written(tmp_path / "source", config, ours), tmp_path / "output"
    status = main(["convert", "--from", str(source), "--to", target, "--output", str(output)])
    if target == "tf1" and n_kinds:  # Google's program has no such head
        assert status == 2 and "can't be written: head.kind" in capsys.readouterr().err
        return
    assert status == 0
    _, back = read(output, ours)
    assert all(np.array_equal(back[name], array) for name, array in ours.items())


def test_written_configurations_are_those_that_the_programs_read(tmp_path):
    files = {
        ("albert_zh", "tf1"): ("albert_config.json", {"ln_type": "preln", "embedding_size": 8, "hidden_act": "gelu"}),
        ("google albert", "tf1"): ("albert_config.json", {"num_hidden_groups": 2, "inner_group_num": 2}),
        ("bert", "reference"): ("bert_config.json", {"hidden_act": "gelu", "num_hidden_layers": 2}),
        ("electra", "transformers"): ("config.json", {"model_type": "electra", "embedding_size": 8}),
    }
    for i, ((name, target), (file, expected)) in enumerate(files.items()):
        source = written(tmp_path / f"s{i}", MODELS[name], parameters(MODELS[name]))
        assert main(["convert", "--from", str(source), "--to", target, "--output", str(tmp_path / f"o{i}")]) == 0
        values = json.loads((tmp_path / f"o{i}" / file).read_text(encoding="utf-8"))
        assert {key: values.get(key) for key in expected} == expected
        assert "ffn_num_groups" not in values and "layer_norm_type" not in values


def test_model_of_a_family_without_such_a_form_is_not_called_another_in_silence(tmp_path, capsys):
    """ERNIE is a BERT in all it computes; whoever gets a google_bert should know that it is an ERNIE."""
    ours = parameters(replace(BERT, hidden_act="relu", layer_norm_eps=1e-5))
    source = written(tmp_path / "source", replace(BERT, hidden_act="relu", layer_norm_eps=1e-5), ours)
    stored = NameMap.load("transformers_ernie").to_theirs(ours)
    write_safetensors(source / "model.safetensors", stored)
    values = {**asdict(BERT), "model_type": "ernie", "hidden_act": "relu", "layer_norm_eps": 1e-5}
    (source / "config.json").write_text(json.dumps(values), encoding="utf-8")
    for target, name in (("tf1", "google_bert"), ("transformers", "transformers_bert"), ("native", "native")):
        output = tmp_path / target
        assert main(["convert", "--from", str(source), "--to", target, "--output", str(output)]) == 0
        text = capsys.readouterr().out
        said = f"has no form of its own for transformers_ernie; what it computes is written as {name} ("
        assert (f"note: {target} {said}" in text) == (target != "native")
        assert all(np.array_equal(read(output, ours)[1][parameter], array) for parameter, array in ours.items())


def test_vocabulary_goes_along_under_whichever_name_or_is_missed(tmp_path, capsys):
    """Google's ALBERT has a vocab_chinese.txt; a model without any is of no use to those programs."""
    source = written(tmp_path / "source", BERT, parameters(BERT))
    (source / "vocab.txt").rename(source / "vocab_chinese.txt")
    assert main(["convert", "--from", str(source), "--to", "tf1", "--output", str(tmp_path / "a")]) == 0
    assert (tmp_path / "a" / "vocab_chinese.txt").is_file() and "this model has none" not in capsys.readouterr().out
    (source / "vocab_chinese.txt").unlink()
    assert main(["convert", "--from", str(source), "--to", "tf1", "--output", str(tmp_path / "b")]) == 0
    assert "note: programs for google_bert read a vocab.txt" in capsys.readouterr().out
    assert main(["convert", "--from", str(source), "--to", "transformers", "--output", str(tmp_path / "c")]) == 0
    assert "read a vocab.txt" not in capsys.readouterr().out


def test_what_wrapped_the_model_is_taken_off_and_said(tmp_path, capsys):
    ours = parameters(BERT)
    source = written(tmp_path / "source", BERT, ours)
    stored = NameMap.load("transformers_bert").to_theirs(ours)
    write_safetensors(source / "model.safetensors", {f"_orig_mod.model.{key}": x for key, x in stored.items()})
    values = {**asdict(BERT), "model_type": "bert"}
    (source / "config.json").write_text(json.dumps(values), encoding="utf-8")
    assert main(["convert", "--from", str(source), "--to", "transformers", "--output", str(tmp_path / "o")]) == 0
    assert "names are read without '_orig_mod.' and 'model.'" in capsys.readouterr().out
    assert all(np.array_equal(read(tmp_path / "o", ours)[1][name], array) for name, array in ours.items())


def test_output_that_is_taken_is_left_alone(tmp_path, capsys):
    source = written(tmp_path / "source", BERT, parameters(BERT))
    before = {path.name: path.read_bytes() for path in source.iterdir()}
    assert main(["convert", "--from", str(source), "--to", "tf1", "--output", str(source)]) == 2
    assert "exists and is not empty" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in source.iterdir()} == before
