"""What a search leaves: the table of its trials, the grid that trains the best setting, and one checkpoint."""

from __future__ import annotations

from typing import Any

from experiment.grid.around import GRID_FILE, grid_around, grid_text
from experiment.io.tables import Strong, markdown
from experiment.options.changed import changed
from experiment.options.flags import TrainOptions
from experiment.options.searching import SearchOptions
from experiment.search.study import Study
from experiment.search.trials import directory_of
from experiment.training.checkpoints import DIRECTORY as CHECKPOINTS
from experiment.training.record import seed_records
from experiment.training.rundir import BEST
from preprocess.base.files import delete, write_text

TABLE_FILE = "trials.md"
#: What the setting is called in the grid.
_VARIANT = "best"
_STATES = {"COMPLETE": "finished", "PRUNED": "given up", "FAIL": "failed", "RUNNING": "running", "WAITING": "waiting"}
_ORDER = ("COMPLETE", "PRUNED", "RUNNING", "WAITING", "FAIL")


def write_result(options: SearchOptions, base: TrainOptions, study: Study) -> str:
    """Write the table and the grid as they stand now, and return the table."""
    table = _table(study, _metrics(base, study))
    write_text(options.output_dir / TABLE_FILE, table)
    best = study.best
    if best is not None:
        n_ended = sum(trial.state.name in ("COMPLETE", "PRUNED", "FAIL") for trial in study.trials)
        settings = changed(base, study.settings(best), "--space")
        content = grid_around(base, {_VARIANT: settings}, options.output_dir / "grid")
        seeds = " ".join(map(str, options.trial_seeds))
        note = (
            f"The best of {n_ended} trials is trial {best.number}: {best.value:.3f} on dev. That score has "
            f"chosen it, and does not measure it; the seeds here do, none of which trained a trial ({seeds})."
        )
        write_text(options.output_dir / GRID_FILE, grid_text(content, note))
    return table


def tidy(options: SearchOptions, study: Study) -> None:
    """Delete the checkpoints of trials that have ended and are not the best one."""
    best = study.best
    for trial in study.trials:
        if trial.state.name in ("COMPLETE", "PRUNED", "FAIL") and (best is None or trial.number != best.number):
            directory = directory_of(options.output_dir, trial.number)
            for path in [path for name in (BEST, CHECKPOINTS) for path in directory.rglob(name)]:
                delete(path)


def _metrics(base: TrainOptions, study: Study) -> str:
    """Return what the score is made of, as a Record tells."""
    for trial in study.trials:
        for record in seed_records(directory_of(base.output_dir, trial.number)).values():
            return " + ".join(record.selection)
    return "dev"


def _table(study: Study, metrics: str) -> str:
    names = [dimension.name for dimension in study.space.dimensions]
    trials = sorted(study.trials, key=_order)
    best = study.best
    rows = []
    for trial in trials:
        values = trial.intermediate_values
        given_up = f" at evaluation {max(values)}" if trial.state.name == "PRUNED" and values else ""
        same = trial.user_attrs.get("same_as")
        said = trial.user_attrs.get("error", "" if same is None else f"as trial {same}")
        state = _STATES[trial.state.name] + given_up + (f" ({said})" if said else "")
        score = _score(trial)
        score = Strong(score) if best is not None and trial.number == best.number else score
        minutes = f"{trial.duration.total_seconds() / 60:.1f}" if trial.duration is not None else "-"
        settings = [_short(trial.params.get(name)) for name in names]
        rows.append([str(trial.number), score, *settings, state, minutes])
    return markdown(["trial", metrics, *names, "state", "minutes"], rows)


def _order(trial: Any) -> tuple[int, float, int]:
    return _ORDER.index(trial.state.name), -(trial.value or 0.0), trial.number


def _score(trial: Any) -> str:
    values = trial.intermediate_values
    best = trial.value if trial.state.name == "COMPLETE" else max(values.values(), default=None)
    return "-" if best is None else f"{best:.3f}"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "-" if value is None else str(value)
