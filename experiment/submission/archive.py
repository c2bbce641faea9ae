"""Zip archives with the same bytes for the same content."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

#: Weights do not become smaller.
_STORED = (".safetensors", ".h5", ".bin")
_FILE_MODE = 0o644 << 16


def write_archive(path: Path, content: Mapping[str, Path | bytes]) -> None:
    """Write an archive.

    Args:
        path: of the archive.
        content: name in the archive -> a file, or what it holds.
    """
    with ZipFile(path, "w") as archive:
        for name, source in sorted(content.items()):
            entry = ZipInfo(name)  # of 1980, whenever it is written
            entry.external_attr = _FILE_MODE
            entry.compress_type = ZIP_STORED if name.endswith(_STORED) else ZIP_DEFLATED
            with archive.open(entry, "w", force_zip64=True) as file:
                if isinstance(source, bytes):
                    file.write(source)
                else:
                    with source.open("rb") as original:
                        shutil.copyfileobj(original, file)
