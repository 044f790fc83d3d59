"""Find the JSON values of a file: one on each line, or over several lines, as pretty printers write them.

Doesn't know what the values mean. Never holds an array over several lines in memory as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from rnntool.data.streams import Lines, chomp, is_blank
from rnntool.errors import DataError

MISSING: Any = object()  # what `lookup` returns for a key that doesn't exist

# A JSON string never continues on the next line, so each line can be searched by itself.
_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*"?|[\[\]{}]')
_OPENING, _CLOSING = ("[", "{"), ("]", "}")
_INDEX_DIGITS = 9


def json_values(lines: Lines) -> Iterator[tuple[str, int]]:
    """Yield the text of each value and the number of its first line; blank lines are skipped.

    The first line decides. If it begins an array or an object without ending it, a value may take any number
    of lines: each element of an array is a value, or each object. `DataError` for anything else between
    values.
    """
    first = next((line for line in lines if not is_blank(line)), None)
    if first is None:
        return
    lines.push_back(first)
    if _goes_on(first):
        yield from _spread_values(lines, outer=1 if first.lstrip()[0] == "[" else 0)
    else:
        for line in lines:
            if not is_blank(line):
                yield chomp(line), lines.number


def lookup(record: dict[str, Any], key: str) -> Any:
    """Return the value of a key or path such as `data.text` or `spans.0.label`; `MISSING` if it has none."""
    if key in record:
        return record[key]
    value: Any = record
    for part in key.split("."):
        if isinstance(value, dict):
            value = value.get(part, MISSING)
        elif isinstance(value, list) and part.isascii() and part.isdigit() and len(part) <= _INDEX_DIGITS:
            value = value[int(part)] if int(part) < len(value) else MISSING
        else:
            return MISSING
    return value


def _goes_on(line: str) -> bool:
    """Whether a first line is the beginning of a pretty-printed array or object."""
    text = line.strip()
    if text[0] not in _OPENING or text[-1] not in "[{,":
        return False
    brackets = _STRING_OR_BRACKET.findall(text)
    return sum(bracket in _OPENING for bracket in brackets) > sum(bracket in _CLOSING for bracket in brackets)


def _spread_values(lines: Lines, *, outer: int) -> Iterator[tuple[str, int]]:
    """Yield the values that have `outer` brackets around them."""
    depth = number = 0
    parts: list[str] = []  # of the open value; spaces replace what precedes it in its line
    for line in lines:
        begin = end = 0  # where the open value begins, and where the last bracket around values ends
        for match in _STRING_OR_BRACKET.finditer(line):
            if match[0] in _OPENING:
                if depth <= outer:
                    begin, number = match.start(), lines.number
                    _check_between(line[end:begin], lines)
                    end = match.end()
                depth += 1
            elif match[0] in _CLOSING:
                if depth <= outer:  # the end of an array, or one bracket too many
                    _check_between(line[end : match.start()] + ("" if depth else match[0]), lines)
                depth -= 1
                if depth <= outer:
                    end = match.end()
                if depth == outer:
                    yield "".join(parts) + " " * begin + line[begin:end], number
                    parts, begin = [], 0
        if depth > outer:
            parts.append(" " * begin + line[begin:])
        else:
            _check_between(line[end:], lines)
    if parts:
        yield "".join(parts), number  # the parser says what is missing
    elif depth:
        raise DataError(place=lines.place(), expected="a ] at the end of the array",
                        found="the end of the file", advice="check that the file is complete")


def _check_between(text: str, lines: Lines) -> None:
    text = text.strip()
    if text not in ("", ","):
        raise DataError(place=lines.place(), expected="a JSON object", found=repr(text[:30]),
                        advice='write it as {"text": …}')
