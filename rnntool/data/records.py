"""The records that travel between files, tasks and back. Knows nothing of any file format, model or array."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

Kind = Literal["texts", "pairs", "judgements", "sentences"]  # what the records of a file are

_BREAKS = str.maketrans("\t\r\n", "   ")
_BEGINS = frozenset("BSUW")  # tags that open an entity whatever stands before them
_ENDS = frozenset("ESLUW")
_IOB_PREFIXES = _BEGINS | _ENDS | frozenset("IM")


@dataclass(slots=True)
class Text:
    """A piece of text with the labels and the other fields that came with it; `place` is its `file:line`."""

    text: str
    labels: tuple[str, ...] = ()
    fields: dict[str, Any] | None = None
    place: str = ""


class Weighed(NamedTuple):
    """A word at characters `start` to `end` of a text.

    `weight` is how far the probability of the text's label falls without the word.
    """

    token: str
    start: int
    end: int
    weight: float


@dataclass(slots=True)
class Pair:
    """A minimal pair: `good` should be more probable than `bad`, after `prefix` where there is one."""

    good: str
    bad: str
    fields: dict[str, Any] | None = None
    place: str = ""
    prefix: str | None = None

    def texts(self) -> tuple[str, str]:
        """The two sentences, the prefix set before them with a space between."""
        before = f"{self.prefix} " if self.prefix else ""
        return before + self.good, before + self.bad


class Judgement(NamedTuple):
    """Two words, and how alike people find them."""

    first: str
    second: str
    score: float


@dataclass(slots=True)
class Sentence:
    """Words in order, with gold `tags` where the file has them; no words at all is a blank record.

    Where several columns were asked for, `tags` is the first and `more` has the others, each one tag a word.
    `offsets` are (start, end) characters into `text`, one a word. `source` is private to the format that read
    the record: what it needs to write it back byte for byte. Sentences of one document have the same
    `document`, whatever it is; None where a format has no documents.
    """

    words: list[str]
    tags: list[str] | None = None
    text: str | None = None
    offsets: list[tuple[int, int]] | None = None
    source: Any = None
    place: str = ""
    more: Sequence[list[str]] = ()
    document: object = field(default=None, compare=False)

    def located(self) -> list[tuple[int, int]] | None:
        """The offsets; where there are none, those at which the text has the words and white space only."""
        if self.offsets is not None or self.text is None:
            return self.offsets
        found, end = [], 0
        for word in self.words:
            start = self.text.find(word, end)
            if start < 0 or self.text[end:start].strip():
                return None
            end = start + len(word)
            found.append((start, end))
        return None if self.text[end:].strip() else found


@dataclass(slots=True)
class Tagged:
    """What a tagger decodes for one sentence: one tag a word, in the scheme to write.

    `more` has the tags of further columns, as in `Sentence`; all else is about `tags`, the first one.
    `probs` has one probability (0 to 1) a word; `nbest` the best tag sequences with their scores, best first.
    """

    tags: list[str]
    probs: list[float] | None = None
    nbest: list[tuple[list[str], float]] | None = None
    more: Sequence[list[str]] = ()

    def joined(self) -> list[str]:
        """One string a word: its tag, and those of further columns behind it with slashes between."""
        return list(map("/".join, zip(self.tags, *self.more, strict=True))) if self.more else self.tags

    def entities(self) -> list[tuple[int, int, str]] | None:
        """(first word, word after the last, label) of each entity; None where the tags are of no IOB style.

        Reads IOB1, IOB2, IOBES and BILOU alike, and forgives as conlleval does: an `I-X` where nothing of
        kind X is open begins an entity. Tags that are all "O" have no entities; that is a list, too.
        """
        found: list[tuple[int, int, str]] = []
        start, open_label = 0, ""  # an empty label: no entity is open
        for i, tag in enumerate(self.tags):
            if tag == "O":
                prefix, label = "O", ""
            else:
                prefix, _, label = tag.partition("-")
                if not label or prefix not in _IOB_PREFIXES:
                    return None
            if open_label and (label != open_label or prefix in _BEGINS):
                found.append((start, i, open_label))
                open_label = ""
            if label and not open_label:
                start, open_label = i, label
            if prefix in _ENDS and open_label:
                found.append((start, i + 1, open_label))
                open_label = ""
        if open_label:
            found.append((start, len(self.tags), open_label))
        return found


class SentenceWriter(ABC):
    """Turns a sentence and its tags into the exact text to write.

    `header` and `footer` frame the whole output: write the one before the first record, the other after the
    last.
    """

    header: str = ""
    footer: str = ""

    @abstractmethod
    def __call__(self, sentence: Sentence, tagged: Tagged) -> str:
        """The text of one record, with its line ending; `tagged` has one tag for each word of `sentence`."""


def one_line(strings: list[str]) -> list[str]:
    """The strings with each tab and line break replaced by a space, so that they fit into columns."""
    joined = "".join(strings)
    if "\t" in joined or "\n" in joined or "\r" in joined:
        return [s.translate(_BREAKS) for s in strings]
    return strings
