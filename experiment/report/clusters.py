"""Which questions stand or fall together: those about one context."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

#: The end of an id that numbers the questions of a context: DEV_101_QUERY_3, 1147-5-2, 17_4.
_NUMBER_OF_QUESTION = re.compile(r"[-_](?:QUERY_)?\d+$")
#: With fewer contexts their scatter says too little, and what looks like one may be a data set: q-1, q-2, q-3 …
_FEWEST = 10


def contexts_of(ids: Sequence[str], known: Mapping[str, str] | None = None) -> NDArray[np.int64]:
    """Return the number of each question's context, from 0 without gaps.

    Args:
        ids: of the questions.
        known: question id -> its article or case, of a data file; without it the ids are read: what stands before the
            number of the question names the context in the ids of CMRC2018, DRCD and CJRC.

    Returns:
        [n_questions]; each question by itself where fewer than ten contexts would be left.
    """
    if known is not None and all(id in known for id in ids):
        names = [known[id] for id in ids]
    else:
        names = [_NUMBER_OF_QUESTION.sub("", id) for id in ids]
    _, numbers = np.unique(names, return_inverse=True)
    if len(numbers) and numbers.max() + 1 < _FEWEST:
        return np.arange(len(ids), dtype=np.int64)
    return numbers.astype(np.int64)
