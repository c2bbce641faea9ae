"""How a backend is loaded."""

from __future__ import annotations

import gc
import weakref

from experiment.backend import load_backend


class _Model:
    """Something in a cycle, as models are."""

    def __init__(self) -> None:
        self.trainer = [self]


def test_models_of_a_process_that_loads_backends_again_and_again_are_freed() -> None:
    load_backend("pytorch")
    model = _Model()
    gone = weakref.ref(model)
    load_backend("pytorch")
    del model
    gc.collect()
    assert gone() is None
