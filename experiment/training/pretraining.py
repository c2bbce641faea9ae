"""Everything before the first file of a pretraining is written: options, model, tokenizer and texts, each checked."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

from experiment.backend import by_first
from experiment.inputs.data import encode
from experiment.inputs.download import data_files, how_to_get
from experiment.inputs.methods import check_methods
from experiment.inputs.model import ModelSource, check_limits, model_source
from experiment.inputs.texts import TextFiles, held_out, read_texts
from experiment.io.terminal import Bars, terminal
from experiment.io.trackers import trackers_of
from experiment.launch import launched
from experiment.options.fields import check_ranges
from experiment.options.flags import PretrainOptions
from experiment.options.recipe import resolve_recipe
from experiment.training import rundir
from experiment.training.mixture import Source
from experiment.training.prepare import hashes_of, ready
from experiment.training.setup import Part, RunSetup
from preprocess.base.errors import DataError, UsageError
from preprocess.base.hashing import sha256
from preprocess.masking import NGRAM, WORD, Masking, read_similar_words
from preprocess.readers.report import DataReport
from preprocess.types import Example
from tasks.core.discovery import get_task
from tasks.core.joint import SharedHead
from tasks.core.task import PUBLISHED_RECIPE, Task, TaskOptions
from tasks.problems.masked_lm import SELECTION, MaskedProblem, report, scorer, vocabulary_ids

#: What the command has no options for, or are left out; windows follow each other.
_RECIPE = {
    **{name: value for name, value in PUBLISHED_RECIPE.items() if name != "doc_stride"},
    "doc_overlap": 0,
    "max_query_length": 0,
}


def prepare_pretraining(options: PretrainOptions) -> tuple[RunSetup, list[str], dict[str, Any]]:
    """Do all that can fail for a mistake in options or files; returns the setup, what to print, and the reports."""
    rundir.check_writable(options.output_dir)
    trackers_of(options.report_to)
    check_ranges(options)
    source = model_source(options)
    tokenizer = source.tokenizer
    masking, lines = _masking(options, source)
    bars = Bars(terminal(quiet=launched().rank > 0))
    task = _task(MaskedProblem(masking, partial(bars.tracked, "words")))
    recipe = resolve_recipe(options, task, None)
    rundir.check_place(recipe)
    check_limits(recipe, source.name, source.config, source.published)
    head = SharedHead({task.name: task.problem.head})
    check_methods(recipe, source.name, source.config, head.spec)
    backend, device, notes = ready(options, recipe, head.spec, source)
    lines = [*notes, *lines]
    texts, reports = _read(options)
    encoded = {}
    for name, examples in texts.items():
        nothing = [None] * len(examples)
        cache = options.feature_cache_dir
        with bars:
            encoded[name] = encode(task, examples, nothing, tokenizer, recipe, cache, template=source.template)
        counts = encoded[name].features.meta["counts"]
        reports[name]["encoding"] = counts
        lines += reports[name]["lines"]
        lines.append(f"{name}: " + ", ".join(f"{what} {value}" for what, value in counts.items()))
    hashes = hashes_of(reports, source)
    if options.similar_words is not None:
        hashes["similar_words"] = sha256(options.similar_words)
    data = Source(task, encoded["train"])
    group, n_devices = backend.Group.current(), backend.n_devices(device)
    lines += by_first(group, lambda: rundir.check_inputs(recipe, hashes, n_devices, task.version))
    part = Part(task, recipe, data, encoded["dev"], None, {"dev": task.scorer(texts["dev"])}, hashes)
    setup = RunSetup(
        recipe,
        (part,),
        source,
        head,
        backend,
        group,
        device,
        n_devices,
        {"config": recipe.config, "hashes": hashes},
        pretrains=True,
    )
    return setup, lines, reports


def _masking(options: PretrainOptions, source: ModelSource) -> tuple[Masking, list[str]]:
    """Return how pieces are hidden, and lines on it.

    Raises:
        UsageError, DataError: for a model or a table of words that it can't be done with.
    """
    config, tokenizer = source.config, source.tokenizer
    if not config.family.guesses_masked:
        raise UsageError(
            f"{source.name}: a model of type {config.model_type!r} is not pre-trained to guess hidden pieces from "
            "both sides, so pretrain can't go on with it; give one that is, such as a BERT"
        )
    if "mask" not in tokenizer.special_ids:
        raise UsageError(
            f"{source.name}: its tokenizer has no token that stands for a hidden piece ([MASK]); give the model's "
            "own with --tokenizer_name"
        )
    most = options.max_predictions_per_seq or math.ceil(options.max_seq_length * options.masked_lm_prob)
    similar, lines = None, []
    if options.similar_words is not None:
        similar, n_words, n_lines = read_similar_words(options.similar_words, tokenizer)
        lines.append(f"{options.similar_words}: {n_words} of {n_lines} words have a similar one of as many pieces")
    masking = Masking(
        mask_id=tokenizer.special_ids["mask"],
        random_ids=vocabulary_ids(tokenizer),
        share=options.masked_lm_prob,
        most=most,
        runs=NGRAM if options.masking == "ngram" else WORD,
        similar=similar,
    )
    return masking, lines


def _task(problem: MaskedProblem) -> Task:
    """Return what the loop trains on and evaluates: no data set of its own, so that no file of `tasks` is it."""

    def read(path: str | Path) -> tuple[list[Example], DataReport]:
        raise DataError(f"{path}: texts that are guessed have no layout of their own; give --text_file or --task")

    return Task(
        name="masked_lm",
        version="1",
        title="masked language model",
        read=read,
        problem=problem,
        targets=lambda example: (),
        scorer=scorer,
        selection=SELECTION,
        defaults=_RECIPE,
        report=report,
    )


def _read(options: PretrainOptions) -> tuple[dict[str, list[Example]], dict[str, dict[str, Any]]]:
    """Return the texts of each split, and the reports on their files.

    Raises:
        UsageError, DataError: for files that are missing or can't be used.
    """
    task = None if options.task is None else get_task(options.task, TaskOptions(opencc_config=options.opencc_config))
    files = options.train_file
    if task is None and files:
        raise UsageError("--train_file without --task: say whose layout it has, or give plain texts as --text_file")
    if task is not None and not files and not options.text_file:
        files = _downloaded(task, options.data_dir)
    if task is None and not options.text_file:
        raise UsageError("no texts: give --text_file, or --task with --train_file")
    whole = read_texts(task, files, options.text_file)
    if options.validation_file:
        of_task = task is not None
        dev = read_texts(task, *((options.validation_file, ()) if of_task else ((), options.validation_file)))
        train = whole.texts
        shared = {text.context for text in train} & {text.context for text in dev.texts}
        if shared:
            dev.report["lines"].append(f"  warning: {len(shared)} of its texts are also trained on")
    else:
        train, kept = held_out(whole.texts, options.validation_share)
        lines = [f"held out: {len(kept)} of {len(whole.texts)} texts"]
        dev = TextFiles(kept, {"n_texts": len(kept), "sha256": whole.report["sha256"], "lines": lines})
    train = train[: options.max_train_samples]
    reports = {"train": {**whole.report, "n_trained": len(train)}, "dev": dev.report}
    return {"train": train, "dev": dev.texts}, reports


def _downloaded(task: Task, data_dir: Path) -> tuple[Path, ...]:
    paths = data_files(task, "train", data_dir)
    if not paths:
        raise UsageError(how_to_get(task, "train", "train_file", data_dir))
    return paths
