"""Language-model heads: a softmax over the vocabulary, full or adaptive."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from rnntool.data.arrays import IGNORE
from rnntool.models.adaptive_embedding import AdaptiveEmbedding, indices_within
from rnntool.models.config import LMHeadConfig
from rnntool.models.encoder import Encoder, Tensors
from rnntool.models.export.builder import Graph
from rnntool.models.heads.base import Head, Outputs
from rnntool.models.layers import reversed_steps
from rnntool.models.linear_cross_entropy import linear_cross_entropy
from rnntool.tokenize import BOS, EOS


class LMHead(Head):
    """Predicts the next token. Tokens from id `outputs` on, such as labels, are read but never predicted."""

    carries_state = True

    def __init__(
        self, config: LMHeadConfig, input_size: int, embedding: nn.Embedding | AdaptiveEmbedding
    ) -> None:
        super().__init__()
        self.outputs = config.outputs
        self.is_mirrored = config.direction == "both"
        self.size = embedding.embedding_dim if config.tied else input_size
        self.projection = nn.Linear(input_size, self.size, bias=False) if self.size != input_size else None

    @classmethod
    def for_encoder(cls, config: LMHeadConfig, encoder: Encoder) -> LMHead:
        """Make the head whose softmax fits the encoder's embedding."""
        embedding = encoder.input.embedding
        if isinstance(embedding, AdaptiveEmbedding):
            return AdaptiveSoftmaxHead(config, encoder.output_size, embedding)
        return SoftmaxHead(config, encoder.output_size, embedding)

    def project(self, states: Tensor) -> Tensor:
        """Project states to the size of the output vectors (Inan et al. 2017)."""
        return states if self.projection is None else self.projection(states)

    def project_in_graph(self, g: Graph, states: str) -> str:
        """Add `project`."""
        return states if self.projection is None else g.linear(states, self.projection, "projection")

    def add_outputs(self, g: Graph, logits: str) -> None:
        """Add `logits` (T, B, V), their softmax `probs`, and the `log_probs` (T, B) of the targets."""
        targets = g.input("targets", "int64", ["time", "batch"])
        g.output(logits, "logits", "float32", ["time", "batch", self.outputs])
        probs = g.add("Softmax", logits, axis=-1)
        g.output(probs, "probs", "float32", ["time", "batch", self.outputs])
        # The normalizer is computed from the most likely token, which saves a second softmax. Unlike a sum,
        # a maximum has the same bits at any place in a batch.
        peak, top = (g.add("ReduceMax", values, axes=[-1]) for values in (logits, probs))  # (T, B, 1)
        log_total = g.add("Sub", peak, g.add("Log", top))
        indices = g.add("Unsqueeze", g.add("Max", targets, g.constant(0)), g.constant([2]))
        log_probs = g.add("Sub", g.add("GatherElements", logits, indices, axis=2), log_total)
        log_probs = g.add("Squeeze", log_probs, g.constant([2]))
        real = g.cast(g.add("GreaterOrEqual", targets, g.constant(0)), "float32")
        g.output(g.add("Mul", log_probs, real), "log_probs", "float32", ["time", "batch"])

    def mirror(self, arrays: Tensors) -> Tensors:
        """Turn BOS w1 … wn, which predicts w1 … wn EOS, into BOS wn … w1, which predicts wn … w1 EOS.

        The token of a label, which a text may begin with in place of BOS, is not predicted: EOS replaces it.
        """
        tokens, targets, lengths = (arrays[name] for name in ("tokens", "targets", "lengths"))
        steps = reversed_steps(lengths, len(tokens))
        read = targets.clamp(min=0).masked_fill(targets == EOS, BOS)
        predicted = tokens.masked_fill((tokens == BOS) | (tokens >= self.outputs), EOS)
        predicted = predicted.masked_fill(targets == IGNORE, IGNORE)
        return {"tokens": read.gather(0, steps), "targets": predicted.gather(0, steps), "lengths": lengths}


