"""Reading JSON files that others have written: the whole value, or one line that says what is wrong with it."""

from __future__ import annotations

import codecs
import gzip
import json
import re
import zlib
from pathlib import Path
from typing import Any

from preprocess.base.errors import CheckpointError

_GZIP = b"\x1f\x8b"
#: What is raised of a damaged file of gzip's.
_DAMAGED = (EOFError, gzip.BadGzipFile, zlib.error)
_BLANKS = re.compile(r"[ \t\n\r]*")
_MODEL_REMEDY = "get it again from the model's publisher"
#: Longest part of a value that is quoted; a damaged file can hold a string of megabytes.
_QUOTED = 60


class _RepeatedKeyError(ValueError):
    """Carries the key and its two values."""


def read_json(path: str | Path, error: type[ValueError], remedy: str) -> Any:
    """Read a file of UTF-8 (or of UTF-16 with a byte order mark), packed by gzip or not, that holds one JSON value.

    Args:
        path: the file.
        error: the class of what is raised, with a message that names the file, what was found and the remedy.
        remedy: what the user can do about a file that is not JSON, such as "give a JSON data file".

    Raises:
        error: if the file is missing, a directory or unreadable; is not UTF-8 or UTF-16, not JSON, or nested too
            deeply; or holds a key twice with different values, of which Python's json would keep the last in silence.
    """
    return parse_json(read_bytes(path, error), path, error, remedy)


def read_json_object(
    path: str | Path, error: type[ValueError] = CheckpointError, remedy: str = _MODEL_REMEDY
) -> dict[str, Any]:
    """Read a file that holds one JSON object; arguments and errors are those of `read_json`."""
    values = read_json(path, error, remedy)
    if not isinstance(values, dict):
        raise error(f"{path}: a JSON object was expected, found {describe(values)}; {remedy}")
    return values


def read_bytes(path: str | Path, error: type[ValueError]) -> bytes:
    """Read a file, or a pipe to its end; see `read_json` for what is raised."""
    try:
        return Path(path).read_bytes()
    except IsADirectoryError:
        raise error(f"{path}: is a directory; give one file") from None
    except FileNotFoundError:
        raise error(f"{path}: no such file; check the path") from None
    except (OSError, ValueError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else problem
        raise error(f"{path}: can't be read ({reason}); check the path and its permissions") from None


def parse_json(content: bytes, path: str | Path, error: type[ValueError], remedy: str, *, lines: bool = False) -> Any:
    """Parse what was read of a file.

    Args:
        content: the bytes of the file.
        path: names the file in messages.
        error: the class of what is raised.
        remedy: what the user can do about a file that is not JSON.
        lines: also take JSON Lines: several values, each on a line of its own, come as a list.

    Raises:
        error: as in `read_json`.
    """
    try:
        return _parse(decode(content), lines)
    except _DAMAGED as problem:
        raise error(f"{path}: a damaged gzip file ({problem}); get it again, or {remedy}") from None
    except UnicodeDecodeError as problem:
        where = f"not {_encoding(problem)} (byte {problem.start})"
        raise error(f"{path}: not JSON: {where}; save it as UTF-8, or {remedy}") from None
    except json.JSONDecodeError as problem:
        where = f"line {problem.lineno} column {problem.colno}"
        raise error(f"{path}: not JSON ({problem.msg} at {where}); {remedy}") from None
    except RecursionError:
        raise error(f"{path}: JSON nested too deeply; {remedy}") from None
    except _RepeatedKeyError as problem:
        key, first, last = problem.args
        raise error(
            f"{path}: an object has the key {_quote(key)} twice, with {describe(first)} and with {describe(last)}; "
            "give each key once"
        ) from None
    except ValueError as problem:  # an integer of more digits than Python converts
        raise error(f"{path}: JSON that can't be read ({problem}); {remedy}") from None


def decode(content: bytes) -> str:
    """Return the text of a file, unpacked where it is gzip's: UTF-8, or UTF-16 where a byte order mark says so.

    Raises:
        UnicodeDecodeError: if it is neither.
        EOFError, gzip.BadGzipFile, zlib.error: if it is gzip's and damaged.
    """
    if content.startswith(_GZIP):
        content = gzip.decompress(content)
    # Notepad and PowerShell save with a byte order mark, and may save as UTF-16.
    is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return content.decode("utf-16" if is_utf16 else "utf-8-sig")


def text_of(content: bytes, path: str | Path, error: type[ValueError]) -> str:
    """Return the text of a file that is not JSON, as `decode` does.

    Args:
        content: the bytes of the file.
        path: names the file in messages.
        error: the class of what is raised, where `decode` raises.
    """
    try:
        return decode(content)
    except _DAMAGED as problem:
        raise error(f"{path}: a damaged gzip file ({problem}); get it again") from None
    except UnicodeDecodeError as problem:
        raise error(f"{path}: not {_encoding(problem)} (byte {problem.start}); save it as UTF-8") from None


def _encoding(problem: UnicodeDecodeError) -> str:
    return "UTF-8" if problem.encoding == "utf-8" else "UTF-16"


def _parse(text: str, lines: bool) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_unique_keys)
    except json.JSONDecodeError as problem:
        if not lines or problem.msg != "Extra data":
            raise
    decoder = json.JSONDecoder(object_pairs_hook=_unique_keys)
    values: list[Any] = []
    end = 0
    while (start := _skip_blanks(text, end)) < len(text):
        if values and "\n" not in text[end:start]:
            raise json.JSONDecodeError("Extra data", text, start)
        value, end = decoder.raw_decode(text, start)
        values.append(value)
    return values


def _skip_blanks(text: str, start: int) -> int:
    blanks = _BLANKS.match(text, start)
    assert blanks is not None, "blanks may be none"
    return blanks.end()


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object; json alone would keep the last value of a repeated key: perhaps half the questions."""
    made = dict(pairs)
    if len(made) < len(pairs):
        for key, value in pairs:
            if made[key] != value or type(made[key]) is not type(value):  # 1 == 1.0 == True
                raise _RepeatedKeyError(key, value, made[key])
    return made


def describe(value: object) -> str:
    """Say in a few words what a JSON value is: "the string '甲'", "a list of 3"."""
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        keys = ", ".join(map(_quote, list(value)[:4]))
        return f"an object with the keys {keys}{', …' if len(value) > 4 else ''}" if value else "an empty object"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    name = {bool: "the boolean", str: "the string", int: "the number", float: "the number"}[type(value)]
    return f"{name} {_quote(value)}"


def _quote(value: object) -> str:
    # repr escapes what can't be printed, half surrogate pairs among it.
    part = value[:_QUOTED] if isinstance(value, str) else value
    quoted = repr(part)
    return quoted if len(quoted) <= _QUOTED + 2 and part == value else quoted[:_QUOTED] + "…"
