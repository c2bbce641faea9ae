"""The command line: what was typed is understood, carried out, and ends with one line and an exit status."""

from __future__ import annotations

import errno
import io
import signal
import sys
import time
from collections.abc import Sequence
from typing import Any

from experiment.commands import COMMANDS
from experiment.io.streams import OutputError, hold_descriptors, say, settle, standard_streams
from experiment.launch import launched, program
from experiment.options import arguments as command_line
from experiment.options.help import Default, help_text, overview
from experiment.options.running import GOES_ON
from preprocess.base.errors import CheckpointError, DataError, LostPeerError, TrainingError, UsageError
from preprocess.base.names import did_you_mean

#: For so long another process than the first waits, with what it has to say, for the first one to say it.
_PATIENCE_S = 5.0
#: Commands that train, and go on where they were interrupted.
_TRAINING = {"train", "pretrain", "grid", "search", "ablate"}
#: Of these, those that train a single run: they work under torchrun, and take --overwrite_output_dir.
_DISTRIBUTED = {"train", "pretrain"}
#: Options with which commands that train only tell something.
_LOOKS = {"-h", "--help", "--dry_run", "--status", "--watch"}
#: Exit status of a program whose reader has gone, as a shell sees one that SIGPIPE has ended.
_NOBODY_READS = 128 + signal.SIGPIPE


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand.

    Returns:
        the exit status: 0, 1 for findings of `validate` and `parity` and failures of `grid`, `ablate` and
        `search`, 2 for a user's mistake (one line on stderr), 130 for Ctrl-C, 141 where nobody reads what is printed.
        Of the processes of torchrun, which ends all when one has failed, the first one speaks.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    # What a training says is never worth the run.
    trains = bool(_TRAINING & set(arguments[:1])) and not _LOOKS & set(arguments)
    hold_descriptors()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a GBK terminal can't show every character
    try:
        with standard_streams(unfailing=trains):
            status = _carry_out(arguments)
    except KeyboardInterrupt:
        again = GOES_ON if _DISTRIBUTED & set(arguments[:1]) else "the same command goes on"
        what = "trials" if arguments[:1] == ["search"] else "seeds"
        hint = f"; {again} with the {what} that are not finished" if trains else ""
        if launched().rank == 0:
            say(f"interrupted{hint}")
        status = 130
    except OutputError as error:
        settle()
        return _unread(error)
    except Exception as error:
        message = _users_mistake(error)
        if message is None:
            raise
        _complain(message)
        status = 2
    unread = settle()
    return status if unread is None or trains else _unread(unread)


def _carry_out(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(overview(program(), {name: known.options for name, known in COMMANDS.items()}))
        return 0 if arguments else 2
    command, *rest = arguments
    if command not in COMMANDS:
        raise UsageError(f"unknown command {command!r}{did_you_mean(command, list(COMMANDS))}; see --help")
    options_class = COMMANDS[command].options
    line = command_line.split(rest, options_class)
    if line.asks_help:
        print(help_text(program(), command, options_class, _defaults(line)))
        return 0
    if command not in _DISTRIBUTED and launched().size > 1:
        raise UsageError(f"torchrun is for train and pretrain; start {command} without it")
    options = command_line.understand(line, options_class)
    signal.signal(signal.SIGTERM, _interrupt)
    result = COMMANDS[command].run(options)
    return result if isinstance(result, int) else 0


def _defaults(line: command_line.CommandLine) -> dict[str, Default]:
    """Return the defaults of the task that stands beside --help; what finds them takes a moment to import."""
    task = line.text_of("task")
    if task is None:
        return {}
    from experiment.options.recipe import recipe_defaults

    return recipe_defaults(task, line.text_of("model_name_or_path"))


def _complain(message: str) -> None:
    """Print a user's mistake once, although every process makes it."""
    if rank := launched().rank:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        time.sleep(_PATIENCE_S)
        message = f"process {rank}: {message}"
    say(f"error: {message}")


def _unread(error: OSError) -> int:
    """Return the status of a command whose output could not be written, and say so where somebody may read it."""
    if error.errno == errno.EPIPE:
        return _NOBODY_READS
    say(f"error: standard output: {error.strerror}")
    return 2


def _users_mistake(error: Exception) -> str | None:
    """Return the line for a user's mistake or a limit of the machine (a full disk); None for a fault of ours."""
    if isinstance(error, UsageError | OSError | DataError | CheckpointError | TrainingError):
        return str(error)
    if isinstance(error, UnicodeEncodeError):
        around = error.object[max(0, error.start - 60) : error.end + 60]
        return command_line.not_utf8(around)
    from experiment.backend import translated

    error = translated(error)
    if isinstance(error, MemoryError):
        return (
            "out of memory; in training give --auto_find_batch_size, or halve --per_device_train_batch_size and "
            "double --gradient_accumulation_steps (the steps stay the same); else lower --per_device_eval_batch_size"
        )
    if isinstance(error, LostPeerError):
        return f"another process of this run has ended; torchrun says which; {GOES_ON}"
    return None


def _interrupt(_signal: int, _frame: Any) -> None:
    raise KeyboardInterrupt
