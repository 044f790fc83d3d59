"""Networks as torch modules, and their export to ONNX graphs."""
