"""The loss that a training minimizes, on development data, to be compared with that on the training data."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from rnntool.data.arrays import IGNORE, by_length
from rnntool.data.progress import silent
from rnntool.inference.torch_engine import to_tensors
from rnntool.models.network import Network
from rnntool.tasks.base import AnyTask


def mean_loss(network: Network, task: AnyTask, records: Sequence[Any], device: torch.device) -> float:
    """Return the mean loss in nats of the records' targets, without dropout; 0 if they have no targets.

    It has the same terms as the loss of the training, except for the consistency of predictions under
    different dropout masks.
    """
    examples = task.training_examples(records, watch=lambda stage: None, log=silent)
    objective, training = network.head.objective, network.training
    network.head.set_objective(dataclasses.replace(objective, consistency=0.0))
    network.eval()
    total, targets = 0.0, 0
    with torch.inference_mode():
        for batch in by_length([task.length(example) for example in examples], task.budget):
            arrays = task.collate([examples[i] for i in batch])
            count = int(np.count_nonzero(arrays["targets"] != IGNORE))
            if count:
                loss, _ = network.loss(to_tensors(arrays, device))
                total, targets = total + count * loss.item(), targets + count
    network.train(training)
    network.head.set_objective(objective)
    return total / max(1, targets)
