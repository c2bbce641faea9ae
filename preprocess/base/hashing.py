"""Hashes of files."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

_BLOCK = 1 << 20


def sha256(*paths: Path) -> str:
    """Return the hexadecimal SHA-256 of a file; of several, that of all, one after the other."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    return digest.hexdigest()


def hash_of_files(digests: Sequence[str]) -> str:
    """Return what tells files apart that are read as one: the SHA-256 of the only one, or of all of theirs."""
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
