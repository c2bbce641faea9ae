"""Files -> tensors: formats agree, damaged and hostile files are one clear line."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from preprocess.base.errors import CheckpointError
from pretrained_configs.formats.reader import checksum, open_tensors, write_safetensors
from pretrained_configs.locate import LocalCheckpoint, files_of, locate
from pretrained_configs.namemap import NameMap
from pretrained_configs.published import read_config
from tests.support.canary import Canary

CONFIG = {"vocab_size": 7, "hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 6}


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {
        "a.weight": generator.standard_normal((3, 5)).astype(np.float32),
        "a.bias": generator.standard_normal(3).astype(np.float32),
        "ids": np.arange(4, dtype=np.int64),
        "scalar": np.array(2.5, np.float32),
        "empty": np.zeros((0, 3), np.float32),
    }


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    return tmp_path


def resolve(name_or_path: str | Path) -> LocalCheckpoint:
    return files_of(locate(name_or_path).path)


def read(path: Path) -> dict[str, np.ndarray]:
    with open_tensors(resolve(path)) as tensors:
        return {name: tensor.read() for name, tensor in tensors.items()}


def assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert set(found) == set(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape, name
        assert np.array_equal(found[name], array), name


def save_torch(path: Path, arrays: dict[str, np.ndarray], **options: object) -> None:
    import torch

    torch.save({name: torch.from_numpy(array.copy()) for name, array in arrays.items()}, path, **options)


def test_every_format_gives_the_same_arrays(directory, arrays):
    write_safetensors(directory / "ours.safetensors", arrays)
    save_torch(directory / "zip.bin", arrays)
    save_torch(directory / "legacy.pth", arrays, _use_new_zipfile_serialization=False)
    for name in ("ours.safetensors", "zip.bin", "legacy.pth"):
        assert_same(read(directory / name), arrays)


def test_written_safetensors_are_what_the_library_reads(directory, arrays):
    from safetensors import safe_open
    from safetensors.numpy import load_file, save_file

    # Views and transposes are written by value.
    arrays["view"] = np.arange(12, dtype=np.float32).reshape(3, 4)[:, 1:3].T
    path = directory / "model.safetensors"
    write_safetensors(path, arrays)
    assert_same(load_file(path), {name: np.array(array, order="C") for name, array in arrays.items()})
    with safe_open(path, framework="np") as file:
        assert file.metadata() == {"format": "pt"}
    save_file({name: np.array(array, order="C") for name, array in arrays.items()}, path)
    assert_same(read(directory), arrays)


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_other_floats_become_float32(directory, suffix, dtype):
    import torch
    from safetensors.torch import save_file

    values = torch.tensor([1.0, -2.5, 3.140625, 1e-3, float("inf"), -0.0]).to(getattr(torch, dtype))
    path = directory / f"w.{suffix}"
    if suffix == "bin":
        torch.save({"w": values}, path)
    else:
        save_file({"w": values}, path)
    with open_tensors(resolve(path)) as tensors:
        assert tensors["w"].dtype == dtype
        assert tensors["w"].shape == (6,)
    assert_same(read(path), {"w": values.float().numpy()})


def test_sharded_checkpoint_is_one_mapping(directory, arrays):
    files = {name: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, name in enumerate(arrays)}
    for file in set(files.values()):
        write_safetensors(directory / file, {name: arrays[name] for name in arrays if files[name] == file})
    index = directory / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": files}))
    assert_same(read(directory), arrays)
    assert len(resolve(directory).weights) == 2
    index.write_text(json.dumps({"weight_map": {**files, "lost": files["ids"]}}))
    with pytest.raises(CheckpointError, match="its shards lack lost"):
        read(directory)
    (directory / files["ids"]).unlink()
    with pytest.raises(CheckpointError, match="shards missing: model-00001-of-00002"):
        read(directory)
    index.write_text(json.dumps({"weight_map": {"a": "../elsewhere.safetensors"}}))
    with pytest.raises(CheckpointError, match="shards missing: ../elsewhere"):
        read(directory)
    index.write_text("{}")
    with pytest.raises(CheckpointError, match="weight_map"):
        read(directory)


def test_standard_names_go_before_others(directory, arrays):
    for i, name in enumerate(["other.bin", "pytorch_model.bin"]):
        save_torch(directory / name, {"which": np.int64([i])})
    assert read(directory)["which"] == [1]
    write_safetensors(directory / "model.safetensors", {"which": np.int64([2])})
    assert read(directory)["which"] == [2]
    assert read(directory / "other.bin")["which"] == [0]


def test_sole_other_file_is_taken_and_two_are_refused(directory):
    save_torch(directory / "weights_a.bin", {"w": np.ones(2, np.float32)})
    (directory / "training_args.bin").write_bytes(b"x")
    assert resolve(directory).weights == (directory / "weights_a.bin",)
    save_torch(directory / "weights_b.bin", {"w": np.ones(2, np.float32)})
    with pytest.raises(CheckpointError, match=r"several weights files .weights_a.bin, weights_b.bin.; name the one"):
        resolve(directory)


def test_directory_without_weights_or_config_is_refused(directory):
    with pytest.raises(CheckpointError, match="no weights file .*; it holds config.json"):
        resolve(directory)
    save_torch(directory / "pytorch_model.bin", {"w": np.ones(2, np.float32)})
    (directory / "config.json").unlink()
    with pytest.raises(CheckpointError, match="no config.json beside the weights"):
        resolve(directory)
    with pytest.raises(CheckpointError, match="no config.json"):
        resolve(directory / "pytorch_model.bin")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("form", ["zip", "legacy", "pickle2", "pickle4"])
def test_pickle_that_needs_code_is_refused_and_nothing_runs(directory, form):
    import torch

    canary, path = directory / "canary", directory / "pytorch_model.bin"
    values = {"w": torch.ones(2), "x": Canary(canary)}
    if form.startswith("pickle"):
        path.write_bytes(pickle.dumps(values["x"], protocol=int(form[-1])))
    else:
        torch.save(values, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(CheckpointError, match="nothing of it was run") as error:
        read(directory)
    assert not canary.exists()
    assert "\n" not in str(error.value)
    # torch stops at the framing of protocol 4, before it sees what is asked for.
    assert ("asks to run 'posix.mkdir'" in str(error.value)) == (form != "pickle4")
    if form.startswith("pickle"):
        pickle.loads(path.read_bytes())
        assert canary.exists()  # The canary does sing for a reader that trusts the file.


@pytest.mark.parametrize("suffix", ["safetensors", "bin", "pth"])
@pytest.mark.parametrize("keep", [0.0, 0.001, 0.3, 0.9, 0.999])
def test_truncated_file_is_one_line(directory, arrays, suffix, keep):
    arrays["big"] = np.random.default_rng(1).standard_normal((40, 40)).astype(np.float32)
    path = directory / f"model.{suffix}"
    if suffix == "safetensors":
        write_safetensors(path, arrays)
    else:
        save_torch(path, arrays, _use_new_zipfile_serialization=suffix == "bin")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * keep)])
    with pytest.raises(CheckpointError, match="empty" if keep == 0 else "not a whole") as error:
        read(path)
    assert "\n" not in str(error.value) and str(path) in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "holds a list, not a state dict"),
        ({}, "holds a dict without entries"),
        ({"epoch": 3, "model": {"w": 1}}, "not a state dict: no dense tensors under w"),
        ({"epoch": 3, "w": 1.5}, "not a state dict: no dense tensors under epoch, w"),
    ],
)
def test_torch_file_that_is_no_state_dict_is_refused(directory, content, message):
    import torch

    torch.save(content, directory / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=message):
        read(directory)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_git_lfs_pointer_and_garbage_are_told_apart(directory, name):
    (directory / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(CheckpointError, match="Git LFS pointer"):
        read(directory)
    (directory / name).write_bytes(b"\n <html>\n404</html>" * 9)
    with pytest.raises(CheckpointError, match=r"text \('<html> 404</html> .*not weights"):
        read(directory)
    (directory / name).write_bytes(bytes(range(255, 100, -1)))
    with pytest.raises(CheckpointError, match="not a whole"):
        read(directory)


def test_checksum_is_the_sha256_of_the_file(directory, arrays):
    import hashlib

    path = directory / "model.safetensors"
    write_safetensors(path, arrays)
    assert checksum(resolve(directory)) == hashlib.sha256(path.read_bytes()).hexdigest()
    before = checksum(resolve(directory))
    write_safetensors(path, {**arrays, "a.bias": arrays["a.bias"] + 1})
    assert checksum(resolve(directory)) != before


def test_failed_write_leaves_the_old_file_and_no_other(directory, arrays, monkeypatch):
    path = directory / "model.safetensors"
    write_safetensors(path, arrays)
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_safetensors(path, {"other": np.ones(3, np.float32)})
    assert path.read_bytes() == before
    assert sorted(p.name for p in directory.iterdir()) == ["config.json", "model.safetensors"]


def test_type_that_safetensors_can_not_hold_is_refused(directory):
    with pytest.raises(CheckpointError, match="z has type complex64"):
        write_safetensors(directory / "x.safetensors", {"z": np.ones(1, np.complex64)})
    assert not (directory / "x.safetensors").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("chinese-roberta-wwm-ex", "unknown model .*did you mean 'chinese-roberta-wwm-ext'"),
        ("./nowhere", "no such file or directory"),
        ("a/b/c", "no such file or directory"),
        ("runs/model.bin", "no such file"),
        ("a b/c", "can't be a hub id"),
    ],
)
def test_name_that_is_nothing_is_refused(name, message):
    with pytest.raises(CheckpointError, match=message):
        locate(name)


@pytest.fixture
def hub_cache(tmp_path, monkeypatch) -> Path:
    """An empty hub cache on a machine without a network."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def snapshot(cache: Path, owner: str, name: str) -> Path:
    repository = cache / f"models--{owner}--{name}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    directory = repository / "snapshots" / ("0" * 40)
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps(CONFIG))
    return directory


