"""A model's directory, and how arrays are compared with what the authors' programs compute."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.support.containers import CONFIG
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


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    return tmp_path
