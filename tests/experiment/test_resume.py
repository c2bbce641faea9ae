"""A seed goes on from its training checkpoints after any death, and ends as if nothing had happened."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import signal
import struct
import time
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import yaml

from benchmarks.kill import digest
from experiment.cli import main
from experiment.options.flags import TrainOptions
from experiment.options.recipe import resolve_recipe
from experiment.training.checkpoints import Checkpoints
from experiment.training.interrupts import held_back
from experiment.training.steps import Steps
from preprocess.types import FeatureSet
from tasks.core.discovery import get_task
from tests.experiment import faults
from tests.experiment.conftest import write_corpus

#: Imported once, by the process that all that shall die are forked from: torch._dynamo, too, which optimizers load.
IMPORTED = (
    "pytorch_modeling", "torch._dynamo", "tf_modeling", "experiment.training.protocol", "tests.experiment.faults",
    "tasks.cmrc2018", "nltk", "experiment.io.events",
)  # fmt: skip
KILLED = -signal.SIGKILL


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A directory with one corpus for all tests: what an undisturbed run leaves has to be found once only."""
    directory = tmp_path_factory.mktemp("resume")
    return directory, write_corpus(directory)


@pytest.fixture
def die(place, flags, tmp_path):
    """Train in another process, which dies; `die("module:function", 2)` at its second call."""

    def run(*arguments, options=(), output=tmp_path / "run", after=None):
        command = flags(place[1], output, *OPTIONS, *options)
        process = faults.server(*IMPORTED).Process(target=faults.program, args=(command, *arguments))
        process.start()
        if after is not None:
            time.sleep(after)
            process.kill()
        process.join(240)
        assert process.exitcode is not None, "the process hangs"
        return process.exitcode

    return run


@pytest.fixture
def undisturbed(place, die):
    """Return the digest of a run that nothing disturbs."""

    def found(*options):
        output = place[0] / ("undisturbed" + "".join(options))
        if not output.exists():
            assert die(options=options, output=output) == 0
        return digest(output)

    return found


#: A checkpoint after every step, and lines of the log (whose losses are then pending) at other steps.
OPTIONS = ("--num_train_epochs", "4", "--save_steps", "1", "--logging_steps", "5")
#: Where a seed dies, one death after another: (function, call, fault).
EARLY = [
    ("Trainer.step", 1, "kill"),  # nothing saved
    ("experiment.training.checkpoints:write_json", 1, "kill"),  # saved and without checksums
    ("Trainer.step", 3, "kill"),
    ("experiment.training.checkpoints:write_safetensors", 1, "tear"),
]
LATE = [
    ("experiment.training.evaluation:logits_of", 1, "kill"),  # in an evaluation
    ("experiment.training.evaluation:logits_of", 1, "terminate"),
    ("experiment.training.seed:write_settings", 1, "kill"),  # in the middle of the best checkpoint
    ("preprocess.base.files:os.rename", 2, "kill"),  # between two renames, or after the rename of a checkpoint
    ("experiment.training.checkpoints:shutil.rmtree", 2, "kill"),  # deleting an old one
    ("experiment.training.seed:predict_split", 1, "kill"),
    ("experiment.training.evaluation:write_score", 1, "kill"),
    ("experiment.training.checkpoints:Checkpoints.remove", 1, "kill"),  # finished, and its checkpoints still there
    ("Trainer.step", 4, "terminate"),  # of the second seed
    ("experiment.training.protocol:leaderboard", 1, "kill"),
]
FRAMEWORKS = {"pytorch": "pytorch_modeling", "tensorflow": "tf_modeling"}


