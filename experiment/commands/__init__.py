"""The subcommands: each is a file of this directory, named as it is typed. There is no list to keep.

The file `convert.py` has a function `convert` that carries the command out. What it takes is the class
`ConvertOptions`: in `experiment.options.flags`, where `--help` finds it without importing what the command needs, or
in the file itself.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module
from types import ModuleType
from typing import Any, NamedTuple

from experiment.options import flags


class Command(NamedTuple):
    """A subcommand."""

    name: str

    @property
    def options(self) -> type:
        """Its options class."""
        name = "".join(part.capitalize() for part in self.name.split("_")) + "Options"
        options: type = vars(flags)[name] if name in vars(flags) else vars(self._module)[name]
        return options

    def run(self, options: Any) -> Any:
        """Carry it out."""
        return vars(self._module)[self.name](options)

    @property
    def _module(self) -> ModuleType:
        return import_module(f"{__name__}.{self.name}")


def find_commands() -> dict[str, Command]:
    """Return the subcommands by name: those of `experiment.options.flags` in its order, then what it imports."""
    names = [module.name for module in pkgutil.iter_modules(__path__)]
    known = sorted(vars(flags).items(), key=lambda item: getattr(item[1], "__module__", "") != flags.__name__)
    order = [name.removesuffix("Options").lower() for name, _ in known]
    names.sort(key=lambda name: order.index(name) if name in order else len(order))
    return {name: Command(name) for name in names}


COMMANDS = find_commands()
