"""Answers over HTTP, and a web page."""

from __future__ import annotations

from experiment.options.reading import ServeOptions
from preprocess.base.errors import UsageError

_PACKAGES = ("fastapi", "prometheus_client", "pydantic", "starlette", "uvicorn")


def serve(options: ServeOptions) -> int:
    """Serve until the process is told to end; see `experiment.serving.run.serve`."""
    try:
        from experiment.serving import run
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _PACKAGES:
            raise
        raise UsageError(f"serve: {missing} is not installed; pip install 'chinese-mrc[serve]' installs it") from None
    return run.serve(options)
