"""TSV and CSV: tables with a header row, or without one if the user says so. Output always has a header row.

Columns of pairs and judgments that are given by number need no header row.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain, islice
from typing import Any

from rnntool.data.formats.base import (
    Format,
    JudgmentOptions,
    LabelOptions,
    PairOptions,
    SentenceOptions,
    SequenceOptions,
    TextOptions,
    UnlabeledError,
    WriterOptions,
    check_transduction,
    holds_nonblank_line,
    is_nothing,
    labeled,
)
from rnntool.data.formats.results import label_results, merged, tag_keys, tag_results
from rnntool.data.json_text import to_json
from rnntool.data.progress import Log
from rnntool.data.reading import Layout
from rnntool.data.records import (
    Judgment,
    Labels,
    LabelWriter,
    Pair,
    Sentence,
    SentenceWriter,
    Tagged,
    Text,
    Transduction,
    WordWeight,
    one_line,
)
from rnntool.data.streams import Lines, chomp, is_blank
from rnntool.errors import DataError, UsageError, closest, setting

_Row = tuple[list[str], str]  # cells and the place where the row begins
_Rows = Callable[[Lines, str], Iterator[_Row]]  # its arguments are lines and the separator

_CELL_LIMIT = 2**31 - 1  # characters; the csv module's default is 131,072
_SHOWN_NAMES = 20  # column names that a message lists
_SEMICOLON = "set " + setting("delimiter", "';'")  # the shell needs the quotes
_SEPARATORS = {  # separator: its name, and what to do where another one was expected
    "\t": ("tabs", f"set {setting('format', 'tsv')}"),
    ",": ("commas", f"set {setting('format', 'csv')}"),
    ";": ("semicolons", _SEMICOLON),
}
_MISSING_VALUES = ("nan", "null", "<na>")  # what programs write for a missing label
_PAIR_HEADERS = (("good", "bad"), ("sentence_good", "sentence_bad"))
_SEQUENCE_NAMES = frozenset({  # usual names of the columns of sources and targets
    "correction", "features", "form", "grapheme", "graphemes", "id", "inflected", "input", "ipa", "lemma",
    "modern", "name", "normalized", "orthography", "original", "output", "phone", "phoneme", "phonemes",
    "phones", "phonetic", "plural", "pronunciation", "pronunciations", "root", "singular", "sound", "sounds",
    "source", "spelling", "src", "stem", "tag", "tags", "target", "text", "tgt", "transcription",
    "translation", "transliteration", "word", "words"})
_NAME = re.compile(r"[^\W\d]\w*")
_NO_HEADER = f"if it is a record, set {setting('no_header')}"
_CHOOSE_COLUMNS = f"choose others with {setting('columns')}"


def _tsv_rows(lines: Lines, separator: str) -> Iterator[_Row]:
    """Read TSV, which has no quotes."""
    for line in lines:
        yield chomp(line).split(separator), lines.place()


def _csv_rows(lines: Lines, separator: str) -> Iterator[_Row]:
    """Read CSV with the quotes of RFC 4180."""
    csv.field_size_limit(_CELL_LIMIT)
    last_line = ""

    def remembered() -> Iterator[str]:
        nonlocal last_line
        for line in lines:
            last_line = line
            yield line

    reader = csv.reader(remembered(), delimiter=separator, strict=True)
    while True:
        place = f"{lines.name}:{lines.number + 1}"
        try:
            cells = next(reader, None)
        except csv.Error as error:
            if "new-line character" in str(error):  # the rest of that message is about Python's open()
                raise DataError(
                    place=place, expected="CSV", found="a carriage return in the middle of a line",
                    advice="put its cell into quotes, or convert the line endings") from None
            other = f", or {_SEMICOLON}" if '";' in last_line else ""
            raise DataError(place=place, expected="CSV", found=error,
                            advice=f"check the quotes of this row{other}") from None
        if cells is None:
            return
        yield cells or [""], place


def _holds_csv_row(lines: Iterable[str]) -> bool:
    """Whether lines hold a row to its end, with all its quotes closed."""
    quotes, begun = 0, False
    for line in lines:
        quotes += line.count('"')
        begun = begun or not is_blank(line)
        if begun and quotes % 2 == 0:
            return True
    return False


def _recognizes(rows: Sequence[str], *, separator: str) -> bool:
    """Whether the first line is a header row: it has a column `text` or `label`, or the rows' width."""
    header = _header_names(rows[0], separator)
    table = len(rows) > 2 and all(len(row.split(separator)) == len(header) for row in rows)
    named = not {"text", "label"}.isdisjoint(header) or (table and all(map(_NAME.fullmatch, header)))
    return bool(header) and named


