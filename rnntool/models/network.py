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

OBJECTIVES = frozenset({"activation", "temporal_activation", "auxiliary_lm"})  # supported with any head


class Network(nn.Module):
    """Encoder and head behind one interface: named arrays in, named arrays out.

    If the head `is_mirrored`, a `backward_encoder` is trained as well. It reads texts from right to left,
    through the same input and head. No output depends on it; its weights are kept so that other trainings can
    start from them.
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
        """Return the head's outputs and, if it carries state, the `next.*` states after each row's last step.

        With `requested`, costly outputs that are not requested may be left out.
        """
        carries_state = self.head.carries_state
        states = None
        if carries_state:
            states = [tuple(arrays[name] for name in row) for row in self.state_sizes()]
        encoded, final_states = self.encoder(arrays, states, states_at_lengths=carries_state)
        outputs: Outputs = self.head(encoded, arrays, requested)
        if carries_state:
            names = self.state_sizes("next")
            outputs |= {name: value for row, state in zip(names, final_states, strict=True)
                        for name, value in zip(row, state, strict=True)}
        return outputs

    def part(self, name: str, arrays: Tensors) -> Outputs:
        """Return the outputs of a part of the network that runs on its own, such as a decoder's step."""
        return self.head.part(name, arrays)

    def loss(self, arrays: Tensors, states: list[State] | None = None) -> tuple[Tensor, list[State]]:
        """Return a batch's loss in nats (mean over its targets), and the final states, to continue a stream.

        The backward encoder starts each batch of a stream from zeros.
        """
        trace = Trace()
        loss, final_states = self._loss_of(self.encoder, arrays, states, trace)
        if self.backward_encoder is not None:
            backward, _ = self._loss_of(self.backward_encoder, self.head.mirror(arrays), None, Trace())
            loss = (loss + backward) / 2
        if self.auxiliary_lm is not None:
            auxiliary = self.auxiliary_lm.loss(trace, arrays["words"], arrays["lengths"])
            loss = loss + self.objective.auxiliary_lm * auxiliary
        return loss, final_states

    def _loss_of(
        self, encoder: Encoder, arrays: Tensors, states: list[State] | None, trace: Trace
    ) -> tuple[Tensor, list[State]]:
        """Return the head's loss plus the activation penalties for one encoder, and its final states."""
        encoded, final_states = encoder(arrays, states, trace=trace)
        loss = self.head.loss(encoded, arrays)
        if self.objective.activation or self.objective.temporal_activation:
            assert trace.last_layer is not None
            size, change = activation_penalties(encoded, trace.last_layer, arrays["lengths"])
            loss = loss + self.objective.activation * size + self.objective.temporal_activation * change
        return loss, final_states

    def set_objective(self, objective: ObjectiveConfig) -> None:
        """Set what `loss` includes; with the default configuration, only the head's plain loss.

        An auxiliary language model is created if its weight is set, and removed if it is 0. `ValueError` for
        a term that this network does not support.
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
            word_input, layer = self.encoder.input, self.encoder.layers[0]
            if not isinstance(word_input, WordInput) or not isinstance(layer, RecurrentLayer):
                raise ValueError("auxiliary_lm needs a recurrent network over words")
            self.auxiliary_lm = AuxiliaryLM(word_input, layer)

    def state_sizes(self, prefix: str = "state") -> list[dict[str, int]]:
        """Return the names of each layer's state arrays (1, B, size) with their sizes.

        The dictionaries are empty if the head carries no state.
        """
        if not self.head.carries_state:
            return [{} for _ in self.encoder.layers]
        return [{f"{prefix}.{i}.{part}": size for part, size in sizes.items()}
                for i, sizes in enumerate(self.encoder.state_sizes)]


def count_parameters(network: Network) -> int:
    """Count the parameters that a network's outputs depend on, learned or frozen; shared ones count once.

    Parameters that only training uses, such as a backward encoder's, don't count.
    """
    return sum(p.numel() for p in nn.ModuleList([network.encoder, network.head]).parameters())


def activation_penalties(dropped: Tensor, states: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Return the activation and temporal activation penalties (AR and TAR, Merity et al. 2017).

    These are the mean squares of `dropped` (T, B, D), the states after dropout, and of the differences of
    successive `states` (T, B, D). Padding doesn't count.
    """
    real = time_mask(lengths, len(states))[..., None]  # (T, B, 1)
    return _mean_square(dropped, real), _mean_square(states[1:] - states[:-1], real[1:])


def _mean_square(x: Tensor, real: Tensor) -> Tensor:
    """Return the mean square of `x` (T, B, D) at the steps where `real` (T, B, 1) is true; 0 without any."""
    return (x.float().square() * real).sum() / (real.sum() * x.shape[-1]).clamp(min=1)
