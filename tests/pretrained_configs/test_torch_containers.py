"""PyTorch's files are read as torch.load reads them, or refused as it refuses them."""

from __future__ import annotations

import os
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from preprocess.base.errors import CheckpointError
from pretrained_configs.formats import torch_file
from tests.support.containers import ARRAYS, agree, read

# --- PyTorch ------------------------------------------------------------------------------------------------------


def by_torch(path: Path) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in torch.load(path, weights_only=True, mmap=False).items()}


Edit = Callable[[str, bytes], bytes | None]


def _packed_again(path: Path, compression: int, edit: Edit = lambda _, content: content) -> None:
    """Write the records into a new zip file, as changed by `edit`; those of None are left out."""
    with zipfile.ZipFile(path) as old:
        records = [(name, edit(name.partition("/")[2], old.read(name))) for name in old.namelist()]
    with zipfile.ZipFile(path, "w", compression) as new:
        for name, content in records:
            if content is not None:
                new.writestr(name, content)


def _with(record: str, change: Callable[[bytes], bytes | None]) -> Edit:
    return lambda name, content: change(content) if name == record else content


#: What was done to the file -> how it is packed again, and whether torch reads it.
PACKED: dict[str, tuple[int, Edit, bool]] = {
    "packed again as it was": (zipfile.ZIP_STORED, lambda _, content: content, True),
    "deflated": (zipfile.ZIP_DEFLATED, lambda _, content: content, True),
    "packed with bzip2": (zipfile.ZIP_BZIP2, lambda _, content: content, False),
    "a record too short": (zipfile.ZIP_STORED, _with("data/0", lambda content: content[:-4]), False),
    "a record too long": (zipfile.ZIP_STORED, _with("data/0", lambda content: content + b"1234"), False),
    "a record too short, deflated": (zipfile.ZIP_DEFLATED, _with("data/0", lambda content: content[:100]), False),
    "an empty record": (zipfile.ZIP_STORED, _with("data/1", lambda _: b""), False),
    "a record missing": (zipfile.ZIP_STORED, _with("data/1", lambda _: None), False),
    "of a big-endian machine": (zipfile.ZIP_STORED, _with("byteorder", lambda _: b"big"), True),
    "of a big-endian machine, deflated": (zipfile.ZIP_DEFLATED, _with("byteorder", lambda _: b"big"), True),
    "of an unknown byte order": (zipfile.ZIP_STORED, _with("byteorder", lambda _: b"middle"), False),
    "of no stated byte order": (zipfile.ZIP_STORED, _with("byteorder", lambda _: None), True),
    "without a version": (zipfile.ZIP_STORED, _with("version", lambda _: None), False),
    "a pickle cut off": (zipfile.ZIP_STORED, _with("data.pkl", lambda content: content[:-20]), False),
}


@pytest.mark.parametrize("what", PACKED)
def test_zip_of_pytorch_that_was_packed_again(directory, what):
    compression, edit, readable = PACKED[what]
    path = directory / "pytorch_model.bin"
    torch.save({name: torch.from_numpy(array) for name, array in ARRAYS.items()}, path)
    _packed_again(path, compression, edit)
    assert agree(path, by_torch) is readable


def test_zip_of_pytorch_that_the_zip_program_packed_again(directory):
    """As people do: unzip, look, `zip -r`, which deflates and begins with an entry for the directory."""
    if shutil.which("zip") is None:
        pytest.skip("no zip program here")
    path = directory / "pytorch_model.bin"
    torch.save({name: torch.from_numpy(array) for name, array in ARRAYS.items()}, path)
    with zipfile.ZipFile(path) as archive:
        archive.extractall(directory / "unpacked")
    path.unlink()
    subprocess.run(["zip", "-qr", path, "."], cwd=directory / "unpacked", check=True)
    assert agree(path, by_torch)


def test_only_what_torch_wrote_is_mapped(directory, monkeypatch):
    """Mapping reads a tensor when it is needed; it must stay the way for ordinary files."""
    mapped, load = [], torch.load
    monkeypatch.setattr(
        torch, "load", lambda *args, **options: mapped.append(options["mmap"]) or load(*args, **options)
    )
    path = directory / "pytorch_model.bin"
    torch.save({name: torch.from_numpy(array) for name, array in ARRAYS.items()}, path)
    read(path)
    _packed_again(path, zipfile.ZIP_DEFLATED)
    read(path)
    torch.save({"w": torch.ones(3)}, path, _use_new_zipfile_serialization=False)
    read(path)
    assert mapped == [True, False, False]


def test_shared_and_half_precision_records_are_measured_rightly(directory):
    base = torch.arange(20.0)
    state = {
        "whole": base,
        "part": base[5:9],
        "half": torch.ones(5, dtype=torch.float16),
        "brain": torch.ones(5, dtype=torch.bfloat16),
        "parameter": torch.nn.Parameter(torch.ones(2, 2).T),
        "none": torch.zeros(0, 3),
    }
    path = directory / "pytorch_model.bin"
    torch.save(state, path)
    assert torch_file._can_be_mapped(path)
    found = read(path)
    assert all(np.array_equal(found[name], tensor.detach().float().numpy()) for name, tensor in state.items())


@pytest.mark.parametrize("cut", [1, 8, 100, 3999])
def test_legacy_pytorch_file_that_is_cut(directory, cut):
    path = directory / "pytorch_model.bin"
    state = {name: torch.from_numpy(array) for name, array in ARRAYS.items()}
    torch.save(state, path, _use_new_zipfile_serialization=False)
    assert agree(path, by_torch)
    path.write_bytes(path.read_bytes()[:-cut])
    assert not agree(path, by_torch)


def test_legacy_pytorch_file_with_a_zips_end_mark_among_its_values(directory):
    """The mark is 22 bytes that may stand anywhere: the file is still no zip."""
    path = directory / "pytorch_model.bin"
    with zipfile.ZipFile(path, "w"):
        pass
    end = np.frombuffer(path.read_bytes() + b"\0\0", np.uint8).copy()
    torch.save({"w": torch.from_numpy(end)}, path, _use_new_zipfile_serialization=False)
    assert zipfile.is_zipfile(path)
    assert agree(path, by_torch)


def test_model_of_the_meta_device_has_no_values(directory):
    path = directory / "pytorch_model.bin"
    torch.save({"a.weight": torch.empty(3, device="meta")}, path)
    with pytest.raises(CheckpointError, match=r"a\.weight has a shape and no values: the model was saved"):
        read(path)


@pytest.mark.parametrize("depth", [("state_dict",), ("model", "state_dict"), ("module", "model_state_dict", "net")])
def test_state_dict_within_what_a_program_saves(directory, depth):
    content: dict = {name: torch.from_numpy(array) for name, array in ARRAYS.items()}
    for key in reversed(depth):
        content = {"epoch": 3, key: content}
    path = directory / "last.ckpt"
    torch.save(content, path)
    assert all(np.array_equal(array, ARRAYS[name]) for name, array in read(directory).items())


def test_what_a_pickle_names_is_not_imported_to_measure_it(directory):
    class Opened:
        def __reduce__(self):
            return os.mkdir, (str(directory / "canary"),)

    path = directory / "pytorch_model.bin"
    torch.save({"w": torch.ones(3), "x": Opened()}, path)
    torch_file._can_be_mapped(path)
    assert not (directory / "canary").exists()
    torch.load(path, weights_only=False)
    assert (directory / "canary").exists()  # so it would have
