"""What is added in a file of its own, without a change to any other, trains in both frameworks."""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path

import pytest

from experiment.cli import main
from tests.support.additions import CHOICE, TAGGING, added_tasks

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"甲乙丙丁戊己庚辛"]
MODEL = {
    "model_type": "bert",
    "vocab_size": len(VOCABULARY),
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 32,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}


@pytest.fixture
def model(tmp_path) -> Path:
    directory = tmp_path / "model"
    directory.mkdir()
    (directory / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
    (directory / "config.json").write_text(json.dumps(MODEL), encoding="utf-8")
    return directory


def _write(path: Path, lines: list[dict]) -> Path:
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    return path


def _tagging(random: random.Random, number: int) -> dict:
    """甲 and 乙 are names, wherever they stand."""
    text = "".join(random.choices("甲乙丙丁戊己庚辛", k=8))
    return {"id": str(number), "text": text, "answers": [[c, i, "name"] for i, c in enumerate(text) if c in "甲乙"]}


def _choice(random: random.Random, number: int) -> dict:
    """The right option is the one with 甲 in it; there are two or three."""
    options = ["甲" + random.choice("乙丙"), *random.sample(["丙丁", "丁戊", "戊己"], random.choice((1, 2)))]
    right = options[0]
    random.shuffle(options)
    return {"id": str(number), "text": "庚辛", "options": options, "answers": [[right, -1, "option"]]}


#: task -> its file, what makes a line of its data, and the share that is right by chance, in percent.
ADDITIONS = {"toy_tagging": (TAGGING, _tagging, 1.0), "toy_choice": (CHOICE, _choice, 42.0)}


@pytest.mark.parametrize(("task", "framework"), list(itertools.product(ADDITIONS, ("pytorch", "tensorflow"))))
def test_a_problem_in_a_file_of_its_own_is_learned_saved_and_used(task, framework, model, tmp_path, capsys):
    code, line, chance = ADDITIONS[task]
    draw = random.Random(0)
    files = [_write(tmp_path / name, [line(draw, i) for i in range(n)]) for name, n in (("train", 128), ("dev", 32))]
    run = tmp_path / "run"
    with added_tasks(tmp_path / "tasks", **{task: code}):
        status = main([
            "train", "--task", task, "--framework", framework, "--config_name", str(model),
            "--train_file", str(files[0]), "--validation_file", str(files[1]), "--output_dir", str(run),
            "--max_seq_length", "32", "--per_device_train_batch_size", "16", "--gradient_accumulation_steps", "2",
            "--num_train_epochs", "12", "--eval_epochs", "12", "--learning_rate", "1e-2", "--seeds", "1",
            "--feature_cache_dir", str(tmp_path / "cache"),
        ])  # fmt: skip
        assert status == 0
        record = json.loads((run / "seed_1" / "record.json").read_text(encoding="utf-8"))
        assert record["status"] == "finished"
        # Far above chance: the rule is to be seen in every line.
        assert record["scores"]["dev"]["accuracy"] > max(90.0, 2 * chance)
        table = (run / "leaderboard.md").read_text(encoding="utf-8")
        assert f"{record['scores']['dev']['accuracy']:.3f}" in table
        # What was saved answers as what was trained.
        checkpoint = run / "seed_1" / "checkpoint-best"
        answers = tmp_path / "answers"
        assert main([
            "predict", "--task", task, "--framework", framework, "--model_name_or_path", str(checkpoint),
            "--test_file", str(files[1]), "--output_dir", str(answers), "--feature_cache_dir", "None",
        ]) == 0  # fmt: skip
    capsys.readouterr()
    given, expected = answers / "predictions.json", run / "seed_1" / "predictions_dev.json"
    assert json.loads(given.read_text(encoding="utf-8")) == json.loads(expected.read_text(encoding="utf-8"))
