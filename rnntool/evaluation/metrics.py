"""Reports on language models, classifiers and taggers, and the metrics in them.

Knows no model and no file. A ratio with a denominator of zero is 0.0. Reports are plain Python, ready for
JSON. `accuracy`, `f1`, `perplexity` and `bits_per_char` take counts summed over records, (..., K), and
return (...), so that many bootstrap samples are computed at once.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rnntool.data.labels import OUTSIDE, SCHEMES_WITH_ENDS, Role, Span, convert, parse_tag

Floats = NDArray[np.float64]

CALIBRATION_BINS = 15  # as Guo et al. (2017)
MAX_NATS = 700.0  # the exponential of much more does not fit in a float


class _Counts(NamedTuple):
    """How often a label is predicted correctly, is predicted at all, and is in the gold standard."""

    correct: int
    predicted: int
    gold: int

    def f1(self) -> float:
        return ratio(2 * self.correct, self.predicted + self.gold)

    def report(self) -> dict[str, Any]:
        precision, recall = ratio(self.correct, self.predicted), ratio(self.correct, self.gold)
        return {"precision": precision, "recall": recall, "f1": self.f1(), "support": self.gold}


def lm_report(*, nll_nats: float, tokens: int, characters: int, bytes: int, oov: int) -> dict[str, Any]:
    """Report on a language model, given the summed negative log-likelihood of all scored tokens.

    `tokens` is the number of scored tokens: EOS counts, BOS and padding do not. `characters` and `bytes` are
    the size of the text, line ends included. `oov` is the number of scored tokens that are not in the
    vocabulary. In the report, `nll_nats` is the mean per token. Models with different tokenizers can be
    compared by bits per character and per byte.
    """
    nats = ratio(nll_nats, tokens)
    bits = nll_nats / math.log(2)
    return {
        "perplexity": perplexity_of(nats),
        "nll_nats": nats,
        "bits_per_char": ratio(bits, characters),
        "bits_per_byte": ratio(bits, bytes),
        "tokens": tokens,
        "oov": oov,
    }


def classification_report(
    gold: Sequence[str] | Sequence[Sequence[str]], predicted: Sequence[str] | Sequence[Sequence[str]]
) -> dict[str, Any]:
    """Report on a classifier. Each record has one label (a string) or a collection of labels.

    `accuracy` is the share of records with exactly the gold labels. `per_label` and its unweighted mean,
    `macro_f1`, include every label in `gold` or `predicted`, so a label that is missing from the training
    data counts as missed. `confusion` is {gold: {predicted: records}} if every record has exactly one label,
    and empty otherwise. ValueError if the two sides differ in length.
    """
    pairs = [(_label_set(g), _label_set(p)) for g, p in zip(gold, predicted, strict=True)]
    correct: Counter[str] = Counter()
    predictions: Counter[str] = Counter()
    support: Counter[str] = Counter()
    for g, p in pairs:
        correct.update(g & p)
        predictions.update(p)
        support.update(g)
    names = sorted(predictions.keys() | support.keys())
    counts = {name: _Counts(correct[name], predictions[name], support[name]) for name in names}
    confusion: defaultdict[str, Counter[str]] = defaultdict(Counter)
    if all(len(g) == len(p) == 1 for g, p in pairs):
        for g, p in pairs:
            confusion[min(g)][min(p)] += 1
    return {
        "accuracy": ratio(sum(g == p for g, p in pairs), len(pairs)),
        "macro_f1": ratio(math.fsum(count.f1() for count in counts.values()), len(counts)),
        "micro_f1": _Counts(correct.total(), predictions.total(), support.total()).f1(),
        "per_label": {name: count.report() for name, count in counts.items()},
        "confusion": {name: dict(sorted(confusion[name].items())) for name in sorted(confusion)},
    }


def tagging_report(
    gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]], scheme: str | None
) -> dict[str, Any]:
    """Report on a tagger over sentences. Both sides write their tags in `scheme`, or None for plain tags.

    `accuracy` is over tokens. For plain tags, `per_label` and `confusion` are over tags. For spans, seqeval
    computes everything: `precision`, `recall`, `f1` and `per_label` in strict mode, where a span counts only
    if its tags follow the scheme, and `f1_conlleval`, which reads broken tags as the conlleval script does.
    Their `confusion` is over the label of the span that a token is in, or "O". ValueError if the sides differ
    in length.
    """
    tokens = [pair for g, p in zip(gold, predicted, strict=True) for pair in zip(g, p, strict=True)]
    accuracy = ratio(sum(g == p for g, p in tokens), len(tokens))
    report: dict[str, Any] = {"tokens": len(tokens), "accuracy": accuracy}
    if scheme is None:
        plain = classification_report([g for g, _ in tokens], [p for _, p in tokens])
        return report | {key: plain[key] for key in ("per_label", "confusion")}
    inside = classification_report([_token_label(g) for g, _ in tokens], [_token_label(p) for _, p in tokens])
    return report | _span_report(gold, predicted, scheme) | {"confusion": inside["confusion"]}


def _span_report(
    gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]], scheme: str
) -> dict[str, Any]:
    from seqeval import metrics
    from seqeval import scheme as schemes

    sides = [[_seqeval_tags(tags, scheme) for tags in side] for side in (gold, predicted)]
    f1_conlleval = float(metrics.f1_score(*sides, zero_division=0)) if gold else 0.0
    if not any(strict_spans(tags, scheme) for tags in (*gold, *predicted)):  # seqeval can't average no labels
        overall, per_label = _Counts(0, 0, 0).report(), {}
    else:
        labels = metrics.classification_report(
            *sides, output_dict=True, zero_division=0, mode="strict",
            scheme=schemes.IOBES if scheme in SCHEMES_WITH_ENDS else schemes.IOB2)
        overall = _label_report(labels["micro avg"])
        per_label = {_label(key): _label_report(row) for key, row in labels.items() if " avg" not in key}
    main = {key: overall[key] for key in ("precision", "recall", "f1")}
    return {**main, "f1_conlleval": f1_conlleval, "per_label": per_label}


def _label_report(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"precision": float(row["precision"]), "recall": float(row["recall"]),
            "f1": float(row["f1-score"]), "support": int(row["support"])}


def span_counts(gold: Sequence[str], predicted: Sequence[str], scheme: str) -> tuple[int, int, int]:
    """Count a sentence's spans in seqeval's strict mode: correct, predicted and gold, as `f1` takes them."""
    gold_spans, predicted_spans = strict_spans(gold, scheme), strict_spans(predicted, scheme)
    return len(gold_spans & predicted_spans), len(predicted_spans), len(gold_spans)


def strict_spans(tags: Sequence[str], scheme: str) -> frozenset[Span]:
    """Return the spans whose tags follow the scheme, which seqeval's strict mode counts."""
    return _strict_spans(tuple(tags), scheme)


