"""A dialogue about a text: questions, and commands that begin with a slash."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from experiment.chat.view import show
from experiment.io.text import visible
from experiment.reading.reader import Reader
from preprocess.base.errors import DataError, UsageError
from preprocess.base.jsonfile import decode, read_bytes
from preprocess.base.names import did_you_mean

HELP = """\
Type a question about the text. A line that begins with / is a command:
  /file PATH    ask about the text of a file
  /text         type or paste a text; an empty line ends it
  /show         show the text
  /n N          list N answers
  /sure X       give no answer that is less sure than X, 0 to 1
  /help         show this
  /quit         end (as Ctrl-D does)"""


@dataclass
class Session:
    """A dialogue.

    Args:
        reader: answers.
        console: shows.
        context: the text that is asked about; "" before there is one.
        n_best: answers that are listed.
        min_confidence: below it there is no answer.
    """

    reader: Reader
    console: Console
    context: str = ""
    n_best: int = 5
    min_confidence: float = 0.0
    #: the lines of a text that is being typed; None outside of one
    typed: list[str] | None = field(default=None, init=False)

    def prompt(self) -> str:
        """Return what stands before the next line."""
        if self.typed is not None:
            return "text> "
        return "question> " if self.context else "(no text yet; /help) > "

    def run(self, lines: Iterable[str]) -> None:
        """Answer lines until one says /quit; what is wrong with one is said, and the next one is read."""
        for line in lines:
            try:
                if not self._take(line):
                    return
            except (UsageError, DataError) as error:
                self._say(str(error))
        self._end_text()

    def _take(self, line: str) -> bool:
        """Do what a line says; returns whether to go on."""
        if self.typed is not None:
            if line.strip():
                self.typed.append(line)
            else:
                self._end_text()
        elif line.startswith("/"):
            name, _, rest = line[1:].partition(" ")
            if name == "quit":
                return False
            commands = self._commands()
            if name not in commands:
                meant = did_you_mean(name, [*commands, "quit"])
                raise UsageError(f"unknown command /{visible(name)}{meant}; see /help")
            commands[name](rest.strip())
        elif line.strip():
            self._ask(line.strip())
        return True

    def _commands(self) -> dict[str, Callable[[str], None]]:
        return {
            "file": self.load,
            "text": self._begin_text,
            "show": self._show_text,
            "n": self._set_n_best,
            "sure": self._set_least,
            "help": self._show_help,
        }

    def load(self, path: str) -> None:
        """Ask about the text of a file from now on.

        Raises:
            DataError: if it can't be read, or is not text.
        """
        if not path:
            raise UsageError("/file PATH: a path was expected")
        try:
            text = decode(read_bytes(Path(path).expanduser(), DataError))
        except UnicodeDecodeError:
            raise DataError(f"{path}: not UTF-8 text; save it as UTF-8") from None
        self._use(text, path)

    def _ask(self, question: str) -> None:
        if not self.context:
            raise UsageError("there is no text to ask about yet; give one with /file PATH or /text")
        result = self.reader.answer(question, self.context, n_best=self.n_best, min_confidence=self.min_confidence)
        show(self.console, self.context, result)

    def _use(self, text: str, name: str) -> None:
        if not text.strip():
            raise UsageError(f"{name}: holds no text")
        self.context = text
        self._say(f"{name}: {len(text)} characters; ask about them")

    def _say(self, text: str) -> None:
        self.console.print(text, soft_wrap=True)

    def _show_text(self, _rest: str) -> None:
        self._say("\n".join(map(visible, self.context.splitlines())) or "(no text)")

    def _show_help(self, _rest: str) -> None:
        self._say(HELP)

    def _begin_text(self, rest: str) -> None:
        self.typed = [rest] if rest else []

    def _end_text(self) -> None:
        if self.typed is not None:
            text, self.typed = "\n".join(self.typed), None
            self._use(text, "the text")

    def _set_n_best(self, rest: str) -> None:
        if not rest.isdecimal() or int(rest) < 1:
            raise UsageError(f"/n {visible(rest)}: a whole number of at least 1 was expected")
        self.n_best = int(rest)

    def _set_least(self, rest: str) -> None:
        try:
            least = float(rest)
        except ValueError:
            least = -1.0
        if not 0 <= least <= 1:
            raise UsageError(f"/sure {visible(rest)}: a number from 0 to 1 was expected")
        self.min_confidence = least
