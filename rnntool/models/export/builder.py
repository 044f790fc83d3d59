"""An ONNX graph under construction: nodes, weights, inputs and outputs by name.

Knows no network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

OPSET = 17
IR_VERSION = 8
FLOAT, INT64, INT32, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL


class Graph:
    """An ONNX graph under construction, or one inside another, which names that one's values as its own."""

    def __init__(self, name: str = "", outer: Graph | None = None) -> None:
        self.name = name
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, onnx.TensorProto] = outer.weights if outer else {}
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str, kind: int, shape: Sequence[str | int]) -> str:
        """Declare a named input."""
        self.inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def optional(self, name: str, default: NDArray[np.float32], rows: str) -> str:
        """Declare an input that has a default and any number of rows."""
        self.weight(default, name)
        return self.input(name, FLOAT, [rows, *default.shape[1:]])

    def either(
        self, condition: str, yes: Sequence[str], no: Sequence[str], shape: Sequence[str | int]
    ) -> str:
        """The float output of one of two nodes, each its operator and its inputs."""
        branches = []
        for side, (operator, *inputs) in (("yes", yes), ("no", no)):
            name = f"If.{len(self.nodes)}.{side}"
            result = helper.make_tensor_value_info(name, FLOAT, shape)
            branches.append(helper.make_graph(
                [helper.make_node(operator, inputs, [name], name=name)], name, [], [result]))
        return self.add("If", condition, then_branch=branches[0], else_branch=branches[1])

    def scan(
        self, step: Callable[[Graph, list[str], list[str]], list[str]], states: Sequence[str],
        sequences: Sequence[tuple[str, int]], size: int, *, backwards: bool,
    ) -> tuple[str, list[str]]:
        """Repeat a step over time: the first state after each one (T, B, size), and all after the last.

        `step` adds the nodes of one step to a graph and returns the new states, given the names of the states
        (B, size) and of the rows (B, ·) of the `sequences` (T, B, ·), which come with their types. With
        `backwards` the last step comes first; what it gives out stands at its own place all the same.
        """
        body = Graph(f"{self.name}Scan.{len(self.nodes)}/", self)
        before = [body.input(f"{body.name}state.{i}", FLOAT, ["batch", size]) for i in range(len(states))]
        rows = [body.input(f"{body.name}row.{i}", kind, ["batch", f"size.{i}"])
                for i, (_, kind) in enumerate(sequences)]
        after = step(body, before, rows)
        for value in after:
            body.output(value, value, FLOAT, ["batch", size])
        body.output(after[0], f"{body.name}y", FLOAT, ["batch", size])
        *ends, y = self.add_many(
            "Scan", *states, *(name for name, _ in sequences), outputs=len(states) + 1,
            body=helper.make_graph(body.nodes, body.name, body.inputs, body.outputs),
            num_scan_inputs=len(sequences), scan_input_directions=[int(backwards)] * len(sequences),
            scan_output_directions=[int(backwards)])
        return y, ends

    def output(self, value: str, name: str, kind: int, shape: Sequence[str | int]) -> None:
        """Give a value out under a name, its own or another, of which it is a copy."""
        if name != value:
            self.nodes.append(helper.make_node("Identity", [value], [name]))
        self.outputs.append(helper.make_tensor_value_info(name, kind, shape))

    def weight(self, array: NDArray[Any] | Tensor, name: str) -> str:
        """Store a weight once under its name."""
        if name not in self.weights:
            values = array.detach().cpu().numpy() if isinstance(array, Tensor) else array
            self.weights[name] = numpy_helper.from_array(np.ascontiguousarray(values), name)
        return name

    def constant(self, value: int | float | list[int] | list[list[int]], dtype: str = "int64") -> str:
        """A small constant, shared by value."""
        array = np.array(value, dtype)
        return self.weight(array, f"constant {dtype} {array.tolist()}")

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output; the output's name."""
        return self.add_many(operator, *inputs, outputs=1, **attributes)[0]

    def add_many(self, operator: str, *inputs: str, outputs: int, **attributes: Any) -> list[str]:
        """Add a node; the names of its outputs."""
        names = [f"{self.name}{operator}.{len(self.nodes)}.{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(operator, list(inputs), names, name=names[0], **attributes))
        return names

    def linear(self, x: str, layer: nn.Linear, name: str) -> str:
        """`x @ weightᵀ + bias` over the last axis."""
        y = self.add("MatMul", x, self.weight(layer.weight.T, f"{name}.weight"))
        return y if layer.bias is None else self.add("Add", y, self.weight(layer.bias, f"{name}.bias"))

    def clipped(self, ids: str, size: int) -> str:
        """The int64 `ids`, those out of range as the nearest of `size` that are in it."""
        return self.add("Clip", ids, self.constant(0), self.constant(size - 1))

    def time_mask(self, x: str, axis: int, lengths: str) -> str:
        """(T, B) bool over axis `axis` of `x`; `lengths` (B,) int32."""
        steps = self.add("Squeeze", self.add("Shape", x, start=axis, end=axis + 1), self.constant([0]))
        t = self.add("Range", self.constant(0), steps, self.constant(1))
        t = self.add("Unsqueeze", self.add("Cast", t, to=INT32), self.constant([1]))
        return self.add("Less", t, lengths)

    def zeros(self, x: str, rows: int, size: int) -> str:
        """(rows, B, size) of zeros, B being that of `x` (T, B, D)."""
        batch = self.add("Shape", x, start=1, end=2)
        return self.add("ConstantOfShape", self.add(
            "Concat", self.constant([rows]), batch, self.constant([size]), axis=0))

    def at(self, x: str, steps: str, size: int) -> str:
        """(N, B, size): what `x` (T, B, size) has at `steps` (N, B) int64."""
        batch = self.add("Squeeze", self.add("Shape", x, start=1, end=2), self.constant([0]))
        row = self.add("Range", self.constant(0), batch, self.constant(1))
        flat = self.add("Add", self.add("Mul", steps, batch), row)  # rows of x as (T * B, size)
        return self.add("Gather", self.add("Reshape", x, self.constant([-1, size])), flat)

    def model(self) -> onnx.ModelProto:
        """The finished, checked model."""
        weights = list(self.weights.values())
        graph = helper.make_graph(self.nodes, "rnntool", self.inputs, self.outputs, weights)
        opset = helper.make_opsetid("", OPSET)
        model = helper.make_model(
            graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="rnntool")
        onnx.checker.check_model(model)
        return model
