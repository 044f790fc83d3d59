"""The decoder: a recurrent language model of targets that reads the encoder's states by attention.

Its states depend on the targets so far, and attention reads the source at each of them (Luong et al. 2015).
So the layers read a whole target at once in training, unless a step needs an output of the step before: the
output vector (input feeding) or the predicted token (scheduled sampling, Bengio et al. 2015).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from rnntool.data.arrays import IGNORE
from rnntool.models.attention import Attention, Memory
from rnntool.models.cells.kernel import State
from rnntool.models.config import DecoderHeadConfig
from rnntool.models.encoder import Encoder, Tensors
from rnntool.models.export.builder import Graph
from rnntool.models.heads.base import Head, Outputs
from rnntool.models.layers import RecurrentLayer, VariationalDropout, add_last_states_to, last_states
from rnntool.models.linear_cross_entropy import linear_cross_entropy


class Source(NamedTuple):
    """What the decoder knows of a batch of sources."""

    memory: Memory | None  # None without attention
    start: list[State]  # of each layer


class DecoderHead(Head):
    """Predicts the tokens of a target one after the other.

    The first states are computed from the last states of the encoder's directions.
    """

    objectives = frozenset({"label_smoothing", "scheduled_sampling"})

    def __init__(self, config: DecoderHeadConfig, encoder: Encoder) -> None:
        super().__init__()
        self.config = config
        self.encoder_hidden = encoder.config.hidden
        hidden, size = config.hidden, config.output_size
        embedding = encoder.input.embedding
        if not config.shared or not isinstance(embedding, nn.Embedding):
            embedding = nn.Embedding(config.outputs, config.embed)
            nn.init.uniform_(embedding.weight, -0.1, 0.1)
        self.embedding = embedding
        feed = size if config.input_feeding else 0
        self.layers = nn.ModuleList(
            RecurrentLayer(config.cell, hidden if i else config.embed + feed, hidden, bidirectional=False,
                           weight_dropout=config.weight_dropout)
            for i in range(config.layers))
        self.bridge = nn.Linear(encoder.output_size, sum(self._layer_states().values()))
        self.attention: Attention | None = None
        if config.attention != "none":
            self.attention = Attention(config.attention, hidden, encoder.output_size, size)
        self.combine = nn.Linear(hidden, size)
        self.output = nn.Linear(size, config.outputs)
        self.dropout = VariationalDropout(config.dropout)
        self.dropout_between = VariationalDropout(config.dropout_between)
        for linear in (self.bridge, self.combine, self.output):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)
        if config.tied:
            self.output.weight = embedding.weight

    @classmethod
    def for_encoder(cls, config: DecoderHeadConfig, encoder: Encoder) -> DecoderHead:
        """Make the decoder for the states of `encoder`."""
        return DecoderHead(config, encoder)

    def _layer_states(self) -> dict[str, int]:
        """Return the name and size of each part of the layers' states, without what input feeding keeps."""
        return {name: size for name, size in self.config.states.items() if name != "feed"}

    # --- Torch ---------------------------------------------------------------------------------------------

    def read(self, states: Tensor, lengths: Tensor) -> Source:
        """Return what the steps need of the encoder's states (T, B, D)."""
        last = last_states(states, lengths, self.encoder_hidden)
        parts = self.bridge(last).tanh()[None].split(self.config.hidden, dim=-1)  # each (1, B, H)
        count = len(parts) // len(self.layers)
        start = [tuple(parts[i : i + count]) for i in range(0, len(parts), count)]
        return Source(None if self.attention is None else self.attention.read(states, lengths), start)

    def forward(self, states: Tensor, arrays: Tensors, requested: Collection[str] | None = None) -> Outputs:
        """Return the inputs of the first step: `keys`, `values` (B, T, ·) and each `start.*` (1, B, ·)."""
        source = self.read(states, arrays["lengths"])
        parts = [part for state in source.start for part in state]
        if self.config.input_feeding:
            parts.append(parts[0].new_zeros(1, states.shape[1], self.config.output_size))
        outputs = {f"start.{name}": part.float()
                   for name, part in zip(self.config.states, parts, strict=True)}
        if source.memory is not None:
            outputs |= {"keys": source.memory.keys.float(), "values": source.memory.values.float()}
        return outputs

    def part(self, name: str, arrays: Tensors) -> Outputs:
        """Return the outputs of a step: `log_probs` (B, V), `attention` (B, T), and each `next.*` (1, B, ·).

        `arrays` has the `previous` tokens (B,), each `state.*`, the memory, and its `lengths`.
        """
        memory = None
        if self.attention is not None:
            keys, lengths = arrays["keys"], arrays["lengths"]
            mask = torch.arange(keys.shape[1], device=keys.device) < lengths[:, None]
            memory = Memory(keys, arrays["values"], mask)
        parts = iter([arrays[f"state.{name}"] for name in self._layer_states()])
        states = [tuple(next(parts) for _ in layer.state_sizes) for layer in self._recurrent_layers()]
        x = self.embedding(arrays["previous"])[None]  # (1, B, E)
        if self.config.input_feeding:
            x = torch.cat([x, arrays["state.feed"]], dim=-1)
        y, states = self._run_layers(x, states)
        vectors, weights = self._attend(y, memory)
        outputs = {"log_probs": self._logits(vectors[0]).float().log_softmax(-1)}
        if weights is not None:
            outputs["attention"] = weights[:, 0]
        after = [part for state in states for part in state]
        after += [vectors] if self.config.input_feeding else []
        return outputs | {f"next.{name}": part for name, part in zip(self.config.states, after, strict=True)}

    def _recurrent_layers(self) -> list[RecurrentLayer]:
        return [layer for layer in self.layers if isinstance(layer, RecurrentLayer)]

    def _run_layers(
        self, x: Tensor, states: list[State], between: list[Tensor] | None = None
    ) -> tuple[Tensor, list[State]]:
        """Return the states (U, B, H) of the last layer, and each layer's final state.

        `between` are the dropout factors of the inputs of the layers after the first.
        """
        lengths = torch.full((x.shape[1],), len(x), device=x.device)
        after = []
        for i, layer in enumerate(self._recurrent_layers()):
            if i:
                x = self.dropout_between(x) if between is None else x * between[i - 1]
            x, state = layer(x, lengths, states[i])
            after.append(state)
        return x, after

    def _attend(self, states: Tensor, memory: Memory | None) -> tuple[Tensor, Tensor | None]:
        """Return the output vectors (U, B, F) of the decoder's states (U, B, H), and weights (B, U, T)."""
        y = self.combine(states)
        weights = None
        if self.attention is not None and memory is not None:
            context, weights = self.attention(states.transpose(0, 1), memory)
            y = y + context.transpose(0, 1)
        return y.tanh(), weights

    @property
    def _output_weight(self) -> Tensor:
        """The output vectors (V, F); a shared embedding has more rows, which are never predicted."""
        return self.output.weight[: self.config.outputs]

    def _logits(self, vectors: Tensor) -> Tensor:
        return functional.linear(vectors, self._output_weight, self.output.bias)

    def loss(self, states: Tensor, arrays: Tensors) -> Tensor:
        """Return the mean negative log-probability of the `targets` (U, B), in nats.

        The decoder reads `previous` (U, B), the targets one step later. With scheduled sampling, a rising
        share of these is replaced by tokens drawn from the decoder's own predictions, each by itself.
        """
        source, previous = self.read(states, arrays["lengths"]), arrays["previous"]
        share = self.objective.scheduled_sampling * self.progress if self.training else 0.0
        if share or self.config.input_feeding:
            vectors = self._step_by_step(source, previous, share)
        else:
            y, _ = self._run_layers(self.dropout(self.embedding(previous)), source.start)
            vectors, _ = self._attend(y, source.memory)
        return linear_cross_entropy(
            self.dropout(vectors).flatten(0, 1), self._output_weight, self.output.bias,
            arrays["targets"].flatten(), ignore=IGNORE, smoothing=self.objective.label_smoothing)

    def _step_by_step(self, source: Source, previous: Tensor, share: float) -> Tensor:
        """Return the output vectors (U, B, F), each computed after the one before.

        A `share` of the `previous` tokens is replaced by predictions.
        """
        states = source.start
        vectors: list[Tensor] = []
        feed = source.start[0][0].new_zeros(1, previous.shape[1], self.config.output_size)
        inputs = self.dropout.mask(self.embedding(previous[:1]))  # the same at each step
        between = [self.dropout_between.mask(state[0]) for state in source.start[1:]]
        for row in previous:
            if vectors and share:
                with torch.no_grad():
                    drawn = self._logits(vectors[-1][0]).float().softmax(-1).multinomial(1).squeeze(1)
                row = torch.where(torch.rand(row.shape, device=row.device) < share, drawn, row)
            x = self.embedding(row)[None] * inputs
            if self.config.input_feeding:
                x = torch.cat([x, feed.to(x.dtype)], dim=-1)
            y, states = self._run_layers(x, states, between)
            feed, _ = self._attend(y, source.memory)
            vectors.append(feed)
        return torch.cat(vectors)

    # --- ONNX ----------------------------------------------------------------------------------------------

    def add_to(self, g: Graph, states: str, lengths: str) -> dict[str, Graph]:
        """Add the outputs of `forward`; return the graph of a step."""
        last = add_last_states_to(g, states, lengths, self.bridge.in_features, self.encoder_hidden)
        start = g.add("Tanh", g.linear(last, self.bridge, "bridge"))
        sizes = self._layer_states()
        parts = g.add_many("Split", start, g.constant(list(sizes.values())), outputs=len(sizes), axis=1)
        for (name, size), part in zip(sizes.items(), parts, strict=True):
            part = g.add("Unsqueeze", part, g.constant([0]))
            g.output(part, f"start.{name}", "float32", [1, "batch", size])
        if self.config.input_feeding:
            size = self.config.output_size
            g.output(g.zeros(states, 1, size), "start.feed", "float32", [1, "batch", size])
        if self.attention is not None:
            self.attention.add_memory_to(g, states)
        return {"decoder": self._step_graph()}

    def _step_graph(self) -> Graph:
        """Return the graph of `part`."""
        g = Graph()
        previous = g.input("previous", "int64", ["batch"])
        inputs = {name: g.input(f"state.{name}", "float32", [1, "batch", size])
                  for name, size in self.config.states.items()}
        axis = g.constant([0])
        y = g.add("Gather", g.weight(self.embedding.weight, "embedding"), g.add("Unsqueeze", previous, axis))
        if self.config.input_feeding:
            # what it holds is between -1 and 1; quantization needs to know
            bounds = g.constant(-1.0, "float32"), g.constant(1.0, "float32")
            y = g.add("Concat", y, g.add("Clip", inputs.pop("feed"), *bounds), axis=2)
        lengths = g.cast(g.add("Expand", g.constant([1]), g.add("Shape", previous)), "int32")  # (B,)
        parts, after = iter(inputs.values()), []
        for i, layer in enumerate(self._recurrent_layers()):
            state = [next(parts) for _ in layer.state_sizes]
            y, final_state = layer.add_to(g, y, lengths, f"layer.{i}", state)
            after += final_state
        y = g.add("Squeeze", y, axis)  # (B, H)
        vectors = g.linear(y, self.combine, "combine")
        if self.attention is not None:
            vectors = g.add("Add", vectors, self.attention.add_step_to(g, y))
        vectors = g.add("Tanh", vectors)
        logits = g.add("MatMul", vectors, g.weight(self._output_weight.T, "output.weight"))
        logits = g.add("Add", logits, g.weight(self.output.bias, "output.bias"))
        log_probs = g.add("LogSoftmax", logits, axis=-1)
        g.output(log_probs, "log_probs", "float32", ["batch", self.config.outputs])
        after += [g.add("Unsqueeze", vectors, axis)] if self.config.input_feeding else []
        for (name, size), part in zip(self.config.states.items(), after, strict=True):
            g.output(part, f"next.{name}", "float32", [1, "batch", size])
        return g
