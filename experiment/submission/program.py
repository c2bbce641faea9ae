"""Organisers who run programs on files that nobody has seen: an archive with a program, and its trial."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from experiment.backend import PACKAGES
from experiment.inputs.data import read_examples
from experiment.launch import environment_apart
from experiment.submission.answers import check_answers
from experiment.training.finished import best_seed, trained_by
from experiment.training.record import run_of
from preprocess.base.errors import DataError, UsageError
from preprocess.base.files import write_json
from preprocess.base.jsonfile import read_json
from tasks.core.discovery import get_task
from tasks.problems.kinds import KindProblem

_HOUSE = Path(__file__).resolve().parents[2]
_SHARED = ("experiment", "preprocess", "pretrained_configs", "tasks")
_SUFFIXES = (".py", ".json", ".csv")
#: Runs main.py, and fails where it has found a part of the toolkit that is installed here and not in the archive.
_TRIAL = """
import runpy, sys
from pathlib import Path
ours = sys.argv.pop(1).split(",")
try:
    runpy.run_path("main.py", run_name="__main__")
finally:
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if name.partition(".")[0] in ours and file and Path.cwd() not in Path(file).resolve().parents:
            sys.exit(f"{name} is not in the archive")
"""


@dataclass(frozen=True)
class Rules:
    """How an organiser runs a program.

    Args:
        organiser: as messages call it.
        task: whose questions it answers.
        arguments: of main.py.
        data: what it reads, seen from where the archive is unpacked.
        result: what it writes, likewise.
        blank: what is taken out of the file that it reads: values by key.
    """

    organiser: str
    task: str
    arguments: tuple[str, ...]
    data: str
    result: str
    blank: Mapping[str, Any] = field(default_factory=lambda: {"answers": []})


#: CAIL2019: `阅读理解/README.md` of china-ai-law-challenge/CAIL2019 @ 0d138a2 says where main.py stands, what it
#: reads and writes, and `evaluate/result.json` shows the result, a list of {"id", "answer"}. CMRC2018: its page
#: says that programs are taken as SQuAD's are, which get the paths of the questions and of the answers ({id: text}).
RULES = {
    "cmrc2018": Rules(
        "CMRC2018",
        "cmrc2018",
        ("../input.json", "../predictions.json"),
        data="../input.json",
        result="../predictions.json",
    ),
    "cail2019": Rules(
        "CAIL2019",
        "cjrc",
        (),
        data="../data/data.json",
        result="../result/result.json",
        blank={"domain": "", "casename": "", "is_impossible": "", "answers": []},
    ),
}


def content_of(run: Path, rules: Rules) -> dict[str, Path]:
    """Return the files of the archive by their names in it: main.py, the toolkit, and the run's best model.

    Raises:
        UsageError: if the run is none of the organiser's task, or not finished.
    """
    run = run_of(run, rules.task)
    record = best_seed(run)
    if record.task != rules.task:
        raise UsageError(f"{run}: a run of task {record.task}; {rules.organiser} takes one of {rules.task}")
    model, framework = trained_by(run, record)
    packages = (*_SHARED, PACKAGES[framework])
    files = [path for name in packages for path in (_HOUSE / name).rglob("*") if path.suffix in _SUFFIXES]
    content = {path.relative_to(_HOUSE).as_posix(): path for path in files}
    content |= {f"model/{path.relative_to(model).as_posix()}": path for path in model.rglob("*") if path.is_file()}
    return {**content, "main.py": Path(__file__).with_name("program_main.py")}


def try_out(archive: Path, data_file: Path, directory: Path, rules: Rules) -> int:
    """Do as the organisers: unpack, run main.py on a file without answers, and read what it has written.

    Args:
        archive: to be tried.
        data_file: with questions in the published layout.
        directory: empty; gets everything.
        rules: of the organiser.

    Returns:
        the number of questions that were answered.

    Raises:
        DataError: if there is no result, or one that can't be meant.
    """
    task = get_task(rules.task)
    examples, _ = read_examples(task, data_file)
    unpacked = directory / "program"
    with ZipFile(archive) as packed:
        packed.extractall(unpacked)
    data, result = (unpacked / place for place in (rules.data, rules.result))
    data.parent.mkdir(exist_ok=True)
    published = read_json(data_file, DataError, "give a JSON data file")
    write_json(data, _blanked(published, rules.blank))
    trial = [sys.executable, "-c", _TRIAL, ",".join((*_SHARED, *PACKAGES.values())), *rules.arguments]
    done = subprocess.run(trial, cwd=unpacked, env=environment_apart(), capture_output=True, text=True)
    if done.returncode or not result.is_file():
        last = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
        raise DataError(f"main.py of the archive has failed with status {done.returncode}: {last}")
    answers = _answers(json.loads(result.read_text(encoding="utf-8")), listed=task.official is not None)
    special = set(task.problem.texts.values()) if isinstance(task.problem, KindProblem) else set()
    check_answers("main.py", examples, answers, special)
    return len(answers)


def _answers(result: Any, *, listed: bool) -> dict[str, Any]:
    if listed:
        if not isinstance(result, list) or any(entry.keys() != {"id", "answer"} for entry in result):
            raise DataError('the result of main.py is no list of {"id", "answer"}')
        return {entry["id"]: entry["answer"] for entry in result}
    if not isinstance(result, dict):
        raise DataError("the result of main.py is no object of answers by id")
    return result


def _blanked(value: Any, blank: Mapping[str, Any]) -> Any:
    if isinstance(value, list):
        return [_blanked(item, blank) for item in value]
    if isinstance(value, dict):
        return {key: blank[key] if key in blank else _blanked(item, blank) for key, item in value.items()}
    return value
