"""CAIL2019's reading comprehension: an archive with a program that answers a file it has not seen.

Source: `阅读理解/README.md` of china-ai-law-challenge/CAIL2019 @ 0d138a2 (where main.py stands, what it reads and
writes), and `evaluate/result.json` there (a list of {"id", "answer"}).
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from experiment.backend import PACKAGES
from experiment.inputs.data import read_examples
from experiment.launch import environment_apart
from experiment.submission.answers import best_seed, check_answers
from experiment.training.record import seed_directory
from experiment.training.rundir import BEST
from preprocess.base.errors import DataError, UsageError
from preprocess.base.files import write_json
from preprocess.base.jsonfile import read_json
from tasks.core.discovery import get_task
from tasks.problems.kinds import KindProblem

_TASK = "cjrc"
_HOUSE = Path(__file__).resolve().parents[2]
_SHARED = ("experiment", "preprocess", "pretrained_configs", "tasks")
_SUFFIXES = (".py", ".json", ".csv")
#: What the organisers take out of the file: values by key.
_BLANK: dict[str, Any] = {"domain": "", "casename": "", "is_impossible": "", "answers": []}
#: Runs main.py, and fails where it has found a part of the toolkit that is installed here and not in the archive.
_TRIAL = """
import runpy, sys
from pathlib import Path
ours = sys.argv[1:]
del sys.argv[1:]
try:
    runpy.run_path("main.py", run_name="__main__")
finally:
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if name.partition(".")[0] in ours and file and Path.cwd() not in Path(file).resolve().parents:
            sys.exit(f"{name} is not in the archive")
"""


def content_of(run: Path) -> dict[str, Path]:
    """Return the files of the archive by their names in it: main.py, the toolkit, and the run's best model.

    Raises:
        UsageError: if the run is none of this task, or not finished.
    """
    record = best_seed(run)
    if record.task != _TASK:
        raise UsageError(f"{run}: a run of task {record.task}; CAIL2019 takes one of {_TASK}")
    framework = str(record.config.get("framework", "pytorch"))
    packages = (*_SHARED, PACKAGES[framework])
    files = [path for name in packages for path in (_HOUSE / name).rglob("*") if path.suffix in _SUFFIXES]
    content = {path.relative_to(_HOUSE).as_posix(): path for path in files}
    model = seed_directory(run, record.seed) / BEST
    content |= {f"model/{path.relative_to(model).as_posix()}": path for path in model.rglob("*") if path.is_file()}
    return {**content, "main.py": Path(__file__).with_name("cail2019_main.py")}


def try_out(archive: Path, data_file: Path, directory: Path) -> int:
    """Do as the organisers: unpack, run main.py on a file without answers, and read what it has written.

    Args:
        archive: to be tried.
        data_file: with questions in the published layout.
        directory: empty; gets everything.

    Returns:
        the number of questions that were answered.

    Raises:
        DataError: if there is no result, or one that can't be meant.
    """
    task = get_task(_TASK)
    examples, _ = read_examples(task, data_file)
    model, data, result = directory / "model", directory / "data", directory / "result" / "result.json"
    with ZipFile(archive) as packed:
        packed.extractall(model)
    data.mkdir()
    write_json(data / "data.json", _blanked(read_json(data_file, DataError, "give a JSON data file")))
    trial = [sys.executable, "-c", _TRIAL, *_SHARED, *PACKAGES.values()]
    done = subprocess.run(trial, cwd=model, env=environment_apart(), capture_output=True, text=True)
    if done.returncode or not result.is_file():
        last = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
        raise DataError(f"main.py of the archive has failed with status {done.returncode}: {last}")
    entries = json.loads(result.read_text(encoding="utf-8"))
    if not isinstance(entries, list) or any(entry.keys() != {"id", "answer"} for entry in entries):
        raise DataError('the result of main.py is no list of {"id", "answer"}')
    assert isinstance(task.problem, KindProblem)
    check_answers("main.py", examples, {e["id"]: e["answer"] for e in entries}, set(task.problem.texts.values()))
    return len(entries)


def _blanked(value: Any) -> Any:
    if isinstance(value, list):
        return [_blanked(item) for item in value]
    if isinstance(value, dict):
        return {key: _BLANK[key] if key in _BLANK else _blanked(item) for key, item in value.items()}
    return value
