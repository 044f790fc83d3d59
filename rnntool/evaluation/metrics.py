"""The reports of a language model, a classifier and a tagger, and the figures that one counts by.

Counts what it is given and knows no model and no file. A figure that would divide by zero is 0.0. Reports
are plain Python, ready for JSON. `accuracy`, `f1`, `perplexity` and `bits_per_char` take counts summed over
records, of many samples at once: (..., K) to (...).
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rnntool.data.labels import Span, spans, tags_from_spans

Floats = NDArray[np.float64]

CALIBRATION_BINS = 15  # as Guo et al. (2017)
MOST_NATS = 700.0  # of which a float can hold the exponential


class _Tally(NamedTuple):
    """How often a label was right, was predicted, and was in the gold standard."""

    right: int
    predicted: int
    gold: int

    def f1(self) -> float:
        return _ratio(2 * self.right, self.predicted + self.gold)

    def report(self) -> dict[str, Any]:
        precision, recall = _ratio(self.right, self.predicted), _ratio(self.right, self.gold)
        return {"precision": precision, "recall": recall, "f1": self.f1(), "support": self.gold}


def lm_report(*, nll_nats: float, tokens: int, characters: int, bytes: int, oov: int) -> dict[str, Any]:
    """A language model's figures from the summed negative log-likelihood of all scored tokens.

    `tokens` counts every scored token (EOS is one, BOS and padding are not), `characters` and `bytes` the
    text that they stand for, line ends included, `oov` the scored tokens that the vocabulary lacks. In the
    report `nll_nats` is the mean of a token; bits per character and byte compare models of any tokenizers.
    """
    nats = _ratio(nll_nats, tokens)
    bits = nll_nats / math.log(2)
    return {
        "perplexity": perplexity_of(nats),
        "nll_nats": nats,
        "bits_per_char": _ratio(bits, characters),
        "bits_per_byte": _ratio(bits, bytes),
        "tokens": tokens,
        "oov": oov,
    }


def classification_report(
    gold: Sequence[str] | Sequence[Sequence[str]], predicted: Sequence[str] | Sequence[Sequence[str]]
) -> dict[str, Any]:
    """A classifier's figures over records, each with one label (a string) or a collection of labels.

    `accuracy` asks for all labels of a record. `per_label` and its plain mean `macro_f1` are over every label
    in `gold` or `predicted`, so one that training never saw counts as missed. `confusion` is
    {gold: {predicted: records}} where every record has exactly one label, and empty otherwise.
    """
    pairs = [(_labels(g), _labels(p)) for g, p in zip(gold, predicted, strict=True)]
    right: Counter[str] = Counter()
    found: Counter[str] = Counter()
    wanted: Counter[str] = Counter()
    for g, p in pairs:
        right.update(g & p)
        found.update(p)
        wanted.update(g)
    names = sorted(found.keys() | wanted.keys())
    tallies = {name: _Tally(right[name], found[name], wanted[name]) for name in names}
    confusion: defaultdict[str, Counter[str]] = defaultdict(Counter)
    if all(len(g) == len(p) == 1 for g, p in pairs):
        for g, p in pairs:
            confusion[min(g)][min(p)] += 1
    return {
        "accuracy": _ratio(sum(g == p for g, p in pairs), len(pairs)),
        "macro_f1": _ratio(math.fsum(tally.f1() for tally in tallies.values()), len(tallies)),
        "micro_f1": _Tally(right.total(), found.total(), wanted.total()).f1(),
        "per_label": {name: tally.report() for name, tally in tallies.items()},
        "confusion": {name: dict(sorted(confusion[name].items())) for name in sorted(confusion)},
    }


def tagging_report(
    gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]], scheme: str | None
) -> dict[str, Any]:
    """A tagger's figures over sentences; both sides write their tags in `scheme`, None for plain tags.

    `accuracy` is over tokens. Plain tags have a `per_label` and a `confusion` of tags. Spans have seqeval's
    strict `precision`, `recall` and `f1` and a `per_label` of span labels, where a span counts only if its
    tags keep to the scheme, and `f1_conlleval`, which reads broken tags as the conlleval script does; their
    `confusion` is of the label of the span that a word is in, or "O". ValueError where the sides differ in
    length.
    """
    tokens = [pair for g, p in zip(gold, predicted, strict=True) for pair in zip(g, p, strict=True)]
    accuracy = _ratio(sum(g == p for g, p in tokens), len(tokens))
    report: dict[str, Any] = {"tokens": len(tokens), "accuracy": accuracy}
    if scheme is None:
        plain = classification_report([g for g, _ in tokens], [p for _, p in tokens])
        return report | {key: plain[key] for key in ("per_label", "confusion")}

    overall, per_label = _seqeval(gold, predicted, scheme, strict=True)
    forgiving, _ = _seqeval(gold, predicted, scheme, strict=False)
    inside = classification_report([_kind(g) for g, _ in tokens], [_kind(p) for _, p in tokens])
    return report | {
        "precision": overall["precision"],
        "recall": overall["recall"],
        "f1": overall["f1"],
        "f1_conlleval": forgiving["f1"],
        "per_label": per_label,
        "confusion": inside["confusion"],
    }


def _kind(tag: str) -> str:
    """The label of the span that a word with this tag is in; "O", and what is of no scheme, as it is."""
    return tag.partition("-")[2] or tag


def span_counts(gold: Sequence[str], predicted: Sequence[str], scheme: str) -> tuple[int, int, int]:
    """A sentence's spans that are right, that were predicted, and of the gold standard, as `f1` sums them.

    Strict, as the `f1` of `tagging_report`, and fast enough for every epoch of a training.
    """
    want = spans(gold, scheme, strict=True)
    if gold == predicted:
        return len(want), len(want), len(want)
    have = spans(predicted, scheme, strict=True)
    return len(set(want).intersection(have)), len(have), len(want)


def accuracy(sums: Floats) -> Floats:
    """The share of what is right, of (right, all)."""
    return _ratios(sums[..., 0], sums[..., 1])


def f1(sums: Floats) -> Floats:
    """F1 of (right, predicted, gold)."""
    return _ratios(2 * sums[..., 0], sums[..., 1] + sums[..., 2])


def perplexity(sums: Floats) -> Floats:
    """Perplexity of a token, of (nats, tokens, characters)."""
    nats = _ratios(sums[..., 0], sums[..., 1])
    return np.where(nats < MOST_NATS, np.exp(np.minimum(nats, MOST_NATS)), np.inf)


def perplexity_of(nats: float) -> float:
    """Perplexity of a token that has so many nats in the mean; inf where no float is large enough."""
    return math.exp(nats) if nats < MOST_NATS else math.inf


def bits_per_char(sums: Floats) -> Floats:
    """Bits of a character, of (nats, tokens, characters)."""
    return _ratios(sums[..., 0] / math.log(2), sums[..., 2])


def calibration_error(confidence: Sequence[float], right: Sequence[bool] | NDArray[np.bool_]) -> float:
    """How far confidence is from how often it is right: expected calibration error (Guo et al., 2017).

    Answers go by their confidence, 0 to 1, into bins of equal width, each closed above; the distance between
    a bin's mean confidence and its accuracy counts by the share of the answers that are in it.
    """
    sure, hits = np.asarray(confidence, np.float64), np.asarray(right, np.float64)  # (n,)
    bins = np.clip(np.ceil(sure * CALIBRATION_BINS) - 1, 0, CALIBRATION_BINS - 1).astype(np.intp)
    gaps = np.bincount(bins, hits - sure, CALIBRATION_BINS)  # each bin's gap times its answers
    return _ratio(float(np.abs(gaps).sum()), len(sure))


def known_report(right: NDArray[np.bool_], known: NDArray[np.bool_]) -> dict[str, Any]:
    """A tagger's accuracy (0 to 1) by whether it knows a word, and the share that it doesn't; both (words,).

    An accuracy over no word at all is None.
    """
    def share(words: NDArray[np.bool_]) -> float | None:
        return float(right[words].mean()) if words.any() else None

    unknown = ~known
    return {
        "accuracy_known": share(known),
        "accuracy_unknown": share(unknown),
        "unknown": _ratio(int(unknown.sum()), len(unknown)),
    }


def unseen_labels(gold: Counter[str], known: Collection[str]) -> dict[str, int]:
    """How often each label that training never saw is in the gold standard, the most frequent first."""
    return {label: n for label, n in gold.most_common() if label not in known}


def figures(report: Mapping[str, Any]) -> dict[str, int | float]:
    """The numbers of a report by name; those of further columns have the column's name in front."""
    found = {key: value for key, value in report.items() if isinstance(value, int | float)}
    for name, column in report.get("columns", {}).items():
        found |= {f"{name} {key}": value for key, value in figures(column).items()}
    return found