def header_names(row: str, format: str) -> list[str]:
    """Return the cells of a row if they can be names of columns of a table, and none otherwise."""
    return _header_names(row, "\t" if format == TSV.name else ",")


def _header_names(row: str, separator: str) -> list[str]:
    cells = [cell.strip('"') for cell in row.split(separator)]
    # a comma in running text has a space after it
    return cells if len(cells) > 1 and all(cell == cell.strip() for cell in cells) else []


class _Table:
    """The rows of a table and the names of its columns. Without a header row, these are numbers from 1."""

    def __init__(self, lines: Lines, layout: Layout, *, rows: _Rows, separator: str) -> None:
        """Read the first row. `rows` reads the format; `separator` is its usual separator."""
        self.layout = layout
        self.separator = layout.delimiter or separator
        self.rows = rows(lines, self.separator)
        self.header, self.place = next(self.rows, (list[str](), ""))
        if not layout.header:
            self.number_columns()

    def number_columns(self) -> None:
        """Make the first row a record; the columns have numbers instead of names."""
        self.layout = replace(self.layout, header=False)
        self.rows = chain([(self.header, self.place)] if self.place else [], self.rows)
        self.header = [str(i + 1) for i in range(len(self.header))]

    def __bool__(self) -> bool:
        """Whether there is a first row."""
        return bool(self.place)

    def check_separator(self, columns: Iterable[str | None]) -> None:
        """Raise `DataError` if the header is a single cell that another separator would split into names."""
        if len(self.header) > 1 or self.layout.delimiter or not self.layout.header:
            return
        for other, (name, advice) in _SEPARATORS.items():
            parts = [part.strip('"') for part in self.header[0].split(other)]
            # a comma in running text has a space after it
            names = all(part and part == part.strip() for part in parts)
            if len(parts) > 1 and (names or not {part.strip() for part in parts}.isdisjoint(columns)):
                raise DataError(
                    place=self.place, expected=f"columns separated by {_SEPARATORS[self.separator][0]}",
                    found=name, advice=advice)

    def check_other_separators(self) -> None:
        """Raise `DataError` if the first row is a single cell with another separator in it."""
        for other, (name, advice) in _SEPARATORS.items():
            if other in self.header[0]:
                raise DataError(
                    place=self.place, expected=f"columns separated by {_SEPARATORS[self.separator][0]}",
                    found=name, advice=advice)

    def find(self, column: str, parameter: str) -> int:
        """Return the index of a column given by name or, if no column has that name, by number from 1."""
        header = self.header
        if header.count(column) > 1:
            raise DataError(place=self.place, expected=f"one column {column!r}", found="several",
                            advice=f"set {setting(parameter)} to the number of one")
        if column in header:
            return header.index(column)
        if _is_number(column) and int(column) <= len(header):
            return int(column) - 1
        expected = f"a column {column!r} in the header row"
        if not self.layout.header:
            expected = f"a number from 1 to {len(header)}, because there is no header row"
        raise DataError(place=self.place, expected=expected, found=repr(column) if not self.layout.header
                        else _listed(header), advice=_choose(parameter, self.layout, column, header))

    def records(self, names: Sequence[str] = ()) -> Iterator[tuple[list[str], dict[str, str], str]]:
        """Yield the cells of each record, its fields by the name of the column, and its place.

        In a table of one column, a blank line is a record. In other tables, it is skipped.
        """
        names = names or _unique_names(self.header)
        for cells, place in self.rows:
            if len(cells) == len(names):
                yield cells, dict(zip(names, cells, strict=True)), place
            elif cells != [""]:
                first = "the header" if self.layout.header else "the first row"
                raise DataError(place=place, expected=f"{len(names)} columns as in {first}",
                                found=len(cells), advice="check for stray separators and quotes")


