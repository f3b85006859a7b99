"""Web tests skip where Node or onnxruntime-web is missing, and say so."""

from collections.abc import Callable

import pytest

from tests.web.node import Checked, find_obstacle, run_check


@pytest.fixture(scope="session")
def check() -> Callable[..., Checked]:
    """web/check.mjs as a function."""
    if obstacle := find_obstacle():
        pytest.skip(obstacle)
    return run_check
