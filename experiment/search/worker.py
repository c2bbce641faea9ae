"""A worker of a search: it takes up what others have left behind, then begins trials until there are enough."""

from __future__ import annotations

from collections.abc import Callable

from experiment.backend import translated
from experiment.grid.cells import GridRun
from experiment.grid.checking import check
from experiment.io.outputs import check_directory
from experiment.io.terminal import terminal
from experiment.options.changed import train_options
from experiment.options.flags import TrainOptions
from experiment.options.searching import SearchOptions
from experiment.search.result import tidy, write_result
from experiment.search.space import space_of
from experiment.search.study import Study, Trial, import_optuna
from experiment.search.trials import directory_of, options_of_trial, run_trial, value_of
from experiment.training.finished import is_run
from experiment.training.record import PRUNED
from preprocess.base.errors import TrainingError, UsageError
from preprocess.base.files import locked


def search(options: SearchOptions) -> int:
    """Work on a search until all its trials have been begun, and print what has come of them so far.

    Returns:
        the exit status: 1 if no trial is finished.

    Raises:
        UsageError, DataError, CheckpointError: for what can't be searched, before anything is written.
        KeyboardInterrupt: for Ctrl-C and SIGTERM; the same command goes on with the trial.
    """
    optuna = import_optuna()
    base = train_options(options)
    _check_options(options)
    space = space_of(options, base)
    check_directory("--output_dir", options.output_dir)
    _check_run(options_of_trial(base, space.first(), 0, options.trial_seeds), differs=False)
    try:
        study = Study(options, space)
        _check_same(options, base, study)
        say = terminal().print
        while _one_trial(options, base, study, say):
            pass
        table = write_result(options, base, study)
    except optuna.exceptions.StorageInternalError as error:  # a full disk, or a file that others hold for too long
        raise UsageError(f"--output_dir {options.output_dir}: its study can't be used ({error})") from None
    say()
    say(table)
    if study.best is None:
        say("no trial is finished")
        return 1
    say(f"the best setting, with seeds of its own: grid --config {options.output_dir / 'grid.yaml'}")
    return 0


def _check_options(options: SearchOptions) -> None:
    if options.overwrite_output_dir:
        raise UsageError("--overwrite_output_dir: a search deletes no other; give another --output_dir")
    if both := sorted({*options.seeds} & {*options.trial_seeds}):
        raise UsageError(
            f"--seeds {' '.join(map(str, both))}: trials are trained with it, and what is chosen by a seed must not "
            "be measured by it; give others, or other --trial_seeds"
        )


def _check_run(options: TrainOptions, *, differs: bool) -> None:
    """Look at everything that can be wrong with a trial; and at what its run directory holds, if that matters."""
    (checked,) = check([GridRun("search", "", (), options)])
    if differs and checked.changes:
        raise UsageError(
            f"--output_dir {options.output_dir.parent}: its trials are other runs ({', '.join(checked.changes)}); "
            "give those options and files again, or another directory"
        )


def _check_same(options: SearchOptions, base: TrainOptions, study: Study) -> None:
    """Refuse to go on with another model, other data or options than those of the trials that are there."""
    for trial in study.trials:
        if study.is_drawn(trial) and is_run(directory_of(options.output_dir, trial.number)):
            settings = study.settings(trial)
            _check_run(options_of_trial(base, settings, trial.number, options.trial_seeds), differs=True)
            return


def _one_trial(options: SearchOptions, base: TrainOptions, study: Study, say: Callable[..., None]) -> bool:
    """Work on a trial, if there is one; returns whether there was."""
    with study.next_trial() as trial:
        if trial is None:
            return False
        words = " ".join(f"{name}={text}" for name, text in trial.settings.items())
        say(f"trial {trial.number} of {study.n_trials}: {words}")
        said = _as_before(study, trial) or _train(options, base, study, trial)
        say(f"trial {trial.number}: {said}")
    with locked(options.output_dir, waits=True):
        write_result(options, base, study)
        if not options.keep_checkpoints:
            tidy(options, study)
    return True


def _as_before(study: Study, trial: Trial) -> str:
    """End a trial whose settings were tried before with what came of them; "" for others."""
    other = study.like(trial)
    if other is None:
        return ""
    trial.asked.set_user_attr("same_as", other.number)
    if other.state.name == "PRUNED":
        study.pruned(trial)
        return f"given up as trial {other.number}, which has the same settings"
    study.finished(trial, other.value)
    return f"{other.value:.3f} as trial {other.number}, which has the same settings"


def _train(options: SearchOptions, base: TrainOptions, study: Study, trial: Trial) -> str:
    """Train a trial and note what came of it."""
    try:
        records = run_trial(options_of_trial(base, trial.settings, trial.number, options.trial_seeds), trial)
    except Exception as error:
        error = translated(error)
        # What these settings alone are to blame for; the base can be trained.
        if not isinstance(error, TrainingError | MemoryError | UsageError):
            raise
        why = str(error).partition("\n")[0] or "out of memory"
        study.failed(trial, why)
        return f"failed ({why})"
    if records[-1].status == PRUNED:
        study.pruned(trial)
        return f"given up ({records[-1].error})"
    value = value_of(records)
    study.finished(trial, value)
    return f"{value:.3f} on dev"
