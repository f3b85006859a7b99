"""What a format asks of onnxruntime reaches it, and what ran is seen."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest

from exporters.checks.runtime import Runtime
from exporters.graphs.sessions import CPU, CUDA, RuntimeFailure, Session, Sessions, run_kernels
from exporters.protocol import StageError
from tests.quantize.assess_case import NO_FAULTS, WIDTHS, Case

LEAVE_ALONE = {"session.disable_quant_qdq": "1"}


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("net")
    onnx.save_model(Case(folder / "case").quantize(NO_FAULTS), folder / "net.onnx")
    return folder / "net.onnx"


INPUTS = {"x": np.ones((2, WIDTHS[0]), np.float32)}


def test_config_entries_reach_the_session(net: Path) -> None:
    ran = Counter(operator for operator, _ in run_kernels(net, 1, INPUTS, LEAVE_ALONE))
    assert ran["QGemm"] == 0
    assert ran["DequantizeLinear"] > 0
    of_another_format = {"session.load_model_format": "ORT"}
    for config in ({}, LEAVE_ALONE):
        assert Sessions({"net": net}, 1, config).run("net", INPUTS)
    with pytest.raises(RuntimeFailure):
        Session(net, 1, 4, of_another_format)
    with pytest.raises(StageError, match="cannot load"):
        Sessions({"net": net}, 1, of_another_format)
    with pytest.raises(StageError, match="cannot load the graph net"):
        Runtime({"net": net}, 1, of_another_format)


def test_a_provider_that_is_not_there_is_not_replaced(net: Path) -> None:
    """onnxruntime itself goes on with the CPU, and logs that at most."""
    assert Session(net, 1, provider=CPU).run(INPUTS)
    if Path("/dev/nvidiactl").exists():
        pytest.skip("there is a GPU")
    with pytest.raises(RuntimeFailure, match=f"{CUDA} was asked for"):
        Session(net, 1, log_level=4, provider=CUDA)
