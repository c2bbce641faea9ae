"""The run directory: when it may be used, taken up again or cleared."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from experiment.io.outputs import check_directory
from experiment.launch import launched
from experiment.options.flags import TrainOptions
from experiment.options.recipe import TrainRecipe, to_plain
from experiment.training.checkpoints import ASIDE
from experiment.training.checkpoints import DIRECTORY as CHECKPOINTS
from experiment.training.guards import NONFINITE_FILE
from experiment.training.record import FILE_NAME, Record, read_record, seed_directory, seed_records, task_directory
from experiment.training.steps import windows_per_step
from preprocess.base.errors import UsageError
from preprocess.base.files import delete, locked, write_text

CONFIG_FILE = "config.yaml"
#: Options that may differ when a run is taken up again: they change no number by more than devices round differently.
_FREE = {"seeds", "overwrite_output_dir", "feature_cache_dir", "data_dir", "logging_steps", "output_dir"}
_FREE |= {
    "save_steps",
    "save_total_limit",
    "max_nonfinite_steps",
    "per_device_eval_batch_size",
    "device",
    "gradient_checkpointing",
    "auto_find_batch_size",
    "fsdp",
    "profile",
    "report_to",
}
#: Option -> what is done where it is left out.
_DEFAULTS = to_plain(TrainOptions(task="", output_dir=Path()))
_REMEDY = "give those again, or another directory"
#: Options whose product with the number of devices must stay.
_BATCH = {"per_device_train_batch_size", "gradient_accumulation_steps"}
#: Options that name an input -> the (first) hash of what it holds, which decides whether it is the same.
_HASHED = {
    "model_name_or_path": "checkpoint",
    "config_name": "architecture",
    "tokenizer_name": "tokenizer",
    "train_file": "train_file",
    "more_train_files": "train_file_2",
    "validation_file": "dev_file",
    "test_file": "test_file",
    "text_file": "train_file",
    "similar_words": "similar_words",
    "teacher": "teacher_1",
}
#: What a run writes beside its seed_* directories, and in them; nothing else is ever deleted.
_TABLE = "leaderboard.md"
_FILES = (CONFIG_FILE, "data_report.json", "run.log", _TABLE)
BEST = "checkpoint-best"
_OF_SPLITS = ("predictions", "predictions_official", "nbest_predictions", "null_odds", "scores", "report")
_OF_SEEDS = {FILE_NAME, NONFINITE_FILE, BEST, CHECKPOINTS, ASIDE, "tensorboard", "profile"}
_ANSWERS = {f"{name}_{split}.json" for name in _OF_SPLITS for split in ("dev", "test")}
_OF_SEEDS |= _ANSWERS


def check_writable(directory: Path) -> None:
    """Refuse a directory that the first process, which writes all files, can't make or write into.

    Raises:
        UsageError: saying what stands in the way and what to do.
    """
    if launched().rank == 0:
        check_directory("--output_dir", directory)


def check_place(options: TrainRecipe) -> None:
    """Refuse a directory that holds something else, a finished run, or one with other options.

    Raises:
        UsageError: saying what stands there and what to do.
    """
    directory = options.output_dir
    where = f"--output_dir {directory}"
    if not directory.exists():
        return
    old = _options_of(directory)
    if old is None:
        if any(not path.name.startswith(f".{CONFIG_FILE}.") for path in directory.iterdir()):
            raise UsageError(f"{where}: holds files that are not a run; give an empty or new directory")
        return
    _check_seed_directories(options)
    if overwrites(options):
        _check_inputs_outside(options)
        return
    if all(status(directory, seed) == "finished" for seed in options.seeds) and _tabulated(directory):
        raise UsageError(f"{where}: holds a finished run; use --overwrite_output_dir or another directory")
    _check_options(options, old)


def check_inputs(options: TrainRecipe, hashes: Mapping[str, str], n_devices: int, task_version: str) -> list[str]:
    """Refuse a run, in a directory that `check_place` lets pass, whose seeds can't be averaged with new ones.

    Args:
        options: the recipe.
        hashes: of the data, tokenizer and model of this run.
        n_devices: how many share each batch.
        task_version: that it is trained and scored by.

    Returns:
        what is worth saying of a run that goes on.

    Raises:
        UsageError: saying what differs.
    """
    directory = options.output_dir
    old = _options_of(directory)
    if old is None or overwrites(options):
        return []
    for path, record in seed_records(directory).items():
        _check_batch(options, n_devices, record.config, record.n_devices)
        if record.status == "finished" or (path / CHECKPOINTS).is_dir():
            _check_hashes(options, hashes, record.seed, record.hashes)
            _check_version(options, task_version, record.seed, record.task_version)
    differing = _differing(old, options.config)
    said = ", ".join(differing[name] for name in sorted(differing.keys() & _HASHED.keys()))
    return [f"--output_dir {directory}: goes on with other names of the same inputs ({said})"] if said else []


def check_resumed(options: TrainRecipe, record: Record, state: Mapping[str, Any]) -> None:
    """Refuse a training checkpoint of another run: the Record that told may have been lost.

    Args:
        options: the recipe.
        record: of the seed that is to go on.
        state: what the checkpoint holds; of an older version, it does not say what it was trained on.

    Raises:
        UsageError: saying what differs.
    """
    if "config" in state:
        _check_options(options, state["config"])
        _check_batch(options, record.n_devices, state["config"], state["n_devices"])
        _check_hashes(options, record.hashes, record.seed, state["hashes"])
        _check_version(options, record.task_version, record.seed, state.get("task_version", record.task_version))


def changes(options: TrainRecipe, hashes: Mapping[str, str], task_version: str) -> list[str]:
    """Say in what a run directory differs from a recipe, where that can move a number.

    Args:
        options: the recipe, with the directory.
        hashes: of the data, tokenizer and model that it would be trained on.
        task_version: that it would be scored by.

    Returns:
        a line for each difference; none for a directory without a run.
    """
    old = _options_of(options.output_dir)
    if old is None:
        return []
    differing = _differing(old, options.config)
    said = [differing[name] for name in sorted(differing.keys() - _FREE - _BATCH - _HASHED.keys())]
    for record in seed_records(options.output_dir).values():
        then, now = (math.prod(config[name] for name in _BATCH) for config in (record.config, options.config))
        if then != now:
            said.append(f"{then} windows per step there, {now} here")
        if record.task_version != task_version:
            said.append(f"version {record.task_version} of the task there, {task_version} here")
        said += [f"trained {how}" for how in _differences(record.hashes, hashes)]
    return list(dict.fromkeys(said))


def _differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, str]:
    """Say of options that differ how, by name."""
    # An older version did not have all options, and did as is done without them, or tasks were of another version.
    old = {**_DEFAULTS, **old}
    return {name: f"{name} {old.get(name)!r} there, {new[name]!r} here" for name in new if old.get(name) != new[name]}


def _check_options(options: TrainRecipe, old: Mapping[str, Any]) -> None:
    """Refuse to train under other options than those of the run that is there."""
    differing = _differing(old, options.config)
    if different := sorted(differing.keys() - _FREE - _BATCH - _HASHED.keys()):
        said = ", ".join(differing[name] for name in different)
        raise UsageError(
            f"--output_dir {options.output_dir}: holds an unfinished run with other options ({said}); {_REMEDY}"
        )


def _check_seed_directories(options: TrainRecipe) -> None:
    """Refuse to train in a link to somewhere else, or over the Record of another seed."""
    for seed in options.seeds:
        path = seed_directory(options.output_dir, seed)
        if path.is_symlink():
            raise UsageError(f"{path}: a link to {os.readlink(path)}, not a seed of this run; move it away")
        if (path / FILE_NAME).is_file() and (other := read_record(path / FILE_NAME).seed) != seed:
            raise UsageError(f"{path}: holds the Record of seed {other}, not of seed {seed}; move it away")


def _check_hashes(options: TrainRecipe, hashes: Mapping[str, str], seed: int, kept: Mapping[str, str]) -> None:
    """Refuse other data, another tokenizer or model than those of a seed that is kept or goes on."""
    if differences := " and ".join(_differences(kept, hashes)):
        raise UsageError(
            f"--output_dir {options.output_dir}: seed {seed} was trained {differences}; use another directory"
        )


def _check_version(options: TrainRecipe, version: str, seed: int, kept: str) -> None:
    """Refuse to average, or go on with, what another version of the task has trained or scored."""
    if kept != version:
        raise UsageError(
            f"--output_dir {options.output_dir}: seed {seed} is of version {kept} of the task, here {version}; "
            "use another directory"
        )


def _differences(kept: Mapping[str, str], new: Mapping[str, str]) -> Iterator[str]:
    """Say how inputs differ from those that a seed was trained on."""
    if other := sorted(name for name in kept.keys() & new.keys() if kept[name] != new[name]):
        yield f"on another {', '.join(other)}"
    if left_out := sorted(kept.keys() - new.keys()):
        yield f"with a {', '.join(left_out)}"
    if added := sorted(new.keys() - kept.keys()):
        yield f"without a {', '.join(added)}"


def overwrites(options: TrainRecipe) -> bool:
    """Whether an older run is to be deleted; it is this one where torchrun starts it once more (--max_restarts)."""
    return options.overwrite_output_dir and launched().restart_count == 0


def deletes(options: TrainRecipe) -> bool:
    """Whether there is a seed of an older run that `prepare` will delete."""
    return overwrites(options) and bool(seed_records(options.output_dir))


def is_run(directory: Path) -> bool:
    """Whether a directory is that of a run."""
    return _options_of(directory) is not None


def _options_of(directory: Path) -> dict[str, Any] | None:
    """Return the options of the run in a directory, or None if it holds none of ours."""
    try:
        values = yaml.safe_load((directory / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return None
    ours = isinstance(values, dict) and {"task", "output_dir", "seeds"} <= values.keys()
    return values if ours else None


def _check_batch(options: TrainRecipe, n_devices: int, old: Mapping[str, Any], n_devices_then: int) -> None:
    """Refuse steps of another size; how one is divided among devices and forward passes does not matter."""
    size = windows_per_step(options, n_devices)
    then = math.prod([*(old[name] for name in _BATCH), n_devices_then])
    if then != size:
        raise UsageError(
            f"--output_dir {options.output_dir}: holds an unfinished run with other options (steps of {then} "
            f"windows there, {size} here: --per_device_train_batch_size × --gradient_accumulation_steps × number "
            f"of devices); {_REMEDY}"
        )


def _check_inputs_outside(options: TrainRecipe) -> None:
    """Refuse to delete what the run starts from, by whatever path or link it is reached."""
    for name in _HASHED:
        given = options.config.get(name) or []
        of_tasks = given.values() if isinstance(given, Mapping) else [given]
        for value in (item for own in of_tasks for item in (own if isinstance(own, list) else [own])):
            if any(_is_inside(path, options.output_dir) for path in _files_of(Path(value))):
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
    path = seed_directory(directory, seed) / FILE_NAME
    return read_record(path).status if path.is_file() else "not started"


def _tabulated(directory: Path) -> bool:
    """Whether the table is not older than any Record: whoever finished the last seed was not killed before it."""
    table = directory / _TABLE
    newest = max((path / FILE_NAME).stat().st_mtime_ns for path in seed_records(directory))
    return table.is_file() and table.stat().st_mtime_ns >= newest


def prepare(options: TrainRecipe) -> None:
    """Make the directory, without an older run if it is to be overwritten, and write the options into it.

    Raises:
        UsageError: if another process trains in it what is to be overwritten, or has begun with other options.
    """
    directory = options.output_dir
    directory.mkdir(parents=True, exist_ok=True)
    with locked(directory, waits=True):  # several commands may start at once, each with seeds of its own
        old = None if overwrites(options) else _options_of(directory)
        if old is not None:
            _check_options(options, old)
        # Those of other commands, too: the written options repeat the whole run.
        seeds = [*(old["seeds"] if old is not None else []), *options.seeds]
        # Whoever trains again with the written options must not delete the run by that.
        plain = {**options.config, "overwrite_output_dir": False, "seeds": list(dict.fromkeys(seeds))}
        text = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)
        if overwrites(options):
            _delete_run(directory)
        write_text(directory / CONFIG_FILE, text)


def _delete_run(directory: Path) -> None:
    with contextlib.ExitStack() as held:
        seeds = list(seed_records(directory))
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


def clear(seed_directory: Path, keep: Collection[str] = ()) -> None:
    """Delete what an unfinished seed left, its Record last, but not the directory, which is locked.

    Args:
        seed_directory: of the seed.
        keep: names in it that stay.
    """
    tidy(seed_directory)
    tasks = _tasks_of(seed_directory.parent)
    for task in tasks:
        place = task_directory(seed_directory.parent, task) / seed_directory.name
        if place.is_dir() and not place.is_symlink():
            _clear(place, _OF_SEEDS)
            for directory in (place, place.parent):
                if not any(directory.iterdir()):
                    directory.rmdir()
    _clear(seed_directory, _names(tasks).difference(keep))


def _clear(directory: Path, names: Collection[str]) -> None:
    ours = (path for path in directory.iterdir() if path.name in names)
    for path in sorted(ours, key=lambda path: path.name == FILE_NAME):
        delete(path)


def tidy(seed_directory: Path) -> None:
    """Delete the half-written files of a process that was killed."""
    tasks = _tasks_of(seed_directory.parent)
    own = [task_directory(seed_directory.parent, task) / seed_directory.name for task in tasks]
    for place in (seed_directory, *own):
        for name in _names(tasks):
            for path in place.glob(f".{name}.*"):
                delete(path)


def _tasks_of(run: Path) -> list[str]:
    """Return the tasks of a run of several, each of which has a directory of its own in that of the run."""
    names = str((_options_of(run) or {}).get("task", "")).split(",")
    return [name for name in names if name.isidentifier()] if len(names) > 1 else []


def _names(tasks: Collection[str]) -> set[str]:
    """Return the names of all that stands in a seed's directory."""
    return _OF_SEEDS | {f"{name.removesuffix('.json')}_{task}.json" for task in tasks for name in _ANSWERS}
