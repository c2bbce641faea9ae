"""How arrays are compared with what the authors' programs compute."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.formats import ATOL


@pytest.fixture
def same(record_property):
    """Compare every output at every position, padding included."""

    def check(found: dict[str, np.ndarray], expected: dict[str, np.ndarray], atol: float = ATOL) -> None:
        assert set(found) == set(expected)
        worst = max(float(np.abs(found[name] - expected[name]).max()) for name in expected)
        record_property("max_abs_difference", worst)
        for name, values in expected.items():
            np.testing.assert_allclose(found[name], values, atol=atol, rtol=0, err_msg=name)

    return check
