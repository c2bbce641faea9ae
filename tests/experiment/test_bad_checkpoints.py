"""Damaged, hostile and mistaken checkpoints, as a user meets them: one line with the remedy, and exit status 2."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from experiment.cli import main
from pretrained_configs.formats.reader import write_safetensors
from pretrained_configs.parameters import parameter_shapes
from pretrained_configs.published import format_for, read_config
from pretrained_configs.writer import write_checkpoint
from tests.support.canary import Canary

INDEX, DATA = "model.ckpt.index", "model.ckpt.data-00000-of-00001"
WORD, TIED = "bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight"


@pytest.fixture
def model(corpus) -> Path:
    """The directory of the corpus' model: config.json, vocab.txt, and a model.safetensors of transformers."""
    _write(corpus.model, "transformers")
    return corpus.model


def _write(directory: Path, target: str) -> None:
    config = read_config(directory)
    random = np.random.default_rng(0)
    shapes = parameter_shapes(config, pooled=True)
    weights = {name: random.normal(0, 0.02, shape).astype(np.float32) for name, shape in shapes.items()}
    write_checkpoint(directory, config, weights, format_for(config, target))


@pytest.fixture
def tensorflow_model(corpus) -> Path:
    """The same model as a checkpoint of TensorFlow 1."""
    pytest.importorskip("tensorflow")
    _write(corpus.model, "tf1")
    (corpus.model / "config.json").unlink()
    assert {path.name for path in corpus.model.iterdir()} == {INDEX, DATA, "bert_config.json", "vocab.txt"}
    return corpus.model


def _state(model: Path) -> dict[str, torch.Tensor]:
    """Take the tensors out of model.safetensors and the file out of the way."""
    from safetensors.torch import load_file

    state = load_file(model / "model.safetensors")
    (model / "model.safetensors").unlink()
    return state


@pytest.fixture
def refused(capfd, corpus, flags, tmp_path):
    """Give a checkpoint to commands and expect one line on stderr, native code's included, with these texts in it."""

    def check(path: Path, *texts: object, commands: tuple[str, ...] = ("inspect", "train")) -> None:
        output = tmp_path / "run"
        train = [flag if flag != "--config_name" else "--model_name_or_path" for flag in flags(corpus, output)]
        train[train.index(str(corpus.model))] = str(path)
        predict = ["predict", "--task", "cmrc2018", "--test_file", str(corpus.data), "--output_dir", str(output)]
        for command in commands:
            arguments = {"train": train, "predict": [*predict, "--model_name_or_path", str(path)]}
            capfd.readouterr()
            status = main(arguments.get(command, ["inspect", "--model_name_or_path", str(path)]))
            error = capfd.readouterr().err
            assert status == 2, error
            assert error.startswith("error: ") and error.count("\n") == 1, error
            for text in texts:
                assert str(text) in error, error
            assert not output.exists()

    return check


def test_the_checkpoints_that_the_others_are_made_from_are_good(capfd, model):
    assert main(["inspect", "--model_name_or_path", str(model)]) == 0
    assert "fresh" in capfd.readouterr().out


# --- files that are not what their names say ----------------------------------------------------------------------

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32\nsize 409\n"
HTML = "<!DOCTYPE html>\n<html><head><title>出错了</title></head></html>\n".encode() * 9
JSON = b'{"error": "Repository not found"}'
CONTENTS = {
    "empty": (b"", ["the file is empty", "copy or download it again"]),
    "lfs": (LFS, ["a Git LFS pointer, not the weights", "run 'git lfs pull' or download the file"]),
    "html": (HTML, ["text ('<!DOCTYPE html> <html>", "not weights", "download it again"]),
    "json": (JSON, ['text (\'{"error": "Repository not found"}', "not weights", "download it again"]),
}


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "weights.pth", "tf_model.h5"])
def test_file_that_holds_something_else(refused, model, name, content):
    written, texts = CONTENTS[content]
    (model / "model.safetensors").unlink()
    (model / name).write_bytes(written)
    for path in (model, model / name):
        refused(path, model / name, *texts)


@pytest.mark.parametrize("content", CONTENTS)
def test_index_that_holds_something_else(refused, tensorflow_model, content):
    written, texts = CONTENTS[content]
    (tensorflow_model / INDEX).write_bytes(written)
    for path in (tensorflow_model, tensorflow_model / "model.ckpt"):
        refused(path, tensorflow_model / INDEX, *texts)


