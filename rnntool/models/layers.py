"""The layers of an encoder, each `y, state = layer(x, lengths, state)` over sequences (T, B, I).

Padding is handled here: results at real positions never depend on the amount of padding. Each layer also
adds itself to an ONNX graph, because torch's own exporter fixes the number of time steps of recurrent layers.
ONNX's operators accept ragged batches through `sequence_lens`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from rnntool.models.cells import CELLS
from rnntool.models.cells.cell import Cell
from rnntool.models.cells.kernel import CustomKernel, State
from rnntool.models.cells.torch_kernels import TorchKernel
from rnntool.models.config import EncoderConfig
from rnntool.models.export.builder import Graph


class VariationalDropout(nn.Module):
    """Dropout with one mask for all time steps (Gal and Ghahramani 2016)."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Drop features of `x` (T, B, D), the same ones at each step."""
        if not self.training or self.p == 0:
            return x
        return x * self.mask(x)

    def mask(self, x: Tensor) -> Tensor:
        """Draw the factors (1, B, D) of the features of `x` (T, B, D); ones outside of training."""
        if not self.training or self.p == 0:
            return torch.ones_like(x[:1])
        return torch.empty_like(x[:1]).bernoulli_(1 - self.p) / (1 - self.p)


def time_mask(lengths: Tensor, steps: int) -> Tensor:
    """Return (T, B) bool, True at real tokens."""
    return torch.arange(steps, device=lengths.device)[:, None] < lengths[None, :]


def rows_to_add(count: int) -> int:
    """Return how many rows of zeros to add to a matrix of `count` rows, to reach a multiple of 64.

    For bfloat16, oneDNN compiles a program for each new shape of a product, which takes longer than the
    product itself. Batches hardly ever have the same number of words, word types or characters.
    """
    return -count % 64


def reversed_steps(lengths: Tensor, steps: int) -> Tensor:
    """Return (T, B), the step whose value each position gets when rows are reversed within their lengths."""
    t = torch.arange(steps, device=lengths.device)[:, None]  # (T, 1)
    return torch.where(t < lengths, lengths - 1 - t, t)


def reverse(x: Tensor, lengths: Tensor) -> Tensor:
    """Reverse each row of `x` (T, B, D) within its length; padding stays where it is."""
    steps, batch, size = x.shape
    flat = reversed_steps(lengths, steps) * batch + torch.arange(batch, device=x.device)  # rows of (T * B, D)
    return functional.embedding(flat, x.reshape(steps * batch, size))


def last_states(states: Tensor, lengths: Tensor, hidden: int) -> Tensor:
    """Return (B, D), the state of each direction after it has read its whole row; zeros for an empty row.

    `states` is (T, B, D), where D is `hidden` or 2 * `hidden`. The backward direction ends at position 0.
    """
    rows = torch.arange(states.shape[1], device=states.device)
    at_end = states[(lengths - 1).clamp(min=0), rows]  # (B, D)
    last = torch.cat([at_end[:, :hidden], states[0, :, hidden:]], dim=1)
    return last * (lengths > 0)[:, None]


def add_last_states_to(g: Graph, states: str, lengths: str, size: int, hidden: int) -> str:
    """Add `last_states` (B, size) to a graph; those of an empty row are meaningless."""
    step = g.add("Sub", g.add("Max", lengths, g.constant(1, "int32")), g.constant(1, "int32"))
    step = g.add("Unsqueeze", g.cast(step, "int64"), g.constant([0]))  # (1, B)
    last = g.add("Squeeze", g.at_steps(states, step, size), g.constant([0]))
    if size == hidden:
        return last
    first = g.add("Squeeze", g.add("Gather", states, g.constant([0])), g.constant([0]))
    sides = g.constant([hidden, size - hidden])  # the backward direction ends at the first step
    forward, _ = g.add_many("Split", last, sides, outputs=2, axis=1)
    _, backward = g.add_many("Split", first, sides, outputs=2, axis=1)
    return g.add("Concat", forward, backward, axis=1)


