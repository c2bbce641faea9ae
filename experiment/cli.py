"""The command line: one options class and one function per subcommand, both imported only when needed."""

from __future__ import annotations

import dataclasses
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from experiment.config import (
    EvaluateOptions,
    InspectOptions,
    LeaderboardOptions,
    PredictOptions,
    StatsOptions,
    TrainOptions,
    UsageError,
    check_ranges,
)

#: subcommand -> (its options, "module:function" that carries it out)
COMMANDS: dict[str, tuple[type, str]] = {
    "train": (TrainOptions, "experiment.seeds:train"),
    "evaluate": (EvaluateOptions, "experiment.predict:evaluate"),
    "predict": (PredictOptions, "experiment.predict:predict"),
    "stats": (StatsOptions, "experiment.stats:stats"),
    "leaderboard": (LeaderboardOptions, "experiment.table:print_leaderboard"),
    "inspect": (InspectOptions, "experiment.inspection:inspect"),
}
PROGRAM = "run_mrc.py"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand.

    Returns:
        the exit status: 0, 2 for a user's mistake (one line on stderr), 130 for Ctrl-C.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_overview())
        return 0 if arguments else 2
    try:
        command, options = _parse(arguments)
        module, function = COMMANDS[command][1].split(":")
        signal.signal(signal.SIGTERM, _interrupt)
        getattr(import_module(module), function)(options)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on with the seeds that are not finished", file=sys.stderr)
        return 130
    except Exception as error:
        if not _is_users(error):
            raise
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _parse(arguments: list[str]) -> tuple[str, Any]:
    import tyro

    command, rest = arguments[0], arguments[1:]
    if command not in COMMANDS:
        raise UsageError(f"unknown command {command!r}{_did_you_mean(command, list(COMMANDS))}; see --help")
    options = COMMANDS[command][0]
    flags = _with_config_file(rest, options)
    parsed: Any = tyro.cli(options, args=flags, prog=f"{PROGRAM} {command}", use_underscores=True)
    check_ranges(parsed)
    return command, parsed


def _with_config_file(arguments: list[str], options: type) -> list[str]:
    """Replace `--config file.yaml` by the flags in the file; flags on the command line come later and win."""
    if "--config" not in arguments:
        return arguments
    at = arguments.index("--config")
    if at + 1 == len(arguments):
        raise UsageError("--config needs a YAML file")
    return _flags_of(Path(arguments[at + 1]), options) + arguments[:at] + arguments[at + 2 :]


def _flags_of(path: Path, options: type) -> list[str]:
    import yaml

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"--config {path}: no such file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"--config {path}: no YAML ({' '.join(str(error).split())})") from None
    if not isinstance(values, dict):
        raise UsageError(f"--config {path}: a mapping of options was expected, found a {type(values).__name__}")
    # A switch (--bf16 / --no_bf16) has a default of True or False; other truth values are spelled out.
    switches = {field.name for field in dataclasses.fields(options) if isinstance(field.default, bool)}
    flags: list[str] = []
    for name, value in values.items():
        if isinstance(value, bool) and name in switches:
            flags.append(f"--{name}" if value else f"--no_{name}")
        elif value is not None:
            flags += [f"--{name}", *(str(item) for item in (value if isinstance(value, list) else [value]))]
    return flags


def _is_users(error: Exception) -> bool:
    """Whether the error is a user's mistake or the machine's (a full disk), not ours: one line says it all."""
    if isinstance(error, UsageError | OSError):
        return True
    from experiment.run import TrainingError
    from preprocess.types import DataError
    from pretrained_configs.config import CheckpointError

    return isinstance(error, DataError | CheckpointError | TrainingError)


def _interrupt(_signal: int, _frame: Any) -> None:
    raise KeyboardInterrupt


def _did_you_mean(name: str, known: list[str]) -> str:
    import difflib

    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _overview() -> str:
    lines = [f"usage: {PROGRAM} COMMAND [OPTIONS]", "", "commands:"]
    lines += [f"  {name:<13}{(options.__doc__ or '').splitlines()[0]}" for name, (options, _) in COMMANDS.items()]
    lines += ["", f"{PROGRAM} COMMAND --help explains the options; --config FILE.yaml reads them from a file."]
    return "\n".join(lines)
