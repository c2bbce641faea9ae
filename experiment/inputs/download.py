"""Fetching published files: resumable, verified, and in their place only when they are whole."""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import json
import os
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from rich.progress import DownloadColumn, TimeRemainingColumn, TransferSpeedColumn

from experiment.io.terminal import progress_bars, terminal
from experiment.launch import program
from experiment.options.data import DEFAULT_DATA_DIR, Files
from preprocess.base.errors import DataError
from preprocess.base.files import write_json
from preprocess.base.hashing import sha256
from tasks.core.task import Source, Task

#: Called with (bytes so far, bytes in all or None).
Progress = Callable[[int, int | None], None]

_CHUNK = 1 << 16
_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+)$")


def task_directory(task: Task, data_dir: Path) -> Path:
    """Return the directory that a task's files are downloaded to."""
    return data_dir.expanduser() / task.name


def data_files(task: Task, split: str, data_dir: Path) -> tuple[Path, ...]:
    """Return a task's downloaded files of a split ("train", "dev", …); none unless all that it has are there."""
    names = [source.file_name for source in task.sources if source.split == split]
    paths = tuple(task_directory(task, data_dir) / name for name in names)
    return paths if all(path.is_file() for path in paths) else ()


def downloaded(task: Task, split: str, data_dir: Path) -> Files | None:
    """Return the same as an option holds files: one, or a tuple of several; None for none."""
    paths = data_files(task, split, data_dir)
    return paths[0] if len(paths) == 1 else paths or None


def how_to_get(task: Task, split: str, flag: str, data_dir: Path) -> str:
    """Say what a user whom a file is missing can do: give one, or fetch the published one where there is one."""
    published = list(dict.fromkeys(source.split for source in task.sources))
    if split not in published:
        named = f"publishes only {', '.join(published)}" if published else "lists no published files"
        return f"give --{flag}: task {task.name!r} {named}, no {split} file"
    return f"give --{flag}, or fetch the published file: {command(task, data_dir)}"


def command(task: Task, data_dir: Path) -> str:
    """Return what is typed to fetch a task's files."""
    place = "" if data_dir.expanduser() == DEFAULT_DATA_DIR.expanduser() else f" --data_dir {data_dir}"
    return f"{program()} download --task {task.name}{place}"