@pytest.mark.parametrize(
    ("framework", "options", "deaths"),
    [
        ("pytorch", (), [*EARLY, *LATE]),
        ("pytorch", ("--bf16", "--optim", "bert_adam", "--seeds", "1"), EARLY[2:3]),
        ("tensorflow", ("--seeds", "1"), [EARLY[2], LATE[1]]),
        ("tensorflow", ("--bf16", "--optim", "bert_adam", "--seeds", "1"), EARLY[2:3]),
    ],
    ids=["pytorch", "pytorch-bf16", "tensorflow", "tensorflow-bf16"],
)
def test_killed_run_ends_as_the_undisturbed_one(die, undisturbed, tmp_path, framework, options, deaths):
    options = ("--framework", framework, *options)
    for where, call, fault in deaths:
        status = die(where.replace("Trainer", f"{FRAMEWORKS[framework]}:Trainer"), call, fault, options=options)
        assert status == (130 if fault == "terminate" else KILLED), (where, call, fault)
    assert die(options=options) == 0
    assert digest(tmp_path / "run") == undisturbed(*options)
    assert "goes on after step" in (tmp_path / "run" / "run.log").read_text()
    assert not list(tmp_path.glob("run/seed_*/**/.*"))
    for record in tmp_path.glob("run/seed_*/record.json"):
        steps = [evaluation["step"] for evaluation in json.loads(record.read_text())["evaluations"]]
        assert steps == [2, 3, 4, 6, 8, 9, 10, 12]


def _shown_in_tensorboard(directory):
    """Read (tag, step) of all events; a restart takes away those of its step and later, as TensorBoard does."""
    from tensorflow.core.util.event_pb2 import Event, SessionLog

    shown = []
    for path in sorted(directory.iterdir(), key=lambda path: path.stat().st_mtime_ns):
        content = path.read_bytes()
        while content:  # length, its checksum, event, its checksum
            (length,) = struct.unpack("<Q", content[:8])
            event = Event.FromString(content[12 : 12 + length])
            content = content[16 + length :]
            if event.session_log.status == SessionLog.START:
                shown = [each for each in shown if each[1] < event.step]
            shown += [(value.tag, event.step) for value in event.summary.value]
    return shown


def test_tensorboard_shows_every_step_once(die, tmp_path):
    options = ("--seeds", "1", "--save_steps", "4", "--logging_steps", "1")
    assert die("pytorch_modeling:Trainer.step", 8, "kill", options=options) == KILLED
    time.sleep(1)  # files of events are named by the second
    assert die(options=options) == 0
    losses = [step for tag, step in _shown_in_tensorboard(tmp_path / "run/seed_1/tensorboard") if tag == "train/loss"]
    assert losses == list(range(1, 13))
    assert (tmp_path / "run" / "run.log").read_text().count("seed 1 step 6/12") == 2


def test_run_killed_at_random_moments_ends_as_the_undisturbed_one(die, undisturbed, tmp_path):
    undisturbed("--framework", "pytorch")
    started = time.perf_counter()
    assert die(output=tmp_path / "timed") == 0
    duration = time.perf_counter() - started
    moments = random.Random(0)
    for _ in range(3):
        die(after=moments.uniform(0, duration), options=("--framework", "pytorch"))
    die(options=("--framework", "pytorch"))  # refused where it was finished before the last of the moments
    assert digest(tmp_path / "run") == undisturbed("--framework", "pytorch")


def test_interrupted_seed_goes_on_after_the_very_step(die, tmp_path):
    assert die("pytorch_modeling:Trainer.step", 5, "terminate", options=("--save_steps", "0")) == 130
    assert die(options=("--save_steps", "0", "--seeds", "1")) == 0
    assert "seed 1: goes on after step 5/12" in (tmp_path / "run" / "run.log").read_text()


def test_seed_interrupted_in_its_last_predictions_is_not_trained_again(die, undisturbed, tmp_path):
    options = ("--save_steps", "0", "--seeds", "1")
    assert die("experiment.training.seed:predict_split", 1, "terminate", options=options) == 130
    assert die(options=options) == 0
    assert "seed 1: goes on after step 12/12" in (tmp_path / "run" / "run.log").read_text()
    assert digest(tmp_path / "run") == undisturbed(*options)


