"""Readers and writers by name: which formats there are, and which one a file is in. Knows no model."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from rnntool.data.formats import conll, conllu, jsonl, tables, text
from rnntool.data.formats.tables import read_judgements
from rnntool.data.formats.text import explained_page
from rnntool.data.records import (
    Judgement,
    Pair,
    Sentence,
    SentenceWriter,
    Tagged,
    Text,
    Weighed,
    one_line,
)
from rnntool.data.streams import COMPRESSED, Lines
from rnntool.errors import DataError, UsageError

__all__ = [
    "PAIR_FORMATS",
    "SENTENCE_FORMATS",
    "TEXT_FORMATS",
    "WRITE_FORMATS",
    "Judgement",
    "Pair",
    "Sentence",
    "SentenceWriter",
    "Tagged",
    "Text",
    "Weighed",
    "explained_page",
    "guess_format",
    "one_line",
    "read_judgements",
    "read_pairs",
    "read_sentences",
    "read_texts",
    "sentence_writer",
    "split_columns",
    "whole_record",
]

TEXT_FORMATS = ("text", "tsv", "csv", "jsonl", "fasttext")
PAIR_FORMATS = ("tsv", "csv", "jsonl")
SENTENCE_FORMATS = ("text", "tokens", "conll", "conllu", "jsonl")
WRITE_FORMATS = ("text", "tokens", "inline", "conll", "conllu", "jsonl", "html")


def read_texts(
    lines: Lines,
    *,
    format: str,
    text_column: str | None = None,
    label_column: str | None = None,
    usual_label: str = "label",
    unit: str = "line",
) -> Iterator[Text]:
    """Texts and their labels, one record after the other, from one of TEXT_FORMATS.

    `unit` ("line", "paragraph", "document") counts for "text" only. The columns are names or numbers from 1,
    keys in JSONL; the defaults are "text" and "label". Where `label_column` is None, labels need not be
    there; those of a table are in `usual_label`, if that is. Raises UsageError on unknown names at once,
    DataError on bad lines as they are read.
    """
    _known(format, TEXT_FORMATS, "--from")
    if format == "text":
        return text.read(lines, unit)
    if format == "fasttext":
        return tables.read_fasttext(lines)
    if format == "jsonl":
        return jsonl.read(lines, text_column, label_column)
    return tables.read(lines, format, text_column, label_column, usual_label)


def read_pairs(
    lines: Lines, *, format: str, columns: tuple[str, str] | None = None, prefix: str | None = None
) -> Iterator[Pair]:
    """Minimal pairs from one of PAIR_FORMATS; `columns` are names in a header row, numbers, or keys.

    `prefix` is the column of what stands before both.
    """
    _known(format, PAIR_FORMATS, "--from")
    if format == "jsonl":
        return jsonl.read_pairs(lines, columns, prefix)
    return tables.read_pairs(lines, format, columns, prefix)


def read_sentences(
    lines: Lines,
    *,
    format: str,
    column: str | None = None,
    split: Callable[[str], list[tuple[int, int]]],
    need_tags: bool = False,
) -> Iterator[Sentence]:
    """Sentences from one of SENTENCE_FORMATS; blank records have no words.

    `column` says where the tags are, each format in its own way; several columns have commas between them.
    `split` gives the (start, end) characters of the words of a raw text. With `need_tags`, a format or a
    sentence without tags raises DataError.
    """
    _known(format, SENTENCE_FORMATS, "--from")
    columns = split_columns(column)
    if format == "conll":
        return conll.read(lines, columns, need_tags=need_tags)
    if format == "conllu":
        return conllu.read(lines, columns, need_tags=need_tags)
    if format == "jsonl":
        return jsonl.read_sentences(lines, columns, split, need_tags=need_tags)
    if need_tags:
        found = format if lines.head() else "an empty file"
        raise DataError(
            f"{lines.name}: expected words with tags, found {found}; see --from conll, conllu or jsonl"
        )
    return text.read_raw(lines, split) if format == "text" else text.read_tokens(lines)


def sentence_writer(
    format: str, *, column: str | None = None, probs: bool = False, spans: bool = True
) -> SentenceWriter:
    """A function of a Sentence and its Tagged that returns the exact text to write, in one of WRITE_FORMATS.

    `column` is where CoNLL-U and JSONL put the tags, as `read_sentences` takes it; CoNLL adds as many, and
    the other formats join the tags of a word. JSONL has entities where tags are `spans`. The writer's
    `header` comes before the first record and its `footer` after the last. One writer serves one output,
    whatever the number of inputs. Raises UsageError.
    """
    _known(format, WRITE_FORMATS, "--to")
    if format == "conll":
        return conll.Writer(len(split_columns(column)), probs=probs)
    if format == "conllu":
        return conllu.Writer(split_columns(column), probs=probs)
    if format == "jsonl":
        return jsonl.Writer(split_columns(column), probs=probs, spans=spans)
    if format == "html":
        return text.HtmlWriter(probs=probs)
    if probs:
        raise UsageError(
            f"--probs: {format} has no place for probabilities; see --to conll, conllu, jsonl or html"
        )
    return text.InlineWriter() if format == "inline" else text.TagsWriter()


def split_columns(column: str | None) -> tuple[str | None, ...]:
    """The names in `upos,xpos`, None for the format's own column where one is empty or all is None.

    UsageError where a name comes twice.
    """
    names = tuple(name.strip() or None for name in (column or "").split(","))
    if len(set(names)) < len(names):
        raise UsageError(f"--column: expected names or numbers, each once, with commas between, found {column!r}")
    return names


def whole_record(format: str) -> Callable[[Iterable[str]], bool]:
    """A function that says whether lines of a format hold a whole record; see `Lines.ready`."""
    return {"conll": conll.whole, "conllu": conllu.whole, "jsonl": jsonl.whole, "tsv": jsonl.whole,
            "csv": tables.whole_csv}.get(format, any)


def _known(format: str, formats: tuple[str, ...], option: str) -> None:
    if format not in formats:
        raise UsageError(f"{option}: expected one of {', '.join(formats)}, found {format!r}")


_EXTENSIONS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".csv": "csv",
    ".ft": "fasttext",
    ".fasttext": "fasttext",
    ".conllu": "conllu",
    ".conll": "conll",
    ".iob": "conll",
    ".iob2": "conll",
    ".bio": "conll",
    ".iobes": "conll",
    ".bioes": "conll",
    ".tok": "tokens",
    ".tokens": "tokens",
    ".html": "html",
    ".htm": "html",
}
# the formats that a task reads, and the one it takes where nothing tells otherwise
_BY_TASK = {
    "lm": (TEXT_FORMATS, "text"),
    "classify": (TEXT_FORMATS, "text"),
    "tag": (SENTENCE_FORMATS, "text"),
    "pairs": (PAIR_FORMATS, "tsv"),
}
_IOB = re.compile(r"O|[BIESLU]-[^\W\d]\S*")  # no I-95
_DOCSTART = re.compile(r"-DOCSTART-[^a-z]*")  # with what stands in its columns


def guess_format(path: str | Path, head: str, task: str) -> str:
    """The format of a file: its extension says, else its first lines.

    `head` is the beginning of the text, as much as there is; `task` is "lm", "classify", "tag" or "pairs".
    ".txt" and unknown extensions say nothing. Raises UsageError for an unknown task, DataError for a file of
    tags that the task doesn't read.
    """
    if task not in _BY_TASK:
        raise UsageError(f"task: expected one of {', '.join(_BY_TASK)}, found {task!r}")
    formats, default = _BY_TASK[task]
    by_name = named_format(path)
    if by_name in formats:
        return by_name
    if by_name in ("conll", "conllu"):
        raise DataError(f"{path}: expected {', '.join(formats)}, found the name of a {by_name} file; give --from "
                        "to read it as one of these")
    by_look = _look(head.removeprefix("\ufeff"), formats)
    return by_look if by_look in formats else default


def named_format(path: str | Path) -> str | None:
    """The format that a file's extension names, not counting that of a compression; None if it names none."""
    suffixes = [suffix for suffix in Path(path).suffixes if suffix.lower() not in COMPRESSED]
    return _EXTENSIONS.get(suffixes[-1].lower()) if suffixes else None


