"""Files that are packed, cut or ordered in another way: read where their own library reads them, else refused.

Whatever the library gives is what ours gives, and whatever it refuses is refused in one line: a tensor is never bytes
that only happened to lie there.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import struct
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import torch

from preprocess.base.errors import CheckpointError
from pretrained_configs.formats import safetensors_file
from pretrained_configs.formats.reader import open_tensors, write_safetensors
from pretrained_configs.locate import files_of
from tests.support.containers import ARRAYS, CONFIG, agree, read

# --- safetensors --------------------------------------------------------------------------------------------------


def by_safetensors(path: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    return load_file(path)


def _raw(path: Path, header: object, values: bytes, length: int | None = None) -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + values)


def _entry(start: int, end: int, shape: list[int], dtype: str = "F32") -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


VALUES = np.arange(6, dtype="<f4").tobytes()
#: header, values -> whether the library reads it
HEADERS: dict[str, tuple[object, bytes, bool]] = {
    "sound": ({"a": _entry(0, 8, [2]), "b": _entry(8, 24, [2, 2])}, VALUES, True),
    "in another order": ({"b": _entry(8, 24, [4]), "a": _entry(0, 8, [2])}, VALUES, True),
    "overlapping": ({"a": _entry(0, 12, [3]), "b": _entry(8, 24, [4])}, VALUES, False),
    "twice the same bytes": ({"a": _entry(0, 24, [6]), "b": _entry(0, 24, [6])}, VALUES, False),
    "with a gap": ({"a": _entry(0, 8, [2]), "b": _entry(12, 24, [3])}, VALUES, False),
    "with bytes left over": ({"a": _entry(0, 8, [2])}, VALUES, False),
    "beyond the end": ({"a": _entry(0, 32, [8])}, VALUES, False),
    "of another size than its shape": ({"a": _entry(0, 24, [5])}, VALUES, False),
    "of another size than its type": ({"a": _entry(0, 24, [6], "F16")}, VALUES, False),
    "backwards": ({"a": _entry(24, 0, [6])}, VALUES, False),
    "of no known type": ({"a": _entry(0, 24, [6], "F31")}, VALUES, False),
    "of a negative size": ({"a": _entry(0, 24, [-6])}, VALUES, False),
    "not JSON": (b"{", VALUES, False),
    "a list": ([1], VALUES, False),
    "with spaces behind the header": (json.dumps({"a": _entry(0, 24, [6])}).encode() + b"   ", VALUES, True),
    "an odd header, so that nothing is aligned": ({"abc": _entry(0, 24, [6])}, VALUES, True),
    "with strings of its own": ({"__metadata__": {"x": "y"}, "a": _entry(0, 24, [6])}, VALUES, True),
    "of no values": ({"a": _entry(0, 0, [0, 3]), "b": _entry(0, 24, [6])}, VALUES, True),
}


@pytest.mark.parametrize("what", HEADERS)
def test_safetensors_header(directory, what):
    header, values, readable = HEADERS[what]
    path = directory / "model.safetensors"
    _raw(path, header, values)
    assert agree(path, by_safetensors) is readable


@pytest.mark.parametrize("length", [0, 7, 1 << 20, 1 << 62])
def test_safetensors_header_of_a_wrong_length(directory, length):
    path = directory / "model.safetensors"
    _raw(path, {"a": _entry(0, 24, [6])}, VALUES, length)
    assert not agree(path, by_safetensors)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int64"])
def test_safetensors_file_that_is_cut_after_it_was_opened(directory, dtype):
    """As when it is still being copied; a mapped page beyond the end would end the process."""
    path = directory / "model.safetensors"
    write_safetensors(path, {"w": np.ones(5000, dtype)})
    with open_tensors(files_of(path)) as tensors:
        os.truncate(path, 4000)
        with pytest.raises(CheckpointError, match="was cut off after it was opened; copy it again"):
            tensors["w"].read()


# --- HDF5 ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def h5py():
    return pytest.importorskip("h5py")


#: How a dataset is stored -> the options that make it so.
STORED = {
    "whole": {},
    "in chunks": {"chunks": (3, 7)},
    "compressed": {"compression": "gzip"},
    "compressed and shuffled": {"compression": "lzf", "shuffle": True},
    "with checksums": {"fletcher32": True},
    "big-endian": {"dtype": ">f4"},
    "big-endian half": {"dtype": ">f2"},
    "double": {"dtype": "<f8"},
    "extensible": {"maxshape": (None, 100)},
}


@pytest.mark.parametrize("how", STORED)
def test_hdf5_however_it_is_stored(directory, h5py, how):
    path = directory / "tf_model.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("bert/embeddings/x", data=ARRAYS["a.weight"], **STORED[how])
    with open_tensors(files_of(path)) as tensors:
        (tensor,) = tensors.values()
        assert tensor.dtype.startswith("float") and tensor.shape == (10, 100)
        assert np.array_equal(tensor.read(), ARRAYS["a.weight"])


def test_hdf5_dataset_that_is_damaged_is_one_line(directory, h5py):
    path = directory / "tf_model.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=ARRAYS["a.weight"], fletcher32=True, chunks=(10, 100))
        offset = file["x"].id.get_chunk_info(0).byte_offset
    content = bytearray(path.read_bytes())
    content[offset + 17] ^= 4
    path.write_bytes(content)
    with pytest.raises(OSError), h5py.File(path) as file:
        file["x"][()]
    with pytest.raises(CheckpointError, match=r"tf_model\.h5: /x can't be read \(.*\); copy or download") as error:
        read(path)
    assert "\n" not in str(error.value)


def test_two_variables_that_would_get_the_same_name_are_both_there(directory, h5py):
    """One of them took the other's place, whichever came last, and nobody was told."""
    path = directory / "tf_model.h5"
    with h5py.File(path, "w") as file:
        for part in ("a", "b"):
            file.create_dataset(f"{part}/bert/pooler/dense/kernel:0", data=np.ones((2, 2), np.float32))
    assert set(read(path)) == {"bert.pooler.dense.weight", "b/bert/pooler/dense/kernel:0"}


