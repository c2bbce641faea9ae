"""A fine-tuned checkpoint as TensorFlow's SavedModel, with all that a server needs beside it."""

from __future__ import annotations

import shutil
import tempfile
from importlib import import_module
from pathlib import Path

from experiment.backend import load_backend
from experiment.inputs.model import from_checkpoint
from experiment.inputs.settings import FILE_NAME, about_tokenizer, read_settings, recall
from experiment.io.outputs import check_new_directory
from experiment.io.terminal import warn
from experiment.options.flags import ExportOptions
from preprocess.base.errors import UsageError
from preprocess.base.files import new_directory
from preprocess.types import HeadSpec
from pretrained_configs.checkpoint import Checkpoint, read_checkpoint
from tasks.problems.kinds import KindProblem
from tasks.problems.span import SpanProblem


def export(options: ExportOptions) -> None:
    """Write the SavedModel and say what it takes and returns.

    Raises:
        UsageError, DataError, CheckpointError: for an output that is taken, and checkpoints that can't answer.
    """
    check_new_directory("--output", options.output)
    checkpoint = read_checkpoint(options.model_name_or_path, options.hidden_act)
    head = _head(checkpoint, options.model_name_or_path)
    settings = read_settings(checkpoint.directory)
    options, notes = recall(settings, options)
    source = from_checkpoint(checkpoint, options)
    warn([*notes, *about_tokenizer(settings, source.tokenizer), *source.loaded_tokenizer.warnings])
    backend = load_backend("tensorflow")
    model, report = backend.load_model(checkpoint, head, device="cpu", fresh_head=False)
    with tempfile.TemporaryDirectory() as temporary, new_directory(options.output) as directory:
        source.tokenizer.save(Path(temporary))
        if (checkpoint.directory / FILE_NAME).is_file():
            shutil.copy(checkpoint.directory / FILE_NAME, temporary)
        assets = sorted(Path(temporary).iterdir())
        import_module("tf_modeling.export").export(model, directory, assets)
    kind = head.rows.get("kind")
    kinds = f", kind_logits [B, {kind}]" if kind else ""
    print("\n".join(report.lines()))
    print(f"SavedModel written to {options.output}, with {', '.join(path.name for path in assets)} as assets")
    print(
        "serving_default: input_ids, attention_mask, token_type_ids int32 [B, S], "
        f"S up to {checkpoint.config.family.usable_length(checkpoint.config)} -> "
        f"start_logits, end_logits [B, S]{kinds} float32"
    )


def _head(checkpoint: Checkpoint, name: str) -> HeadSpec:
    """Return the head that a checkpoint holds; what its kinds are called is no matter to the model."""
    with checkpoint.open() as source:
        if checkpoint.namemap.shape_in(source, "head.span.weight") is None:
            raise UsageError(
                f"--model_name_or_path {name}: has no task head, its answers would be noise; give a fine-tuned "
                "checkpoint, such as the checkpoint-best of a run"
            )
        kinds = checkpoint.namemap.shape_in(source, "head.kind.weight")
    return KindProblem({f"kind_{i}": "" for i in range(kinds[0])}).head if kinds else SpanProblem().head
