"""Check the bytes of an ONNX graph before it is run. Parses protobuf itself, without importing onnx.

A graph may come from a stranger. It may have only the operators that rnntool writes. It may have no weights
in other files, because ONNX Runtime would read them from anywhere. A loop may only go over the time steps of
the input, and may not contain another loop.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

LARGEST = 1 << 31  # protobuf allows no more bytes
OPERATORS = {
    "": frozenset({
        "Abs", "Add", "Cast", "Clip", "Concat", "ConstantOfShape", "Conv", "DequantizeLinear", "Div",
        "DynamicQuantizeLinear", "Exp", "Expand", "GRU", "Gather", "GatherElements", "Greater",
        "GreaterOrEqual", "Identity", "If", "LSTM", "Less", "Log", "LogSoftmax", "MatMul", "MatMulInteger",
        "Max", "Mul", "Neg", "Pad", "QuantizeLinear", "RNN", "Range", "ReduceMax", "ReduceSum", "Relu",
        "Reshape", "Scan", "Shape", "Sigmoid", "Slice", "Softmax", "Split", "Squeeze", "Sub", "Tanh",
        "Transpose", "Unsqueeze", "Where",
    }),
    "com.microsoft": frozenset({"DynamicQuantizeLSTM", "MatMulIntegerToFloat"}),
}
WITH_SUBGRAPH = frozenset({"If", "Scan"})

# For each message of onnx.proto, the numbers of the fields that it may have. If a field contains a message
# that must be checked as well, its value is the message's name. Functions and sparse weights are left out.
PLAIN = None  # any content
MESSAGES: Mapping[str, Mapping[int, str | None]] = {
    "model": {1: PLAIN, 2: PLAIN, 3: PLAIN, 4: PLAIN, 5: PLAIN, 6: PLAIN, 7: "graph", 8: PLAIN, 14: PLAIN},
    "graph": {1: "node", 2: PLAIN, 5: "tensor", 10: PLAIN, 11: PLAIN, 12: PLAIN, 13: PLAIN},
    "node": {1: PLAIN, 2: PLAIN, 3: PLAIN, 4: PLAIN, 5: "attribute", 6: PLAIN, 7: PLAIN},
    "attribute": {1: PLAIN, 2: PLAIN, 3: PLAIN, 4: PLAIN, 5: "tensor", 6: "graph", 7: PLAIN, 8: PLAIN,
                  9: PLAIN, 13: PLAIN, 20: PLAIN},
    "tensor": {1: PLAIN, 2: PLAIN, 4: PLAIN, 5: PLAIN, 7: PLAIN, 8: PLAIN, 9: PLAIN, 10: PLAIN, 11: PLAIN,
               12: PLAIN, 14: PLAIN},
}
OPERATOR, DOMAIN = 4, 7  # fields of a node
EXTERNAL_DATA, DATA_LOCATION = 13, 14  # fields of a tensor


def check(graph: bytes) -> None:
    """Raise `ValueError` if a graph isn't one that rnntool writes; the message says what is wrong with it."""
    try:
        _check(memoryview(graph), "model", nested=False)
    except IndexError:
        raise ValueError("the end of the file is missing") from None


def _check(data: memoryview, message: str, *, nested: bool) -> None:
    """Check a message; `nested` says that it is inside the body of a loop or a branch."""
    parts = MESSAGES[message]
    operator = domain = ""
    for number, content, _ in fields(data):
        if message == "tensor" and (number == EXTERNAL_DATA or (number == DATA_LOCATION and content != 0)):
            raise ValueError("it reads weights from another file")
        if number not in parts:
            raise ValueError(f"field {number} of a {message} is unknown")
        part = parts[number]
        if part is not PLAIN:
            _check(_message(content), part, nested=nested or message == "attribute")
        elif message == "node" and number == OPERATOR:
            operator = str(_message(content), "utf-8", "replace")
        elif message == "node" and number == DOMAIN:
            domain = str(_message(content), "utf-8", "replace")
    if message != "node":
        return
    if operator not in OPERATORS.get(domain, ()):
        raise ValueError(f"rnntool doesn't write the operator {operator!r}")
    if nested and operator in WITH_SUBGRAPH:
        raise ValueError(f"the operator {operator} is inside another one")


def _message(content: int | memoryview) -> memoryview:
    if isinstance(content, int):
        raise ValueError("it isn't an ONNX graph")
    return content


def fields(data: memoryview) -> Iterator[tuple[int, int | memoryview, int]]:
    """Yield the number and the content of each field of a message, an integer or bytes, and where it ends."""
    at = 0
    while at < len(data):
        key, at = _integer(data, at)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, at = _integer(data, at)
            yield number, value, at
            continue
        size = {1: 8, 5: 4}.get(kind)
        if size is None:
            if kind != 2:
                raise ValueError("it isn't an ONNX graph")
            size, at = _integer(data, at)
        if at + size > len(data):
            raise ValueError("the end of the file is missing")
        yield number, data[at : at + size], at + size
        at += size


def _integer(data: memoryview, at: int) -> tuple[int, int]:
    """Return the integer that starts at `at`, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("it isn't an ONNX graph")
