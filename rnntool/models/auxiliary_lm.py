"""A second objective for networks of words: each direction of the first layer tells what it reads next.

It is learned from the text alone, beside the task's own objective (Rei 2017), and is gone when training ends.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from rnntool.data.arrays import IGNORE
from rnntool.models.cells.cell import drop
from rnntool.models.encoder import (
    Layer,
    Trace,
    WordInput,
    time_mask,
)
from rnntool.models.linear_cross_entropy import linear_cross_entropy
from rnntool.models.row_padding import padding

NEVER = -1e4  # the score of a type that isn't there


class Neighbours(nn.Module):
    """Scores the word types of a batch as the next word of each direction.

    The score of a type is a product with its own vector, so words without an embedding of their own can be
    told, too, and the cost does not grow with the vocabulary.
    """

    DROPOUT = 0.3

    def __init__(self, source: WordInput, layer: Layer) -> None:
        super().__init__()
        self.hidden = layer.ahead.hidden
        self.ahead = nn.Linear(self.hidden, source.type_size)
        self.back = nn.Linear(self.hidden, source.type_size) if layer.back is not None else None

    def loss(self, trace: Trace, words: Tensor, lengths: Tensor) -> Tensor:
        """Mean negative log-likelihood in nats of `words` (T, B), summed over the directions.

        A row's first word, which nothing comes before, is not told; 0 where no row has two words.
        """
        assert trace.types is not None and trace.first is not None
        real = time_mask(lengths, len(words))[1:]  # (T - 1, B): both words of a pair are
        if not bool(real.any()):
            return trace.first.new_zeros(())
        states = drop(trace.first, self.DROPOUT) if self.training else trace.first
        loss = _told(self.ahead, states[:-1, :, : self.hidden], trace.types, words[1:].where(real, IGNORE))
        if self.back is not None:
            told = words[:-1].where(real, IGNORE)
            loss = loss + _told(self.back, states[1:, :, self.hidden :], trace.types, told)
        return loss


def _told(layer: nn.Linear, states: Tensor, types: Tensor, targets: Tensor) -> Tensor:
    """Mean negative log-likelihood of `targets` (T, B), by states (T, B, H) and types (U, D).

    The score of a type v after a state h is (W h + b) v. It is computed as h (W' v) + b v: a batch has fewer
    types than words, and a state fewer numbers than a type.
    """
    more = padding(len(types))
    types = functional.pad(types, (0, 0, 0, more))
    bias = types @ layer.bias
    bias = bias.masked_fill(torch.arange(len(bias), device=bias.device) >= len(bias) - more, NEVER)
    return linear_cross_entropy(
        states.flatten(0, 1), types @ layer.weight, bias, targets.flatten(), ignore=IGNORE)
