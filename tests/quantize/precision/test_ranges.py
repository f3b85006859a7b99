"""What activations reach."""

from pathlib import Path

import numpy as np
import pytest

from exporters.graphs.sessions import CPU
from exporters.precision.ranges import RangeObserver
from exporters.protocol import StageError
from tests.quantize.small_nets import make_picture


def test_what_is_no_number_stops_a_calibration(encoder: Path, tmp_path: Path) -> None:
    """onnxruntime's ReduceMax passes over it unless it comes first."""
    observer = RangeObserver(encoder, ["normed", "residual"], tmp_path / "observed", 1, CPU)
    picture = make_picture(0)
    observer.run({"image": picture})
    picture[0, 1, 20, 20] = np.nan
    with pytest.raises(StageError, match="NaN or infinite"):
        observer.run({"image": picture})
