"""A network: one shared encoder and one head, from a configuration that can be saved.

`forward` takes and gives named arrays, as the ONNX graph does; recurrent states are arrays like the others:
`state.<layer>.<h|c>` goes in, `next.<layer>.<h|c>` comes out, each (1, B, H); of a window `state.0.x`.
"""

from __future__ import annotations

from collections.abc import Collection

from torch import Tensor, nn

from rnntool.data.arrays import IGNORE
from rnntool.models.adaptive_embedding import BandedEmbedding
from rnntool.models.auxiliary_lm import Neighbours
from rnntool.models.cells.cell import State
from rnntool.models.config import (
    ClassifierHeadConfig,
    LMHeadConfig,
    NetworkConfig,
    TaggerHeadConfig,
)
from rnntool.models.encoder import (
    Encoder,
    Layer,
    Tensors,
    TokenInput,
    Trace,
    WordInput,
    reversed_steps,
    time_mask,
)
from rnntool.models.heads import BandedLMHead, ClassifierHead, Head, LMHead, Outputs, TaggerHead
from rnntool.tokenize import BOS, EOS


class Network(nn.Module):
    """Encoder and head behind one interface: named arrays in, named arrays out."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config.encoder)
        self.head: Head = _head(config, self.encoder)
        # a backward language model's, which learns beside the forward one, from the same embedding to the
        # same softmax; it is there to be carried over, and no output is computed from it
        self.back: Encoder | None = None
        if isinstance(config.head, LMHeadConfig) and config.head.direction == "both":
            self.back = Encoder(config.encoder, self.encoder.input)
        self.stateful = config.head.kind == "lm"
        self.neighbours: Neighbours | None = None  # a second objective, of that weight, while training
        self.neighbours_weight = 0.0
        self.ar = self.tar = 0.0  # weights of the activation penalties, while training

    def forward(self, arrays: Tensors, wanted: Collection[str] | None = None) -> Outputs:
        """The head's outputs; a language model's `next.*` states too, each at its row's own length.

        A language model's `logits` are left out where names are `wanted` and they are not among them.
        """
        states = read_states(self.encoder, arrays, "state") if self.stateful else None
        encoded, ends = self.encoder(arrays, states, want_states=self.stateful)
        if isinstance(self.head, LMHead | BandedLMHead):
            outputs: Outputs = self.head(encoded, arrays, want_logits=wanted is None or "logits" in wanted)
        else:
            outputs = self.head(encoded, arrays)
        if self.stateful:
            outputs |= name_states(self.encoder, ends, "next")
        return outputs

    def loss(self, arrays: Tensors, states: list[State] | None = None) -> tuple[Tensor, list[State]]:
        """The loss of a batch in nats (mean of its targets), and the states that a stream goes on from.

        The backward direction of a language model begins each batch of a stream anew.
        """
        trace = Trace()
        loss, ends = self._read(self.encoder, arrays, states, trace)
        if self.back is not None:
            back, _ = self._read(self.back, turn(arrays, self.config.head.outputs), None, Trace())
            loss = (loss + back) / 2
        if self.neighbours is not None:
            told = self.neighbours.loss(trace, arrays["words"], arrays["lengths"])
            loss = loss + self.neighbours_weight * told
        return loss, ends

    def _read(
        self, encoder: Encoder, arrays: Tensors, states: list[State] | None, trace: Trace
    ) -> tuple[Tensor, list[State]]:
        """The head's loss and the penalties of one direction, and its last states."""
        encoded, ends = encoder(arrays, states, trace=trace)
        loss = self.head.loss(encoded, arrays)
        if self.ar or self.tar:
            assert trace.last is not None
            large, abrupt = activation_penalties(encoded, trace.last, arrays["lengths"])
            loss = loss + self.ar * large + self.tar * abrupt
        return loss, ends

    def learn_neighbours(self, weight: float) -> None:
        """Learn to tell each word's neighbours, too; a weight of 0 ends it."""
        layer = self.encoder.layers[0]
        self.neighbours = None
        self.neighbours_weight = weight
        if weight:
            assert isinstance(self.encoder.input, WordInput) and isinstance(layer, Layer)
            self.neighbours = Neighbours(self.encoder.input, layer)


def activation_penalties(dropped: Tensor, states: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """How large states are and how much they change from a step to the next (Merity et al. 2017).

    The mean squares of `dropped` (T, B, D), the states after dropout, and of the differences of neighbouring
    `states` (T, B, D); padding counts for nothing.
    """
    real = time_mask(lengths, len(states))[..., None]  # (T, B, 1)
    return _mean_square(dropped, real), _mean_square(states[1:] - states[:-1], real[1:])


def _mean_square(x: Tensor, real: Tensor) -> Tensor:
    """Mean square of `x` (T, B, D) where `real` (T, B, 1); 0 where nothing is."""
    return (x.float().square() * real).sum() / (real.sum() * x.shape[-1]).clamp(min=1)


def state_sizes(encoder: Encoder, prefix: str) -> list[dict[str, int]]:
    """The names of each layer's state arrays (1, B, size), and their sizes."""
    return [{f"{prefix}.{i}.{part}": size for part, size in states.items()}
            for i, states in enumerate(encoder.states)]


def name_states(encoder: Encoder, states: list[State], prefix: str) -> dict[str, Tensor]:
    """States as named arrays."""
    names = state_sizes(encoder, prefix)
    return {n: t for row, state in zip(names, states, strict=True) for n, t in zip(row, state, strict=True)}


def read_states(encoder: Encoder, arrays: Tensors, prefix: str) -> list[State]:
    """States from named arrays."""
    return [tuple(arrays[name] for name in row) for row in state_sizes(encoder, prefix)]


def turn(arrays: Tensors, outputs: int) -> Tensors:
    """A language model's batch from right to left: BOS wn … w1 is read and predicted as wn … w1 EOS.

    What the text began with, BOS or the label that it was given, a token behind the `outputs`, becomes EOS.
    """
    tokens, targets, lengths = (arrays[name] for name in ("tokens", "targets", "lengths"))
    steps = reversed_steps(lengths, len(tokens))
    read = targets.clamp(min=0).masked_fill(targets == EOS, BOS)
    told = tokens.masked_fill((tokens == BOS) | (tokens >= outputs), EOS)
    told = told.masked_fill(targets == IGNORE, IGNORE)
    return {"tokens": read.gather(0, steps), "targets": told.gather(0, steps), "lengths": lengths}


def _head(config: NetworkConfig, encoder: Encoder) -> Head:
    if isinstance(config.head, LMHeadConfig):
        assert isinstance(encoder.input, TokenInput)
        embedding = encoder.input.embedding
        if isinstance(embedding, BandedEmbedding):
            return BandedLMHead(config.head, encoder.output_size, embedding)
        return LMHead(config.head, encoder.output_size, embedding)
    if isinstance(config.head, ClassifierHeadConfig):
        return ClassifierHead(config.head, encoder.output_size, config.encoder.hidden, config.encoder.dropout)
    assert isinstance(config.head, TaggerHeadConfig)
    return TaggerHead(config.head, encoder.output_size)


def count_parameters(network: Network) -> int:
    """Numbers that the graph of a network computes its outputs from, shared ones counted once.

    Learned or given (pretrained vectors, a language model beside words); without those that only training
    has, such as a backward language model.
    """
    return sum(p.numel() for p in nn.ModuleList([network.encoder, network.head]).parameters())
