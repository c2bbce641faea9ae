"""A fine-tuned checkpoint in a form that is served without this toolkit, with all that a server needs beside it."""

from __future__ import annotations

from dataclasses import replace

from experiment.answering import predictor_of, prepare
from experiment.backend import load_backend
from experiment.export.bundle import assets, max_length, write_manifest
from experiment.export.check import Gate
from experiment.export.forms import FORMS, SUFFIX
from experiment.export.runtimes import require
from experiment.inputs.heads import task_for
from experiment.inputs.model import from_checkpoint
from experiment.inputs.settings import Settings, about_tokenizer, check_task, read_settings, recall
from experiment.inputs.transfer import answering_head
from experiment.io.outputs import check_new_directory
from experiment.io.terminal import Bars, terminal, warn
from experiment.options.flags import ExportOptions, PredictOptions
from experiment.options.recipe import task_of
from experiment.training.finished import read_finetuned
from preprocess.base.errors import DataError, UsageError
from preprocess.base.files import new_directory
from preprocess.types import HeadSpec, Output, input_names
from pretrained_configs.checkpoint import Checkpoint
from tasks.core.discovery import get_task
from tasks.problems.kinds import KindProblem
from tasks.problems.span import SpanProblem

#: Windows of a check are no longer than this where the checkpoint does not say how long its own are.
_LONGEST_WINDOW = 512


def export(options: ExportOptions) -> None:
    """Write the bundle, compare its answers if so asked, and say what it takes and returns.

    Raises:
        UsageError, DataError, CheckpointError: for an output that is taken, checkpoints that can't answer, and
            answers that differ.
    """
    check_new_directory("--output", options.output)
    if options.check is None and options.max_eval_samples is not None:
        raise UsageError("--max_eval_samples is about the questions of --check; give that, too")
    form, console = FORMS[options.format], terminal()
    checkpoint = read_finetuned(options.model_name_or_path, options.hidden_act, options.task)
    settings = read_settings(checkpoint.directory, options.task)
    asked = _asked(options, settings, form.framework)
    if asked is not None and settings is not None and settings.joint:
        check_task(settings, task_of(asked), options.model_name_or_path)
        checkpoint = answering_head(checkpoint, settings)
    head = _head(checkpoint, settings, asked, options.model_name_or_path)
    gate = _gate(options, asked, checkpoint, settings)
    options, notes = recall(settings, options)
    source = from_checkpoint(checkpoint, options)
    warn([*notes, *about_tokenizer(settings, source.tokenizer), *source.loaded_tokenizer.warnings])
    if gate is not None:
        console.print("\n".join(gate.report.lines()))
    backend = load_backend(form.framework)
    versions = require((*form.writers, *(form.readers if gate else ())), f"--format {options.format}")
    model, report = backend.load_model(checkpoint, head, device="cpu", fresh_head=False)
    with new_directory(options.output) as directory:
        with assets(source, settings) as files:
            form.write(model, directory, files)
            names = ", ".join(path.name for path in files)
        checked = None
        if gate is not None:
            with Bars(console) as bars:
                own = predictor_of(backend, model, gate.prepared.recipe)
                checked = gate.compare(own, form, directory, bars)
        write_manifest(directory, options.format, source, head, versions, checked)
    console.print("\n".join(report.lines()))
    console.print(f"{form.title} written to {options.output}, with {names}{' as assets' if form.assets else ''}")
    limit = max_length(checkpoint.config)
    length = "any S" if limit is None else f"S up to {limit}"
    outputs = ", ".join(f"{output.name}{SUFFIX} {_shape(output)}" for output in head.outputs)
    console.print(f"{form.entry}: {', '.join(input_names(head))} {form.dtype} [B, S], {length} -> {outputs} float32")
    console.print(_conclusion(checked))


def _conclusion(checked: dict[str, object] | None) -> str:
    if checked is None:
        return "not checked: with --check FILE it is compared with the model on the questions of a file"
    return (
        f"checked: all {checked['n_questions']} answers are the model's ({checked['n_windows']} windows of "
        f"{checked['file']}); outputs differ by at most {checked['largest_difference']:.2g}"
    )


def _shape(output: Output) -> str:
    """Return the shape of an output's values, see `Outputs`."""
    sizes = [str(n) for n in (output.size, output.beams if output.given and output.per_token else 1) if n != 1]
    axes = ["B", *(["S"] if output.per_token else []), *sizes]
    return f"[{', '.join(axes)}]"


def _asked(options: ExportOptions, settings: Settings | None, framework: str) -> PredictOptions | None:
    """Return the options of `predict` that answer a file with the checkpoint; None if nothing says for which task."""
    task = options.task
    if task is None and settings is not None and settings.joint:
        raise UsageError(
            f"--model_name_or_path {options.model_name_or_path}: fine-tuned for several tasks; say with --task whose "
            f"head is to be exported: {', '.join(settings.joint)}"
        )
    if task is None and settings is not None:
        try:
            task = get_task(settings.task).name
        except DataError:  # a task that this installation does not have
            if options.check is not None:
                raise
            return None
    if task is None:
        return None
    return PredictOptions(
        model_name_or_path=options.model_name_or_path,
        task=task,
        tokenizer_name=options.tokenizer_name,
        do_lower_case=options.do_lower_case,
        hidden_act=options.hidden_act,
        framework="tensorflow" if framework == "tensorflow" else "pytorch",
        device="cpu",
        feature_cache_dir=None,
    )


def _gate(
    options: ExportOptions, asked: PredictOptions | None, checkpoint: Checkpoint, settings: Settings | None
) -> Gate | None:
    """Read the questions that the exported model will have to answer; None if there are none."""
    if options.check is None:
        return None
    if asked is None:
        raise UsageError(
            f"--check {options.check}: {options.model_name_or_path} does not say what task it was fine-tuned for; "
            "give it with --task"
        )
    if settings is None:
        # Any windows show whether the two answer alike.
        limit, published = checkpoint.config.family.usable_length(checkpoint.config), checkpoint.published
        limits = [_LONGEST_WINDOW, limit, *([published.max_seq_length] if published else [])]
        asked = replace(asked, max_seq_length=min(limits))
    return Gate.of(options.check, options.max_eval_samples, prepare(asked, checkpoint))


def _head(checkpoint: Checkpoint, settings: Settings | None, asked: PredictOptions | None, name: str) -> HeadSpec:
    """Return the head of the task, else that which the weights show; what its kinds are called is no matter then."""
    rows = checkpoint.heads()
    if not rows:
        raise UsageError(
            f"--model_name_or_path {name}: has no task head, its answers would be noise; give a fine-tuned "
            "checkpoint, such as the checkpoint-best of a run"
        )
    if asked is not None:
        return task_for(task_of(recall(settings, asked)[0]), checkpoint.config, checkpoint).problem.head
    kinds = rows.get("kind")
    head = KindProblem({f"kind_{i}": "" for i in range(kinds)}).head if kinds else SpanProblem().head
    if head.rows != rows:
        raise UsageError(
            f"--model_name_or_path {name}: does not say what task its head ({', '.join(rows)}) was fine-tuned for; "
            "give it with --task"
        )
    return head
