"""CMUdict lines: a word, spaces, and its phones. `WORD(1)` and `WORD(2)` give further ones of WORD."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import partial

from rnntool.data.formats.base import (
    Format,
    SequenceOptions,
    check_transduction,
    holds_nonblank_line,
    labeled,
)
from rnntool.data.records import Transduction
from rnntool.data.streams import Lines, chomp
from rnntool.errors import DataError, setting

_COMMENT = re.compile(r"^(?:;;;|##|#(?=\s|$)).*|\s+#.*")  # words such as #HASH-MARK begin with a hash
_VARIANT = re.compile(r"(?<=.)\(\d+\)$")
_ENTRY = re.compile(r"\S+ +[A-Z]{1,2}[0-2]?(?: [A-Z]{1,2}[0-2]?)*")
_STRESSED = re.compile(r" [A-Z]{2}[0-2]\b")


def _read_sequences(lines: Lines, options: SequenceOptions) -> Iterator[Transduction]:
    """Read a word and its phones from each line that has more than a comment."""
    if len(options.source_columns) > 1:
        raise DataError(place=lines.name, expected=f"columns {', '.join(options.source_columns)}",
                        found="words and their phones", advice=f"set {setting('format')}")
    for line in lines:
        entry = _COMMENT.sub("", chomp(line)).rstrip()
        if not entry:
            continue
        word, *rest = re.split(r"\s+", entry, maxsplit=1)
        word, phones = _VARIANT.sub("", word), " ".join(" ".join(rest).split())
        record = Transduction(word, (phones,) if phones else (),
                              fields={"source": word, "target": phones}, place=lines.place())
        yield from labeled(options.on_unlabeled, partial(check_transduction, record, options))


def _recognizes(rows: Sequence[str]) -> bool:
    """Whether the first lines are comments and entries with phones of English, some of which have stress."""
    entries = [entry for row in rows if (entry := _COMMENT.sub("", row).rstrip())]
    return all(map(_ENTRY.fullmatch, entries)) and any(map(_STRESSED.search, entries))


CMUDICT = Format(
    name="cmudict",
    extensions=(".dict",),
    signature=re.compile(r";;; # CMUdict"),
    recognizes=_recognizes,
    holds_record=holds_nonblank_line,
    read_sequences=_read_sequences,
    examples={"sequences": ";;; # CMUdict\nCAT  K AE1 T\nREAD  R EH1 D\nREAD(1)  R IY1 D\n"},
    has_targets=True,
)
