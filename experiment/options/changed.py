"""Options of train with some of them set otherwise, as if these had been typed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from experiment.options.arguments import CommandLine, understand
from experiment.options.fields import Given, options_of
from experiment.options.flags import TrainOptions
from preprocess.base.errors import UsageError

#: What belongs to a run and its place, and is no setting that one run may have and another not.
OF_THE_RUN = (
    "task",
    "model_name_or_path",
    "config_name",
    "framework",
    "seeds",
    "output_dir",
    "overwrite_output_dir",
)


def changed(options: TrainOptions, settings: Mapping[str, str], where: str) -> TrainOptions:
    """Return options with others set.

    Args:
        options: of a run.
        settings: name of an option -> its value as it would be typed, several with blanks between them.
        where: what messages call the place at which the settings stand.

    Raises:
        UsageError: naming all that is unknown, of the wrong kind or out of range.
    """
    many = {option.name: option.many for option in options_of(TrainOptions)}
    names = {name: name.replace("-", "_") for name in settings}
    if fixed := [name for name in settings if names[name] in OF_THE_RUN]:
        raise UsageError(f"{where}: {fixed[0]} is the same in all runs; take it out, and give --{fixed[0]} itself")
    given = [
        Given("task", (options.task,), "--task"),
        Given("output_dir", (str(options.output_dir),), "--output_dir"),
    ]
    for name, text in settings.items():
        is_list = many.get(names[name], False)
        given.append(Given(name, tuple(text.split()) if is_list else (text,), f"{where}: {name}", is_list=is_list))
    understood = understand(CommandLine(given=given), TrainOptions)
    fields = {option.name: option.field for option in options_of(TrainOptions)}
    return replace(options, **{fields[name]: getattr(understood, fields[name]) for name in names.values()})


def train_options(options: TrainOptions) -> TrainOptions:
    """Return the options of train among those of a command that has more of them."""
    return TrainOptions(**{option.field: getattr(options, option.field) for option in options_of(TrainOptions)})
