"""What an options class says of its flags: names, kinds of values, ranges, groups, and the docstrings under them."""

from __future__ import annotations

import ast
import dataclasses
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from preprocess.base.errors import UsageError
from preprocess.base.names import did_you_mean


class Rule(NamedTuple):
    """What a value must satisfy, in words ("at least 1") and as a test; annotates a field or a tuple's items."""

    words: str
    holds: Callable[[Any], bool]


class Named(NamedTuple):
    """Annotates a field whose flag has another name than the field, since that is a keyword of Python."""

    name: str


#: Annotates a field whose values stand on the command line without a flag.
POSITIONAL = "positional"
#: Annotates a text that may be a path, in which "~" is the user's home.
PATH_LIKE = "path-like"
#: Annotates texts that are YAML mappings; a --config file may hold the mapping itself.
MAPPING = "mapping"
#: A checkpoint or tokenizer: a path, a hub id or a short name.
NameOrPath = Annotated[str, PATH_LIKE]

AT_LEAST_0 = Rule("at least 0", lambda x: x >= 0)
AT_LEAST_1 = Rule("at least 1", lambda x: x >= 1)
SHARE = Rule("at least 0 and at most 1", lambda x: 0 <= x <= 1)
ABOVE_0 = Rule("more than 0", lambda x: x > 0)
#: A share of which something has to be left.
Share = Annotated[float, Rule("at least 0 and less than 1", lambda x: 0 <= x < 1)]
#: Far beyond what can be meant, and what 64 bits hold the products of.
TO_A_MILLION = Rule("at least 1 and at most 1000000", lambda x: 1 <= x <= 10**6)
#: Of all values of an option together.
AT_LEAST_ONE = Rule("at least one is needed", lambda values: len(values) > 0)
_FINITE = Rule("finite", lambda x: True)

#: Words for a switch's two states, in any case.
_TRUTH = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
#: Type -> what is expected of its text.
_EXPECTED = {bool: "true or false", int: "a whole number", float: "a number"}


@dataclass(frozen=True)
class Option:
    """One flag.

    Args:
        name: as it is typed, without dashes.
        field: the field that gets its value.
        type: of a value: bool, int, float, str or Path.
        choices: the only values, where they are few.
        optional: whether it may be None.
        many: whether it takes any number of values.
        several: whether it takes one value or several: a value, or a tuple of two or more.
        positional: whether its values stand there without a flag.
        path_like: whether "~" in it is the user's home.
        mapping: whether its values are YAML mappings.
        by_task: whether each task may have a value of its own, typed TASK=VALUE; the field is then a mapping.
        each_task: whether there is no other way to give it.
        rules: what each value must satisfy.
        rules_of_all: what the tuple of all values must satisfy.
        default: its value where it is left out; `dataclasses.MISSING` if it is required.
        help: the docstring under the field.
        group: title of the options that it stands among; "" for the command's own.
    """

    name: str
    field: str
    type: type
    choices: tuple[str, ...]
    optional: bool
    many: bool
    several: bool
    positional: bool
    path_like: bool
    mapping: bool
    by_task: bool
    each_task: bool
    rules: tuple[Rule, ...]
    rules_of_all: tuple[Rule, ...]
    default: Any
    help: str
    group: str

    @property
    def required(self) -> bool:
        """Whether it must be given."""
        return self.default is dataclasses.MISSING

    @property
    def is_switch(self) -> bool:
        """Whether the flag alone says true, and `--no_NAME` false."""
        return self.type is bool

    @property
    def flag(self) -> str:
        """What messages call it."""
        return self.name.upper() if self.positional else f"--{self.name}"

    def read(self, text: str) -> Any:
        """Return the value that a text stands for.

        Raises:
            ValueError: saying what was expected.
        """
        if self.optional and text == "None":
            return None
        if self.choices:
            if text not in self.choices:
                raise ValueError(f"one of {', '.join(self.choices)} was expected{did_you_mean(text, self.choices)}")
            return text
        if self.type is bool:
            if text.lower() not in _TRUTH:
                raise ValueError(f"{_EXPECTED[bool]} was expected")
            return _TRUTH[text.lower()]
        if self.path_like and not text:
            raise ValueError("a path was expected, found an empty text")
        try:
            return self.type(text)
        except ValueError:
            raise ValueError(f"{_EXPECTED[self.type]} was expected") from None

    def values_of(self, value: Any) -> tuple[Any, ...]:
        """Return the single values that a field's value holds."""
        if isinstance(value, Mapping):
            return tuple(item for own in value.values() for item in self.values_of(own))
        return tuple(value) if self.many or isinstance(value, tuple) else (value,)

    def problems(self, value: Any) -> Iterator[str]:
        """Yield what is wrong with a value, or with those of a tuple, as "VALUE: must be …"."""
        for item in self.values_of(value):
            if item is not None:
                yield from (f"{item}: must be {rule.words}" for rule in self.rules if not _holds(rule, item))
        if self.many:
            values = " ".join(map(str, value)) or "no value"
            yield from (f"{values}: {rule.words}" for rule in self.rules_of_all if not rule.holds(value))


