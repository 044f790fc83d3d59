"""ONNX Runtime: the engine of every command that runs a model. Starts fast and does not need torch."""

from __future__ import annotations

import os
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from rnntool import model_folder
from rnntool.data.arrays import Arrays
from rnntool.data.threads import call_after_fork
from rnntool.errors import ModelError, is_out_of_memory
from rnntool.inference import signed_weights
from rnntool.model_folder import ModelConfig
from rnntool.models.config import Shape

TELEMETRY_OFF = "ORT_DISABLE_TELEMETRY"
_parents_sessions: list[Any] = []  # kept, because deleting one would wait for threads that a fork lacks


def import_onnxruntime() -> Any:
    """Import ONNX Runtime with its telemetry off, unless the user has set the variable that controls it.

    On Linux the telemetry would write an identifier into the user's cache and look up a host. ONNX Runtime
    reads the variable only while it is imported, so the environment can be restored afterwards.
    """
    if TELEMETRY_OFF in os.environ:
        import onnxruntime
        return onnxruntime
    os.environ[TELEMETRY_OFF] = "1"
    try:
        import onnxruntime
    finally:
        os.environ.pop(TELEMETRY_OFF, None)  # another thread may have removed it
    return onnxruntime


class OnnxEngine:
    """Runs the graph of a model folder on the processor. A `rnntool.tasks.base.Engine`."""

    def __init__(
        self, path: Path, *, config: ModelConfig | None = None, graph: bytes | None = None,
        threads: int = 0, part: str | None = None,
    ) -> None:
        """Load the graph at `path`, or `graph`, which was made from it. With 0 `threads`, use all cores.

        `part` is the name of a part of the network, if that is what the graph computes. `ModelError` if the
        file can't be read or run, or doesn't fit `config`.
        """
        self.path = path
        self._parts: dict[str, OnnxEngine] = {}
        self._opening = Lock()
        self._config, self._graph, self._threads = config, graph, threads
        self._version = _version(path)
        self._session = self._open()
        self.inputs: dict[str, Shape] = {v.name: tuple(v.shape) for v in self.session.get_inputs()}
        self.outputs: dict[str, Shape] = {
            v.name: tuple(v.shape) for v in self.session.get_outputs() if v.type == "tensor(float)"}
        if config is not None:
            if part is None:
                model_folder.check_graph(path.parent, config, self.inputs, self.outputs)
            else:
                model_folder.check_part(path, config, part, self.inputs, self.outputs)
        self.word_vectors = int(self.outputs.get("word_vectors", [0])[-1])
        call_after_fork(self._forked)

    @property
    def session(self) -> Any:
        """The session of ONNX Runtime; a forked process opens its own, because threads don't survive a fork.

        `ModelError` if the file has changed by then.
        """
        if self._session is None:
            if _version(self.path) != self._version:
                raise ModelError("the file has changed since the parent process loaded it",
                                 place=self.path, advice="load the model again")
            self._session = self._open()
        return self._session

    def _forked(self) -> None:
        _parents_sessions.append(self._session)
        self._session = None

    def _open(self) -> Any:
        graph = self._graph or model_folder.read_graph(self.path, self._config)
        if signed_weights.exact():
            graph = signed_weights.with_signed_weights(graph)
        onnxruntime = import_onnxruntime()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4  # errors are raised, and need not be printed as well
        # Only ONNX was checked. The same bytes might also be valid in ONNX Runtime's own format.
        options.add_session_config_entry("session.load_model_format", "ONNX")
        # A memory plan is kept for each shape of a batch, and ragged batches have many shapes.
        options.enable_mem_pattern = False
        try:
            return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's own exceptions are not public
            if is_out_of_memory(error):
                raise MemoryError(str(error)) from None
            raise ModelError(f"ONNX Runtime can't load this graph ({_first_line(error)})", place=self.path,
                             advice="train or copy the model again") from None

    def run(self, arrays: Arrays, outputs: list[str] | None = None) -> Arrays:
        """Return the named outputs of a batch; by default all but `word_vectors`, which no task decodes."""
        if outputs is None:
            names = [name for name in self.outputs if name != "word_vectors"]
        else:
            names = [name for name in outputs if name in self.outputs]
        if unknown := self.inputs.keys() - arrays:
            raise self._misfit(f"its input {min(unknown)!r} is unknown")
        inputs = {name: arrays[name] for name in self.inputs}
        sizes = {name: size for input, array in inputs.items()
                 for name, size in zip(self.inputs[input], array.shape, strict=False)}
        if "known_vectors" in arrays:
            inputs["known_vectors"] = arrays["known_vectors"]
        try:
            values = self.session.run(names, inputs)
        except Exception as error:
            if is_out_of_memory(error):
                raise MemoryError(str(error)) from None
            if not type(error).__module__.startswith("onnxruntime"):
                raise
            raise ModelError(f"the graph can't be run on this input ({_first_line(error)})", place=self.path,
                             advice=model_folder.AGAIN) from error
        for name, value in zip(names, values, strict=True):
            if name.startswith("next."):  # the next step reads it, and the outputs of that step are checked
                continue
            if value.shape != tuple(sizes.get(size, size) for size in self.outputs[name]):
                raise self._misfit(f"its output {name!r} has the wrong shape {list(value.shape)}")
            if value.size and np.isnan(value.min()):  # the minimum is NaN if any number is
                raise self._misfit(f"its output {name!r} contains NaN")
        return dict(zip(names, values, strict=True))

    def part(self, name: str) -> OnnxEngine:
        """Return the engine of the graph of this name in the same folder, which is loaded when first used."""
        with self._opening:  # batches run in several threads
            if name not in self._parts:
                path = self.path.with_name(f"{name}.onnx")
                self._parts[name] = OnnxEngine(path, config=self._config, threads=self._threads, part=name)
        return self._parts[name]

    def _misfit(self, problem: str) -> ModelError:
        return ModelError(f"the graph is damaged ({problem})", place=self.path, advice=model_folder.AGAIN)

    def initial_state(self, batch: int) -> Arrays:
        """Return zero states `state.<layer>.<h|c>` (1, B, H)."""
        return {name: np.zeros((1, batch, int(shape[-1])), np.float32)
                for name, shape in self.inputs.items() if name.startswith("state.")}


def _version(path: Path) -> tuple[int, ...] | None:
    """Return a value that changes when the content of a file does; None if there is no such file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _first_line(error: Exception) -> str:
    return str(error).split("\n")[0]
