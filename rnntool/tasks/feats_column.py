"""A column of features, such as `Case=Nom|Number=Sing`: predicted whole and attribute by attribute."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray

from rnntool.data.arrays import IGNORE, Floats, Ints, log_softmax, softmax
from rnntool.data.labels import Labels
from rnntool.tasks.tag_column import ChainScores, Comparison, ScoredBatch, TagColumn

NONE = "_"  # a word without features, or without the attribute
# Probability of a string that training never saw, in the distribution of whole strings. It is so low because
# most combinations that training lacks don't exist.
UNSEEN = 1e-4
_FEATURES = re.compile(r"[^=|\s]+=[^=|\s]+(?:\|[^=|\s]+=[^=|\s]+)*")


def parse_features(text: str) -> dict[str, str]:
    """Return the value of each attribute; empty for `_` and for text that isn't a list of features."""
    values: dict[str, str] = {}
    for feature in text.split("|") if _FEATURES.fullmatch(text) else ():
        name, _, value = feature.partition("=")
        values[name] = f"{values[name]},{value}" if name in values else value
    return values


def write_features(values: Mapping[str, str]) -> str:
    """Write features as Universal Dependencies do: sorted by attribute, ignoring case; `_` for none."""
    return "|".join(f"{name}={values[name]}" for name in sorted(values, key=lambda name: (name.lower(), name))
                    ) or NONE


def canonical(text: str) -> str:
    """Sort a list of features and join the values of an attribute; other text stays as it is."""
    return write_features(values) if (values := parse_features(text)) else text


class FeatsColumn(TagColumn):
    """Predicts the features of each word, well-formed and sorted.

    The network predicts one of the strings of the training data, and the value of each attribute. A string's
    score is its own plus the scores of its attribute values. A string that training never saw competes if it
    consists of the best value of every attribute. A CRF knows only the strings of the training data.
    """

    kind = "feats"

    def __init__(self, labels: Labels, scheme: str | None = None) -> None:
        super().__init__(labels, None)
        strings = [parse_features(name) for name in labels]
        values: dict[str, dict[str, None]] = {}  # of each attribute
        for string in strings:
            for name, value in string.items():
                values.setdefault(name, {NONE: None})[value] = None
        self._attributes = {name: Labels(of_attribute) for name, of_attribute in values.items()}
        self._starts = np.cumsum([len(labels), *map(len, self._attributes.values())])  # in the emissions
        self._has_value = np.zeros((self._starts[-1] - len(labels), len(labels)), np.float32)  # (P, L)
        for i, string in enumerate(strings):
            for start, (name, ids) in zip(self._starts, self._attributes.items(), strict=False):
                self._has_value[start - len(labels) + ids.id(string.get(name, NONE)), i] = 1

    @classmethod
    def learn(
        cls, words: Sequence[Sequence[str]], sequences: Sequence[Sequence[str]], place: str = ""
    ) -> Self:
        return super().learn(words, [list(map(canonical, tags)) for tags in sequences], place)

    @property
    def sizes(self) -> tuple[int, ...]:
        return (len(self.labels), *map(len, self._attributes.values()))

    @property
    def weights(self) -> tuple[float, ...]:
        return (0.5,) * len(self.sizes) if self._attributes else (1.0,)

    # --- Strings and ids -----------------------------------------------------------------------------------

    def inner(self, tags: Sequence[str], scheme: str | None) -> list[str]:
        return list(map(canonical, tags))

    def targets(
        self, words: Sequence[str], tags: Sequence[str], scheme: str | None
    ) -> list[NDArray[np.int32]]:
        strings = list(map(parse_features, tags))
        return [self.ids(words, tags, scheme), *(
            np.array([ids.get(string.get(name, NONE), IGNORE) for string in strings], np.int32)
            for name, ids in self._attributes.items())]

    def label_scores(self, emissions: Floats) -> Floats:
        size = len(self.labels)
        scores: Floats = emissions[..., :size] + emissions[..., size:] @ self._has_value
        return scores

    # --- Predictions ---------------------------------------------------------------------------------------

    def decode(
        self, words: Sequence[Sequence[str]], emissions: Floats, lengths: Ints, learned: ChainScores | None,
        scheme: str,
    ) -> list[list[str]]:
        scores = self.label_scores(emissions)
        ids = self.best(scores, lengths, learned)  # (T, B)
        tags = self.tags(words, ids, scheme)
        if learned is not None or not self._attributes:
            return tags
        whole, *parts = np.split(emissions, self._starts[:-1], axis=-1)
        log_prob, chosen = (np.take_along_axis(values, ids[..., None], -1)[..., 0]
                            for values in (log_softmax(whole), scores - whole))  # (T, B)
        # how much more the best values of all attributes score than those of the chosen strings
        gain = sum(part.max(-1) for part in parts) - chosen
        for t, i in np.argwhere(gain > log_prob - math.log(UNSEEN)):
            if t < len(words[i]):
                best = self._string_of([part[t, i].argmax() for part in parts])
                if best not in self.labels:
                    tags[i][t] = best
        return tags

    def _string_of(self, values: Sequence[int]) -> str:
        """Write the string with these values, an id for each attribute."""
        names = {name: ids.names[value]
                 for (name, ids), value in zip(self._attributes.items(), values, strict=True)}
        return write_features({name: value for name, value in names.items() if value != NONE})

    def nbest(
        self, words: Sequence[Sequence[str]], emissions: Floats, lengths: Ints, learned: ChainScores | None,
        scheme: str, k: int,
    ) -> list[list[tuple[list[str], float]]]:
        return super().nbest(words, self.label_scores(emissions), lengths, learned, scheme, k)

    def probs(
        self, words: Sequence[Sequence[str]], tags: Sequence[Sequence[str]], emissions: Floats, lengths: Ints,
        learned: ChainScores | None, scheme: str,
    ) -> list[list[float]]:
        marginals = self.marginals(self.label_scores(emissions), lengths, learned, scheme)
        return [[float(marginals[t, i, self.labels.id(tag)]) if tag in self.labels
                 else self._unseen_prob(tag, emissions[t, i]) for t, tag in enumerate(row)]
                for i, row in enumerate(tags)]

    def _unseen_prob(self, tag: str, emissions: Floats) -> float:
        """Return the probability of a string that training never saw: the product of those of its values."""
        values = parse_features(tag)
        parts = np.split(emissions, self._starts[:-1])[1:]
        return math.prod(float(softmax(part)[ids.id(values.get(name, NONE))])
                         for (name, ids), part in zip(self._attributes.items(), parts, strict=True))

    def temperature(self, batches: Sequence[ScoredBatch], learned: ChainScores | None) -> float:
        return super().temperature(
            [(self.label_scores(emissions), lengths, gold) for emissions, lengths, gold in batches], learned)

    # --- Gold strings --------------------------------------------------------------------------------------

    def compare(
        self, words: Sequence[Sequence[str]], gold: Sequence[Sequence[str]],
        predicted: Sequence[Sequence[str]],
    ) -> Comparison:
        return super().compare(words, [list(map(canonical, tags)) for tags in gold], predicted)

    def unseen_labels(
        self, words: Sequence[Sequence[str]], gold: Sequence[Sequence[str]]
    ) -> dict[str, int]:
        unseen = super().unseen_labels(words, gold)
        return {tag: count for tag, count in unseen.items() if not self._is_predictable(tag)}

    def _is_predictable(self, tag: str) -> bool:
        """Return whether a string that training never saw can be predicted, because it saw all its values."""
        values = parse_features(tag)
        return bool(values) and not self.crf and all(
            name in self._attributes and value in self._attributes[name] for name, value in values.items())