def test_cached_hub_model_needs_no_network(hub_cache):
    directory = snapshot(hub_cache, "hfl", "chinese-roberta-wwm-ext")
    write_safetensors(directory / "model.safetensors", {"w": np.ones(2, np.float32)})
    for name in ("hfl/chinese-roberta-wwm-ext", "chinese-roberta-wwm-ext"):
        assert resolve(name).weights == (directory / "model.safetensors",)
    assert list(read(Path("hfl/chinese-roberta-wwm-ext"))) == ["w"]


def test_vocabulary_alone_is_enough_where_no_weights_are_asked_for(hub_cache):
    directory = snapshot(hub_cache, "hfl", "chinese-roberta-wwm-ext")
    (directory / "vocab.txt").write_text("[PAD]\n")
    assert locate("chinese-roberta-wwm-ext", weights=False).path == directory
    with pytest.raises(CheckpointError, match="no weights file"):
        resolve("chinese-roberta-wwm-ext")


def test_hub_model_without_network_is_one_line(hub_cache):
    with pytest.raises(CheckpointError, match="not on this machine and can't be downloaded") as error:
        resolve("hfl/chinese-roberta-wwm-ext")
    assert "\n" not in str(error.value)


FORMS = ("model.safetensors", "pytorch_model.bin", "pytorch_model_fp16.bin", "pytorch_model_noprefix.bin")


