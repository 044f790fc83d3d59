"""From a torch network to the ONNX graph that runs."""
