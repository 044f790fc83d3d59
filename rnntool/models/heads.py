"""Heads: from the encoder's states to the outputs of a task, and the loss of those outputs.

A head knows shapes and probabilities, and nothing of words or of label names. Each turns states into named
outputs, the same names that the ONNX graph gives.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from rnntool.data.arrays import IGNORE
from rnntool.models.adaptive_embedding import BandedEmbedding, within
from rnntool.models.config import ClassifierHeadConfig, LMHeadConfig, TaggerHeadConfig
from rnntool.models.crf import CRF
from rnntool.models.encoder import Tensors, last_states, time_mask
from rnntool.models.linear_cross_entropy import linear_cross_entropy

Outputs = dict[str, Tensor]


class LMHead(nn.Module):
    """Softmax over the vocabulary, tied to the embedding, projected where sizes differ (Inan et al. 2017).

    Rows of the embedding behind the outputs are of tokens that are read and never predicted.
    """

    def __init__(self, config: LMHeadConfig, input_size: int, embedding: nn.Embedding) -> None:
        super().__init__()
        size = embedding.embedding_dim if config.tied else input_size
        self.projection = nn.Linear(input_size, size, bias=False) if size != input_size else None
        self.output = nn.Linear(size, config.outputs)
        nn.init.zeros_(self.output.bias)
        if config.tied:
            self.output.weight = embedding.weight
        else:
            nn.init.uniform_(self.output.weight, -0.1, 0.1)

    def forward(self, states: Tensor, arrays: Tensors, *, want_logits: bool = True) -> Outputs:
        """`log_probs` (T, B) of `targets`, in nats, 0 at padding; if wanted `logits`, `probs` (T, B, V)."""
        logits = self.logits(states).float()
        targets = arrays["targets"]
        log_probs = logits.log_softmax(-1).gather(-1, targets.clamp(min=0)[..., None]).squeeze(-1)
        outputs = {"log_probs": log_probs * (targets != IGNORE)}
        return outputs | {"logits": logits, "probs": logits.softmax(-1)} if want_logits else outputs

    @property
    def weight(self) -> Tensor:
        """(V, D)."""
        weight, size = self.output.weight, self.output.out_features
        return weight if len(weight) == size else weight[:size]

    def logits(self, states: Tensor) -> Tensor:
        """(T, B, V)."""
        states = states if self.projection is None else self.projection(states)
        return functional.linear(states, self.weight, self.output.bias)

    def loss(self, states: Tensor, arrays: Tensors) -> Tensor:
        """Mean negative log-probability of the real targets, in nats."""
        states = states if self.projection is None else self.projection(states)
        return linear_cross_entropy(
            states.flatten(0, 1), self.weight, self.output.bias, arrays["targets"].flatten(), ignore=IGNORE)


class BandedLMHead(nn.Module):
    """Adaptive softmax (Grave et al. 2017): first over the frequent tokens and the bands of rarer ones, then
    over the tokens of a band.

    A band is scored only where its tokens are asked for. The head is tied to the embedding, or has vectors of
    its own in the same bands. Probabilities sum to one over the vocabulary, as those of a softmax.
    """

    def __init__(self, config: LMHeadConfig, input_size: int, embedding: BandedEmbedding) -> None:
        super().__init__()
        size = embedding.embedding_dim if config.tied else input_size
        self.projection = nn.Linear(input_size, size, bias=False) if size != input_size else None
        self.vectors = embedding
        if not config.tied:
            self.vectors = BandedEmbedding(config.outputs, size, embedding.cutoffs)
        # where bands begin and end; those of the embedding's rows that are behind them are never predicted
        self.spans = list(zip((0, *embedding.cutoffs), (*embedding.cutoffs, config.outputs), strict=True))
        bands = len(embedding.cutoffs)
        self.band_weight = nn.Parameter(torch.empty(bands, size).uniform_(-0.1, 0.1))
        self.band_bias = nn.Parameter(torch.zeros(bands))
        self.bias = nn.Parameter(torch.zeros(config.outputs))

    def layer(self, band: int) -> tuple[Tensor, Tensor]:
        """Weight and bias of the scores of a band's tokens, and in band 0 of the other bands behind them."""
        start, end = self.spans[band]
        weight, bias = self.vectors.table(band)[: end - start], self.bias[start:end]
        if band:
            return weight, bias
        return torch.cat([weight, self.band_weight]), torch.cat([bias, self.band_bias])

    def forward(self, states: Tensor, arrays: Tensors, *, want_logits: bool = True) -> Outputs:
        """As in `LMHead`, and `logits` are log-probabilities. Without these, `log_probs` cost much less."""
        targets = arrays["targets"]
        states = states if self.projection is None else self.projection(states)
        flat = states.flatten(0, 1)  # (N, D)
        first = self._log_softmax(flat, 0)
        log_probs = first.gather(1, self._told(targets.flatten())[:, None]).squeeze(1)
        for band, rows, ids in self._bands(targets.flatten()):
            found = self._log_softmax(self.vectors.shorten(flat[rows], band), band)
            log_probs = log_probs.index_add(0, rows, found.gather(1, ids[:, None]).squeeze(1))
        outputs = {"log_probs": log_probs.view(targets.shape) * (targets != IGNORE)}
        if want_logits:
            parts = first.split([self.spans[0][1], *([1] * len(self.band_bias))], dim=1)
            rest = [part + self._log_softmax(self.vectors.shorten(flat, band), band)
                    for band, part in enumerate(parts[1:], 1)]
            logits = torch.cat([parts[0], *rest], dim=1).view(*targets.shape, -1)
            outputs |= {"logits": logits, "probs": logits.softmax(-1)}
        return outputs

    def loss(self, states: Tensor, arrays: Tensors) -> Tensor:
        """Mean negative log-probability of the real targets, in nats."""
        targets = arrays["targets"].flatten()
        states = states if self.projection is None else self.projection(states)
        flat = states.flatten(0, 1)
        count = (targets != IGNORE).sum()
        told = self._told(targets).masked_fill(targets == IGNORE, IGNORE)
        loss = linear_cross_entropy(flat, *self.layer(0), told, ignore=IGNORE)
        for band, rows, ids in self._bands(targets):
            share = len(rows) / count
            loss = loss + share * linear_cross_entropy(
                self.vectors.shorten(flat[rows], band), *self.layer(band), ids)
        return loss

    def _told(self, targets: Tensor) -> Tensor:
        """(N,): which output of band 0 tells each of `targets` (N,), or its band; any at padding."""
        told = targets.clamp(min=0)
        for band, (start, _) in enumerate(self.spans[1:]):
            told = told.masked_fill(targets >= start, self.spans[0][1] + band)
        return told

    def _bands(self, targets: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
        """The bands behind the first that `targets` (N,) are in: places (n,) and ids in the band."""
        for band, (start, end) in enumerate(self.spans):
            rows = within(targets, start, end)
            if band and len(rows):
                yield band, rows, targets[rows] - start

    def _log_softmax(self, states: Tensor, band: int) -> Tensor:
        """Log-probabilities (N, outputs of the band) in it, of states (N, width of the band)."""
        return functional.linear(states, *self.layer(band)).float().log_softmax(-1)


def _mean(states: Tensor, lengths: Tensor) -> Tensor:
    mask = time_mask(lengths, len(states))[..., None]
    return (states * mask).sum(0) / lengths.clamp(min=1)[:, None]  # real tokens; padding would dilute it


def _max(states: Tensor, lengths: Tensor) -> Tensor:
    mask = time_mask(lengths, len(states))[..., None]
    top = states.masked_fill(~mask, torch.finfo(states.dtype).min).amax(0)
    return top * (lengths > 0)[:, None]


class ClassifierHead(nn.Module):
    """Pools the states of a text into one vector (or several, side by side) and scores the labels."""

    label_weights: Tensor  # (L,)

    def __init__(self, config: ClassifierHeadConfig, input_size: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.pooling = config.pooling.split("+")
        self.hidden = hidden
        self.multi_label = config.multi_label
        self.attention = nn.Linear(input_size, 1) if "attention" in self.pooling else None
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(input_size * len(self.pooling), config.outputs)
        self.label_smoothing = 0.0  # set by training, as are the two that follow
        self.consistency = 0.0
        self.register_buffer("label_weights", torch.ones(config.outputs), persistent=False)

    def pool(self, states: Tensor, lengths: Tensor) -> Tensor:
        """(B, D * poolings) of `states` (T, B, D)."""
        pooled = []
        for name in self.pooling:
            if name == "last":
                pooled.append(last_states(states, lengths, self.hidden))
            elif name == "mean":
                pooled.append(_mean(states, lengths))
            elif name == "max":
                pooled.append(_max(states, lengths))
            else:
                pooled.append(self._attend(states, lengths))
        return torch.cat(pooled, dim=-1)

    def _attend(self, states: Tensor, lengths: Tensor) -> Tensor:
        assert self.attention is not None
        mask = time_mask(lengths, len(states))[..., None]
        scores: Tensor = self.attention(states).float()  # (T, B, 1)
        weights = scores.masked_fill(~mask, torch.finfo(torch.float32).min).softmax(0)
        return (states * weights).sum(0) * (lengths > 0)[:, None]

    def forward(self, states: Tensor, arrays: Tensors) -> Outputs:
        """`logits` (B, L)."""
        return {"logits": self.output(self.dropout(self.pool(states, arrays["lengths"]))).float()}

    def loss(self, states: Tensor, arrays: Tensors) -> Tensor:
        """Mean loss of the texts in nats: cross-entropy, or binary for each label where several fit.

        Texts whose target is `IGNORE` don't count, or all their labels' where several fit.
        With `consistency` the batch holds every text twice, one half behind the other, and the halves, which
        dropout makes different, are pulled together (R-Drop, Wu et al. 2021).
        """
        logits, targets = self(states, arrays)["logits"], arrays["targets"]
        real = (targets[:, 0] if self.multi_label else targets) != IGNORE  # (B,)
        logits, targets = logits[real], targets[real]
        loss: Tensor = logits.sum()  # 0 where nothing is left
        if len(targets) and self.multi_label:  # targets (B, L)
            wanted = targets * (1 - self.label_smoothing) + self.label_smoothing / 2
            losses = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
            loss = (losses * self.label_weights).sum(-1).mean()
        elif len(targets):
            loss = functional.cross_entropy(
                logits, targets, weight=self.label_weights, label_smoothing=self.label_smoothing)
        if len(targets) and self.consistency:
            loss = loss + self.consistency * self._disagreement(*logits.chunk(2))
        return loss

    def divide(self, temperature: float) -> None:
        """Divide the scores of all labels by a temperature, for good."""
        with torch.no_grad():
            for parameter in self.output.parameters():
                parameter.div_(temperature)

    def _disagreement(self, a: Tensor, b: Tensor) -> Tensor:
        """Mean symmetric Kullback-Leibler divergence of the labels' distributions (B, L), in nats."""
        if self.multi_label:  # each label is a distribution over yes and no
            a, b = torch.stack([a, torch.zeros_like(a)], -1), torch.stack([b, torch.zeros_like(b)], -1)
        p, q = a.log_softmax(-1), b.log_softmax(-1)
        return ((p.exp() - q.exp()) * (p - q)).flatten(1).sum(-1).mean() / 2


class TaggerHead(nn.Module):
    """Scores of each tag at each word, column by column, with an optional CRF over the first one's chain."""

    label_weights: Tensor  # (L,) of all columns

    def __init__(self, config: TaggerHeadConfig, input_size: int) -> None:
        super().__init__()
        self.columns = list(config.columns or (config.outputs,))
        self.output = nn.Linear(input_size, config.outputs)
        self.crf = CRF(self.columns[0]) if config.crf else None
        self.label_smoothing = 0.0  # set by training, as are the weights
        self.register_buffer("label_weights", torch.ones(config.outputs), persistent=False)

    def forward(self, states: Tensor, arrays: Tensors) -> Outputs:
        """`emissions` (T, B, L); with a CRF its `start` (L,), `transitions` (L, L) and `end` (L,) too."""
        outputs = {"emissions": self.output(states).float()}
        if self.crf is not None:
            outputs |= {"start": self.crf.start, "transitions": self.crf.transitions, "end": self.crf.end}
        return outputs

    def loss(self, states: Tensor, arrays: Tensors) -> Tensor:
        """Negative log-likelihood of the tags in nats a word, the mean of the columns.

        `targets` are (columns, T, B). Where a row of the batch has several sentences, `sentences` says where
        each of them has its words, and `targets` have a row for each. The loss is 0 for a batch of empty
        sentences.
        """
        scores = self.output(states)
        if "sentences" in arrays:
            scores = scores[tuple(arrays["sentences"])]
        emissions = scores.split(self.columns, dim=-1)
        weights = self.label_weights.split(self.columns)
        losses = [
            self._chain_loss(*column) if i == 0 and self.crf else self._word_loss(*column)
            for i, column in enumerate(zip(emissions, arrays["targets"], weights, strict=True))]
        return torch.stack(losses).mean()

    def divide(self, *temperatures: float) -> None:
        """Divide the scores of each column by its temperature, for good."""
        sizes = zip(temperatures, self.columns, strict=True)
        each = torch.cat([torch.full((size,), temperature) for temperature, size in sizes])  # (L,)
        with torch.no_grad():
            self.output.weight.div_(each[:, None])
            self.output.bias.div_(each)
            for parameter in self.crf.parameters() if self.crf else ():
                parameter.div_(temperatures[0])

    def _word_loss(self, emissions: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        """Mean cross-entropy of the words, each weighed by its tag."""
        wanted = targets.flatten()
        losses = functional.cross_entropy(
            emissions.flatten(0, 1).float(), wanted, ignore_index=IGNORE, reduction="none",
            label_smoothing=self.label_smoothing)
        return (losses * weights[wanted.clamp(min=0)]).sum() / (wanted != IGNORE).sum().clamp(min=1)

    def _chain_loss(self, emissions: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        """Mean loss of the CRF; where a word's tag has a weight, missing it costs that weight's logarithm.

        Weighing the words of a likelihood is no option here: it is that of a sentence.
        """
        assert self.crf is not None
        mask = targets != IGNORE
        costs = weights.log()[targets.clamp(min=0)] * mask
        nll = self.crf.nll(emissions, targets, mask, smoothing=self.label_smoothing, costs=costs)
        return nll.sum() / mask.sum().clamp(min=1)


Head = LMHead | BandedLMHead | ClassifierHead | TaggerHead
