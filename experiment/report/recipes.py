"""How a run was trained, beside how a published score says that it was come by."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

from experiment.options.data import AugmentOptions
from experiment.options.distillation import DistillationOptions
from experiment.options.methods import MethodOptions, StoppingOptions
from experiment.options.model import TransferOptions
from experiment.report.entries import Entry
from experiment.training.record import Record
from tasks.core.discovery import get_task, task_names

#: What few published scores tell, and what moves them -> in words.
_WORDS = {
    "learning_rate": "learning rate",
    "batch_size": "batch",
    "num_train_epochs": "epochs",
    "warmup": "warm-up",
}
#: Options that make another training of a published recipe -> what is done where they are left out.
_PLAIN = {
    "max_train_samples": None,
    "classifier_dropout": TransferOptions.classifier_dropout,
    "early_stopping_patience": StoppingOptions.early_stopping_patience,
    **{
        each.name: each.default
        for cls in (AugmentOptions, DistillationOptions, MethodOptions)
        for each in fields(cls)
    },
}
#: Of these, those that say how the others are done.
_DETAILS = {"augment_seed", "more_train_rates", "pgd_steps", "pgd_alpha", "lora_alpha", "lora_targets"}


def hyperparameters_of(record: Record) -> dict[str, str]:
    """Return what a published score may tell of its training, by the names that it has there."""
    config = record.config
    # Of examples with several windows each, such as options, published batches count the examples.
    counts_windows = record.task in task_names() and not get_task(record.task).problem.head.whole_groups
    factors = [config.get(name) for name in ("per_device_train_batch_size", "gradient_accumulation_steps")]
    values = {
        "learning_rate": config.get("learning_rate"),
        "batch_size": factors[0] * (factors[1] or 1) * record.n_devices if factors[0] and counts_windows else None,
        "num_train_epochs": config.get("num_train_epochs"),
        "warmup": config.get("warmup_steps") or config.get("warmup_ratio"),
    }
    return {name: f"{value:g}" for name, value in values.items() if value is not None}


def trained_otherwise(record: Record) -> str:
    """Say what makes a training another one than that of a published score, which names none of it; "" if nothing."""
    said = [
        name
        for name, plain in _PLAIN.items()
        if name not in _DETAILS and name in record.config and _plain(record.config[name]) != _plain(plain)
    ]
    return ", ".join(["several tasks at once"] * bool(record.joint) + said)


def _plain(value: object) -> object:
    """Return a value as a Record holds it, an empty list as nothing."""
    return (list(value) if isinstance(value, tuple) else value) or None


def deviations(published: Entry, ours: Entry) -> str:
    """Say in what our training differs from that of a published score, as far as it is told; "" if in nothing."""
    said = list(_differing(published, ours))
    if ours.trained_otherwise:
        said.append(f"with {ours.trained_otherwise}")
    return f"trained otherwise here: {'; '.join(said)}" if said else ""


def _differing(published: Entry, ours: Entry) -> Iterator[str]:
    for name, words in _WORDS.items():
        theirs, own = _number(published.hyperparameters.get(name)), _number(ours.hyperparameters.get(name))
        if theirs is not None and own is not None and theirs != own:
            yield f"{words} {own:g}, published {theirs:g}"


def _number(text: str | None) -> float | None:
    """Return the number that a text is; None for what is more, such as "4/gpu"."""
    try:
        return float(text or "")
    except ValueError:
        return None
