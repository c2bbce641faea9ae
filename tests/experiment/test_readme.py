"""Every command of the README runs as it is written."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import pytest

from experiment.cli import main
from tests.support.values import SPAN

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```console\n(.*?)```", README, re.S)
#: Each command, and what the README shows of its output, in the order of the README.
SHOWN = [
    (command.splitlines()[0], [line for line in command.splitlines()[1:] if line.strip("… ")])
    for block in BLOCKS
    for command in re.split(r"^\$ ", block, flags=re.M)[1:]
]
COMMANDS = [command for command, _ in SHOWN]
RUN = "python run_mrc.py "
#: A proxy that nobody listens at: `download` finds itself offline wherever the tests run.
OFFLINE = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
#: task -> (demo corpus, what `download` calls its files)
PUBLISHED = {
    "cmrc2018": ("demo_{}", {"train": "cmrc2018_train.json", "dev": "cmrc2018_dev.json"}),
    "drcd": ("demo_drcd_{}", {"train": "DRCD_training.json", "dev": "DRCD_dev.json"}),
    "cjrc": ("demo_cjrc_{}", {"train": "big_train_data.json", "dev": "dev_ground_truth.json"}),
}


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A checkout's root with the files a user would have: the demo corpus cut short, CMRC data, a tiny hub model."""
    root = tmp_path_factory.mktemp("readme")
    shutil.copytree(ROOT / "examples", root / "examples")
    (root / "data").mkdir()
    for task, (corpus, names) in PUBLISHED.items():
        downloads = root / ".cache/chinese_mrc/data" / task
        downloads.mkdir(parents=True)
        for split, name in names.items():
            path = root / f"examples/corpus/{corpus.format(split)}.json"
            data = json.loads(path.read_text(encoding="utf-8"))
            data["data"] = data["data"][:2] + data["data"][-2:]
            text = json.dumps(data, ensure_ascii=False)
            for copy in (path, downloads / name, root / "data" / f"{task}_{split}.json"):
                copy.write_text(text, encoding="utf-8")
    from preprocess.tokenizers.base import load_tokenizer
    from pretrained_configs.config import ModelConfig
    from pytorch_modeling import build_model, save_weights

    model = root / "hfl" / "chinese-roberta-wwm-ext"
    model.mkdir(parents=True)
    tokenizer = load_tokenizer(root / "examples/corpus/vocab.txt")
    tokenizer.save(model)
    save_weights(build_model(ModelConfig(tokenizer.vocab_size, 16, 1, 2, 16), SPAN, device="cpu"), model)
    return root


def test_readme_has_the_two_commands_and_a_session():
    assert {"make demo", "make test"} <= set(COMMANDS)
    assert {shlex.split(c)[2] for c in COMMANDS if c.startswith(RUN)} == {
        "train", "leaderboard", "predict", "evaluate", "stats", "inspect", "tasks", "download", "split", "validate",
        "export", "parity", "convert", "models", "plan", "cache", "completion",
    }  # fmt: skip


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"\bmake (\w+)", README):
        assert re.search(rf"^{target}:", makefile, re.M), target


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    status: int
    output: str
    errors: str


@pytest.fixture(scope="module")
def session(workplace) -> list[Done | None]:
    """Run all commands as somebody would who reads from top to bottom; None for those that are not the program's."""
    done: list[Done | None] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(workplace)
        for name, value in {**OFFLINE, "HOME": str(workplace)}.items():
            patch.setenv(name, value)
        for command in COMMANDS:
            if not command.startswith(RUN):
                done.append(None)
                continue
            with redirect_stdout(StringIO()) as output, redirect_stderr(StringIO()) as errors:
                try:
                    status = main(shlex.split(command.removeprefix(RUN)))
                except SystemExit as stop:
                    status = int(stop.code or 0)
            done.append(Done(status, output.getvalue(), errors.getvalue()))
    return done


def _shape(line: str) -> str:
    """A line without what differs from run to run and from machine to machine: numbers, answers, the drawn ruler."""
    line = re.sub(r"^.*(?=  \[-?\d+:-?\d+\] p=)", "ANSWER", line)
    line = re.sub(r"\b(yes|no) ", "FITS ", line)
    return " ".join(re.sub(r"-?\d[\d.e+-]*", "N", line).split())


def test_every_command_does_what_the_readme_says(session, workplace, subtests, monkeypatch):
    for (command, shown), done in zip(SHOWN, session, strict=True):
        with subtests.test(command):
            _check(command, shown, done)
    with subtests.test("from Python"):
        (code,) = re.findall(r"```python\n(.*?)```", README, re.S)
        monkeypatch.chdir(workplace)
        names: dict[str, object] = {}
        exec(code, names)
        assert names["answer"].n_best


def _check(command: str, shown: list[str], done: Done | None) -> None:
    if done is None:
        assert command.split()[0] in ("make", "source"), command
    elif " download " in command:
        # A complete file of the right name is not what was published: it is fetched anew, and that fails offline.
        assert done.status == 2 and done.errors.startswith("error: "), done.errors
    else:
        assert done.status == 0, f"{command}\n{done.output}\n{done.errors}"
        printed = {_shape(line) for line in done.output.splitlines()}
        assert not [line for line in shown if _shape(line) not in printed], done.output


def test_documents_that_the_readme_points_to_exist():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
