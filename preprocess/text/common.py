"""What two texts have in common."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class CommonPart(NamedTuple):
    """A piece of a context that stands in another text, too.

    Args:
        char_start: first code point in the context.
        char_end: one past the last.
        share: of the other text, 0-1.
    """

    char_start: int
    char_end: int
    share: float


def longest_common_part(text: str, context: str) -> CommonPart:
    """Return the longest piece of a context that stands in a text, the first of equally long ones; empty if none.

    Args:
        text: at least a character.
        context: where it is looked for.
    """
    codes = np.frombuffer(context.encode("utf-32-le", "surrogatepass"), np.uint32)
    # Length of the common piece that ends with this character of the context and the current one of the text.
    ending = np.zeros(len(codes) + 1, np.int64)
    best = end = 0
    for character in text:
        ending[1:] = np.where(codes == ord(character), ending[:-1] + 1, 0)
        place = int(ending.argmax())
        if (length := int(ending[place])) > best or (length == best and 0 < place < end):
            best, end = length, place
    return CommonPart(end - best, end, best / len(text))
