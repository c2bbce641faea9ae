"""Finding the temperature of a fine-tuned model's confidence, and keeping it with the checkpoint."""

from __future__ import annotations

from pathlib import Path

from experiment.answering import Prepared, find, prepare
from experiment.inputs.settings import FILE_NAME, read_settings, write_calibration
from experiment.io.outputs import check_file
from experiment.io.terminal import Bars, terminal, warn
from experiment.options.answers import CalibrateOptions
from experiment.options.flags import PredictOptions
from experiment.reading.calibration import Calibration
from experiment.reading.reader import Reader
from experiment.training.finished import Trained, finished_seeds, framework_of, is_run
from experiment.training.record import run_of
from preprocess.base.errors import UsageError
from tasks.core.confidence import HIGHEST, LOWEST


def calibrate(options: CalibrateOptions) -> dict[Path, Calibration]:
    """Calibrate the checkpoints, print what was found, and write it into their settings.

    Raises:
        UsageError, DataError, CheckpointError: for options and files that can't be used.
    """
    run = options.model if options.task is None else run_of(options.model, options.task)
    ready = [_prepared(options, each) for each in _checkpoints(run)]
    console = terminal()
    found = {}
    for prepared in ready:
        warn(prepared.notes)
        place = prepared.model.directory
        with Reader(prepared) as reader, Bars(console) as bars:
            one = reader.calibrate(options.data_file, options.max_eval_samples, seed=options.seed, bars=bars)
        write_calibration(place, prepared.task, one.as_json())
        values = [one.temperature, *([] if one.null_temperature is None else [one.null_temperature])]
        inside = all(LOWEST < value < HIGHEST for value in values)
        bound = "" if inside else ", the bound of the search: confidence tells little here"
        of_null = f" of spans, {values[1]:.3f} of other answers" if len(values) > 1 else ""
        console.print(
            f"{place}: temperature {one.temperature:.3f}{of_null}, found on {one.n_fitted} questions{bound}\n"
            f"  on {one.n_held_out} others, before -> after: ECE {100 * one.error_before:.2f} -> "
            f"{100 * one.error_after:.2f} %, NLL {one.loss_before:.4f} -> {one.loss_after:.4f} ({one.metric})"
        )
        found[place] = one
    return found


def _checkpoints(model: Path) -> list[Trained]:
    if not is_run(model):
        return [Trained(model, framework_of(model))]
    seeds = finished_seeds(model)
    if not seeds:
        raise UsageError(f"{model}: no seed of it is finished; run its train command again")
    return seeds


def _prepared(options: CalibrateOptions, trained: Trained) -> Prepared:
    """Find out what a checkpoint answers with; its settings have to be there, as the temperature goes into them."""
    model = find(str(trained.checkpoint), None)
    settings = read_settings(model.directory, options.task)
    if settings is None:
        raise UsageError(f"{trained.checkpoint}: no {FILE_NAME} there to keep a temperature in; fine-tune it here")
    check_file("MODEL", model.directory / FILE_NAME)
    task = options.task or settings.task
    if settings.joint and task not in settings.joint:
        raise UsageError(f"{trained.checkpoint}: it was fine-tuned for {settings.task}; give one of them with --task")
    if task != settings.task:
        raise UsageError(f"--task {task}: {trained.checkpoint} was fine-tuned for {settings.task}; leave it out")
    framework = options.framework or trained.framework
    return prepare(
        PredictOptions(
            task=task,
            model_name_or_path=str(trained.checkpoint),
            framework="tensorflow" if framework == "tensorflow" else "pytorch",
            device=options.device,
            per_device_eval_batch_size=options.per_device_eval_batch_size,
        ),
        model,
    )
