"""Columns of dependency trees: the head of each word, and the word's relation to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from rnntool.data import trees
from rnntool.data.arrays import IGNORE, Floats, Ints
from rnntool.data.labels import Labels
from rnntool.data.records import Sentence
from rnntool.errors import UsageError
from rnntool.tasks.tag_column import ChainScores, Comparison, ScoredBatch, TagColumn

VECTOR = 100  # size of the vector of a word as a dependent, and of its vector as a head
ROOT = "root"


class HeadColumn(TagColumn):
    """Predicts the head of each word, so that the words of a sentence form a tree with one root.

    Heads are written as in CoNLL-U: the number of a word, counted from 1, and 0 for the root. So there are no
    labels. The network outputs vectors of each word, which give the scores of all heads; see `trees`.
    """

    kind = "head"

    @classmethod
    def learn(
        cls, words: Sequence[Sequence[str]], sequences: Sequence[Sequence[str]], place: str = ""
    ) -> Self:
        return cls(Labels(()), None)

    @property
    def noun(self) -> str:
        return "heads"

    @property
    def sizes(self) -> tuple[int, ...]:
        return (2 * VECTOR + 2,)

    @property
    def weights(self) -> tuple[float, ...]:
        # heads have larger losses than tags, and with a weight of 1 both are learned worse
        return (0.5,)

    def check(self, record: Sentence, tags: Sequence[str]) -> None:
        """Raise `DataError` if the heads of a sentence don't form a tree; several roots are allowed."""
        from rnntool.data.treebank import tree_heads  # tagging doesn't need it

        tree_heads(tags, record.place_of, one_root=False)

    def ids(self, words: Sequence[str], tags: Sequence[str], scheme: str | None) -> NDArray[np.int32]:
        return np.array(list(map(int, tags)), np.int32)

    # --- Predictions ---------------------------------------------------------------------------------------

    def with_heads(self, emissions: Floats, lengths: Ints) -> Floats:
        """Return emissions (T, B, `sizes`), followed by the number of the best head: (T, B, `sizes` + 1).

        The other methods take the result, so that the best tree is searched only once.
        """
        heads = np.zeros((*emissions.shape[:2], 1), emissions.dtype)
        for i, length in enumerate(lengths):
            heads[:length, i, 0] = trees.best_heads(emissions[:length, i])
        return np.concatenate([emissions, heads], axis=-1)

    def decode(
        self, words: Sequence[Sequence[str]], emissions: Floats, lengths: Ints, learned: ChainScores | None,
        scheme: str,
    ) -> list[list[str]]:
        heads = emissions[..., -1].T.astype(int)  # (B, T)
        return [list(map(str, row[:length].tolist())) for row, length in zip(heads, lengths, strict=False)]

    def nbest(
        self, words: Sequence[Sequence[str]], emissions: Floats, lengths: Ints, learned: ChainScores | None,
        scheme: str, k: int,
    ) -> list[list[tuple[list[str], float]]]:
        raise UsageError(setting="nbest", expected="a model whose first column has tags",
                         found="one whose first column has heads", advice="leave it out")

    def probs(
        self, words: Sequence[Sequence[str]], tags: Sequence[Sequence[str]], emissions: Floats, lengths: Ints,
        learned: ChainScores | None, scheme: str,
    ) -> list[list[float]]:
        # of each head by itself, independent of the other heads
        return [trees.head_probs(emissions[: len(row), i, :-1], list(map(int, row)))
                for i, row in enumerate(tags)]

    def abstain(self, tags: list[str], probs: list[float], scheme: str, threshold: float) -> list[str]:
        return tags  # without some of the heads, there would be no tree

    def temperature(self, batches: Sequence[ScoredBatch], learned: ChainScores | None) -> float:
        return 1.0

    # --- Gold heads ----------------------------------------------------------------------------------------

    def compare(
        self, words: Sequence[Sequence[str]], gold: Sequence[Sequence[str]],
        predicted: Sequence[Sequence[str]],
    ) -> Comparison:
        # figures for each position of a head would say nothing
        return replace(super().compare(words, gold, predicted), by_label=False)

    def unseen_labels(
        self, words: Sequence[Sequence[str]], gold: Sequence[Sequence[str]]
    ) -> dict[str, int]:
        return {}


class RelationColumn(TagColumn):
    """Predicts the relation of each word to its head, which a `HeadColumn` predicts.

    The network gives each word two scores of each relation: one as a dependent, and one as a head. The score
    of a relation between two words is that of the dependent plus that of the head.
    """

    kind = "deprel"

    @property
    def sizes(self) -> tuple[int, ...]:
        return (len(self.labels),) * 2

    @property
    def weights(self) -> tuple[float, ...]:
        return (1.0, 0.0)  # the loss of the first includes the scores of the second

    def targets(
        self, words: Sequence[str], tags: Sequence[str], scheme: str | None
    ) -> list[NDArray[np.int32]]:
        ids = self.ids(words, tags, scheme)
        return [ids, np.full_like(ids, IGNORE)]

    def label_scores(self, emissions: Floats) -> Floats:
        return emissions[..., : len(self.labels)]

    def given_heads(self, emissions: Floats, heads: Ints) -> Floats:
        """Return the scores (T, B, L) of relations to these heads (T, B), given `emissions` (T, B, `sizes`).

        Only a root can have the relation `root`, and it can have no other.
        """
        of_word, of_head = np.split(emissions, 2, axis=-1)
        scores: Floats = of_word.copy()
        is_root = np.array([label.partition(":")[0] == ROOT for label in self.labels])
        has_head = heads > 0
        words, rows = np.nonzero(has_head)
        scores[words, rows] += of_head[heads[words, rows] - 1, rows]
        if is_root.any():
            scores[has_head[..., None] == is_root] = -np.inf
        return scores

    def decode(
        self, words: Sequence[Sequence[str]], emissions: Floats, lengths: Ints, learned: ChainScores | None,
        scheme: str,
    ) -> list[list[str]]:
        return super().decode(words, self.label_scores(emissions), lengths, learned, scheme)

    def temperature(self, batches: Sequence[ScoredBatch], learned: ChainScores | None) -> float:
        # a wrong head may exclude the gold relation, whose probability is then 0 at any temperature
        possible = []
        for emissions, lengths, gold in batches:
            of_gold = np.take_along_axis(emissions, gold[..., None].clip(0), axis=-1)[..., 0]
            possible.append((emissions, lengths, np.where(np.isneginf(of_gold), IGNORE, gold)))
        return super().temperature(possible, learned)
