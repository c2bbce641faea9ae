"""A script that lets the shell complete the command line."""

from __future__ import annotations

from experiment.commands import COMMANDS
from experiment.options.completion import script
from experiment.options.flags import CompletionOptions


def completion(options: CompletionOptions) -> None:
    """Print the script."""
    print(script(options.shell, {name: command.options for name, command in COMMANDS.items()}), end="")
