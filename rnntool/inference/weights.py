"""Load a network's float32 weights from a model folder."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from rnntool import model_folder
from rnntool.errors import ModelError, setting
from rnntool.model_folder import ModelConfig
from rnntool.models.network import Network

# Parameter names of rnntool 0.1.0 as patterns, and their replacements.
RENAMED = (
    (r"^back\.", "backward_encoder."),
    (r"\.input\.context\.ahead\.", ".input.context.forward_encoder."),
    (r"\.input\.context\.back\.", ".input.context.backward_encoder."),
    (r"\.ahead\.kernel\.", ".forward_cell.kernel."),
    (r"\.back\.kernel\.", ".backward_cell.kernel."),
    (r"^head\.band_", "head.cluster_"),
    (r"^head\.vectors\.", "head.output_embedding."),
)


def load_network(folder: Path, config: ModelConfig) -> Network:
    """Return a model folder's torch network with its weights; `ModelError` if they are missing or damaged."""
    network = Network(config.network)
    weights = load_weights(folder)
    parameters = dict(network.named_parameters())
    if {name: p.shape for name, p in parameters.items()} != {name: t.shape for name, t in weights.items()}:
        raise ModelError(f"doesn't fit {model_folder.CONFIG}", place=folder / model_folder.WEIGHTS,
                         advice="copy or train the model again")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(weights[name])
    return network


def load_weights(folder: Path) -> dict[str, Tensor]:
    """Return the float32 weights of a model folder, under the current parameter names."""
    path = folder / model_folder.WEIGHTS
    if not path.exists():
        raise ModelError(
            f"has no {model_folder.WEIGHTS}, only an ONNX graph", place=folder,
            advice=f"train the model again to get the weights, or leave out options that need them, such as "
                   f"{setting('device')}")
    try:
        return {_current_name(name): tensor for name, tensor in load_file(path).items()}
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"is damaged ({error})", place=path, advice="copy or train the model again") from None


def _current_name(name: str) -> str:
    for pattern, replacement in RENAMED:
        name = re.sub(pattern, replacement, name)
    return name
