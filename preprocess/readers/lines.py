"""Plain text files, line by line."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from preprocess.base.errors import DataError
from preprocess.base.jsonfile import read_bytes, text_of

#: What ends a line, whatever system wrote it; other characters that Unicode calls line breaks stand in texts.
_BREAK = re.compile("\r\n|\r|\n")


def read_lines(path: Path) -> tuple[list[str], str]:
    """Read a text file in UTF-8 (or in UTF-16 with a byte order mark), packed by gzip or not.

    Returns its lines and its SHA-256.

    Raises:
        DataError: if it can't be read, or is in another encoding.
    """
    content = read_bytes(path, DataError)
    return _BREAK.split(text_of(content, path, DataError)), hashlib.sha256(content).hexdigest()
