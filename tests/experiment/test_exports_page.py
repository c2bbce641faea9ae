"""The commands of docs/exports.md do what the page says, and each of its programs answers as the model does."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest

from experiment.cli import main
from experiment.inputs.settings import FILE_NAME, Settings
from preprocess.base.files import write_json
from preprocess.tokenizers.base import load_tokenizer
from pretrained_configs.config import ModelConfig
from pytorch_modeling import build_model, save_weights
from tasks.core.discovery import get_task

for _package in ("onnxscript", "onnxruntime", "tokenizers"):
    pytest.importorskip(_package)

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "exports.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^\$ python run_mrc.py (.*)$", PAGE, re.M)
PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE, re.S)
OPTIONS = {
    "max_seq_length": 96,
    "doc_stride": 32,
    "doc_overlap": None,
    "max_query_length": 24,
    "n_best_size": 20,
    "max_answer_length": 4,
    "null_score_diff_threshold": 0.0,
}


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A directory with a data file and a model, as the page's commands name them; its weights are random."""
    root = tmp_path_factory.mktemp("exports")
    (root / "data").mkdir()
    values = json.loads((ROOT / "examples/corpus/demo_dev.json").read_text(encoding="utf-8"))
    values["data"] = values["data"][:1]
    (root / "data/cmrc2018_dev.json").write_text(json.dumps(values), encoding="utf-8")
    model = root / "runs/cmrc2018/seed_123/checkpoint-best"
    model.mkdir(parents=True)
    task = get_task("cmrc2018")
    tokenizer = load_tokenizer(ROOT / "examples/corpus/vocab.txt")
    tokenizer.save(model)
    config = ModelConfig(tokenizer.vocab_size, 16, 1, 2, 32, max_position_embeddings=128, initializer_range=0.5)
    save_weights(build_model(config, task.problem.head, device="cpu", seed=3), model)
    facts = {**tokenizer.options, "fingerprint": tokenizer.fingerprint}
    write_json(model / FILE_NAME, asdict(Settings(task.name, task.version, OPTIONS, {}, facts, precision="fp32")))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        yield root


def test_commands_and_programs_of_the_page_agree(workplace, capsys):
    for command in COMMANDS[:-1]:
        assert main(shlex.split(command)) == 0
        assert capsys.readouterr().out.splitlines()[-1].startswith("checked: all "), command
    answers = []
    for model in ("runs/cmrc2018/seed_123/checkpoint-best", "served/onnx"):
        assert main(shlex.split(COMMANDS[-1].replace("served/onnx", model))) == 0
        answers.append(capsys.readouterr().out.partition("  [")[0])
    # One that the sources are not needed for: nothing of what the checkpoint holds is looked at.
    shutil.rmtree(workplace / "runs")
    assert len(PROGRAMS) == 4
    for program in PROGRAMS:
        exec(program, {})
        answers.append(capsys.readouterr().out.rstrip("\n"))
    assert 0 < len(answers[0]) < len("许云松开店于1765年。") and {*answers} == {answers[0]}