def _look(head: str, formats: tuple[str, ...]) -> str | None:
    """What the first lines look like, among `formats`; None where they could be any text."""
    rows = [row.removesuffix("\r") for row in head.split("\n")]
    if not head.endswith("\n") and len(rows) > 2:
        rows.pop()  # it may be cut off
    rows = [row for row in rows if row.strip(" \t")]
    if not rows:
        return None
    if re.match(r'\s*\{\s*["}]', rows[0]):
        return "jsonl"
    if "fasttext" in formats and rows[0].startswith("__label__"):
        return "fasttext"
    if "conllu" in formats:
        words = [row.split("\t") for row in rows if not row.startswith("#")]
        if words and all(len(cells) == 10 and cells[0][:1].isdigit() for cells in words):
            return "conllu"
    if "conll" in formats and _has_columns(rows):
        return "conll"
    for name, separator in (("tsv", "\t"), ("csv", ",")):
        header = [cell.strip('"') for cell in rows[0].split(separator)]
        names = all(cell and cell == cell.strip() for cell in header)  # a text has spaces behind its commas
        if name in formats and len(header) > 1 and names and {"text", "label"} & set(header):
            return name
    return None


def _has_columns(rows: list[str]) -> bool:
    """Whether the lines have as many columns each as CoNLL files have, and end in tags, not in words."""
    if _DOCSTART.fullmatch(rows[0]):
        return True
    separator = "\t" if "\t" in rows[0] else " "
    cells = [[cell for cell in row.split(separator) if cell] for row in rows if not _DOCSTART.fullmatch(row)]
    width = len(cells[0])
    if width < 2 or any(len(row) != width for row in cells):
        return False
    if separator == "\t":  # behind which a line of a table may have a sentence, but no tag is of two words
        last = [row[-1].strip(" ") for row in cells]
        if any(" " in tag for tag in last) or all(re.fullmatch(r"[\d.,]*\d", tag) for tag in last):
            return False
        several = len(cells) > 1 and not all(" " in row[0].strip(" ") for row in cells)
        return several or all(tag[:1] == tag[:1].upper() for tag in last)
    if len(cells) > 1 and all(_IOB.fullmatch(row[-1]) for row in cells):  # one line may end in an E-mail
        return True
    # three lines or more, words in small letters, tags in capitals: nobody writes a text like that
    words, tags = "".join([row[0] for row in cells]), "".join([row[-1] for row in cells])
    return len(cells) > 2 and words != words.upper() and tags == tags.upper()
