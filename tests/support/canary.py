"""A pickle that shows whether its reader runs what a file asks for."""

from __future__ import annotations

import os
from pathlib import Path


class Canary:
    """Makes a directory when it is unpickled by a reader that runs code."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)
