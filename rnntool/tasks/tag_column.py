"""One column of tags: its labels, its scheme, the best chain of them under a network's scores, its report.

A tagger has one or several, side by side. Knows no words, no file and no network.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import eq
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from rnntool.data.arrays import IGNORE, Floats, Ints, pad, softmax
from rnntool.data.labels import (
    OUTSIDE,
    Labels,
    Transducer,
    convert,
    detect_scheme,
    scheme_transducer,
    spans,
    tags_from_spans,
    transition_mask,
)
from rnntool.errors import DataError
from rnntool.evaluation import metrics
from rnntool.evaluation.calibration import fit_chain_temperature, fit_temperature
from rnntool.evaluation.significance import Counts
from rnntool.models import linear_chain
from rnntool.tasks.base import Criterion

WORDS = Criterion("accuracy", higher_is_better=True, figure=metrics.accuracy)
SPANS = Criterion("f1", higher_is_better=True, figure=metrics.f1)
INNER_SCHEME = "iobes"  # what networks learn, whatever the file has: ends and single words are told apart
JUDGED_SCHEME = "iob2"  # what spans are compared in
ScoredBatch = tuple[Floats, Ints, Ints]  # emissions (T, B, L), lengths (B,), gold ids (T, B)
Chain = tuple[Floats, Floats, Floats]  # scores of first tags (L,), of neighbours (L, L), of last tags (L,)


class TagColumn:
    """Labels of one column. With span labels (IOB1, IOB2, IOBES) no invalid sequence leaves."""

    def __init__(self, labels: Labels, scheme: str | None) -> None:
        self.labels = labels
        self.scheme = scheme  # that of the training data; None for plain tags
        self.criterion = SPANS if scheme else WORDS
        self._names = np.array(labels.names, object)
        masks = transition_mask(labels.names, INNER_SCHEME if scheme else None)
        start, transitions, end = (np.where(mask, 0.0, -np.inf).astype(np.float32) for mask in masks)
        self._allowed: Chain = start, transitions, end
        self._transducers: dict[str, Transducer] = {}  # by scheme

    @classmethod
    def learn(cls, sequences: Sequence[Sequence[str]], name: str) -> Self:
        """The labels and the scheme of a column's sequences; `DataError` where there is nothing to tell."""
        scheme = detect_scheme(sequences)
        tags = Counter[str]()
        for sequence in sequences:
            tags.update(convert(sequence, scheme, INNER_SCHEME) if scheme else sequence)
        if len(tags) < 2:
            raise DataError(f"training data: expected at least 2 different tags{name}, found only "
                            f"{next(iter(tags))!r}; see --column")
        return cls(Labels.from_counts(_completed(tags) if scheme else tags), scheme)

    def ids(self, tags: Sequence[str], scheme: str | None, unknown: int) -> NDArray[np.int32]:
        """The ids of gold tags in `scheme`, `unknown` for those that the training data never had."""
        return np.array([self.labels.get(tag, unknown) for tag in self.inner(tags, scheme)], np.int32)

    def inner(self, tags: Sequence[str], scheme: str | None) -> list[str]:
        """Gold tags, in `scheme`, as the network learns them."""
        return convert(tags, scheme, INNER_SCHEME) if scheme else list(tags)

    def outer(self, tags: Sequence[str], scheme: str) -> list[str]:
        """Tags of the network in another scheme, plain ones as they are."""
        return convert(tags, INNER_SCHEME, scheme) if self.scheme else list(tags)

    def chain(self, learned: Chain | None) -> Chain:
        """The scores that a CRF has learned, or zeros; -inf where the scheme forbids."""
        if learned is None:
            return self._allowed
        start, transitions, end = (a + b for a, b in zip(learned, self._allowed, strict=True))
        return start, transitions, end

    def best(self, emissions: Floats, lengths: Ints, learned: Chain | None) -> Ints:
        """Ids of the best tags, (T, B) of `emissions` (T, B, L); each for itself where nothing binds them."""
        if self.scheme is None and learned is None:
            ids: Ints = emissions.argmax(-1)
            return ids
        return linear_chain.viterbi(emissions, lengths, *self.chain(learned))[0]

    def probs(
        self, tags: Sequence[Sequence[str]], emissions: Floats, lengths: Ints, learned: Chain | None,
        scheme: str,
    ) -> list[list[float]]:
        """The probability of each tag of each sentence, written in `scheme`; see `marginals`."""
        names = self._transducer(scheme).outputs if self.scheme else self.labels
        ids, _ = pad([np.array([names.id(tag) for tag in row], np.intp) for row in tags], 0)  # (T, B)
        found = self.marginals(emissions, lengths, learned, scheme)[: len(ids)]
        values = np.take_along_axis(found, ids[..., None], -1)[..., 0].T  # (B, T)
        return [row[:n].tolist() for row, n in zip(values, lengths, strict=True)]

    def marginals(
        self, emissions: Floats, lengths: Ints, learned: Chain | None, scheme: str, temperature: float = 1.0
    ) -> Floats:
        """The probability of each tag that `scheme` can write at each word (T, B, W): the share of all
        allowed sequences that are written with it there, all scores divided by a temperature.
        """
        if self.scheme is None and learned is None:
            return softmax(emissions / temperature)
        start, transitions, end = (scores / temperature for scores in self.chain(learned))
        emissions = emissions / temperature
        if not self.scheme:
            return np.exp(linear_chain.marginals(emissions, lengths, start, transitions, end))
        transducer = self._transducer(scheme)
        tags = transducer.input_ids
        initial = np.where(transducer.initial, start[tags], -np.inf)
        transitions = np.where(transducer.transitions, transitions[np.ix_(tags, tags)], -np.inf)
        found = np.exp(linear_chain.marginals(
            emissions[..., tags], lengths, initial, transitions, end[tags]))  # (T, B, K)
        written: Floats = found @ np.eye(len(transducer.outputs), dtype=found.dtype)[transducer.output_ids]
        return written.clip(max=1)  # a sum, rounded, may come out above it

    def _transducer(self, scheme: str) -> Transducer:
        if scheme not in self._transducers:
            self._transducers[scheme] = scheme_transducer(self.labels.names, INNER_SCHEME, scheme)
        return self._transducers[scheme]

    def temperature(self, batches: Sequence[ScoredBatch], learned: Chain | None) -> float:
        """What the scores of some batches want to be divided by, for the tags as they are judged."""
        real = [gold != IGNORE for *_, gold in batches]
        targets = np.concatenate([gold[mask] for (*_, gold), mask in zip(batches, real, strict=True)])
        if self.scheme is None and learned is None:
            rows = [emissions[mask] for (emissions, *_), mask in zip(batches, real, strict=True)]
            return fit_temperature(np.concatenate(rows), targets)

        def probs(temperature: float) -> Floats:
            return np.concatenate([
                self.marginals(emissions, lengths, learned, JUDGED_SCHEME, temperature)[mask]
                for (emissions, lengths, _), mask in zip(batches, real, strict=True)])

        if self.scheme:
            targets = self._transducer(JUDGED_SCHEME).output_ids[targets]
        return fit_chain_temperature(probs, targets)

    def tags(self, ids: Ints, lengths: Ints) -> list[list[str]]:
        """The names of ids (T, B), as the network learned them, a list for each row."""
        return [row[:n].tolist() for row, n in zip(self._names[ids.T], lengths, strict=True)]

    def abstain(self, tags: list[str], probs: list[float], scheme: str, threshold: float) -> list[str]:
        """`O` for spans that hold a word less probable than `threshold`, `_` for other tags that are.

        Spans are written in `scheme`; those that stay are the same ones, though IOB1 may write them anew.
        """
        if not self.scheme:
            return [tag if p >= threshold else "_" for tag, p in zip(tags, probs, strict=True)]
        sure = (s for s in spans(tags, scheme) if min(probs[s.start : s.end]) >= threshold)
        return tags_from_spans(sure, len(tags), scheme)

    def found_scheme(self, sequences: Iterable[Sequence[str]]) -> str | None:
        """The scheme of a file's gold tags, which may be another one than that of the training data."""
        return self.scheme and (detect_scheme(sequences) or self.scheme)

    def judge(self, written: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> Judged:
        """Gold tags in any scheme beside a network's in IOB2, a list for each sentence."""
        scheme = self.found_scheme(written)
        gold = [self._gold(tags, scheme) for tags in written]
        labels = self._gold_labels(written, scheme)
        return Judged(gold, predicted, scheme and JUDGED_SCHEME, labels, self.known_labels())

    def _gold(self, tags: Sequence[str], scheme: str | None) -> list[str]:
        """Gold tags as they are judged; those that the scheme can't read stay, as no network gives them."""
        read = self.outer(self.inner(tags, scheme), JUDGED_SCHEME)
        if scheme is None:
            return read
        return [tag if new == OUTSIDE else new for tag, new in zip(tags, read, strict=True)]

    @property
    def strays(self) -> list[str]:
        """The few tags, learned as plain ones, that look like a slip among those of spans."""
        names = self.labels.names
        others = [name for name in names if name != OUTSIDE and name[1:2] != "-"]
        return others if self.scheme is None and 0 < 2 * len(others) < len(names) and OUTSIDE in names else []

    def known_labels(self) -> tuple[str, ...]:
        """The labels that training saw; of spans those that they have."""
        if not self.scheme:
            return self.labels.names
        return tuple(dict.fromkeys(name[2:] for name in self.labels if name != OUTSIDE))

    def unseen_labels(self, written: Sequence[Sequence[str]]) -> dict[str, int]:
        """How often gold tags have each label that training never saw."""
        labels = self._gold_labels(written, self.found_scheme(written))
        return metrics.unseen_labels(labels, self.known_labels())

    def _gold_labels(self, written: Sequence[Sequence[str]], scheme: str | None) -> Counter[str]:
        """How often each plain tag, or span of a label, is in gold tags."""
        tags = Counter(chain.from_iterable(written))
        if scheme is None:
            return tags
        labels = Counter(span.label for sequence in written for span in spans(sequence, scheme))
        # What no scheme can read, such as a part of speech, is a label that training never saw.
        foreign = {tag: n for tag, n in tags.items() if tag != OUTSIDE and not spans([tag], scheme)}
        return labels + Counter(foreign)


@dataclass(frozen=True, slots=True)
class Judged:
    """The gold tags of some sentences and a network's, in `scheme`; None where they are plain."""

    gold: Sequence[Sequence[str]]
    predicted: Sequence[Sequence[str]]  # as long, sentence by sentence
    scheme: str | None
    labels: Counter[str]  # how often each plain tag, or span of a label, is in the gold standard
    known: Sequence[str]  # labels that training saw

    def right(self) -> NDArray[np.bool_]:
        """Which words of all sentences, one after the other, have the right tag, (words,)."""
        gold, predicted = chain.from_iterable(self.gold), chain.from_iterable(self.predicted)
        return np.array(list(map(eq, gold, predicted)), bool)

    def counts(self) -> Counts:
        """(N, K), a row for each sentence: spans as `metrics.f1` wants them, words as `accuracy` does."""
        pairs = zip(self.gold, self.predicted, strict=True)
        if self.scheme is None:
            rows = [(sum(map(eq, gold, predicted)), len(gold)) for gold, predicted in pairs]
            return np.array(rows, np.float64).reshape(-1, 2)
        spanned = [metrics.span_counts(gold, predicted, self.scheme) for gold, predicted in pairs]
        return np.array(spanned, np.float64).reshape(-1, 3)

    def report(self, known_words: NDArray[np.bool_]) -> dict[str, Any]:
        """Every figure of the column; `known_words` (words,) are those with an embedding of their own."""
        return {
            **metrics.tagging_report(self.gold, self.predicted, self.scheme),
            **metrics.vocabulary_report(self.right(), known_words),
            "unseen_labels": metrics.unseen_labels(self.labels, self.known),
        }


def _completed(tags: Counter[str]) -> Counter[str]:
    """All IOBES tags of the types seen, so that every span of a known type can be written."""
    types = {tag[2:] for tag in tags if tag != "O"}
    return Counter({"O": tags["O"]} | {f"{p}-{t}": tags[f"{p}-{t}"] for t in types for p in "BIES"})
