"""Training checkpoints: what comes back, what is damaged, and what a disk that fails does to them."""

from __future__ import annotations

import builtins
import errno
import json
import os

import numpy as np
import pytest

from experiment.training import checkpoints as module
from experiment.training.checkpoints import Checkpoints
from tests.experiment import faults


def _state(step):
    return {
        "step": step,
        "trainer": {
            "model": {"a.weight": np.full((2, 3), step, np.float32)},
            "scaler": {},
            "step": np.array(step, np.float32),
            "rng": np.arange(5, dtype=np.uint8),
            "losses": np.zeros(0, np.float32),
        },
        "record": {"evaluations": [{"loss": 0.1 + 0.2}], "infinite": [1, None]},
    }


@pytest.fixture
def checkpoints(tmp_path):
    lines: list[str] = []
    kept = Checkpoints(tmp_path, "best", 2, lines.append)
    kept.lines = lines
    return kept


def _write_best(tmp_path, step):
    (tmp_path / "best").mkdir(exist_ok=True)
    for name in ("weights", "config"):
        path = tmp_path / "best" / name
        path.unlink(missing_ok=True)
        path.write_text(f"{name} of step {step}")


def _save(checkpoints, tmp_path, *steps, new_best=True):
    for step in steps:
        if new_best:
            _write_best(tmp_path, step)
        checkpoints.save(step, _state(step))
        checkpoints.wait()


def _assert_is(saved, step):
    assert not saved.best_is_lost
    state, expected = saved.state, _state(step)
    assert state["step"] == step and state["record"] == expected["record"]
    assert state["trainer"].keys() == expected["trainer"].keys() and state["trainer"]["scaler"] == {}
    for name in ("step", "rng", "losses"):
        assert state["trainer"][name].dtype == expected["trainer"][name].dtype
        assert np.array_equal(state["trainer"][name], expected["trainer"][name])
    assert np.array_equal(state["trainer"]["model"]["a.weight"], expected["trainer"]["model"]["a.weight"])


def _best(tmp_path):
    return (tmp_path / "best" / "weights").read_text()


def _names(directory):
    return sorted(path.name for path in directory.iterdir())


def _edit(path):
    """Change a byte in place, as an editor or a bad block does: all links of the file change."""
    with path.open("r+b") as file:
        file.seek(3)
        file.write(b"\xff")


def test_last_checkpoint_comes_back_as_it_was_with_the_best_one_of_its_time(checkpoints, tmp_path):
    _save(checkpoints, tmp_path, 9, 10)
    _write_best(tmp_path, 11)
    _assert_is(checkpoints.load(), 10)
    assert _best(tmp_path) == "weights of step 10"
    assert checkpoints.lines == []


def test_no_more_than_the_limit_are_kept(checkpoints, tmp_path):
    _save(checkpoints, tmp_path, 8, 9, 10, 11)
    assert _names(tmp_path / "resume") == ["000003-step-10", "000004-step-11"]
    checkpoints.remove()
    assert not (tmp_path / "resume").exists()


