"""Where a run's numbers come from: the command that makes them again, versions, inputs, device and time."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import MISSING
from pathlib import Path
from typing import Any

from experiment.options.fields import Option, options_of
from experiment.options.flags import TrainOptions
from experiment.training.record import Record


def command_of(config: Mapping[str, Any], program: str = "chinese-mrc") -> str:
    """Return the command that trains with these options; only what it would not take by itself is said.

    Args:
        config: options as resolved, as the Record and `config.yaml` hold them.
        program: how it is called.
    """
    words = [program, "train"]
    for option in options_of(TrainOptions):
        if option.field in config and (option.default is MISSING or _differs(config[option.field], option.default)):
            words += _words(option, config[option.field])
    return shlex.join(words)


def _differs(value: Any, default: Any) -> bool:
    if isinstance(default, Path):
        # As resolved, "~" is somebody's home directory.
        return value is None or Path(value) != default.expanduser()
    return bool(value != (list(default) if isinstance(default, tuple) else default))


def _words(option: Option, value: Any) -> list[str]:
    if option.is_switch and value is not None:
        return [f"--{option.name}" if value else f"--no_{option.name}"]
    if isinstance(value, Mapping):
        return [f"--{option.name}", *(f"{task}={item}" for task, own in value.items() for item in _items(own))]
    texts = [str(item) for item in _items(value)]
    if len(texts) == 1 and texts[0].startswith("--"):
        return [f"--{option.name}={texts[0]}"]
    return [f"--{option.name}", *texts]


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def facts_of(records: Sequence[Record]) -> list[tuple[str, str]]:
    """Return what else there is to know of a run: name and text, what all seeds share first.

    Args:
        records: of one run, at least one.
    """
    first = records[0]
    facts = [
        ("task", f"{first.task}, version {first.task_version}"),
        *([("learned together", ", ".join(first.joint))] if first.joint else []),
        ("versions", ", ".join(f"{name} {version}" for name, version in first.versions.items())),
        *((_hash_of(name), value) for name, value in first.hashes.items() if value),
    ]
    for record in records:
        facts.append((f"seed {record.seed}", "; ".join(_of_seed(record))))
    facts += [("warning", text) for text in dict.fromkeys(text for record in records for text in record.warnings)]
    return facts


def _hash_of(name: str) -> str:
    return f"{'fingerprint' if name == 'tokenizer' else 'SHA-256'} of {name.replace('_', ' ')}"


def _of_seed(record: Record) -> list[str]:
    said = [record.status, f"step {record.step} of {record.n_steps}"]
    if record.device:
        said.append(record.device + (f" × {record.n_devices}" if record.n_devices > 1 else ""))
    said.append(duration(record.wall_s))
    if record.peak_bytes:
        said.append(f"{record.peak_bytes / 2**30:.1f} GiB")
    if "samples_per_s" in record.speed:
        said.append(f"{record.speed['samples_per_s']:.1f} windows/s")
    if record.error:
        said.append(record.error)
    return said


def duration(seconds: float) -> str:
    """Return a time such as `1 h 02 min` or `63.9 s`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