def fetch_all(sources: Sequence[Source], directory: Path, *, timeout_s: float = 30.0) -> list[Path]:
    """Fetch files into a directory, with a progress bar on a terminal.

    Raises:
        DataError: naming every file that could not be fetched.
    """
    console = terminal()
    columns = (DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    paths, problems = [directory / source.file_name for source in sources], []
    with progress_bars(console, *columns) as bars:
        for source, path in zip(sources, paths, strict=True):
            bar = bars.add_task(source.file_name, total=source.n_bytes or None)

            def show(n_done: int, n_total: int | None, bar: Any = bar) -> None:
                bars.update(bar, completed=n_done, total=n_total)

            try:
                fetched = fetch(source, path, timeout_s=timeout_s, progress=show)
            except DataError as error:
                problems.append(str(error))
                continue
            checked = "checksum verified" if source.sha256 else f"sha256 {sha256(path)} (none published)"
            done = "downloaded" if fetched else "already there"
            console.print(f"{path}: {done}, {path.stat().st_size:,} bytes, {checked}")
    if problems:
        raise DataError("; ".join(problems))
    return paths


def fetch(source: Source, target: Path, *, timeout_s: float = 30.0, progress: Progress | None = None) -> bool:
    """Fetch one file, going on where an earlier attempt stopped.

    Bytes go to `<target>.part`, and `<target>.part.json` says of which version of the file they are. Only a whole,
    verified file gets the name `target`.

    Args:
        source: where it is published; its checksum and size are verified where known.
        target: the file to write.
        timeout_s: seconds without a byte after which the server is given up.
        progress: is told how far the transfer is.

    Returns:
        False if the verified file was there already.

    Raises:
        DataError: if the file can't be had, with the URL and what to do by hand.
        OSError: if it can't be written.
    """
    if target.is_file() and _mismatch(source, target) is None:
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    with _locked(part, source) as file:
        transfer = _Transfer(source, target, file, part.with_name(part.name + ".json"), timeout_s, progress)
        resumed = transfer.run()
        if resumed and _mismatch(source, part) is not None:
            # The bytes that were left over may be at fault: once more, from the first byte.
            transfer.restart()
            transfer.run()
        os.fsync(file.fileno())
        problem = _mismatch(source, part)
        if problem is not None:
            aside = target.with_name(target.name + ".bad")
            os.replace(part, aside)
            transfer.facts.unlink(missing_ok=True)
            raise DataError(
                f"{source.url}: not the file that was expected: {problem}; kept as {aside}. Try again later; if the "
                f"publisher has changed the file, check it and save it as {target} by hand"
            )
        os.replace(part, target)
        transfer.facts.unlink(missing_ok=True)
    return True


def _mismatch(source: Source, path: Path) -> str | None:
    """Say how a file differs from what its source is known to be; None if it doesn't."""
    size = path.stat().st_size
    if source.n_bytes and size != source.n_bytes:
        return f"found {size} bytes, expected {source.n_bytes}"
    if source.sha256 and (digest := sha256(path)) != source.sha256.lower():
        return f"found sha256 {digest}, expected {source.sha256}"
    return None


@contextlib.contextmanager
def _locked(part: Path, source: Source) -> Iterator[BinaryIO]:
    """Open a partial file for this process alone; an empty one is removed at the end."""
    with part.open("ab") as file:
        busy = f"{source.url}: another process is downloading it to {part}; wait until it has finished"
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(busy) from None
        # Between opening and locking, the other process may have finished and given the file its final name.
        if not part.exists() or not os.path.samestat(os.fstat(file.fileno()), part.stat()):
            raise DataError(busy)
        try:
            yield file
        finally:
            if part.exists() and not part.stat().st_size:
                part.unlink()


@dataclass
class _Transfer:
    """One file on its way; `facts` (JSON) holds the url, validator and size that the partial file belongs to."""

    source: Source
    target: Path
    file: BinaryIO
    facts: Path
    timeout_s: float
    progress: Progress | None

    def run(self) -> bool:
        """Fetch what is missing; return whether bytes of an earlier attempt were kept."""
        n_have, known = self._leftover()
        response = self._open(n_have, known)
        if response is not None and response.status == 206 and not _goes_on(response, n_have, known):
            response.close()
            response = None
        if response is None:  # there is no such range, or it is of another version: the leftover is of no use
            n_have, response = 0, self._open(0, {})
        assert response is not None, "only a request for a range can be refused for its range"
        with response:
            if response.status != 206:  # the whole file: the server ignores ranges, or has a new version
                self.restart()
                n_have = 0
            self._receive(response, n_have)
        return n_have > 0

    def restart(self) -> None:
        """Forget the bytes of earlier attempts."""
        self.file.truncate(0)
        self.facts.unlink(missing_ok=True)

    def _leftover(self) -> tuple[int, dict[str, Any]]:
        """Return how many bytes an earlier attempt has left and what they belong to."""
        n_have = os.fstat(self.file.fileno()).st_size
        try:
            known = json.loads(self.facts.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            known = None
        # Without a validator two versions could be mixed; where a checksum is published, that would be noticed.
        usable = isinstance(known, dict) and (known.get("validator") or self.source.sha256)
        if n_have and (not usable or known.get("url") != self.source.url):
            self.restart()
            n_have = 0
        return (n_have, known) if n_have else (0, {})

    def _open(self, n_have: int, known: dict[str, Any]) -> http.client.HTTPResponse | None:
        """Ask for the file from byte `n_have` on; None if there is no such range."""
        headers = {"User-Agent": "chinese-mrc", "Accept-Encoding": "identity"}
        if n_have:
            headers["Range"] = f"bytes={n_have}-"
            if known.get("validator"):
                headers["If-Range"] = known["validator"]
        try:
            request = urllib.request.Request(self.source.url, headers=headers)
            response: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=self.timeout_s)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 416 and n_have:
                return None
            raise self._failure(
                _REASONS.get(error.code, f"the server answered {error.code} {error.reason}")
            ) from None
        except urllib.error.URLError as error:
            raise self._failure(f"can't be reached ({error.reason}); are you offline?") from None
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise self._failure(f"can't be reached ({str(error) or type(error).__name__})") from None
        return response

    def _receive(self, response: http.client.HTTPResponse, n_have: int) -> None:
        rest = response.headers.get("Content-Length")
        n_total = n_have + int(rest) if rest and rest.isdigit() else None
        if not n_have:
            facts = {"url": self.source.url, "validator": _validator(response), "n_bytes": n_total}
            write_json(self.facts, facts)
        for chunk in self._chunks(response):
            self.file.write(chunk)
            n_have += len(chunk)
            if self.progress is not None:
                self.progress(n_have, n_total or self.source.n_bytes or None)
        self.file.flush()
        if n_total is not None and n_have != n_total:
            raise self._cut(f"after {n_have} of {n_total} bytes")

    def _chunks(self, response: http.client.HTTPResponse) -> Iterator[bytes]:
        while True:
            try:
                chunk = response.read(_CHUNK)
            except (OSError, http.client.HTTPException) as error:
                self.file.flush()
                raise self._cut(f"({str(error) or type(error).__name__})") from None
            if not chunk:
                return
            yield chunk

    def _cut(self, how: str) -> DataError:
        return DataError(f"{self.source.url}: the transfer was cut off {how}; the same command goes on from there")

    def _failure(self, reason: str) -> DataError:
        digest = f" (sha256 {self.source.sha256})" if self.source.sha256 else ""
        by_hand = f"or fetch it elsewhere and save it as {self.target}{digest}"
        return DataError(f"{self.source.url}: {reason}; try again later, {by_hand}")


_REASONS = {
    403: "the server refuses access (403)",
    404: "there is no such file any more (404)",
    410: "there is no such file any more (410)",
}


def _goes_on(response: http.client.HTTPResponse, n_have: int, known: dict[str, Any]) -> bool:
    """Whether a partial answer continues our bytes: from the right place, of a file of the same size and version."""
    match = _CONTENT_RANGE.match(response.headers.get("Content-Range", ""))
    if match is None or match[1] != str(n_have):
        return False
    same_size = known.get("n_bytes") in (None, int(match[2]))
    return same_size and known.get("validator") in ("", _validator(response))


def _validator(response: http.client.HTTPResponse) -> str:
    """Return what identifies this version of the file: a strong ETag, else the date of its last change, else ""."""
    etag = response.headers.get("ETag", "")
    # A weak ETag (W/"…") does not promise equal bytes.
    return etag if etag.startswith('"') else response.headers.get("Last-Modified", "")
