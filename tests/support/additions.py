"""Files as somebody adds them, each a problem with a task; put where tasks are looked for, they are all it takes."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tasks

_PAGE = (Path(__file__).resolve().parents[2] / "docs" / "adding-a-problem.md").read_text(encoding="utf-8")
#: What every task has, and names in a text: each token is one or not. These are the files of the page on problems.
_READER, _NAMES = re.findall(r"```python\n(.*?)```", _PAGE, re.S)
TAGGING = _READER + _NAMES

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