class SoftmaxHead(LMHead):
    """A softmax over the whole vocabulary, which may share the embedding's weight."""

    def __init__(self, config: LMHeadConfig, input_size: int, embedding: nn.Embedding) -> None:
        super().__init__(config, input_size, embedding)
        self.output = nn.Linear(self.size, config.outputs)
        nn.init.zeros_(self.output.bias)
        if config.tied:
            self.output.weight = embedding.weight
        else:
            nn.init.uniform_(self.output.weight, -0.1, 0.1)

    def forward(self, states: Tensor, arrays: Tensors, requested: Collection[str] | None = None) -> Outputs:
        """Return `log_probs` (T, B) of `targets`, in nats, 0 at padding, and `logits`, `probs` (T, B, V).

        The last two are left out where `logits` is not among the requested outputs.
        """
        logits = self.logits(states).float()
        targets = arrays["targets"]
        log_probs = logits.log_softmax(-1).gather(-1, targets.clamp(min=0)[..., None]).squeeze(-1)
        outputs = {"log_probs": log_probs * (targets != IGNORE)}
        if requested is None or "logits" in requested:
            outputs |= {"logits": logits, "probs": logits.softmax(-1)}
        return outputs

    def add_to(self, g: Graph, states: str, lengths: str) -> dict[str, Graph]:
        """Add all outputs."""
        logits = g.add("MatMul", self.project_in_graph(g, states), g.weight(self.weight.T, "output.weight"))
        logits = g.add("Add", logits, g.weight(self.output.bias, "output.bias"))
        self.add_outputs(g, logits)
        return {}

    @property
    def weight(self) -> Tensor:
        """The output vectors (V, D)."""
        weight, size = self.output.weight, self.output.out_features
        return weight if len(weight) == size else weight[:size]

    def logits(self, states: Tensor) -> Tensor:
        """Return scores (T, B, V)."""
        return functional.linear(self.project(states), self.weight, self.output.bias)

    def loss(self, states: Tensor, arrays: Tensors) -> Tensor:
        """Return the mean negative log-probability of the real targets, in nats."""
        return linear_cross_entropy(
            self.project(states).flatten(0, 1), self.weight, self.output.bias, arrays["targets"].flatten(),
            ignore=IGNORE)


