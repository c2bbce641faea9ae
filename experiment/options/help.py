"""`--help`: what a command does and must be given, every option in its group with its default, and examples."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import MISSING
from pathlib import Path
from typing import Any, NamedTuple

from experiment.options.fields import Option, options_of
from tasks.core.recipe import PUBLISHED_RECIPE

#: Columns: of the whole at least and at most, before the names of options, and before what they mean.
_WIDTH, _INDENT, _MARGIN = (70, 110), 2, 34
_VALUES = {int: "N", float: "X", str: "TEXT", Path: "PATH"}
_NOTES = (
    "--config FILE.yaml reads options from a file, one `name: value` per line; those of the command line win. "
    "A switch --x is undone by --no_x. A value that begins with two dashes is written --x=--value."
)


class Default(NamedTuple):
    """A value that an option gets where it is left out, and who says so."""

    value: Any
    source: str


def overview(program: str, commands: Mapping[str, type]) -> str:
    """Return what there is to do, a line per command."""
    lines = [f"usage: {program} COMMAND [OPTIONS]", "", "Commands:"]
    width = 2 + max(map(len, commands))
    lines += [f"  {name:<{width}}{summary(options)}" for name, options in commands.items()]
    lines += ["", f"{program} COMMAND --help explains the options."]
    return "\n".join(lines)


def help_text(program: str, command: str, options: type, defaults: Mapping[str, Default] | None = None) -> str:
    """Return the help of a subcommand, as wide as the terminal.

    Args:
        program: what it is called.
        command: name of the subcommand.
        options: its options class.
        defaults: of options that the recipe of a task or model gives, where one was named.
    """
    width = min(max(shutil.get_terminal_size((100, 24)).columns, _WIDTH[0]), _WIDTH[1])
    known = options_of(options)
    required = [option for option in known if option.required]
    usage = [program, command, *map(as_typed, required), "[OPTIONS]"]
    usage += [f"[{as_typed(option)}]" for option in known if option.positional and not option.required]
    lines = _wrapped("usage: " + " ".join(usage), width, " " * 7)
    for paragraph in paragraphs(options):
        lines += ["", *_wrapped(paragraph, width)]
    groups: dict[str, list[Option]] = {"Required": required}
    for option in known:
        if not option.required:
            groups.setdefault(option.group or f"Options of {command}", []).append(option)
    for title, members in groups.items():
        if members:
            lines += ["", f"{title}:"]
            for option in members:
                lines += _entry(option, defaults or {}, width)
    lines += ["", *_wrapped(_NOTES, width)]
    if commands := list(examples(options)):
        lines += ["", "Examples:"]
        for example in commands:
            lines.append(_continued(f"  {program} {example}", width))
    return "\n".join(lines)


def examples(options: type) -> Iterator[str]:
    """Yield the example commands of an options class, without the program's name."""
    _, _, text = (options.__doc__ or "").partition("Examples:\n")
    for line in text.replace("\\\n", " ").splitlines():
        if line.strip():
            yield " ".join(line.split())


def summary(options: type) -> str:
    """Return what a command does, in a line."""
    return paragraphs(options)[0]


def paragraphs(options: type) -> list[str]:
    """Return what the docstring of an options class says before its examples."""
    text = (options.__doc__ or "").partition("Examples:\n")[0]
    return [" ".join(part.split()) for part in text.split("\n\n") if part.strip()]


def _entry(option: Option, defaults: Mapping[str, Default], width: int) -> list[str]:
    head = " " * _INDENT + as_typed(option)
    text = _wrapped(option.help.removesuffix(".") + default_of(option, defaults) + ".", width - _MARGIN)
    if len(head) + 2 > _MARGIN:
        return [head, *(" " * _MARGIN + line for line in text)]
    return [head.ljust(_MARGIN) + text[0], *(" " * _MARGIN + line for line in text[1:])]


def as_typed(option: Option) -> str:
    """Return an option as it is typed, with what stands for its value."""
    if option.is_switch:
        return f"--[no_]{option.name}"
    value = option.flag if option.positional else _VALUES[option.type]
    if option.choices:
        value = "{" + ",".join(option.choices) + "}"
    elif option.path_like and option.type is str:
        value = "NAME|PATH"
    elif option.mapping:
        value = "YAML"
    if option.by_task:
        value = f"TASK={value} …" if option.each_task else f"{value}|TASK={value} …"
    elif option.many or option.several:
        value += " …"
    return value if option.positional else f"--{option.name} {value}"


def default_of(option: Option, defaults: Mapping[str, Default]) -> str:
    """Say what an option is where it is left out, unless its docstring does."""
    if option.default is None and option.name in defaults:  # a recipe fills in nothing else
        value, source = defaults[option.name]
        return f" (default: {_text(value)}, {source})"
    if option.default is None and option.name in PUBLISHED_RECIPE:
        return f" (default: recipe's, e.g. {_text(PUBLISHED_RECIPE[option.name])})"
    if option.default in (None, MISSING, (), ""):
        return ""
    return f" (default: {_text(option.default)})"


def _text(value: Any) -> str:
    """Return a value as it would be typed."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return " ".join(map(_text, value))
    # 3e-5 and not 3e-05.
    return re.sub(r"e([+-])0+", r"e\1", f"{value:g}") if isinstance(value, float) else str(value)


def _continued(command: str, width: int) -> str:
    """Break a command so that it can be pasted into a shell; a flag and its value stay together."""
    together = re.sub(r"(?<= )(--\w+) (?!-)", "\\1\u00a0", command)
    return " \\\n".join(_wrapped(together, width - 2, " " * 6)).replace("\u00a0", " ")


def _wrapped(text: str, width: int, later: str = "") -> list[str]:
    return textwrap.wrap(text, width, subsequent_indent=later, break_long_words=False, break_on_hyphens=False)
