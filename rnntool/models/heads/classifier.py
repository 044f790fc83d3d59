"""The classifier head: pools the states of a text into a vector and scores the labels."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor, nn
from torch.nn import functional

from rnntool.data.arrays import IGNORE
from rnntool.models.config import ClassifierHeadConfig
from rnntool.models.encoder import Encoder, Tensors
from rnntool.models.export.builder import Graph
from rnntool.models.heads.base import LabelHead, Outputs
from rnntool.models.layers import add_last_states_to, last_states, time_mask


class ClassifierHead(LabelHead):
    """Scores labels from one or several pooled vectors of a text, concatenated.

    `hidden` is the encoder's size per direction, which the pooling `last` needs.
    """

    objectives = frozenset({"label_smoothing", "label_weights", "consistency"})

    def __init__(self, config: ClassifierHeadConfig, input_size: int, hidden: int, dropout: float) -> None:
        super().__init__(config.outputs)
        self.pooling = config.pooling.split("+")
        self.hidden = hidden
        self.multi_label = config.multi_label
        self.attention = nn.Linear(input_size, 1) if "attention" in self.pooling else None
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(input_size * len(self.pooling), config.outputs)

    @classmethod
    def for_encoder(cls, config: ClassifierHeadConfig, encoder: Encoder) -> ClassifierHead:
        """Make the head with the encoder's dropout."""
        return ClassifierHead(config, encoder.output_size, encoder.config.hidden, encoder.config.dropout)

    def pool(self, states: Tensor, lengths: Tensor) -> Tensor:
        """Return (B, D * poolings), given `states` (T, B, D)."""
        poolings = {"last": self._last, "mean": _mean, "max": _max, "attention": self._attend}
        return torch.cat([poolings[name](states, lengths) for name in self.pooling], dim=-1)

    def _last(self, states: Tensor, lengths: Tensor) -> Tensor:
        return last_states(states, lengths, self.hidden)

    def _attend(self, states: Tensor, lengths: Tensor) -> Tensor:
        assert self.attention is not None
        mask = time_mask(lengths, len(states))[..., None]
        scores: Tensor = self.attention(states).float()  # (T, B, 1)
        weights = scores.masked_fill(~mask, torch.finfo(torch.float32).min).softmax(0)
        return (states * weights).sum(0) * (lengths > 0)[:, None]

    def forward(self, states: Tensor, arrays: Tensors, requested: Collection[str] | None = None) -> Outputs:
        """Return `logits` (B, L)."""
        return {"logits": self.output(self.dropout(self.pool(states, arrays["lengths"]))).float()}

    def add_to(self, g: Graph, states: str, lengths: str) -> dict[str, Graph]:
        """Add `logits` (B, L)."""
        mask = g.add("Unsqueeze", g.time_mask(states, 0, lengths), g.constant([2]))  # (T, B, 1) bool
        real = g.cast(mask, "float32")
        is_filled = g.cast(g.add("Greater", lengths, g.constant(0, "int32")), "float32")
        is_filled = g.add("Unsqueeze", is_filled, g.constant([1]))  # (B, 1), 0 for an empty text
        lowest = g.constant(torch.finfo(torch.float32).min, "float32")

        def mean() -> str:
            return g.mean(states, real, lengths)

        def peak() -> str:
            value = g.add("ReduceMax", g.add("Where", mask, states, lowest), axes=[0], keepdims=0)
            return g.add("Mul", value, is_filled)

        def attention() -> str:
            assert self.attention is not None
            scores = g.add("Where", mask, g.linear(states, self.attention, "attention"), lowest)
            weighted = g.add("Mul", states, g.add("Softmax", scores, axis=0))
            return g.add("Mul", g.add("ReduceSum", weighted, g.constant([0]), keepdims=0), is_filled)

        def last_state() -> str:
            size = self.output.in_features // len(self.pooling)
            return g.add("Mul", add_last_states_to(g, states, lengths, size, self.hidden), is_filled)

        poolings = {"last": last_state, "mean": mean, "max": peak, "attention": attention}
        pooled = [poolings[name]() for name in self.pooling]
        vector = g.add("Concat", *pooled, axis=1) if len(pooled) > 1 else pooled[0]
        logits = g.linear(vector, self.output, "output")
        g.output(logits, "logits", "float32", ["batch", self.output.out_features])
        return {}

    def loss(self, states: Tensor, arrays: Tensors) -> Tensor:
        """Return the mean cross-entropy of the texts: binary, per label, if a text may have several labels.

        `targets` are (B,), or (B, L) with several labels per text. Texts whose target is `IGNORE` don't
        count. With the objective `consistency`, the second half of the batch repeats the first under other
        dropout masks, and the divergence of the two predictions is added (R-Drop, Wu et al. 2021).
        """
        logits, targets = self(states, arrays)["logits"], arrays["targets"]
        smoothing, consistency = self.objective.label_smoothing, self.objective.consistency
        real = (targets[:, 0] if self.multi_label else targets) != IGNORE  # (B,)
        logits, targets = logits[real], targets[real]
        loss: Tensor = logits.sum()  # 0 if no text counts
        if len(targets) and self.multi_label:
            smoothed = targets * (1 - smoothing) + smoothing / 2
            losses = functional.binary_cross_entropy_with_logits(logits, smoothed, reduction="none")
            loss = (losses * self.label_weights).sum(-1).mean()
        elif len(targets):
            loss = functional.cross_entropy(
                logits, targets, weight=self.label_weights, label_smoothing=smoothing)
        if len(targets) and consistency:
            loss = loss + consistency * self._divergence(*logits.chunk(2))
        return loss

    def apply_temperatures(self, *temperatures: float) -> None:
        """Build the only temperature into the output layer."""
        (temperature,) = temperatures
        with torch.no_grad():
            for parameter in self.output.parameters():
                parameter.div_(temperature)

    def _divergence(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the mean symmetric Kullback-Leibler divergence of label distributions (B, L), in nats."""
        if self.multi_label:  # each label is a distribution over yes and no
            a, b = torch.stack([a, torch.zeros_like(a)], -1), torch.stack([b, torch.zeros_like(b)], -1)
        p, q = a.log_softmax(-1), b.log_softmax(-1)
        return ((p.exp() - q.exp()) * (p - q)).flatten(1).sum(-1).mean() / 2


def _mean(states: Tensor, lengths: Tensor) -> Tensor:
    mask = time_mask(lengths, len(states))[..., None]
    return (states * mask).sum(0) / lengths.clamp(min=1)[:, None]  # by real tokens; padding would dilute it


def _max(states: Tensor, lengths: Tensor) -> Tensor:
    mask = time_mask(lengths, len(states))[..., None]
    peak = states.masked_fill(~mask, torch.finfo(states.dtype).min).amax(0)
    return peak * (lengths > 0)[:, None]