@lru_cache(maxsize=1 << 14)  # gold tags, and most predictions, are the same after each epoch of a training
def _strict_spans(tags: tuple[str, ...], scheme: str) -> frozenset[Span]:
    from seqeval.scheme import IOB2, IOBES, Tokens

    tokens = Tokens(_seqeval_tags(tags, scheme), IOBES if scheme in SCHEMES_WITH_ENDS else IOB2)
    return frozenset(Span(entity.start, entity.end, _label(entity.tag)) for entity in tokens.entities)


def _seqeval_tags(tags: Sequence[str], scheme: str) -> list[str]:
    """Rewrite tags in IOB2, or in IOBES if the scheme has end tags."""
    if scheme == "iob1":  # every sequence of tags is valid, and seqeval's own IOB1 would reject some
        tags, scheme = convert(tags, "iob1", "iob2"), "iob2"
    return [_seqeval_tag(tag, scheme) for tag in tags]


@lru_cache(maxsize=10_000)
def _seqeval_tag(tag: str, scheme: str) -> str:
    """Rewrite a tag with its label in hexadecimal.

    seqeval would strip hyphens from labels, and confuse a label such as "micro avg" with its own averages.
    """
    role, label = parse_tag(tag, scheme)
    if role == Role.OUTSIDE:
        return OUTSIDE
    return f"{'BIES'[role]}-x{label.encode('utf-8', 'surrogatepass').hex()}"


def _label(seqeval_label: str) -> str:
    return bytes.fromhex(seqeval_label[1:]).decode("utf-8", "surrogatepass")


def _token_label(tag: str) -> str:
    """Return the label of the span that a token is in; "O" and tags without a hyphen stay as they are."""
    return tag.partition("-")[2] or tag


def accuracy(sums: Floats) -> Floats:
    """Accuracy from (correct, total)."""
    return ratios(sums[..., 0], sums[..., 1])


