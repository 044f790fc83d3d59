"""Network configurations from settings: the parts that tasks share."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from rnntool.data.options import Options
from rnntool.models.config import EncoderConfig, WordConfig
from rnntool.tasks.specs.settings import Settings, WordSettings

SomeOptions = TypeVar("SomeOptions", bound=Options)


def from_settings(part: type[SomeOptions], settings: Settings, /, **values: Any) -> SomeOptions:
    """Make a part of a configuration from `values`; other fields take the settings of the same name."""
    names = [field.name for field in dataclasses.fields(part) if hasattr(settings, field.name)]
    return part(**{name: getattr(settings, name) for name in names} | values)


def encoder_config(
    settings: Settings, sizes: Mapping[str, int], *, bidirectional: bool, word: WordConfig | None = None,
    context: tuple[EncoderConfig, bool] | None = None, cutoffs: tuple[int, ...] = (),
) -> EncoderConfig:
    """Return the configuration of the encoder; `sizes` are those of the task."""
    return from_settings(
        EncoderConfig, settings, vocabulary=sizes["vocabulary"], kind=settings.encoder,
        bidirectional=bidirectional, word=word, context=context[0] if context else None,
        context_both=bool(context and context[1]), cutoffs=cutoffs)


def word_config(settings: WordSettings, sizes: Mapping[str, int], vector_size: int) -> WordConfig:
    """Return the configuration of the network that computes a vector for each word type."""
    return from_settings(
        WordConfig, settings, char_vocabulary=sizes["char_vocabulary"], affix_buckets=sizes["affix_buckets"],
        vector_rows=sizes["vector_rows"], vector_size=vector_size if sizes["vector_rows"] else 0,
        dropout=settings.word_dropout)


def balanced_weights(columns: Sequence[NDArray[np.float64]]) -> tuple[float, ...]:
    """Return weights inversely proportional to the frequencies of labels, with a mean of 1 over the examples.

    `columns` are the counts (L,) of each column of labels. Labels that don't occur, such as some tags of a
    span scheme, don't count toward the mean.
    """
    weights = [counts.sum() / (max(1, np.count_nonzero(counts)) * counts.clip(min=1)) for counts in columns]
    return tuple(np.concatenate(weights).tolist())
