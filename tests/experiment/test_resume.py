"""A seed goes on from its training checkpoints after any death, and ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import random
import signal
import struct
import time
from unittest.mock import Mock

import pytest
import yaml

from benchmarks.kill import digest
from experiment.cli import main
from experiment.training.checkpoints import Checkpoints
from experiment.training.interrupts import held_back
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
    ("experiment.training.evaluation:outputs_of", 1, "kill"),  # in an evaluation
    ("experiment.training.evaluation:outputs_of", 1, "terminate"),
    ("experiment.training.selection:write_settings", 1, "kill"),  # in the middle of the best checkpoint
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
    monkeypatch.setattr(Checkpoints, "save", lambda _, step, state: saved.append((step, state["progress"]["step"])))
    assert main(flags(corpus, tmp_path / "run", "--seeds", "1", "--save_steps", "1")) == 0
    assert saved == [(step, step) for step in (1, 4, 5, 6)] and busy.call_count == 6


#: Called once per training checkpoint, when the one before is written.
WRITTEN = ("experiment.training.checkpoints:ThreadPoolExecutor",)


def _edit(path):
    """Change a byte in place, as an editor or a bad block does."""
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_END)
        file.write(bytes([byte ^ 1]))


def test_edited_best_checkpoint_costs_nothing(die, undisturbed, tmp_path):
    options = ("--framework", "pytorch", "--seeds", "1")
    assert die(*WRITTEN, 8, "kill", options=options) == KILLED
    _edit(tmp_path / "run/seed_1/checkpoint-best/model.safetensors")
    assert die(options=options) == 0
    log = (tmp_path / "run" / "run.log").read_text()
    assert "goes on after step 7/12" in log and "damaged" not in log
    assert digest(tmp_path / "run") == undisturbed(*options)


def test_seed_whose_best_checkpoint_is_lost_goes_on_from_its_state(die, tmp_path):
    # Killed where step 8 is evaluated and saved: its evaluation is done again.
    assert die(*WRITTEN, 9, "kill", options=("--seeds", "1")) == KILLED
    seed = tmp_path / "run" / "seed_1"
    before = json.loads((seed / "record.json").read_text())
    paths = [*seed.glob("resume/*/best/model.safetensors"), seed / "checkpoint-best/model.safetensors"]
    for path in {path.stat().st_ino: path for path in paths}.values():  # an edit of one link is of all
        _edit(path)
    assert die(options=("--seeds", "1")) == 0
    record = json.loads((seed / "record.json").read_text())
    assert "seed 1: goes on after step 8/12" in (tmp_path / "run" / "run.log").read_text()
    assert record["status"] == "finished" and record["step"] >= 8
    _, warning = record["warnings"]
    assert warning.startswith(f"checkpoint-best of step {before['step']} was damaged; the best checkpoint is chosen")
    assert record["evaluations"][:5] == before["evaluations"][:5]
    assert [evaluation["step"] for evaluation in record["evaluations"]] == [2, 3, 4, 6, 8, 9, 10, 12]
    chosen = max(record["evaluations"][4:], key=lambda e: e["dev"]["f1"] + e["dev"]["em"])
    assert record["step"] == chosen["step"] and record["scores"]["dev"] == chosen["dev"]
    assert [path.name for path in (seed / "resume-damaged").iterdir()] == ["checkpoint-best"]


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


# --- signals ---


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
