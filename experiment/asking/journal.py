"""The replies as they come, one line of JSON each: a run that was killed goes on from them."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from preprocess.base.errors import UsageError
from preprocess.base.files import locked

FILE_NAME = "answers.jsonl"


class Journal:
    """The replies of a directory; appended to, never rewritten."""

    def __init__(self, path: Path, file: BinaryIO, entries: dict[str, dict[str, Any]]) -> None:
        """Take an open file, and what it holds by question id."""
        self.path, self.entries = path, entries
        self._file = file

    def add(self, entry: Mapping[str, Any]) -> None:
        """Append an entry, which takes the place of an earlier one with its "id".

        Raises:
            OSError: if the disk has no room for it; the next start drops what was half written.
        """
        line = json.dumps(entry, ensure_ascii=False) + "\n"
        # Half a surrogate pair, which JSON may hold, has no UTF-8 form.
        self._file.write(line.encode("utf-8", "backslashreplace"))
        self._file.flush()
        self.entries[entry["id"]] = dict(entry)


@contextlib.contextmanager
def open_journal(directory: Path) -> Iterator[Journal]:
    """Open the replies of a directory, which is made if need be; a line that was half written is dropped.

    Raises:
        UsageError: if another process writes there, or the file holds something else.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / FILE_NAME
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(locked(directory))
        except BlockingIOError:
            raise UsageError(f"--output_dir {directory}: another process is asking there; wait for it") from None
        file = held.enter_context(path.open("ab+"))
        file.seek(0)
        content = file.read()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            os.truncate(path, len(whole))
        yield Journal(path, file, _entries(path, whole))


def _entries(path: Path, content: bytes) -> dict[str, dict[str, Any]]:
    entries = {}
    for number, line in enumerate(content.splitlines(), start=1):
        try:
            entry = json.loads(line)
            texts = [entry[key] for key in ("id", "request", "reply", "error")]
        except (ValueError, TypeError, KeyError):
            texts = [None]
        if not all(isinstance(text, str) for text in texts):
            raise UsageError(
                f"{path}: line {number} is not a reply of this program; delete the line, or give another --output_dir"
            )
        entries[entry["id"]] = entry
    return entries
