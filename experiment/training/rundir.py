"""The run directory: when it may be used, taken up again or cleared."""

from __future__ import annotations

import contextlib
import math
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from experiment.launch import launched
from experiment.options.recipe import TrainRecipe
from experiment.training.checkpoints import DIRECTORY as CHECKPOINTS
from experiment.training.guards import NONFINITE_FILE
from experiment.training.record import FILE_NAME, read_record
from experiment.training.steps import windows_per_step
from preprocess.base.errors import UsageError
from preprocess.base.files import locked, write_text

CONFIG_FILE = "config.yaml"
#: Options that may differ when a run is taken up again: they change no number.
_FREE = {"seeds", "overwrite_output_dir", "feature_cache_dir", "data_dir", "logging_steps", "output_dir"}
_FREE |= {
    "save_steps",
    "save_total_limit",
    "max_nonfinite_steps",
    "gradient_checkpointing",
    "auto_find_batch_size",
    "fsdp",
    "profile",
}
#: Options whose product with the number of devices must stay.
_BATCH = {"per_device_train_batch_size", "gradient_accumulation_steps"}
#: What a run writes beside its seed_* directories, and in them; nothing else is ever deleted.
_TABLE = "leaderboard.md"
_FILES = (CONFIG_FILE, "data_report.json", "run.log", _TABLE)
BEST = "checkpoint-best"
_OF_SPLITS = ("predictions", "predictions_official", "nbest_predictions", "null_odds", "scores", "report")
_OF_SEEDS = {FILE_NAME, NONFINITE_FILE, BEST, CHECKPOINTS, "tensorboard", "profile"}
_OF_SEEDS |= {f"{name}_{split}.json" for name in _OF_SPLITS for split in ("dev", "test")}
_INPUTS = ("model_name_or_path", "config_name", "tokenizer_name", "train_file", "validation_file", "test_file")


def check(options: TrainRecipe, hashes: Mapping[str, str], n_devices: int) -> None:
    """Refuse a directory that holds something else, a finished run, or seeds that can't be averaged with new ones.

    Args:
        options: the recipe.
        hashes: of the data, tokenizer and model of this run.
        n_devices: how many share each batch.

    Raises:
        UsageError: saying what stands there and what to do.
    """
    directory = options.output_dir
    where = f"--output_dir {directory}"
    if not directory.exists():
        return
    if not directory.is_dir():
        raise UsageError(f"{where}: a file stands there; give another directory")
    old = _options_of(directory)
    if old is None:
        if any(not path.name.startswith(f".{CONFIG_FILE}.") for path in directory.iterdir()):
            raise UsageError(f"{where}: holds files that are no run; give an empty or new directory")
        return
    if _overwrites(options):
        _check_inputs_outside(options)
        return
    if all(status(directory, seed) == "finished" for seed in options.seeds) and _tabulated(directory):
        raise UsageError(f"{where}: holds a finished run; use --overwrite_output_dir or another directory")
    new = options.config
    different = sorted(name for name in new if name not in _FREE | _BATCH and old.get(name) != new[name])
    if different:
        found = ", ".join(f"{name} {old.get(name)!r} there, {new[name]!r} here" for name in different)
        raise UsageError(f"{where}: holds an unfinished run with other options ({found})")
    _check_batch(options, n_devices)
    for seed in options.seeds:
        state = status(directory, seed)
        if state == "finished" or (state != "not started" and (directory / f"seed_{seed}" / CHECKPOINTS).is_dir()):
            kept = read_record(directory / f"seed_{seed}" / FILE_NAME).hashes
            changed = sorted(name for name in {*kept, *hashes} if kept.get(name) != hashes.get(name))
            if changed:
                raise UsageError(
                    f"{where}: seed {seed} was trained on another {', '.join(changed)}; use another directory"
                )


def _overwrites(options: TrainRecipe) -> bool:
    """Whether an older run is to be deleted; it is this one where torchrun starts it once more (--max_restarts)."""
    return options.overwrite_output_dir and launched().restart_count == 0


