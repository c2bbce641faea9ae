"""Reading JSON files that others have written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from preprocess.base.errors import CheckpointError


def read_json_object(path: Path) -> dict[str, Any]:
    """Read a file that holds one JSON object.

    Raises:
        CheckpointError: if it is missing, can't be read or holds something else.
    """
    try:
        # As bytes: files that Notepad or PowerShell saved begin with a byte order mark, and may be UTF-16.
        values = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file") from None
    except OSError as error:
        raise CheckpointError(f"{path}: can't be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not JSON ({error}); get it again from the model's publisher") from None
    if not isinstance(values, dict):
        found = type(values).__name__
        raise CheckpointError(f"{path}: a JSON object was expected, found a {found}; get the model's own file")
    return values
