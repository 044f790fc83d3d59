"""An ONNX graph under construction: nodes, weights, inputs and outputs by name. Knows no network."""

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
DTYPES = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64, "int32": TensorProto.INT32,
          "bool": TensorProto.BOOL}

Shape = Sequence[str | int]  # sizes; a size that varies has a name


class Graph:
    """A graph under construction. A method that adds nodes returns the name of their result.

    With `outer` it is the body of a loop within that graph, whose values it can use.
    """

    def __init__(self, name: str = "", outer: Graph | None = None) -> None:
        self.name = name
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, onnx.TensorProto] = outer.weights if outer else {}
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str, dtype: str, shape: Shape) -> str:
        """Declare an input."""
        self.inputs.append(helper.make_tensor_value_info(name, DTYPES[dtype], shape))
        return name

    def optional_input(self, name: str, default: NDArray[np.float32], rows: str) -> str:
        """Declare a float input that may be left out; `rows` names its first axis, whose size varies."""
        self.weight(default, name)
        return self.input(name, "float32", [rows, *default.shape[1:]])

    def output(self, value: str, name: str, dtype: str, shape: Shape) -> None:
        """Declare a value as an output, under its own name or another."""
        if name != value:
            self.nodes.append(helper.make_node("Identity", [value], [name]))
        self.outputs.append(helper.make_tensor_value_info(name, DTYPES[dtype], shape))

    def weight(self, array: NDArray[Any] | Tensor, name: str) -> str:
        """Store a weight under its name, unless it is stored already."""
        if name not in self.weights:
            values = array.detach().cpu().numpy() if isinstance(array, Tensor) else array
            self.weights[name] = numpy_helper.from_array(np.asarray(values, order="C"), name)
        return name

    def constant(self, value: int | float | list[int] | list[list[int]], dtype: str = "int64") -> str:
        """Store a small constant; equal ones are shared."""
        array = np.array(value, dtype)
        return self.weight(array, f"constant {dtype} {array.tolist()}")

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output."""
        return self.add_many(operator, *inputs, outputs=1, **attributes)[0]

    def add_many(self, operator: str, *inputs: str, outputs: int, **attributes: Any) -> list[str]:
        """Add a node with several outputs."""
        names = [f"{self.name}{operator}.{len(self.nodes)}.{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(operator, list(inputs), names, name=names[0], **attributes))
        return names

    def select(self, condition: str, yes: Sequence[str], no: Sequence[str], shape: Shape) -> str:
        """Add a choice between two nodes, given as operator and inputs; the result is float32."""
        branches = []
        for side, (operator, *inputs) in (("yes", yes), ("no", no)):
            name = f"If.{len(self.nodes)}.{side}"
            result = helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            branches.append(helper.make_graph(
                [helper.make_node(operator, inputs, [name], name=name)], name, [], [result]))
        return self.add("If", condition, then_branch=branches[0], else_branch=branches[1])

    def scan(
        self, step: Callable[[Graph, list[str], list[str]], list[str]], states: Sequence[str],
        sequences: Sequence[tuple[str, str]], size: int, *, reverse: bool,
    ) -> tuple[str, list[str]]:
        """Add a loop over time; return the first state after each step (T, B, size), and the final states.

        `step` adds the nodes of one step to a graph and returns the new states, given the states (B, size)
        and the rows (B, ·) of the `sequences`, which are values (T, B, ·) with their types. With `reverse`
        the loop starts at the last step; results keep the order of their steps.
        """
        body = Graph(f"{self.name}Scan.{len(self.nodes)}/", self)
        before = [body.input(f"{body.name}state.{i}", "float32", ["batch", size]) for i in range(len(states))]
        rows = [body.input(f"{body.name}row.{i}", dtype, ["batch", f"size.{i}"])
                for i, (_, dtype) in enumerate(sequences)]
        after = step(body, before, rows)
        for value in after:
            body.output(value, value, "float32", ["batch", size])
        body.output(after[0], f"{body.name}y", "float32", ["batch", size])
        *final_states, y = self.add_many(
            "Scan", *states, *(name for name, _ in sequences), outputs=len(states) + 1,
            body=helper.make_graph(body.nodes, body.name, body.inputs, body.outputs),
            num_scan_inputs=len(sequences), scan_input_directions=[int(reverse)] * len(sequences),
            scan_output_directions=[int(reverse)])
        return y, final_states

    def linear(self, x: str, layer: nn.Linear, name: str) -> str:
        """Add `x @ weightᵀ + bias` over the last axis."""
        y = self.add("MatMul", x, self.weight(layer.weight.T, f"{name}.weight"))
        return y if layer.bias is None else self.add("Add", y, self.weight(layer.bias, f"{name}.bias"))

    def cast(self, x: str, dtype: str) -> str:
        """Add a conversion."""
        return self.add("Cast", x, to=DTYPES[dtype])

    def masked(self, x: str, mask: str) -> str:
        """Multiply by a `mask` of zeros and ones, unless its name is empty."""
        return self.add("Mul", x, mask) if mask else x

    def clipped(self, ids: str, size: int) -> str:
        """Clip int64 `ids` to the range from 0 to `size` - 1."""
        return self.add("Clip", ids, self.constant(0), self.constant(size - 1))

    def time_mask(self, x: str, axis: int, lengths: str) -> str:
        """Mark the real steps (T, B) bool, where T is the size of `axis` of `x`; `lengths` (B,) is int32."""
        steps = self.add("Squeeze", self.add("Shape", x, start=axis, end=axis + 1), self.constant([0]))
        t = self.add("Range", self.constant(0), steps, self.constant(1))
        t = self.add("Unsqueeze", self.cast(t, "int32"), self.constant([1]))
        return self.add("Less", t, lengths)

    def real_steps(self, x: str, lengths: str) -> str:
        """Mark the real steps of `x` (T, B, D): (T, B, 1) float32, 1 there and 0 at padding."""
        mask = self.cast(self.time_mask(x, 0, lengths), "float32")
        return self.add("Unsqueeze", mask, self.constant([2]))

    def mean(self, x: str, real: str, lengths: str) -> str:
        """Add the mean (B, D) over the real steps of `x` (T, B, D); `real` is made by `real_steps`."""
        total = self.add("ReduceSum", self.add("Mul", x, real), self.constant([0]), keepdims=0)
        count = self.cast(self.add("Max", lengths, self.constant(1, "int32")), "float32")
        return self.add("Div", total, self.add("Unsqueeze", count, self.constant([1])))

    def zeros(self, x: str, rows: int, size: int) -> str:
        """Add zeros (rows, B, size), with the batch size B of `x` (T, B, D)."""
        batch = self.add("Shape", x, start=1, end=2)
        return self.add("ConstantOfShape", self.add(
            "Concat", self.constant([rows]), batch, self.constant([size]), axis=0))

    def at_steps(self, x: str, steps: str, size: int) -> str:
        """Look up the rows (N, B, size) of `x` (T, B, size) at `steps` (N, B) int64."""
        batch = self.add("Squeeze", self.add("Shape", x, start=1, end=2), self.constant([0]))
        row = self.add("Range", self.constant(0), batch, self.constant(1))
        flat = self.add("Add", self.add("Mul", steps, batch), row)  # rows of (T * B, size)
        return self.add("Gather", self.add("Reshape", x, self.constant([-1, size])), flat)

    def look_up_words(self, types: str, size: int, parts: int) -> list[str]:
        """Look up words in `types` (U, parts * size) or in known vectors; return the parts (T, B, size).

        A caller that reads a stream requests `word_vectors` for new word types, keeps them, and from then on
        passes them as `known_vectors` (K, parts * size). If a caller leaves that input out, it has no rows.
        """
        words = self.input("words", "int64", ["time", "batch"])
        self.output(types, "word_vectors", "float32", ["types", parts * size])
        known = self.optional_input("known_vectors", np.zeros((0, parts * size), np.float32), "known")
        count = self.add("Squeeze", self.add("Shape", known, start=0, end=1), self.constant([0]))
        is_given = self.add("Greater", count, self.constant(0))
        vectors = []
        for part in range(parts):
            rows = [self.add("Reshape", table, self.constant([-1, size])) for table in (known, types)]
            row = self.add("Add", self.add("Mul", words, self.constant(parts)), self.constant(part))
            yes, no = (("Gather", table, row) for table in rows)
            vectors.append(self.select(is_given, yes, no, ["time", "batch", size]))
        return vectors

    def model(self) -> onnx.ModelProto:
        """Finish and check the model."""
        weights = list(self.weights.values())
        graph = helper.make_graph(self.nodes, "rnntool", self.inputs, self.outputs, weights)
        opset = helper.make_opsetid("", OPSET)
        model = helper.make_model(
            graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="rnntool")
        onnx.checker.check_model(model)
        return model
