"""The registry of file formats: guess the format of a file, and read and write by the name of a format.

To add a format, write its `Format` in a module of this package and add a row to `FORMATS`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, NamedTuple, get_args

from rnntool.data.formats.base import (
    Columns,
    Format,
    JudgmentOptions,
    LabelOptions,
    Offsets,
    OnUnlabeled,
    PairOptions,
    RecordWriter,
    SentenceOptions,
    SequenceOptions,
    Size,
    TextOptions,
    UnlabeledError,
    WriterOptions,
    check_transduction,
    holds_nonblank_line,
    is_nothing,
    labeled,
    reject,
)
from rnntool.data.formats.cmudict import CMUDICT
from rnntool.data.formats.conll import CONLL
from rnntool.data.formats.conllu import CONLLU
from rnntool.data.formats.fasttext import FASTTEXT
from rnntool.data.formats.html import HTML
from rnntool.data.formats.inline import INLINE
from rnntool.data.formats.jsonl import JSONL
from rnntool.data.formats.results import merged
from rnntool.data.formats.tables import CSV, TSV, TableWriter, header_names
from rnntool.data.formats.text import TEXT, TOKENS
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
    group_variants,
)
from rnntool.data.streams import COMPRESSED, Lines, chomp, is_blank
from rnntool.errors import DataError, UsageError, setting

__all__ = [
    "FORMATS",
    "LABEL_FORMATS",
    "RECORD_FORMATS",
    "WRITE_FORMATS",
    "Format",
    "Guess",
    "OnUnlabeled",
    "RecordWriter",
    "Size",
    "UnlabeledError",
    "either",
    "empty_output",
    "format_named_by",
    "guess_format",
    "label_writer",
    "labeled",
    "merged",
    "output_format",
    "read_judgments",
    "read_pairs",
    "read_parallel",
    "read_sentences",
    "read_sequences",
    "read_texts",
    "readable_formats",
    "record_lines",
    "record_writer",
    "reject",
    "sentence_writer",
    "split_columns",
    "table_format",
]

# The first format that recognizes a file wins.
FORMATS = {
    format.name: format
    for format in (TEXT, TOKENS, INLINE, HTML, JSONL, FASTTEXT, CMUDICT, CONLLU, CONLL, TSV, CSV)
}
WRITE_FORMATS = tuple(format.name for format in FORMATS.values() if format.sentence_writer)
LABEL_FORMATS = tuple(format.name for format in FORMATS.values() if format.label_writer)
RECORD_FORMATS = tuple(format.name for format in FORMATS.values() if format.record_writer)
_HEAD_LINES = 200  # lines to guess a format by, if the first one is not enough
_FALLBACK = {"texts": TEXT, "sentences": TEXT, "sequences": TEXT, "pairs": TSV, "judgments": TSV}
_SUPERVISED_FALLBACK = _FALLBACK | {"sequences": TSV}
_BY_EXTENSION = {extension: format for format in FORMATS.values() for extension in format.extensions}


def readable_formats(kind: Kind) -> tuple[str, ...]:
    """Return the names of all formats that can hold records of a kind."""
    return tuple(format.name for format in FORMATS.values() if format.reads(kind))


def read_texts(
    lines: Lines, *, format: str, text_column: str | None = None, default_text_column: str | None = None,
    label_column: str | None = None, default_label_column: str = "label", unit: str = "line",
    need_labels: bool = False, on_unlabeled: OnUnlabeled = reject, layout: Layout = USUAL_LAYOUT,
) -> Iterator[Text]:
    """Read texts and their labels from a format by name; see `TextOptions`.

    Raises UsageError for an unknown name at once, DataError for a bad line when it is reached.
    """
    read = _format(format, "texts").read_texts
    assert read is not None
    return read(lines, TextOptions(
        unit=unit, text_column=layout.text_column or text_column, default_text_column=default_text_column,
        label_column=label_column, default_label_column=default_label_column, need_labels=need_labels,
        on_unlabeled=on_unlabeled, layout=layout))


def read_pairs(
    lines: Lines, *, format: str, columns: tuple[str, str] | None = None, prefix: str | None = None,
    layout: Layout = USUAL_LAYOUT,
) -> Iterator[Pair]:
    """Read minimal pairs from a format by name; see `PairOptions`."""
    read = _format(format, "pairs").read_pairs
    assert read is not None
    return read(lines, PairOptions(columns=columns, prefix=prefix, layout=layout))


def read_judgments(
    lines: Lines, *, format: str, columns: Sequence[str] = ("1", "2", "3"), layout: Layout = USUAL_LAYOUT
) -> Iterator[Judgment]:
    """Read judgments of word similarity from a format by name. `columns` are the two words and the score."""
    read = _format(format, "judgments").read_judgments
    assert read is not None
    return read(lines, JudgmentOptions(columns=columns, layout=layout))


def read_sentences(
    lines: Lines, *, format: str, column: str | None = None, word_column: str | None = None,
    split: Callable[[str], Offsets], need_tags: bool = False, on_unlabeled: OnUnlabeled = reject,
    layout: Layout = USUAL_LAYOUT,
) -> Iterator[Sentence]:
    """Read sentences from a format by name; a blank record has no words.

    `column` says where the tags are, in terms of the format, with commas between several columns;
    `word_column` says where the words are. `split` returns the (start, end) characters of the words of raw
    text. With `need_tags`, a format without tags raises DataError, and a sentence without tags goes to
    `on_unlabeled`, which by default raises the error.
    """
    source = _format(format, "sentences")
    if need_tags and not source.has_tags:
        tagged = [name for name in readable_formats("sentences") if FORMATS[name].has_tags]
        raise DataError(
            place=lines.name, expected="words with tags",
            found=format if lines.head() else "an empty file",
            advice=f"give a file in {either(tagged)}, and name its format with {setting('format')}")
    assert source.read_sentences is not None
    return source.read_sentences(lines, SentenceOptions(
        columns=split_columns(column), word_column=word_column, split=split, need_tags=need_tags,
        on_unlabeled=on_unlabeled, layout=layout))


def read_sequences(
    lines: Lines, *, format: str, source_columns: str | None = None, target_column: str | None = None,
    need_targets: bool = False, on_unlabeled: OnUnlabeled = reject, variants: bool = False,
    longest: int | None = None, sizes: tuple[Size, Size] = (len, len), layout: Layout = USUAL_LAYOUT,
) -> Iterator[Transduction]:
    """Read sources and targets from a format by name; see `SequenceOptions`.

    `source_columns` are names or numbers with commas between them. With `variants`, records with the same
    source become one, with all their targets.
    """
    read = _format(format, "sequences").read_sequences
    assert read is not None
    columns = [name.strip() for name in source_columns.split(",")] if source_columns else []
    if not all(columns) or len(set(columns)) < len(columns):
        raise UsageError(setting="source_columns", found=repr(source_columns),
                         expected="different names or numbers separated by commas")
    records = read(lines, SequenceOptions(
        source_columns=tuple(columns), target_column=target_column, need_targets=need_targets,
        on_unlabeled=on_unlabeled, longest=longest, sizes=sizes, layout=layout))
    return iter(group_variants(records)) if variants else records


def read_parallel(
    sources: Lines, targets: Lines, *, on_unlabeled: OnUnlabeled = reject, variants: bool = False,
    longest: int | None = None, sizes: tuple[Size, Size] = (len, len),
) -> Iterator[Transduction]:
    """Read a source from each line of one file, and its target from the same line of another one.

    See `read_sequences`. `DataError` if one file has more lines than the other.
    """
    options = SequenceOptions(need_targets=True, on_unlabeled=on_unlabeled, longest=longest, sizes=sizes)

    def records() -> Iterator[Transduction]:
        for source, target in zip_longest(sources, targets):
            if source is None or target is None:
                shorter, longer = (sources, targets) if source is None else (targets, sources)
                raise DataError(
                    place=f"{shorter.name}:{shorter.number + 1}", expected=f"as many lines as {longer.name}",
                    found="the end of the file", advice="check that the lines of both files correspond")
            text = chomp(target)
            record = Transduction(chomp(source), () if is_nothing(text) else (text,), place=sources.place())
            yield from labeled(on_unlabeled, partial(check_transduction, record, options))

    return iter(group_variants(records())) if variants else records()


def sentence_writer(
    to: str, *, column: str | None = None, probs: bool = False, spans: bool = True
) -> SentenceWriter:
    """Return a function of a Sentence and its Tagged that returns the exact text to write.

    `to` is the name of a format. `column` is where formats with named columns put the tags; CoNLL adds as
    many columns, and the other formats join the tags of a word. `spans` says that the tags mark spans of
    words. A writer keeps track of one output, whatever the number of inputs.
    """
    make = FORMATS[to].sentence_writer if to in FORMATS else None
    if make is None:
        raise UsageError(setting="to", expected=f"one of {', '.join(WRITE_FORMATS)}", found=repr(to))
    if probs and not FORMATS[to].writes_probs:
        others = [name for name in WRITE_FORMATS if FORMATS[name].writes_probs]
        raise UsageError(f"the format {to} has no place for probabilities", setting="probs",
                         advice=f"set {setting('to')} to {either(others)}")
    return make(WriterOptions(columns=split_columns(column), probs=probs, spans=spans))


def label_writer(to: str, *, probs: bool, several: bool) -> LabelWriter:
    """Return a function of a Text, its predicted labels and their words that returns the exact text to write.

    `several` says that a text can have several labels.
    """
    make = FORMATS[to].label_writer if to in FORMATS else None
    if make is None:
        raise UsageError(setting="to", expected=f"one of {', '.join(LABEL_FORMATS)}", found=repr(to))
    return make(LabelOptions(probs=probs, several=several))


def record_writer(to: str) -> RecordWriter:
    """Return a function that writes records of any kind; see `RecordWriter`.

    `to` is one of `RECORD_FORMATS`. A writer keeps track of one output.
    """
    make = FORMATS[to].record_writer
    assert make is not None
    return make()


def empty_output(columns: Iterable[str] | None, results: Iterable[str], to: str) -> str:
    """Return the output for a table without rows: its header row with the names of the results.

    That is nothing for other formats, and if there are no `columns`, as in plain text.
    """
    writer = record_writer(to) if to in RECORD_FORMATS and columns is not None else None
    return writer.header(columns or (), results) if isinstance(writer, TableWriter) else ""


def record_lines(rows: Sequence[tuple[Mapping[str, Any], str]], to: str) -> Iterator[str]:
    """Return the text of each record, given its fields and its place; a table has the columns of all."""
    write = record_writer(to)
    columns: dict[str, Any] = {}
    if to != JSONL.name:
        columns = dict.fromkeys(chain.from_iterable(fields for fields, _ in rows))
    return (write({**columns, **fields}, {}, place) for fields, place in rows)


def output_format(source: str, *, probs: bool) -> str:
    """Return the format in which tagged sentences are written unless the user chooses one.

    That is usually the format of the input. Raw text becomes CoNLL, because tags alone would not show which
    words they belong to. So does a format without a place for probabilities, if there are any. A table
    becomes JSONL, which keeps the other columns.
    """
    format = FORMATS[source]
    if format.has_labels and not format.has_tags:  # a table
        return JSONL.name
    return CONLL.name if format.raw or (probs and not format.writes_probs) else source


def split_columns(column: str | None) -> Columns:
    """Split names such as `upos,xpos`; None stands for the format's own column where a name is empty.

    Raises UsageError if a name comes twice.
    """
    names = tuple(name.strip() or None for name in (column or "").split(","))
    if len(set(names)) < len(names):
        raise UsageError(setting="column", expected="different names or numbers separated by commas",
                         found=repr(column))
    return names


class Guess(NamedTuple):
    """The guessed format of an input, whether it is certain, and which other format the input looks like."""

    format: str
    certain: bool = True
    looks_like: str | None = None


def guess_format(
    path: str | Path, lines: Lines, kind: Kind, *, supervised: bool = False, header: Collection[str] = ()
) -> Guess:
    """Guess the format of an input from its extension, or else from its first lines.

    If every record needs labels or tags (`supervised`), many lines decide between the formats that have them.
    Otherwise the first line that isn't blank decides, so that a live pipe gets its answers at once. The
    input is text, except if no text can begin like that, or if a pipe begins with a row that has all names in
    `header`. The format never depends on how fast lines arrive. Only `looks_like` does, because it is judged
    by the lines that have arrived. Raises DataError if the extension names a format that can't hold such
    records.
    """
    if kind not in get_args(Kind):
        raise UsageError(setting="kind", expected=f"one of {', '.join(get_args(Kind))}", found=repr(kind))
    readable = [FORMATS[name] for name in readable_formats(kind)]
    by_name = FORMATS.get(format_named_by(path) or "")
    # a file with the extension of a table may really have columns of words and tags
    table = kind == "sentences" and by_name is not None and by_name.has_labels and not by_name.has_tags
    if by_name in readable and not table:
        return Guess(by_name.name)
    if Path(path).suffix.lower() == ".ann":
        raise DataError(place=path, expected=either(readable_formats(kind)), found="brat annotations",
                        advice="convert them to JSONL with the text and its tags")
    contradictory = by_name is not None and (by_name.has_tags or by_name.has_labels)
    many = supervised or contradictory
    candidates = [format for format in readable if format.has_answers(kind)] if many else readable
    rows = _rows(lines.head(lambda arrived: len(arrived) >= _HEAD_LINES or (
        not many and holds_nonblank_line(arrived))))
    if certain := _signed(rows, candidates):
        return Guess(certain.name)
    if many and (recognized := _recognized(rows, candidates)):
        return Guess(recognized.name, certain=False)
    if by_name and contradictory:
        if by_name in readable:
            return Guess(by_name.name)
        raise DataError(
            place=path, expected=either(readable_formats(kind)),
            found=f"the extension of a {by_name.name} file",
            advice=(f"if its format is one of these, name it with {setting('format')}", "give another file"))
    if supervised or _FALLBACK[kind] is not TEXT:
        return Guess((_SUPERVISED_FALLBACK if supervised else _FALLBACK)[kind].name)
    if header and not Path(path).is_file():  # a file has an extension that can say so
        for format in filter(readable.__contains__, (TSV, CSV)):
            if rows and set(header) <= set(header_names(rows[0], format.name)):
                return Guess(format.name, certain=False)
    similar = _recognized(rows, readable) or _signed(rows, FORMATS.values())
    return Guess(TEXT.name, looks_like=similar.name if similar else None)


def table_format(path: str | Path, delimiter: str) -> str | None:
    """Return the format of a table with this delimiter; None if the extension names another format."""
    named = format_named_by(path)
    if named not in (None, TSV.name, CSV.name):
        return None
    return named or (TSV.name if delimiter == "\t" else CSV.name)


def format_named_by(path: str | Path) -> str | None:
    """Return the format that a file's extension names, apart from a compression; None if it names none."""
    suffixes = [suffix for suffix in Path(path).suffixes if suffix.lower() not in COMPRESSED]
    format = _BY_EXTENSION.get(suffixes[-1].lower()) if suffixes else None
    return format.name if format else None


def _rows(head: Sequence[str]) -> list[str]:
    """Return the first lines that aren't blank, without their endings."""
    return [chomp(line) for line in head[:_HEAD_LINES] if not is_blank(line)]


def _signed(rows: Sequence[str], formats: Iterable[Format]) -> Format | None:
    """Return the format with whose signature the first line begins."""
    return next((format for format in formats
                 if rows and format.signature and format.signature.match(rows[0])), None)


def _recognized(rows: Sequence[str], formats: Iterable[Format]) -> Format | None:
    """Return the first format that these lines look like."""
    return next((format for format in formats
                 if rows and format.recognizes and format.recognizes(rows)), None)


def _format(name: str, kind: Kind) -> Format:
    names = readable_formats(kind)
    if name not in names:
        raise UsageError(setting="format", expected=f"one of {', '.join(names)}", found=repr(name))
    return FORMATS[name]


def either(names: Iterable[str]) -> str:
    """Join names into `a, b or c`."""
    *first, last = names
    return f"{', '.join(first)} or {last}" if first else last
