"""Answering questions on a CPU: what computes how many a second, and how long a single one waits.

Windows of CMRC2018's dev set (MRC_DATA_DIR), a BERT of base size with random weights (`--layers`, `--hidden` for
others). The recipe is transformers' `AutoModelForQuestionAnswering` with its fast tokenizer, windows padded to the
longest that is allowed, batches in the order of the file. Ours are PyTorch, ONNX by onnxruntime and OpenVINO, and
weights of 8 bits by OpenVINO; with `--bf16`, where the processor has it, three of them in bfloat16, too. Each side is
a process of its own that answers from text to answer; rounds of all alternate, so that other loads of the machine
meet all; the median of processor time counts. Then each answers single questions. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _recipe import decode_spans  # noqa: E402

from experiment.backend import load_backend  # noqa: E402
from preprocess.tokenizers.base import load_tokenizer  # noqa: E402
from preprocess.types import Example  # noqa: E402
from pretrained_configs.config import ModelConfig  # noqa: E402
from tasks.core.discovery import get_task  # noqa: E402

ROUNDS = 3
TASK, WINDOW, OVERLAP, BATCH = "cmrc2018", 384, 128, 8
#: Side -> how many times as fast as the recipe it has to be: PyTorch 1.5 times, an exported graph 1.3 times as fast
#: as such a PyTorch, and with weights of 8 bits 2.5 times. A PyTorch that is faster than that lowers no other bar.
BARS = {"pytorch": 1.5, "openvino": 1.5 * 1.3, "int8": 1.5 * 2.5}
SIDES = ("recipe", "pytorch", "onnx", "openvino", "int8")
IN_BF16 = ("pytorch-bf16", "openvino-bf16", "int8-bf16")


def write_models(directory: Path, layers: int, hidden: int) -> None:
    """Write a checkpoint, and the graphs that are made of it."""
    from experiment.cli import main as run
    from experiment.export.quantization import quantize_graph

    data, model = Path(os.environ["MRC_DATA_DIR"]), directory / "pytorch"
    model.mkdir()
    tokenizer = load_tokenizer(data / "vocab" / "bert-base-chinese-vocab.txt")
    tokenizer.save(model)
    config = ModelConfig(tokenizer.vocab_size, hidden, layers, hidden // 64, 4 * hidden)
    backend = load_backend("pytorch")
    backend.save_weights(backend.build_model(config, get_task(TASK).problem.head, device="cpu", seed=0), model)
    whole, small = directory / "onnx", directory / "int8"
    if run(["export", "--model_name_or_path", str(model), "--format", "onnx", "--output", str(whole)]):
        raise SystemExit("the model can't be exported")
    small.mkdir()
    for path in whole.iterdir():
        (small / path.name).write_bytes(path.read_bytes())
    quantize_graph(whole / "model.onnx", small / "model.onnx", "openvino")


def recipe(model: Path) -> Callable[[list[Example]], dict[str, str]]:
    """Return what answers as the recipe does."""
    import torch
    from transformers import AutoModelForQuestionAnswering, AutoTokenizer

    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(model)
    network = AutoModelForQuestionAnswering.from_pretrained(model, dtype=torch.float32).eval()

    def answer(examples: list[Example]) -> dict[str, str]:
        encoded = tokenizer(
            [example.question for example in examples],
            [example.context for example in examples],
            truncation="only_second",
            max_length=WINDOW,
            stride=OVERLAP,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            padding="max_length",
        )
        sources, offsets = encoded.pop("overflow_to_sample_mapping"), encoded.pop("offset_mapping")
        everywhere = {str(place): True for place in range(WINDOW)}
        windows: dict[str, list[dict[str, Any]]] = {}
        for index, source in enumerate(sources):
            of_context = [s == 1 for s in encoded.sequence_ids(index)]
            places = [place if own else None for place, own in zip(offsets[index], of_context, strict=True)]
            window = {"index": index, "offsets": places, "max_context": everywhere}
            windows.setdefault(examples[source].id, []).append(window)
        names = [name for name in ("input_ids", "attention_mask", "token_type_ids") if name in encoded]
        tensors = {name: torch.tensor(encoded[name]) for name in names}
        starts, ends = [], []
        with torch.no_grad():
            for first in range(0, len(sources), BATCH):
                output = network(**{name: tensor[first : first + BATCH] for name, tensor in tensors.items()})
                starts.append(output.start_logits.numpy())
                ends.append(output.end_logits.numpy())
        with tempfile.TemporaryDirectory() as folder:
            return decode_spans(examples, windows, np.concatenate(starts), np.concatenate(ends), Path(folder))

    return answer


def ours(model: Path, framework: str | None, precision: str = "fp32") -> Callable[[list[Example]], dict[str, str]]:
    """Return what answers as `predict` does."""
    from experiment.reading.reader import Reader

    options: dict[str, Any] = {"max_seq_length": WINDOW, "doc_overlap": OVERLAP, "per_device_eval_batch_size": BATCH}
    options |= {"framework": framework, "precision": precision, "device": "cpu", "max_answer_length": 50}
    reader = Reader.load(model, task=TASK, **options)
    return lambda examples: {id: each.text for id, each in reader.predict(examples).items()}


def answering(side: str, directory: Path) -> Callable[[list[Example]], dict[str, str]]:
    if side == "recipe":
        return recipe(directory / "pytorch")
    kind, _, precision = side.partition("-")
    framework = {"int8": "openvino"}.get(kind, kind)
    return ours(directory / {"openvino": "onnx"}.get(kind, kind), framework, precision or "fp32")


def serve_side(side: str, directory: Path, n_questions: int, n_single: int) -> None:
    """Answer as often as a line is read: "all", or "single"; say how long it took, in JSON."""
    examples = read_questions(n_questions)
    answer = answering(side, directory)
    answer(examples[:2])
    for line in sys.stdin:
        chosen = [examples] if line.strip() == "all" else [[each] for each in examples[:n_single]]
        times = []
        for each in chosen:
            began = time.process_time() if line.strip() == "all" else time.perf_counter()
            answers = answer(each)
            ended = time.process_time() if line.strip() == "all" else time.perf_counter()
            assert len(answers) == len(each), "each question has an answer"
            times.append(ended - began)
        print(json.dumps(times), flush=True)


def read_questions(n: int) -> list[Example]:
    path = Path(os.environ["MRC_DATA_DIR"]) / "cmrc2018" / "cmrc2018_dev.json"
    return get_task(TASK).read(path)[0][:n]


def measure(
    sides: tuple[str, ...], directory: Path, n_questions: int, n_single: int
) -> dict[str, dict[str, list[float]]]:
    """Return the seconds of each side: of all questions, a number for each round, and of single ones."""
    processes = {}
    for side in sides:
        command = [sys.executable, __file__, "--side", side, "--directory", str(directory)]
        command += ["--questions", str(n_questions), "--single", str(n_single)]
        threads = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
        processes[side] = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **threads}
        )

    def ask(side: str, what: str) -> list[float]:
        process = processes[side]
        assert process.stdin is not None and process.stdout is not None, "both are pipes"
        process.stdin.write(f"{what}\n")
        process.stdin.flush()
        line = process.stdout.readline()
        if not line:
            raise SystemExit(f"{side} has ended with status {process.wait()}")
        times: list[float] = json.loads(line)
        return times

    found: dict[str, dict[str, list[float]]] = {side: {"all": [], "single": []} for side in sides}
    try:
        for _ in range(ROUNDS):
            for side in sides:
                found[side]["all"] += ask(side, "all")
        for side in sides:
            found[side]["single"] = ask(side, "single")
    finally:
        for process in processes.values():
            process.communicate()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description="Answering questions on a CPU")
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--hidden", type=int, default=768)
    parser.add_argument("--questions", type=int, default=64)
    parser.add_argument("--single", type=int, default=20)
    parser.add_argument("--bf16", action="store_true", help="measure what computes in bfloat16, too")
    parser.add_argument("--side", choices=SIDES + IN_BF16, help=argparse.SUPPRESS)
    parser.add_argument("--directory", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if "MRC_DATA_DIR" not in os.environ:
        print("set MRC_DATA_DIR to the directory that holds cmrc2018/ and vocab/", file=sys.stderr)
        return 2
    if arguments.side:
        serve_side(arguments.side, arguments.directory, arguments.questions, arguments.single)
        return 0
    sides = SIDES + IN_BF16 if arguments.bf16 else SIDES
    with tempfile.TemporaryDirectory() as directory:
        write_models(Path(directory), arguments.layers, arguments.hidden)
        found = measure(sides, Path(directory), arguments.questions, arguments.single)
    seconds = {side: statistics.median(times["all"]) for side, times in found.items()}
    latency = {}
    for side, times in found.items():
        p50, p95 = (round(1000 * float(np.percentile(times["single"], share)), 1) for share in (50, 95))
        latency[side] = {"p50_ms": p50, "p95_ms": p95}
        print(f"{side:<14}{arguments.questions / seconds[side]:8.2f} questions/s; one alone {p50} ms, p95 {p95} ms")
    ratios = {side: round(seconds["recipe"] / seconds[side], 2) for side in sides}
    to_pytorch = {side: round(seconds["pytorch"] / seconds[side], 2) for side in sides}
    ok = all(ratios[side] >= bar for side, bar in BARS.items())
    found_in_all = {"ratios": ratios, "to_pytorch": to_pytorch, "bars": BARS, "latency": latency, "ok": ok}
    print(json.dumps({"name": "inference"} | found_in_all))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
