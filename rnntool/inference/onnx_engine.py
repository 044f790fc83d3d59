"""ONNX Runtime: the engine of every command that runs a model. Starts fast and needs no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from rnntool.data.arrays import Arrays
from rnntool.errors import ModelError


class OnnxEngine:
    """Runs the graph of a model folder on the processor, or `graph`, which was made of it."""

    def __init__(self, path: Path, *, threads: int = 0, graph: bytes | None = None) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # A plan of memory is kept for each shape of a batch, and a stream of ragged batches has many.
        options.enable_mem_pattern = False
        try:
            self.session = onnxruntime.InferenceSession(
                graph or str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises a family of its own exceptions, none of them public
            reason = str(error).split("\n")[0]
            raise ModelError(f"{path}: is no graph that ONNX Runtime can load ({reason}); train or copy the "
                             "model again") from None
        self.path = path
        self.inputs = [value.name for value in self.session.get_inputs()]
        self.widths = {v.name: v.shape[-1] for v in self.session.get_outputs()}  # of the last axis
        self.word_vectors: int = self.widths.get("word_vectors", 0)
        self.states = {v.name: v.shape for v in self.session.get_inputs() if v.name.startswith("state.")}

    def run(self, arrays: Arrays, outputs: list[str] | None = None) -> dict[str, NDArray[Any]]:
        """The named outputs of a batch; by default all but `word_vectors`, which no task decodes."""
        if outputs is None:
            names = [name for name in self.widths if name != "word_vectors"]
        else:
            names = [name for name in outputs if name in self.widths]
        inputs = {name: arrays[name] for name in self.inputs}
        if "known_vectors" in arrays:
            inputs["known_vectors"] = arrays["known_vectors"]
        try:
            values = self.session.run(names, inputs)
        except Exception as error:
            if not type(error).__module__.startswith("onnxruntime"):
                raise
            reason = str(error).split("\n")[0]
            raise ModelError(f"{self.path}: can't be run on this input ({reason}); give it more memory, or "
                             "copy the model again") from error
        return dict(zip(names, values, strict=True))

    def initial_state(self, batch: int) -> dict[str, NDArray[Any]]:
        """Zero states `state.<layer>.<h|c>` (1, B, H)."""
        return {name: np.zeros((1, batch, shape[2]), np.float32) for name, shape in self.states.items()}