def _text_column(table: _Table, options: TextOptions, label_at: int | None, warn: Log) -> int:
    """Return the index of the column of the texts.

    Without `text_column`, it is the default column, else `text`, else the only column that has no labels.
    """
    header, default = table.header, options.default_text_column
    if options.text_column is not None:
        return table.find(options.text_column, "text_column")
    if default is not None and default in header:
        return table.find(default, "text_column")
    others = [i for i in range(len(header)) if i != label_at]
    if "text" in header:
        found = table.find("text", "text_column")
    elif default is not None and _is_number(default) and int(default) <= len(header):
        found = int(default) - 1
    elif len(others) == 1:
        (found,) = others
    else:
        expected = ("a column 'text'" if default is None
                    else f"a column {default!r} (used in training) or 'text'")
        raise DataError(
            place=table.place, expected=expected, found=_listed(header) if table.layout.header
            else f"{len(header)} columns",
            advice=_choose("text_column", table.layout, default or "text", header))
    if default is not None and default != str(found + 1):
        warn(f"{table.place}: no column {default!r}, which training used, so texts are read from column "
             f"{header[found]!r}; choose another one with {setting('text_column')}")
    return found


def _read_texts(lines: Lines, options: TextOptions, *, rows: _Rows, separator: str) -> Iterator[Text]:
    """Read a record from each row after the header; its `fields` are the cells by column name.

    An empty cell means that the text has no label.
    """
    table = _Table(lines, options.layout, rows=rows, separator=separator)
    if not table:
        return
    header = table.header
    table.check_separator(("text", "label", options.text_column, options.label_column))
    label_at = None
    if options.label_column is not None:
        label_at = table.find(options.label_column, "label_column")
    elif options.default_label_column in header:
        label_at = header.index(options.default_label_column)
    text_at = _text_column(table, options, label_at, lines.warn)
    if text_at == label_at and options.label_column is not None:
        raise DataError(
            place=table.place, expected="the text and the label in two columns",
            found=f"{header[text_at]!r} for both",
            advice=f"choose two columns with {setting('text_column')} and {setting('label_column')}")
    known = {"text", "label", options.text_column, options.default_text_column, options.label_column,
             options.default_label_column}
    if options.layout.header and known.isdisjoint(header):
        lines.warn(f"{table.place}: read as the header row: {_listed(header)}; {_NO_HEADER}")
    names = _unique_names(header)
    if not options.layout.header:  # names that other commands know
        names = ["text" if i == text_at else "label" if i == label_at else name
                 for i, name in enumerate(names)]
    lines.columns = names
    noticed = not options.need_labels
    for cells, fields, place in table.records(names):
        if not noticed and label_at is not None and cells[label_at].strip().lower() in _MISSING_VALUES:
            noticed = True
            lines.warn(f"{place}: the label is the text {cells[label_at]!r}; if it stands for a missing "
                       f"label, empty such cells and set {setting('skip_unlabelled')}")
        labels = () if label_at is None or is_nothing(cells[label_at]) else (cells[label_at],)
        if labels or not options.need_labels:
            yield Text(cells[text_at], labels, fields, place)
        else:
            options.on_unlabeled(UnlabeledError(
                place, found="an empty cell",
                advice=f"fill it, choose another column with {setting('label_column')}"))


def _read_sentences(
    lines: Lines, options: SentenceOptions, *, rows: _Rows, separator: str
) -> Iterator[Sentence]:
    """Read the text of each row as a sentence without tags."""
    texts = TextOptions(text_column=options.layout.text_column, layout=options.layout)
    for record in _read_texts(lines, texts, rows=rows, separator=separator):
        offsets = options.split(record.text)
        words = [record.text[start:end] for start, end in offsets]
        yield Sentence(words, None, record.text, offsets, record.fields, record.place)


def _read_sequences(
    lines: Lines, options: SequenceOptions, *, rows: _Rows, separator: str
) -> Iterator[Transduction]:
    """Read a source and a target from each row.

    The table has a header row if a column is given by name, or if the first row has a cell `source`.
    """
    table = _Table(lines, options.layout, rows=rows, separator=separator)
    if not table:
        return
    if options.need_targets and len(table.header) == 1 and not table.layout.delimiter:
        table.check_other_separators()
    given = [name for name in (*options.source_columns, options.target_column) if name is not None]
    if table.layout.header and "source" not in table.header and all(map(_is_number, given)):
        if len(table.header) > 1 and _SEQUENCE_NAMES.issuperset(map(str.lower, table.header)):
            raise DataError(
                place=table.place, expected="a source and a target",
                found=f"what looks like a header row, {_listed(table.header)}",
                advice=(f"name the columns with {setting('source_columns')} and {setting('target_column')}",
                        _NO_HEADER))
        table.number_columns()
    table.check_separator((*given, "source", "target"))
    source_at = [table.find(column, "source_columns") for column in options.source_columns]
    if not source_at:
        source_at = [table.header.index("source") if "source" in table.header else 0]
    target_at = _target_column(table, options, source_at)
    names = _unique_names(table.header)
    if not table.layout.header:  # names that other commands know
        names = ["source" if i == source_at[0] else "target" if i == target_at else name
                 for i, name in enumerate(names)]
    lines.columns = names
    for cells, fields, place in table.records(names):
        source, *extra = (cells[i] for i in source_at)
        targets = () if target_at is None or is_nothing(cells[target_at]) else (cells[target_at],)
        record = Transduction(source, targets, tuple(extra), fields, place)
        yield from labeled(options.on_unlabeled, partial(check_transduction, record, options))


