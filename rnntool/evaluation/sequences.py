"""Metrics of predicted sequences: exact match, error rates, BLEU and chrF. Knows no model and no file.

Counts have a row for each record. Metrics take their sums (..., K) and return (...), so that many bootstrap
samples are computed at once. Scores of a corpus are never means of scores of its records.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rnntool.data.arrays import by_length, pad
from rnntool.evaluation.metrics import ratios
from rnntool.evaluation.significance import Counts

ORDERS = 4  # of the n-grams of BLEU
CHARACTER_ORDERS = 6  # of the n-grams of chrF
BETA = 2  # weight of recall in chrF
_BUDGET = 1 << 16  # symbols of a batch of edit distances
_BLOCK = 4096  # records whose n-grams are counted at once
_FINAL_MARK = re.compile(r"(\s?)[.?!]$")

ERRORS = slice(0, 4)  # columns: exact matches, records, edits, symbols
BLEU = slice(4, 4 + 2 + 2 * ORDERS)  # columns of sacrebleu: lengths of output and reference, correct, total
CHRF = slice(BLEU.stop, BLEU.stop + 3 * CHARACTER_ORDERS)  # for each order: output, reference, correct

Symbols = Sequence[str]  # a sequence as what it consists of: characters, phones, words


class TextCounts(NamedTuple):
    """What BLEU and chrF are computed from, and their signatures, which say how."""

    counts: Counts  # (N, 28), the columns after ERRORS
    signatures: dict[str, str]  # by the name of the metric


def error_counts(outputs: Sequence[Symbols], references: Sequence[Sequence[Symbols]]) -> Counts:
    """Count errors (N, 4): exact matches, records, edits and symbols.

    Each output is compared with the nearest of its references: the one with the fewest edits, and the longest
    of these. `symbols` is the length of that reference. Each record needs a reference.
    """
    sizes = [len(of_record) for of_record in references]
    flat = [reference for of_record in references for reference in of_record]
    records = np.repeat(np.arange(len(sizes)), sizes)
    edits = edit_distances([outputs[record] for record in records.tolist()], flat)
    lengths = np.array([len(reference) for reference in flat], np.int64)
    order = np.lexsort((-lengths, edits, records))
    nearest = order[np.cumsum([0, *sizes])[:-1]]
    columns = edits[nearest] == 0, np.ones(len(sizes)), edits[nearest], lengths[nearest]
    return np.stack(columns, axis=1).astype(np.float64)


def edit_distances(ones: Sequence[Symbols], others: Sequence[Symbols]) -> NDArray[np.int64]:
    """Return the edit distance (Levenshtein, 1966) of each pair of sequences (N,)."""
    ids: dict[str, int] = {}
    rows, columns = ([np.array([ids.setdefault(symbol, len(ids)) for symbol in sequence], np.int64)
                      for sequence in side] for side in (ones, others))
    distances = np.zeros(len(rows), np.int64)
    longest = [max(len(row), len(column)) for row, column in zip(rows, columns, strict=True)]
    for batch in by_length(longest, _BUDGET):
        distances[batch] = _edit_distances([rows[i] for i in batch], [columns[i] for i in batch])
    return distances


def _edit_distances(ones: list[NDArray[Any]], others: list[NDArray[Any]]) -> NDArray[np.int64]:
    """Return the edit distances of a batch (B,), a symbol of all `ones` at a time.

    Insertions are a running minimum, because j of them cost j.
    """
    left, left_lengths = pad(ones, -1)  # (T, B)
    right, right_lengths = pad(others, -2)  # (U, B)
    insertions = np.arange(len(right) + 1)[:, None]  # (U + 1, 1)
    costs = np.repeat(insertions, left.shape[1], axis=1)  # (U + 1, B) of the first t and the first u symbols
    for t, symbols in enumerate(left):
        new = costs + 1  # a deletion
        new[1:] = np.minimum(new[1:], costs[:-1] + (right != symbols))
        new = np.minimum.accumulate(new - insertions, axis=0) + insertions
        costs = np.where(t < left_lengths, new, costs)
    return costs[right_lengths, np.arange(len(right_lengths))]


def text_counts(
    outputs: Sequence[str], references: Sequence[Sequence[str]], *, tokenize: str = "13a"
) -> TextCounts:
    """Count what BLEU (Papineni et al., 2002) and chrF (Popović, 2015) need, by sacrebleu (Post, 2018).

    `tokenize` is the name of sacrebleu's tokenizer for BLEU; "none" splits at spaces. Each record needs a
    reference.
    """
    from sacrebleu.metrics.bleu import BLEU as Bleu
    from sacrebleu.metrics.chrf import CHRF as Chrf

    if not outputs:
        return TextCounts(np.empty((0, CHRF.stop - BLEU.start)), {})
    by_words = Bleu(tokenize=tokenize, force=True)
    metrics = {"bleu": by_words, "chrf": Chrf()}
    counts = [_text_counts(outputs[i : i + _BLOCK], references[i : i + _BLOCK], by_words.tokenizer)
              for i in range(0, len(outputs), _BLOCK)]
    # signatures say how many references there are
    some = {len(of_record): (output, of_record)
            for output, of_record in zip(outputs, references, strict=True)}.values()
    streams = [list(stream) for stream in zip_longest(*(of_record for _, of_record in some))]
    for metric in metrics.values():
        metric.corpus_score([output for output, _ in some], streams)
    signatures = {name: str(metric.get_signature()) for name, metric in metrics.items()}
    return TextCounts(np.concatenate(counts), signatures)


def _text_counts(
    outputs: Sequence[str], references: Sequence[Sequence[str]], tokenizer: Callable[[str], str]
) -> Counts:
    """Return the counts (N, 28): words and word n-grams for BLEU, character n-grams without spaces for chrF.

    For BLEU, an n-gram is matched at most as often as it occurs in any one reference, and the length is that
    of the reference whose length is closest. For chrF, only the best reference counts.
    """
    def words(text: str) -> list[str]:
        return tokenizer(text.rstrip()).split()

    def characters(text: str) -> str:
        return "".join(text.split())

    rows = np.arange(len(outputs))
    lengths, _, correct = _common_ngrams(
        list(map(words, outputs)), [list(map(words, of_record)) for of_record in references], ORDERS)
    output, others = lengths[:, 0], lengths[:, 1:]
    distance = np.where(others < 0, np.inf, np.abs(others - output[:, None]) + others / (others.max() + 1))
    totals = (output[:, None] - np.arange(ORDERS)).clip(0)
    of_bleu = [output[:, None], others[rows, distance.argmin(axis=1)][:, None], correct, totals]

    lengths, shared, _ = _common_ngrams(
        list(map(characters, outputs)), [list(map(characters, of_record)) for of_record in references],
        CHARACTER_ORDERS)
    sizes = (lengths[..., None] - np.arange(CHARACTER_ORDERS)).clip(0)  # (N, 1 + K, orders)
    of_references = sizes[:, 1:]
    of_output = np.where(of_references > 0, sizes[:, :1], 0)
    of_chrf = np.stack([of_output, of_references, shared], axis=-1).reshape(*shared.shape[:2], -1)
    scores = chrf(np.concatenate([np.zeros((*shared.shape[:2], CHRF.start)), of_chrf], axis=-1))
    best = np.where(lengths[:, 1:] < 0, -1, scores).argmax(axis=1)
    return np.concatenate([*of_bleu, of_chrf[rows, best]], axis=1).astype(np.float64)


def _common_ngrams(
    outputs: Sequence[Symbols], references: Sequence[Sequence[Symbols]], orders: int
) -> tuple[NDArray[np.int64], NDArray[Any], NDArray[Any]]:
    """Count the n-grams that each output shares with its references (up to K a record).

    Returns the lengths (N, 1 + K) of the output and of the references, -1 if a record has fewer; the numbers
    (N, K, orders) of n-grams shared with each reference; and those (N, orders) shared with any of them.
    """
    slots = 1 + max(map(len, references))
    lengths = np.full((len(outputs), slots), -1)
    ids: dict[str, int] = {}
    flat: list[int] = []
    for row, output, of_record in zip(lengths, outputs, references, strict=True):
        for slot, sequence in enumerate((output, *of_record)):
            row[slot] = len(sequence)
            flat += [ids.setdefault(symbol, len(ids)) for symbol in sequence]
    symbols, sizes = np.array(flat, np.int64), lengths.clip(0).ravel()  # (S,) one after the other
    place = np.repeat(np.arange(len(sizes)), sizes)
    left = np.cumsum(sizes)[place] - np.arange(len(place))  # symbols from here to its end
    record, slot_of = np.divmod(place, slots)
    shared = np.zeros((len(outputs), slots - 1, orders))
    in_any = np.zeros((len(outputs), orders))
    ngrams = record.copy()  # (S,) an id for the n-gram that begins here, in this record
    for n in range(orders):
        starts = np.flatnonzero(left > n)
        _, first, ngrams[starts] = np.unique(
            ngrams[starts] * len(ids) + symbols[starts + n], return_index=True, return_inverse=True)
        counts = np.bincount(ngrams[starts] * slots + slot_of[starts], minlength=len(first) * slots)
        counts = counts.reshape(-1, slots)
        common = np.minimum(counts[:, :1], counts[:, 1:])  # (n-grams, K)
        owner = record[starts[first]]
        for k in range(slots - 1):
            shared[:, k, n] = np.bincount(owner, common[:, k], minlength=len(outputs))
        in_any[:, n] = np.bincount(owner, common.max(axis=1, initial=0), minlength=len(outputs))
    return lengths, shared, in_any


def form_of(references: Sequence[str]) -> list[str]:
    """Say in which form a text is that makes its BLEU incomparable with that of others.

    It is "tokenized" if most final punctuation marks have a space before them, and "lower-cased" if it has no
    capital letter.
    """
    marks = [mark for text in references if (mark := _FINAL_MARK.search(text))]
    spaced = sum(bool(mark[1]) for mark in marks)
    has_case = any(text != text.upper() for text in references)
    lower = has_case and all(text == text.lower() for text in references)
    return ["tokenized"] * (2 * spaced > len(marks)) + ["lower-cased"] * lower


# --- Metrics of sums ---------------------------------------------------------------------------------------


def exact_match(sums: Counts) -> NDArray[Any]:
    """Share of the records whose output equals a reference."""
    return ratios(sums[..., 0], sums[..., 1])


def word_error_rate(sums: Counts) -> NDArray[Any]:
    """Share of the records whose output equals no reference."""
    return ratios(sums[..., 1] - sums[..., 0], sums[..., 1])


def symbol_error_rate(sums: Counts) -> NDArray[Any]:
    """Edits per symbol of the nearest references."""
    return ratios(sums[..., 2], sums[..., 3])


def bleu(sums: Counts) -> NDArray[Any]:
    """BLEU of a corpus, 0 to 100, as sacrebleu computes it with exponential smoothing."""
    output, reference = sums[..., BLEU.start], sums[..., BLEU.start + 1]
    correct, total = np.split(sums[..., BLEU.start + 2 : BLEU.stop], 2, axis=-1)  # (..., ORDERS)
    missing = correct == 0
    smoothed = np.where(missing, 0.5 ** np.cumsum(missing, axis=-1), correct)
    valid = correct.any(axis=-1) & total.all(axis=-1)
    precisions = ratios(smoothed, total)
    logs = np.log(precisions, out=np.zeros_like(precisions), where=precisions > 0).mean(axis=-1)
    brevity = np.minimum(0, 1 - ratios(reference, output))
    return np.where(valid, 100 * np.exp(logs + brevity), 0)


def chrf(sums: Counts) -> NDArray[Any]:
    """chrF of a corpus, 0 to 100, as sacrebleu computes it."""
    output, reference, correct = np.moveaxis(
        sums[..., CHRF].reshape(*sums.shape[:-1], CHARACTER_ORDERS, 3), -1, 0)
    counted = (output > 0) & (reference > 0)  # orders that both sides have
    orders = counted.sum(axis=-1)
    precision = ratios((ratios(correct, output) * counted).sum(axis=-1), orders)
    recall = ratios((ratios(correct, reference) * counted).sum(axis=-1), orders)
    return 100 * ratios((1 + BETA**2) * precision * recall, BETA**2 * precision + recall)


METRICS = {  # of sums of all columns, by their names in a report
    "exact_match": exact_match,
    "word_error_rate": word_error_rate,
    "symbol_error_rate": symbol_error_rate,
    "bleu": bleu,
    "chrf": chrf,
}
