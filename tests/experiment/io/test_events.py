"""TensorBoard's files as TensorFlow reads them, checksums and all."""

from __future__ import annotations

import ast
import math
import sys
from pathlib import Path

import pytest

import experiment.io.events
from experiment.io.events import EventFile
from experiment.training.runlog import Events


def _read(directory):
    """Read all events of a directory; TensorFlow refuses a record with a wrong checksum."""
    import tensorflow as tf
    from tensorflow.core.util.event_pb2 import Event

    for path in sorted(directory.iterdir()):
        for record in tf.data.TFRecordDataset(str(path)):
            yield Event.FromString(record.numpy())


def test_tensorflow_reads_what_was_written(tmp_path):
    file = EventFile(tmp_path / "events", first_step=1)
    file.add({"train/loss": 0.5, "dev/对": -1e-7}, step=3)
    file.add({"train/loss": math.nan, "big": 1e300, "small": -1e300}, step=2**40)
    file.close()
    version, restart, *events = _read(tmp_path / "events")
    assert version.file_version == "brain.Event:2"
    assert (restart.step, restart.session_log.status) == (1, 1)
    found = [(event.step, event.summary.value[0].tag, event.summary.value[0].simple_value) for event in events]
    assert found[:2] == [(3, "train/loss", 0.5), (3, "dev/对", pytest.approx(-1e-7))]
    assert found[2][:2] == (2**40, "train/loss") and math.isnan(found[2][2])
    assert found[3:] == [(2**40, "big", math.inf), (2**40, "small", -math.inf)]
    assert all(event.wall_time > 1e9 for event in (version, restart, *events))


def test_two_files_of_the_same_second_leave_each_other_alone(tmp_path):
    for step in (1, 2):
        file = EventFile(tmp_path, first_step=step)
        file.add({"loss": 1.0}, step)
        file.close()
    assert [event.step for event in _read(tmp_path) if event.summary.value] == [1, 2]


def test_a_disk_without_room_ends_the_events_and_is_said_once(tmp_path, monkeypatch):
    said = []
    events = Events(tmp_path, 1, said.append)
    events.add("train", {"loss": 1.0}, 1)
    with Path("/dev/full").open("ab", buffering=0) as full:
        monkeypatch.setattr(events._file, "_file", full)
        for step in (2, 3):
            events.add("train", {"loss": 1.0}, step)
    events.close()
    (line,) = said
    assert line.startswith("no more events for TensorBoard from step 2 on ([Errno 28]")
    assert [event.step for event in _read(tmp_path) if event.summary.value] == [1]


def test_a_directory_that_cannot_be_made_is_no_end_of_the_training(tmp_path):
    (tmp_path / "file").write_text("")
    said = []
    events = Events(tmp_path / "file" / "events", 1, said.append)
    events.add("train", {"loss": 1.0}, 1)
    events.close()
    assert len(said) == 1


def test_events_need_no_library():
    """One that writes them loads PyTorch where it finds it, also in a run of TensorFlow."""
    tree = ast.parse(Path(str(experiment.io.events.__file__)).read_text(encoding="utf-8"))
    imports = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imports |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in imports} <= sys.stdlib_module_names
