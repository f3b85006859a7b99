"""Web tests skip where Node or onnxruntime-web is missing, and say so."""

import os
from collections.abc import Callable

import pytest

from tests.web.node import Checked, find_obstacle, run_check


@pytest.fixture(scope="session")
def check() -> Callable[..., Checked]:
    """web/check.mjs as a function."""
    if obstacle := find_obstacle():
        if os.environ.get("MODELKILN_REQUIRE_WEB"):
            pytest.fail(obstacle)
        pytest.skip(obstacle)
    return run_check
