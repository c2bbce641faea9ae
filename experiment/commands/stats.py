"""How long the texts of a data file are, and what each window length costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from experiment.inputs.data import first_targets, read_examples
from experiment.inputs.settings import about_tokenizer, read_settings, recall
from experiment.inputs.tokenizer import read_tokenizer
from experiment.io.outputs import check_file
from experiment.io.tables import aligned
from experiment.io.terminal import terminal, warn
from experiment.options.flags import StatsOptions
from experiment.options.joint import task_name
from experiment.options.recipe import filled, stride_of, task_of
from preprocess.base.errors import UsageError
from preprocess.base.files import replacing
from preprocess.batch import collate, eval_batches
from preprocess.template import TEMPLATES, Template
from preprocess.types import Example, FeatureSet
from pretrained_configs.locate import locate
from tasks.core.guessing import share_guessed
from tasks.core.prediction import name_of
from tasks.core.task import Task

_BATCH = 32
#: Counts of the windows that are shown where the problem has them, what they are a share of, and the column's title.
_SHARES = (
    ("context_truncated", "n_examples", "texts truncated"),
    ("target_not_in_first_window", "target_span", "answers beyond window 1"),
    ("target_in_no_window", "target_span", "answers in no window"),
    ("target_widened", "target_span", "answers across pieces"),
)
_PICTURES = (".png", ".svg", ".pdf")


def stats(options: StatsOptions) -> None:
    """Print lengths, and per window length: windows, shares cut, padding saved.

    Raises:
        UsageError, DataError: for options and files that can't be used.
    """
    if options.histogram is not None and options.histogram.suffix not in _PICTURES:
        raise UsageError(f"--histogram {options.histogram}: the name must end in {', '.join(_PICTURES)}")
    check_file("--histogram", options.histogram)
    if options.histogram is not None and find_spec("matplotlib") is None:
        raise UsageError("--histogram needs matplotlib: pip install 'chinese-mrc[report]'")
    place = locate(options.tokenizer_name, weights=False)
    settings = read_settings(place.directory, task_name(options))
    options, notes = recall(settings, options, but=("max_seq_length", "do_lower_case"))
    task = task_of(options)
    loaded = read_tokenizer(place.path, options.do_lower_case)
    warn(notes + about_tokenizer(settings, loaded.tokenizer))
    examples, report = read_examples(task, options.data_file)
    console = terminal()
    console.print("\n".join([loaded.casing, *report.lines()]))
    options = filled(options, task.defaults)
    stride = stride_of(vars(options))
    trained = settings.template if settings is not None else None
    template = Template(**trained) if trained else TEMPLATES[loaded.tokenizer.template or "bert"]
    by_length = {
        length: task.problem.encode(
            examples,
            first_targets(task, examples),
            loaded.tokenizer,
            max_seq_length=length,
            max_query_length=options.max_query_length,
            **{stride.name: stride.tokens},
            template=template,
            transform=task.transform,
        )
        for length in options.max_seq_length
    }
    lengths = _lengths(task, examples, next(iter(by_length.values())))
    of_answers = _answer_table(examples), _option_table(examples)
    tables = [list(table) for table in (_length_table(lengths), _window_table(by_length), *of_answers)]
    for table in filter(None, tables):
        console.print("\n".join(["", *table]))
    if options.histogram is not None:
        _histogram(options.histogram, lengths)
        console.print(f"histogram written to {options.histogram}")


def _lengths(task: Task, examples: Sequence[Example], features: FeatureSet) -> dict[str, NDArray[np.integer]]:
    contexts = {example.context for example in examples}
    questions = examples if "question" in task.inputs else ()
    found = [answer for example in examples for answer in example.answers]
    answers = [len(answer.text) for answer in found if answer.located or answer.kind == "span"]
    return {
        "context, characters": np.array([len(text) for text in contexts]),
        "context, pieces": np.diff(features.piece_splits),
        "question, characters": np.array([len(example.question) for example in questions], dtype=np.int64),
        "answer, characters": np.array(answers, dtype=np.int64),
    }


def _answer_table(examples: Sequence[Example]) -> Iterator[str]:
    """Yield a table of the kinds of answers, or the classes; nothing where all are of one kind."""
    found = Counter(name_of(answer) for example in examples for answer in example.answers)
    if len(found) < 2:
        return
    rows = [(name, f"{n}", f"{n / found.total():.1%}") for name, n in found.most_common()]
    yield from aligned(("answers", "number", "share"), rows, right=("number", "share"))


def _option_table(examples: Sequence[Example]) -> Iterator[str]:
    """Yield a table of what choosing without reading scores; nothing where there are no options."""
    asked = [example for example in examples if example.options and example.answers]
    if not asked:
        return
    drawn = share_guessed(asked)
    assert drawn is not None, "all have options"
    places = (tuple(dict.fromkeys(example.options)).index(example.answers[0].text) for example in asked)
    place, most = Counter(places).most_common(1)[0]
    rows = [
        ("one of the options, drawn", f"{drawn:.1%}"),
        (f"always option {place + 1}", f"{most / len(asked):.1%}"),
    ]
    yield from aligned(("answers without reading", "right"), rows, right=("right",))


def _length_table(lengths: dict[str, NDArray[np.integer]]) -> Iterator[str]:
    numbers = ("number", "mean", "p50", "p90", "max")
    rows = []
    for name, values in lengths.items():
        if len(values):
            p50, p90 = np.percentile(values, [50, 90])
            mean, most = f"{values.mean():.1f}", f"{values.max()}"
            rows.append((name, f"{len(values)}", mean, f"{p50:.0f}", f"{p90:.0f}", most))
    return aligned(("length of", *numbers), rows, right=numbers)


def _window_table(by_length: dict[int, FeatureSet]) -> Iterator[str]:
    known = next(iter(by_length.values())).meta["counts"]
    shares = [share for share in _SHARES if share[0] in known]
    header = (
        "length",
        "windows",
        "per question",
        "contexts cut",
        *(title for _, _, title in shares),
        "padding",
        "in batches",
    )
    rows = []
    for length, features in by_length.items():
        counts = features.meta["counts"]
        n = features.meta["counts"]["n_examples"]
        cut = np.bincount(features.example_index)[features.example_index] > 1
        contexts_cut = len(np.unique(features.context_index[cut])) / len(np.unique(features.context_index))
        tokens = features.lengths.sum()
        batches = eval_batches(features, _BATCH)
        padded = sum(collate(features, rows).inputs["input_ids"].size for rows in batches)
        rows.append(
            (
                f"{length}",
                f"{len(features)}",
                f"{len(features) / n:.3f}",
                f"{contexts_cut:.1%}",
                *(_share(counts[part], counts[whole]) for part, whole, _ in shares),
                f"{1 - tokens / (len(features) * length):.1%}",
                f"{1 - tokens / padded:.1%}",
            )
        )
    return aligned(header, rows, right=header)


def _share(part: int, whole: int) -> str:
    return f"{part} ({part / max(1, whole):.2%})"


def _histogram(path: Path, lengths: dict[str, NDArray[np.integer]]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(lengths), figsize=(4 * len(lengths), 3), layout="constrained")
    for axis, (name, values) in zip(axes, lengths.items(), strict=True):
        axis.hist(values, bins=50)
        axis.set_xlabel(name)
        axis.set_ylabel("texts")
    with replacing(path) as file:
        figure.savefig(file, format=path.suffix.lstrip("."), dpi=150)
    pyplot.close(figure)
