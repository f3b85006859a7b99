"""tests/mixer/: a family of linear layers that takes seconds to build, in every format."""

from typing import Final

from modelkiln.paths import REPOSITORY

FAMILY: Final = REPOSITORY / "tests" / "mixer"
FORMATS: Final = ("onnx-fp16", "onnx-int8", "onnx-int8-dynamic", "onnx-fp8")
