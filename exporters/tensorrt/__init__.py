"""TensorRT: from an ONNX file to an engine, and what an engine's file says of itself."""
