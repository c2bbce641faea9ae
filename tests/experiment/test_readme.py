"""Every command of the README runs as it is written."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.values import SPAN

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
LINES = [line for block in re.findall(r"```console\n(.*?)```", README, re.S) for line in block.splitlines()]
COMMANDS = [line.removeprefix("$ ") for line in LINES if line.startswith("$ ")]
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
            data["data"] = data["data"][:4] + data["data"][-4:]
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
        "export", "parity", "convert", "models", "plan",
    }  # fmt: skip


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"\bmake (\w+)", README):
        assert re.search(rf"^{target}:", makefile, re.M), target


def test_commands_run_in_the_order_of_the_readme(workplace):
    environment = {**os.environ, **OFFLINE, "HOME": str(workplace), "OMP_NUM_THREADS": "1"}
    for command in COMMANDS:
        if not command.startswith(RUN):
            continue
        arguments = [sys.executable, str(ROOT / "run_mrc.py"), *shlex.split(command.removeprefix(RUN))]
        done = subprocess.run(arguments, cwd=workplace, capture_output=True, text=True, timeout=600, env=environment)
        if arguments[2] == "download":
            # A complete file of the right name is not what was published: it is fetched anew, and that fails offline.
            assert done.returncode == 2 and done.stderr.startswith("error: "), done.stderr
        else:
            assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


def test_documents_that_the_readme_points_to_exist():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