@dataclass(frozen=True)
class Given:
    """An option as it was given.

    Args:
        name: as it was typed, without dashes in front.
        texts: its values.
        where: what messages call it.
        is_list: whether the values stand in a list, however many they are.
        is_null: whether it was given as left out.
    """

    name: str
    texts: tuple[str, ...]
    where: str
    is_list: bool = False
    is_null: bool = False


def _holds(rule: Rule, value: Any) -> bool:
    # An int is finite, and one of hundreds of digits is more than math.isfinite can take.
    return rule.holds(value) and (not isinstance(value, float) or math.isfinite(value))


@cache
def options_of(options: type) -> tuple[Option, ...]:
    """Return the flags of an options class: its own fields first, then those of its bases in their order."""
    defined = [base for base in options.__mro__ if dataclasses.is_dataclass(base)]
    owner = {name: base for base in reversed(defined) for name in base.__annotations__}
    hints = get_type_hints(options, include_extras=True)
    docs = {base: _docstrings(base) for base in defined}
    title = {base: "" if base is options else title_of(base) for base in defined}
    flags = [
        _option(f, hints[f.name], docs[owner[f.name]].get(f.name, ""), title[owner[f.name]]) for f in fields(options)
    ]
    return tuple(sorted(flags, key=lambda option: defined.index(owner[option.field])))


def check_ranges(options: Any) -> None:
    """Refuse values that can't be meant.

    Raises:
        UsageError: naming all of them.
    """
    kind: type = type(options)
    problems = [
        f"{option.flag} {problem}"
        for option in options_of(kind)
        for problem in option.problems(getattr(options, option.field))
    ]
    if problems:
        raise UsageError("; ".join(problems))


def title_of(group: type) -> str:
    """Return the first line of a class's docstring, which is the title of its options."""
    return (group.__doc__ or "").partition("\n")[0].rstrip(".")


def _option(field: dataclasses.Field[Any], hint: Any, help: str, group: str) -> Option:
    outer, marks = _unwrapped(hint)
    optional = several = by_task = each_task = False
    if get_origin(outer) in (Union, UnionType):
        optional = NoneType in get_args(outer)
        parts = [part for part in get_args(outer) if part is not NoneType]
        by_task = any(get_origin(part) is Mapping for part in parts)
        each_task = by_task and len(parts) == 1
        several = any(get_origin(part) is tuple for part in parts[1:])
        outer, more = _unwrapped(get_args(parts[0])[1] if each_task else parts[0])
        marks += more
    many = get_origin(outer) is tuple
    rules_of_all: tuple[Rule, ...] = ()
    if many:
        rules_of_all = tuple(mark for mark in marks if isinstance(mark, Rule))
        outer, more = _unwrapped(get_args(outer)[0])
        marks = [mark for mark in marks if not isinstance(mark, Rule)] + more
    choices = get_args(outer) if get_origin(outer) is Literal else ()
    kind = str if choices else outer
    rules = tuple(mark for mark in marks if isinstance(mark, Rule))
    return Option(
        name=next((mark.name for mark in marks if isinstance(mark, Named)), field.name),
        field=field.name,
        type=kind,
        choices=choices,
        optional=optional,
        many=many,
        several=several,
        positional=POSITIONAL in marks,
        path_like=kind is Path or PATH_LIKE in marks,
        mapping=MAPPING in marks,
        by_task=by_task,
        each_task=each_task,
        rules=rules or ((_FINITE,) if kind is float else ()),
        rules_of_all=rules_of_all,
        default=field.default,
        help=help,
        group=group,
    )


def _unwrapped(hint: Any) -> tuple[Any, list[Any]]:
    """Return a type without its annotations, and these."""
    if get_origin(hint) is Annotated:
        inner, *marks = get_args(hint)
        return inner, marks
    return hint, []


def _docstrings(group: type) -> dict[str, str]:
    """Return the docstrings under the fields of a class, in one line each."""
    docstrings = {}
    body = _classes(group.__module__)[group.__name__].body
    for node, following in zip(body, body[1:], strict=False):
        if (
            isinstance(node, ast.AnnAssign)
            and isinstance(node.target, ast.Name)
            and isinstance(following, ast.Expr)
            and isinstance(following.value, ast.Constant)
        ):
            docstrings[node.target.id] = " ".join(str(following.value.value).split())
    return docstrings


@cache
def _classes(module: str) -> dict[str, ast.ClassDef]:
    # They are not there at run time; reading them again takes a millisecond per module.
    tree = ast.parse(Path(str(sys.modules[module].__file__)).read_text(encoding="utf-8"))
    return {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
