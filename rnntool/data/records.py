"""The records that tasks read from files and write to them: texts, pairs, sentences. Knows no file format."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, Literal, NamedTuple

Kind = Literal["texts", "pairs", "judgments", "sentences", "sequences"]  # of the records in a file

_COLUMN_BREAKS = str.maketrans("\t\r\n", "   ")
_START_PREFIXES = frozenset("BSUW")  # of tags that start an entity whatever comes before them
_END_PREFIXES = frozenset("ESLUW")
_ID_NAMES = ("id", "_id", "uid", "guid", "uuid", "idx", "index", "sent_id")  # in lower case
_IOB_PREFIXES = _START_PREFIXES | _END_PREFIXES | frozenset("IM")


@dataclass(slots=True)
class Text:
    """A text with its labels and the other fields of its record; `place` is its `file:line`."""

    text: str
    labels: tuple[str, ...] = ()
    fields: dict[str, Any] | None = None
    place: str = ""


class WordWeight(NamedTuple):
    """A word at characters `start` to `end` of a text.

    `weight` is how much the probability of the text's label falls if the word is left out.
    """

    token: str
    start: int
    end: int
    weight: float


FULL_COLOR_WEIGHT = 0.1  # the smallest weight that can get the brightest color


def color_shares(words: Sequence[WordWeight]) -> list[float]:
    """Scale the weights of a text's words to -1 to 1; no word is bright if none has much weight."""
    scale = max(FULL_COLOR_WEIGHT, *(abs(word.weight) for word in words)) if words else 1.0
    return [word.weight / scale for word in words]


@dataclass(slots=True)
class Pair:
    """A minimal pair: `good` should be more probable than `bad`, after `prefix` if there is one."""

    good: str
    bad: str
    fields: dict[str, Any] | None = None
    place: str = ""
    prefix: str | None = None

    def texts(self) -> tuple[str, str]:
        """Return both sentences, each after the prefix and a space."""
        before = f"{self.prefix} " if self.prefix else ""
        return before + self.good, before + self.bad


@dataclass(slots=True)
class Transduction:
    """A source and its targets, which are all correct; `extra` are the further columns of the source."""

    source: str
    targets: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    fields: dict[str, Any] | None = None
    place: str = ""


def group_variants(records: Iterable[Transduction]) -> list[Transduction]:
    """Join records with the same source and extra columns, in the order of the first of each.

    A group has the fields and the place of its first record. Equal targets count once.
    """
    groups: dict[tuple[str, tuple[str, ...]], list[Transduction]] = {}
    for record in records:
        groups.setdefault((record.source, record.extra), []).append(record)
    return [replace(group[0], targets=tuple(dict.fromkeys(
        target for record in group for target in record.targets))) for group in groups.values()]


class Judgment(NamedTuple):
    """Two words and a human score of their similarity."""

    first: str
    second: str
    score: float


@dataclass(slots=True)
class Sentence:
    """Words in order, with gold `tags` if the file has them. A blank record has no words.

    If several columns were read, `tags` are those of the first and `more_tags` those of the others; each has
    one tag for each word. `offsets` are the (start, end) characters of each word in `text`. `source` belongs
    to the format that read the record, which needs it to write the record back byte for byte. Sentences of
    the same document have the same `document`; None in formats without documents. `rows` are the lines of the
    words, counted from any line of the file; None if a line has several words. `sent_id` names the sentence.

    `multiword` has the (first word, word after the last) of each multiword token, whose words all have the
    offsets of the token, because the text may not contain them; None if multiword tokens are not known.
    `space_after` is False if the next sentence begins without a space after the last word.
    """

    words: list[str]
    tags: list[str] | None = None
    text: str | None = None
    offsets: list[tuple[int, int]] | None = None
    source: Any = None
    place: str = ""
    more_tags: Sequence[list[str]] = ()
    document: object = field(default=None, compare=False)
    rows: Sequence[int] | None = field(default=None, compare=False)
    sent_id: str | None = field(default=None, compare=False)
    multiword: Sequence[tuple[int, int]] | None = field(default=None, compare=False)
    space_after: bool = field(default=True, compare=False)

    def place_of(self, word: int) -> str:
        """Return the `file:line` of a word, or of the sentence if its words have no lines of their own."""
        if not self.rows:
            return self.place
        name, _, number = self.place.rpartition(":")
        return f"{name}:{int(number) + self.rows[word] - self.rows[0]}" if name else self.place

    def located(self) -> list[tuple[int, int]] | None:
        """Return the offsets, or find the words in the text; None if it has more than words and spaces."""
        if self.offsets is not None or self.text is None:
            return self.offsets
        offsets, end = [], 0
        for word in self.words:
            start = self.text.find(word, end)
            if start < 0 or self.text[end:start].strip():
                return None
            end = start + len(word)
            offsets.append((start, end))
        return None if self.text[end:].strip() else offsets


