"""The command line: one options class and one function per subcommand, both imported only when needed."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import re
import signal
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from experiment.options.flags import (
    CacheOptions,
    ConvertOptions,
    DownloadOptions,
    EvaluateOptions,
    ExportOptions,
    InspectOptions,
    LeaderboardOptions,
    ModelsOptions,
    ParityOptions,
    PlanOptions,
    PredictOptions,
    SplitOptions,
    StatsOptions,
    TasksOptions,
    TrainOptions,
    ValidateOptions,
    check_ranges,
)
from preprocess.base.errors import CheckpointError, UsageError
from preprocess.base.names import did_you_mean

#: subcommand -> (its options, "module:function" that carries it out)
COMMANDS: dict[str, tuple[type, str]] = {
    "train": (TrainOptions, "experiment.training.protocol:train"),
    "plan": (PlanOptions, "experiment.commands.plan:plan"),
    "evaluate": (EvaluateOptions, "experiment.commands.evaluate:evaluate"),
    "predict": (PredictOptions, "experiment.commands.predict:predict"),
    "stats": (StatsOptions, "experiment.commands.stats:stats"),
    "leaderboard": (LeaderboardOptions, "experiment.commands.leaderboard:leaderboard"),
    "inspect": (InspectOptions, "experiment.commands.inspect:inspect"),
    "convert": (ConvertOptions, "experiment.commands.convert:convert"),
    "parity": (ParityOptions, "experiment.commands.parity:parity"),
    "export": (ExportOptions, "experiment.commands.export:export"),
    "tasks": (TasksOptions, "experiment.commands.tasks:list_tasks"),
    "models": (ModelsOptions, "experiment.commands.models:list_models"),
    "download": (DownloadOptions, "experiment.commands.download:download"),
    "validate": (ValidateOptions, "experiment.commands.validate:validate"),
    "split": (SplitOptions, "experiment.commands.split:split"),
    "cache": (CacheOptions, "experiment.commands.cache:cache"),
}
PROGRAM = "run_mrc.py"
#: For so long another process than the first waits, with what it has to say, for the first one to say it.
_PATIENCE_S = 5.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand.

    Returns:
        the exit status: 0, 1 for findings of `validate` and `parity`, 2 for a user's mistake (one line on stderr),
        130 for Ctrl-C. Of the processes of torchrun, which ends all when one has failed, the first one speaks.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_overview())
        return 0 if arguments else 2
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a GBK terminal can't show every character
    try:
        command, options = _parse(arguments)
        module, function = COMMANDS[command][1].split(":")
        signal.signal(signal.SIGTERM, _interrupt)
        result = getattr(import_module(module), function)(options)
    except KeyboardInterrupt:
        hint = "; the same command goes on with the seeds that are not finished" if arguments[0] == "train" else ""
        if _rank() == 0:
            print(f"interrupted{hint}", file=sys.stderr)
        return 130
    except Exception as error:
        message = _users_mistake(error)
        if message is None:
            raise
        _complain(message)
        return 2
    return result if isinstance(result, int) else 0


def _rank() -> int:
    """Return the number of this process among those of torchrun."""
    return int(os.environ["RANK"]) if "TORCHELASTIC_RUN_ID" in os.environ else 0


def _complain(message: str) -> None:
    """Print a user's mistake once, although every process makes it."""
    if rank := _rank():
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        time.sleep(_PATIENCE_S)
        message = f"process {rank}: {message}"
    print(f"error: {message}", file=sys.stderr, flush=True)


def _parse(arguments: list[str]) -> tuple[str, Any]:
    command, rest = arguments[0], arguments[1:]
    if command not in COMMANDS:
        raise UsageError(f"unknown command {command!r}{did_you_mean(command, list(COMMANDS))}; see --help")
    if command != "train" and "TORCHELASTIC_RUN_ID" in os.environ and os.environ["WORLD_SIZE"] != "1":
        raise UsageError(f"torchrun is for train; start {command} without it")
    options = COMMANDS[command][0]
    parsed = _parse_flags(options, _with_config_file(rest, options), f"{PROGRAM} {command}")
    check_ranges(parsed)
    return command, _with_home(parsed)


