"""The interface of all heads: encoder states in, named outputs and a loss out.

A head knows shapes and probabilities, but no words and no label names. Its outputs have the same names as in
the ONNX graph.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from rnntool.models.config import ObjectiveConfig
from rnntool.models.encoder import Encoder, Tensors
from rnntool.models.export.builder import Graph

Outputs = dict[str, Tensor]


class Head(nn.Module, ABC):
    """Reads the states of an encoder.

    `objectives` are the fields of `ObjectiveConfig` that the head supports. With `carries_state` the
    encoder's recurrent states are inputs and outputs of the network, so a text can be read in pieces. With
    `is_mirrored` a second encoder is trained on reversed texts; see `mirror`.
    """

    objectives: ClassVar[frozenset[str]] = frozenset()
    carries_state: ClassVar[bool] = False
    is_mirrored = False

    def __init__(self) -> None:
        super().__init__()
        self.objective = ObjectiveConfig()
        self.progress = 0.0  # share of the training that is done

    @classmethod
    @abstractmethod
    def for_encoder(cls, config: Any, encoder: Encoder) -> Head:
        """Make the head for the states of `encoder`."""

    @abstractmethod
    def forward(self, states: Tensor, arrays: Tensors, requested: Collection[str] | None = None) -> Outputs:
        """Return named outputs, given `states` (T, B, D); those not `requested` may be left out."""

    @abstractmethod
    def add_to(self, g: Graph, states: str, lengths: str) -> dict[str, Graph]:
        """Add the nodes and the outputs of `forward` to a graph.

        `states` (T, B, D) are those of the encoder for rows with `lengths` (B,). Return further graphs by
        name, of parts that run on their own, such as a decoder's step.
        """

    @abstractmethod
    def loss(self, states: Tensor, arrays: Tensors) -> Tensor:
        """Return the mean loss, in nats, of the batch's `targets`."""

    def set_objective(self, objective: ObjectiveConfig) -> None:
        """Set what `loss` includes."""
        self.objective = objective

    def part(self, name: str, arrays: Tensors) -> Outputs:
        """Compute the outputs of a part that runs on its own, as its graph does."""
        raise NotImplementedError(f"{type(self).__name__} has no part {name}")

    def apply_temperatures(self, *temperatures: float) -> None:
        """Build temperatures into the weights, one for each distribution: its scores are divided by it."""
        raise NotImplementedError(f"{type(self).__name__} is not calibrated")

    def mirror(self, arrays: Tensors) -> Tensors:
        """Return a batch whose texts are read and predicted from right to left."""
        raise NotImplementedError(f"{type(self).__name__} has no backward direction")


class LabelHead(Head):
    """A head that scores labels, whose losses can have different weights."""

    label_weights: Tensor  # (L,)

    def __init__(self, labels: int) -> None:
        super().__init__()
        self.register_buffer("label_weights", torch.ones(labels), persistent=False)

    def set_objective(self, objective: ObjectiveConfig) -> None:
        """Set what `loss` includes; without label weights, all labels weigh the same."""
        super().set_objective(objective)
        weights = objective.label_weights or [1.0] * len(self.label_weights)
        self.label_weights.copy_(torch.tensor(weights))
