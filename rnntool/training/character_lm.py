"""A pretrained character language model inside a tagger: its states are part of each word's vector."""

from __future__ import annotations

from rnntool.errors import UsageError, setting
from rnntool.models.config import EncoderConfig, LMHeadConfig
from rnntool.models.encoder import WordInput
from rnntool.models.network import Network
from rnntool.training.pretrained_model import PretrainedModel


def context_config(model: PretrainedModel) -> tuple[EncoderConfig, bool]:
    """Give the encoder of a language model, and whether it has a backward direction as well.

    `UsageError` if the model is no recurrent language model.
    """
    config = model.config.network
    if not isinstance(config.head, LMHeadConfig) or config.encoder.kind != "rnn":
        raise UsageError(
            setting="features", expected="a recurrent language model of characters",
            found=f"{model.name}, a {config.encoder.kind} encoder of the task {config.head.kind}",
            advice=f"train one with `rnntool train lm` and {setting('tokenizer', 'char')}")
    return config.encoder, config.head.direction == "both"


def place_context(model: PretrainedModel, network: Network) -> None:
    """Copy the weights of a language model to where a tagger's network reads characters with it."""
    assert isinstance(network.encoder.input, WordInput)
    context = network.encoder.input.context
    assert context is not None
    source = model.network()
    context.forward_encoder.load_state_dict(source.encoder.state_dict())
    if context.backward_encoder is not None and source.backward_encoder is not None:
        context.backward_encoder.load_state_dict(source.backward_encoder.state_dict())