def _target_column(table: _Table, options: SequenceOptions, source_at: Sequence[int]) -> int | None:
    """Return the index of the column of the targets; None if there is none, and none is needed.

    Without `target_column`, it is `target`, or else the only column that isn't part of the source.
    """
    header, chosen = table.header, options.target_column
    if chosen is not None:
        missing = chosen not in header and not (_is_number(chosen) and int(chosen) <= len(header))
        found = None if missing and not options.need_targets else table.find(chosen, "target_column")
        if found is not None and found in source_at:
            raise DataError(
                place=table.place, expected="the source and the target in two columns",
                found=f"{header[found]!r} for both",
                advice=f"choose two columns with {setting('source_columns')} and {setting('target_column')}")
        return found
    others = [i for i in range(len(header)) if i not in source_at]
    if "target" in header:
        return header.index("target")
    if len(others) == 1:
        return others[0]
    if not options.need_targets:
        return None
    separator = _SEPARATORS.get(table.separator, ("the delimiter", ""))[0]
    if len(header) == 1:
        raise DataError(place=table.place, expected=f"a source and a target separated by {separator}",
                        found="1 column", advice=(
                            f"set {setting('format')} or {setting('delimiter')}",
                            f"if another file has the targets, name it with {setting('target')}"))
    raise DataError(
        place=table.place, expected="a column 'target'" if table.layout.header else "2 columns",
        found=_listed(header) if table.layout.header else len(header),
        advice=f"choose columns with {setting('source_columns')} and {setting('target_column')}")


def _read_pairs(lines: Lines, options: PairOptions, *, rows: _Rows, separator: str) -> Iterator[Pair]:
    """Read a pair from two columns of each row, and its prefix from a third.

    The table has a header row only if one of the columns is given by name.
    """
    columns, prefix, layout = options.columns, options.prefix, options.layout
    if prefix and columns is None:
        raise UsageError("requires the columns of the two sentences", setting="prefix",
                         advice=f"set {setting('columns', 'GOOD,BAD')}")
    chosen = [("columns", column) for column in columns or ()] + ([("prefix", prefix)] if prefix else [])
    if all(_is_number(column) for _, column in chosen):
        each = rows(lines, layout.delimiter or separator)
        yield from _numbered_pairs(each, columns, int(prefix) - 1 if prefix else None, header=layout.header)
        return
    table = _Table(lines, layout, rows=rows, separator=separator)
    if not table:
        return
    table.check_separator([column for _, column in chosen])
    indexes = [table.find(column, parameter) for parameter, column in chosen]
    for cells, fields, place in table.records():
        good, bad, *before = [cells[i] for i in indexes]
        yield Pair(good, bad, fields, place, before[0] if before else None)


def _numbered_pairs(
    rows: Iterator[_Row], columns: tuple[str, str] | None, prefix_at: int | None, *, header: bool
) -> Iterator[Pair]:
    """Read pairs from a table without a header row.

    If `header` is true, a first row that looks like a header is an error. A first row of
    single words looks like a header if the next row has sentences of several words.
    """
    good, bad = (int(columns[0]) - 1, int(columns[1]) - 1) if columns else (0, 1)
    width = max(good, bad, prefix_at or 0) + 1
    filled = ((cells, place) for cells, place in rows if any(cells))
    first = next(filled, None)
    if first is None:
        return
    start = [first]
    names = [first[0][i] for i in (good, bad) if i < len(first[0])]
    if header and all(map(_NAME.fullmatch, first[0])):
        known = tuple(names) in _PAIR_HEADERS
        start += [] if known else islice(filled, 1)
        if known or any(" " in cell.strip() for cells, _ in start[1:] for cell in cells):
            raise DataError(place=first[1], expected="two sentences", found="what looks like a header row",
                            advice=f"set {setting('columns', ','.join(names))}, or {_NO_HEADER}")
    for cells, place in chain(start, filled):
        if len(cells) < width or (columns is None and len(cells) != 2):
            raise DataError(
                place=place, expected="2 columns" if columns is None else f"at least {width} columns",
                found=len(cells), advice=_CHOOSE_COLUMNS)
        yield Pair(cells[good], cells[bad], None, place, None if prefix_at is None else cells[prefix_at])