def f1(sums: Floats) -> Floats:
    """F1 from (correct, predicted, gold)."""
    return ratios(2 * sums[..., 0], sums[..., 1] + sums[..., 2])


def perplexity(sums: Floats) -> Floats:
    """Perplexity per token from (nats, tokens, characters)."""
    nats = ratios(sums[..., 0], sums[..., 1])
    return np.where(nats < MAX_NATS, np.exp(np.minimum(nats, MAX_NATS)), np.inf)


def perplexity_of(nats: float) -> float:
    """Perplexity from the mean nats per token; inf if it does not fit in a float."""
    return math.exp(nats) if nats < MAX_NATS else math.inf


def bits_per_char(sums: Floats) -> Floats:
    """Bits per character from (nats, tokens, characters)."""
    return ratios(sums[..., 0] / math.log(2), sums[..., 2])


def calibration_error(confidence: Sequence[float], correct: Sequence[bool] | NDArray[np.bool_]) -> float:
    """Expected calibration error (Guo et al., 2017): the mean gap between confidence and accuracy.

    Predictions are sorted by confidence, 0 to 1, into bins of equal width that include their upper bound. The
    gap of a bin between its mean confidence and its accuracy is weighted by its share of the predictions.
    """
    p, hits = np.asarray(confidence, np.float64), np.asarray(correct, np.float64)  # (n,)
    bins = np.clip(np.ceil(p * CALIBRATION_BINS) - 1, 0, CALIBRATION_BINS - 1).astype(np.intp)
    gaps = np.bincount(bins, hits - p, CALIBRATION_BINS)  # each multiplied by the size of its bin
    return ratio(float(np.abs(gaps).sum()), len(p))


def vocabulary_report(correct: NDArray[np.bool_], in_vocabulary: NDArray[np.bool_]) -> dict[str, Any]:
    """Report a tagger's accuracy on words in its vocabulary and on unknown ones; both arrays are (words,).

    `unknown` is the share of unknown words. An accuracy over no words is None.
    """
    def mean(words: NDArray[np.bool_]) -> float | None:
        return float(correct[words].mean()) if words.any() else None

    unknown = ~in_vocabulary
    return {
        "accuracy_known": mean(in_vocabulary),
        "accuracy_unknown": mean(unknown),
        "unknown": ratio(int(unknown.sum()), len(unknown)),
    }


def unseen_labels(gold: Counter[str], training_labels: Collection[str]) -> dict[str, int]:
    """Return the counts of gold labels that are missing from the training data, most frequent first."""
    return {label: n for label, n in gold.most_common() if label not in training_labels}


def mixed_perplexity(
    log_probs: NDArray[np.float32], other_log_probs: NDArray[np.float32], *, other_weight: float = 0.5
) -> float:
    """Return the perplexity of two interpolated language models, given those of each token (N,) in nats."""
    weights = 1 - other_weight, other_weight
    probs = [np.exp(values.astype(np.float64)) for values in (log_probs, other_log_probs)]
    with np.errstate(divide="ignore"):
        mixed = np.log(weights[0] * probs[0] + weights[1] * probs[1])
    return perplexity_of(-float(mixed.mean()))


def numbers(report: Mapping[str, Any]) -> dict[str, int | float]:
    """Return all numbers in a report by name; those of additional columns are named `COLUMN NAME`."""
    values = {key: value for key, value in report.items() if isinstance(value, int | float)}
    for name, column in report.get("columns", {}).items():
        values |= {f"{name} {key}": value for key, value in numbers(column).items()}
    return values


def signature(**parts: object) -> str:
    """Join everything that a score depends on into one line, `name:value|name:value`, leaving out None."""
    given = ((name, str(value).replace("|", "%7C")) for name, value in parts.items() if value is not None)
    return "|".join(f"{name}:{value}" for name, value in given)


def _label_set(labels: str | Iterable[str]) -> frozenset[str]:
    return frozenset((labels,) if isinstance(labels, str) else labels)


def ratios(part: Floats, whole: Floats) -> Floats:
    """Divide elementwise; 0 where the denominator is 0."""
    return np.divide(part, whole, out=np.zeros(np.shape(part)), where=np.asarray(whole) != 0)


def ratio(part: float, whole: float) -> float:
    """Divide; 0 if the denominator is 0."""
    return float(part / whole) if whole else 0.0
