"""A character language model in a tagger, which reads words with its states beside them: `--features`."""

from __future__ import annotations

from rnntool import model_folder
from rnntool.errors import UsageError
from rnntool.models.config import EncoderConfig, LMHeadConfig, NetworkConfig
from rnntool.models.encoder import WordInput
from rnntool.models.network import Network
from rnntool.training.pretrained_model import Origin


def context_of(origin: Origin) -> tuple[EncoderConfig, bool]:
    """The encoder that a language model reads characters by, and whether it does so backward, too.

    `UsageError` where it is no recurrent language model.
    """
    config = NetworkConfig.from_json(
        origin.config["network"], place=origin.folder / model_folder.CONFIG)
    if not isinstance(config.head, LMHeadConfig) or config.encoder.kind != "rnn":
        raise UsageError(f"--features {origin.name}: expected a recurrent language model of characters, found "
                         f"--encoder {config.encoder.kind} of the task {config.head.kind}; train one by "
                         "rnntool train lm --tokenizer char")
    return config.encoder, config.head.direction == "both"


def place_context(origin: Origin, network: Network) -> None:
    """Put the weights of a language model where a tagger reads characters by it."""
    assert isinstance(network.encoder.input, WordInput)
    context = network.encoder.input.context
    assert context is not None
    source = origin.network()
    context.ahead.load_state_dict(source.encoder.state_dict())
    if context.back is not None and source.back is not None:
        context.back.load_state_dict(source.back.state_dict())
