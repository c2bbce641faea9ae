"""A tiny model that learns a task from a file to a score, and what holds of every such run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from experiment import Reader
from experiment import evaluate as score_of
from experiment.cli import main

MODEL = {
    "model_type": "bert",
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 32,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}


def write_model(directory: Path, vocabulary: list[str]) -> Path:
    """Write a configuration and a vocabulary; returns the directory."""
    (directory / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    config = {**MODEL, "vocab_size": len(vocabulary)}
    (directory / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return directory


def train(task: str, framework: str, model: Path, directory: Path, **options: object) -> None:
    """Train on "train.json" and "dev.json" of a directory, into its "run"."""
    flags = {
        **{"task": task, "framework": framework, "config_name": model},
        **{"train_file": directory / "train.json", "validation_file": directory / "dev.json"},
        **{"output_dir": directory / "run", "doc_stride": 8, "max_query_length": 8, "learning_rate": 1e-2},
        **{"seeds": 1, "feature_cache_dir": None, **options},
    }
    assert main(["train", *(word for name, value in flags.items() for word in (f"--{name}", str(value)))]) == 0


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def check_learned(directory: Path, least: Mapping[str, float]) -> None:
    """The scores are as high as they have to be, and the table shows those that select."""
    record = read_json(directory / "run" / "seed_1" / "record.json")
    assert record["status"] == "finished"
    scores = record["scores"]["dev"]
    assert all(scores[metric] >= value for metric, value in least.items()), scores
    table = (directory / "run" / "leaderboard.md").read_text(encoding="utf-8")
    assert all(f"{scores[metric]:.3f}" in table for metric in record["selection"])


def check_answers_again(task: str, framework: str, directory: Path, output: Path, files: Iterable[str]) -> None:
    """The saved checkpoint answers as the trained model, and its files score as the Record says, from Python, too."""
    dev, seed = directory / "dev.json", directory / "run" / "seed_1"
    assert main([
        "predict", "--task", task, "--framework", framework, "--model_name_or_path", str(seed / "checkpoint-best"),
        "--test_file", str(dev), "--output_dir", str(output), "--feature_cache_dir", "None",
    ]) == 0  # fmt: skip
    assert read_json(output / "predictions.json") == read_json(seed / "predictions_dev.json")
    expected = pytest.approx(read_json(seed / "record.json")["scores"]["dev"])
    for name in files:
        evaluate = ["evaluate", "--task", task, "--data_file", str(dev), "--predictions", str(output / name)]
        assert main([*evaluate, "--output", str(output / "scores.json")]) == 0
        assert read_json(output / "scores.json")["values"] == expected
        assert score_of(task, dev, output / name).values == expected
    with Reader.load(directory / "run") as reader:
        assert score_of(task, dev, reader).values == expected