def _options_of(directory: Path) -> dict[str, Any] | None:
    """Return the options of the run in a directory, or None if it holds none of ours."""
    try:
        values = yaml.safe_load((directory / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return None
    ours = isinstance(values, dict) and {"task", "output_dir", "seeds"} <= values.keys()
    return values if ours else None


def _check_batch(options: TrainRecipe, n_devices: int) -> None:
    """Refuse steps of another size; how one is divided among devices and forward passes does not matter."""
    size = windows_per_step(options, n_devices)
    for path in options.output_dir.glob(f"seed_*/{FILE_NAME}"):
        record = read_record(path)
        then = math.prod([*(record.config[name] for name in _BATCH), record.n_devices])
        if then != size:
            raise UsageError(
                f"--output_dir {options.output_dir}: holds an unfinished run with other options (steps of {then} "
                f"windows there, {size} here: --per_device_train_batch_size × --gradient_accumulation_steps × number "
                "of devices)"
            )


def _check_inputs_outside(options: TrainRecipe) -> None:
    """Refuse to delete what the run starts from, by whatever path or link it is reached."""
    for name in _INPUTS:
        value = options.config[name]
        if value is not None and any(_is_inside(path, options.output_dir) for path in _files_of(Path(value))):
            raise UsageError(f"--{name} {value} lies in --output_dir, which --overwrite_output_dir would delete")


def _files_of(path: Path) -> Iterator[Path]:
    """Yield a path and what it stands for: a directory's files, and those of a TensorFlow prefix."""
    if path.exists():
        yield path
    if path.is_dir():
        yield from path.iterdir()
    elif path.parent.is_dir():
        yield from (other for other in path.parent.iterdir() if other.name.startswith(f"{path.name}."))


def _is_inside(path: Path, directory: Path) -> bool:
    # Not by comparing names: file systems may ignore case, and one directory may have several paths.
    resolved = path.resolve()
    return any(parent.exists() and parent.samefile(directory) for parent in (resolved, *resolved.parents))


def status(directory: Path, seed: int) -> str:
    """Return the status of a seed's Record, or "not started"."""
    path = directory / f"seed_{seed}" / FILE_NAME
    return read_record(path).status if path.is_file() else "not started"


def _tabulated(directory: Path) -> bool:
    """Whether the table is not older than any Record: whoever finished the last seed was not killed before it."""
    table = directory / _TABLE
    newest = max(path.stat().st_mtime_ns for path in directory.glob(f"seed_*/{FILE_NAME}"))
    return table.is_file() and table.stat().st_mtime_ns >= newest


def prepare(options: TrainRecipe) -> None:
    """Make the directory, without an older run if it is to be overwritten, and write the options into it.

    Raises:
        UsageError: if another process trains in it what is to be overwritten.
    """
    directory = options.output_dir
    directory.mkdir(parents=True, exist_ok=True)
    seeds = list(options.seeds)
    if _overwrites(options):
        _delete_run(directory)
    else:
        # Those of other commands, too: the written options repeat the whole run.
        seeds = list(dict.fromkeys([*(_options_of(directory) or {"seeds": []})["seeds"], *seeds]))
    # Whoever trains again with the written options must not delete the run by that.
    plain = {**options.config, "overwrite_output_dir": False, "seeds": seeds}
    write_text(directory / CONFIG_FILE, yaml.safe_dump(plain, sort_keys=False, allow_unicode=True))


def _delete_run(directory: Path) -> None:
    with contextlib.ExitStack() as held:
        seeds = [record.parent for record in directory.glob(f"seed_*/{FILE_NAME}")]
        for seed in seeds:
            held.enter_context(lock(seed, "wait for it, or give another --output_dir"))
        for seed in seeds:
            clear(seed)
            if not any(seed.iterdir()):
                seed.rmdir()
    # The file of options makes it a run's directory: it will be replaced, and is never missing.
    for name in set(_FILES) - {CONFIG_FILE}:
        (directory / name).unlink(missing_ok=True)


@contextlib.contextmanager
def lock(seed_directory: Path, remedy: str) -> Iterator[None]:
    """Hold the directory of a seed for this process.

    Raises:
        UsageError: with the remedy, if another process holds it.
    """
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(locked(seed_directory))
        except BlockingIOError:
            raise UsageError(f"{seed_directory}: another process is training this seed; {remedy}") from None
        yield


def clear(seed_directory: Path) -> None:
    """Delete what an unfinished seed left, its Record last, but not the directory, which is locked."""
    tidy(seed_directory)
    ours = (path for path in seed_directory.iterdir() if path.name in _OF_SEEDS)
    for path in sorted(ours, key=lambda path: path.name == FILE_NAME):
        _delete(path)


def tidy(seed_directory: Path) -> None:
    """Delete the half-written files of a process that was killed."""
    for name in _OF_SEEDS:
        for path in seed_directory.glob(f".{name}.*"):
            _delete(path)


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
