"""What a file format is: its name, how its files are recognized, what it reads and what it writes.

Knows no particular format; `rnntool.data.formats` has the registry.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from rnntool.data.reading import USUAL_LAYOUT, Layout
from rnntool.data.records import (
    Judgment,
    Kind,
    LabelWriter,
    Pair,
    Sentence,
    SentenceWriter,
    Text,
    Transduction,
)
from rnntool.data.streams import Lines, is_blank
from rnntool.errors import DataError, setting

Columns = tuple[str | None, ...]  # names or numbers; None is the column that a format reads by default
Offsets = list[tuple[int, int]]  # (start, end) characters of each word
Record = TypeVar("Record")


class UnlabeledError(DataError):
    """A record that needs a label and has none, or a sentence in which a word has no tag."""

    def __init__(
        self, place: str, *, expected: str = "a label", found: str, advice: str | Sequence[str]
    ) -> None:
        correct = (advice,) if isinstance(advice, str) else advice
        super().__init__(place=place, expected=expected, found=found,
                         advice=(*correct, f"skip such records with {setting('skip_unlabelled')}"))


# (fields of a record, fields to add, place) -> the exact text to write
RecordWriter = Callable[[Mapping[str, Any], Mapping[str, Any], str], str]
OnUnlabeled = Callable[[UnlabeledError], None]  # raises the error, or returns to skip the record


def reject(error: UnlabeledError) -> None:
    """Raise the error."""
    raise error


def labeled(on_unlabeled: OnUnlabeled, make: Callable[[], Record]) -> Iterator[Record]:
    """Yield the record that `make` returns, unless it has no labels and `on_unlabeled` skips it."""
    try:
        record = make()
    except UnlabeledError as error:
        on_unlabeled(error)
    else:
        yield record


def is_nothing(label: str) -> bool:
    """Whether a label or a tag is empty or white space."""
    return not label or label.isspace()


def holds_nonblank_line(lines: Iterable[str]) -> bool:
    """Whether one of the lines isn't blank: a record, in formats that skip blank lines."""
    return not all(map(is_blank, lines))


@dataclass(frozen=True, kw_only=True)
class TextOptions:
    """Where texts and their labels are. A format ignores the options that don't apply to it.

    `unit` is what one record of plain text is: "line", "paragraph" or "document". Columns are names, or
    numbers from 1; in JSONL they are keys. A file must have the columns that are given. If none
    are given, its texts and labels may be in `default_text_column` and `default_label_column`. With
    `need_labels`, a text without a label goes to `on_unlabeled`.
    """

    unit: str = "line"
    text_column: str | None = None
    default_text_column: str | None = None
    label_column: str | None = None
    default_label_column: str = "label"
    need_labels: bool = False
    on_unlabeled: OnUnlabeled = reject
    layout: Layout = USUAL_LAYOUT


@dataclass(frozen=True, kw_only=True)
class PairOptions:
    """The columns of the good and the bad sentence, and the column of a prefix that both continue."""

    columns: tuple[str, str] | None = None
    prefix: str | None = None
    layout: Layout = USUAL_LAYOUT


@dataclass(frozen=True, kw_only=True)
class JudgmentOptions:
    """The columns of the two words and of the score."""

    columns: Sequence[str]
    layout: Layout = USUAL_LAYOUT


@dataclass(frozen=True, kw_only=True)
class SentenceOptions:
    """Where words and tags are, how raw text is split into words, and whether every sentence must have tags.

    `word_column` is None for the column that a format reads by default. With `need_tags`, a sentence with a
    word that has no tag goes to `on_unlabeled`.
    """

    columns: Columns
    word_column: str | None = None
    split: Callable[[str], Offsets]
    need_tags: bool
    on_unlabeled: OnUnlabeled = reject
    layout: Layout = USUAL_LAYOUT


Size = Callable[[str], int]  # counts the symbols of a source or a target


