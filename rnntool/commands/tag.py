"""`rnntool tag`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from itertools import chain, islice
from pathlib import Path

from rnntool.commands.common import Common
from rnntool.commands.inputs import task_records
from rnntool.data.formats import (
    FORMATS,
    WRITE_FORMATS,
    Sentence,
    SentenceWriter,
    output_format,
    sentence_writer,
    split_columns,
)
from rnntool.data.inputs import opened
from rnntool.data.labels import detect_scheme
from rnntool.data.progress import silent
from rnntool.data.streams import open_output
from rnntool.errors import DataError, UsageError
from rnntool.inference import model as models
from rnntool.inference.options import TagOptions
from rnntool.tasks.specs.tag import TagSettings
from rnntool.tasks.tag import TagTask

SCHEME_SAMPLE = 2000  # sentences that tell which scheme a file's own tags are in


def run(
    files: list[str], *, model: str, output: str | None, format: str | None, to: str | None,
    column: str | None, scheme: str | None, probs: bool, nbest: int, threshold: float, common: Common,
) -> None:
    """Tag files, one record out for each record in."""
    tagger = models.load(model, device=common.device, threads=common.threads)
    task = tagger.require(TagTask)
    to = to or common.output_format(output, WRITE_FORMATS)
    if to is not None:
        _writer(task, to, to, column, probs, nbest)  # says at once what is wrong with it
    if scheme and not any(column.scheme for column in task.columns):
        raise UsageError(f"--scheme: the model {model} tags words, not spans; leave it out")
    # Tags that the input has already aren't needed, so it doesn't matter which column they are in.
    settings = task.settings.replace(column=None)
    inputs = task_records(task, files, settings, format=format, common=common)
    if scheme is None and any(column.scheme for column in task.columns):
        scheme = _own_scheme(files[0], task, settings, format, column, common)
    with open_output(output) as out:
        records = iter(inputs)
        first = list(islice(records, 1))  # tells the format
        came_in = inputs.formats[0]
        scored = task.scheme is not None and FORMATS[to or came_in].writes_entity_scores
        options = TagOptions(probs=probs or scored, nbest=nbest, scheme=scheme, threshold=threshold)
        tagged = tagger.tagged(chain(first, records), options, ready=inputs.ready, flush=out.flush)
        write = _writer(task, to, came_in, column, probs, nbest)
        out.write(write.header)
        for sentence, result in tagged:
            out.write(write(sentence, result))
        out.write(write.footer)


def _writer(
    task: TagTask, to: str | None, came_in: str, column: str | None, probs: bool, nbest: int
) -> SentenceWriter:
    """What was asked for, or what came in; columns for raw text, and where probabilities need a column."""
    if to is None:
        to = output_format(came_in, probs=probs)
    if nbest and not FORMATS[to].writes_nbest:
        raise UsageError(f"--nbest: {to} has no place for several sequences; give --jsonl")
    if column and not FORMATS[to].named_columns:
        raise UsageError(f"--column: {to} has no columns with names; leave it out, or give --to conllu or "
                         "jsonl")
    if column and len(split_columns(column)) != len(task.columns):
        raise UsageError(f"--column: expected {len(task.columns)} names, as many columns as the model tags, "
                         f"found {column!r}")
    return sentence_writer(to, column=column or _written_column(task, to), probs=probs,
                           spans=task.scheme is not None)


def _written_column(task: TagTask, to: str) -> str | None:
    """Where tags go in formats that name their columns: where the model learned them, if that was a name.

    In CoNLL-U, spans that were learned from a numbered column go to the MISC key NER; they are no parts of
    speech.
    """
    first, *more = split_columns(task.settings.column)
    if not _is_name(first):
        first = FORMATS[to].span_column if task.scheme else None
    names = [first or "", *(str(name) if _is_name(name) else f"Column{name}" for name in more)]
    return ",".join(names) or None


def _is_name(column: str | None) -> bool:
    """Whether a column has a name that formats with named columns can use."""
    return column is not None and not column.lstrip("-").isdecimal() and column not in ("last", "word")


def _own_scheme(
    file: str, task: TagTask, settings: TagSettings, format: str | None, column: str | None, common: Common
) -> str | None:
    """The scheme of a file's own tags, which others replace or stand beside, to be compared."""
    if not Path(file).is_file():  # standard input and named pipes can be read only once
        return None
    source = opened(file, "sentences", format=format, errors=common.encoding_errors, log=silent)
    with source as (lines, found):
        if not FORMATS[found].has_tags:
            return None
        if FORMATS[found].named_columns:
            names = split_columns(column or _written_column(task, found))
            spans = next(i for i, one in enumerate(task.columns) if one.scheme)
            settings = settings.replace(column=names[spans] if spans < len(names) else None)
        sentences = islice(task.read(lines, found, settings, targets=False), SCHEME_SAMPLE)
        scheme = detect_scheme(sentence.tags or () for sentence in _good(sentences))
    if scheme:
        common.log(f"{file}: has tags in {scheme.upper()}; they are written so")
    return scheme


def _good(sentences: Iterator[Sentence]) -> Iterator[Sentence]:
    """The sentences before a bad one, which is told of when its turn comes."""
    with suppress(DataError):
        yield from sentences
