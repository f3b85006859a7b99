"""TensorRT's log."""

from typing import Any

import pytest

from exporters.tensorrt.log import Log


def test_sizes_and_errors_are_kept(trt: Any, capsys: pytest.CaptureFixture[str]) -> None:
    log = Log(trt)
    for severity, text in (
        (trt.ILogger.INFO, "Total Activation Memory: 1000 bytes"),
        (trt.ILogger.INFO, "Total Weights Memory: 20 bytes"),
        (trt.ILogger.ERROR, "IBuilder: Error Code 2:  it\n failed"),
        (trt.ILogger.ERROR, "IBuilder: Error Code 2: it failed"),
        (trt.ILogger.ERROR, "Error in catchCudaError: cudaError 35: no driver"),
        (trt.ILogger.WARNING, "take care"),
        (trt.ILogger.VERBOSE, "chatter"),
    ):
        log.logger.log(severity, text)
    assert log.memory == {"activation": 1000, "weights": 20}
    assert list(log.said()) == ["IBuilder: Error Code 2: it failed"]
    other = Log(trt)
    log.logger.log(trt.ILogger.INFO, "Total Weights Memory: 30 bytes")
    assert (log.memory["weights"], other.memory) == (20, {"weights": 30})
    log.listen()
    other.logger.log(trt.ILogger.INFO, "Total Weights Memory: 40 bytes")
    assert (log.memory["weights"], other.memory) == (40, {"weights": 30})
    said = capsys.readouterr().err
    assert "take care" in said
    assert "chatter" not in said
