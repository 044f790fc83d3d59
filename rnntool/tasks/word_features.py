"""Features of words: characters, affixes, shape and pretrained vector.

They depend only on the word type. They are computed once for each type and stored in a table. Knows no
sentences, no tags and no networks.
"""

from __future__ import annotations

import re
import threading
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from rnntool.data.arrays import Arrays, pad
from rnntool.data.escaping import read_escaped, write_escaped
from rnntool.data.threads import call_after_fork
from rnntool.errors import ModelError
from rnntool.tasks.base import Engine, RowNames
from rnntool.tasks.specs.settings import WordSettings
from rnntool.tokenize import UNK, WordTokenizer

MAX_CHARACTERS = 32  # of a longer word, the network reads half of these at each end
PREFIXES = (1, 2, 3)
SUFFIXES = (1, 2, 3, 4)
AFFIXES = len(PREFIXES) + len(SUFFIXES) + 1  # and the shape
MAX_TYPES = 1 << 14  # the table is cleared if it has more rows, to limit memory over an endless stream
TYPES_AT_ONCE = 512  # word types whose vectors the network computes in one run
_THIRD = re.compile(r"(.)(?<=\1\1\1)", re.DOTALL)  # the third and later characters of a run


def read_vector_words(folder: Path, count: int) -> list[str]:
    """Read the `count` words that have pretrained vectors; `ModelError` if the file is damaged."""
    if not count:
        return []
    path = folder / "vectors.txt"
    words = read_escaped(path)
    if len(words) != count:
        raise ModelError(place=path, expected=f"{count:,} words", found=f"{len(words):,}",
                         advice="copy or train the model again")
    return words


class _CharacterKinds(dict[int, str]):
    """Map code points to the kind of a letter or digit, and other characters to themselves."""

    def __missing__(self, code: int) -> str:
        c = chr(code)
        self[code] = (
            "X" if c.isupper() else "x" if c.islower() else "d" if c.isdigit() else "a" if c.isalpha() else c)
        return self[code]


_CHARACTER_KINDS = _CharacterKinds()


def shape(word: str) -> str:
    """Return a word's letters and digits by kind, with runs cut to two.

    `McDonald's` becomes `XxXxx'x`, and `1999` becomes `dd`.
    """
    return _THIRD.sub("", word.translate(_CHARACTER_KINDS))


def affixes(word: str) -> list[str]:
    """Return a word's affixes and shape, each with a prefix that distinguishes the kinds."""
    lower = word.lower()
    return [
        *(f"<{k}{lower[:k]}" for k in PREFIXES),
        *(f">{k}{lower[-k:]}" for k in SUFFIXES),
        "#" + shape(word),
    ]


def reads_spelling(settings: WordSettings) -> bool:
    """Return whether a network reads the spelling of words, so that its vocabulary may be empty."""
    return settings.chars != "none" or settings.affix_embed > 0


class WordFeatures:
    """Computes the features of word types, and stores them in a table. Safe to use from several threads."""

    def __init__(
        self, tokenizer: WordTokenizer, *, characters: str, affix_buckets: int, vectors: Sequence[str] = (),
    ) -> None:
        """`vectors` are the words that have a pretrained vector, in the order of the vectors."""
        self.tokenizer = tokenizer
        self.characters = characters
        self.affix_buckets = affix_buckets
        self.vectors = vectors
        self.character_ids = {c: i for i, c in enumerate(characters, UNK + 1)}  # 0 is padding, 1 unknown
        self.vector_row_of = {word: row for row, word in enumerate(vectors, 1)}  # row 0: no vector
        self._lock = threading.Lock()
        self._table = _Table(self)
        call_after_fork(self._forked)

    def _forked(self) -> None:
        if self._lock.acquire(blocking=False):
            self._lock.release()
        else:  # locked by a thread that doesn't exist here and may not have finished its row
            self._lock = threading.Lock()
            self._table = _Table(self)

    @classmethod
    def learn(cls, counts: Counter[str], settings: WordSettings, tokenizer: WordTokenizer,
              vectors: Sequence[str] = ()) -> Self:
        """Choose the features from the word counts of training data."""
        characters: Counter[str] = Counter()
        if settings.chars != "none":
            for word in counts:
                characters.update(set(word))
        # a character of only one word type is left out, so that the network learns the unknown character
        kept = "".join(sorted(c for c, types in characters.items() if types > 1))
        return cls(tokenizer, characters=kept,
                   affix_buckets=settings.affix_buckets if settings.affix_embed else 0, vectors=vectors)

    def config(self) -> dict[str, Any]:
        """Return what `load` needs besides the tokenizer, as JSON types."""
        return {"characters": self.characters, "affix_buckets": self.affix_buckets,
                "vectors": len(self.vectors)}

    def save(self, folder: Path) -> None:
        """Write the words that have a pretrained vector."""
        if self.vectors:
            write_escaped(folder / "vectors.txt", self.vectors)

    @classmethod
    def load(cls, folder: Path, config: Mapping[str, Any], tokenizer: WordTokenizer) -> Self:
        """Read what `save` and `config` wrote."""
        return cls(tokenizer, characters=config["characters"], affix_buckets=config["affix_buckets"],
                   vectors=read_vector_words(folder, config["vectors"]))

    def sizes(self) -> dict[str, int]:
        """Return the sizes of the network's embeddings; row 0 of the vectors is for words without one."""
        return {
            "vocabulary": self.tokenizer.size,
            "char_vocabulary": UNK + 1 + len(self.characters),
            "affix_buckets": self.affix_buckets,
            "vector_rows": len(self.vectors) + 1 if self.vectors else 0,
        }

    def row_names(self) -> RowNames:
        """Return what the rows of these embeddings stand for."""
        return RowNames(tokens=self.tokenizer.entries, characters=self.characters, vectors=self.vectors)

    def collate(self, rows: Sequence[Sequence[str]]) -> Arrays:
        """Make the arrays of a batch of B rows of words, up to T in each.

        `words` (T, B) are indices of the batch's U word types, whose features are in the other arrays. The
        types are in the order of the batch, whatever was looked up before, because a resumed training has to
        add up gradients in the same order.
        """
        with self._lock:
            padded, lengths = pad([self._table.rows(words) for words in rows], 0)
            types, first, words = np.unique(padded, return_index=True, return_inverse=True)
            order = np.argsort(first)
            features = self._table.features(types[order])
        index = np.argsort(order)[words]
        return {"words": index.reshape(padded.shape), "lengths": lengths, **features}

    def batches(
        self, engine: Engine, batches: Sequence[Sequence[Sequence[str]]], others: Arrays
    ) -> list[Arrays]:
        """Make the arrays of several batches, as `collate` does, for one engine.

        If the engine supports it, it computes the vector of each word type only once, for these and later
        batches: `words` (T, B) are then rows of `known_vectors`. `others` are arrays of the network's other
        inputs, for a sentence of one word.
        """
        with self._lock:
            if len(self._table) > MAX_TYPES:
                self._table = _Table(self)
            table = self._table
        if not engine.word_vectors:
            return [self.collate(batch) for batch in batches]
        with self._lock:
            padded = [pad([table.rows(words) for words in batch], 0) for batch in batches]
            vectors = table.vectors(engine, others)
            unused = table.features(np.zeros(1, np.intp))  # the graph needs at least one type
        return [{"words": words, "lengths": lengths, "known_vectors": vectors, **unused}
                for words, lengths in padded]


