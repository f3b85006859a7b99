"""The bindings of each flavour."""

from typing import Any

import pytest

from exporters.protocol import StageError
from exporters.tensorrt import flavours
from exporters.tensorrt.flavours import FLAVOURS, Flavour, load_bindings


def test_the_bindings_have_what_the_table_says(trt: Any) -> None:
    assert trt.__version__ == "1.7.1.116"
    for name, flavour in FLAVOURS.items():
        assert hasattr(load_bindings(name), "ComputeCapability") is flavour.names_gpus


def test_bindings_that_are_missing_are_an_environment_s_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gone = Flavour(title="Gone", module="no_such_bindings", names_gpus=True, header=True)
    monkeypatch.setattr(flavours, "FLAVOURS", {"gone": gone})
    with pytest.raises(StageError) as caught:
        load_bindings("gone")
    assert caught.value.exit_code == 4
    assert "no_such_bindings" in caught.value.why
