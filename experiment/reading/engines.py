"""What computes a fine-tuned model's outputs: a backend, or a form that it is exported in."""

from __future__ import annotations

import tempfile
from pathlib import Path

from experiment.answering import Prepared, predictor_of
from experiment.backend import PACKAGES, Predictor, choose_device, load_backend
from experiment.export.bundle import Bundle
from experiment.export.forms import FORMS, predictor
from experiment.export.runtimes import RUNTIMES, require


def load_predictor(prepared: Prepared) -> Predictor:
    """Read the weights into memory.

    Raises:
        UsageError, CheckpointError: for a device or weights that can't be used, or a package that is not installed.
    """
    options, precision = prepared.options, prepared.recipe.precision
    if isinstance(prepared.model, Bundle):
        return prepared.model.predictor(options.framework if options.framework in RUNTIMES else "", precision)
    head = prepared.task.problem.head
    if (runtime := RUNTIMES.get(options.framework)) is not None:
        form = FORMS["onnx"]
        require(form.writers, f"--framework {options.framework}")
        require((runtime.package,), f"--framework {options.framework}", runtime.extra)
        model, _ = load_backend(form.framework).load_model(prepared.model, head, device="cpu", fresh_head=False)
        with tempfile.TemporaryDirectory() as directory:
            form.write(model, Path(directory), [])
            return predictor(form, form.load(Path(directory), options.framework, precision))
    backend = load_backend(options.framework)
    device = choose_device(backend, options.device)
    model, _ = backend.load_model(prepared.model, head, device=device, fresh_head=False)
    return predictor_of(backend, model, prepared.recipe)


def release(prepared: Prepared) -> None:
    """Give memory back that a backend keeps for models that are gone."""
    framework = prepared.options.framework
    if not isinstance(prepared.model, Bundle) and framework in PACKAGES:
        load_backend(framework).release_memory()
