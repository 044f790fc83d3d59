"""An auxiliary language-model objective for networks of words (Rei 2017).

Each direction of the first layer learns to predict the word that it reads next. This needs no labels. It is
trained together with the task's own objective, and removed when training ends.
"""

from __future__ import annotations

from torch import Tensor, arange, nn
from torch.nn import functional

from rnntool.data.arrays import IGNORE
from rnntool.models.cells.cell import drop
from rnntool.models.encoder import Trace, WordInput
from rnntool.models.layers import RecurrentLayer, rows_to_add, time_mask
from rnntool.models.linear_cross_entropy import linear_cross_entropy

PADDING_SCORE = -1e4  # score of the rows that only pad the table of word types


class AuxiliaryLM(nn.Module):
    """Scores the word types of a batch as the next word of each direction.

    The score of a type is a product with its own vector. So rare words that share the unknown token's
    embedding can be predicted as well, and the cost does not grow with the vocabulary.
    """

    DROPOUT = 0.3

    def __init__(self, word_input: WordInput, layer: RecurrentLayer) -> None:
        super().__init__()
        self.hidden = layer.forward_cell.hidden
        self.forward_output = nn.Linear(self.hidden, word_input.type_size)
        self.backward_output: nn.Linear | None = None
        if layer.backward_cell is not None:
            self.backward_output = nn.Linear(self.hidden, word_input.type_size)

    def loss(self, trace: Trace, words: Tensor, lengths: Tensor) -> Tensor:
        """Return the mean negative log-likelihood, in nats, of `words` (T, B), summed over the directions.

        The first word that a direction reads is not predicted. The loss is 0 if no row has two words.
        """
        assert trace.word_types is not None and trace.first_layer is not None
        real = time_mask(lengths, len(words))[1:]  # (T - 1, B): both words of a pair are real
        if not bool(real.any()):
            return trace.first_layer.new_zeros(())
        states = drop(trace.first_layer, self.DROPOUT) if self.training else trace.first_layer
        loss = _nll(self.forward_output, states[:-1, :, : self.hidden], trace.word_types,
                    words[1:].where(real, IGNORE))
        if self.backward_output is not None:
            loss = loss + _nll(self.backward_output, states[1:, :, self.hidden :], trace.word_types,
                               words[:-1].where(real, IGNORE))
        return loss


def _nll(layer: nn.Linear, states: Tensor, types: Tensor, targets: Tensor) -> Tensor:
    """Return the mean negative log-likelihood of `targets` (T, B), given states (T, B, H) and types (U, D).

    The score of a type v after a state h is (W h + b) v. It is computed as h (W' v) + b v, because a batch
    has fewer types than words, and a state has fewer numbers than a type.
    """
    padding = rows_to_add(len(types))
    types = functional.pad(types, (0, 0, 0, padding))
    bias = types @ layer.bias
    bias = bias.masked_fill(arange(len(bias), device=bias.device) >= len(bias) - padding, PADDING_SCORE)
    return linear_cross_entropy(
        states.flatten(0, 1), types @ layer.weight, bias, targets.flatten(), ignore=IGNORE)
