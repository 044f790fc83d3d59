"""Load a network's float32 weights from a model folder."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from rnntool import model_folder
from rnntool.data import model_file
from rnntool.errors import ModelError, is_out_of_memory, setting
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
    model_folder.check_has_network(folder, config)
    weights, path = load_weights(folder), folder / model_folder.WEIGHTS
    if _shapes(config) != {name: tensor.shape for name, tensor in weights.items()}:
        raise ModelError(f"doesn't fit {model_folder.CONFIG}", place=path, advice=model_folder.AGAIN)
    model_folder.check_digest(path, path.read_bytes(), config)
    network = Network(config.network)
    parameters = dict(network.named_parameters())
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
            advice=("train the model again to get the weights",
                    f"leave out options that need them, such as {setting('device')}"))
    try:
        model_file.check_plain(path, largest=sys.maxsize)
        return {_current_name(name): tensor for name, tensor in load_file(path).items()}
    except (OSError, SafetensorError) as error:
        if is_out_of_memory(error):
            raise MemoryError(str(error)) from None
        raise ModelError(
            f"is damaged ({error})", place=path, advice="copy or train the model again") from None


def _shapes(config: ModelConfig) -> dict[str, torch.Size]:
    """Return the shape of each parameter; none if the network would be too large for any machine."""
    try:
        with torch.device("meta"):  # allocates no memory, because a damaged config can ask for any size
            return {name: p.shape for name, p in Network(config.network).named_parameters()}
    except (RuntimeError, TypeError, ValueError, OverflowError):  # a size that torch can't express
        return {}


def _current_name(name: str) -> str:
    for pattern, replacement in RENAMED:
        name = re.sub(pattern, replacement, name)
    return name
