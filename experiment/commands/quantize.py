"""A fine-tuned model with weights of 8 bits, if it answers as well as before."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiment.answering import Prepared
from experiment.backend import load_backend
from experiment.export.bundle import MANIFEST, Bundle, assets, write_manifest
from experiment.export.forms import FORMS, OnnxForm, predictor
from experiment.export.quantization import quantize_graph
from experiment.export.runtimes import RUNTIMES, require
from experiment.inputs.data import read_examples, scorer_of
from experiment.inputs.settings import read_settings
from experiment.io.outputs import check_new_directory
from experiment.io.terminal import Bars, terminal, warn
from experiment.options.reading import ReadingOptions
from experiment.options.smaller import QuantizeOptions
from experiment.reading.reader import Reader, prepared_of
from preprocess.base.errors import CheckpointError, UsageError
from preprocess.base.files import new_directory, write_json
from preprocess.base.jsonfile import read_json_object
from preprocess.types import Example
from tasks.core.prediction import Scorer
from tasks.core.task import Task

_FORM = FORMS["onnx"]


def quantize(options: QuantizeOptions) -> None:
    """Write the bundle if its score on the questions of a file is good enough, and say what came of it.

    Raises:
        UsageError, DataError: for options, files and models that can't be used.
        CheckpointError: if the score falls by more than is allowed; nothing is written.
    """
    check_new_directory("--output", options.output)
    reading = ReadingOptions(
        model_name_or_path=options.model_name_or_path,
        task=options.task,
        framework=options.framework,
        device="cpu",
        per_device_eval_batch_size=options.per_device_eval_batch_size,
    )
    prepared = prepared_of(reading)
    _refuse(prepared, options)
    examples, report = read_examples(prepared.task, options.check, options.max_eval_samples)
    scorer = scorer_of(prepared.task, examples, report)
    console = terminal()
    warn(prepared.notes)
    console.print("\n".join(report.lines()))
    with (
        tempfile.TemporaryDirectory() as temporary,
        new_directory(options.output) as directory,
        Bars(console) as bars,
    ):
        source = _whole(prepared, Path(temporary))
        for path in source.iterdir():
            if not path.name.startswith(_FORM.entry):  # weights of over 2 GB lie beside the graph
                shutil.copy(path, directory)
        quantize_graph(source / _FORM.entry, directory / _FORM.entry, options.framework)
        before, after = (
            _score(prepared, examples, scorer, place, options.framework, bars) for place in (source, directory)
        )
        metric = _metric(prepared.task, before)
        drop = round(before[metric] - after[metric], 6)
        found = f"{metric} {before[metric]:.3f} -> {after[metric]:.3f} on {len(examples)} questions"
        if drop > options.max_f1_drop:
            raise CheckpointError(
                f"--check {options.check}: {found} is a loss of {drop:.3f}, more than --max_f1_drop "
                f"{options.max_f1_drop:g}; nothing was written: another --framework may lose less"
            )
        check = {
            "file": options.check.name,
            "sha256": report.sha256,
            "task": prepared.task.name,
            "n_questions": len(examples),
            "metric": metric,
            "before": before[metric],
            "after": after[metric],
        }
        _write_manifest(directory, options.framework, check)
        sizes = [sum(path.stat().st_size for path in place.iterdir()) for place in (source, directory)]
    megabytes = " -> ".join(f"{size / 1e6:.0f}" for size in sizes)
    console.print(f"{options.output}: weights of 8 bits for {RUNTIMES[options.framework].title}, {megabytes} MB")
    console.print(f"checked: {found}; a loss of up to {options.max_f1_drop:g} was allowed")


def _refuse(prepared: Prepared, options: QuantizeOptions) -> None:
    """Refuse models that there is no graph of, and missing packages, before anything is computed."""
    if not isinstance(prepared.model, Bundle):
        require(_FORM.writers, "quantize")
    elif not isinstance(prepared.model.form, OnnxForm):
        raise UsageError(f"{options.model_name_or_path}: a {prepared.model.form.title}; give the checkpoint, or ONNX")
    elif "quantized" in read_json_object(prepared.model.path / MANIFEST):
        raise UsageError(f"{options.model_name_or_path}: has weights of 8 bits already; give what it was made of")
    require(("onnx",), "quantize")
    runtime = RUNTIMES[options.framework]
    require((runtime.package,), f"--framework {options.framework}", runtime.extra)


def _whole(prepared: Prepared, temporary: Path) -> Path:
    """Return a bundle of the model in float32: its own, or one that is written for the purpose."""
    if isinstance(prepared.model, Bundle):
        return prepared.model.path
    head = prepared.task.problem.head
    model, _ = load_backend(_FORM.framework).load_model(prepared.model, head, device="cpu", fresh_head=False)
    settings = read_settings(prepared.model.directory, prepared.task.name)
    with assets(prepared.source, settings) as files:
        _FORM.write(model, temporary, files)
    write_manifest(temporary, "onnx", prepared.source, head, require(_FORM.writers, "quantize"), None)
    return temporary


def _score(
    prepared: Prepared, examples: list[Example], scorer: Scorer, bundle: Path, runtime: str, bars: Bars
) -> Mapping[str, Any]:
    """Return the task's metrics of a bundle's answers."""
    with Reader(prepared, predictor(_FORM, _FORM.load(bundle, runtime))) as reader:
        answers = reader.predict(examples, bars=bars)
    return scorer({id: prepared.task.answer(each) for id, each in answers.items()}).values


def _metric(task: Task, values: Mapping[str, Any]) -> str:
    return "f1" if "f1" in values else task.selection[0]


def _write_manifest(directory: Path, runtime: str, check: Mapping[str, Any]) -> None:
    values = read_json_object(directory / MANIFEST)
    package = RUNTIMES[runtime].package
    values["versions"] |= require(("onnx", package), "quantize", RUNTIMES[runtime].extra)
    write_json(directory / MANIFEST, {**values, "runtime": runtime, "quantized": "int8", "check": dict(check)})
