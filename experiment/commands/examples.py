"""The demo corpora, their recipes and the published grids, for whoever has no checkout."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from experiment.io.outputs import check_new_directory
from experiment.launch import ROOT
from preprocess.base.errors import UsageError

#: What is copied of a checkout's examples; a wheel holds just that, where `pyproject.toml` says.
PATTERNS = ("*.md", "*.yaml", "corpus/*", "grids/*.yaml")
_INSTALLED = "share/chinese-mrc/examples/"


@dataclass(frozen=True, kw_only=True)
class ExamplesOptions:
    """Copy the demo corpora, their recipes and the published grids, to try things in any directory.

    Examples:
        examples
        examples --output elsewhere/examples
        examples --output ~/mrc/examples
    """

    output: Path = Path("examples")
    """Directory to write; must not exist, or be empty. The recipes take it to be examples/ of where you are."""


def examples(options: ExamplesOptions) -> None:
    """Copy them, and say what to do with them.

    Raises:
        UsageError: if the directory holds something already, or an installation has lost its files.
    """
    check_new_directory("--output", options.output)
    files = dict(_files())
    if not files:
        raise UsageError("the examples are not among the installed files; install chinese-mrc again")
    for name, path in sorted(files.items()):
        target = options.output / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    print(f"{options.output}: {len(files)} files; README.md says what they are")


def _files() -> Iterator[tuple[str, Path]]:
    """Yield the name of each file below the directory of examples, and where it lies."""
    checkout = ROOT / "examples"
    if (checkout / "corpus").is_dir():
        for pattern in PATTERNS:
            yield from ((path.relative_to(checkout).as_posix(), path) for path in checkout.glob(pattern))
        return
    # What reads it takes a moment to import, and --help imports this file.
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        installed = distribution("chinese-mrc").files or []
    except PackageNotFoundError:
        return
    for file in installed:
        _, found, name = file.as_posix().partition(_INSTALLED)
        if found:
            yield name, Path(str(file.locate())).resolve()
