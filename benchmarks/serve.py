"""Answering over HTTP, against answering the same questions offline: throughput, latency, and memory that stays.

A BERT of 4 layers of 256 with random weights (`--layers`, `--hidden`, or `--model` for a fine-tuned one) answers
questions about texts of several windows of 384 tokens. Offline: `Reader.answer_many`, 64 at a time, no more than 512:
a rate needs no more. Served: a process of its own, 32 clients, each with one connection; the same questions, and so
many that all rounds together make `--requests`. Rounds of both alternate, so that other loads of the machine meet
both; the median counts. Memory is the server's after a third of the requests, and at the end. `--requests 10000` is
the long form. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import http.client
import json
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from experiment.backend import load_backend  # noqa: E402
from experiment.reading.reader import Reader  # noqa: E402
from preprocess.tokenizers.base import load_tokenizer  # noqa: E402
from pretrained_configs.config import ModelConfig  # noqa: E402
from tasks.core.discovery import get_task  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
CORPUS = ROOT / "examples" / "corpus"
TASK = "cmrc2018"
CLIENTS = 32
ROUNDS = 3
#: Questions of a round that are answered offline, too, at most.
OFFLINE = 512
WINDOW = 384
#: Served, so large a part of the offline rate is to be left.
RATE_BAR = 0.8
#: Memory at the end may be so much larger than after a third of the requests.
MEMORY_BAR = 1.05


def write_model(directory: Path, layers: int, hidden: int) -> None:
    """Write a model with random weights, and the vocabulary of the corpus."""
    backend = load_backend("pytorch")
    tokenizer = load_tokenizer(CORPUS / "vocab.txt")
    tokenizer.save(directory)
    config = ModelConfig(tokenizer.vocab_size, hidden, layers, hidden // 64, 4 * hidden)
    model = backend.build_model(config, get_task(TASK).problem.head, device="cpu", seed=0)
    backend.save_weights(model, directory)


def questions(n: int) -> list[tuple[str, str]]:
    """Return questions, each with a text of several articles of the corpus."""
    articles = json.loads((CORPUS / "demo_dev.json").read_text(encoding="utf-8"))["data"]
    paragraphs = [paragraph for article in articles for paragraph in article["paragraphs"]]
    texts = ["".join(p["context"] for p in paragraphs[i : i + 6 + i % 18]) for i in range(len(paragraphs) - 24)]
    asked = [qa["question"] for paragraph in paragraphs for qa in paragraph["qas"]]
    return [(asked[i % len(asked)], texts[i % len(texts)]) for i in range(n)]


@contextmanager
def served(model: str) -> Iterator[tuple[int, int]]:
    """Yield port and process of a server."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, str(ROOT / "run_mrc.py"), "serve", "--model_name_or_path", model, "--task", TASK]
    command += ["--port", str(port), "--max_seq_length", str(WINDOW), "--no_access_log"]
    command += ["--answer_timeout", "600"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=ROOT)
    try:
        while process.poll() is None:
            try:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
                connection.request("GET", "/readyz")
                if connection.getresponse().status == 200:
                    break
            except OSError:
                time.sleep(0.2)
        if process.poll() is not None:
            raise SystemExit(f"the server has ended with status {process.returncode}")
        yield port, process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def resident(pid: int) -> int:
    """Return the memory of a process, in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))


def ask_all(port: int, asked: list[tuple[str, str]]) -> tuple[float, list[float], list[str]]:
    """Let the clients ask; returns the seconds of all, those of each request, and the answers."""
    own = threading.local()

    def ask(pair: tuple[str, str]) -> tuple[float, str]:
        if not hasattr(own, "connection"):
            own.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
        body = json.dumps({"question": pair[0], "context": pair[1]}).encode()
        began = time.perf_counter()
        own.connection.request("POST", "/v1/answer", body, {"Content-Type": "application/json"})
        reply = own.connection.getresponse()
        content = reply.read()
        seconds = time.perf_counter() - began
        if reply.status != 200:
            raise SystemExit(f"status {reply.status}: {content[:200]!r}")
        return seconds, json.loads(content)["answers"][0]["text"]

    began = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as clients:
        replies = list(clients.map(ask, asked))
    return time.perf_counter() - began, [seconds for seconds, _ in replies], [text for _, text in replies]


def main() -> int:
    parser = argparse.ArgumentParser(description="Answering over HTTP, against answering offline")
    parser.add_argument("--model", help="fine-tuned checkpoint or run (default: random weights)")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--requests", type=int, default=384)
    arguments = parser.parse_args()
    asked = questions(max(CLIENTS, -(-arguments.requests // ROUNDS)))
    alike = asked[:OFFLINE]
    offline: list[float] = []
    rates: list[float] = []
    latencies: list[float] = []
    memory: list[int] = []
    n_different = 0
    with tempfile.TemporaryDirectory() as directory:
        if arguments.model is None:
            write_model(Path(directory), arguments.layers, arguments.hidden)
        model = arguments.model or directory
        with Reader.load(model, task=TASK, max_seq_length=WINDOW) as reader, served(model) as (port, pid):
            reader.answer_many(asked[:4])
            ask_all(port, asked[:CLIENTS])
            for _ in range(ROUNDS):
                began = time.perf_counter()
                parts = [reader.answer_many(alike[first : first + 64]) for first in range(0, len(alike), 64)]
                offline.append(len(alike) / (time.perf_counter() - began))
                seconds, each, texts = ask_all(port, asked)
                own = [result.text for part in parts for result in part]
                n_different += sum(a != b for a, b in zip(texts[: len(own)], own, strict=True))
                rates.append(len(asked) / seconds)
                latencies += each
                memory.append(resident(pid))
    ratio = statistics.median(rates) / statistics.median(offline)
    growth = memory[-1] / memory[0]
    p50, p95 = (statistics.quantiles(latencies, n=100)[place] for place in (49, 94))
    print(f"offline   {statistics.median(offline):7.1f} questions/s")
    print(f"served    {statistics.median(rates):7.1f} questions/s   {ratio:.2f} of offline, {CLIENTS} clients")
    print(f"a request {1e3 * p50:7.0f} ms (p50)   {1e3 * p95:.0f} ms (p95)")
    mib = memory[-1] / 2**20
    print(f"memory    {mib:7.0f} MiB after {len(latencies)} requests, {growth:.3f} x that after a third")
    ok = ratio >= RATE_BAR and growth <= MEMORY_BAR and n_different == 0
    result: dict[str, object] = {"name": "serve", "requests": len(latencies), "memory_mib": round(mib)}
    result |= {"offline": round(statistics.median(offline), 2), "served": round(statistics.median(rates), 2)}
    result |= {"ratio": round(ratio, 2), "p50_ms": round(1e3 * p50), "p95_ms": round(1e3 * p95)}
    result |= {"growth": round(growth, 3), "n_different": n_different, "bars": [RATE_BAR, MEMORY_BAR], "ok": ok}
    print(json.dumps(result))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
