"""How input files are read: their encoding, and the shape of tables. The user chooses it for each command."""

from __future__ import annotations

import codecs
from dataclasses import dataclass

from rnntool.data.options import Options, option
from rnntool.errors import UsageError, setting

PANEL = "Common options"
_NAMED_DELIMITERS = {"tab": "\t", "\\t": "\t"}


def encoding_name(name: str) -> str:
    """Return the usual name of a text encoding; `UsageError` if Python has no such encoding."""
    try:
        found = codecs.lookup(name)
        "".encode(found.name)  # LookupError if the codec is not a text encoding, such as base64
    except (LookupError, ValueError):
        raise UsageError(setting="encoding", expected="the name of an encoding, such as cp1252 or utf-16",
                         found=repr(name)) from None
    return found.name


def delimiter_character(text: str) -> str:
    """Return the character that separates columns; `UsageError` if `text` can't be one."""
    character = _NAMED_DELIMITERS.get(text, text)
    if len(character) != 1 or character in '"\r\n':
        raise UsageError(setting="delimiter", expected="one character, or the word tab", found=repr(text))
    return character


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What the user says about a file, apart from the settings of a task.

    Formats without columns ignore it. A file must have the `text_column`; with None, the settings choose the
    column. With None as `delimiter`, the format's usual one is used. Without a `header`, columns have only
    numbers.
    """

    text_column: str | None = None
    delimiter: str | None = None
    header: bool = True


USUAL_LAYOUT = Layout()


@dataclass(frozen=True, kw_only=True)
class Reading(Options):
    """How the bytes of the input are decoded."""

    encoding: str = option("utf-8", "Encoding of the input, such as cp1252 or utf-16.", panel=PANEL,
                           metavar="NAME", check=encoding_name)
    encoding_errors: str = option(
        "strict", f"If the input is not valid in its {setting('encoding')}, stop (strict), or insert U+FFFD "
                  "(replace).", panel=PANEL, choices=("strict", "replace"))


@dataclass(frozen=True, kw_only=True)
class TableReading(Reading):
    """How the bytes of the input are decoded, and where the cells of tables are."""

    delimiter: str | None = option(
        None, "Character that separates the columns of a table. Write tab for a tab.", panel=PANEL,
        metavar="CHARACTER", shown_default="a tab in tsv, a comma in csv", check=delimiter_character)
    no_header: bool = option(
        False, "The first row of a table is a record. Columns have numbers instead of names.", panel=PANEL)

    def layout(self, text_column: str | None = None) -> Layout:
        """Return what the formats need to know."""
        return Layout(text_column=text_column, delimiter=self.delimiter, header=not self.no_header)

    def table_settings(self) -> list[str]:
        """Return the names of settings that the user chose and that apply to tables only."""
        return [name for name in ("delimiter", "no_header") if getattr(self, name)]


USUAL_READING = TableReading()