def _read_judgments(
    lines: Lines, options: JudgmentOptions, *, rows: _Rows, separator: str
) -> Iterator[Judgment]:
    """Read two words and a number from three columns, given by number or by name.

    If all three have numbers, the first row is a header row only if its third cell is not a number.
    """
    columns, layout = options.columns, options.layout
    each = rows(lines, layout.delimiter or separator)
    indexes = [int(column) - 1 for column in columns if _is_number(column)]
    if len(indexes) < len(columns):
        table = _Table(lines, layout, rows=rows, separator=separator)
        if not table:
            return
        indexes = [table.find(column, "columns") for column in columns]
        each = table.rows
    for number, (cells, place) in enumerate(each):
        if not any(cells):
            continue
        if len(cells) <= max(indexes):
            raise DataError(place=place, expected=f"at least {max(indexes) + 1} columns", found=len(cells),
                            advice=_CHOOSE_COLUMNS)
        first, second, score = (cells[i].strip() for i in indexes)
        value = _finite_number(score)
        if value is not None:
            yield Judgment(first, second, value)
        elif number or place != f"{lines.name}:1" or not layout.header:
            raise DataError(place=place, expected="a number as the score", found=repr(score),
                            advice=_CHOOSE_COLUMNS)


def _tsv_row(cells: list[str]) -> str:
    return "\t".join(one_line(cells)) + "\n"


def _csv_row(cells: list[str]) -> str:
    row = io.StringIO()
    csv.writer(row, lineterminator="\r\n").writerow(cells)  # puts cells with "\r" or "\n" into quotes
    return row.getvalue().removesuffix("\r\n") + "\n"


class TableWriter:
    """Writes a row for each record, and a header row before the first one, whose fields are the columns."""

    def __init__(self, write_row: Callable[[list[str]], str]) -> None:
        """`write_row` returns the line of some cells."""
        self._write_row = write_row
        self._columns: list[str] = []

    def __call__(self, record: Mapping[str, Any], results: Mapping[str, Any], place: str) -> str:
        """Return the row of a record that was read at `place`, with `results` in further columns.

        A field with the name of a result gets the prefix `input_`. A field that is missing is an empty cell.
        `DataError` for a field that the first record doesn't have, because it has no column.
        """
        fields = merged(record, results)
        header = "" if self._columns else self.header(record, results)
        if len(fields) > len(self._columns) or not fields.keys() <= set(self._columns):
            surplus = next(name for name in fields if name not in self._columns)
            raise DataError(place=place, expected="the same columns as in the first record",
                            found=repr(surplus), advice=f"write JSONL: {setting('to', 'jsonl')}")
        return header + self._write_row([_cell(fields.get(name)) for name in self._columns])


    def header(self, record: Iterable[str], results: Iterable[str]) -> str:
        """Return the header row for the names of a record's fields and of results, before the first row."""
        self._columns = list(merged(dict.fromkeys(record), dict.fromkeys(results)))
        return self._write_row(self._columns)


def _cell(value: Any) -> str:
    """Write text and numbers as they are, and lists and objects as JSON."""
    if value is None:
        return ""
    return str(value) if isinstance(value, str | float) else to_json(value)


class _TableLabelsWriter(LabelWriter):
    """Writes the columns of the record, or its text, and the predicted label with its probability."""

    def __init__(self, options: LabelOptions, *, write_row: Callable[[list[str]], str]) -> None:
        self._write = TableWriter(write_row)
        self._several = options.several

    def __call__(self, text: Text, labels: Labels, words: Sequence[WordWeight] | None) -> str:
        fields = {"text": text.text} if text.fields is None else text.fields
        return self._write(fields, label_results(labels, words, several=self._several), text.place)


