"""The network of a training: what settings and data call for, and what it is to learn. Knows no file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rnntool.errors import UsageError
from rnntool.models.config import (
    ClassifierHeadConfig,
    EncoderConfig,
    HeadConfig,
    LMHeadConfig,
    NetworkConfig,
    ObjectiveConfig,
    TaggerHeadConfig,
    WordConfig,
)
from rnntool.models.network import Network
from rnntool.tasks.base import AnyTask
from rnntool.tasks.classify import ClassifyTask
from rnntool.tasks.specs.classify import ClassifySettings
from rnntool.tasks.specs.lm import ADAPTIVE_FROM, LMSettings
from rnntool.tasks.specs.settings import Settings, WordSettings
from rnntool.tasks.specs.tag import TagSettings
from rnntool.tasks.tag import TagTask

CUTOFFS = (8_000, 40_000)  # where the bands of rarer tokens begin


def design(
    task: AnyTask, settings: Settings, *, vector_size: int = 0,
    context: tuple[EncoderConfig, bool] | None = None,
) -> NetworkConfig:
    """The network that settings and data call for; `context` is read beside words, see `EncoderConfig`."""
    sizes = task.sizes()
    word = None
    if isinstance(settings, WordSettings) and "char_vocabulary" in sizes:
        word = WordConfig(
            chars=settings.chars, char_vocabulary=sizes["char_vocabulary"], char_embed=settings.char_embed,
            char_hidden=settings.char_hidden, affix_buckets=sizes["affix_buckets"],
            affix_embed=settings.affix_embed, vector_rows=sizes["vector_rows"],
            vector_size=vector_size if sizes["vector_rows"] else 0, dropout=settings.word_dropout,
        )
    encoder = EncoderConfig(
        vocabulary=sizes["vocabulary"], embed=settings.embed, cell=settings.cell, layers=settings.layers,
        hidden=settings.hidden, kind=settings.encoder, window=settings.window,
        bidirectional=isinstance(settings, WordSettings) and settings.bidirectional
        and settings.encoder != "bag",  # it has no direction
        dropout=settings.dropout, dropout_between=settings.dropout_between,
        token_dropout=settings.token_dropout, weight_dropout=settings.weight_dropout,
        word=word, context=context[0] if context else None, context_both=bool(context and context[1]),
        cutoffs=_cutoffs(settings, sizes["outputs"]) if isinstance(settings, LMSettings) else (),
    )
    head: HeadConfig
    if isinstance(settings, LMSettings):
        head = LMHeadConfig(outputs=sizes["outputs"], tied=settings.tied, direction=settings.direction)
    elif isinstance(settings, ClassifySettings):
        head = ClassifierHeadConfig(outputs=sizes["outputs"], pooling=settings.pooling,
                                    multi_label=isinstance(task, ClassifyTask) and task.multi_label)
    else:
        assert isinstance(settings, TagSettings) and isinstance(task, TagTask)
        head = TaggerHeadConfig(outputs=sizes["outputs"], crf=settings.head == "crf",
                                columns=tuple(len(column.labels) for column in task.columns))
    return NetworkConfig(encoder=encoder, head=head)


def _cutoffs(settings: LMSettings, outputs: int) -> tuple[int, ...]:
    """Where the bands of rarer tokens begin; nowhere where all are scored alike.

    `UsageError` where bands are wanted and there is no token for them.
    """
    adaptive = settings.softmax == "adaptive" or (
        settings.softmax == "auto" and outputs > ADAPTIVE_FROM
        and settings.tokenizer != "bpe" and not settings.vectors)  # which can't have them, see LMSettings
    cutoffs = tuple(cutoff for cutoff in CUTOFFS if cutoff < outputs) if adaptive else ()
    if settings.softmax == "adaptive" and not cutoffs:
        raise UsageError(f"--softmax adaptive: expected a vocabulary of more than {CUTOFFS[0]:,} entries, found "
                         f"{outputs:,}; leave it out")
    return cutoffs


def build(config: NetworkConfig, settings: Settings) -> Network:
    """Make a new network, with weights by the seed, and the objective that it is trained for."""
    torch.manual_seed(settings.seed)
    network = Network(config)
    network.set_objective(_objective(config, settings))
    return network


def _objective(config: NetworkConfig, settings: Settings) -> ObjectiveConfig:
    if isinstance(settings, LMSettings):
        return ObjectiveConfig(activation=settings.ar, temporal_activation=settings.tar)
    assert isinstance(settings, WordSettings)
    # A context that reads from right to left would reveal the next word.
    is_predictable = config.encoder.kind == "rnn" and config.encoder.word and not config.encoder.context
    return ObjectiveConfig(
        label_smoothing=settings.label_smoothing,
        consistency=settings.consistency if isinstance(settings, ClassifySettings) else 0.0,
        auxiliary_lm=settings.neighbours if is_predictable else 0.0)


def balanced_weights(task: AnyTask, examples: Sequence[Any]) -> tuple[float, ...]:
    """Return a weight for each label's loss by how rare it is, with a mean of 1 over the examples."""
    # Labels without an example, which a scheme may have, don't count in the mean.
    weights = torch.cat([
        counts.sum() / (counts.count_nonzero() * counts.clamp(min=1))
        for counts in _label_counts(task, examples)])
    return tuple(weights.tolist())


def _label_counts(task: Any, examples: Sequence[Any]) -> list[Tensor]:
    """How often each label is in the examples, (L,): one set of labels, or one for each column of tags."""
    if isinstance(task, TagTask):
        columns = zip(task.columns, zip(*(example.tags for example in examples), strict=True), strict=True)
        return [torch.bincount(torch.from_numpy(np.concatenate(tags)), minlength=len(column.labels)).float()
                for column, tags in columns]
    counts = torch.zeros(len(task.labels))
    for example in examples:
        counts[list(example.labels)] += 1
    return [counts]
