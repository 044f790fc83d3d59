"""Attention: a decoder's states read the states of an encoder. Knows no cells and no tokens.

The encoder's states are turned into keys and values once for each source. Additive attention (Bahdanau et
al. 2015) scores key k for query q by v · tanh(W q + k), and dot attention (Luong et al. 2015, "general") by
q · k. The values are already what the decoder's output layer makes of a state, so their weighted sum is all
that is left for each step.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from rnntool.models.export.builder import Graph
from rnntool.models.layers import time_mask


class Memory(NamedTuple):
    """What attention reads: keys (B, T, A), values (B, T, F), and the mask (B, T) of real positions."""

    keys: Tensor
    values: Tensor
    mask: Tensor


class Attention(nn.Module):
    """Weights the values of a memory by how well their keys fit a query of the size `query_size`."""

    def __init__(self, kind: str, query_size: int, memory_size: int, value_size: int) -> None:
        super().__init__()
        self.key = nn.Linear(memory_size, query_size, bias=False)
        self.value = nn.Linear(memory_size, value_size, bias=False)
        self.query: nn.Linear | None = None
        self.energy: nn.Parameter | None = None
        linears = [self.key, self.value]
        if kind == "additive":
            self.query = nn.Linear(query_size, query_size)
            self.energy = nn.Parameter(torch.empty(query_size).uniform_(-1, 1) * (3 / query_size) ** 0.5)
            nn.init.zeros_(self.query.bias)
            linears.append(self.query)
        for linear in linears:
            nn.init.xavier_uniform_(linear.weight)

    def read(self, states: Tensor, lengths: Tensor) -> Memory:
        """Make the memory of an encoder's states (T, B, D)."""
        states = states.transpose(0, 1)  # (B, T, D)
        return Memory(self.key(states), self.value(states), time_mask(lengths, states.shape[1]).T)

    def forward(self, queries: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """Return the weighted values (B, U, F) and the weights (B, U, T) for `queries` (B, U, A)."""
        if self.query is not None and self.energy is not None:
            sums = self.query(queries)[:, :, None] + memory.keys[:, None]  # (B, U, T, A)
            scores = sums.tanh() @ self.energy.to(sums.dtype)  # (B, U, T)
        else:
            scores = queries @ memory.keys.transpose(1, 2)
        # the lowest number instead of -inf, so that a row without real positions has no NaN
        lowest = torch.finfo(torch.float32).min
        weights = scores.float().masked_fill(~memory.mask[:, None], lowest).softmax(-1)
        return weights.to(memory.values.dtype) @ memory.values, weights

    def add_memory_to(self, g: Graph, states: str) -> None:
        """Add the outputs `keys` and `values`, given the encoder's states (T, B, D)."""
        states = g.add("Transpose", states, perm=[1, 0, 2])
        for name, linear in (("keys", self.key), ("values", self.value)):
            output = g.linear(states, linear, f"attention.{name}")
            g.output(output, name, "float32", ["batch", "time", linear.out_features])

    def add_step_to(self, g: Graph, query: str) -> str:
        """Add the weighted values (B, F) for one `query` (B, A) of each row; the weights are an output.

        The inputs are those that `add_memory_to` makes, and the lengths of the rows.
        """
        keys = g.input("keys", "float32", ["batch", "time", self.key.out_features])
        values = g.input("values", "float32", ["batch", "time", self.value.out_features])
        lengths = g.input("lengths", "int32", ["batch"])
        one = g.constant([1])
        if self.query is not None and self.energy is not None:
            query = g.add("Unsqueeze", g.linear(query, self.query, "attention.query"), one)
            energies = g.add("Mul", g.add("Tanh", g.add("Add", query, keys)),
                             g.weight(self.energy, "attention.energy"))
            scores = g.add("ReduceSum", energies, g.constant([2]), keepdims=0)  # (B, T)
        else:
            column = g.add("Unsqueeze", query, g.constant([2]))  # (B, A, 1)
            scores = g.add("Squeeze", g.add("MatMul", keys, column), g.constant([2]))
        mask = g.add("Transpose", g.time_mask(keys, 1, lengths), perm=[1, 0])
        lowest = g.constant(torch.finfo(torch.float32).min, "float32")
        weights = g.add("Softmax", g.add("Where", mask, scores, lowest), axis=-1)
        g.output(weights, "attention", "float32", ["batch", "time"])
        return g.add("Squeeze", g.add("MatMul", g.add("Unsqueeze", weights, one), values), one)
