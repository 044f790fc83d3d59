"""A network's float32 weights on disk, and back into a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from rnntool import model_folder
from rnntool.errors import ModelError
from rnntool.models.config import NetworkConfig
from rnntool.models.network import Network


def load_network(folder: Path, config: dict[str, Any]) -> Network:
    """The torch network of a model folder, with weights; `ModelError` where they are missing or damaged."""
    place = folder / model_folder.CONFIG
    network = Network(NetworkConfig.from_json(config["network"], place=place))
    weights = load_weights(folder)
    parameters = dict(network.named_parameters())
    if {name: p.shape for name, p in parameters.items()} != {name: t.shape for name, t in weights.items()}:
        raise ModelError(
            f"{folder / model_folder.WEIGHTS}: doesn't fit {model_folder.CONFIG}; copy or train the model "
            "again")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(weights[name])
    return network


def load_weights(folder: Path) -> dict[str, Tensor]:
    """The float32 weights of a model folder."""
    path = folder / model_folder.WEIGHTS
    if not path.exists():
        raise ModelError(f"{folder}: has no {model_folder.WEIGHTS}, only the graph that runs; train the "
                         "model anew to get the weights, or leave out what needs them, such as --device")
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path}: is damaged ({error}); copy or train the model again") from None
