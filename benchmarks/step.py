"""Training steps, against transformers' Trainer, a plain PyTorch loop and Keras' fit.

A BERT of base width with 4 layers, dropout 0.1, AdamW, 8 windows of real CMRC2018 text of at most 512 tokens a step.
Every side lives in a process of its own and takes its steps when told to, so that all are measured in turn within one
run and none while another computes; the median of all rounds is compared. A time runs from the windows' arrays to the
updated weights: collation, forward, backward, clipping, optimizer.

* pytorch, tensorflow: this toolkit in bfloat16, every window padded to 512. pytorch_grouped, tensorflow_grouped: the
  same windows, like lengths together, padded to the next multiple of 32.
* trainer, trainer_fp32: transformers' Trainer on the windows padded to 512, in bfloat16 and in its default float32.
* plain: transformers' model with scaled_dot_product_attention under bfloat16 autocast, in a loop of five lines.
* keras_hub: `Model.fit` in mixed_bfloat16 of keras-hub's BERT backbone with a span head, where it is installed.

Needs MRC_DATA_DIR (CMRC2018 dev and the Chinese BERT vocabulary). `step.py pytorch trainer …` measures those sides
alone. The last line is one JSON object.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from preprocess.base.spec import TrainerSpec
from preprocess.batch import collate  # noqa: E402
from preprocess.readers.mrc import read_examples  # noqa: E402
from preprocess.tokenizers.base import load_tokenizer  # noqa: E402
from preprocess.types import Batch, FeatureSet  # noqa: E402
from pretrained_configs.config import ModelConfig  # noqa: E402
from tasks.problems.span import SpanProblem  # noqa: E402

LENGTH, BATCH, N_LAYERS, VOCABULARY = 512, 8, 4, 21128
#: Windows of a round's grouped steps; all other sides' steps cost the same whatever the windows.
N_WINDOWS = 64
ROUNDS = 5
LEARNING_RATE = 3e-5
#: (side, side) -> how many times as fast the first is to be.
BARS = {
    ("pytorch", "trainer"): 2.0,
    ("pytorch_grouped", "trainer"): 2.3,
    ("pytorch_grouped", "trainer_fp32"): 4.0,
    ("tensorflow", "plain"): 0.85,
    ("tensorflow", "keras_hub"): 1.0,
}
CONFIG = ModelConfig(VOCABULARY, 768, N_LAYERS, 12, 3072)


def windows() -> FeatureSet:
    """Cut the first windows of CMRC2018 dev, in a random order; each stands for its file's mixture of lengths."""
    data = Path(os.environ["MRC_DATA_DIR"])
    examples, _ = read_examples(data / "cmrc2018" / "cmrc2018_dev.json")
    examples = [examples[i] for i in np.random.default_rng(0).permutation(len(examples))[: N_WINDOWS * 2]]
    tokenizer = load_tokenizer(data / "vocab" / "bert-base-chinese-vocab.txt", True)
    targets = [example.answers[0] for example in examples]
    return SpanProblem().encode(examples, targets, tokenizer, max_seq_length=LENGTH, doc_stride=128)


def batches(features: FeatureSet, grouped: bool) -> Iterator[Batch]:
    """Yield the same windows for ever, all padded to 512 or like lengths together."""
    rows = np.arange(N_WINDOWS)
    if grouped:
        rows = rows[np.argsort(features.lengths[rows], kind="stable")]
    while True:
        for chosen in rows.reshape(-1, BATCH):
            yield collate(features, chosen, pad_to_multiple_of=32 if grouped else LENGTH)


def ours(package: str, grouped: bool) -> Callable[[], None]:
    from importlib import import_module

    backend = import_module(package)
    model = backend.build_model(CONFIG, SpanProblem.head, device="cpu", seed=1)
    trainer = backend.Trainer(
        model,
        TrainerSpec(
            n_steps=1000,
            learning_rate=LEARNING_RATE,
            warmup_ratio=0.1,
            weight_decay=0.01,
            max_grad_norm=1.0,
            adam_beta1=0.9,
            adam_beta2=0.999,
            adam_epsilon=1e-8,
            precision="bf16",
        ),
    )
    source = batches(windows(), grouped)

    def step() -> None:
        trainer.step([next(source)])
        trainer.metrics()  # waits for the device

    return step


def bert_for_question_answering() -> Any:
    from transformers import BertConfig, BertForQuestionAnswering

    # Its attention is scaled_dot_product_attention by default.
    return BertForQuestionAnswering(BertConfig(vocab_size=VOCABULARY, num_hidden_layers=N_LAYERS))


def inputs(batch: Batch) -> dict[str, Any]:
    import torch

    columns = {
        **batch.inputs,
        **{f"{name}_positions": target for name, target in batch.targets.items()},
    }
    return {name: torch.from_numpy(column.astype(np.int64)) for name, column in columns.items()}


