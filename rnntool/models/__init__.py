"""The networks, as torch modules, and the ONNX graph that is written from them."""
