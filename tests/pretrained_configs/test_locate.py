"""Names and paths -> files, and what a model is called in tables."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from preprocess.base.errors import CheckpointError
from pretrained_configs import catalog
from pretrained_configs.checkpoint import read_checkpoint
from pretrained_configs.config import ModelConfig
from pretrained_configs.locate import display_name, files_of, locate, published_of
from pretrained_configs.parameters import parameter_shapes
from pretrained_configs.published import format_for, read_config
from pretrained_configs.writer import write_checkpoint

BERT = ModelConfig(11, 4, 1, 2, 6, max_position_embeddings=5)


@pytest.fixture
def model(tmp_path) -> Path:
    ours = {name: np.ones(shape, np.float32) for name, shape in parameter_shapes(BERT, pooled=True).items()}
    write_checkpoint(tmp_path, BERT, ours, format_for(BERT, "transformers"))
    return tmp_path


# --- what a model is called ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("data/chinese-macbert-base/", "chinese-macbert-base"),
        ("data/macbert/model/", "macbert/model"),
        ("data/macbert/pytorch_model/", "macbert/pytorch_model"),
        ("runs/drcd/seed_1/checkpoint-best/", "drcd/seed_1/checkpoint-best"),
        ("runs/drcd/checkpoint-1200/", "drcd/checkpoint-1200"),
        ("macbert/checkpoints/best/", "macbert/checkpoints/best"),
        ("hub/models--hfl--rbt3/snapshots/" + "0f" * 20 + "/", "hfl/rbt3"),
        ("hub/models--bert-base-chinese/snapshots/" + "0f" * 20 + "/", "bert-base-chinese"),
        ("macbert/model.safetensors", "macbert"),
        ("macbert/pytorch_model.bin", "macbert"),
        ("macbert/pytorch_model_fp16.bin", "macbert/pytorch_model_fp16"),
        ("macbert/model_f1:90.12_em:70.4.pth", "macbert/model_f1:90.12_em:70.4"),
        ("macbert/bert_config.json", "macbert"),
        ("roberta/bert_model.ckpt", "roberta"),
        ("roberta/model.ckpt-1000", "roberta/model.ckpt-1000"),
        ("roberta/model.ckpt-1000.index", "roberta/model.ckpt-1000"),
        ("model/model/", "model/model"),
    ],
)
def test_name_in_tables_says_which_model_it_is(tmp_path, monkeypatch, path, name):
    """Three runs that start from …/model must not be three rows called "model"."""
    place = tmp_path / "名" / path
    if path.endswith("/"):
        place.mkdir(parents=True)
    else:
        place.parent.mkdir(parents=True)
        if "ckpt" not in path:
            place.touch()
    expected = f"名/{name}" if name == "model/model" else name
    assert display_name(place) == expected
    monkeypatch.chdir(place if place.is_dir() else place.parent)
    assert display_name(Path("." if place.is_dir() else place.name)) == expected


def test_link_is_called_as_the_user_calls_it(tmp_path):
    (tmp_path / ("0f" * 20)).mkdir()
    (tmp_path / "macbert").symlink_to(tmp_path / ("0f" * 20))
    assert display_name(tmp_path / "macbert") == "macbert"


# --- names and paths ----------------------------------------------------------------------------------------------


def test_path_that_is_there_is_no_published_model(tmp_path, monkeypatch):
    """A local directory called rbt3 may hold anything: it gets no recipe and no limits of the published one."""
    monkeypatch.chdir(tmp_path)
    assert published_of("rbt3") is published_of("hfl/rbt3") is catalog.lookup("rbt3")
    (tmp_path / "hfl" / "rbt3").mkdir(parents=True)
    (tmp_path / "rbt3").mkdir()
    for name in ("rbt3", "hfl/rbt3"):
        place = locate(name)
        assert place.path == Path(name) and place.published is None is published_of(name)


def test_home_is_expanded_where_the_shell_did_not(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "macbert").mkdir()
    assert locate("~/macbert").path == tmp_path / "macbert"
    with pytest.raises(CheckpointError, match="no such file or directory"):
        locate("~nobody-of-this-name/macbert")


def test_checkpoint_holds_what_was_found(model):
    checkpoint = read_checkpoint(model, hidden_act="relu")
    assert checkpoint.config.hidden_act == "relu" and read_checkpoint(model).config.hidden_act == "gelu"
    assert checkpoint.directory == model and checkpoint.files == files_of(model)
    assert checkpoint.published is None and checkpoint.namemap.name == "transformers_bert"
    with pytest.raises(AttributeError):
        checkpoint.name = "other"  # type: ignore[misc]


def test_lightnings_suffix_is_a_pytorch_file_where_there_is_one(model):
    import torch
    from safetensors.torch import load_file

    torch.save({"state_dict": load_file(model / "model.safetensors")}, model / "epoch=1-step=30.ckpt")
    (model / "model.safetensors").unlink()
    for given in (model, model / "epoch=1-step=30.ckpt"):
        checkpoint = read_checkpoint(given)
        assert checkpoint.files.weights == (model / "epoch=1-step=30.ckpt",)
        assert checkpoint.check(parameter_shapes(BERT, pooled=True), fresh_head=False).mapped


# --- files that other programs saved ------------------------------------------------------------------------------

MARKED = {"UTF-8": "utf-8", "UTF-16, as PowerShell's >": "utf-16-le", "UTF-16 big-endian": "utf-16-be"}


@pytest.mark.parametrize("how", MARKED)
def test_json_with_a_byte_order_mark_is_json(model, how):
    """Notepad and PowerShell put it there; the configuration and the index of shards may have it."""
    path = model / "config.json"
    text = path.read_text(encoding="utf-8")
    path.write_bytes(f"\ufeff{text}".encode(MARKED[how]))
    assert read_config(model) == BERT
    (model / "model.safetensors").rename(model / "model-00001-of-00001.safetensors")
    names = [key for key in _names(model / "model-00001-of-00001.safetensors") if key != "__metadata__"]
    index = json.dumps({"weight_map": dict.fromkeys(names, "model-00001-of-00001.safetensors")})
    (model / "model.safetensors.index.json").write_bytes(f"\ufeff{index}".encode(MARKED[how]))
    assert read_checkpoint(model).config == BERT


def _names(path: Path) -> list[str]:
    content = path.read_bytes()
    return list(json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")]))


def test_tensorflows_checkpoint_file_with_a_mark_names_the_same_prefix(tmp_path):
    for step in (4, 5):
        for suffix in ("index", "data-00000-of-00001"):
            (tmp_path / f"model.ckpt-{step}.{suffix}").touch()
    (tmp_path / "config.json").touch()
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "/old/place/model.ckpt-4"\n', encoding="utf-8-sig")
    assert [path.name for path in files_of(tmp_path).weights][0] == "model.ckpt-4.index"


def test_disk_that_fails_is_not_called_a_damaged_configuration(model, monkeypatch):
    def fail(path: Path) -> bytes:
        raise OSError(5, "Input/output error", str(path))

    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(CheckpointError, match=r"config\.json: can't be read \(Input/output error\); check the path"):
        read_checkpoint(model)


def test_directory_that_is_called_like_a_configuration_is_none(model):
    (model / "my_config.json").mkdir()
    (model / "config.json").rename(model / "bert_config_base.json")
    assert files_of(model).config.name == "bert_config_base.json"
