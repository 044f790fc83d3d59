"""TSV and CSV: tables with a header row. Pairs and judgments may also be in tables without one."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

from rnntool.data.formats.base import (
    Format,
    PairOptions,
    TextOptions,
    UnlabeledError,
    holds_nonblank_line,
    is_nothing,
)
from rnntool.data.records import Judgment, Pair, Text
from rnntool.data.streams import Lines, chomp, is_blank
from rnntool.errors import DataError, UsageError, setting

_Row = tuple[list[str], str]  # cells and the place where the row begins
_Rows = Callable[[Lines], Iterator[_Row]]

_CELL_LIMIT = 2**31 - 1  # characters; the csv module's default is 131,072
_SHOWN_NAMES = 20  # column names that a message lists
_SEPARATORS = {  # separator: its name, and what to do where another one was expected
    "\t": ("tabs", f"set {setting('format', 'tsv')}"),
    ",": ("commas", f"set {setting('format', 'csv')}"),
    ";": ("semicolons", "save the table with commas or tabs"),
}
_PAIR_HEADERS = (("good", "bad"), ("sentence_good", "sentence_bad"))
_CHOOSE_COLUMNS = f"choose others with {setting('columns')}"


def _tsv_rows(lines: Lines) -> Iterator[_Row]:
    """Read TSV, which has no quotes."""
    for line in lines:
        yield chomp(line).split("\t"), lines.place()


def _csv_rows(lines: Lines) -> Iterator[_Row]:
    """Read CSV with the quotes of RFC 4180."""
    csv.field_size_limit(_CELL_LIMIT)
    reader = csv.reader(lines, strict=True)
    while True:
        place = f"{lines.name}:{lines.number + 1}"
        try:
            cells = next(reader, None)
        except csv.Error as error:
            if "new-line character" in str(error):  # the rest of that message is about Python's open()
                raise DataError(
                    place=place, expected="CSV", found="a carriage return in the middle of a line",
                    advice="put its cell into quotes, or convert the line endings") from None
            raise DataError(place=place, expected="CSV", found=error,
                            advice="check the quotes of this row") from None
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
    """Whether the first line is a header row with a column `text` or `label`."""
    header = [cell.strip('"') for cell in rows[0].split(separator)]
    # a comma in running text has a space after it
    names = all(cell and cell == cell.strip() for cell in header)
    return len(header) > 1 and names and bool({"text", "label"} & set(header))


def _read_texts(lines: Lines, options: TextOptions, *, rows: _Rows, separator: str) -> Iterator[Text]:
    """Read a record from each row after the header; its `fields` are the cells by column name.

    Without `text_column`, the text is in the column "text" or else in the only column that has no labels. An
    empty cell means that the text has no label.
    """
    each = rows(lines)
    header, place = next(each, (None, ""))
    if header is None:
        return
    _check_separator(header, separator, ("text", "label", options.text_column, options.label_column), place)
    label_at = None
    if options.label_column is not None:
        label_at = _find(header, options.label_column, place, "label_column")
    elif options.default_label_column in header:
        label_at = header.index(options.default_label_column)
    text_at = _text_index(header, options.text_column, label_at, place)
    if text_at == label_at and options.label_column is not None:
        raise DataError(
            place=place, expected="the text and the label in two columns",
            found=f"{header[text_at]!r} for both",
            advice=f"choose two columns with {setting('text_column')} and {setting('label_column')}")
    names = _unique_names(header)
    for cells, place in _full_rows(each, len(header)):
        labels = () if label_at is None or is_nothing(cells[label_at]) else (cells[label_at],)
        if labels or not options.need_labels:
            yield Text(cells[text_at], labels, dict(zip(names, cells, strict=True)), place)
        else:
            options.on_unlabeled(UnlabeledError(
                place, found="an empty cell",
                advice=f"fill it, choose another column with {setting('label_column')}"))


def _read_pairs(lines: Lines, options: PairOptions, *, rows: _Rows, separator: str) -> Iterator[Pair]:
    """Read a pair from two columns of each row, and its prefix from a third.

    The table has a header row only if one of the columns is given by name.
    """
    columns, prefix = options.columns, options.prefix
    if prefix and columns is None:
        raise UsageError("requires the columns of the two sentences", setting="prefix",
                         advice=f"set {setting('columns', 'GOOD,BAD')}")
    chosen = [("columns", column) for column in columns or ()] + ([("prefix", prefix)] if prefix else [])
    each = rows(lines)
    if all(_is_number(column) for _, column in chosen):
        yield from _numbered_pairs(each, columns, int(prefix) - 1 if prefix else None)
        return
    header, place = next(each, (None, ""))
    if header is None:
        return
    _check_separator(header, separator, [column for _, column in chosen], place)
    indexes = [_find(header, column, place, parameter) for parameter, column in chosen]
    names = _unique_names(header)
    for cells, place in _full_rows(each, len(header)):
        good, bad, *before = [cells[i] for i in indexes]
        yield Pair(good, bad, dict(zip(names, cells, strict=True)), place, before[0] if before else None)


def _numbered_pairs(
    rows: Iterator[_Row], columns: tuple[str, str] | None, prefix_at: int | None
) -> Iterator[Pair]:
    """Read pairs from a table without a header row."""
    good, bad = (int(columns[0]) - 1, int(columns[1]) - 1) if columns else (0, 1)
    width = max(good, bad, prefix_at or 0) + 1
    for cells, place in rows:
        if not any(cells):
            continue
        if len(cells) < width or (columns is None and len(cells) != 2):
            raise DataError(
                place=place, expected="2 columns" if columns is None else f"at least {width} columns",
                found=len(cells), advice=_CHOOSE_COLUMNS)
        if columns is None and tuple(cells) in _PAIR_HEADERS:
            raise DataError(place=place, expected="two sentences", found="names of columns",
                            advice=f"set {setting('columns', ','.join(cells))}")
        yield Pair(cells[good], cells[bad], None, place, None if prefix_at is None else cells[prefix_at])


def _read_judgments(lines: Lines, columns: Sequence[str], *, rows: _Rows) -> Iterator[Judgment]:
    """Read two words and a number from three columns, given by number or by name.

    If all three have numbers, the first row is a header row only if its third cell is not a number.
    """
    each = rows(lines)
    indexes = [int(column) - 1 for column in columns if _is_number(column)]
    if len(indexes) < len(columns):
        header, place = next(each, ([], f"{lines.name}:1"))
        indexes = [_find(header, column, place, "columns") for column in columns]
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
        elif number or place != f"{lines.name}:1":
            raise DataError(place=place, expected="a number as the score", found=repr(score),
                            advice=_CHOOSE_COLUMNS)


def _full_rows(rows: Iterator[_Row], width: int) -> Iterator[_Row]:
    """Check the width of rows. In a table of one column a blank line is a row, in others it is skipped."""
    for cells, place in rows:
        if len(cells) == width:
            yield cells, place
        elif cells != [""]:
            raise DataError(place=place, expected=f"{width} columns as in the header", found=len(cells),
                            advice="check for stray separators and quotes")


def _unique_names(header: list[str]) -> list[str]:
    """Add a number to each name that comes again, so that no field is lost."""
    names: list[str] = []
    for name in header:
        number, unique = 1, name
        while unique in names or (number > 1 and unique in header):
            number += 1
            unique = f"{name}_{number}"
        names.append(unique)
    return names


def _check_separator(header: list[str], separator: str, columns: Iterable[str | None], place: str) -> None:
    """Raise `DataError` if the header is one cell that another separator would split into `columns`."""
    for other, (name, advice) in _SEPARATORS.items():
        parts = {part.strip(' "') for part in header[0].split(other)}
        if len(header) == 1 and len(parts) > 1 and not parts.isdisjoint(columns):
            raise DataError(place=place, expected=f"columns separated by {_SEPARATORS[separator][0]}",
                            found=name, advice=advice)


def _text_index(header: list[str], column: str | None, label_at: int | None, place: str) -> int:
    if column is not None:
        return _find(header, column, place, "text_column")
    if "text" in header:
        return _find(header, "text", place, "text_column")
    others = [i for i in range(len(header)) if i != label_at]
    if len(others) != 1:
        raise DataError(place=place, expected="a column 'text'", found=_listed(header),
                        advice=f"choose one with {setting('text_column')}")
    return others[0]


def _find(header: list[str], column: str, place: str, parameter: str) -> int:
    """Return the index of a column given by name or, if no column has that name, by number from 1."""
    if header.count(column) > 1:
        raise DataError(place=place, expected=f"one column {column!r}", found="several",
                        advice=f"set {setting(parameter)} to the number of one")
    if column in header:
        return header.index(column)
    if _is_number(column) and 1 <= int(column) <= len(header):
        return int(column) - 1
    raise DataError(place=place, expected=f"a column {column!r} in the header row", found=_listed(header),
                    advice=f"choose one with {setting(parameter)}")


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
    name: str, separator: str, rows: _Rows, holds_record: Callable[[Iterable[str]], bool],
    *extensions: str,
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
        read_judgments=partial(_read_judgments, rows=rows),
        examples={
            "texts": example(("label", "text"), ("pets", "The cat sleeps."), ("food", "We cook.")),
            "pairs": example(("The cat sleeps.", "The cat sleep."), ("We cook.", "We cooks.")),
            "judgments": example(("cat", "dog", "7.5"), ("cat", "rice", "0.3")),
        },
        settings=frozenset({"text_column", "label_column"}),
        has_labels=True,
    )


TSV = _table("tsv", "\t", _tsv_rows, holds_nonblank_line, ".tsv", ".tab")
CSV = _table("csv", ",", _csv_rows, _holds_csv_row, ".csv")