class Layer(nn.Module, ABC):
    """One layer of an encoder. `state_sizes` has the name and the size of each part of its state."""

    output_size: int
    state_sizes: dict[str, int]

    @abstractmethod
    def forward(
        self, x: Tensor, lengths: Tensor, state: State | None = None, *, state_at_lengths: bool = False
    ) -> tuple[Tensor, State]:
        """Return the states (T, B, output_size) of `x` (T, B, I), and the final state.

        That is the state after the last step of the batch; with `state_at_lengths`, after each row's own last
        step.
        """

    @abstractmethod
    def add_to(self, g: Graph, x: str, lengths: str, name: str, state: list[str]) -> tuple[str, list[str]]:
        """Add the layer to a graph; return its states (T, B, output_size) and its final state.

        `name` is the prefix of its weights' names. `state` is the state to start from, each value
        (1, B, size); if it is empty, the layer starts from zeros.
        """


class RecurrentLayer(Layer):
    """A recurrent layer in one direction or two. Only the forward direction carries a state."""

    def __init__(
        self, cell: str, input_size: int, hidden: int, *, bidirectional: bool, weight_dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.forward_cell = Cell(cell, input_size, hidden, weight_dropout=weight_dropout)
        self.backward_cell: Cell | None = None
        if bidirectional:
            self.backward_cell = Cell(cell, input_size, hidden, weight_dropout=weight_dropout)
        self.output_size = hidden * (2 if bidirectional else 1)
        self.state_sizes = dict.fromkeys(CELLS[cell].state_names, hidden)

    def cells(self) -> list[Cell]:
        """Return the cell of each direction, the forward one first."""
        return [self.forward_cell] + ([self.backward_cell] if self.backward_cell is not None else [])

    def forward(
        self, x: Tensor, lengths: Tensor, state: State | None = None, *, state_at_lengths: bool = False
    ) -> tuple[Tensor, State]:
        """See `Layer`."""
        y, state = self.forward_cell(x, state, lengths if state_at_lengths else None)
        if self.backward_cell is not None:
            y_backward, _ = self.backward_cell(reverse(x, lengths))
            y = torch.cat([y, reverse(y_backward, lengths)], dim=-1)
        return y, state

    def add_to(
        self, g: Graph, x: str, lengths: str, name: str, state: list[str], *, reverse: bool = False
    ) -> tuple[str, list[str]]:
        """Add the layer; each part of its final state is (directions, B, H).

        With `reverse`, a layer with one direction reads from right to left.
        """
        cells, row = self.cells(), self.forward_cell.cell_type
        kernel = row.kernel()
        if not isinstance(kernel, TorchKernel):
            return self._add_scans_to(g, x, lengths, name, state, reverse=reverse)
        direction = "bidirectional" if len(cells) > 1 else "reverse" if reverse else "forward"
        arrays = zip(*(kernel.weights(cell) for cell in cells), strict=True)
        weights = [g.weight(np.stack(parts), f"{name}.{part}")
                   for parts, part in zip(arrays, "wrb", strict=True)]
        attributes = dict(kernel.attributes)
        if "activations" in attributes:
            attributes["activations"] = attributes["activations"] * len(cells)
        y, *final_state = g.add_many(
            kernel.operator, x, *weights, lengths, *state, outputs=1 + len(row.state_names),
            hidden_size=self.forward_cell.hidden, direction=direction, **attributes)
        y = g.add("Transpose", y, perm=[0, 2, 1, 3])  # (T, B, directions, H)
        return g.add("Reshape", y, g.constant([0, 0, -1])), final_state

    def _add_scans_to(
        self, g: Graph, x: str, lengths: str, name: str, state: list[str], *, reverse: bool
    ) -> tuple[str, list[str]]:
        """Add a scan for each direction, for cells without an ONNX operator.

        A step at padding leaves the state unchanged. So the final state is the one after each row's own last
        token, and a scan in reverse reaches that token with zeros.
        """
        real = g.add("Unsqueeze", g.time_mask(x, 0, lengths), g.constant([2]))  # (T, B, 1) bool
        ys, final_states = [], []
        for cell, reads_backward in zip(self.cells(), (True,) if reverse else (False, True), strict=False):
            assert isinstance(cell.kernel, CustomKernel)
            start = state or [g.zeros(x, 1, cell.hidden)] * len(cell.cell_type.state_names)
            start = [g.add("Squeeze", part, g.constant([0])) for part in start]  # (B, H)
            direction = "backward" if reads_backward else "forward"
            y, final_state = cell.kernel.add_to(
                g, x, real, start, f"{name}.{direction}", reverse=reads_backward)
            ys.append(y)
            final_states.append([g.add("Unsqueeze", part, g.constant([0])) for part in final_state])
        return g.add("Concat", *ys, axis=2) if len(ys) > 1 else ys[0], final_states[0]

    def add_words_to(
        self, g: Graph, kernel: TorchKernel, types: str, size: int, context: list[str], lengths: str,
        name: str,
    ) -> str:
        """Add the layer over words with the vectors `types` (U, size); return its states (T, B, D).

        The contribution of a word type to the gates is computed once per type and replaces the type's vector.
        The contribution of the `context` (T, B, ·) is added. Only the recurrence is left for each step.
        """
        weights = [kernel.weights(cell) for cell in self.cells()]
        hidden, gates = self.forward_cell.hidden, len(weights[0][0])
        apart = kernel.separate_recurrent_bias
        b = [biases.reshape(2, gates)[: 1 if apart else 2].sum(axis=0) for _, _, biases in weights]
        type_weights = np.concatenate([w[:, :size] for w, _, _ in weights]).T  # (size, directions * G*H)
        types = g.add("MatMul", types, g.weight(type_weights, f"{name}.w"))
        types = g.add("Add", types, g.weight(np.concatenate(b), f"{name}.b"))
        x = g.look_up_words(types, gates, len(weights))
        if context:
            all_context = g.add("Concat", *context, axis=2)
            for i, (w, _, _) in enumerate(weights):
                from_context = g.add("MatMul", all_context, g.weight(w[:, size:].T, f"{name}.{i}.context"))
                x[i] = g.add("Add", x[i], from_context)
        real = g.real_steps(x[0], lengths)
        zeros = g.add("Squeeze", g.zeros(x[0], 1, hidden), g.constant([0]))
        ys = []
        for i, (_, r, biases) in enumerate(weights):
            recurrent = g.weight(r.T, f"{name}.{i}.r")
            bias = g.weight(biases[gates:], f"{name}.{i}.b") if apart else ""

            def step(
                body: Graph, state: list[str], rows: list[str], recurrent: str = recurrent, bias: str = bias
            ) -> list[str]:
                from_state = body.add("MatMul", state[0], recurrent)
                from_state = body.add("Add", from_state, bias) if bias else from_state
                return kernel.step(body, rows[0], from_state, state, *rows[1:])

            # In reverse, padding comes first and must not change the state.
            sequences = [(x[i], "float32"), (real, "float32")] if i else [(x[i], "float32")]
            states = [zeros] * len(self.state_sizes)
            ys.append(g.scan(step, states, sequences, hidden, reverse=i == 1)[0])
        return g.add("Concat", *ys, axis=2)


class Window(Layer):
    """A feed-forward layer over a token and its neighbors (Bengio et al. 2003), with zeros beyond the text.

    Its state is the last `before` vectors that it read, (1, B, before * I).
    """

    def __init__(self, input_size: int, hidden: int, *, before: int = 0, after: int = 0) -> None:
        super().__init__()
        self.before = before
        self.after = after
        self.linear = _linear(input_size * (before + 1 + after), hidden)
        self.output_size = hidden
        self.state_sizes = {"x": before * input_size} if before else {}

    def forward(
        self, x: Tensor, lengths: Tensor, state: State | None = None, *, state_at_lengths: bool = False
    ) -> tuple[Tensor, State]:
        """See `Layer`."""
        steps, batch, size = x.shape
        if not self.before + self.after:
            return self.linear(x).tanh(), ()
        past = x.new_zeros(self.before, batch, size)
        if state:
            past = state[0].reshape(batch, self.before, size).transpose(0, 1)
        real = x * time_mask(lengths, steps)[..., None]  # a window may reach into padding
        padded = torch.cat([past, real, x.new_zeros(self.after, batch, size)])  # (before + T + after, B, I)
        views = [padded[i : i + steps] for i in range(self.before + 1 + self.after)]
        y = self.linear(torch.cat(views, dim=-1)).tanh()
        if not self.before:
            return y, ()
        if state_at_lengths:
            t = lengths + torch.arange(self.before, device=x.device)[:, None]  # (before, B)
            last = padded[t, torch.arange(batch, device=x.device)]
        else:
            last = padded[steps : steps + self.before]
        return y, (last.transpose(0, 1).reshape(1, batch, -1),)

    def add_to(self, g: Graph, x: str, lengths: str, name: str, state: list[str]) -> tuple[str, list[str]]:
        """See `Layer`."""
        width = self.before + 1 + self.after
        if width == 1:
            return g.add("Tanh", g.linear(x, self.linear, name)), []
        size = self.linear.in_features // width
        parts = [g.add("Mul", x, g.real_steps(x, lengths))]
        if self.before:
            past = g.zeros(x, self.before, size)
            if state:
                past = g.add("Reshape", state[0], g.constant([-1, self.before, size]))
                past = g.add("Transpose", past, perm=[1, 0, 2])
            parts.insert(0, past)
        if self.after:
            parts.append(g.zeros(x, self.after, size))
        padded = g.add("Concat", *parts, axis=0)  # (before + T + after, B, I)
        steps = g.add("Shape", x, start=0, end=1)
        views = [
            g.add("Slice", padded, g.constant([i]), g.add("Add", steps, g.constant([i])), g.constant([0]))
            for i in range(width)]
        y = g.add("Tanh", g.linear(g.add("Concat", *views, axis=2), self.linear, name))
        if not state:
            return y, []
        rows = g.constant([[i] for i in range(self.before)])
        last = g.at_steps(padded, g.add("Add", g.cast(lengths, "int64"), rows), size)  # (before, B, I)
        last = g.add("Transpose", last, perm=[1, 0, 2])
        return y, [g.add("Reshape", last, g.constant([1, -1, self.before * size]))]


class Bag(Layer):
    """A feed-forward layer over the mean of a text's vectors, regardless of order (Iyyer et al. 2015).

    The output at each position is the same. There is no state.
    """

    def __init__(self, input_size: int, hidden: int) -> None:
        super().__init__()
        self.linear = _linear(input_size, hidden)
        self.output_size = hidden
        self.state_sizes = {}

    def forward(
        self, x: Tensor, lengths: Tensor, state: State | None = None, *, state_at_lengths: bool = False
    ) -> tuple[Tensor, State]:
        """See `Layer`."""
        total = (x * time_mask(lengths, len(x))[..., None]).sum(0)  # (B, I)
        y: Tensor = self.linear(total / lengths.clamp(min=1)[:, None]).tanh()
        return y.expand(len(x), -1, -1), ()

    def add_to(self, g: Graph, x: str, lengths: str, name: str, state: list[str]) -> tuple[str, list[str]]:
        """See `Layer`."""
        mean = g.mean(x, g.real_steps(x, lengths), lengths)
        y = g.add("Tanh", g.linear(mean, self.linear, name))  # (B, H)
        shape = g.add("Concat", g.add("Shape", x, start=0, end=2), g.constant([self.output_size]), axis=0)
        return g.add("Expand", y, shape), []


def make_layer(config: EncoderConfig, index: int, input_size: int) -> Layer:
    """Make layer `index` of an encoder. In windows and bags, only the first layer reads several positions."""
    if config.kind == "rnn":
        return RecurrentLayer(config.cell, input_size, config.hidden, bidirectional=config.bidirectional,
                              weight_dropout=config.weight_dropout)
    if index:
        return Window(input_size, config.hidden)
    if config.kind == "bag":
        return Bag(input_size, config.hidden)
    after = config.window if config.bidirectional else 0
    return Window(input_size, config.hidden, before=config.window, after=after)


def _linear(input_size: int, hidden: int) -> nn.Linear:
    """Make a linear layer with Glorot weights and zero bias."""
    linear = nn.Linear(input_size, hidden)
    nn.init.xavier_uniform_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear
