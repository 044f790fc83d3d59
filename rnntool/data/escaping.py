"""Files with one entry, or one row of cells, per line. Escapes keep every entry on its own line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from rnntool.data.model_file import damaged, read

# Line breaks, characters that an editor or a diff changes or hides, and a space at either end of an entry.
_UNSAFE = re.compile(r"[\\\x00-\x1f\x7f-\x9f\ufeff\ud800-\udfff]|[^\S ]|^ | $")
_SHORT_ESCAPES = {"\n": r"\n", "\r": r"\r", "\t": r"\t", "\\": r"\\"}
_ESCAPED_CHARACTERS = {escape: character for character, escape in _SHORT_ESCAPES.items()}
_ESCAPE = re.compile(r"\\(?:u[0-9a-f]{4}|.?)", re.DOTALL)


def write_escaped(path: Path, entries: Iterable[str]) -> None:
    r"""Write one entry per line in UTF-8, unsafe characters as \\, \n, \r, \t or \u0020."""
    write_escaped_rows(path, ((entry,) for entry in entries))


def write_escaped_rows(path: Path, rows: Iterable[Sequence[str]]) -> None:
    """Write one row per line, with tabs between its cells, which are escaped like entries."""
    lines = ["\t".join([_UNSAFE.sub(_escape, cell) for cell in row]) + "\n" for row in rows]
    path.write_bytes("".join(lines).encode())


def read_escaped(path: Path) -> list[str]:
    """Read what `write_escaped` wrote, at least one entry; `ModelError` if the file is missing or damaged."""
    try:
        return list(map(_unescaped, _lines(path)))
    except ValueError as error:
        raise damaged(path, str(error)) from None


def read_escaped_rows(path: Path, cells: int | None = None) -> list[list[str]]:
    """Read what `write_escaped_rows` wrote, with so many `cells` in a row, or any number.

    Raises `ModelError` if the file is missing or damaged.
    """
    rows = [line.split("\t") for line in _lines(path)]
    try:
        if wrong := next((row for row in rows if len(row) != (cells or len(row))), None):
            raise ValueError(f"expected {cells} cells in a line, found {len(wrong)}")
        return [list(map(_unescaped, row)) for row in rows]
    except ValueError as error:
        raise damaged(path, str(error)) from None


def _lines(path: Path) -> list[str]:
    """Return the lines of a file; `ModelError` if it is missing or cut short."""
    try:
        text = read(path).decode()
    except UnicodeDecodeError as error:
        raise damaged(path, expected="UTF-8", found=f"another encoding at byte {error.start}") from None
    if not text.endswith("\n"):
        raise damaged(path, expected="one entry per line", found="the file cut short")
    if "\r" in text:  # line ends of Windows; a carriage return inside an entry is always escaped
        text = text.replace("\r\n", "\n")
    return text.split("\n")[:-1]


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(_unescape, text) if "\\" in text else text


def _escape(unsafe: re.Match[str]) -> str:
    return _SHORT_ESCAPES.get(unsafe[0]) or f"\\u{ord(unsafe[0]):04x}"


def _unescape(escape: re.Match[str]) -> str:
    if escape[0] in _ESCAPED_CHARACTERS:
        return _ESCAPED_CHARACTERS[escape[0]]
    if len(escape[0]) < 6:
        raise ValueError(rf"expected an escape such as \\ or \n, found {escape[0]}")
    return chr(int(escape[0][2:], 16))
