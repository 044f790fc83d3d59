"""A network: an encoder and a head, made from a configuration that can be saved.

`forward` takes and returns named arrays, as the ONNX graph does. Recurrent states are arrays like the others:
`state.<layer>.<h|c>` goes in and `next.<layer>.<h|c>` comes out, each (1, B, H); for a window `state.0.x`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

from torch import Tensor, nn

from rnntool.models.auxiliary_lm import AuxiliaryLM
from rnntool.models.cells.kernel import State
from rnntool.models.config import NetworkConfig, ObjectiveConfig
from rnntool.models.encoder import Encoder, Tensors, Trace, WordInput
from rnntool.models.heads import make_head
from rnntool.models.heads.base import Outputs
from rnntool.models.layers import RecurrentLayer, time_mask

OBJECTIVES = frozenset({"activation", "temporal_activation", "auxiliary_lm"})  # those of any head's network


class Network(nn.Module):
    """Encoder and head behind one interface: named arrays in, named arrays out.

    Where the head asks for it, `backward_encoder` learns beside the encoder: it reads texts from right to
    left, through the same input and the same head. No output is computed from it; its weights are kept for
    other trainings to start from.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config.encoder)
        self.head = make_head(config.head, self.encoder)
        self.backward_encoder: Encoder | None = None
        if self.head.is_mirrored:
            self.backward_encoder = Encoder(config.encoder, self.encoder.input)
        self.objective = ObjectiveConfig()
        self.auxiliary_lm: AuxiliaryLM | None = None

    def forward(self, arrays: Tensors, requested: Collection[str] | None = None) -> Outputs:
        """Return the head's outputs and, if it carries a state, `next.*` states at each row's own length.

        With `requested`, the head may leave out others that are costly.
        """
        carries_state = self.head.carries_state
        states = self._read_states(arrays) if carries_state else None
        encoded, ends = self.encoder(arrays, states, states_at_lengths=carries_state)
        outputs: Outputs = self.head(encoded, arrays, requested)
        if carries_state:
            names = self.state_sizes("next")
            outputs |= {name: value for row, state in zip(names, ends, strict=True)
                        for name, value in zip(row, state, strict=True)}
        return outputs

    def loss(self, arrays: Tensors, states: list[State] | None = None) -> tuple[Tensor, list[State]]:
        """Return a batch's loss in nats (mean of its targets), and the states that a stream continues from.

        The backward encoder starts each batch of a stream without a state.
        """
        trace = Trace()
        loss, ends = self._loss_of(self.encoder, arrays, states, trace)
        if self.backward_encoder is not None:
            backward, _ = self._loss_of(self.backward_encoder, self.head.mirror(arrays), None, Trace())
            loss = (loss + backward) / 2
        if self.auxiliary_lm is not None:
            auxiliary = self.auxiliary_lm.loss(trace, arrays["words"], arrays["lengths"])
            loss = loss + self.objective.auxiliary_lm * auxiliary
        return loss, ends

    def _loss_of(
        self, encoder: Encoder, arrays: Tensors, states: list[State] | None, trace: Trace
    ) -> tuple[Tensor, list[State]]:
        """Return the head's loss plus the activation penalties for one encoder, and its last states."""
        encoded, ends = encoder(arrays, states, trace=trace)
        loss = self.head.loss(encoded, arrays)
        if self.objective.activation or self.objective.temporal_activation:
            assert trace.last_layer is not None
            size, change = activation_penalties(encoded, trace.last_layer, arrays["lengths"])
            loss = loss + self.objective.activation * size + self.objective.temporal_activation * change
        return loss, ends

    def set_objective(self, objective: ObjectiveConfig) -> None:
        """Set what `loss` includes; the default configuration leaves the head's plain loss.

        An auxiliary language model is made, kept or removed as its weight says. `ValueError` where a term is
        set that this network can't have.
        """
        default = ObjectiveConfig()
        for field in dataclasses.fields(objective):
            is_set = getattr(objective, field.name) != getattr(default, field.name)
            if is_set and field.name not in self.head.objectives | OBJECTIVES:
                raise ValueError(f"{field.name} has no effect on {type(self.head).__name__}")
        self.objective = objective
        self.head.set_objective(objective)
        if not objective.auxiliary_lm:
            self.auxiliary_lm = None
        elif self.auxiliary_lm is None:
            source, layer = self.encoder.input, self.encoder.layers[0]
            if not isinstance(source, WordInput) or not isinstance(layer, RecurrentLayer):
                raise ValueError("auxiliary_lm needs a recurrent network of words")
            self.auxiliary_lm = AuxiliaryLM(source, layer)

    def state_sizes(self, prefix: str = "state") -> list[dict[str, int]]:
        """Return the names of each layer's state arrays (1, B, size) with their sizes.

        All are empty where the head carries no state.
        """
        if not self.head.carries_state:
            return [{} for _ in self.encoder.layers]
        return [{f"{prefix}.{i}.{part}": size for part, size in sizes.items()}
                for i, sizes in enumerate(self.encoder.state_sizes)]

    def _read_states(self, arrays: Tensors) -> list[State]:
        return [tuple(arrays[name] for name in row) for row in self.state_sizes()]


def count_parameters(network: Network) -> int:
    """Count the numbers that a network's outputs are computed from; shared ones count once.

    They are learned or given (pretrained vectors, a language model beside words). What only training uses,
    such as a backward encoder, doesn't count.
    """
    return sum(p.numel() for p in nn.ModuleList([network.encoder, network.head]).parameters())


def activation_penalties(dropped: Tensor, states: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Return how large activations are (AR) and how much they change over time (TAR; Merity et al. 2017).

    These are the mean squares of `dropped` (T, B, D), the states after dropout, and of the differences of
    adjacent `states` (T, B, D); padding doesn't count.
    """
    real = time_mask(lengths, len(states))[..., None]  # (T, B, 1)
    return _mean_square(dropped, real), _mean_square(states[1:] - states[:-1], real[1:])


def _mean_square(x: Tensor, real: Tensor) -> Tensor:
    """Return the mean square of `x` (T, B, D) where `real` (T, B, 1); 0 where nothing is."""
    return (x.float().square() * real).sum() / (real.sum() * x.shape[-1]).clamp(min=1)
