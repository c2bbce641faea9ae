"""A dialogue about a text in the terminal."""

from __future__ import annotations

from experiment.chat.prompt import lines, typed
from experiment.chat.session import Session
from experiment.io.terminal import terminal, warn
from experiment.options.reading import AskOptions
from experiment.reading.reader import Reader
from preprocess.base.errors import UsageError


def ask(options: AskOptions) -> None:
    """Load the model, and answer until there are no more questions.

    Raises:
        UsageError, DataError, CheckpointError: for options and files that can't be used.
    """
    if options.file is not None and options.context is not None:
        raise UsageError("--file and --context both given: use one")
    console = terminal()
    with Reader.of(options) as reader:
        warn(reader.notes)
        session = Session(
            reader, terminal(breaks_lines=True), options.context or "", options.n_best, options.min_confidence
        )
        if options.file is not None:
            session.load(str(options.file))
        if typed():
            console.print(f"{reader.name} answers; /help lists what can be typed, Ctrl-D ends it")
        session.run(lines(session.prompt, options.history))
