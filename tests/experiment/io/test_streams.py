"""Output that ends: a training goes on without a word, every other command ends quietly and says so by its status."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from experiment.cli import main
from experiment.io.streams import OutputError, settle, standard_streams
from experiment.io.terminal import Bars, terminal

ROOT = Path(__file__).resolve().parents[3]
FULL = Path("/dev/full")


def _pipe_without_reader():
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def _closed_terminal():
    screen, line = pty.openpty()
    os.close(screen)
    return line


ENDS = {"pipe": _pipe_without_reader, "full disk": lambda: os.open(FULL, os.O_WRONLY), "terminal": _closed_terminal}


@pytest.fixture(params=ENDS)
def ended(request):
    """A descriptor that takes nothing."""
    if request.param == "full disk" and not FULL.exists():
        pytest.skip("there is no /dev/full")
    descriptor = ENDS[request.param]()
    yield descriptor
    os.close(descriptor)


@contextlib.contextmanager
def _standard_streams(monkeypatch, descriptor):
    """Let sys.stdout and sys.stderr write to a descriptor, as the interpreter would have opened them."""
    for name in ("stdout", "stderr"):
        stream = io.TextIOWrapper(io.BufferedWriter(io.FileIO(os.dup(descriptor), "w")), encoding="utf-8")
        monkeypatch.setattr(sys, name, stream)
    yield
    for name in ("stdout", "stderr"):
        getattr(sys, name).close()  # raises where something is left that can't be written
    monkeypatch.undo()


@pytest.fixture(params=["", "1"], ids=["buffered", "unbuffered"])
def run(request):
    """Run a command in a process of its own, with a stream for its output."""

    def call(*arguments, stdout):
        command = [sys.executable, "run_mrc.py", *arguments]
        environment = {**os.environ, "PYTHONUNBUFFERED": request.param}
        return subprocess.run(
            command, cwd=ROOT, env=environment, stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=600
        )

    return call


def test_training_goes_on_when_nobody_can_read_it(ended, corpus, flags, tmp_path, monkeypatch):
    with _standard_streams(monkeypatch, ended):
        status = main(flags(corpus, tmp_path / "run", "--seeds", "1", "--logging_steps", "1"))
    assert status == 0
    record = json.loads((tmp_path / "run/seed_1/record.json").read_text())
    assert record["status"] == "finished" and record["scores"]["dev"]
    assert "seed 1 step 6/6" in (tmp_path / "run/run.log").read_text()
    assert (tmp_path / "run/leaderboard.md").exists()


def test_a_mistake_has_its_status_although_nobody_can_read_it(ended, monkeypatch):
    with _standard_streams(monkeypatch, ended):
        assert main(["train", "--nonsense"]) == 2
        assert main(["models", "--nonsense"]) == 2


@pytest.mark.parametrize("arguments", [["models"], ["train", "--help"], ["--help"]])
def test_a_command_whose_reader_has_gone_ends_as_sigpipe_would_end_it(arguments, run):
    writer = _pipe_without_reader()
    done = run(*arguments, stdout=writer)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("arguments", [["models"], ["tasks"]])  # by print, and by rich
def test_a_command_says_that_its_output_finds_no_room(arguments, run):
    with FULL.open("w") as file:
        done = run(*arguments, stdout=file)
    assert (done.returncode, done.stderr) == (2, "error: standard output: No space left on device\n")


def test_a_program_without_streams_gives_no_file_their_numbers(tmp_path):
    """The next file that is opened would else be standard output, and take what libraries print."""
    program = (
        "import os, sys\nos.close(1)\nos.close(2)\nsys.stdout = sys.stderr = None\n"
        "from experiment.cli import main\nstatus = main(['models'])\nassert main(['nonsense']) == 2\n"
        "assert os.get_inheritable(1) and os.get_inheritable(2)\n"
        f"file = open({str(tmp_path / 'file')!r}, 'w')\nfile.write(f'{{file.fileno()}} {{status}}')\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=60, check=True)
    number, status = map(int, (tmp_path / "file").read_text().split())
    assert number > 2 and status == 0


def test_what_is_held_back_is_written_or_thrown_away_once(ended, monkeypatch):
    with _standard_streams(monkeypatch, ended):
        print("a line")
        error = settle()
        assert isinstance(error, OSError)
        assert settle() is None


def test_unfailing_streams_lose_what_cannot_be_written_and_others_name_themselves(ended, monkeypatch):
    with _standard_streams(monkeypatch, ended):
        with standard_streams(unfailing=True):
            print("a line", flush=True)
            print("a line", file=sys.stderr, flush=True)
            terminal().print("a line")
        with standard_streams(unfailing=False), pytest.raises(OutputError):
            terminal().print("a line")
        settle()


def test_bars_end_nothing_where_the_terminal_has_been_closed(ended, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # it is no terminal any more
    with _standard_streams(monkeypatch, ended):
        with standard_streams(unfailing=True):
            console = terminal()
            assert console.is_terminal
            with Bars(console) as bars, bars.counting("seed 1", 2) as advance:
                advance()
                console.print("a line above")
        settle()


def test_streams_are_as_they_were_afterwards_and_like_them_meanwhile(capsys):
    before = sys.stdout, sys.stderr
    with standard_streams(unfailing=True):
        print("a line")
        print("another", file=sys.stderr)
        assert sys.stdout.isatty() is False and sys.stdout.encoding == before[0].encoding
    assert (sys.stdout, sys.stderr) == before
    assert capsys.readouterr() == ("a line\n", "another\n")
