"""Files with one entry per line: labels, words, characters. Escapes keep every entry on its own line."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from rnntool.data.model_file import damaged, read

# Line breaks, characters that an editor or a diff changes or hides, and a space at either end of an entry.
_UNSAFE = re.compile(r"[\\\x00-\x1f\x7f-\x9f\ufeff\ud800-\udfff]|[^\S ]|^ | $")
_SHORT_ESCAPES = {"\n": r"\n", "\r": r"\r", "\t": r"\t", "\\": r"\\"}
_ESCAPED_CHARACTERS = {escape: character for character, escape in _SHORT_ESCAPES.items()}
_ESCAPE = re.compile(r"\\(?:u[0-9a-f]{4}|.?)", re.DOTALL)


def write_escaped(path: Path, entries: Iterable[str]) -> None:
    r"""Write one entry per line in UTF-8, unsafe characters as \\, \n, \r, \t or \u0020."""
    path.write_bytes("".join([_UNSAFE.sub(_escape, entry) + "\n" for entry in entries]).encode())


def read_escaped(path: Path) -> list[str]:
    """Read what `write_escaped` wrote, at least one entry; `ModelError` if the file is missing or damaged."""
    try:
        text = read(path).decode()
    except UnicodeDecodeError as error:
        raise damaged(path, expected="UTF-8", found=f"another encoding at byte {error.start}") from None
    if not text.endswith("\n"):
        raise damaged(path, expected="one entry per line", found="the file cut short")
    if "\r" in text:  # line ends of Windows; a carriage return inside an entry is always escaped
        text = text.replace("\r\n", "\n")
    try:
        return [_ESCAPE.sub(_unescape, line) if "\\" in line else line for line in text.split("\n")[:-1]]
    except ValueError as error:
        raise damaged(path, str(error)) from None


def _escape(unsafe: re.Match[str]) -> str:
    return _SHORT_ESCAPES.get(unsafe[0]) or f"\\u{ord(unsafe[0]):04x}"


def _unescape(escape: re.Match[str]) -> str:
    if escape[0] in _ESCAPED_CHARACTERS:
        return _ESCAPED_CHARACTERS[escape[0]]
    if len(escape[0]) < 6:
        raise ValueError(rf"expected an escape such as \\ or \n, found {escape[0]}")
    return chr(int(escape[0][2:], 16))
