"""The interface of every tokenizer: text to ids and offsets, ids to text, and files in a model folder."""

from __future__ import annotations

import codecs
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Self

from rnntool.errors import DataError, UsageError

PAD, UNK, BOS, EOS = range(4)
SPECIALS = ("<pad>", "<unk>", "<s>", "</s>")
SPLITS = ("space", "words")
REPLACEMENT = "\ufffd".encode()
_LONE_SURROGATE = re.compile(r"[\ud800-\udfff]")


class Token(NamedTuple):
    """One token: its id, and its span in characters of the original text."""

    id: int
    start: int
    end: int


@dataclass(frozen=True, kw_only=True)
class TokenizerSettings:
    """Settings for training a tokenizer; `rnntool.tokenize.train` documents them."""

    kind: str
    vocab_size: int | None
    lower: bool
    min_count: int
    split: str
    allow_empty: bool = False
    base_entries: Sequence[str] = ()  # added after the trained entries

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise UsageError(setting="split", expected=f"one of {', '.join(SPLITS)}", found=repr(self.split))
        if self.vocab_size is not None and self.vocab_size <= len(SPECIALS):
            raise UsageError(
                setting="vocab_size", expected=f"{len(SPECIALS) + 1} or more", found=self.vocab_size)


class StreamDecoder:
    """Decodes ids one at a time. Holds back bytes until they form a whole character."""

    def __init__(self, texts: Sequence[bytes], *, drop_first_space: bool) -> None:
        """`texts[id]` is the text of an id in UTF-8."""
        self._texts = texts
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._drop_space = drop_first_space

    def push(self, id: int) -> str:
        """Return the text that is complete with `id`, which may be empty."""
        return self._without_first_space(self._utf8.decode(self._texts[id]))

    def flush(self) -> str:
        """Return what was held back: U+FFFD for bytes that do not form a character."""
        return self._without_first_space(self._utf8.decode(b"", final=True))

    def _without_first_space(self, text: str) -> str:
        if self._drop_space and text:
            self._drop_space = False
            return text.removeprefix(" ")
        return text


class Tokenizer(ABC):
    """Converts text to ids and back. `train` and `load` in `rnntool.tokenize` make one."""

    kind: str
    threads = 0  # that `encode_batch` may use; 0 means all cores

    def __init__(self, texts: Sequence[bytes], *, lower: bool, starts_with_space: bool = False) -> None:
        """`texts[id]` is the text of an id in UTF-8.

        With `starts_with_space`, each text gets a space before it, so that its first word is like any other.
        """
        self.lower = lower
        self._texts = texts
        self._starts_with_space = starts_with_space

    @classmethod
    @abstractmethod
    def learn(cls, texts: Iterable[str], settings: TokenizerSettings) -> Self:
        """Train a tokenizer; see `rnntool.tokenize.train`."""

    @classmethod
    @abstractmethod
    def load(cls, folder: Path, config: dict[str, Any], prefix: str = "") -> Self:
        """Load a tokenizer without checking `config`; see `rnntool.tokenize.load`."""

    @property
    def size(self) -> int:
        """The number of ids, including the four special ones."""
        return len(self._texts)

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, without BOS and EOS."""

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text, without BOS and EOS. Subword tokenizers use `threads`."""
        return [self.encode(text) for text in texts]

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of ids, without PAD, BOS and EOS. UNK is `<unk>` for words, otherwise U+FFFD."""
        text = b"".join(map(self._texts.__getitem__, ids)).decode("utf-8", "replace")
        return text.removeprefix(" ") if self._starts_with_space else text

    def stream_decoder(self, after: Iterable[int] = ()) -> StreamDecoder:
        """Return a decoder for single ids that continues the text of the ids in `after`."""
        decoder = StreamDecoder(self._texts, drop_first_space=self._starts_with_space)
        for id in after:
            decoder.push(id)
        return decoder

    def tokens(self, text: str) -> list[Token]:
        """Return the ids of `encode(text)` with their spans.

        Each span starts at the end of the one before, and together they cover the text. Only spans of words
        leave out the space between. If several tokens make up one character, the first has its span, and the
        others have empty spans after it.
        """
        end_offsets, character_counts = self._end_offsets(text), self._character_counts
        tokens, characters, start = [], 0, 0
        for id in self.encode(text):
            characters += character_counts[id]
            tokens.append(Token(id, start, end_offsets[characters]))
            start = end_offsets[characters]
        return tokens

    def unknown(self, text: str) -> list[tuple[str, int]]:
        """Return text and offset of each word or character that becomes UNK, except a literal `<unk>`."""
        return []

    @abstractmethod
    def piece(self, id: int) -> str:
        """Return the vocabulary entry of an id, for people to read."""

    @property
    def entries(self) -> list[str]:
        """The pieces of all ids from 4 up, which leaves out the special ones."""
        return list(map(self.piece, range(len(SPECIALS), self.size)))

    @abstractmethod
    def save(self, folder: Path, prefix: str = "") -> None:
        """Write the vocabulary file into `folder`, if this kind of tokenizer has one.

        `prefix` comes before its name, so that a folder can have several vocabularies.
        """

    def config(self) -> dict[str, Any]:
        """Return what `load` needs besides the file, as plain JSON values."""
        return {"kind": self.kind, "size": self.size, "lower": self.lower}

    def _normalize(self, text: str) -> str:
        return text.lower() if self.lower else text

    def _end_offsets(self, text: str) -> Sequence[int]:
        """Return for each k where the first k characters of the normalized text end in the original text."""
        offsets: Sequence[int] = range(len(text) + 1)
        if len(self._normalize(text)) != len(text):  # "İ".lower() is two characters
            offsets = [0, *(end for end, char in enumerate(text, 1) for _ in char.lower())]
        return [0, *offsets] if self._starts_with_space else offsets

    @cached_property
    def leading_space_ids(self) -> list[int]:
        """The ids whose text starts with white space. One of them, or EOS, ends the word before it.

        White space of several bytes is left out if each byte is an id, because its first byte is ambiguous.
        """
        first_characters = (text.decode("utf-8", "ignore")[:1] for text in self._texts)
        return [id for id, character in enumerate(first_characters) if character.isspace()]

    @cached_property
    def _character_counts(self) -> list[int]:
        """How many characters start in each id: the bytes that are not UTF-8 continuation bytes."""
        return [sum(byte & 0xC0 != 0x80 for byte in text) for text in self._texts]


def count_characters(texts: Iterable[str], settings: TokenizerSettings) -> Counter[str]:
    """Count the characters of the texts, in lower case if the settings say so."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text.lower() if settings.lower else text)
    return counts


def by_frequency(counts: Counter[str], min_count: int) -> list[str]:
    """Sort entries by falling count, then by code point. Leaves out rare ones and lone surrogates."""
    kept = [entry for entry, n in counts.items() if n >= min_count and not _LONE_SURROGATE.search(entry)]
    return sorted(kept, key=lambda entry: (-counts[entry], entry))


def replace_surrogates(text: str) -> str:
    """Replace lone surrogates, which UTF-8 can't write, by U+FFFD."""
    return text if text.isascii() else _LONE_SURROGATE.sub("\ufffd", text)


def no_text(unit: str) -> DataError:
    """Return the error for training data without any text."""
    return DataError(place="training data", expected=f"text to learn {unit}s from", found="none")
