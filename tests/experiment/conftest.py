"""A corpus of hand-written questions, a model of a few thousand weights, and a way to type commands."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from experiment.cli import main

ROOT = Path(__file__).resolve().parents[2]
_PARAGRAPHS = [
    ("小猫住在北京。小狗住在上海。", [("小猫住在哪里？", "北京"), ("小狗住在哪里？", "上海")]),
    ("张三喜欢苹果，李四喜欢香蕉。", [("张三喜欢什么？", "苹果"), ("李四喜欢什么？", "香蕉")]),
    ("王五有三本书，赵六有九支笔。", [("王五有几本书？", "三本"), ("赵六有几支笔？", "九支")]),
]


@dataclass(frozen=True)
class Corpus:
    """Paths of a tiny data set and model."""

    data: Path
    model: Path


def write_corpus(directory: Path) -> Corpus:
    articles = []
    for i, (context, questions) in enumerate(_PARAGRAPHS):
        qas = [
            {"id": f"T_{i}_Q_{j}", "question": q, "answers": [{"text": a, "answer_start": context.index(a)}]}
            for j, (q, a) in enumerate(questions)
        ]
        articles.append(
            {"title": f"t{i}", "id": f"T_{i}", "paragraphs": [{"id": f"T_{i}", "context": context, "qas": qas}]}
        )
    data, model = directory / "data.json", directory / "model"
    data.write_text(json.dumps({"version": "v1.0", "data": articles}, ensure_ascii=False), encoding="utf-8")
    model.mkdir()
    characters = sorted(
        {c for context, questions in _PARAGRAPHS for text in (context, *sum(questions, ())) for c in text}
    )
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters]
    (model / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    config = {
        "model_type": "bert",
        "vocab_size": len(vocabulary),
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 64,
    }
    (model / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return Corpus(data, model)


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return write_corpus(tmp_path)


def train_flags(corpus: Corpus, output: Path, *more: str) -> list[str]:
    return [
        "train", "--task", "cmrc2018", "--config_name", str(corpus.model), "--train_file", str(corpus.data),
        "--validation_file", str(corpus.data), "--output_dir", str(output), "--max_seq_length", "64",
        "--per_device_train_batch_size", "2", "--num_train_epochs", "2", "--learning_rate", "1e-3",
        "--feature_cache_dir", str(corpus.data.parent / "cache"), "--seeds", "1", "2", *more,
    ]  # fmt: skip


@pytest.fixture
def flags():
    return train_flags


@pytest.fixture
def trained(corpus, flags, tmp_path):
    assert main(flags(corpus, tmp_path / "run", "--seeds", "1", "2")) == 0
    return tmp_path / "run"


@pytest.fixture
def interrupt(corpus, flags, tmp_path, monkeypatch):
    """Train the only seed of a run, with more flags, and interrupt it after so many steps; returns the directory."""
    import pytorch_modeling

    step = pytorch_modeling.Trainer.step

    def after(most, *more):
        n_steps = []

        def dying(self, batches):
            step(self, batches)
            n_steps.append(1)
            if len(n_steps) == most:
                signal.raise_signal(signal.SIGTERM)

        with monkeypatch.context() as patch:
            patch.setattr(pytorch_modeling.Trainer, "step", dying)
            assert main(flags(corpus, tmp_path / "run", "--seeds", "1", *more)) == 130
        return tmp_path / "run"

    return after


@pytest.fixture
def interrupted(interrupt):
    """A run whose only seed has been interrupted after its third step."""
    return interrupt(3)


@pytest.fixture
def run():
    """Run the program in a process of its own."""

    def call(*arguments: object, **options) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / "run_mrc.py"), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=600, **options)

    return call
