"""modelkiln: checkpoints of SAM 2, SAM 2.1 and DINOv2 into verified artifacts.

This package is the orchestrator. It runs on the host and never imports torch, onnx or exporters.
"""

__version__ = "0.1.0"
