"""Files with a name on each line: labels, words, characters. Whatever is in a name, it takes one line."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from rnntool.errors import ModelError

# What would break a line, or an editor or a diff would not leave or show; a space is one at either end only.
_UNSAFE = re.compile(r"[\\\x00-\x1f\x7f-\x9f\ufeff\ud800-\udfff]|[^\S ]|^ | $")
_SHORT = {"\n": r"\n", "\r": r"\r", "\t": r"\t", "\\": r"\\"}
_LONG = {short: char for char, short in _SHORT.items()}
_ESCAPED = re.compile(r"\\(?:u[0-9a-f]{4}|.?)", re.DOTALL)


def write_names(path: Path, names: Iterable[str]) -> None:
    r"""One name a line; \\, \n, \r, \t, \u0020 and the like stand for what a line can't show."""
    path.write_bytes("".join([_UNSAFE.sub(_escape, name) + "\n" for name in names]).encode())


def read_names(path: Path) -> list[str]:
    """The names that `write_names` wrote, one at least; `ModelError` where the file is missing or damaged."""
    try:
        text = path.read_bytes().decode()
        if not text.endswith("\n"):
            raise ValueError("expected a name a line, found the file cut short")
        if "\r" in text:  # Windows' line ends: one that is part of a name is written as an escape
            text = text.replace("\r\n", "\n")
        lines = text.split("\n")[:-1]
        return [_ESCAPED.sub(_unescape, line) if "\\" in line else line for line in lines]
    except UnicodeDecodeError as error:
        found = f"expected UTF-8, found something else at byte {error.start}"
    except OSError as error:
        found = f"expected a name a line, found: {error.strerror}"
    except ValueError as error:
        found = str(error)
    raise ModelError(f"{path}: {found}; copy the model again")


def _escape(unsafe: re.Match[str]) -> str:
    return _SHORT.get(unsafe[0]) or f"\\u{ord(unsafe[0]):04x}"


def _unescape(escaped: re.Match[str]) -> str:
    if escaped[0] in _LONG:
        return _LONG[escaped[0]]
    if len(escaped[0]) < 6:
        raise ValueError(rf"expected \\, \n, \r, \t or \u and four digits, found {escaped[0]}: that is no escape")
    return chr(int(escaped[0][2:], 16))
