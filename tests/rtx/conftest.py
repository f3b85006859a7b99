"""The bindings of TensorRT for RTX, loaded once."""

from typing import Any

import pytest

from exporters.tensorrt.flavours import load_bindings


@pytest.fixture(scope="session")
def trt() -> Any:
    return load_bindings("rtx")