class _Table(dict[str, int]):
    """Maps words to rows of feature arrays; a new word gets the next row.

    A row never changes once it is written, so an array that was returned stays valid.
    """

    def __init__(self, features: WordFeatures) -> None:
        super().__init__()
        self._owner = features
        self._allocate(1024)
        self._vectors = np.empty((0, 0), np.float32)  # by row, those of the first `_computed` types
        self._computed = 0
        self[""]  # row 0, which padding points to

    def rows(self, words: Iterable[str]) -> NDArray[np.int32]:
        """Return the row of each word, (n,)."""
        return np.fromiter(map(self.__getitem__, words), np.int32)

    def features(self, types: NDArray[np.intp]) -> Arrays:
        """Return the features of the types in these rows (U,)."""
        lengths = self._char_lengths[types]
        longest = int(lengths.max())
        return {
            "type_tokens": self._tokens[types],
            "type_chars": self._chars[types, :longest].astype(np.int64),
            "type_char_lengths": lengths,
            "type_affixes": self._affixes[types].astype(np.int64),
            "type_vectors": self._pretrained[types],
        }

    def vectors(self, engine: Engine, others: Arrays) -> NDArray[np.float32]:
        """Let the engine compute the vectors of new types, and return the vectors of all types (rows, D)."""
        if len(self._vectors) < len(self._tokens):
            # allocate all rows at once: unused memory costs nothing, and growing would copy it
            vectors = np.empty((max(2 * MAX_TYPES, len(self._tokens)), engine.word_vectors), np.float32)
            if self._computed:
                vectors[: self._computed] = self._vectors[: self._computed]
            self._vectors = vectors
        # types of similar length are computed together
        new = self._computed + np.argsort(self._char_lengths[self._computed : len(self)])
        words, lengths = pad([np.zeros(1, np.int32)], 0)  # the graph needs a sentence
        for start in range(0, len(new), TYPES_AT_ONCE):
            types = new[start : start + TYPES_AT_ONCE]
            arrays: Arrays = {"words": words, "lengths": lengths, **self.features(types), **others}
            self._vectors[types] = engine.run(arrays, ["word_vectors"])["word_vectors"]
        self._computed = len(self)
        return self._vectors

    def __missing__(self, word: str) -> int:
        """Compute the features of a new word and return its row."""
        row, features = len(self), self._owner
        if row == len(self._tokens):
            self._grow()
        self._tokens[row] = features.tokenizer.lookup([word])[0]
        half = MAX_CHARACTERS // 2
        characters = word if len(word) <= MAX_CHARACTERS else word[:half] + word[-half:]
        ids = [features.character_ids.get(c, UNK) for c in characters] or [UNK]
        self._chars[row, : len(ids)] = ids
        self._char_lengths[row] = len(ids)
        if features.affix_buckets:
            self._affixes[row] = [
                zlib.crc32(affix.encode("utf-8", "surrogatepass")) % features.affix_buckets
                for affix in affixes(word)]
        vectors = features.vector_row_of
        self._pretrained[row] = vectors.get(word) or vectors.get(word.lower(), 0)
        self[word] = row
        return row

    def _allocate(self, rows: int) -> None:
        self._tokens = np.zeros(rows, np.int64)
        self._chars = np.zeros((rows, MAX_CHARACTERS), np.int32)
        self._char_lengths = np.zeros(rows, np.int32)
        self._affixes = np.zeros((rows, AFFIXES), np.int32)
        self._pretrained = np.zeros(rows, np.int64)

    def _grow(self) -> None:
        before = self._columns()
        rows = len(self._tokens)
        self._allocate(2 * rows)
        for column, old in zip(self._columns(), before, strict=True):
            column[:rows] = old

    def _columns(self) -> tuple[NDArray[Any], ...]:
        return self._tokens, self._chars, self._char_lengths, self._affixes, self._pretrained
