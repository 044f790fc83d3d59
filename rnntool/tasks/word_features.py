"""What a network may know of a word besides its identity: characters, affixes, shape and pretrained vector.

All of it depends on the word type alone, so each type's features are computed once, kept as a row of a table,
and fetched by row from then on. Knows no sentence, no tag and no network.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from rnntool.data.arrays import Arrays, pad
from rnntool.data.escaping import read_escaped, write_escaped
from rnntool.errors import ModelError
from rnntool.tasks.base import Engine, RowNames
from rnntool.tasks.specs.settings import WordSettings
from rnntool.tokenize import UNK, WordTokenizer

CHARACTERS_SEEN = 32  # of a longer word, as many from both ends together
PREFIXES = (1, 2, 3)
SUFFIXES = (1, 2, 3, 4)
AFFIXES = len(PREFIXES) + len(SUFFIXES) + 1  # and the shape
TYPES_KEPT = 1 << 14  # rows in the table before it starts anew: memory stays flat over any stream
TYPES_AT_ONCE = 512  # that the network computes the vectors of
_THIRD = re.compile(r"(.)(?<=\1\1\1)", re.DOTALL)  # of a run, and all that follow


def words_with_vectors(folder: Path, count: int) -> list[str]:
    """The `count` words that a model has pretrained vectors of; `ModelError` where their file is damaged."""
    if not count:
        return []
    path = folder / "vectors.txt"
    words = read_escaped(path)
    if len(words) != count:
        raise ModelError(f"{path}: expected {count:,} words, found {len(words):,}; copy or train the model again")
    return words


class _Kinds(dict[int, str]):
    """The kind of a letter or digit by code point, any other character itself; filled as they are met."""

    def __missing__(self, code: int) -> str:
        c = chr(code)
        self[code] = (
            "X" if c.isupper() else "x" if c.islower() else "d" if c.isdigit() else "a" if c.isalpha() else c)
        return self[code]


_KINDS = _Kinds()


def shape(word: str) -> str:
    """The word's letters and digits by kind, runs cut to two: `McDonald's` → `XxXxx'x`, `1999` → `dd`."""
    return _THIRD.sub("", word.translate(_KINDS))


def affixes(word: str) -> list[str]:
    """The affix features of a word, each with its kind in front: kinds meet in a bucket by chance only."""
    small = word.lower()
    return [
        *(f"<{k}{small[:k]}" for k in PREFIXES),
        *(f">{k}{small[-k:]}" for k in SUFFIXES),
        "#" + shape(word),
    ]


def spelled(settings: WordSettings) -> bool:
    """Whether a network sees how words are spelled, so that it can do without a vocabulary."""
    return settings.chars != "none" or settings.affix_embed > 0