@dataclass(slots=True)
class Tagged:
    """What a tagger predicts for one sentence: one tag for each word, in the scheme to write.

    `more_tags` are the tags of further columns, as in `Sentence`; the other fields are about `tags`. `probs`
    has a probability for each word, `nbest` the best tag sequences with their scores, best first.
    """

    tags: list[str]
    probs: list[float] | None = None
    nbest: list[tuple[list[str], float]] | None = None
    more_tags: Sequence[list[str]] = ()

    def joined(self) -> list[str]:
        """Return one string for each word: its tags, with slashes between those of several columns."""
        if not self.more_tags:
            return self.tags
        return list(map("/".join, zip(self.tags, *self.more_tags, strict=True)))

    def entities(self) -> list[tuple[int, int, str]] | None:
        """Return (first word, word after the last, label) of each entity; None for tags without an IOB style.

        Reads IOB1, IOB2, IOBES and BILOU alike, and is as lenient as conlleval: an `I-X` starts an entity if
        no entity of type X is open. If all tags are "O", the list is empty.
        """
        entities: list[tuple[int, int, str]] = []
        start, open_label = 0, ""  # the empty label means that no entity is open
        for i, tag in enumerate(self.tags):
            if tag == "O":
                prefix, label = "O", ""
            else:
                prefix, _, label = tag.partition("-")
                if not label or prefix not in _IOB_PREFIXES:
                    return None
            if open_label and (label != open_label or prefix in _START_PREFIXES):
                entities.append((start, i, open_label))
                open_label = ""
            if label and not open_label:
                start, open_label = i, label
            if prefix in _END_PREFIXES and open_label:
                entities.append((start, i + 1, open_label))
                open_label = ""
        if open_label:
            entities.append((start, len(self.tags), open_label))
        return entities


Labels = Sequence[tuple[str, float]]  # labels with their probabilities, the most probable first


class LabelWriter(ABC):
    """Turns a text and its predicted labels into the exact text to write.

    `header` is written before the first record, `footer` after the last.
    """

    header: str = ""
    footer: str = ""

    @abstractmethod
    def __call__(self, text: Text, labels: Labels, words: Sequence[WordWeight] | None) -> str:
        """Return the text of one record with its line ending; `words` explain the first label."""


class SentenceWriter(ABC):
    """Turns a sentence and its tags into the exact text to write.

    `header` is written before the first record, `footer` after the last.
    """

    header: str = ""
    footer: str = ""

    @abstractmethod
    def __call__(self, sentence: Sentence, tagged: Tagged) -> str:
        """Return the text of one record with its line ending; `tagged` has one tag for each word."""


def fields_of(record: Text | Sentence | Transduction) -> dict[str, Any]:
    """Return the fields of a record by name: its columns or keys, or else its text or source."""
    if isinstance(record, Transduction):
        return {"source": record.source} if record.fields is None else record.fields
    fields = record.fields if isinstance(record, Text) else record.source
    if isinstance(fields, dict):
        return fields
    text = " ".join(record.words) if isinstance(record, Sentence) and record.text is None else record.text
    identifier = {} if isinstance(record, Text) or record.sent_id is None else {"sent_id": record.sent_id}
    return {**identifier, "text": text}


def id_of(fields: Mapping[str, Any]) -> Any:
    """Return what identifies a record: the field `id`, another usual name, or `…_id`; else None."""
    usual = (name for id_name in _ID_NAMES for name in fields if name.lower() == id_name)
    name = next(chain(usual, (name for name in fields if name.lower().endswith("_id"))), None)
    return None if name is None else fields[name]


def one_line(strings: list[str]) -> list[str]:
    """Replace each tab and line break by a space, so that the strings fit into columns."""
    joined = "".join(strings)
    if "\t" in joined or "\n" in joined or "\r" in joined:
        return [s.translate(_COLUMN_BREAKS) for s in strings]
    return strings
