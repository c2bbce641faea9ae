"""Fine-tuned models of a few thousand random weights: their answers make no sense, and are always the same."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from experiment.inputs.settings import FILE_NAME, Settings
from experiment.training.record import Record, seed_directory
from preprocess.base.files import write_json
from preprocess.tokenizers.base import load_tokenizer
from pretrained_configs.config import ModelConfig
from tasks.core.discovery import get_task

CORPUS = Path(__file__).resolve().parents[2] / "examples/corpus"
OPTIONS = {
    "max_seq_length": 64,
    "doc_stride": 24,
    "doc_overlap": None,
    "max_query_length": 20,
    "n_best_size": 20,
    "max_answer_length": 6,
    "null_score_diff_threshold": 0.0,
}


def write_model(directory: Path, task_name: str = "cmrc2018", seed: int = 3, **options) -> Path:
    """Write a checkpoint that answers for a task.

    Args:
        directory: of the checkpoint; made.
        task_name: of the task.
        seed: of the weights.
        **options: of windows and decoding, by the names of their flags.
    """
    from pytorch_modeling import build_model, save_weights

    directory.mkdir(parents=True)
    task = get_task(task_name)
    tokenizer = load_tokenizer(CORPUS / "vocab.txt")
    tokenizer.save(directory)
    config = ModelConfig(tokenizer.vocab_size, 16, 1, 2, 32, max_position_embeddings=128, initializer_range=0.5)
    save_weights(build_model(config, task.problem.head, device="cpu", seed=seed), directory)
    facts = {**tokenizer.options, "fingerprint": tokenizer.fingerprint}
    settings = Settings(task.name, task.version, {**OPTIONS, **options}, {}, facts, precision="fp32")
    write_json(directory / FILE_NAME, asdict(settings))
    return directory


def write_finished_run(run: Path, scores: dict[int, float], framework: str = "pytorch") -> Path:
    """Write a run whose seeds have scored so much on dev; the weights of each are of its seed."""
    for seed, f1 in scores.items():
        directory = seed_directory(run, seed)
        write_model(directory / "checkpoint-best", seed=seed)
        record = Record(
            task="cmrc2018", task_version=get_task("cmrc2018").version, model="tiny", seed=seed, status="finished",
            config={"framework": framework}, selection=["f1", "em"], hashes={}, versions={},
            scores={"dev": {"f1": f1, "em": f1}},
        )  # fmt: skip
        record.write(directory)
    return run


def corpus_questions(n: int) -> list[tuple[str, str]]:
    """Return the first questions of the corpus, each with its text, some of which are several windows long."""
    articles = json.loads((CORPUS / "demo_dev.json").read_text(encoding="utf-8"))["data"]
    paragraphs = [paragraph for article in articles for paragraph in article["paragraphs"]]
    return [(qa["question"], p["context"]) for p in paragraphs for qa in p["qas"]][:n]
