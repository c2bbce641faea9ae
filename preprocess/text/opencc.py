"""Conversion between traditional and simplified Chinese by OpenCC, with the way back to the original characters."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from functools import cache

from preprocess.base.errors import DataError
from preprocess.text.offsets import MappedConversion, MappedText

#: The configuration that converts nothing.
NO_CONVERSION = "none"
_SURROGATES = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class OpenCCTransform:
    """Converts text by an OpenCC configuration; `opencc_transform` checks the name.

    Args:
        config: name of a configuration that OpenCC ships, such as "t2s".
    """

    config: str

    @property
    def name(self) -> str:
        """OpenCC's version and configuration: what decides the result."""
        return f"opencc-{opencc_version()}-{self.config}"

    @property
    def simplifies(self) -> bool:
        """Whether the result is simplified Chinese."""
        return self.config.endswith(("2s", "2sp"))

    def convert(self, text: str) -> str:
        """Return the converted text only; half surrogate pairs become U+FFFD."""
        return _Converter.of(self.config).convert(text)

    def __call__(self, text: str) -> MappedText:
        """Convert a text; half surrogate pairs become U+FFFD."""
        return _Converter.of(self.config).mapped(text)


def opencc_transform(config: str) -> OpenCCTransform | None:
    """Return the transform of a configuration, or None for "none".

    Raises:
        DataError: OpenCC has no such configuration.
    """
    if config == NO_CONVERSION:
        return None
    known = opencc_configs()
    if config in known:
        return OpenCCTransform(config)
    near = difflib.get_close_matches(config, known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise DataError(f"unknown OpenCC configuration {config!r}; {hint}(known: {', '.join(known)}, {NO_CONVERSION})")


def opencc_version() -> str:
    """Return the version of OpenCC's library and dictionaries."""
    import opencc

    return str(opencc.__version__)


@cache
def opencc_configs() -> tuple[str, ...]:
    """Return the names of all configurations that OpenCC ships, sorted."""
    import opencc

    return tuple(sorted(name.removesuffix(".json") for name in opencc.CONFIGS))


class _Converter:
    """A loaded configuration; not part of the transform, which is a value that can be compared and pickled."""

    def __init__(self, config: str) -> None:
        import opencc

        self._opencc = opencc.OpenCC(config)
        self.mapped = MappedConversion(self.convert)

    @staticmethod
    @cache
    def of(config: str) -> _Converter:
        return _Converter(config)

    def convert(self, text: str) -> str:
        # OpenCC takes no half pairs, and ends at the first NUL as C does.
        if "\0" in text:
            return "\0".join(map(self.convert, text.split("\0")))
        return self._opencc.convert(text if text.isascii() else _SURROGATES.sub("\ufffd", text))