class WordFeatures:
    """A table of word types and their features, filled as words are met."""

    _known: NDArray[np.float32]  # a network's vectors of the first `_computed` types
    _computed: int

    def __init__(
        self,
        tokenizer: WordTokenizer,
        *,
        characters: str,
        affix_buckets: int,
        vectors: Sequence[str] = (),
    ) -> None:
        self.tokenizer = tokenizer
        self.characters = characters
        self.affix_buckets = affix_buckets
        self.vectors = vectors
        self._character_ids = {c: i for i, c in enumerate(characters, UNK + 1)}  # 0 pads, 1 is unknown
        self._vector_rows = {word: row for row, word in enumerate(vectors, 1)}  # row 0: no vector
        self._reset()

    @classmethod
    def learn(cls, counts: Counter[str], settings: WordSettings, tokenizer: WordTokenizer,
              vectors: Sequence[str] = ()) -> Self:
        """The features that training words call for."""
        seen: Counter[str] = Counter()
        if settings.chars != "none":
            for word in counts:
                seen.update(set(word))
        # A character of a single word type is left out: its place teaches what an unknown one means.
        characters = "".join(sorted(c for c, n in seen.items() if n > 1))
        return cls(tokenizer, characters=characters,
                   affix_buckets=settings.affix_buckets if settings.affix_embed else 0, vectors=vectors)

    def config(self) -> dict[str, Any]:
        """What `load` needs besides the tokenizer."""
        return {"characters": self.characters, "affix_buckets": self.affix_buckets,
                "vectors": len(self.vectors)}

    def save(self, folder: Path) -> None:
        """Write the words that have a pretrained vector."""
        if self.vectors:
            write_escaped(folder / "vectors.txt", self.vectors)

    @classmethod
    def load(cls, folder: Path, config: Mapping[str, Any], tokenizer: WordTokenizer) -> Self:
        """The features that `save` and `config` wrote."""
        vectors = words_with_vectors(folder, config["vectors"])
        return cls(tokenizer, characters=config["characters"], affix_buckets=config["affix_buckets"],
                   vectors=vectors)

    def sizes(self) -> dict[str, int]:
        """Rows of the tables that the network needs; of vectors, one more for words that have none."""
        return {
            "vocabulary": self.tokenizer.size,
            "char_vocabulary": UNK + 1 + len(self.characters),
            "affix_buckets": self.affix_buckets,
            "vector_rows": len(self.vectors) + 1 if self.vectors else 0,
        }

    def row_names(self) -> RowNames:
        """Say what the rows of these tables stand for."""
        return RowNames(tokens=self.tokenizer.entries, characters=self.characters, vectors=self.vectors)

    def rows(self, words: Iterable[str]) -> NDArray[np.int32]:
        """The row of each word, (n,) int32. Valid until the table starts anew; see `trim`."""
        return np.fromiter(map(self._index.__getitem__, words), np.int32)

    def trim(self) -> None:
        """Start the table anew when it has grown too large; rows given out before are void."""
        if len(self._index) > TYPES_KEPT:
            self._reset()

    def compute(self, engine: Engine, others: Arrays) -> None:
        """Have the network compute the vectors of the types met since the last time, where an engine can.

        The batches of a stream then look up what is computed once, instead of computing it in each of them.
        `others` are what the network reads beside words, of a sentence of one word.
        """
        if not engine.word_vectors:
            return
        if len(self._known) < len(self._tokens):
            # Room for all rows at once: what is not written yet takes no memory, and growing would copy it.
            known = np.empty((max(2 * TYPES_KEPT, len(self._tokens)), engine.word_vectors), np.float32)
            if self._computed:
                known[: self._computed] = self._known[: self._computed]
            self._known = known
        count = len(self._index)
        new = self._computed + np.argsort(self._char_lengths[self._computed : count])  # like lengths together
        words, lengths = pad([np.zeros(1, np.int32)], 0)  # the graph wants a sentence, too
        for start in range(0, len(new), TYPES_AT_ONCE):
            types = new[start : start + TYPES_AT_ONCE]
            arrays: Arrays = {"words": words, "lengths": lengths, **self._features(types), **others}
            self._known[types] = engine.run(arrays, ["word_vectors"])["word_vectors"]
        self._computed = count

    def collate(self, rows: Sequence[NDArray[np.int32]]) -> Arrays:
        """The arrays of a batch of words given by rows.

        `words` (T, B) are rows of `known_vectors` where the vectors of all types are computed, else indices
        of the batch's U word types, and their features come with them.
        """
        padded, lengths = pad(rows, 0)
        if self._computed == len(self._index):
            unused = self._features(np.zeros(1, np.intp))  # the graph wants one type at least
            return {"words": padded, "lengths": lengths, "known_vectors": self._known, **unused}
        types, words = np.unique(padded, return_inverse=True)
        return {"words": words.reshape(padded.shape), "lengths": lengths, **self._features(types)}

    def _features(self, types: NDArray[np.intp]) -> Arrays:
        """What the network reads of the types in these rows."""
        lengths = self._char_lengths[types]
        longest = int(lengths.max())
        return {
            "type_tokens": self._tokens[types],
            "type_chars": self._chars[types, :longest].astype(np.int64),
            "type_char_lengths": lengths,
            "type_affixes": self._affixes[types].astype(np.int64),
            "type_vectors": self._vectors[types],
        }

    def _reset(self) -> None:
        self._index = _Index(self)
        self._allocate(1024)
        self._known = np.empty((0, 0), np.float32)
        self._computed = 0
        self._index[""]  # row 0: what padding points at

    def _allocate(self, rows: int) -> None:
        self._tokens = np.zeros(rows, np.int64)
        self._chars = np.zeros((rows, CHARACTERS_SEEN), np.int32)
        self._char_lengths = np.zeros(rows, np.int32)
        self._affixes = np.zeros((rows, AFFIXES), np.int32)
        self._vectors = np.zeros(rows, np.int64)

    def _grow(self) -> None:
        old = self._columns()
        rows = len(self._tokens)
        self._allocate(2 * rows)
        for target, source in zip(self._columns(), old, strict=True):
            target[:rows] = source

    def _columns(self) -> tuple[NDArray[Any], ...]:
        return self._tokens, self._chars, self._char_lengths, self._affixes, self._vectors

    def _fill(self, row: int, word: str) -> None:
        """Compute the features of a word that is met for the first time."""
        if row == len(self._tokens):
            self._grow()
        self._tokens[row] = self.tokenizer.lookup([word])[0]
        half = CHARACTERS_SEEN // 2
        seen = word if len(word) <= CHARACTERS_SEEN else word[:half] + word[-half:]
        ids = [self._character_ids.get(c, UNK) for c in seen] or [UNK]
        self._chars[row, : len(ids)] = ids
        self._char_lengths[row] = len(ids)
        if self.affix_buckets:
            self._affixes[row] = [zlib.crc32(affix.encode("utf-8", "surrogatepass")) % self.affix_buckets
                                  for affix in affixes(word)]
        self._vectors[row] = self._vector_rows.get(word) or self._vector_rows.get(word.lower(), 0)


class _Index(dict[str, int]):
    """Rows by word; a word that is missing gets the next row."""

    def __init__(self, features: WordFeatures) -> None:
        super().__init__()
        self.features = features

    def __missing__(self, word: str) -> int:
        row = len(self)
        self.features._fill(row, word)
        self[word] = row
        return row
