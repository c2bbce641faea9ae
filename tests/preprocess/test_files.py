"""The one writer: whole files or none, links followed, pipes and devices written to, and no permissions lost."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from preprocess.base import files
from preprocess.base.files import new_directory, replacing, write_json, write_text
from preprocess.base.hashing import sha256


def read_in_background(path: Path) -> tuple[threading.Thread, list[bytes]]:
    """Read a FIFO to its end, as a command at the other side does."""
    read: list[bytes] = []
    thread = threading.Thread(target=lambda: read.append(path.read_bytes()), daemon=True)
    thread.start()
    return thread, read


def test_a_file_is_replaced_whole_and_nothing_else_is_left(tmp_path: Path) -> None:
    write_text(tmp_path / "new" / "a.json", "旧")
    write_text(tmp_path / "new" / "a.json", "新")
    assert (tmp_path / "new" / "a.json").read_text("utf-8") == "新"
    assert os.listdir(tmp_path / "new") == ["a.json"]


def test_a_block_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "old")
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "a") as file:
        file.write(b"half of the ne")
        file.write(b"w" * (1 // 0))
    assert (tmp_path / "a").read_text() == "old" and os.listdir(tmp_path) == ["a"]


def test_a_full_disk_names_the_file_and_not_the_temporary_one(tmp_path: Path, monkeypatch: Any) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*/a\.json'"):
        write_json(tmp_path / "a.json", {})
    assert os.listdir(tmp_path) == []


def test_a_place_where_no_file_can_be_made_names_the_file(tmp_path: Path, monkeypatch: Any) -> None:
    def refuse(path: Path, mode: str) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(files, "open", refuse, raising=False)
    with pytest.raises(PermissionError) as caught:
        write_text(tmp_path / "a", "x")
    assert str(caught.value) == f"[Errno 13] Permission denied: '{tmp_path}/a'"
    monkeypatch.undo()
    with pytest.raises(IsADirectoryError, match=f"'{tmp_path}'"):
        write_text(tmp_path, "x")


def test_the_file_that_a_link_leads_to_is_replaced_and_the_link_stays(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "target").write_text("old")
    for name, leads_to in (("link", "far/target"), ("link to the link", "link"), ("dangling", "far/new")):
        (tmp_path / name).symlink_to(leads_to)
        write_text(tmp_path / name, name)
        assert (tmp_path / name).is_symlink() and (tmp_path / leads_to).read_text() == name
    assert sorted(os.listdir(tmp_path / "far")) == ["new", "target"]


def test_a_pipe_is_written_to_and_stays_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("fifo")
    for name in ("fifo", "link"):
        thread, read = read_in_background(tmp_path / "fifo")
        with replacing(tmp_path / name) as file:
            file.write(b"abc")
            file.seek(1)  # as a zip file's writer does
            file.write(b"X")
        thread.join(10)
        assert read == [b"aXc"] and stat.S_ISFIFO((tmp_path / "fifo").stat().st_mode)


def test_a_pipe_gets_nothing_of_a_block_that_fails(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    thread, read = read_in_background(tmp_path / "fifo")
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "fifo") as file:
        file.write(b"half" * (1 // 0))
    thread.join(10)
    assert read == [b""]


def test_a_device_is_written_to_and_stays_a_device(tmp_path: Path) -> None:
    device = tmp_path / "null"
    try:
        os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(1, 3))
        device.write_bytes(b"")
    except OSError:
        pytest.skip("making a device needs privileges")
    write_text(device, "x")
    assert stat.S_ISCHR(device.stat().st_mode) and device.read_bytes() == b""


@pytest.mark.parametrize("name", ["/dev/fd/{}", "/proc/self/fd/{}"])
def test_an_open_file_is_gone_on_with_where_it_stands(tmp_path: Path, name: str) -> None:
    if not Path(name.format("")).is_dir():
        pytest.skip("this system has no such directory")
    with (tmp_path / "log").open("w") as log:
        log.write("before\n")
        log.flush()
        write_text(Path(name.format(log.fileno())), "scores\n")
        log.write("after\n")
    assert (tmp_path / "log").read_text() == "before\nscores\nafter\n"
    assert os.listdir(tmp_path) == ["log"]


def test_an_open_file_that_nobody_reads_is_named(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        with pytest.raises(BrokenPipeError, match=f"'/dev/fd/{writing}'"):
            write_text(Path(f"/dev/fd/{writing}"), "x")
    finally:
        os.close(writing)


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o007])
def test_new_files_and_directories_get_the_permissions_of_any_new_file(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        write_text(tmp_path / "file", "x")
        with new_directory(tmp_path / "directory"):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o666 & ~mask
    assert stat.S_IMODE((tmp_path / "directory").stat().st_mode) == 0o777 & ~mask


def test_threads_that_write_at_once_never_touch_the_umask(tmp_path: Path, monkeypatch: Any) -> None:
    # Two that set it for a moment and set it back could leave it at 0: all later files open to everybody.
    before = os.umask(0o027)
    set_mask, calls = os.umask, []
    try:
        monkeypatch.setattr(os, "umask", lambda mask: calls.append(mask) or set_mask(mask))

        def work(number: int) -> None:
            write_json(tmp_path / f"{number}.json", number)
            with new_directory(tmp_path / f"d{number}") as directory:
                write_text(directory / "x", "x")

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(64)))
        made = [*tmp_path.glob("*.json"), *tmp_path.glob("d*/x")]
    finally:
        monkeypatch.undo()
        after = os.umask(before)
    assert (after, calls, len(made)) == (0o027, [], 128)
    assert {stat.S_IMODE(path.stat().st_mode) for path in made} == {0o640}


def test_a_directory_takes_the_place_of_the_old_one_or_leaves_it(tmp_path: Path) -> None:
    for content in ("old", "new"):
        with new_directory(tmp_path / "d") as directory:
            write_text(directory / content, content)
    assert os.listdir(tmp_path / "d") == ["new"]
    with pytest.raises(ZeroDivisionError), new_directory(tmp_path / "d") as directory:
        write_text(directory / "half", "x" * (1 // 0))
    assert os.listdir(tmp_path) == ["d"] and os.listdir(tmp_path / "d") == ["new"]


def test_a_directory_never_deletes_what_a_link_leads_to(tmp_path: Path) -> None:
    for name in ("empty", "precious"):
        (tmp_path / name).mkdir()
    (tmp_path / "precious" / "weights").write_text("x")
    for link, leads_to in (("a", "empty"), ("b", "missing"), ("c", "precious")):
        (tmp_path / link).symlink_to(leads_to)
        with new_directory(tmp_path / link) as directory:
            write_text(directory / "new", link)
    assert (tmp_path / "a").is_symlink() and (tmp_path / "empty" / "new").read_text() == "a"
    assert (tmp_path / "b").is_symlink() and (tmp_path / "missing" / "new").read_text() == "b"
    assert not (tmp_path / "c").is_symlink() and os.listdir(tmp_path / "c") == ["new"]
    assert os.listdir(tmp_path / "precious") == ["weights"]
    assert sorted(os.listdir(tmp_path)) == ["a", "b", "c", "empty", "missing", "precious"]


def test_standard_output_in_a_file_keeps_what_was_printed(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from preprocess.base.files import write_text\n"
        "print('before', flush=True); write_text(Path('/dev/stdout'), 'scores\\n'); print('after')"
    )
    with (tmp_path / "log").open("w") as log:
        subprocess.run([sys.executable, "-c", code], stdout=log, check=True, cwd=Path(__file__).parents[2])
    assert (tmp_path / "log").read_text() == "before\nscores\nafter\n"


def test_the_hash_of_several_files_is_that_of_all_one_after_the_other(tmp_path: Path) -> None:
    for name, content in (("a", b"x" * (1 << 20)), ("b", b"abc"), ("both", b"x" * (1 << 20) + b"abc")):
        (tmp_path / name).write_bytes(content)
    assert sha256(tmp_path / "a", tmp_path / "b") == sha256(tmp_path / "both")
    assert sha256(tmp_path / "b") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_failed_directory_keeps_the_old_one(tmp_path):
    with new_directory(tmp_path / "best") as directory:
        (directory / "weights").write_text("old")
    with pytest.raises(ValueError), new_directory(tmp_path / "best") as directory:  # noqa: PT012
        (directory / "weights").write_text("half")
        raise ValueError
    assert (tmp_path / "best" / "weights").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["best"]


def test_directory_interrupted_between_its_renames_comes_back(tmp_path, monkeypatch):
    with new_directory(tmp_path / "best") as directory:
        (directory / "weights").write_text("old")
    rename = os.rename

    def interrupted(source, target):
        if Path(target) == tmp_path / "best" and not str(source).endswith(".old"):
            raise KeyboardInterrupt
        rename(source, target)

    monkeypatch.setattr(os, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt), new_directory(tmp_path / "best") as directory:
        (directory / "weights").write_text("new")
    assert (tmp_path / "best" / "weights").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["best"]
