"""Reading, checking, editing and running ONNX graphs."""
