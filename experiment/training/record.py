"""The Record of one seed: everything needed to trust or repeat its numbers."""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from preprocess.base.errors import UsageError
from preprocess.base.files import write_json
from preprocess.base.jsonfile import read_json_object

FILE_NAME = "record.json"
#: Status of a seed that a search has given up.
PRUNED = "pruned"
_PACKAGES = (
    *("chinese-mrc", "jieba", "numpy", "nltk", "opencc", "sentencepiece", "tokenizers"),
    *("torch", "bitsandbytes", "tensorflow", "tensorflow-cpu"),
)


@dataclass
class Record:
    """One seed of one run.

    Args:
        task: name of the task.
        task_version: changes whenever a score may move.
        model: what the leaderboard calls the model.
        seed: of weights, dropout and data order.
        status: "running", "finished", "failed", "interrupted", or "pruned" where a search has given it up.
        config: all options, as resolved.
        selection: metrics whose sum selects the checkpoint.
        hashes: SHA-256 of data files, checkpoint and architecture; the fingerprint of the tokenizer.
        versions: of Python and the packages that can move a number.
        n_devices: how many shared each batch; the seed may have begun with another number.
        n_steps: optimizer steps of the whole run.
        step: optimizer step of the selected checkpoint.
        decode: decoding options, as given or tuned on dev, by which the selected checkpoint is scored.
        scores: split -> metric -> value in percent; empty unless finished.
        n_skipped: steps without effect, because the loss or a gradient was not finite.
        warnings: what a reader of the scores should know.
        evaluations: every evaluation: step, epoch, mean loss since the last one, scores on dev; and where windows
            that hold an answer are told from the others, their share ("answered"), their loss and that of the others.
        device: name of the device.
        wall_s: seconds, training and evaluation together; of a resumed seed without what was done twice.
        pass_size: windows per forward pass and device, at the end.
        speed: of training: windows and real (unpadded) tokens per second, the share of time that making batches took,
            and the share of the GPUs' peak FLOP/s that the tokens made use of; and under transformers' names the
            seconds of training, and windows and steps per second.
        eval_samples: split -> its windows, which are more than its questions.
        peak_bytes: most memory held by the process up to the end of this seed: on the GPU, or in all on a CPU.
        error: what ended a run that did not finish.
        guessing: metric -> up to what a guess may come on dev, in percent, where that is known and more than next to
            nothing: whoever has not read the texts draws an option, or takes the commonest class.
        joint: names of the tasks that were learned together, where there were several. The Record of all of them has
            them with commas as its task; that of each tells how it fared, with the checkpoint that is its own best.
    """

    task: str
    task_version: str
    model: str
    seed: int
    status: str
    config: dict[str, Any]
    selection: list[str]
    hashes: dict[str, str]
    versions: dict[str, str]
    n_devices: int = 1
    n_steps: int = 0
    step: int = 0
    decode: dict[str, Any] = field(default_factory=dict)
    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    n_skipped: int = 0
    warnings: list[str] = field(default_factory=list)
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    device: str = ""
    wall_s: float = 0.0
    pass_size: int = 0
    speed: dict[str, float] = field(default_factory=dict)
    eval_samples: dict[str, int] = field(default_factory=dict)
    peak_bytes: int = 0
    error: str = ""
    guessing: dict[str, float] = field(default_factory=dict)
    joint: list[str] = field(default_factory=list)

    @property
    def is_of_all(self) -> bool:
        """Whether it is the Record of several tasks."""
        return bool(self.joint) and self.task not in self.joint

    @property
    def shown_model(self) -> str:
        """What tables call the model, with what tells it from others of its name."""
        framework = self.config.get("framework", "pytorch")
        together = f"jointly with {', '.join(t for t in self.joint if t != self.task)}" if self.joint else ""
        said = ["" if framework == "pytorch" else framework, "" if self.is_of_all else together]
        return ", ".join([self.model, *filter(None, said)])

    def limit_of(self, split: str) -> int | None:
        """Return how many of a split's first questions were scored; None for all of them: a limit is one on dev."""
        return self.config.get("max_eval_samples") if split == "dev" else None

    def write(self, directory: Path) -> None:
        """Write `record.json` into the seed's directory, atomically."""
        values = asdict(self)
        for name in ("guessing", "joint"):
            if not values[name]:
                del values[name]
        write_json(directory / FILE_NAME, values)


def read_record(path: Path) -> Record:
    """Read a `record.json`.

    Raises:
        UsageError: if the file is not a Record.
    """
    values = read_json_object(path, UsageError, "delete it and run again")
    try:
        return Record(**values)
    except TypeError as error:
        raise UsageError(f"{path}: not a record of this version ({error}); delete it and run again") from None


def seed_directory(run: Path, seed: int) -> Path:
    """Return where a seed of a run leaves its files."""
    return run / f"seed_{seed}"


def task_directory(run: Path, task: str) -> Path:
    """Return the run directory of one task in that of several: what is read of a run can be read of it."""
    return run / task


def runs_in(run: Path) -> list[Path]:
    """Return the directory of a run of one task; of one of several, that of each.

    Raises:
        UsageError: if it is no run directory.
    """
    first = run_records(run)[0]
    return [task_directory(run, task) for task in first.joint] if first.is_of_all else [run]


def run_of(run: Path, task: str) -> Path:
    """Return the directory of a run's task: the run's own, unless it is one of several tasks with this among them."""
    records = list(seed_records(run).values())
    return task_directory(run, task) if records and records[0].is_of_all and task in records[0].joint else run


def seed_records(run: Path) -> dict[Path, Record]:
    """Read the Records of a run directory by the directory of their seed, in the order of the seeds.

    A seed's directory is named after it, is no link, and holds its Record: a copy under another name
    (`seed_1_backup`, or `seed_1` copied to `seed_2`) and a link to another run's are the user's own.
    """
    records = {}
    for path in run.glob("seed_*"):
        if not path.is_symlink() and (path / FILE_NAME).is_file():
            record = read_record(path / FILE_NAME) if path.name.removeprefix("seed_").isdecimal() else None
            if record is not None and path == seed_directory(run, record.seed):
                records[path] = record
    return dict(sorted(records.items(), key=lambda item: item[1].seed))


def run_records(run: Path) -> list[Record]:
    """Read the Records of a run directory, by seed.

    Raises:
        UsageError: if the directory holds none.
    """
    records = list(seed_records(run).values())
    if not records:
        raise UsageError(
            f"{run}: not a run directory (no seed_N/{FILE_NAME} in it); give the --output_dir of a train command"
        )
    return records


def versions() -> dict[str, str]:
    """Return the versions of Python and of those installed packages that can move a number."""
    installed = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return installed