# --- TensorFlow ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tf():
    return pytest.importorskip("tensorflow")


def _save(tf, prefix: Path, arrays: dict[str, np.ndarray]) -> None:
    names = list(arrays)
    tf.raw_ops.SaveV2(
        prefix=str(prefix), tensor_names=names, shape_and_slices=[""] * len(names), tensors=list(arrays.values())
    )


@pytest.mark.parametrize(
    "name", ["bert [2026]", "[x]", "a*b", "what?", "{a,b}", "back\\slash", "ba[d", "~ $HOME", "中文", "b[1]/c*"]
)
def test_tensorflow_checkpoint_under_any_name(tf, directory, name):
    """TensorFlow takes the path for a pattern; the directory and the prefix may be called as they like."""
    plain = directory / "plain"
    plain.mkdir()
    _save(tf, plain / "model.ckpt", ARRAYS)
    place = directory / name
    place.mkdir(parents=True)
    (place / "config.json").write_text(json.dumps(CONFIG))
    prefix = place / f"{Path(name).name}.ckpt"
    for path in plain.iterdir():
        shutil.copy(path, place / path.name.replace("model.ckpt", prefix.name))
    for given in (place, prefix, prefix.with_name(f"{prefix.name}.index")):
        found = read(given)
        assert all(np.array_equal(found[key], array) for key, array in ARRAYS.items())


@pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX alone")
def test_any_container_in_a_directory_whose_name_is_not_utf8(tf, h5py, directory):
    """As Chinese Windows packs them: a name in GBK."""
    place = directory / os.fsdecode("中文".encode("gbk"))
    try:
        place.mkdir()
    except OSError:
        pytest.skip("this file system has UTF-8 names alone")
    (place / "config.json").write_text(json.dumps(CONFIG))
    plain = directory / "plain"
    plain.mkdir()
    _save(tf, plain / "model.ckpt", ARRAYS)
    torch.save({name: torch.from_numpy(array) for name, array in ARRAYS.items()}, plain / "model.bin")
    write_safetensors(plain / "model.safetensors", ARRAYS)
    with h5py.File(plain / "tf_model.h5", "w") as file:
        for name, array in ARRAYS.items():
            file[name] = array
    for path in plain.iterdir():
        shutil.copy(path, place)
    for name in ("model.ckpt", "model.bin", "model.safetensors", "tf_model.h5"):
        found = read(place / name)
        assert all(np.array_equal(found[key], array) for key, array in ARRAYS.items())


def test_tensorflow_index_with_any_byte_changed_gives_the_same_or_is_refused(tf, directory):
    def by_tensorflow(path: Path) -> dict[str, np.ndarray]:
        reader = tf.train.load_checkpoint(str(path.with_suffix("")))
        return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}

    prefix = directory / "model.ckpt"
    _save(tf, prefix, ARRAYS)
    index = directory / "model.ckpt.index"
    sound = index.read_bytes()
    for at in range(0, len(sound), 7):
        index.write_bytes(sound[:at] + bytes([sound[at] ^ 0x41]) + sound[at + 1 :])
        agree(index, by_tensorflow)


# --- the machine's fault ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (OSError(5, "Input/output error"), OSError),
        (MemoryError(), MemoryError),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to"), MemoryError),
        (RuntimeError("unable to mmap 8 bytes from file <x>: Cannot allocate memory (12)"), MemoryError),
        (RuntimeError("PytorchStreamReader failed reading zip archive"), CheckpointError),
    ],
)
def test_disk_or_memory_that_fails_is_not_called_damage(directory, monkeypatch, error, raised):
    """Nobody should download a model again because the disk or the memory had a bad moment."""
    path = directory / "pytorch_model.bin"
    torch.save({"w": torch.ones(3)}, path)

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(raised) as caught:
        read(path)
    assert ("copy or download it again" in str(caught.value)) == (raised is CheckpointError)


def test_pickles_of_other_programs_are_refused_as_before(directory):
    path = directory / "pytorch_model.bin"
    path.write_bytes(pickle.dumps({"w": [1, 2]}))
    with pytest.raises(CheckpointError, match="nothing of it was run"):
        read(path)


def test_open_files_are_closed_with_the_stack(directory):
    path = directory / "model.safetensors"
    write_safetensors(path, ARRAYS)
    with ExitStack() as stack:
        tensors = safetensors_file.open_safetensors(path, stack)
    assert tensors["a.weight"].file.closed
