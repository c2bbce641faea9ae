"""What was typed -> an options object.

This is not argparse: that takes no value which begins with "-" (`--context -他生于…`) and no `--bf16 False`, and
would need the same table of options.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiment.options.fields import Given, Option, options_of
from preprocess.base.errors import UsageError
from preprocess.base.names import did_you_mean

#: Flags that every subcommand has.
_HELP = ("-h", "--help")


@dataclass
class CommandLine:
    """The arguments of a subcommand, apart but not yet understood.

    Args:
        given: flags in their order, with their values.
        positional: values without a flag.
        stray_after: the flag before the first of them, if there is one.
        config: the file that --config names.
        asks_help: whether --help stands among them.
        problems: what can't be an argument at all.
    """

    given: list[Given] = field(default_factory=list)
    positional: list[str] = field(default_factory=list)
    stray_after: Given | None = None
    config: Path | None = None
    asks_help: bool = False
    problems: list[str] = field(default_factory=list)

    def text_of(self, name: str) -> str | None:
        """Return the value of a flag as it was typed, or None."""
        return next((given.texts[0] for given in reversed(self.given) if given.name == name and given.texts), None)


def split(arguments: Sequence[str], options: type) -> CommandLine:
    """Take the arguments of a subcommand apart.

    `--name value`, `--name=value`, `--switch`, `--no_switch`, `--switch false`, `--many 1 2 3`; a dash between words
    counts as an underscore. A single value may begin with "-"; one that begins with "--" needs the "=".
    """
    line, rest = CommandLine(), list(arguments)
    by_name = {option.name: option for option in options_of(options) if not option.positional}
    while rest:
        argument = rest.pop(0)
        if argument in _HELP:
            line.asks_help = True
        elif argument == "--":
            line.positional += rest
            break
        elif argument.startswith("--"):
            _take_flag(argument, rest, by_name, line)
        elif argument.startswith("-") and argument != "-":
            line.problems.append(f"unknown option {argument}; options begin with two dashes")
        else:
            if not line.positional and line.given:
                line.stray_after = line.given[-1]
            line.positional.append(argument)
    return line


def _take_flag(argument: str, rest: list[str], by_name: dict[str, Option], line: CommandLine) -> None:
    typed, has_value, value = argument.partition("=")
    name = typed[2:].replace("-", "_")
    if name == "config":
        texts = [value] if has_value else _values(rest, 1)
        if line.config is not None or not texts or not texts[0]:
            line.problems.append("--config needs one YAML file")
        line.config = Path(texts[0]) if texts else line.config
        return
    positive = by_name.get(name.removeprefix("no_"))
    if name not in by_name and positive is not None and positive.is_switch:
        if has_value:
            line.problems.append(f"{typed} takes no value")
        line.given.append(Given(positive.name, ("false",), typed))
        return
    option = by_name.get(name)
    if option is None:
        known = [f"--{known}" for known in by_name]
        line.problems.append(f"unknown option {typed}{did_you_mean(f'--{name}', known)}")
        _values(rest, 1)  # which is not to be taken for something else
        return
    if has_value:
        texts = [value]
    elif option.is_switch:
        texts = [rest.pop(0)] if rest and _is_value_of(option, rest[0]) else ["true"]
    else:
        texts = _values(rest, None if option.many or option.several or option.by_task else 1)
        if not texts and not option.many:
            line.problems.append(f"{typed} needs a value{_double_dash(typed, rest)}")
            return
    is_list = option.many or len(texts) > 1
    line.given.append(Given(option.name, tuple(texts), typed, is_list=is_list))


def _values(rest: list[str], most: int | None) -> list[str]:
    """Take the values of a flag: the arguments up to the next flag, at most so many."""
    n = 0
    while n < len(rest) and n != most and not rest[n].startswith("--"):
        n += 1
    values, rest[:] = rest[:n], rest[n:]
    return values


def _is_value_of(option: Option, text: str) -> bool:
    try:
        option.read(text)
    except ValueError:
        return False
    return True


def _double_dash(typed: str, rest: list[str]) -> str:
    return f"; one that begins with two dashes is written {typed}={rest[0]}" if rest else ""


def understand(line: CommandLine, options: type) -> Any:
    """Return the options object that a command line, and the file that it names, stand for.

    Flags win over the file, later flags over earlier ones.

    Raises:
        UsageError: naming all that is unknown, missing, of the wrong kind or out of range.
    """
    by_name = {option.name: option for option in options_of(options)}
    problems = list(line.problems)
    given = []
    if line.config is not None and not problems:
        from experiment.options.configfile import read_config  # and yaml

        other = getattr(options, "passes_over", None)
        passed_over = {option.name for option in options_of(other)} - by_name.keys() if other is not None else set()
        mappings = {option.name for option in by_name.values() if option.mapping}
        settings = read_config(line.config, mappings, {option.name for option in by_name.values() if option.by_task})
        given = [each for each in settings if each.name.replace("-", "_") not in passed_over]
    given += _positional(line, by_name, problems)
    values: dict[str, Any] = {}
    tasks = _tasks([*given, *line.given])
    for setting in [*given, *line.given]:
        option = by_name.get(setting.name.replace("-", "_"))
        if option is None:
            problems.append(f"{setting.where}: unknown option{did_you_mean(setting.name, list(by_name))}")
            continue
        try:
            values[option.field] = _value(option, setting, tasks)
        except ValueError as error:
            problems.append(f"{setting.where} {error}")
    missing = [option.flag for option in by_name.values() if option.required and option.field not in values]
    if missing and not problems:
        problems.append(f"give {' and '.join(missing)} (--help explains all)")
    if problems:
        raise UsageError("; ".join(problems))
    return with_home(options(**values))


def from_values(values: Mapping[str, Any], options: type) -> Any:
    """Return the options object that Python's values stand for, as flags with these names and values would.

    Args:
        values: by the names of the flags; None for left out, sequences for several values.
        options: the class.

    Raises:
        UsageError: naming all that is unknown, missing, of the wrong kind or out of range.
    """
    given = [_as_given(name, value) for name, value in values.items()]
    return understand(CommandLine(given=given), options)


def _as_given(name: str, value: Any) -> Given:
    several = isinstance(value, list | tuple)
    texts = tuple(str(item) for item in (value if several else (value,)))
    return Given(name, texts, name, is_list=several, is_null=value is None)


def _positional(line: CommandLine, by_name: dict[str, Option], problems: list[str]) -> list[Given]:
    """Return the values that stand without a flag as those of the option that takes them."""
    if not line.positional:
        return []
    for option in by_name.values():
        if option.positional:
            return [Given(option.name, tuple(line.positional), option.flag, is_list=len(line.positional) > 1)]
    problems.append(f"unexpected argument {line.positional[0]!r}{_after(line.stray_after, by_name)}")
    return []


def _after(given: Given | None, by_name: dict[str, Option]) -> str:
    """Say what the flag before an argument takes, which it is none of."""
    if given is None:
        return ""
    option = by_name[given.name]
    takes = "one value; quote a text with spaces"
    if option.is_switch:
        takes = "true, false or nothing" if given.where.replace("-", "_") == f"__{option.name}" else "nothing"
    elif option.many or option.several or option.by_task:
        takes = "several values without an ="
    return f" after {given.where}, which takes {takes}"


def _tasks(given: Sequence[Given]) -> list[str]:
    """Return the tasks that are asked for; none where that is left out."""
    text = next((each.texts[0] for each in reversed(given) if each.name == "task" and each.texts), "")
    return [name.strip() for name in text.split(",") if name.strip()]


def _value(option: Option, given: Given, tasks: Sequence[str]) -> Any:
    """Return the value of an option; of one that each task may have of its own, perhaps by task.

    Raises:
        ValueError: saying what was found and what was expected.
    """
    if given.is_null:
        if not option.optional:
            raise ValueError("has no value; give one, or leave the line out")
        return None
    if option.by_task and (len(tasks) > 1 or option.each_task or _names(given, tasks)):
        return _by_task(option, given, tasks)
    if not (option.many or option.several and given.texts) and (given.is_list or len(given.texts) != 1):
        raise ValueError(f"{' '.join(given.texts)!r}: one value was expected, found a list of {len(given.texts)}")
    values = [_read(option, text) for text in given.texts]
    value = tuple(values) if option.many or len(values) > 1 else values[0]
    if problems := list(option.problems(value)):
        raise ValueError("; ".join(problems))
    return value


def _read(option: Option, text: str) -> Any:
    try:
        return option.read(text)
    except ValueError as error:
        raise ValueError(f"{text!r}: {error}") from None


def _names(given: Given, tasks: Sequence[str]) -> bool:
    """Whether values are said to be those of tasks; else one that has a "=" in it is a path."""
    named = [text.partition("=")[0] for text in given.texts if "=" in text]
    return any(name in tasks for name in named) or len(named) > 1


def _by_task(option: Option, given: Given, tasks: Sequence[str]) -> Any:
    """Return the values of `TASK=VALUE …` by task; that of an only task alone, where it may stand alone.

    Raises:
        ValueError: for what has no task, or one that is not trained, or that is there already.
    """
    by_name: dict[str, list[Any]] = {}
    for text in given.texts:
        name, sign, value = text.partition("=")
        if not sign or not value or not name.isidentifier():
            raise ValueError(f"{text!r}: TASK=VALUE was expected for each of {', '.join(tasks)}")
        if name not in tasks:
            raise ValueError(
                f"{text!r}: {name} is none of the tasks {', '.join(tasks)}{did_you_mean(name, list(tasks))}"
            )
        if name in by_name and not option.several:
            raise ValueError(f"{text!r}: {name} has a value already; give each task one")
        by_name.setdefault(name, []).append(_read(option, value))
    values = {name: own[0] if len(own) == 1 else tuple(own) for name, own in by_name.items()}
    if problems := list(option.problems(values)):
        raise ValueError("; ".join(problems))
    return values if len(tasks) > 1 or option.each_task else values[tasks[0]]


def with_home(options: Any) -> Any:
    """Return options with "~" expanded in every path, also where the shell did not.

    Raises:
        UsageError: for paths that are not UTF-8, and where no home is known.
    """
    plain: dict[str, Any] = {}
    kind: type = type(options)
    for option in options_of(kind):
        value = getattr(options, option.field)
        try:
            plain[option.field] = _expanded(option, value)
        except RuntimeError as error:
            raise UsageError(f"{option.flag} {value}: {error}; set HOME, or give an absolute path") from None
        for item in option.values_of(plain[option.field]):
            _check_utf8(option, item)
    return dataclasses.replace(options, **plain)


def _expanded(option: Option, value: Any) -> Any:
    """Return a value, or those of a tuple or mapping, with "~" expanded where it is a path."""
    if isinstance(value, Mapping):
        return {name: _expanded(option, item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return tuple(_expanded(option, item) for item in value)
    if value is None or not option.path_like:
        return value
    # Path("a/") is Path("a"), but a text stays as it was typed.
    return option.type(Path(value).expanduser()) if str(value).startswith("~") else value


def _check_utf8(option: Option, value: Any) -> None:
    """Refuse a text or path that no UTF-8 file, such as a Record, could hold."""
    texts = [str(value)]
    if option.path_like and option.type is str and value is not None and Path(value).exists():
        texts.append(str(Path(value).resolve()))  # "." is called by its directory's name
    for text in texts:
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            raise UsageError(f"{option.flag}: {not_utf8(text)}") from None


def not_utf8(text: str) -> str:
    """Say that a text of the command line or the file system is not UTF-8, and what it may be."""
    encoded = os.fsencode(text)
    try:
        meant = f" (as GBK: {encoded.decode('gb18030')})"
    except UnicodeDecodeError:
        meant = ""
    return f"{str(encoded)[2:-1]}{meant} is not UTF-8; rename it, or reach it by a link whose path is UTF-8"
