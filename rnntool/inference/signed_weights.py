"""Signed weights in the products of graphs with 8 bits, on processors that multiply by them faster.

A model folder has unsigned weights with a zero point of 128. Subtracting 128 makes them signed, with a zero
point of 0, and changes no product. Processors with VNNI then need about half the time. On others, ONNX
Runtime's products with signed weights can overflow, so these keep the unsigned ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np

from rnntool.models.graph_check import MESSAGES, OPERATOR, fields

CPU_INFO = Path("/proc/cpuinfo")
INSTRUCTIONS = ({"avx512_vnni", "avx512bw", "avx512dq", "avx512vl"}, {"avx_vnni"})  # all of either
# The places of weights among the inputs of an operator, and those of their zero points.
WEIGHTS = {"DynamicQuantizeLSTM": ((1, 9), (2, 11)), "MatMulInteger": ((1, 3),),
           "MatMulIntegerToFloat": ((1, 5),)}
INPUT, INITIALIZER = 1, 5  # fields of a node, of a graph
DATA_TYPE, NAME, RAW_DATA = 2, 8, 9  # fields of a tensor
UINT8, INT8 = 2, 3  # data types
SIGN = 0x80  # flipping this bit subtracts 128


@cache
def exact() -> bool:
    """Return whether products with signed weights are exact on this processor, as far as is known."""
    try:
        with CPU_INFO.open(encoding="utf-8", errors="replace") as lines:
            flags = set(next((line for line in lines if line.startswith("flags")), "").split())
    except OSError:
        return False
    return any(instructions <= flags for instructions in INSTRUCTIONS)


def with_signed_weights(graph: bytes) -> bytes:
    """Return a graph that passed `graph_check.check` with signed weights where they were unsigned."""
    if not any(operator.encode() in graph for operator in WEIGHTS):
        return graph
    data = bytearray(graph)
    messages = list(_messages(memoryview(data), "model"))
    tensors = {}
    for kind, message in messages:
        if kind == "tensor" and (tensor := _unsigned(message)):
            name, place, content = tensor
            tensors[name] = message[place:], np.frombuffer(content, np.uint8)
    pairs = {pair for kind, message in messages if kind == "node" for pair in _weights(message)}
    fitting = {name for pair in pairs if all(name in tensors for name in pair)
               and bool((tensors[pair[1]][1] == SIGN).all()) for name in pair}
    for name in fitting:
        data_type, numbers = tensors[name]
        data_type[0] = INT8
        numbers ^= SIGN
    return bytes(data)


def _messages(data: memoryview, kind: str) -> Iterator[tuple[str, memoryview]]:
    """Yield the nodes, tensors and other messages in a message, with their kinds, and the message itself."""
    yield kind, data
    for number, content, _ in fields(data):
        part = MESSAGES[kind].get(number)
        if part is not None and not isinstance(content, int):
            yield from _messages(content, part)


def _unsigned(tensor: memoryview) -> tuple[str, int, memoryview] | None:
    """Return the name, the place of the data type, and the numbers of a tensor; None if it isn't uint8."""
    name, place, numbers = "", -1, None
    for number, content, end in fields(tensor):
        if number == DATA_TYPE and content == UINT8:
            place = end - 1
        elif number == NAME and not isinstance(content, int):
            name = str(content, "utf-8")
        elif number == RAW_DATA and not isinstance(content, int):
            numbers = content
    return None if place < 0 or numbers is None else (name, place, numbers)


def _weights(node: memoryview) -> Iterator[tuple[str, str]]:
    """Yield the names of each matrix that a node multiplies by, and of its zero points."""
    parts = [(number, str(content, "utf-8")) for number, content, _ in fields(node)
             if number in (INPUT, OPERATOR) and not isinstance(content, int)]
    inputs = [name for number, name in parts if number == INPUT]
    for operator in (name for number, name in parts if number == OPERATOR):
        for weight, zero in WEIGHTS.get(operator, ()):
            if zero < len(inputs):
                yield inputs[weight], inputs[zero]
