"""A pretrained character language model in a tagger: its states are part of each word vector."""

from __future__ import annotations

from rnntool.errors import UsageError, setting
from rnntool.models.config import EncoderConfig, LMHeadConfig
from rnntool.models.encoder import WordInput
from rnntool.models.network import Network
from rnntool.training.pretrained_model import PretrainedModel


def context_config(model: PretrainedModel) -> tuple[EncoderConfig, bool]:
    """Return the encoder of a language model, and whether it also has a backward direction.

    `UsageError` if the model is not a recurrent language model.
    """
    config = model.config.network
    if not isinstance(config.head, LMHeadConfig) or config.encoder.kind != "rnn":
        raise UsageError(
            setting="features", expected="a recurrent language model of characters",
            found=f"{model.name}, a {config.encoder.kind} encoder of the task {config.head.kind}",
            advice=f"train one with `rnntool train lm` and {setting('tokenizer', 'char')}")
    return config.encoder, config.head.direction == "both"


def copy_context(model: PretrainedModel, network: Network) -> None:
    """Copy the weights of a language model into a network that was made with its `context_config`."""
    assert isinstance(network.encoder.input, WordInput)
    context = network.encoder.input.context
    assert context is not None
    source = model.network()
    context.forward_encoder.load_state_dict(source.encoder.state_dict())
    if context.backward_encoder is not None and source.backward_encoder is not None:
        context.backward_encoder.load_state_dict(source.backward_encoder.state_dict())