def plain() -> Callable[[], None]:
    import torch

    model = bert_for_question_answering().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, fused=True)
    source = batches(windows(), grouped=False)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(**inputs(next(source))).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def serve_trainer(precision: str) -> None:
    """Let transformers' Trainer take its steps when told to: it owns the loop, so it waits at its callbacks."""
    import tempfile

    from transformers import Trainer, TrainerCallback, TrainingArguments

    class Wait(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            wait()
            self.started = time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            report([time.perf_counter() - self.started])

    features = windows()
    rows = [inputs(collate(features, [i], pad_to_multiple_of=LENGTH)) for i in range(N_WINDOWS)]
    with tempfile.TemporaryDirectory() as directory:
        arguments = TrainingArguments(
            directory,
            per_device_train_batch_size=BATCH,
            learning_rate=LEARNING_RATE,
            bf16=precision == "bf16",
            use_cpu=True,
            max_steps=1000,
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
        )
        data = [{name: column[0] for name, column in row.items()} for row in rows]
        Trainer(bert_for_question_answering(), arguments, train_dataset=data, callbacks=[Wait()]).train()


def keras_hub() -> Callable[[], None]:
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    import keras
    from keras_hub.models import BertBackbone

    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    backbone = BertBackbone(
        vocabulary_size=VOCABULARY, num_layers=N_LAYERS, num_heads=12, hidden_dim=768, intermediate_dim=3072
    )
    logits = keras.layers.Dense(2, dtype="float32")(backbone.output["sequence_output"])
    start, end = (keras.layers.Reshape((-1,), name=name)(logits[..., i]) for i, name in enumerate(("start", "end")))
    model = keras.Model(backbone.inputs, {"start": start, "end": end})
    optimizer = keras.optimizers.AdamW(LEARNING_RATE, weight_decay=0.01, global_clipnorm=1.0)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, {"start": loss, "end": loss}, jit_compile=False)
    source = batches(windows(), grouped=False)

    def step() -> None:
        batch = next(source)
        x = {
            "token_ids": batch.inputs["input_ids"],
            "segment_ids": batch.inputs["token_type_ids"],
            "padding_mask": batch.inputs["attention_mask"],
        }
        y = dict(batch.targets)
        model.fit(x, y, batch_size=BATCH, verbose=0)

    return step


STEPS: dict[str, Callable[[], Callable[[], None]]] = {
    "pytorch": lambda: ours("pytorch_modeling", False),
    "pytorch_grouped": lambda: ours("pytorch_modeling", True),
    "tensorflow": lambda: ours("tf_modeling", False),
    "tensorflow_grouped": lambda: ours("tf_modeling", True),
    "plain": plain,
    "keras_hub": keras_hub,
}
TRAINERS = {"trainer": "bf16", "trainer_fp32": "fp32"}


def wait() -> None:
    """Wait until the parent asks for steps; end with it."""
    if not sys.stdin.readline():
        os._exit(0)


def report(seconds: list[float]) -> None:
    print(json.dumps(seconds), flush=True)


def serve(side: str) -> None:
    """Take one round's steps for each line on stdin and print their seconds."""
    if side in TRAINERS:
        serve_trainer(TRAINERS[side])
        return
    step = STEPS[side]()
    n_steps = N_WINDOWS // BATCH if side.endswith("grouped") else 1
    while True:
        wait()
        seconds = []
        for _ in range(n_steps):
            started = time.perf_counter()
            step()
            seconds.append(time.perf_counter() - started)
        report(seconds)


class Side:
    """A process that takes steps."""

    def __init__(self, name: str) -> None:
        """Start it, and let it take a round that is not counted: it traces, allocates and fills caches."""
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--serve", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.means: list[float] = []
        self.round()
        self.round()
        self.means.clear()

    def round(self) -> None:
        """Take a round's steps and keep their mean."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.means.append(statistics.mean(_seconds(self.process.stdout)))

    def median(self) -> float:
        """Return the seconds of a step."""
        return statistics.median(self.means)


def _seconds(lines: IO[str] | None) -> list[float]:
    assert lines is not None
    for line in lines:
        if line.startswith("["):
            return list(json.loads(line))
    raise SystemExit("a side ended without an answer; run `step.py --serve SIDE` to see why")


def main() -> int:
    if sys.argv[1:2] == ["--serve"]:
        serve(sys.argv[2])
        return 0
    from importlib.util import find_spec

    wanted = sys.argv[1:] or [*STEPS, *TRAINERS]
    if "keras_hub" in wanted and find_spec("keras_hub") is None:
        print("keras_hub is not installed: its bar is not measured")
        wanted.remove("keras_hub")
    sides = {name: Side(name) for name in wanted}
    for _ in range(ROUNDS):
        for side in sides.values():
            side.round()
    median = {name: side.median() for name, side in sides.items()}
    for name, seconds in median.items():
        print(f"{name:<20}{seconds:7.3f} s a step   {BATCH / seconds:6.2f} windows/s")
    ratios = {
        f"{fast} / {slow}": (median[slow] / median[fast], bar)
        for (fast, slow), bar in BARS.items()
        if fast in median and slow in median
    }
    for name, (ratio, bar) in ratios.items():
        print(f"{name:<32}{ratio:5.2f} x   (bar {bar})")
    ok = all(ratio >= bar for ratio, bar in ratios.values())
    print(json.dumps({"name": "step", "ratios": {n: round(r, 2) for n, (r, _) in ratios.items()}, "ok": ok}))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