def signature(**parts: object) -> str:
    """What a score depends on, in one line: `name:value` joined by "|", in the order given, None left out."""
    given = ((name, str(value).replace("|", "%7C")) for name, value in parts.items() if value is not None)
    return "|".join(f"{name}:{value}" for name, value in given)


def _seqeval(
    gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]], scheme: str, *, strict: bool
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """seqeval's figures over all spans, and for each label.

    seqeval takes some letters of a label for its own, so it gets the spans in IOB2, numbers for labels.
    """
    from seqeval.metrics import classification_report as judge
    from seqeval.scheme import IOB2

    want = [spans(tags, scheme, strict=strict) for tags in gold]
    have = [spans(tags, scheme, strict=strict) for tags in predicted]
    names = sorted({span.label for sentence in (*want, *have) for span in sentence})
    if not names:
        return _Tally(0, 0, 0).report(), {}
    numbers = {name: str(number) for number, name in enumerate(names)}
    sides = [
        [_numbered(sentence, len(tags), numbers) for sentence, tags in zip(side, gold, strict=True)]
        for side in (want, have)
    ]
    mode = {"mode": "strict", "scheme": IOB2} if strict else {}
    found = judge(*sides, output_dict=True, zero_division=0, **mode)
    return _plain(found["micro avg"]), {name: _plain(found[number]) for name, number in numbers.items()}


def _numbered(sentence: Iterable[Span], n: int, numbers: Mapping[str, str]) -> list[str]:
    return tags_from_spans((Span(s.start, s.end, numbers[s.label]) for s in sentence), n, "iob2")


def _plain(figures: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "precision": float(figures["precision"]),
        "recall": float(figures["recall"]),
        "f1": float(figures["f1-score"]),
        "support": int(figures["support"]),
    }


def _labels(record: str | Iterable[str]) -> frozenset[str]:
    return frozenset((record,) if isinstance(record, str) else record)


def _ratios(part: Floats, whole: Floats) -> Floats:
    return np.divide(part, whole, out=np.zeros(np.shape(part)), where=np.asarray(whole) != 0)


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else 0.0
