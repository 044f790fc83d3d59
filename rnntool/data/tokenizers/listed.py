"""Characters and words: each id is an entry of vocab.txt, and what has none is unknown."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any, ClassVar, Self

from rnntool.data.escaping import read_escaped, write_escaped
from rnntool.data.pretokenizer import split_words, surfaces
from rnntool.data.tokenizers.base import (
    REPLACEMENT,
    SPECIALS,
    UNK,
    Token,
    Tokenizer,
    TokenizerSettings,
    by_frequency,
    count_characters,
    damaged,
)
from rnntool.errors import DataError

_WORD = re.compile(r"\S+")


class Listed(Tokenizer):
    """What characters and words share: vocab.txt has one entry a line, in the order of the ids from 4 up."""

    unit: ClassVar[str]

    def __init__(self, entries: list[str], surfaces: list[bytes], *, lower: bool, spaced: bool) -> None:
        super().__init__(surfaces, lower=lower, spaced=spaced)
        self._entries = [*SPECIALS, *entries]
        self._ids = {entry: id for id, entry in enumerate(entries, len(SPECIALS))}

    def piece(self, id: int) -> str:
        return self._entries[id]

    def save(self, folder: Path) -> None:
        write_escaped(folder / "vocab.txt", self.entries)

    @classmethod
    def _frequent(cls, counts: Counter[str], settings: TokenizerSettings) -> list[str]:
        if not counts:
            raise DataError(f"training data: expected text to learn {cls.unit}s from, found none")
        entries = by_frequency(counts, settings.min_count)
        if not entries and not settings.bare:
            least = settings.min_count
            raise DataError(f"training data: no {cls.unit} is seen {least} times or more; lower --min-count")
        kept = dict.fromkeys(entries[: settings.vocab_size and settings.vocab_size - len(SPECIALS)])
        found = (entry for entry in settings.more if not settings.lower or entry == entry.lower())
        return list(kept | dict.fromkeys(found))

    @classmethod
    def _listed(cls, folder: Path) -> list[str]:
        path = folder / "vocab.txt"
        entries = read_escaped(path)
        if len(set(entries)) != len(entries):
            raise damaged(path, f"expected each {cls.unit} once, found one twice")
        return entries


class CharTokenizer(Listed):
    """Characters: code points of Unicode."""

    kind = "char"
    unit = "character"

    def __init__(self, entries: list[str], *, lower: bool) -> None:
        surfaces = [b"", REPLACEMENT, b"", b"", *(entry.encode() for entry in entries)]
        super().__init__(entries, surfaces, lower=lower, spaced=False)

    @classmethod
    def learn(cls, texts: Iterable[str], settings: TokenizerSettings) -> Self:
        return cls(cls._frequent(count_characters(texts, settings), settings), lower=settings.lower)

    @classmethod
    def load(cls, folder: Path, config: dict[str, Any]) -> Self:
        entries = cls._listed(folder)
        if any(len(entry) != 1 for entry in entries):
            raise damaged(folder / "vocab.txt", "expected one character a line, found more or none")
        return cls(entries, lower=config["lower"])

    def encode(self, text: str) -> list[int]:
        return list(map(self._ids.get, self._seen(text), repeat(UNK)))

    def unknown(self, text: str) -> list[tuple[str, int]]:
        ends, seen = self._ends(text), self._seen(text)
        return [(char, ends[k]) for k, char in enumerate(seen) if char not in self._ids]


class WordTokenizer(Listed):
    """Words: between white space, or as `split_words` finds them in raw text."""

    kind = "word"
    unit = "word"

    def __init__(self, entries: list[str], *, lower: bool, split: str) -> None:
        """`entries` are the words from id 4 up; `split` is one of `SPLITS`."""
        surfaces = [b"", b" <unk>", b"", b"", *(b" " + entry.encode() for entry in entries)]
        super().__init__(entries, surfaces, lower=lower, spaced=True)
        self.split = split

    @classmethod
    def learn(cls, texts: Iterable[str], settings: TokenizerSettings) -> Self:
        empty = cls([], lower=settings.lower, split=settings.split)
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(empty.words(text))
        return cls._from(counts, settings)

    @classmethod
    def from_counts(
        cls,
        counts: Mapping[str, int],
        *,
        vocab_size: int | None = None,
        min_count: int = 1,
        lower: bool = False,
        bare: bool = False,
        base: Tokenizer | None = None,
    ) -> Self:
        """A tokenizer for words that come split already, from how often each was seen; see `learn`."""
        settings = TokenizerSettings(
            kind=cls.kind, vocab_size=vocab_size, lower=lower, min_count=min_count, split="space", bare=bare,
            more=entries_of(base, cls.kind),
        )
        seen: Counter[str] = Counter()
        for word, count in counts.items():
            seen[word.lower() if lower else word] += count
        return cls._from(seen, settings)

    @classmethod
    def _from(cls, counts: Counter[str], settings: TokenizerSettings) -> Self:
        del counts[SPECIALS[UNK]]
        return cls(cls._frequent(counts, settings), lower=settings.lower, split=settings.split)

    @classmethod
    def load(cls, folder: Path, config: dict[str, Any]) -> Self:
        bare = config["size"] == len(SPECIALS)  # its file is empty
        return cls([] if bare else cls._listed(folder), lower=config["lower"], split=config["split"])

    def config(self) -> dict[str, Any]:
        return {**super().config(), "split": self.split}

    def encode(self, text: str) -> list[int]:
        return list(map(self._ids.get, self.words(text), repeat(UNK)))

    def tokens(self, text: str) -> list[Token]:
        return [Token(id, *span) for id, span in zip(self.encode(text), self._spans(text), strict=True)]

    def unknown(self, text: str) -> list[tuple[str, int]]:
        found = zip(self.words(text), self._spans(text), strict=True)
        return [
            (text[start:end], start)
            for word, (start, end) in found
            if word not in self._ids and word != SPECIALS[UNK]
        ]

    def lookup(self, words: Iterable[str]) -> list[int]:
        """Ids of words that come split already."""
        seen = map(str.lower, words) if self.lower else words
        return list(map(self._ids.get, seen, repeat(UNK)))

    def words(self, text: str) -> list[str]:
        """The words of `text` as this tokenizer looks them up."""
        words = self.surfaces(text)
        return list(map(str.lower, words)) if self.lower else words

    def surfaces(self, text: str) -> list[str]:
        """The words of `text` as they stand there."""
        if self.split == "space":
            return text.split()
        return surfaces(text)

    def _spans(self, text: str) -> Iterable[tuple[int, int]]:
        return map(re.Match.span, _WORD.finditer(text)) if self.split == "space" else split_words(text)


def entries_of(base: Tokenizer | None, kind: str) -> Sequence[str]:
    """The words or characters of `base`, where it is of this kind."""
    return base.entries if isinstance(base, Listed) and base.kind == kind else ()
