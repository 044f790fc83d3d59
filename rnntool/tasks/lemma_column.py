"""A column of lemmas: its labels are edit scripts, which turn a word's form into its lemma."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from heapq import nlargest
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from rnntool.data.arrays import IGNORE, Floats, Ints, top_k
from rnntool.data.edit_scripts import EditScript, candidates, learn
from rnntool.data.escaping import read_escaped_rows, write_escaped_rows
from rnntool.data.labels import Labels
from rnntool.data.model_file import damaged
from rnntool.errors import DataError, setting
from rnntool.tasks.tag_column import ChainScores, Comparison, TagColumn

FILE = "lemmas.txt"
MOST_CANDIDATES = 16  # scripts that are tried on a word
MOST_REMEMBERED = 1 << 16  # sizes of the caches of lemmas and scripts, because a text can be endless
# Chosen on a tenth of a Turkish treebank, which was held out.
KNOWN_LEMMA = 24.0  # factor of the probability of a lemma that training saw
KNOWN_PAIR = 8.0  # added to a further factor, 1, for each time that training saw the lemma with the form

Pairs = Mapping[tuple[str, str], int]  # the number of words with a form and a lemma


class LemmaColumn(TagColumn):
    """Predicts the edit script of each word, and prefers lemmas of the training data.

    Several scripts may give the same lemma: its probability is the sum of theirs. A script that doesn't fit
    the form is left out; if none fits, the lemma is the form.
    """

    kind = "lemma"

    def __init__(self, labels: Labels, pairs: Pairs) -> None:
        """`pairs` are those of the training data. `ValueError` if a label is no edit script."""
        super().__init__(labels, None)
        self._scripts = [EditScript.parse(name) for name in labels]
        self._pairs = dict(pairs)
        self._id = lru_cache(MOST_REMEMBERED)(self._first_script)
        self._lemma = lru_cache(MOST_REMEMBERED)(self._apply)
        self._lemma_counts = Counter[str]()
        self._lemmas_of: defaultdict[str, dict[str, int]] = defaultdict(dict)
        for (form, lemma), count in pairs.items():
            self._lemma_counts[lemma] += count
            self._lemmas_of[form][lemma] = count

    @classmethod
    def learn(
        cls, words: Sequence[Sequence[str]], sequences: Sequence[Sequence[str]], place: str = ""
    ) -> Self:
        pairs = Counter(zip(chain.from_iterable(words), chain.from_iterable(sequences), strict=True))
        lemmas = {lemma for _, lemma in pairs}
        if len(lemmas) < 2:
            raise DataError(place="training data", expected=f"at least 2 different lemmas{place}",
                            found=f"only {next(iter(lemmas))!r}", advice=f"check {setting('column')}")
        return cls(Labels(map(str, learn(pairs))), pairs)

    @property
    def noun(self) -> str:
        return "lemmas"

    def save(self, folder: Path) -> None:
        rows = ((*pair, str(count)) for pair, count in sorted(self._pairs.items()))
        write_escaped_rows(folder / FILE, rows)

    @classmethod
    def load(cls, folder: Path, labels: Labels, scheme: str | None) -> Self:
        try:
            pairs = {(form, lemma): int(count) for form, lemma, count in read_escaped_rows(folder / FILE, 3)}
        except ValueError:
            raise damaged(folder / FILE, expected="a form, a lemma and a count in each line") from None
        try:
            return cls(labels, pairs)
        except ValueError as error:
            raise damaged(folder / "labels.txt", str(error)) from None

    # --- Lemmas and scripts --------------------------------------------------------------------------------

    def ids(self, words: Sequence[str], tags: Sequence[str], scheme: str | None) -> NDArray[np.int32]:
        return np.array([self._id(*pair) for pair in zip(words, tags, strict=True)], np.int32)

    def _first_script(self, form: str, lemma: str) -> int:
        """Return the id of the first script that turns a form into its lemma; `IGNORE` if there is none."""
        ids = (self.labels.get(str(script), IGNORE) for script in candidates(form, lemma))
        return min((i for i in ids if i != IGNORE), default=IGNORE)

    def outer(self, words: Sequence[str], labels: Sequence[str], scheme: str) -> list[str]:
        lemmas = [self._lemma(word, self.labels.id(label)) for word, label in zip(words, labels, strict=True)]
        return [word if lemma is None else lemma for word, lemma in zip(words, lemmas, strict=True)]

    def _apply(self, form: str, script: int) -> str | None:
        """Apply a script to a form; None if it doesn't fit."""
        return self._scripts[script].apply(form)

    # --- Predictions ---------------------------------------------------------------------------------------

    def decode(
        self, words: Sequence[Sequence[str]], emissions: Floats, lengths: Ints, learned: ChainScores | None,
        scheme: str,
    ) -> list[list[str]]:
        marginals = self.marginals(emissions, lengths, learned, scheme)  # (T, B, L)
        best = marginals.argmax(-1)
        probs = np.take_along_axis(marginals, best[..., None], -1)[..., 0]
        rows = zip(words, best.T.tolist(), probs.T.tolist(), marginals.swapaxes(0, 1), strict=True)
        return [[self._best(*word) for word in zip(*row, strict=False)] for row in rows]

    def nbest(
        self, words: Sequence[Sequence[str]], emissions: Floats, lengths: Ints, learned: ChainScores | None,
        scheme: str, k: int,
    ) -> list[list[tuple[list[str], float]]]:
        # several scripts may give the same lemma, so this combines the lemmas of each word
        best_of_rows = []
        marginals = self.marginals(emissions, lengths, learned, scheme).swapaxes(0, 1)  # (B, T, L)
        for row, probs_of_words in zip(words, marginals, strict=True):
            best: list[tuple[list[str], float]] = [([], 0.0)]
            for word, probs in zip(row, probs_of_words, strict=False):
                lemmas = self._lemmas(word, probs)
                best = nlargest(k, (([*before, lemma], score + math.log(prob))
                                    for before, score in best for lemma, prob in lemmas.items() if prob),
                                key=itemgetter(1))
            best_of_rows.append(best)
        return best_of_rows

    def probs(
        self, words: Sequence[Sequence[str]], tags: Sequence[Sequence[str]], emissions: Floats, lengths: Ints,
        learned: ChainScores | None, scheme: str,
    ) -> list[list[float]]:
        marginals = self.marginals(emissions, lengths, learned, scheme).swapaxes(0, 1)  # (B, T, L)
        return [[self._lemmas(word, probs).get(lemma, 0.0) for word, lemma, probs in zip(*row, strict=False)]
                for row in zip(words, tags, marginals, strict=True)]

    def _best(self, form: str, script: int, prob: float, probs: Floats) -> str:
        """Return the best lemma of a form, given the best script and the probabilities of all (L,)."""
        lemma = self._lemma(form, script)
        if lemma is not None and prob >= 0.5:
            counts = self._counts_of(form)
            largest = KNOWN_LEMMA * (1 + KNOWN_PAIR * max(counts.values(), default=0))
            if self._factor(lemma, counts) >= largest:
                return lemma  # no other lemma can weigh more
        lemmas = self._lemmas(form, probs)
        return max(lemmas, key=lemmas.__getitem__)

    def _lemmas(self, form: str, probs: Floats) -> dict[str, float]:
        """Return lemmas of a form with their probabilities, given those of the scripts (L,)."""
        counts = self._counts_of(form)
        weights: dict[str, float] = {}
        for script, prob in zip(*map(np.ndarray.tolist, top_k(probs, MOST_CANDIDATES)), strict=True):
            if (lemma := self._lemma(form, script)) is not None:
                weights[lemma] = weights.get(lemma, 0.0) + prob * self._factor(lemma, counts)
        total = sum(weights.values())
        return {lemma: weight / total for lemma, weight in weights.items()} if total else {form: 1.0}

    def _factor(self, lemma: str, counts: Mapping[str, int]) -> float:
        """Return the factor of the probability of a lemma that has these `counts` with a form in training."""
        of_lemma = KNOWN_LEMMA if lemma in self._lemma_counts else 1.0
        return of_lemma * (1 + KNOWN_PAIR * counts.get(lemma, 0))

    def _counts_of(self, form: str) -> Mapping[str, int]:
        """Return how often training saw each lemma with a form, or else with the form in lower case."""
        return self._lemmas_of.get(form) or self._lemmas_of.get(form.lower()) or {}

    # --- Gold lemmas ---------------------------------------------------------------------------------------

    def compare(
        self, words: Sequence[Sequence[str]], gold: Sequence[Sequence[str]],
        predicted: Sequence[Sequence[str]],
    ) -> Comparison:
        # a table of all lemmas would be too long
        return replace(super().compare(words, gold, predicted), by_label=False)

    def trained_labels(self) -> tuple[str, ...]:
        return tuple(lemma for lemma, _ in self._lemma_counts.most_common())

    def unseen_labels(
        self, words: Sequence[Sequence[str]], gold: Sequence[Sequence[str]]
    ) -> dict[str, int]:
        pairs = Counter(zip(chain.from_iterable(words), chain.from_iterable(gold), strict=True))
        unseen = Counter[str]()
        for pair, count in pairs.items():
            if self._id(*pair) == IGNORE:
                unseen[pair[1]] += count
        return dict(unseen.most_common())
