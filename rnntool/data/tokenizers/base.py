"""What every tokenizer is: ids and spans of a text, text of ids; and how one is kept in a model folder."""

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

from rnntool.errors import ModelError, UsageError

PAD, UNK, BOS, EOS = range(4)
SPECIALS = ("<pad>", "<unk>", "<s>", "</s>")
SPLITS = ("space", "words")
REPLACEMENT = "\ufffd".encode()
_LONE_SURROGATE = re.compile(r"[\ud800-\udfff]")


class Token(NamedTuple):
    """One token: its id, and its span in characters of the untouched text."""

    id: int
    start: int
    end: int


@dataclass(frozen=True, kw_only=True)
class TokenizerSettings:
    """What a tokenizer is learned by; `rnntool.tokenize.train` says what it means."""

    kind: str
    vocab_size: int | None
    lower: bool
    min_count: int
    split: str
    bare: bool = False
    more: Sequence[str] = ()  # entries that come behind those learned

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise UsageError(f"split: expected one of {', '.join(SPLITS)}, found {self.split!r}")
        if self.vocab_size is not None and self.vocab_size <= len(SPECIALS):
            raise UsageError(f"vocab_size: expected {len(SPECIALS) + 1} or more, found {self.vocab_size}")


class StreamDecoder:
    """Turns ids into text one at a time, and holds back what is not a whole character yet."""

    def __init__(self, surfaces: Sequence[bytes], *, spaced: bool) -> None:
        """`surfaces` and `spaced` are the tokenizer's."""
        self._surfaces = surfaces
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._spaced = spaced

    def push(self, id: int) -> str:
        """The text that `id` completes; often, but not always, its own."""
        return self._text(self._utf8.decode(self._surfaces[id]))

    def flush(self) -> str:
        """What was held back: bytes that never became a character come out as U+FFFD."""
        return self._text(self._utf8.decode(b"", final=True))

    def _text(self, text: str) -> str:
        if self._spaced and text:
            self._spaced = False
            return text.removeprefix(" ")
        return text


class Tokenizer(ABC):
    """Text to ids and back. `train` and `load` make one."""

    kind: str
    threads = 0  # that `encode_batch` may use; 0 for all cores

    def __init__(self, surfaces: Sequence[bytes], *, lower: bool, spaced: bool = False) -> None:
        """`surfaces[id]` is what `id` stands for in a text, in UTF-8.

        `spaced`: a text opens with one space that is not its own, so that its first word looks like every
        other.
        """
        self.lower = lower
        self._surfaces = surfaces
        self._spaced = spaced

    @classmethod
    @abstractmethod
    def learn(cls, texts: Iterable[str], settings: TokenizerSettings) -> Self:
        """As `rnntool.tokenize.train` does."""

    @classmethod
    @abstractmethod
    def load(cls, folder: Path, config: dict[str, Any]) -> Self:
        """As `rnntool.tokenize.load` does, without its checks of `config`."""

    @property
    def size(self) -> int:
        """How many ids there are, the four special ones included."""
        return len(self._surfaces)

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Ids of `text`, without BOS and EOS."""

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, without BOS and EOS; subwords are found by as many `threads`."""
        return [self.encode(text) for text in texts]

    def decode(self, ids: Iterable[int]) -> str:
        """Text of `ids`. PAD, BOS and EOS are passed over; UNK is `<unk>` among words, U+FFFD elsewhere."""
        text = b"".join(map(self._surfaces.__getitem__, ids)).decode("utf-8", "replace")
        return text.removeprefix(" ") if self._spaced else text

    def stream_decoder(self, after: Iterable[int] = ()) -> StreamDecoder:
        """A decoder for ids that come one by one, going on where the text of the ids in `after` ends."""
        decoder = StreamDecoder(self._surfaces, spaced=self._spaced)
        for id in after:
            decoder.push(id)
        return decoder

    def tokens(self, text: str) -> list[Token]:
        """The ids of `encode(text)`, each with its span.

        Each span begins where the last one ended, and together they cover the text; only words leave out
        the space between. Where several tokens spell one character, the first has its span and the others
        an empty one behind it.
        """
        ends, starts = self._ends(text), self._starts
        tokens, seen, start = [], 0, 0
        for id in self.encode(text):
            seen += starts[id]
            tokens.append(Token(id, start, ends[seen]))
            start = ends[seen]
        return tokens

    def unknown(self, text: str) -> list[tuple[str, int]]:
        """Surface and offset of what maps to UNK without being written `<unk>`: words and characters only."""
        return []

    @abstractmethod
    def piece(self, id: int) -> str:
        """How the vocabulary writes `id`, for people to read."""

    @property
    def entries(self) -> list[str]:
        """The pieces behind the special ones, in the order of their ids, from 4 up."""
        return list(map(self.piece, range(len(SPECIALS), self.size)))

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write this kind's vocabulary file, where it has one, into `folder`."""

    def config(self) -> dict[str, Any]:
        """What `load` wants besides the file, in plain JSON values."""
        return {"kind": self.kind, "size": self.size, "lower": self.lower}

    def _seen(self, text: str) -> str:
        """What the model sees of `text`."""
        return text.lower() if self.lower else text

    def _ends(self, text: str) -> Sequence[int]:
        """ends[k]: where, in the untouched text, the first k characters of what the model sees end."""
        ends: Sequence[int] = range(len(text) + 1)
        if len(self._seen(text)) != len(text):  # "İ".lower() is two characters
            ends = [0, *(end for end, char in enumerate(text, 1) for _ in char.lower())]
        return [0, *ends] if self._spaced else ends

    @cached_property
    def openers(self) -> list[int]:
        """The ids whose text begins with white space: after a word, one of them (or EOS) ends it.

        White space of several bytes is no opener where each byte is an id, for its first byte doesn't tell.
        """
        heads = (surface.decode("utf-8", "ignore")[:1] for surface in self._surfaces)
        return [id for id, head in enumerate(heads) if head.isspace()]

    @cached_property
    def _starts(self) -> list[int]:
        """How many characters begin in each id: its bytes that don't continue one."""
        return [sum(byte & 0xC0 != 0x80 for byte in surface) for surface in self._surfaces]


def count_characters(texts: Iterable[str], settings: TokenizerSettings) -> Counter[str]:
    """How often each character is seen."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text.lower() if settings.lower else text)
    return counts


def by_frequency(counts: Counter[str], min_count: int) -> list[str]:
    """The most frequent first, ties by code point; nothing that no file can hold."""
    kept = [entry for entry, n in counts.items() if n >= min_count and not _LONE_SURROGATE.search(entry)]
    return sorted(kept, key=lambda entry: (-counts[entry], entry))


def writable(text: str) -> str:
    """`text` with each lone surrogate replaced by U+FFFD."""
    return text if text.isascii() else _LONE_SURROGATE.sub("\ufffd", text)


def read_file(path: Path) -> bytes:
    """What is in a vocabulary's file; `ModelError` where there is none."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise damaged(path, f"expected the tokenizer's vocabulary, found: {error.strerror}") from None
    if not data:
        raise damaged(path, "expected the tokenizer's vocabulary, found an empty file")
    return data


def damaged(path: Path, found: str) -> ModelError:
    """What to raise of a file that is not what it should be."""
    return ModelError(f"{path}: {found}; copy the model again")