def _parse_flags(options: type, flags: list[str], program: str) -> Any:
    """Parse the flags of one subcommand; what the parser has against them becomes one line."""
    import tyro

    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(options, args=flags, prog=program, use_underscores=True)
    except SystemExit as stop:
        if not stop.code:  # --help
            raise
        text = re.split("For full helptext|Argument helptext", re.sub("[\u2500-\u257f]+", " ", complaint.getvalue()))[
            0
        ]
        said = re.sub(r"^(Unrecognized options) \1", r"\1", " ".join(text.split()))  # a title and a sentence
        raise UsageError(f"{said} (see {program} --help)") from None


def _with_home(options: Any) -> Any:
    """Expand "~" in every path, also where the shell did not."""
    try:
        paths = {f.name: _expanded(getattr(options, f.name)) for f in dataclasses.fields(options)}
    except RuntimeError as error:
        raise UsageError(f"{error}: set HOME, or give absolute paths") from None
    return dataclasses.replace(options, **paths)


def _expanded(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_expanded(item) for item in value)
    return value.expanduser() if isinstance(value, Path) else value


def _with_config_file(arguments: list[str], options: type) -> list[str]:
    """Replace `--config file.yaml` by the flags in the file; flags on the command line come later and win."""
    split = [part for argument in arguments for part in _split_config(argument)]
    if "--config" not in split:
        return split
    at = split.index("--config")
    if at + 1 == len(split) or "--config" in split[at + 1 :]:
        raise UsageError("--config needs one YAML file")
    return _flags_of(Path(split[at + 1]), options) + split[:at] + split[at + 2 :]


def _split_config(argument: str) -> list[str]:
    return ["--config", argument.removeprefix("--config=")] if argument.startswith("--config=") else [argument]


def _flags_of(path: Path, options: type) -> list[str]:
    import yaml

    try:
        values = yaml.safe_load(path.expanduser().read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"--config {path}: no such file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"--config {path}: no YAML ({' '.join(str(error).split())})") from None
    if not isinstance(values, dict):
        raise UsageError(f"--config {path}: a mapping of options was expected, found a {type(values).__name__}")
    defaults = {field.name: field.default for field in dataclasses.fields(options)}
    return [flag for name, value in values.items() for flag in _flag(str(name), value, defaults.get(str(name)))]


def _flag(name: str, value: Any, default: Any) -> list[str]:
    if value is None:
        return [] if default is None else [f"--{name}", "None"]
    # A switch (--bf16 / --no_bf16) has a default of True or False; other truth values are spelled out.
    if isinstance(value, bool) and isinstance(default, bool):
        return [f"--{name}" if value else f"--no_{name}"]
    return [f"--{name}", *(str(item) for item in (value if isinstance(value, list) else [value]))]


def _users_mistake(error: Exception) -> str | None:
    """Return the line for a user's mistake or a limit of the machine (a full disk); None for a fault of ours."""
    if isinstance(error, UsageError | OSError):
        return str(error)
    if _out_of_memory(error):
        return (
            "out of memory; in training give --auto_find_batch_size, or halve --per_device_train_batch_size and "
            "double --gradient_accumulation_steps (the steps stay the same); else lower --per_device_eval_batch_size"
        )
    # gloo's connections break at once; NCCL's errors have a class.
    if type(error).__name__ == "DistBackendError" or (isinstance(error, RuntimeError) and "gloo" in str(error)):
        return "another process of this run has ended; torchrun says which; the same command goes on"
    from experiment.training.guards import TrainingError
    from preprocess.base.errors import DataError

    return str(error) if isinstance(error, DataError | CheckpointError | TrainingError) else None


def _out_of_memory(error: Exception) -> bool:
    # Of PyTorch and TensorFlow on a GPU, of Python and numpy, and of PyTorch on a CPU, which has no class of its own.
    of_a_framework = type(error).__name__ in ("OutOfMemoryError", "ResourceExhaustedError")
    return of_a_framework or isinstance(error, MemoryError) or "can't allocate memory" in str(error)


def _interrupt(_signal: int, _frame: Any) -> None:
    raise KeyboardInterrupt


def _overview() -> str:
    lines = [f"usage: {PROGRAM} COMMAND [OPTIONS]", "", "commands:"]
    lines += [f"  {name:<13}{(options.__doc__ or '').splitlines()[0]}" for name, (options, _) in COMMANDS.items()]
    lines += ["", f"{PROGRAM} COMMAND --help explains the options; --config FILE.yaml reads them from a file."]
    return "\n".join(lines)
