"""A second objective for networks of words: each direction of the first layer tells what it reads next.

It is learned from the text alone, beside the task's own objective (Rei 2017), and is gone when training ends.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from rnntool.models.encoder import Layer, Trace, WordInput, time_mask
from rnntool.models.heads import IGNORE
from rnntool.models.softmax import linear_cross_entropy


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
        states = functional.dropout(trace.first, self.DROPOUT, self.training)
        loss = self._told(self.ahead(states[:-1, :, : self.hidden]), trace.types, words[1:], real)
        if self.back is not None:
            told = self._told(self.back(states[1:, :, self.hidden :]), trace.types, words[:-1], real)
            loss = loss + told
        return loss

    @staticmethod
    def _told(states: Tensor, types: Tensor, words: Tensor, real: Tensor) -> Tensor:
        """Mean negative log-likelihood of the real `words` (T, B), of states (T, B, D) and types (U, D)."""
        targets = words.where(real, IGNORE).flatten()
        return linear_cross_entropy(
            states.flatten(0, 1), types, types.new_zeros(len(types)), targets, ignore=IGNORE)
