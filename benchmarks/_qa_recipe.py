"""One seed from JSON files to a score, as users of transformers' `run_qa.py` get it; in our own writing.

    python benchmarks/_qa_recipe.py OPTIONS    (a JSON object; end_to_end.py and pretrained.py write it)

The questions come flat, one record each, which is what `run_qa.py` reads. They are cut into padded windows by
`datasets.map` with the fast tokenizer, `Trainer` trains and predicts with the default collator, and answers and score
are those of `_recipe.py`. The last line is one JSON object: what came out, and the seconds of each part.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _recipe import decode_spans, nltk_words, score_cmrc  # noqa: E402

from preprocess.types import Answer, Example  # noqa: E402


def tokenise(rows: dict[str, list[Any]], tokenizer: Any, options: dict[str, Any]) -> Any:
    return tokenizer(
        [question.lstrip() for question in rows["question"]],
        rows["context"],
        truncation="only_second",
        max_length=options["max_seq_length"],
        stride=options["overlap"],
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        padding="max_length",
    )


def training_features(rows: dict[str, list[Any]], tokenizer: Any, options: dict[str, Any]) -> Any:
    """Cut questions into windows with labels: the tokens of the answer, or [CLS] where it is not whole."""
    encoded = tokenise(rows, tokenizer, options)
    sources, all_offsets = encoded.pop("overflow_to_sample_mapping"), encoded.pop("offset_mapping")
    encoded["start_positions"], encoded["end_positions"] = [], []
    for index, (source, offsets) in enumerate(zip(sources, all_offsets, strict=True)):
        segments = encoded.sequence_ids(index)
        first, last = segments.index(1), len(segments) - 1 - segments[::-1].index(1)
        char_start = rows["answers"][source]["answer_start"][0]
        char_end = char_start + len(rows["answers"][source]["text"][0])
        start = end = 0
        if offsets[first][0] <= char_start and char_end <= offsets[last][1]:
            start = max(t for t in range(first, last + 1) if offsets[t][0] <= char_start)
            end = min(t for t in range(first, last + 1) if offsets[t][1] >= char_end)
        encoded["start_positions"].append(start)
        encoded["end_positions"].append(end)
    return encoded


def evaluation_features(rows: dict[str, list[Any]], tokenizer: Any, options: dict[str, Any]) -> Any:
    """Cut questions into windows with the characters of each context token, None for the other tokens."""
    encoded = tokenise(rows, tokenizer, options)
    encoded["example_id"] = [rows["id"][source] for source in encoded.pop("overflow_to_sample_mapping")]
    encoded["offset_mapping"] = [
        [offset if segment == 1 else None for offset, segment in zip(offsets, encoded.sequence_ids(i), strict=True)]
        for i, offsets in enumerate(encoded["offset_mapping"])
    ]
    return encoded


def windows_of(features: Any) -> dict[str, list[dict[str, Any]]]:
    """Lay the windows out for `decode_spans`; `run_qa.py` has no flags of largest context."""
    windows: dict[str, list[dict[str, Any]]] = {}
    for index, feature in enumerate(features):
        offsets = feature["offset_mapping"]
        everywhere = dict.fromkeys(map(str, range(len(offsets))), True)
        window = {"index": index, "offsets": offsets, "max_context": everywhere}
        windows.setdefault(feature["example_id"], []).append(window)
    return windows


def main() -> None:
    options = json.loads(sys.argv[1])
    import datasets
    import torch
    from transformers import (
        AutoConfig,
        AutoModelForQuestionAnswering,
        AutoTokenizer,
        Trainer,
        TrainingArguments,
        default_data_collator,
        set_seed,
    )

    marks = [time.perf_counter()]
    output = Path(options["output"])
    files = {"train": options["train_file"], "validation": options["validation_file"]}
    raw = datasets.load_dataset("json", data_files=files, field="data")
    tokenizer = AutoTokenizer.from_pretrained(options["model"], use_fast=True)
    train, dev = (
        raw[split].map(
            features,
            batched=True,
            remove_columns=raw[split].column_names,
            fn_kwargs={"tokenizer": tokenizer, "options": options["windows"]},
        )
        for split, features in (("train", training_features), ("validation", evaluation_features))
    )

    marks.append(time.perf_counter())
    set_seed(options["seed"])
    if options["pretrained"]:
        model = AutoModelForQuestionAnswering.from_pretrained(options["model"], dtype=torch.float32)
    else:
        model = AutoModelForQuestionAnswering.from_config(AutoConfig.from_pretrained(options["model"]))
    arguments = TrainingArguments(
        str(output),
        seed=options["seed"],
        per_device_train_batch_size=options["batch"],
        per_device_eval_batch_size=options["batch"],
        learning_rate=options["learning_rate"],
        num_train_epochs=options["epochs"],
        warmup_steps=options["warmup_ratio"],
        weight_decay=options["weight_decay"],
        bf16=options["precision"] == "bf16",
        use_cpu=True,
        report_to=[],
    )
    trainer = Trainer(model, arguments, default_data_collator, train_dataset=train, processing_class=tokenizer)
    loss = trainer.train().training_loss
    trainer.save_model()

    marks.append(time.perf_counter())
    logits: Any = trainer.predict(dev).predictions
    starts, ends = logits
    examples = [
        Example(row["id"], row["question"], row["context"], tuple(map(Answer, row["answers"]["text"])))
        for row in raw["validation"]
    ]
    answers = decode_spans(examples, windows_of(dev), starts, ends, output)
    scores = score_cmrc(examples, answers, nltk_words())
    marks.append(time.perf_counter())
    between = (after - before for before, after in itertools.pairwise(marks))
    seconds = dict(zip(("encode", "train", "evaluate"), between, strict=True))
    windows = {"train": len(train), "dev": len(dev)}
    print(json.dumps({"windows": windows, "loss": loss, "scores": scores, "seconds": seconds}))


if __name__ == "__main__":
    main()
