"""The tagger head: scores for each tag of each column at each word."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor, nn
from torch.nn import functional

from rnntool.data.arrays import IGNORE
from rnntool.models.config import TaggerHeadConfig
from rnntool.models.crf import CRF
from rnntool.models.encoder import Encoder, Tensors
from rnntool.models.export.builder import Graph
from rnntool.models.heads.base import LabelHead, Outputs


class TaggerHead(LabelHead):
    """Scores the tags of all columns, with an optional CRF over the tags of the first column.

    One column may hold the heads of a dependency tree, and one the relations to them.
    """

    LAYER_DROPOUT = 0.33

    objectives = frozenset({"label_smoothing", "label_weights", "distribution_weights"})

    def __init__(self, config: TaggerHeadConfig, input_size: int) -> None:
        super().__init__(config.outputs)
        self.columns = list(config.columns or (config.outputs,))
        self.heads, self.relations = config.heads, config.relations
        self.layer = nn.Linear(input_size, config.layer) if config.layer else None
        self.output = nn.Linear(input_size + config.layer, config.outputs)
        self.crf = CRF(self.columns[0]) if config.crf else None

    @classmethod
    def for_encoder(cls, config: TaggerHeadConfig, encoder: Encoder) -> TaggerHead:
        """Make the head for the encoder's states."""
        return TaggerHead(config, encoder.output_size)

    def forward(self, states: Tensor, arrays: Tensors, requested: Collection[str] | None = None) -> Outputs:
        """Return `emissions` (T, B, L); with a CRF also `start` (L,), `transitions` (L, L) and `end` (L,)."""
        outputs = {"emissions": self._emissions(states).float()}
        if self.crf is not None:
            outputs |= {"start": self.crf.start, "transitions": self.crf.transitions, "end": self.crf.end}
        return outputs

    def add_to(self, g: Graph, states: str, lengths: str) -> dict[str, Graph]:
        """Add `emissions`, and with a CRF its scores."""
        if self.layer is not None:
            states = g.add("Concat", states, g.add("Relu", g.linear(states, self.layer, "layer")), axis=2)
        emissions = g.linear(states, self.output, "output")
        g.output(emissions, "emissions", "float32", ["time", "batch", self.output.out_features])
        if self.crf is not None:
            for name in ("start", "transitions", "end"):
                scores = getattr(self.crf, name)
                g.output(g.weight(scores, f"crf.{name}"), name, "float32", list(scores.shape))
        return {}

    def loss(self, states: Tensor, arrays: Tensors) -> Tensor:
        """Return the negative log-likelihood of the tags, in nats per word.

        It is the mean of the columns, or their sum with the `distribution_weights` of the objective.

        `targets` are (columns, T, B). If a row of the batch holds several sentences, `sentences` are the
        indices of each sentence's words, and `targets` have a row for each sentence. The loss is 0 if all
        sentences are empty.
        """
        scores = self._emissions(states)
        if "sentences" in arrays:
            scores = scores[tuple(arrays["sentences"])]
        emissions = list(scores.split(self.columns, dim=-1))
        targets = arrays["targets"]
        if self.relations >= 0:
            of_head = _at_heads(emissions[self.relations + 1], targets[self.heads])
            emissions[self.relations] = emissions[self.relations] + of_head
        weights = self.label_weights.split(self.columns)
        losses = [
            _head_loss(*column[:2]) if i == self.heads
            else self._crf_loss(*column) if i == 0 and self.crf else self._word_loss(*column)
            for i, column in enumerate(zip(emissions, targets, weights, strict=True))]
        means = torch.stack(losses)
        if not self.objective.distribution_weights:
            return means.mean()
        return (means * means.new_tensor(self.objective.distribution_weights)).sum()

    def apply_temperatures(self, *temperatures: float) -> None:
        """Build a temperature for each column into the output layer and the CRF."""
        sizes = zip(temperatures, self.columns, strict=True)
        divisors = torch.cat([torch.full((size,), temperature) for temperature, size in sizes])  # (L,)
        with torch.no_grad():
            self.output.weight.div_(divisors[:, None])
            self.output.bias.div_(divisors)
            for parameter in self.crf.parameters() if self.crf else ():
                parameter.div_(temperatures[0])

    def _emissions(self, states: Tensor) -> Tensor:
        if self.layer is not None:
            hidden = functional.dropout(self.layer(states).relu(), self.LAYER_DROPOUT, self.training)
            states = torch.cat([states, hidden], dim=-1)
        emissions: Tensor = self.output(states)
        return emissions

    def _word_loss(self, emissions: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        """Return the mean cross-entropy of the words, each multiplied by the weight of its tag."""
        flat = targets.flatten()
        losses = functional.cross_entropy(
            emissions.flatten(0, 1).float(), flat, ignore_index=IGNORE, reduction="none",
            label_smoothing=self.objective.label_smoothing)
        return (losses * weights[flat.clamp(min=0)]).sum() / (flat != IGNORE).sum().clamp(min=1)

    def _crf_loss(self, emissions: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        """Return the mean loss of the CRF per word. Missing a tag costs the logarithm of its weight.

        Weights become costs because the likelihood of a sentence can't be weighted word by word.
        """
        assert self.crf is not None
        mask = targets != IGNORE
        costs = weights.log()[targets.clamp(min=0)] * mask
        nll = self.crf.nll(emissions, targets, mask, smoothing=self.objective.label_smoothing, costs=costs)
        return nll.sum() / mask.sum().clamp(min=1)


def head_scores(vectors: Tensor, real: Tensor) -> Tensor:
    """Return the score (B, T, T + 1) of each head of each word, given `vectors` (T, B, 2 k + 2).

    `real` (T, B) marks words; others can't be heads. See `rnntool.data.trees.head_scores`.
    """
    size = vectors.shape[-1] // 2 - 1
    dependents, heads, of_head, of_root = vectors.transpose(0, 1).split((size, size, 1, 1), dim=-1)
    scores = dependents @ heads.transpose(1, 2) + of_head.transpose(1, 2)  # (B, T, T)
    possible = real.T[:, None] & ~torch.eye(len(real), dtype=torch.bool, device=real.device)
    return torch.cat([of_root, scores.masked_fill(~possible, -torch.inf)], dim=-1)


def _head_loss(vectors: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross-entropy of the heads (T, B) of words."""
    real = targets != IGNORE
    with torch.autocast(vectors.device.type, enabled=False):
        scores = head_scores(vectors.float(), real)
        total = functional.cross_entropy(
            scores.flatten(0, 1), targets.T.flatten(), ignore_index=IGNORE, reduction="sum")
    return total / real.sum().clamp(min=1)


def _at_heads(scores: Tensor, heads: Tensor) -> Tensor:
    """Return the `scores` (T, B, L) of each word's head (T, B); those of the root are 0."""
    with_root = functional.pad(scores, (0, 0, 0, 0, 1, 0))  # (T + 1, B, L)
    index = heads.clamp(min=0)[..., None].expand(-1, -1, scores.shape[-1])
    return with_root.gather(0, index)