class AdaptiveSoftmaxHead(LMHead):
    """Adaptive softmax (Grave et al. 2017): over frequent tokens and clusters, then over a cluster's tokens.

    A cluster's tokens are scored only where they are needed. The output vectors are the embedding's or the
    head's own, in the same clusters. Probabilities sum to one over the vocabulary.
    """

    def __init__(self, config: LMHeadConfig, input_size: int, embedding: AdaptiveEmbedding) -> None:
        super().__init__(config, input_size, embedding)
        self.output_embedding = embedding
        if not config.tied:
            self.output_embedding = AdaptiveEmbedding(config.outputs, self.size, embedding.cutoffs)
        # first token and end of each cluster, without tokens that are never predicted
        self.spans = list(zip((0, *embedding.cutoffs), (*embedding.cutoffs, config.outputs), strict=True))
        clusters = len(embedding.cutoffs)
        self.cluster_weight = nn.Parameter(torch.empty(clusters, self.size).uniform_(-0.1, 0.1))
        self.cluster_bias = nn.Parameter(torch.zeros(clusters))
        self.bias = nn.Parameter(torch.zeros(config.outputs))

    def layer(self, cluster: int) -> tuple[Tensor, Tensor]:
        """Return weight and bias for a cluster's tokens; those of cluster 0 precede the other clusters."""
        start, end = self.spans[cluster]
        weight, bias = self.output_embedding.table(cluster)[: end - start], self.bias[start:end]
        if cluster:
            return weight, bias
        return torch.cat([weight, self.cluster_weight]), torch.cat([bias, self.cluster_bias])

    def forward(self, states: Tensor, arrays: Tensors, requested: Collection[str] | None = None) -> Outputs:
        """Return the outputs of `SoftmaxHead`, whose `logits` are log-probabilities here.

        `log_probs` alone cost much less than `logits`.
        """
        targets = arrays["targets"]
        flat = self.project(states).flatten(0, 1)  # (N, D)
        first = self._log_softmax(flat, 0)
        log_probs = first.gather(1, self._first_targets(targets.flatten())[:, None]).squeeze(1)
        for cluster, rows, ids in self._by_cluster(targets.flatten()):
            within = self._log_softmax(self.output_embedding.project_down(flat[rows], cluster), cluster)
            log_probs = log_probs.index_add(0, rows, within.gather(1, ids[:, None]).squeeze(1))
        outputs = {"log_probs": log_probs.view(targets.shape) * (targets != IGNORE)}
        if requested is None or "logits" in requested:
            parts = first.split([self.spans[0][1], *([1] * len(self.cluster_bias))], dim=1)
            rest = [part + self._log_softmax(self.output_embedding.project_down(flat, cluster), cluster)
                    for cluster, part in enumerate(parts[1:], 1)]
            logits = torch.cat([parts[0], *rest], dim=1).view(*targets.shape, -1)
            outputs |= {"logits": logits, "probs": logits.softmax(-1)}
        return outputs

    def add_to(self, g: Graph, states: str, lengths: str) -> dict[str, Graph]:
        """Add all outputs; each cluster is scored whole."""
        states = self.project_in_graph(g, states)
        (_, frequent), *rest = self.spans

        def log_softmax(cluster: int) -> str:
            """Add log-probabilities (T, B, outputs of the cluster)."""
            x = states
            if cluster:
                shorten = self.output_embedding.projection(cluster).weight
                x = g.add("MatMul", x, g.weight(shorten, f"output.{cluster}.projection"))
            weight, bias = self.layer(cluster)
            scores = g.add("MatMul", x, g.weight(weight.T, f"output.{cluster}.weight"))
            scores = g.add("Add", scores, g.weight(bias, f"output.{cluster}.bias"))
            return g.add("LogSoftmax", scores, axis=-1)

        parts = g.add_many("Split", log_softmax(0), g.constant([frequent] + [1] * len(rest)),
                           outputs=1 + len(rest), axis=2)
        parts[1:] = [g.add("Add", part, log_softmax(cluster)) for cluster, part in enumerate(parts[1:], 1)]
        self.add_outputs(g, g.add("Concat", *parts, axis=2))
        return {}

    def loss(self, states: Tensor, arrays: Tensors) -> Tensor:
        """Return the mean negative log-probability of the real targets, in nats."""
        targets = arrays["targets"].flatten()
        flat = self.project(states).flatten(0, 1)
        count = (targets != IGNORE).sum()
        first_targets = self._first_targets(targets).masked_fill(targets == IGNORE, IGNORE)
        loss = linear_cross_entropy(flat, *self.layer(0), first_targets, ignore=IGNORE)
        for cluster, rows, ids in self._by_cluster(targets):
            share = len(rows) / count
            loss = loss + share * linear_cross_entropy(
                self.output_embedding.project_down(flat[rows], cluster), *self.layer(cluster), ids)
        return loss

    def _first_targets(self, targets: Tensor) -> Tensor:
        """Map `targets` (N,) to outputs of cluster 0: the token itself, or its cluster; 0 at padding."""
        first = targets.clamp(min=0)
        for cluster, (start, _) in enumerate(self.spans[1:]):
            first = first.masked_fill(targets >= start, self.spans[0][1] + cluster)
        return first

    def _by_cluster(self, targets: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield each rare cluster in `targets` (N,): its number, the indices (n,) and ids within it (n,)."""
        for cluster, (start, end) in enumerate(self.spans):
            rows = indices_within(targets, start, end)
            if cluster and len(rows):
                yield cluster, rows, targets[rows] - start

    def _log_softmax(self, states: Tensor, cluster: int) -> Tensor:
        """Return log-probabilities (N, outputs of the cluster), given states (N, width of the cluster)."""
        return functional.linear(states, *self.layer(cluster)).float().log_softmax(-1)
