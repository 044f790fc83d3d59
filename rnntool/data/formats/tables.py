"""Tables of texts: TSV and CSV with a header row, and fastText lines. Knows nothing of models."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Iterator, Sequence

from rnntool.data.formats.conll import is_blank
from rnntool.data.records import Judgement, Pair, Text
from rnntool.data.streams import Lines, chomp
from rnntool.errors import DataError, UsageError

_CELL_LIMIT = 2**31 - 1  # characters; the csv module's own limit is 131,072
_SHOWN = 20  # column names that a message lists
_SEPARATORS = (("\t", "tabs", "give --from tsv"), (",", "commas", "give --from csv"),
               (";", "semicolons", "save the table with commas or tabs"))
_PAIR_NAMES = (("good", "bad"), ("sentence_good", "sentence_bad"))  # no sentences, but a header row
_FASTTEXT_LABEL = re.compile(r"(?:(?<=[ \t])|^)__label__([^ \t]+)[ \t]*")


def whole_csv(lines: Iterable[str]) -> bool:
    """Whether lines hold a row to its end, with all its quotes closed; white space only may be none."""
    quotes, begun = 0, False
    for line in lines:
        quotes += line.count('"')
        begun = begun or not is_blank(line)
        if begun and quotes % 2 == 0:
            return True
    return False


def read(
    lines: Lines, format: str, text_column: str | None, label_column: str | None, usual_label: str
) -> Iterator[Text]:
    """One record a row after the header; `fields` is the row by column name.

    A column is given by name or by number from 1. The text is by default the column "text", else the only one
    that isn't the label; labels come from `usual_label` if it is there and None was asked for. An empty label
    is none.
    """
    rows = _rows(lines, format)
    header, place = next(rows, (None, ""))
    if header is None:
        return
    _check_separator(header, format, ("text", "label", text_column, label_column), place)
    label_at = None
    if label_column is not None:
        label_at = _find(header, label_column, place, "--label-column")
    elif usual_label in header:
        label_at = header.index(usual_label)
    text_at = _text_index(header, text_column, label_at, place)
    if text_at == label_at and label_column is not None:
        raise DataError(f"{place}: expected the text and the label in two columns, found {header[text_at]!r} for "
                        "both; see --text-column and --label-column")
    names = _each_its_own(header)
    for cells, place in _records(rows, len(header)):
        label = "" if label_at is None else cells[label_at]
        yield Text(cells[text_at], (label,) if label else (), dict(zip(names, cells, strict=True)), place)


def read_pairs(
    lines: Lines, format: str, columns: tuple[str, str] | None, prefix: str | None
) -> Iterator[Pair]:
    """Pairs from two columns, and what stands before both from a third.

    Only where one of these is a name is there a header row.
    """
    if prefix and columns is None:
        raise UsageError("--prefix: expected the columns of what follows, found none; give --columns GOOD,BAD")
    rows = _rows(lines, format)
    named = {"--columns": columns or (), "--prefix": (prefix,) if prefix else ()}
    if all(_is_number(column) for names in named.values() for column in names):
        good, bad = (int(columns[0]) - 1, int(columns[1]) - 1) if columns else (0, 1)
        before = int(prefix) - 1 if prefix else None
        width = max(good, bad, before or 0) + 1
        for cells, place in rows:
            if not any(cells):
                continue
            if len(cells) < width or (columns is None and len(cells) != 2):
                want = "2" if columns is None else f"at least {width}"
                raise DataError(f"{place}: expected {want} columns, found {len(cells)}; see --columns")
            if columns is None and tuple(cells) in _PAIR_NAMES:
                raise DataError(f"{place}: expected two sentences, found names of columns; give --columns "
                                f"{','.join(cells)}")
            yield Pair(cells[good], cells[bad], None, place, None if before is None else cells[before])
        return
    header, place = next(rows, (None, ""))
    if header is None:
        return
    _check_separator(header, format, (*named["--columns"], prefix), place)
    found = [_find(header, column, place, option) for option, names in named.items() for column in names]
    names = _each_its_own(header)
    for cells, place in _records(rows, len(header)):
        better, worse, *rest = [cells[i] for i in found]
        fields = dict(zip(names, cells, strict=True))
        yield Pair(better, worse, fields, place, rest[0] if rest else None)


def read_judgements(
    lines: Lines, format: str, columns: Sequence[str] = ("1", "2", "3")
) -> Iterator[Judgement]:
    """Two words and a number from three columns, given by number or by the names of a header row.

    Where all are numbers, a first row whose third cell is none is a header, too.
    """
    rows = _rows(lines, format)
    at = [int(column) - 1 for column in columns if _is_number(column)]
    if len(at) < len(columns):
        header, place = next(rows, ([], f"{lines.name}:1"))
        at = [_find(header, column, place, "--columns") for column in columns]
    for number, (cells, place) in enumerate(rows):
        if not any(cells):
            continue
        if len(cells) <= max(at):
            raise DataError(f"{place}: expected {max(at) + 1} columns or more, found {len(cells)}; see --columns")
        first, second, score = (cells[i].strip() for i in at)
        judged = _judged(score)
        if judged is not None:
            yield Judgement(first, second, judged)
        elif number or place != f"{lines.name}:1":
            raise DataError(f"{place}: expected a number as judgement, found {score!r}; see --columns")


def read_fasttext(lines: Lines) -> Iterator[Text]:
    """One record a line: words that begin with `__label__`, wherever they stand, are its labels."""
    for line in lines:
        text = chomp(line)
        labels: list[str] = []
        if "__label__" in text:
            labels = _FASTTEXT_LABEL.findall(text)
            text = _FASTTEXT_LABEL.sub("", text).strip(" \t") if labels else text
        yield Text(text, tuple(labels), place=lines.place())


def _rows(lines: Lines, format: str) -> Iterator[tuple[list[str], str]]:
    """The cells of each row and the place where it begins; TSV has no quoting, CSV that of RFC 4180."""
    if format == "tsv":
        for line in lines:
            yield chomp(line).split("\t"), lines.place()
        return
    csv.field_size_limit(_CELL_LIMIT)
    reader = csv.reader(lines, strict=True)
    while True:
        place = f"{lines.name}:{lines.number + 1}"
        try:
            cells = next(reader, None)
        except csv.Error as e:
            if "new-line character" in str(e):  # what else it says is about Python's open()
                raise DataError(f"{place}: expected CSV, found a carriage return that ends no line; quote its "
                                "cell, or convert the line ends") from None
            raise DataError(f"{place}: expected CSV, found {e}; check the quotes of this row") from None
        if cells is None:
            return
        yield cells or [""], place


def _records(rows: Iterator[tuple[list[str], str]], width: int) -> Iterator[tuple[list[str], str]]:
    """The rows, checked; a blank line is an empty cell in a table of one column, and no row in any other."""
    for cells, place in rows:
        if len(cells) == width:
            yield cells, place
        elif cells != [""]:
            raise DataError(
                f"{place}: expected {width} columns as in the header, found {len(cells)}; "
                "check for stray separators and quotes"
            )


def _each_its_own(header: list[str]) -> list[str]:
    """The names of columns, one that comes again with its number behind it, so that no field is lost."""
    names: list[str] = []
    for name in header:
        number, own = 1, name
        while own in names or (number > 1 and own in header):
            number += 1
            own = f"{name}_{number}"
        names.append(own)
    return names


def _check_separator(header: list[str], format: str, wanted: Iterable[str | None], place: str) -> None:
    """`DataError` for a header of one cell, with columns in it that another separator would part."""
    for separator, name, remedy in _SEPARATORS:
        parts = {part.strip(' "') for part in header[0].split(separator)}
        if len(header) == 1 and len(parts) > 1 and not parts.isdisjoint(wanted):
            raise DataError(f"{place}: expected columns with {'tabs' if format == 'tsv' else 'commas'} between "
                            f"them, found {name}; {remedy}")


def _text_index(header: list[str], column: str | None, label_at: int | None, place: str) -> int:
    if column is not None:
        return _find(header, column, place, "--text-column")
    if "text" in header:
        return _find(header, "text", place, "--text-column")
    others = [i for i in range(len(header)) if i != label_at]
    if len(others) != 1:
        raise DataError(f"{place}: expected a column 'text', found {_names(header)}; see --text-column")
    return others[0]


def _find(header: list[str], column: str, place: str, option: str) -> int:
    """Index of a column given by name or, where no column has that name, by number from 1."""
    if header.count(column) > 1:
        raise DataError(f"{place}: expected one column {column!r}, found several; give {option} a number")
    if column in header:
        return header.index(column)
    if _is_number(column) and 1 <= int(column) <= len(header):
        return int(column) - 1
    raise DataError(
        f"{place}: expected a column {column!r} in the header row, found {_names(header)}; see {option}"
    )


def _is_number(column: str) -> bool:
    return column.isascii() and column.isdigit() and len(column) < 10 and int(column) > 0


def _judged(text: str) -> float | None:
    """A judgement as it stands there; None for what is no number, nan and inf among them."""
    try:
        score = float(text)
    except ValueError:
        return None
    return score if math.isfinite(score) else None


def _names(header: list[str]) -> str:
    names = ", ".join([repr(name if len(name) <= 30 else name[:29] + "…") for name in header[:_SHOWN]])
    return names + (", …" if len(header) > _SHOWN else "")