def test_checkpoint_is_put_off_while_the_one_before_is_being_written(corpus, flags, tmp_path, monkeypatch):
    saved = []
    # Asked after every step while one is due: 1 (written), 2 and 3 (put off), 4 and so on.
    busy = Mock(side_effect=[False, True, True, *[False] * 3])
    monkeypatch.setattr(Checkpoints, "busy", property(lambda _: busy()))
    monkeypatch.setattr(Checkpoints, "save", lambda _, step, state: saved.append((step, state["counted"]["step"])))
    assert main(flags(corpus, tmp_path / "run", "--seeds", "1", "--save_steps", "1")) == 0
    assert saved == [(step, step) for step in (1, 4, 5, 6)] and busy.call_count == 6


def test_full_disk_costs_a_checkpoint_and_not_the_run(die, undisturbed, tmp_path):
    options = ("--framework", "pytorch")
    assert die("experiment.training.checkpoints:write_safetensors", 1, "fill_disk", options=options) == 0
    assert "no checkpoint of step 1 to resume from" in (tmp_path / "run" / "run.log").read_text()
    assert digest(tmp_path / "run") == undisturbed(*options)


def test_unfinished_seed_does_not_go_on_with_other_data(die, tmp_path, corpus, flags, capsys):
    assert die("pytorch_modeling:Trainer.step", 3, "terminate") == 130
    config = tmp_path / "run" / "config.yaml"
    config.write_text(config.read_text().replace(yaml.safe_load(config.read_text())["train_file"], str(corpus.data)))
    corpus.data.write_text(corpus.data.read_text().replace("小狗", "小羊"))
    status = main(["train", "--config", str(config)])
    assert status == 2
    assert "seed 1 was trained on another dev_file, train_file" in capsys.readouterr().err


# --- the checkpoints themselves ---


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


def _save(checkpoints, tmp_path, *steps):
    for step in steps:
        (tmp_path / "best").mkdir(exist_ok=True)
        weights = tmp_path / "best" / "weights"
        weights.unlink(missing_ok=True)
        weights.write_text(f"of step {step}")
        checkpoints.save(step, _state(step))
        checkpoints.wait()


def _assert_is(found, step):
    expected = _state(step)
    assert found["step"] == step and found["record"] == expected["record"]
    assert found["trainer"].keys() == expected["trainer"].keys() and found["trainer"]["scaler"] == {}
    for name in ("step", "rng", "losses"):
        assert found["trainer"][name].dtype == expected["trainer"][name].dtype
        assert np.array_equal(found["trainer"][name], expected["trainer"][name])
    assert np.array_equal(found["trainer"]["model"]["a.weight"], expected["trainer"]["model"]["a.weight"])


def test_last_checkpoint_comes_back_as_it_was_with_the_best_one_of_its_time(checkpoints, tmp_path):
    _save(checkpoints, tmp_path, 9, 10)
    (tmp_path / "best" / "weights").unlink()
    (tmp_path / "best" / "weights").write_text("of a later step")
    _assert_is(checkpoints.load(), 10)
    assert (tmp_path / "best" / "weights").read_text() == "of step 10"
    assert checkpoints.lines == []


def test_no_more_than_the_limit_are_kept(checkpoints, tmp_path):
    _save(checkpoints, tmp_path, 8, 9, 10, 11)
    assert [path.name for path in sorted((tmp_path / "resume").iterdir())] == ["000003-step-10", "000004-step-11"]
    checkpoints.remove()
    assert not (tmp_path / "resume").exists()


def _flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.unlink()
    path.write_bytes(content)


