"""The layers of an encoder, each `y, state = layer(x, lengths, state)` over sequences (T, B, I).

Padding is handled here: results at real positions never depend on the amount of padding.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional

from rnntool.models.cells import CELLS
from rnntool.models.cells.cell import Cell
from rnntool.models.cells.kernel import State
from rnntool.models.config import EncoderConfig


class VariationalDropout(nn.Module):
    """Dropout with one mask for all time steps (Gal and Ghahramani 2016)."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Drop features of `x` (T, B, D), the same ones at each step."""
        if not self.training or self.p == 0:
            return x
        mask = torch.empty_like(x[:1]).bernoulli_(1 - self.p) / (1 - self.p)  # (1, B, D)
        return x * mask


def time_mask(lengths: Tensor, steps: int) -> Tensor:
    """Return (T, B) bool, True at real tokens."""
    return torch.arange(steps, device=lengths.device)[:, None] < lengths[None, :]


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
