"""The table of heads: for each kind of head configuration, the function that makes its module.

A new kind is a config class in `rnntool.models.config`, a module beside this one with a row here, and an
exporter in `rnntool.models.export.heads`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rnntool.models.config import HeadConfig
from rnntool.models.encoder import Encoder
from rnntool.models.heads.base import Head
from rnntool.models.heads.classifier import ClassifierHead
from rnntool.models.heads.language_model import LMHead
from rnntool.models.heads.tagger import TaggerHead

HEADS: dict[str, Callable[[Any, Encoder], Head]] = {
    "lm": LMHead.for_encoder,
    "classify": ClassifierHead.for_encoder,
    "tag": TaggerHead.for_encoder,
}


def make_head(config: HeadConfig, encoder: Encoder) -> Head:
    """Make the head for a configuration and an encoder."""
    return HEADS[config.kind](config, encoder)
