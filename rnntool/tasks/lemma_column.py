"""A column of lemmas: its labels are edit scripts, which turn a word's form into its lemma."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Self

import numpy as np
from numpy.typing import NDArray

from rnntool.data.arrays import IGNORE, Floats, Ints, top_k
from rnntool.data.edit_scripts import EditScript, candidates, learn
from rnntool.data.labels import Labels
from rnntool.errors import DataError, setting
from rnntool.tasks.tag_column import ChainScores, TagColumn

MOST_CANDIDATES = 16  # scripts that are tried on a word
MOST_REMEMBERED = 1 << 16  # lemmas of a form and a script, to limit memory over an endless stream


class LemmaColumn(TagColumn):
    """Predicts the edit script of each word.

    Several scripts may give the same lemma: its probability is the sum of theirs. A script that doesn't fit
    the form is left out; if none fits, the lemma is the form.
    """

    kind = "lemma"

    def __init__(self, labels: Labels, scheme: str | None = None) -> None:
        """`ValueError` if a label is no edit script."""
        super().__init__(labels, scheme)
        self._scripts = [EditScript.parse(name) for name in labels]
        self._remembered: dict[tuple[str, int], str | None] = {}

    @classmethod
    def learn(
        cls, words: Sequence[Sequence[str]], sequences: Sequence[Sequence[str]], place: str = ""
    ) -> Self:
        pairs = list(zip(chain.from_iterable(words), chain.from_iterable(sequences), strict=True))
        lemmas = {lemma for _, lemma in pairs}
        if len(lemmas) < 2:
            raise DataError(place="training data", expected=f"at least 2 different lemmas{place}",
                            found=f"only {next(iter(lemmas))!r}", advice=f"check {setting('column')}")
        return cls(Labels(map(str, learn(pairs))))

    # --- Lemmas and scripts --------------------------------------------------------------------------------

    def ids(self, words: Sequence[str], tags: Sequence[str], scheme: str | None) -> NDArray[np.int32]:
        return np.array([self._id(*pair) for pair in zip(words, tags, strict=True)], np.int32)

    def _id(self, form: str, lemma: str) -> int:
        """Return the id of the first script that turns a form into its lemma; `IGNORE` if there is none."""
        ids = (self.labels.get(str(script), IGNORE) for script in candidates(form, lemma))
        return min((i for i in ids if i != IGNORE), default=IGNORE)

    def outer(self, words: Sequence[str], labels: Sequence[str], scheme: str) -> list[str]:
        return [self._lemma(word, self.labels.id(label)) or word
                for word, label in zip(words, labels, strict=True)]

    def _lemma(self, form: str, script: int) -> str | None:
        """Apply a script to a form; None if it doesn't fit."""
        key = form, script
        if key not in self._remembered:
            if len(self._remembered) >= MOST_REMEMBERED:
                self._remembered = {}
            self._remembered[key] = self._scripts[script].apply(form)
        return self._remembered.get(key)

    # --- Predictions ---------------------------------------------------------------------------------------

    def decode(
        self, words: Sequence[Sequence[str]], emissions: Floats, lengths: Ints, learned: ChainScores | None,
        scheme: str,
    ) -> list[list[str]]:
        marginals = self.marginals(emissions, lengths, learned, scheme)  # (T, B, L)
        best = marginals.argmax(-1)
        certain = np.take_along_axis(marginals, best[..., None], -1)[..., 0] >= 0.5  # no sum can be larger
        rows = zip(words, best.T.tolist(), certain.T.tolist(), marginals.swapaxes(0, 1), strict=True)
        return [[self._best(word, script if is_certain else None, probs)
                 for word, script, is_certain, probs in zip(*row, strict=False)] for row in rows]

    def nbest(
        self, words: Sequence[Sequence[str]], emissions: Floats, lengths: Ints, learned: ChainScores | None,
        scheme: str, k: int,
    ) -> list[list[tuple[list[str], float]]]:
        rows = super().nbest(words, emissions, lengths, learned, scheme, 2 * k)
        best_of_rows = []
        for row in rows:
            best: dict[tuple[str, ...], float] = {}
            for lemmas, log_prob in row:  # the best scripts of the same lemmas come first
                best.setdefault(tuple(lemmas), log_prob)
            best_of_rows.append([(list(lemmas), log_prob) for lemmas, log_prob in best.items()][:k])
        return best_of_rows

    def probs(
        self, words: Sequence[Sequence[str]], tags: Sequence[Sequence[str]], emissions: Floats, lengths: Ints,
        learned: ChainScores | None, scheme: str,
    ) -> list[list[float]]:
        marginals = self.marginals(emissions, lengths, learned, scheme).swapaxes(0, 1)  # (B, T, L)
        return [[self._lemmas(word, probs).get(lemma, 0.0) for word, lemma, probs in zip(*row, strict=False)]
                for row in zip(words, tags, marginals, strict=True)]

    def _best(self, form: str, script: int | None, probs: Floats) -> str:
        """Return the most probable lemma of a form: that of `script` if given, or by all probabilities."""
        if script is not None and (lemma := self._lemma(form, script)) is not None:
            return lemma
        lemmas = self._lemmas(form, probs)
        return max(lemmas, key=lemmas.__getitem__, default=form)

    def _lemmas(self, form: str, probs: Floats) -> dict[str, float]:
        """Return the lemmas of a form with their probabilities, from the most probable scripts (L,)."""
        lemmas: dict[str, float] = {}
        for script, prob in zip(*map(np.ndarray.tolist, top_k(probs, MOST_CANDIDATES)), strict=True):
            if (lemma := self._lemma(form, script)) is not None:
                lemmas[lemma] = lemmas.get(lemma, 0.0) + prob
        return lemmas

    # --- Gold lemmas ---------------------------------------------------------------------------------------

    def gold_scheme(self, sequences: Iterable[Sequence[str]]) -> str | None:
        return None

    def trained_labels(self) -> tuple[str, ...]:
        return self.labels.names

    def unseen_labels(
        self, words: Sequence[Sequence[str]], gold: Sequence[Sequence[str]]
    ) -> dict[str, int]:
        pairs = Counter(zip(chain.from_iterable(words), chain.from_iterable(gold), strict=True))
        unseen = Counter[str]()
        for pair, count in pairs.items():
            if self._id(*pair) == IGNORE:
                unseen[pair[1]] += count
        return dict(unseen.most_common())