DAMAGES = {
    "edited": lambda d: _edit(d / "state.safetensors"),
    "truncated": lambda d: os.truncate(d / "state.safetensors", 100),
    "empty": lambda d: os.truncate(d / "state.safetensors", 0),
    "no state": lambda d: (d / "state.safetensors").unlink(),
    "no checksums": lambda d: (d / "checksums.json").unlink(),
    "half of the checksums": lambda d: os.truncate(d / "checksums.json", 20),
    "checksums in another encoding": lambda d: (d / "checksums.json").write_bytes(b"\xff\xfe"),
    "other checksums": lambda d: (d / "checksums.json").write_text("{}"),
    "no checksums in it": lambda d: (d / "checksums.json").write_text("[]"),
    "numbers for checksums": lambda d: (d / "checksums.json").write_text('{"state.safetensors": 1}'),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_checkpoint_is_set_aside_for_the_one_before(checkpoints, tmp_path, damage):
    _save(checkpoints, tmp_path, 1, 2)
    last = tmp_path / "resume" / "000002-step-2"
    DAMAGES[damage](last)
    files = _names(last)
    _assert_is(checkpoints.load(), 1)
    assert _best(tmp_path) == "weights of step 1"
    (line,) = checkpoints.lines
    aside = tmp_path / "resume-damaged" / "000002-step-2"
    assert line.startswith(f"{last}: damaged") and line.endswith(f"kept as {aside}")
    assert not last.exists() and _names(aside) == files
    _save(checkpoints, tmp_path, 2)
    _assert_is(checkpoints.load(), 2)
    DAMAGES[damage](last)
    checkpoints.load()
    assert _names(tmp_path / "resume-damaged") == ["000002-step-2", "000002-step-2.1"]
    checkpoints.remove()
    assert len(_names(tmp_path / "resume-damaged")) == 2


def test_nothing_sound_is_nothing(checkpoints, tmp_path):
    assert checkpoints.load() is None
    _save(checkpoints, tmp_path, 1)
    DAMAGES["truncated"](tmp_path / "resume" / "000001-step-1")
    assert checkpoints.load() is None


@pytest.mark.parametrize("file", ["state.safetensors", "checksums.json"])
def test_disk_that_can_not_be_read_ends_with_its_name_and_loses_nothing(checkpoints, tmp_path, monkeypatch, file):
    _save(checkpoints, tmp_path, 1, 2)
    path = tmp_path / "resume" / "000002-step-2" / file
    before = {path: path.stat().st_ino for path in tmp_path.rglob("*")}
    with monkeypatch.context() as patch:
        _unreadable(patch, path)
        with pytest.raises(OSError, match="Input/output error") as caught:
            checkpoints.load()
    assert str(path) in str(caught.value) and "nothing is deleted" in str(caught.value)
    assert {path: path.stat().st_ino for path in tmp_path.rglob("*")} == before
    _assert_is(checkpoints.load(), 2)


def _unreadable(patch, *paths):
    """Let every read of these files fail, without saying which file it was, as the system does."""
    opened = module.Path.open

    class File:
        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def read(self, *_):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        readinto = read
        readable = lambda self: True  # noqa: E731

    def failing(path, *arguments, **named):
        file = opened(path, *arguments, **named)
        return File(file) if path in paths else file

    patch.setattr(module.Path, "open", failing)
    patch.setattr(builtins, "open", lambda path, *a, **n: failing(module.Path(path), *a, **n))


# --- the best checkpoint in them ---


def test_a_byte_edited_in_the_best_checkpoint_damages_no_training_checkpoint(checkpoints, tmp_path):
    _save(checkpoints, tmp_path, 1, 2)
    _save(checkpoints, tmp_path, 3, 4, new_best=False)
    _edit(tmp_path / "best" / "weights")
    _assert_is(checkpoints.load(), 4)
    assert _best(tmp_path) == "weights of step 2" and checkpoints.lines == []
    # Nor after it was put back: the same happens twice.
    _edit(tmp_path / "best" / "weights")
    _assert_is(checkpoints.load(), 4)
    assert _best(tmp_path) == "weights of step 2"


def test_training_checkpoints_share_the_copy_of_one_best_checkpoint(checkpoints, tmp_path):
    _save(checkpoints, tmp_path, 1)
    _save(checkpoints, tmp_path, 2, 3, 4, new_best=False)
    copies = {path.stat().st_ino for path in tmp_path.glob("resume/*/best/weights")}
    assert len(copies) == 1 and (tmp_path / "best" / "weights").stat().st_ino not in copies
    assert (tmp_path / "best" / "weights").stat().st_nlink == 1


def test_the_best_checkpoint_stands_in_for_a_damaged_copy_of_it(checkpoints, tmp_path):
    _save(checkpoints, tmp_path, 1)
    _save(checkpoints, tmp_path, 2, new_best=False)
    _edit(tmp_path / "resume" / "000002-step-2" / "best" / "weights")  # that of both
    _assert_is(checkpoints.load(), 2)
    assert _best(tmp_path) == "weights of step 1" and checkpoints.lines == []
    # The next one does not share the damaged copy.
    _save(checkpoints, tmp_path, 3, new_best=False)
    _edit(tmp_path / "best" / "weights")
    _assert_is(checkpoints.load(), 3)
    assert _best(tmp_path) == "weights of step 1"


def test_a_copy_that_can_not_be_read_is_taken_from_the_best_checkpoint(checkpoints, tmp_path, monkeypatch):
    _save(checkpoints, tmp_path, 1)
    _unreadable(monkeypatch, tmp_path / "resume" / "000001-step-1" / "best" / "weights")
    _assert_is(checkpoints.load(), 1)
    assert _best(tmp_path) == "weights of step 1"


def test_an_older_checkpoint_with_a_sound_best_one_goes_before_a_newer_one_without(checkpoints, tmp_path):
    _save(checkpoints, tmp_path, 1, 2)
    for path in ("resume/000002-step-2/best/weights", "best/weights"):
        _edit(tmp_path / path)
    _assert_is(checkpoints.load(), 1)
    assert _best(tmp_path) == "weights of step 1" and len(checkpoints.lines) == 1


def test_sound_state_without_any_sound_best_checkpoint_goes_on(checkpoints, tmp_path):
    _save(checkpoints, tmp_path, 1)
    _save(checkpoints, tmp_path, 2, new_best=False)
    for path in ("resume/000002-step-2/best/weights", "best/weights"):
        _edit(tmp_path / path)
    saved = checkpoints.load()
    assert saved.best_is_lost and saved.state["step"] == 2
    # What is damaged is not saved again as if it were the best one.
    assert not (tmp_path / "best").exists() and _names(tmp_path / "resume-damaged") == ["best"]
    _save(checkpoints, tmp_path, 3, new_best=False)
    sums = json.loads((tmp_path / "resume" / "000003-step-3" / "checksums.json").read_text())
    assert list(sums) == ["state.safetensors"]
    assert checkpoints.load().state["step"] == 3


# --- writing ---


@pytest.mark.parametrize("place", ["write_safetensors", "write_json", "_take", "shutil.copyfile", "os.rename"])
def test_full_disk_leaves_the_last_checkpoint_and_no_remains(checkpoints, tmp_path, monkeypatch, place):
    _save(checkpoints, tmp_path, 1)
    with monkeypatch.context() as patch:
        patch.setattr(f"experiment.training.checkpoints.{place}", faults.fill_disk)
        _save(checkpoints, tmp_path, 2)
    assert _names(tmp_path / "resume") == ["000001-step-1"]
    expected = "no checkpoint of step 2 to resume from ([Errno 28] No space left on device); the older ones stay"
    assert checkpoints.lines == [expected]
    _assert_is(checkpoints.load(), 1)
    _save(checkpoints, tmp_path, 3)
    _assert_is(checkpoints.load(), 3)


def test_copy_that_can_not_be_read_is_made_anew_for_the_next_checkpoint(checkpoints, tmp_path, monkeypatch):
    """Or one bad block would end all saving, for as long as the best checkpoint stays the same."""
    _save(checkpoints, tmp_path, 1)
    _unreadable(monkeypatch, tmp_path / "resume" / "000001-step-1" / "best" / "weights")
    _save(checkpoints, tmp_path, 2, 3, new_best=False)
    assert _names(tmp_path / "resume") == ["000002-step-2", "000003-step-3"] and checkpoints.lines == []
    assert len({path.stat().st_ino for path in tmp_path.glob("resume/*/best/weights")}) == 1
    _assert_is(checkpoints.load(), 3)


def test_file_system_without_links_gets_copies(checkpoints, tmp_path, monkeypatch):
    monkeypatch.setattr("os.link", faults.fill_disk)
    _save(checkpoints, tmp_path, 1, 2)
    _save(checkpoints, tmp_path, 3, new_best=False)
    (tmp_path / "best" / "weights").write_text("changed")
    _assert_is(checkpoints.load(), 3)
    assert _best(tmp_path) == "weights of step 2"


def test_links_are_not_followed_by_what_deletes(checkpoints, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "mine").write_text("mine")
    (tmp_path / "resume").symlink_to(elsewhere)
    checkpoints.remove()
    assert not (tmp_path / "resume").is_symlink() and (elsewhere / "mine").read_text() == "mine"