class _TableTagsWriter(SentenceWriter):
    """Writes the columns of the record, or its text, and words and tags joined by spaces."""

    def __init__(self, options: WriterOptions, *, write_row: Callable[[list[str]], str]) -> None:
        self._write = TableWriter(write_row)
        self._options = options
        self._keys = tag_keys(options.columns)

    def __call__(self, sentence: Sentence, tagged: Tagged) -> str:
        probs, spans = self._options.probs, self._options.spans
        source = sentence.source if isinstance(sentence.source, dict) else {"text": sentence.text}
        fields = {name: value for name, value in source.items() if name not in ("tokens", "offsets")}
        if sentence.text is None:
            fields["text"] = " ".join(sentence.words)
        results = tag_results(sentence, tagged, self._keys, probs=probs, spans=spans)
        results.pop("offsets", None)
        for key in ("tokens", *self._keys):  # a no-break space keeps words and tags apart
            results[key] = " ".join(item.replace(" ", "\xa0") for item in results[key])
        if probs:
            results["probs"] = " ".join(map(str, results.get("probs", ())))
        if spans:
            results.setdefault("entities", [])
        return self._write(fields, results, sentence.place)


def _unique_names(header: list[str]) -> list[str]:
    """Add a number to each name that comes again, so that no field is lost."""
    taken, next_number = set(header), dict.fromkeys(header, 1)
    names: list[str] = []
    for name in header:
        unique = name
        if next_number[name] > 1:
            while unique in taken:
                unique = f"{name}_{next_number[name]}"
                next_number[name] += 1
            taken.add(unique)
        else:
            next_number[name] = 2
        names.append(unique)
    return names


def _choose(parameter: str, layout: Layout, column: str, header: Sequence[str]) -> list[str]:
    """Say which name may be meant instead of the missing `column`, or how to choose a column."""
    if layout.header and (close := closest(column, header)) is not None:
        return [f"did you mean {close!r}?"]
    return [f"choose one with {setting(parameter)}", *(["rename one"] if layout.header else [])]


def _is_number(column: str) -> bool:
    return column.isascii() and column.isdigit() and len(column) < 10 and int(column) > 0


def _finite_number(text: str) -> float | None:
    """Parse a number; None for other text, nan and inf included."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _listed(header: list[str]) -> str:
    shown = [repr(name if len(name) <= 30 else name[:29] + "…") for name in header[:_SHOWN_NAMES]]
    return ", ".join(shown) + (", …" if len(header) > _SHOWN_NAMES else "")


def _table(
    name: str, separator: str, rows: _Rows, write_row: Callable[[list[str]], str],
    holds_record: Callable[[Iterable[str]], bool], *extensions: str,
) -> Format:
    def example(*rows: tuple[str, ...]) -> str:
        return "".join(separator.join(row) + "\n" for row in rows)

    return Format(
        name=name,
        extensions=extensions,
        recognizes=partial(_recognizes, separator=separator),
        holds_record=holds_record,
        read_texts=partial(_read_texts, rows=rows, separator=separator),
        read_pairs=partial(_read_pairs, rows=rows, separator=separator),
        read_judgments=partial(_read_judgments, rows=rows, separator=separator),
        read_sentences=partial(_read_sentences, rows=rows, separator=separator),
        read_sequences=partial(_read_sequences, rows=rows, separator=separator),
        sentence_writer=partial(_TableTagsWriter, write_row=write_row),
        label_writer=partial(_TableLabelsWriter, write_row=write_row),
        record_writer=partial(TableWriter, write_row),
        examples={
            "texts": example(("label", "text"), ("pets", "The cat sleeps."), ("food", "We cook.")),
            "pairs": example(("The cat sleeps.", "The cat sleep."), ("We cook.", "We cooks.")),
            "sequences": example(("cat", "K AE T"), ("dog", "D AO G")),
            "judgments": example(("cat", "dog", "7.5"), ("cat", "rice", "0.3")),
            "sentences": example(("id", "text"), ("1", "The cat sleeps."), ("2", "We cook.")),
        },
        settings=frozenset({"text_column", "label_column", "source_columns", "target_column", "delimiter",
                            "no_header"}),
        has_labels=True,
        has_targets=True,
        named_columns=True,
        writes_probs=True,
    )


TSV = _table("tsv", "\t", _tsv_rows, _tsv_row, holds_nonblank_line, ".tsv", ".tab")
CSV = _table("csv", ",", _csv_rows, _csv_row, _holds_csv_row, ".csv")