# --- truncated files ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [3, 0.5, -1])
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("model.safetensors", "not a whole safetensors file"),
        ("pytorch_model.bin", "not a whole PyTorch file (its end is missing)"),
        ("legacy.bin", "not a whole PyTorch"),
        ("tf_model.h5", "not a whole HDF5 file"),
    ],
)
def test_truncated_file(refused, model, name, reason, keep):
    path = model / name
    if path.suffix == ".bin":
        torch.save(_state(model), path, _use_new_zipfile_serialization=name != "legacy.bin")
    elif path.suffix == ".h5":
        h5py = pytest.importorskip("h5py")
        with h5py.File(path, "w") as file:
            for key, tensor in _state(model).items():
                file.create_dataset(key.replace(".", "/"), data=tensor.numpy())
    _truncate(path, keep)
    refused(model, path, reason, "copy")


def _truncate(path: Path, keep: float) -> None:
    """Keep so many bytes, a share of them, or all but so many."""
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if 0 < keep < 1 else int(keep)])


@pytest.mark.parametrize("keep", [0.5, -1])
def test_truncated_tensorflow_checkpoint(refused, tensorflow_model, keep):
    size = (tensorflow_model / DATA).stat().st_size
    _truncate(tensorflow_model / DATA, keep)
    # A span model needs no pooler, whose kernel is the last in the file: the missing byte counts all the same.
    expected = (
        f"{(tensorflow_model / DATA).stat().st_size:,} bytes, its variables {size:,}; copy the checkpoint again"
    )
    refused(tensorflow_model, f"{tensorflow_model / 'model.ckpt'}: its .data files hold", expected)
    _truncate(tensorflow_model / INDEX, keep)
    refused(tensorflow_model, tensorflow_model / INDEX, "not a TensorFlow checkpoint", "copy it again")


def test_tensorflow_checkpoint_with_a_flipped_bit(refused, tensorflow_model):
    content = bytearray((tensorflow_model / DATA).read_bytes())
    content[500] ^= 1
    (tensorflow_model / DATA).write_bytes(content)
    refused(tensorflow_model, tensorflow_model / INDEX, "Checksum does not match", "copy", commands=("inspect",))


def test_tensorflow_prefix_without_one_of_its_files(refused, tensorflow_model):
    prefix = tensorflow_model / "model.ckpt"
    (tensorflow_model / INDEX).rename(tensorflow_model / "aside")
    for path in (prefix, tensorflow_model, tensorflow_model / DATA):
        refused(path, f"{prefix}: a TensorFlow checkpoint without its {INDEX}; copy that file there too")
    (tensorflow_model / "aside").rename(tensorflow_model / INDEX)
    (tensorflow_model / DATA).unlink()
    for path in (prefix, tensorflow_model, tensorflow_model / INDEX):
        refused(path, f"{prefix}: a TensorFlow checkpoint without its .data files; copy them there too")


def test_nothing_but_the_one_line_reaches_stderr(run, tensorflow_model):
    """In a process of its own, where TensorFlow is imported with all that it has to say."""
    _truncate(tensorflow_model / DATA, -1)
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    done = run("inspect", "--model_name_or_path", tensorflow_model, env=environment)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr


# --- hostile files ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["zip", "legacy", "pickle2", "pickle4"])
def test_malicious_pickle_is_refused_and_nothing_of_it_runs(refused, model, tmp_path, form):
    canary, path = tmp_path / "canary", model / "pytorch_model.bin"
    content = {**_state(model), "x": Canary(canary)}
    if form.startswith("pickle"):
        path.write_bytes(pickle.dumps(content["x"], protocol=int(form[-1])))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    refused(model, path, "nothing of it was run", "get the weights as safetensors")
    assert not canary.exists()
    if form == "zip":  # The canary does sing for a reader that trusts the file.
        torch.load(path, weights_only=False)
        assert canary.exists()


