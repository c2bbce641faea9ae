"""The subcommands: what each takes, and where it is carried out."""

from __future__ import annotations

from importlib import import_module
from typing import Any, NamedTuple

from experiment.options.flags import (
    CompletionOptions,
    ConvertOptions,
    DownloadOptions,
    EvaluateOptions,
    ExportOptions,
    InspectOptions,
    LeaderboardOptions,
    ModelsOptions,
    ParityOptions,
    PlanOptions,
    PredictOptions,
    SplitOptions,
    StatsOptions,
    TasksOptions,
    TrainOptions,
    ValidateOptions,
)


class Command(NamedTuple):
    """A subcommand: its options class, and the "module:function" that is imported when it is carried out."""

    options: type
    place: str

    def run(self, options: Any) -> Any:
        """Carry it out."""
        module, function = self.place.split(":")
        return getattr(import_module(module), function)(options)


COMMANDS: dict[str, Command] = {
    "train": Command(TrainOptions, "experiment.training.protocol:train"),
    "plan": Command(PlanOptions, "experiment.commands.plan:plan"),
    "evaluate": Command(EvaluateOptions, "experiment.commands.evaluate:evaluate"),
    "predict": Command(PredictOptions, "experiment.commands.predict:predict"),
    "stats": Command(StatsOptions, "experiment.commands.stats:stats"),
    "leaderboard": Command(LeaderboardOptions, "experiment.commands.leaderboard:leaderboard"),
    "inspect": Command(InspectOptions, "experiment.commands.inspect:inspect"),
    "convert": Command(ConvertOptions, "experiment.commands.convert:convert"),
    "parity": Command(ParityOptions, "experiment.commands.parity:parity"),
    "export": Command(ExportOptions, "experiment.commands.export:export"),
    "tasks": Command(TasksOptions, "experiment.commands.tasks:list_tasks"),
    "models": Command(ModelsOptions, "experiment.commands.models:list_models"),
    "download": Command(DownloadOptions, "experiment.commands.download:download"),
    "validate": Command(ValidateOptions, "experiment.commands.validate:validate"),
    "split": Command(SplitOptions, "experiment.commands.split:split"),
    "completion": Command(CompletionOptions, "experiment.commands.completion:completion"),
}
