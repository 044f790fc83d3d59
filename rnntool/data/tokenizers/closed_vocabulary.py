"""Character and word tokenizers: each entry of vocab.txt has an id, and anything else becomes UNK."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any, ClassVar, Self

from rnntool.data.escaping import read_escaped, write_escaped
from rnntool.data.model_file import damaged
from rnntool.data.pretokenizer import split_words, surface_forms
from rnntool.data.tokenizers.base import (
    REPLACEMENT,
    SPECIALS,
    UNK,
    Token,
    Tokenizer,
    TokenizerSettings,
    by_frequency,
    count_characters,
    no_text,
)
from rnntool.errors import DataError, setting

_NON_SPACE = re.compile(r"\S+")


class ClosedVocabulary(Tokenizer):
    """A tokenizer with a list of entries: vocab.txt has one per line, in the order of their ids from 4 up."""

    unit: ClassVar[str]

    def __init__(
        self, entries: list[str], texts: list[bytes], *, lower: bool, starts_with_space: bool
    ) -> None:
        super().__init__(texts, lower=lower, starts_with_space=starts_with_space)
        self._pieces = [*SPECIALS, *entries]
        self._ids = {entry: id for id, entry in enumerate(entries, len(SPECIALS))}

    def piece(self, id: int) -> str:
        return self._pieces[id]

    def save(self, folder: Path, prefix: str = "") -> None:
        write_escaped(folder / f"{prefix}vocab.txt", self.entries)

    @classmethod
    def _select(cls, counts: Counter[str], settings: TokenizerSettings) -> list[str]:
        """Return the entries of a new vocabulary: the most frequent ones, then the entries of the base."""
        if not counts:
            raise no_text(cls.unit)
        entries = by_frequency(counts, settings.min_count)
        if not entries and not settings.allow_empty:
            raise DataError(
                f"no {cls.unit} occurs {settings.min_count} times or more", place="training data",
                advice=f"lower {setting('min_count')}")
        frequent = dict.fromkeys(entries[: settings.vocab_size and settings.vocab_size - len(SPECIALS)])
        base = (entry for entry in settings.base_entries if not settings.lower or entry == entry.lower())
        return list(frequent | dict.fromkeys(base))

    @classmethod
    def _read(cls, path: Path) -> list[str]:
        entries = read_escaped(path)
        if len(set(entries)) != len(entries):
            raise damaged(path, expected=f"each {cls.unit} once", found="one twice")
        return entries


class CharTokenizer(ClosedVocabulary):
    """Splits text into characters (Unicode code points)."""

    kind = "char"
    unit = "character"

    def __init__(self, entries: list[str], *, lower: bool) -> None:
        texts = [b"", REPLACEMENT, b"", b"", *(entry.encode() for entry in entries)]
        super().__init__(entries, texts, lower=lower, starts_with_space=False)

    @classmethod
    def learn(cls, texts: Iterable[str], settings: TokenizerSettings) -> Self:
        return cls(cls._select(count_characters(texts, settings), settings), lower=settings.lower)

    @classmethod
    def load(cls, folder: Path, config: dict[str, Any], prefix: str = "") -> Self:
        path = folder / f"{prefix}vocab.txt"
        entries = cls._read(path)
        if any(len(entry) != 1 for entry in entries):
            raise damaged(path, expected="one character per line", found="more or none")
        return cls(entries, lower=config["lower"])

    def encode(self, text: str) -> list[int]:
        return list(map(self._ids.get, self._normalize(text), repeat(UNK)))

    def unknown(self, text: str) -> list[tuple[str, int]]:
        end_offsets = self._end_offsets(text)
        characters = enumerate(self._normalize(text))
        return [(char, end_offsets[k]) for k, char in characters if char not in self._ids]


class WordTokenizer(ClosedVocabulary):
    """Splits text into words, at white space or as `split_words` does."""

    kind = "word"
    unit = "word"

    def __init__(self, entries: list[str], *, lower: bool, split: str) -> None:
        """`entries` are the words from id 4 up; `split` is one of `SPLITS`."""
        texts = [b"", b" <unk>", b"", b"", *(b" " + entry.encode() for entry in entries)]
        super().__init__(entries, texts, lower=lower, starts_with_space=True)
        self.split = split

    @classmethod
    def learn(cls, texts: Iterable[str], settings: TokenizerSettings) -> Self:
        splitter = cls([], lower=settings.lower, split=settings.split)
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(splitter.words(text))
        return cls._from_counts(counts, settings)

    @classmethod
    def from_counts(
        cls,
        counts: Mapping[str, int],
        *,
        vocab_size: int | None = None,
        min_count: int = 1,
        lower: bool = False,
        allow_empty: bool = False,
        base: Tokenizer | None = None,
    ) -> Self:
        """Make a tokenizer from the counts of words that are split already; see `rnntool.tokenize.train`."""
        settings = TokenizerSettings(
            kind=cls.kind, vocab_size=vocab_size, lower=lower, min_count=min_count, split="space",
            allow_empty=allow_empty, base_entries=entries_of(base, cls.kind),
        )
        normalized: Counter[str] = Counter()
        for word, count in counts.items():
            normalized[word.lower() if lower else word] += count
        return cls._from_counts(normalized, settings)

    @classmethod
    def _from_counts(cls, counts: Counter[str], settings: TokenizerSettings) -> Self:
        del counts[SPECIALS[UNK]]
        return cls(cls._select(counts, settings), lower=settings.lower, split=settings.split)

    @classmethod
    def load(cls, folder: Path, config: dict[str, Any], prefix: str = "") -> Self:
        empty = config["size"] == len(SPECIALS)  # vocab.txt is an empty file
        entries = [] if empty else cls._read(folder / f"{prefix}vocab.txt")
        return cls(entries, lower=config["lower"], split=config["split"])

    def config(self) -> dict[str, Any]:
        return {**super().config(), "split": self.split}

    def encode(self, text: str) -> list[int]:
        return list(map(self._ids.get, self.words(text), repeat(UNK)))

    def tokens(self, text: str) -> list[Token]:
        return [Token(id, *span) for id, span in zip(self.encode(text), self._spans(text), strict=True)]

    def unknown(self, text: str) -> list[tuple[str, int]]:
        words = zip(self.words(text), self._spans(text), strict=True)
        return [(text[start:end], start) for word, (start, end) in words
                if word not in self._ids and word != SPECIALS[UNK]]

    def lookup(self, words: Iterable[str]) -> list[int]:
        """Return the ids of words that are split already."""
        normalized = map(str.lower, words) if self.lower else words
        return list(map(self._ids.get, normalized, repeat(UNK)))

    def words(self, text: str) -> list[str]:
        """Return the words of a text as the vocabulary has them, in lower case if `lower` is set."""
        words = self.surface_forms(text)
        return list(map(str.lower, words)) if self.lower else words

    def surface_forms(self, text: str) -> list[str]:
        """Return the words of a text as they are written there."""
        return text.split() if self.split == "space" else surface_forms(text)

    def _spans(self, text: str) -> Iterable[tuple[int, int]]:
        return map(re.Match.span, _NON_SPACE.finditer(text)) if self.split == "space" else split_words(text)


def entries_of(base: Tokenizer | None, kind: str) -> Sequence[str]:
    """Return the words or characters of `base` if it is a tokenizer of this kind, otherwise nothing."""
    return base.entries if isinstance(base, ClosedVocabulary) and base.kind == kind else ()