# --- weights that are not this model's ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "texts"),
    [
        ({"hidden_size": 32}, [f"{WORD}: found [", ", 16], expected [", ", 32] for embeddings.word.weight"]),
        ({"num_hidden_layers": 2}, ["12 parameters missing", "needs bert.encoder.layer.1.output.LayerNorm.bias"]),
        ({"intermediate_size": 64}, ["layer.0.intermediate.dense.weight: found [32, 16], expected [64, 16]"]),
        ({"vocab_size": 99}, ["vocab_size is 99 in the config, "]),
    ],
    ids=str,
)
def test_configuration_of_another_model(refused, model, changes, texts):
    path = model / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    commands = (
        ("inspect",) if "vocab_size" in changes else ("inspect", "train")
    )  # train looks at the vocabulary first
    refused(
        model, model / "model.safetensors", path, *texts, "the config.json that belongs to the", commands=commands
    )


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        (b"", ["not JSON", "get it again from the model's publisher"]),
        (b'{"vocab_size": ', ["not JSON", "get it again from the model's publisher"]),
        (HTML, ["not JSON", "get it again from the model's publisher"]),
        (b"\xff\xfe{}", ["not JSON", "get it again from the model's publisher"]),
        (b"[]", ["a JSON object was expected, found a list", "get it again from the model's publisher"]),
        (b"{}", ["missing 'vocab_size', 'hidden_size'", "take the model's own config.json"]),
    ],
    ids=lambda value: repr(value[:9]) if isinstance(value, bytes) else "",
)
def test_configuration_that_is_none(refused, model, content, texts):
    (model / "config.json").write_bytes(content)
    refused(model, model / "config.json", *texts)


def test_missing_configuration(refused, model):
    (model / "config.json").unlink()
    refused(model, f"{model}: no config.json beside the weights; put the model's config.json there")


def test_tied_decoder_alone(refused, model):
    state = _state(model)
    state[TIED] = state.pop(WORD)
    path = model / "pytorch_model.bin"
    torch.save(state, path)
    refused(
        model, path, f"embeddings.word.weight (needs {WORD}); {TIED} is the tied output layer", "rename it to that"
    )


OPTIMIZER = {"state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.ones(2)}}, "param_groups": [{"params": [0]}]}


@pytest.mark.parametrize("name", ["pytorch_model.bin", "optimizer.pt", "model.safetensors"])
def test_optimizer_without_a_model(refused, model, name):
    (model / "model.safetensors").unlink()
    if name == "model.safetensors":
        write_safetensors(model / name, {"exp_avg.0": np.ones(2, np.float32), "step": np.ones(1, np.float32)})
    else:
        torch.save(OPTIMIZER, model / name)
    refused(model, model / name, "holds an optimizer's state alone, no weights", "give the model's file")


def test_tensorflow_optimizer_without_a_model(refused, tensorflow_model):
    import tensorflow as tf

    names = ["bert/pooler/dense/bias/adam_m", "bert/pooler/dense/bias/adam_v", "global_step"]
    tf.raw_ops.SaveV2(
        prefix=str(tensorflow_model / "model.ckpt"),
        tensor_names=names,
        shape_and_slices=[""] * 3,
        tensors=[np.ones(16, np.float32), np.ones(16, np.float32), np.int64(3)],
    )
    refused(tensorflow_model, tensorflow_model / INDEX, "holds an optimizer's state alone", "give the model's file")


# --- directories --------------------------------------------------------------------------------------------------


def test_directory_with_two_files_that_could_be_meant(refused, model):
    torch.save(_state(model), model / "a.bin")
    shutil.copy(model / "a.bin", model / "b.bin")
    refused(model, f"{model}: several weights files (a.bin, b.bin); name the one you mean")
    assert main(["inspect", "--model_name_or_path", str(model / "b.bin")]) == 0


def test_directory_with_two_tensorflow_checkpoints(refused, tensorflow_model):
    for name in (INDEX, DATA):
        shutil.copy(tensorflow_model / name, tensorflow_model / name.replace("model", "other"))
    expected = f"several weights files ({INDEX}, other.ckpt.index); name the one you mean"
    refused(tensorflow_model, tensorflow_model, expected)
    assert main(["inspect", "--model_name_or_path", str(tensorflow_model / "other.ckpt")]) == 0


def test_directory_without_weights(refused, model):
    (model / "model.safetensors").unlink()
    (model / "model.safetensors").mkdir()
    expected = "it holds config.json, model.safetensors, vocab.txt; give the model's directory"
    refused(model, f"{model}: no weights file (model.safetensors, ", expected)


# --- vocabularies -------------------------------------------------------------------------------------------------


def test_missing_vocabulary(refused, model):
    (model / "vocab.txt").unlink()
    expected = f"{model}: holds neither vocab.txt nor tokenizer.json; give a directory with one of them"
    refused(model, expected, commands=("train", "predict"))
    assert main(["inspect", "--model_name_or_path", str(model)]) == 0


def test_vocabulary_with_too_few_lines(refused, model):
    path = model / "vocab.txt"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = lines[: int(0.95 * len(lines))]
    path.write_text("".join(kept), encoding="utf-8")
    expected = f"the vocabulary has {len(kept)} entries, the model's embedding {len(lines)} rows"
    refused(model, model, expected, "with --tokenizer_name", commands=("train", "predict"))
