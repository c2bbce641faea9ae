"""What MLQA's metric compares of Chinese texts; the metric itself is that of SQuAD 1.1.

Source: `mlqa_evaluation_v1.py` of facebookresearch/MLQA, with the answer language "zh".
"""

from __future__ import annotations

import re
import string
import unicodedata

#: One Chinese character is a word; the runs between them are split at blanks.
_HAN = re.compile("[\u4e00-\u9fa5]")


class _Kept(dict[int, int | None]):
    """Code point -> itself, None for what Unicode calls punctuation and for ASCII's signs; filled as they are met."""

    def __missing__(self, code: int) -> int | None:
        character = chr(code)
        dropped = character in string.punctuation or unicodedata.category(character).startswith("P")
        self[code] = None if dropped else code
        return self[code]


_KEPT = _Kept()


def normalise(text: object) -> str:
    """Return the words of a text in lower case, without punctuation, with single blanks between them."""
    return " ".join(_HAN.sub(r" \g<0> ", str(text).lower().translate(_KEPT)).split())
