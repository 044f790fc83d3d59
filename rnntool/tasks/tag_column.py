"""One column of tags: its labels and scheme, the best tags for given scores, and their evaluation.

A tagger predicts one column or several. Knows no words, no files and no networks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import eq
from pathlib import Path
from typing import Any, ClassVar, Self

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
from rnntool.errors import DataError, setting
from rnntool.evaluation import metrics
from rnntool.evaluation.calibration import fit_chain_temperature, fit_temperature
from rnntool.evaluation.significance import Counts
from rnntool.models import linear_chain
from rnntool.tasks.base import Criterion

ACCURACY = Criterion("accuracy", higher_is_better=True, metric=metrics.accuracy)
SPAN_F1 = Criterion("f1", higher_is_better=True, metric=metrics.f1)
INNER_SCHEME = "iobes"  # that networks learn, whatever the file uses: it marks last and single words
EVALUATED_SCHEME = "iob2"  # in which predictions are compared with gold tags
ScoredBatch = tuple[Floats, Ints, Ints]  # emissions (T, B, L), lengths (B,), gold ids (T, B)
ChainScores = tuple[Floats, Floats, Floats]  # start (L,), transitions (L, L), end (L,)


class TagColumn:
    """The labels of one column. If they are span tags, only valid sequences are predicted.

    Subclasses predict other labels, such as edit scripts, and derive the tag from the word and its label.
    """

    kind: ClassVar[str | None] = None  # in config.json; None for columns whose tags are labels
    crf = False  # whether a CRF scores the tags

    def __init__(self, labels: Labels, scheme: str | None) -> None:
        self.labels = labels
        self.scheme = scheme  # of the training data; None for plain tags
        self.criterion = SPAN_F1 if scheme else ACCURACY
        self._names = np.array(labels.names, object)
        masks = transition_mask(labels.names, INNER_SCHEME if scheme else None)
        start, transitions, end = (np.where(mask, 0.0, -np.inf).astype(np.float32) for mask in masks)
        self._allowed: ChainScores = start, transitions, end
        self._transducers: dict[str, Transducer] = {}  # by scheme

    @classmethod
    def learn(
        cls, words: Sequence[Sequence[str]], sequences: Sequence[Sequence[str]], place: str = ""
    ) -> Self:
        """Learn the labels and the scheme of a column; `DataError` if all its tags are the same.

        `words` and tag `sequences` are those of each sentence. `place` names the column in that message, as
        ` in column upos`.
        """
        scheme = detect_scheme(sequences)
        tags = Counter[str]()
        for sequence in sequences:
            tags.update(convert(sequence, scheme, INNER_SCHEME) if scheme else sequence)
        if len(tags) < 2:
            raise DataError(place="training data", expected=f"at least 2 different tags{place}",
                            found=f"only {next(iter(tags))!r}", advice=f"check {setting('column')}")
        return cls(Labels.from_counts(_all_tags(tags) if scheme else tags), scheme)

    @property
    def noun(self) -> str:
        """The plural noun for the labels in messages."""
        return "kinds of spans" if self.scheme else "tags"

    @property
    def sizes(self) -> tuple[int, ...]:
        """The number of labels of each distribution that the network predicts; `labels` first."""
        return (len(self.labels),)

    @property
    def weights(self) -> tuple[float, ...]:
        """The weight of each distribution in the loss of the column."""
        return (1.0,)

    def save(self, folder: Path) -> None:
        """Write what the column needs besides its labels and its scheme; by default nothing."""

    @classmethod
    def load(cls, folder: Path, labels: Labels, scheme: str | None) -> Self:
        """Restore a column from its labels, its scheme and what `save` wrote."""
        return cls(labels, scheme)

    # --- Tags and ids --------------------------------------------------------------------------------------

    def ids(self, words: Sequence[str], tags: Sequence[str], scheme: str | None) -> NDArray[np.int32]:
        """Return the ids of gold tags in `scheme`, or `IGNORE` for tags that are not in the labels."""
        return np.array([self.labels.get(tag, IGNORE) for tag in self.inner(tags, scheme)], np.int32)

    def targets(
        self, words: Sequence[str], tags: Sequence[str], scheme: str | None
    ) -> list[NDArray[np.int32]]:
        """Return what each distribution of the network should predict; see `ids`."""
        return [self.ids(words, tags, scheme)]

    def label_scores(self, emissions: Floats) -> Floats:
        """Return the scores of labels (..., L), given those of all distributions (..., `sizes`)."""
        return emissions

    def inner(self, tags: Sequence[str], scheme: str | None) -> list[str]:
        """Convert tags in `scheme` to the scheme of the network; plain tags stay as they are."""
        return convert(tags, scheme, INNER_SCHEME) if scheme else list(tags)

    def outer(self, words: Sequence[str], labels: Sequence[str], scheme: str) -> list[str]:
        """Return the tags of words with these labels, in `scheme` if they mark spans."""
        return convert(labels, INNER_SCHEME, scheme) if self.scheme else list(labels)

    def tags(self, words: Sequence[Sequence[str]], ids: Ints, scheme: str) -> list[list[str]]:
        """Return the tags of label ids (T, B), a list for each row of the batch."""
        return [self.outer(row, labels[: len(row)].tolist(), scheme)
                for row, labels in zip(words, self._names[ids.T], strict=True)]

    def decode(
        self, words: Sequence[Sequence[str]], emissions: Floats, lengths: Ints, learned: ChainScores | None,
        scheme: str,
    ) -> list[list[str]]:
        """Return the best tags for `emissions` (T, B, `sizes`), a list for each row of the batch."""
        return self.tags(words, self.best(emissions, lengths, learned), scheme)

    def nbest(
        self, words: Sequence[Sequence[str]], emissions: Floats, lengths: Ints, learned: ChainScores | None,
        scheme: str, k: int,
    ) -> list[list[tuple[list[str], float]]]:
        """Return the `k` best sequences of tags for `emissions` (T, B, `sizes`), with log-probabilities.

        The result has a list for each row of the batch.
        """
        paths_of_rows = linear_chain.nbest(emissions, lengths, *self.chain(learned), k=k)
        return [[(self.outer(row, self._names[path].tolist(), scheme), log_prob) for path, log_prob in paths]
                for row, paths in zip(words, paths_of_rows, strict=True)]

    # --- The linear chain ----------------------------------------------------------------------------------

    def chain(self, learned: ChainScores | None) -> ChainScores:
        """Return the scores of a CRF, or zeros without one; what the scheme forbids is -inf."""
        if learned is None:
            return self._allowed
        start, transitions, end = (a + b for a, b in zip(learned, self._allowed, strict=True))
        return start, transitions, end

    def best(self, emissions: Floats, lengths: Ints, learned: ChainScores | None) -> Ints:
        """Return the ids (T, B) of the best tags for `emissions` (T, B, L)."""
        if self.scheme is None and learned is None:  # tags don't depend on each other
            ids: Ints = emissions.argmax(-1)
            return ids
        return linear_chain.viterbi(emissions, lengths, *self.chain(learned))

    def probs(
        self, words: Sequence[Sequence[str]], tags: Sequence[Sequence[str]], emissions: Floats, lengths: Ints,
        learned: ChainScores | None, scheme: str,
    ) -> list[list[float]]:
        """Return the probabilities of the tags of each sentence, which are in `scheme`; see `marginals`."""
        names = self._transducer(scheme).outputs if self.scheme else self.labels
        ids, _ = pad([np.array([names.id(tag) for tag in row], np.intp) for row in tags], 0)  # (T, B)
        marginals = self.marginals(emissions, lengths, learned, scheme)[: len(ids)]
        values = np.take_along_axis(marginals, ids[..., None], -1)[..., 0].T  # (B, T)
        return [row[:n].tolist() for row, n in zip(values, lengths, strict=True)]

    def marginals(
        self, emissions: Floats, lengths: Ints, learned: ChainScores | None, scheme: str,
        temperature: float = 1.0,
    ) -> Floats:
        """Return the marginal probability of each of the W tags of `scheme` at each word, (T, B, W).

        It is the total probability of all valid sequences that have this tag there when written in `scheme`.
        All scores are divided by the temperature first.
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
        states = np.exp(linear_chain.marginals(
            emissions[..., tags], lengths, initial, transitions, end[tags]))  # (T, B, K)
        probs: Floats = states @ np.eye(len(transducer.outputs), dtype=states.dtype)[transducer.output_ids]
        return probs.clip(max=1)  # rounding may lift a sum above 1

    def _transducer(self, scheme: str) -> Transducer:
        if scheme not in self._transducers:
            self._transducers[scheme] = scheme_transducer(self.labels.names, INNER_SCHEME, scheme)
        return self._transducers[scheme]

    def temperature(self, batches: Sequence[ScoredBatch], learned: ChainScores | None) -> float:
        """Fit a temperature to the scores of batches, for the probabilities of tags as they are evaluated."""
        real = [gold != IGNORE for *_, gold in batches]
        targets = np.concatenate([gold[mask] for (*_, gold), mask in zip(batches, real, strict=True)])
        if self.scheme is None and learned is None:
            rows = [emissions[mask] for (emissions, *_), mask in zip(batches, real, strict=True)]
            return fit_temperature(np.concatenate(rows), targets)

        def probs(temperature: float) -> Floats:
            return np.concatenate([
                self.marginals(emissions, lengths, learned, EVALUATED_SCHEME, temperature)[mask]
                for (emissions, lengths, _), mask in zip(batches, real, strict=True)])

        if self.scheme:
            targets = self._transducer(EVALUATED_SCHEME).output_ids[targets]
        return fit_chain_temperature(probs, targets)

    def abstain(self, tags: list[str], probs: list[float], scheme: str, threshold: float) -> list[str]:
        """Replace tags less probable than `threshold` by `_`, and spans with such a tag by `O`.

        Spans are written in `scheme`. The other spans stay, although IOB1 may write them differently now.
        """
        if not self.scheme:
            return [tag if p >= threshold else "_" for tag, p in zip(tags, probs, strict=True)]
        kept = (s for s in spans(tags, scheme) if min(probs[s.start : s.end]) >= threshold)
        return tags_from_spans(kept, len(tags), scheme)

    # --- Gold tags -----------------------------------------------------------------------------------------

    def gold_scheme(self, sequences: Iterable[Sequence[str]]) -> str | None:
        """Detect the scheme of gold tags, which may differ from the scheme of the training data."""
        return self.scheme and (detect_scheme(sequences) or self.scheme)

    def compare(
        self, words: Sequence[Sequence[str]], gold: Sequence[Sequence[str]],
        predicted: Sequence[Sequence[str]],
    ) -> Comparison:
        """Compare gold tags in any scheme with predicted tags in IOB2, sentence by sentence."""
        scheme = self.gold_scheme(gold)
        labels = self._gold_labels(gold, scheme)
        return Comparison(
            gold=[self._evaluated(tags, scheme) for tags in gold], predicted=predicted,
            scheme=scheme and EVALUATED_SCHEME, labels=labels, unseen=self.unseen_labels(words, gold),
            trained_labels=self.trained_labels())

    def _evaluated(self, tags: Sequence[str], scheme: str | None) -> list[str]:
        """Convert gold tags for evaluation.

        Tags that are not valid in the scheme stay, so that they never equal a prediction.
        """
        if scheme is None:
            return self.inner(tags, scheme)
        converted = convert(self.inner(tags, scheme), INNER_SCHEME, EVALUATED_SCHEME)
        return [tag if new == OUTSIDE else new for tag, new in zip(tags, converted, strict=True)]

    @property
    def non_span_tags(self) -> list[str]:
        """The few tags, probably mistakes, that keep a column of span tags from being read as spans."""
        names = self.labels.names
        others = [name for name in names if name != OUTSIDE and name[1:2] != "-"]
        return others if self.scheme is None and 0 < 2 * len(others) < len(names) and OUTSIDE in names else []

    def trained_labels(self) -> tuple[str, ...]:
        """Return the plain tags, or the labels of spans, of the training data."""
        if not self.scheme:
            return self.labels.names
        return tuple(dict.fromkeys(name[2:] for name in self.labels if name != OUTSIDE))

    def unseen_labels(
        self, words: Sequence[Sequence[str]], gold: Sequence[Sequence[str]]
    ) -> dict[str, int]:
        """Count the labels in gold tags that can't be predicted, because training never saw them."""
        labels = self._gold_labels(gold, self.gold_scheme(gold))
        return metrics.unseen_labels(labels, self.trained_labels())

    def _gold_labels(self, gold: Sequence[Sequence[str]], scheme: str | None) -> Counter[str]:
        """Count the plain tags, or the spans of each label, in gold tags."""
        tags = Counter(chain.from_iterable(gold))
        if scheme is None:
            return tags
        labels = Counter(span.label for sequence in gold for span in spans(sequence, scheme))
        # a tag that is not valid in the scheme, such as a part of speech, counts as a label of its own
        invalid = {tag: n for tag, n in tags.items() if tag != OUTSIDE and not spans([tag], scheme)}
        return labels + Counter(invalid)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Gold and predicted tags of the same sentences."""

    gold: Sequence[Sequence[str]]
    predicted: Sequence[Sequence[str]]
    scheme: str | None  # of both; None for plain tags
    labels: Counter[str]  # number of gold tags, or of gold spans with each label
    unseen: dict[str, int]  # number of gold labels that can't be predicted
    trained_labels: Sequence[str]  # of the training data
    by_label: bool = True  # whether the report has figures of each label; lemmas are too many

    def correct(self) -> NDArray[np.bool_]:
        """Return which words of all sentences have the correct tag, (words,)."""
        gold, predicted = chain.from_iterable(self.gold), chain.from_iterable(self.predicted)
        return np.array(list(map(eq, gold, predicted)), bool)

    def counts(self) -> Counts:
        """Return the counts (N, K) of each sentence for `metrics.f1`, or for `metrics.accuracy`."""
        pairs = zip(self.gold, self.predicted, strict=True)
        if self.scheme is None:
            rows = [(sum(map(eq, gold, predicted)), len(gold)) for gold, predicted in pairs]
            return np.array(rows, np.float64).reshape(-1, 2)
        span_rows = [metrics.span_counts(gold, predicted, self.scheme) for gold, predicted in pairs]
        return np.array(span_rows, np.float64).reshape(-1, 3)

    def report(self, in_vocabulary: NDArray[np.bool_]) -> dict[str, Any]:
        """Return all metrics of the column; `in_vocabulary` (words,) marks words with their own embedding."""
        report = metrics.tagging_report(self.gold, self.predicted, self.scheme)
        if not self.by_label:
            del report["per_label"], report["confusion"]
        return {
            **report,
            **metrics.vocabulary_report(self.correct(), in_vocabulary),
            "unseen_labels": self.unseen,
        }


def _all_tags(tags: Counter[str]) -> Counter[str]:
    """Add the missing IOBES tags of all span labels, so that spans of any length can be predicted."""
    labels = {tag[2:] for tag in tags if tag != "O"}
    return Counter({"O": tags["O"]} | {f"{p}-{t}": tags[f"{p}-{t}"] for t in labels for p in "BIES"})
