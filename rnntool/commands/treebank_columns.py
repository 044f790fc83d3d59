"""Which columns of a treebank a tagger can learn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from rnntool.commands.options import Messages
from rnntool.data.formats import read_sentences
from rnntool.data.inputs import Inputs
from rnntool.data.reading import TableReading
from rnntool.data.records import Sentence
from rnntool.data.streams import Lines, input_names
from rnntool.errors import DataError, setting
from rnntool.tasks.specs.tag import UD_COLUMNS
from rnntool.tokenize import split_words


def annotated_columns(
    files: Sequence[str], format: str | None, reading: TableReading, messages: Messages
) -> str:
    """Return the names of the columns with at least two different values, joined by commas.

    Standard input and pipes can't be read twice, so with one of them the names of all columns are returned.
    Raises `DataError` for files that aren't CoNLL-U, and if no column has two different values.
    """
    if not files or not all(path != "-" and Path(path).is_file() for path in files):
        return ",".join(UD_COLUMNS)

    def read(lines: Lines, name: str) -> Iterator[Sentence]:
        if name != "conllu":
            raise DataError(place=lines.name, expected="a treebank in CoNLL-U", found=name,
                            advice=f"if it is CoNLL-U, say so with {setting('format', 'conllu')}")
        return read_sentences(lines, format=name, column=",".join(UD_COLUMNS), split=split_words)

    values: list[set[str]] = [set() for _ in UD_COLUMNS]
    for sentence in Inputs(files, "sentences", read, format=format, reading=reading, log=messages.log,
                           supervised=True):
        for of_column, tags in zip(values, (sentence.tags, *sentence.more_tags), strict=True):
            of_column.update(tags)
    columns = [name for name, of_column in zip(UD_COLUMNS, values, strict=True) if len(of_column) > 1]
    if not columns:
        raise DataError(place=input_names(files), expected=f"tags in one of {', '.join(UD_COLUMNS)}",
                        found="at most one value in each", advice="give a treebank that has some")
    if missing := [name for name in UD_COLUMNS if name not in columns]:
        messages.warn(f"{input_names(files)}: nothing to learn in the column{'s' * (len(missing) > 1)} "
                      f"{', '.join(missing)}")
    return ",".join(columns)