DAMAGES = {
    "flipped bit": lambda d: _flip(d / "state.safetensors"),
    "flipped bit of the best": lambda d: _flip(d / "best" / "weights"),
    "truncated": lambda d: os.truncate(d / "state.safetensors", 100),
    "empty": lambda d: os.truncate(d / "state.safetensors", 0),
    "no state": lambda d: (d / "state.safetensors").unlink(),
    "no checksums": lambda d: (d / "checksums.json").unlink(),
    "half of the checksums": lambda d: os.truncate(d / "checksums.json", 20),
    "other checksums": lambda d: (d / "checksums.json").write_text("{}"),
    "no checksums in it": lambda d: (d / "checksums.json").write_text("[]"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_checkpoint_is_passed_over_for_the_one_before(checkpoints, tmp_path, damage):
    _save(checkpoints, tmp_path, 1, 2)
    last = tmp_path / "resume" / "000002-step-2"
    DAMAGES[damage](last)
    _assert_is(checkpoints.load(), 1)
    assert (tmp_path / "best" / "weights").read_text() == "of step 1"
    assert len(checkpoints.lines) == 1 and checkpoints.lines[0].startswith(f"{last}: damaged")
    _save(checkpoints, tmp_path, 2)
    _assert_is(checkpoints.load(), 2)


def test_nothing_sound_is_nothing(checkpoints, tmp_path):
    assert checkpoints.load() is None
    _save(checkpoints, tmp_path, 1)
    DAMAGES["truncated"](tmp_path / "resume" / "000001-step-1")
    assert checkpoints.load() is None


@pytest.mark.parametrize("place", ["write_safetensors", "write_json", "_link", "os.rename"])
def test_full_disk_leaves_the_last_checkpoint_and_no_remains(checkpoints, tmp_path, monkeypatch, place):
    _save(checkpoints, tmp_path, 1)
    with monkeypatch.context() as patch:
        patch.setattr(f"experiment.training.checkpoints.{place}", faults.fill_disk)
        _save(checkpoints, tmp_path, 2)
    assert [path.name for path in (tmp_path / "resume").iterdir()] == ["000001-step-1"]
    expected = "no checkpoint of step 2 to resume from ([Errno 28] No space left on device); training goes on"
    assert checkpoints.lines == [expected]
    _assert_is(checkpoints.load(), 1)
    _save(checkpoints, tmp_path, 3)
    _assert_is(checkpoints.load(), 3)


def test_file_system_without_links_gets_copies(checkpoints, tmp_path, monkeypatch):
    monkeypatch.setattr("os.link", faults.fill_disk)
    _save(checkpoints, tmp_path, 1)
    (tmp_path / "best" / "weights").write_text("changed")
    checkpoints.load()
    assert (tmp_path / "best" / "weights").read_text() == "of step 1"


# --- the order of steps, and signals ---


def _features(n):
    lengths = np.random.RandomState(0).randint(5, 30, n)
    splits = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    rest = {name: np.zeros(0, np.int32) for name in FeatureSet.__dataclass_fields__ if name not in ("meta",)}
    rest |= {"row_splits": splits, "example_index": np.arange(n, dtype=np.int32)}
    return FeatureSet(**rest, meta={})


@pytest.mark.parametrize(("n", "epochs", "accumulation"), [(10, 2.0, 1), (11, 2.4, 1), (11, 0.4, 1), (23, 1.5, 3)])
def test_order_can_be_entered_at_any_step(n, epochs, accumulation):
    options = TrainOptions(
        task="cmrc2018",
        output_dir=Path(),
        num_train_epochs=epochs,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=accumulation,
    )
    steps = Steps(_features(n), resolve_recipe(options, get_task("cmrc2018"), None), seed=3)
    whole = [windows.tolist() for windows in steps.windows(0)]
    assert len(whole) == steps.n
    ungrouped = Steps(steps.features, dataclasses.replace(options, group_by_length=False), seed=3)
    assert [windows.tolist() for windows in ungrouped.windows(0)] != whole
    if epochs >= 1:
        assert sorted(sum(whole[: steps.per_epoch], [])) == list(range(n))
    for n_done in range(steps.n + 1):
        assert [windows.tolist() for windows in steps.windows(n_done)] == whole[n_done:]


def test_first_signal_is_noted_and_the_second_interrupts():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), held_back() as interrupted:
        assert not interrupted()
        os.kill(os.getpid(), signal.SIGTERM)
        assert interrupted()
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("the second signal must interrupt")
    assert signal.getsignal(signal.SIGTERM) is before


def test_signal_that_nobody_asks_for_interrupts_at_the_end():
    reached = False
    with pytest.raises(KeyboardInterrupt), held_back():
        os.kill(os.getpid(), signal.SIGTERM)
        reached = True
    assert reached