@dataclass(frozen=True, kw_only=True)
class SequenceOptions:
    """Where sources and targets are, and what is allowed.

    The first of the `source_columns` is the source, the others are further columns. Without names, a format
    reads the columns that it reads by default. With `need_targets`, a source must not be empty, a source
    without a target goes to `on_unlabeled`, and neither may have more than `longest` symbols. `sizes` count
    those of a source and of a target.
    """

    source_columns: tuple[str, ...] = ()
    target_column: str | None = None
    need_targets: bool = False
    on_unlabeled: OnUnlabeled = reject
    longest: int | None = None
    sizes: tuple[Size, Size] = (len, len)
    layout: Layout = USUAL_LAYOUT


def check_transduction(record: Transduction, options: SequenceOptions) -> Transduction:
    """Return the record; `DataError` if nothing can be learned from it, `UnlabeledError` without targets."""
    if not options.need_targets:
        return record
    if is_nothing(record.source):
        raise DataError(place=record.place, expected="a source",
                        found="white space" if record.source else "an empty one",
                        advice="remove the record")
    if not record.targets:
        raise UnlabeledError(record.place, expected="a target", found="an empty one", advice="fill it in")
    of_source, of_target = options.sizes
    sizes = [("source", of_source(record.source)), *(("target", of_target(t)) for t in record.targets)]
    for name, size in sizes:
        if options.longest is not None and size > options.longest:
            raise DataError(
                place=record.place, expected=f"a {name} of at most {options.longest:,} symbols",
                found=f"{size:,}", advice=("correct the record", f"raise {setting('max_length')}"))
    return record


@dataclass(frozen=True, kw_only=True)
class WriterOptions:
    """Where to write tags, whether to write probabilities, and whether the tags mark spans of words."""

    columns: Columns
    probs: bool
    spans: bool


@dataclass(frozen=True, kw_only=True)
class LabelOptions:
    """Whether to write the probabilities of labels, and whether a text can have several labels."""

    probs: bool
    several: bool


@dataclass(frozen=True, kw_only=True)
class Format:
    """All that the toolkit knows about one file format.

    A reader that is None means that the format can't hold such records. `recognizes` looks at the first lines
    of a file that aren't blank, without their line endings. If it is None, the format is used only if the
    extension or the user names it. No running text begins with a line that `signature` matches.
    `holds_record` says whether lines hold a whole record; see `Lines.ready`.
    `examples` has a small file for each kind of record that the format reads.
    """

    name: str
    extensions: tuple[str, ...] = ()
    recognizes: Callable[[Sequence[str]], bool] | None = None
    signature: re.Pattern[str] | None = None
    holds_record: Callable[[Iterable[str]], bool] = any
    read_texts: Callable[[Lines, TextOptions], Iterator[Text]] | None = None
    read_pairs: Callable[[Lines, PairOptions], Iterator[Pair]] | None = None
    read_judgments: Callable[[Lines, JudgmentOptions], Iterator[Judgment]] | None = None
    read_sentences: Callable[[Lines, SentenceOptions], Iterator[Sentence]] | None = None
    read_sequences: Callable[[Lines, SequenceOptions], Iterator[Transduction]] | None = None
    sentence_writer: Callable[[WriterOptions], SentenceWriter] | None = None
    label_writer: Callable[[LabelOptions], LabelWriter] | None = None
    record_writer: Callable[[], RecordWriter] | None = None
    examples: Mapping[Kind, str] = field(default_factory=dict)

    settings: frozenset[str] = frozenset()  # reading settings that apply to some formats only
    has_labels: bool = False  # texts may come with labels
    has_targets: bool = False  # sources may come with targets
    has_tags: bool = False  # sentences may come with tags
    raw: bool = False  # sentences are running text that has to be split into words
    named_columns: bool = False  # tags are in columns or keys that have names
    span_column: str | None = None  # where to write spans, if not in the default column
    writes_probs: bool = False
    writes_nbest: bool = False
    writes_entity_scores: bool = False  # an entity's score is the mean of its words' probabilities

    def reads(self, kind: Kind) -> bool:
        """Whether the format can hold records of a kind."""
        return getattr(self, f"read_{kind}") is not None

    def has_answers(self, kind: Kind) -> bool:
        """Whether records of a kind may have what a model learns to predict: tags, targets or labels."""
        return {"sentences": self.has_tags, "sequences": self.has_targets}.get(kind, self.has_labels)
