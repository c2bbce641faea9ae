"""Files as somebody adds them, each a problem with a task; put where tasks are looked for, they are all it takes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tasks

_READER = """
import json
from dataclasses import dataclass

import numpy as np

from preprocess.readers.report import DataReport
from preprocess.types import NO_TARGET, Answer, Example, HeadSpec, Output
from preprocess.windows import cut_windows
from tasks.core.prediction import Prediction, Score
from tasks.core.task import PUBLISHED_RECIPE, Task


def read(path):
    lines = [json.loads(line) for line in open(path, encoding="utf-8")]
    examples = [
        Example(
            line["id"], line.get("question", ""), line["text"],
            tuple(Answer(text, start, start + len(text), kind) for text, start, kind in line["answers"]),
            options=tuple(line.get("options", ())),
        )
        for line in lines
    ]
    n = len(examples)
    return examples, DataReport(str(path), n_articles=n, n_contexts=n, n_questions=n, n_kept=n)


def scorer(examples):
    gold = {example.id: " ".join(answer.text for answer in example.answers) for example in examples}

    def score(predictions):
        per_example = {id: {"accuracy": float(predictions.get(id) == text)} for id, text in gold.items()}
        value = 100 * float(np.mean([values["accuracy"] for values in per_example.values()]))
        return Score({"accuracy": value}, per_example, len(gold), len(gold.keys() - predictions.keys()))

    return score


def predictions(texts):
    return {id: Prediction(id, text, -1, -1, "text", 0.0, ()) for id, text in texts.items()}


class Decodes:
    def decode(self, examples, features, outputs, options):
        return predictions(self.best_answers(examples, features, outputs, options))
"""

#: Names in a text: each token is one or not.
TAGGING = (
    _READER
    + """

@dataclass(frozen=True)
class Tagging(Decodes):
    name = "toy tagging"
    head = HeadSpec((Output("tag", reads="token", size=2, loss="tag"),))

    def encode(self, examples, targets, tokenizer, *, transform=None, **windows):
        texts = [""] * len(examples), [example.context for example in examples]
        features = cut_windows(*texts, tokenizer, transform=transform, **windows)
        tags = np.full(len(features.input_ids), NO_TARGET, np.int8)
        for window, place in self._pieces(features):
            spans = targets[features.example_index[window]] or ()
            starts = features.piece_spans[place, 0].tolist()
            inside = [any(a.char_start <= start < a.char_end for a in spans) for start in starts]
            first = features.row_splits[window] + features.doc_offset[window]
            tags[first : first + len(inside)] = inside
        return features.with_targets(self.head, {"tag": tags}, {})

    def best_answers(self, examples, features, outputs, options):
        place_of, found = dict(self._pieces(features)), {example.id: [] for example in examples}
        for batch in outputs:
            for row, window in enumerate(batch.window.tolist()):
                example = examples[features.example_index[window]]
                first = features.doc_offset[window]
                tagged = batch.values["tag"][row].argmax(-1)[first : first + features.doc_length[window]]
                spans = features.piece_spans[place_of[window]][tagged == 1]
                found[example.id] += [example.context[start:end] for start, end in spans]
        return {id: " ".join(texts) for id, texts in found.items()}

    def chance(self, features):
        return float(np.log(2))

    def _pieces(self, features):
        for window in range(len(features)):
            first = features.piece_splits[features.context_index[window]] + features.piece_start[window]
            yield window, slice(int(first), int(first + features.doc_length[window]))


TASK = Task(
    name="toy_tagging", version="1", title="Toy tagging", read=read, problem=Tagging(),
    targets=lambda example: (example.answers,), scorer=scorer, selection=("accuracy",), defaults=PUBLISHED_RECIPE,
)
"""
)

#: A question with options, one of which is right; each is read in a window of its own.
CHOICE = (
    _READER
    + """

@dataclass(frozen=True)
class Choice(Decodes):
    name = "toy choice"
    head = HeadSpec((Output("option", reads="sequence", size=1, loss="choice"),))

    def encode(self, examples, targets, tokenizer, *, transform=None, **windows):
        pairs = [(i, option) for i, example in enumerate(examples) for option in example.options]
        contexts = [examples[i].context for i, _ in pairs]
        features = cut_windows(
            [option for _, option in pairs], contexts, tokenizer,
            example_index=[i for i, _ in pairs], transform=transform, **windows,
        )
        right = np.array([-1 if target is None else target for target in targets])[features.example_index]
        return features.with_targets(self.head, {"option": (features.option_index == right).astype(np.int8)}, {})

    def best_answers(self, examples, features, outputs, options):
        scores = np.zeros(len(features))
        for batch in outputs:
            scores[batch.window] = batch.values["option"]
        best = {}
        for window in np.argsort(scores):
            example = examples[features.example_index[window]]
            best[example.id] = example.options[features.option_index[window]]
        return {example.id: best[example.id] for example in examples}

    def chance(self, features):
        return float(np.log(np.bincount(features.example_index).mean()))


TASK = Task(
    name="toy_choice", version="1", title="Toy choice", read=read, problem=Choice(),
    targets=lambda example: (example.options.index(example.answers[0].text),),
    scorer=scorer, selection=("accuracy",), defaults=PUBLISHED_RECIPE,
)
"""
)


@contextmanager
def added_tasks(directory: Path, **files: str) -> Iterator[None]:
    """Look for tasks in these files, too, by their modules' names."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, code in files.items():
        (directory / f"{name}.py").write_text(code, encoding="utf-8")
    path = list(tasks.__path__)
    tasks.__path__ = [*path, str(directory)]
    try:
        yield
    finally:
        tasks.__path__ = path
        for name in files:
            sys.modules.pop(f"tasks.{name}", None)
            if hasattr(tasks, name):
                delattr(tasks, name)