@pytest.mark.golden
def test_all_golden_files_hold_the_same_parameters(golden_dir):
    directory = golden_dir / "checkpoints" / "hf_bert"
    config = read_config(directory)
    loaded = {}
    for form in FORMS:
        checkpoint = resolve(directory / form)
        with open_tensors(checkpoint) as tensors:
            loaded[form], report = NameMap.load("transformers_bert").to_ours(tensors, golden_shapes(config))
            used = sum(len(names) for _, names, _, _ in report.mapped)
            assert used + len(report.ignored) == len(tensors)
        assert report.fresh == []
        assert {reason for _, reason in report.ignored} <= {"pre-training heads", "buffer, not a weight"}
        assert len(report.ignored) == {"model.safetensors": 7, "pytorch_model_noprefix.bin": 1}.get(form, 8)
    reference = loaded["model.safetensors"]
    for form in ("pytorch_model.bin", "pytorch_model_noprefix.bin"):
        assert_same(loaded[form], reference)
    for name, array in reference.items():
        assert np.array_equal(loaded["pytorch_model_fp16.bin"][name], array.astype(np.float16).astype(np.float32))
    assert resolve(directory).weights[0].name == "model.safetensors"


@pytest.mark.golden
def test_golden_checkpoint_with_another_config_is_refused(golden_dir, tmp_path):
    source = golden_dir / "checkpoints" / "hf_bert"
    shutil.copy(source / "model.safetensors", tmp_path)
    values = json.loads((source / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**values, "hidden_size": 64}))
    checkpoint = resolve(tmp_path)
    with (
        open_tensors(checkpoint) as tensors,
        pytest.raises(CheckpointError, match=r"found \[1200, 32\], expected \[1200, 64\]"),
    ):
        NameMap.load("transformers_bert").to_ours(tensors, golden_shapes(read_config(checkpoint.config)))


def golden_shapes(config) -> dict[str, tuple[int, ...]]:
    width, inner = config.hidden_size, config.intermediate_size
    modules = {"embeddings.norm": (width,), "pooler": (width, width)}
    for i in range(config.num_hidden_layers):
        modules |= {
            f"layers.{i}.attention.qkv": (3 * width, width),
            f"layers.{i}.attention.output": (width, width),
            f"layers.{i}.attention_norm": (width,),
            f"layers.{i}.ffn.up": (inner, width),
            f"layers.{i}.ffn.down": (width, inner),
            f"layers.{i}.ffn_norm": (width,),
        }
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word.weight": (config.vocab_size, width),
        "embeddings.position.weight": (config.max_position_embeddings, width),
        "embeddings.token_type.weight": (config.type_vocab_size, width),
    }
    for name, shape in modules.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return shapes
