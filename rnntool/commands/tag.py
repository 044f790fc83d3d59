"""`rnntool tag`: tag each word of sentences."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rnntool.commands.groups import examples
from rnntool.commands.options import (
    AsJsonl,
    Compute,
    Files,
    Messages,
    Output,
    TextColumn,
    complete_model,
    format_option,
    model_option,
)
from rnntool.data.formats import FORMATS, WRITE_FORMATS, readable_formats
from rnntool.data.reading import TableReading
from rnntool.errors import DataError, UsageError, contradiction, setting
from rnntool.inference.options import TagOptions

if TYPE_CHECKING:
    from rnntool.data.records import Sentence, SentenceWriter
    from rnntool.tasks.specs.tag import TagSettings
    from rnntool.tasks.tag import TagTask

SCHEME_SAMPLE = 2000  # sentences that are read to detect the scheme of a file's tags


@examples(
    "echo 'The keys on the table are mine.' | rnntool tag",
    "rnntool tag -m en-ner --to inline news.txt",
    "rnntool tag --from tokens --to conll --probs sentences.tok > tagged.conll",
    "rnntool tag -m tagger --segmenter segmenter < text.txt > text.conllu",
)
def tag(
    *,
    files: Files = None,
    model: Annotated[str, model_option()] = "en-pos",
    output: Output = None,
    format: Annotated[str | None, format_option(", ".join(readable_formats("sentences")))] = None,
    to: Annotated[str | None, typer.Option(
        "-t", "--to", metavar="FORMAT",
        show_default="the format of the input; jsonl for tables; for raw text conll, or conllu with a "
                     "segmenter",
        help=f"Format of the output: {', '.join(WRITE_FORMATS)}. text and tokens write a line of tags.")
    ] = None,
    as_jsonl: AsJsonl = False,
    column: Annotated[str | None, typer.Option(
        "--column", metavar="NAME", show_default="as in training",
        help="Column of CoNLL-U or of a table, or JSONL key, to write the tags to.")] = None,
    text_column: TextColumn = None,
    word_column: Annotated[str | None, typer.Option(
        "--word-column", metavar="COLUMN", show_default="as in training",
        help="Column of the words: a number from 1 in CoNLL, a name in CoNLL-U Plus.")] = None,
    segmenter: Annotated[str | None, typer.Option(
        "--segmenter", metavar="MODEL", autocompletion=complete_model, show_default="that of the model",
        help="Segmenter by `rnntool train segment` that splits raw text. Without one, each line is a "
             "sentence, split by rules.")] = None,
    options: TagOptions,
    reading: TableReading,
    compute: Compute,
    messages: Messages,
) -> None:
    """Tag each word of sentences, for example with parts of speech or named entities."""
    from rnntool.commands.inputs import raw_text, raw_text_or_records, task_records
    from rnntool.commands.outputs import output_format
    from rnntool.data.formats import empty_output, split_columns
    from rnntool.data.formats import output_format as suitable_format
    from rnntool.data.formats.results import tag_keys
    from rnntool.data.streams import open_output
    from rnntool.inference import model as models
    from rnntool.tasks.tag import TagTask

    files = files or ["-"]
    to = output_format(to, as_jsonl, output, WRITE_FORMATS, messages)
    tagger = models.load(model, device=compute.device, threads=compute.threads)
    task = tagger.require(TagTask)
    if to is not None:
        _writer(task, to, column, options)  # reports wrong options before anything is read
    scheme, has_spans = options.scheme, any(column.scheme for column in task.columns)
    if scheme and not has_spans:
        raise UsageError(f"the model {tagger.name} tags words, not spans", setting="scheme",
                         advice="leave it out")
    # Tags in the input aren't needed, so their column doesn't matter.
    settings = task.settings.replace(column=None, word_column=word_column or task.settings.word_column)
    splitter = None
    if segmenter:
        for name, column_of_input in (("text_column", text_column), ("word_column", word_column)):
            if column_of_input:
                raise contradiction("segmenter", name)
        splitter = models.load_segmenter(segmenter, device=compute.device, threads=compute.threads)
        inputs = raw_text(files, reading, messages, format=format)
    else:
        read = raw_text_or_records if tagger.segmenter else task_records
        inputs = read(task, files, settings, chosen=["word_column"] if word_column else [],
                      text_column=text_column, format=format, reading=reading, messages=messages)
    if scheme is None and has_spans:
        scheme = _scheme_of_file(files[0], task, settings, format, column, reading, messages)
    with open_output(output) as out:
        lines = iter(inputs)
        first = list(islice(lines, 1))  # only now the format of the input is known
        records, ready = chain(first, lines), inputs.ready
        if tagger.segmenter and not splitter and inputs.formats[0] == "text":
            splitter = models.load(tagger.segmenter, device=compute.device, threads=compute.threads)
        if splitter:
            sentences = splitter.segmented(records, ready=ready)
            records, ready = chain(sentences), sentences.ready
        to = to or ("conllu" if splitter else suitable_format(inputs.formats[0], probs=options.probs))
        entity_scores = task.scheme is not None and FORMATS[to].writes_entity_scores
        tagged = tagger.tagged(
            records, options.replace(probs=options.probs or entity_scores, scheme=scheme),
            ready=ready, flush=out.flush)
        write = _writer(task, to, column, options)
        out.write(write.header)
        sentence = None
        for sentence, result in tagged:
            out.write(write(sentence, result))
        if sentence is None:
            keys = tag_keys(split_columns(column or default_column(task, to)))
            details = [*(["probs"] if options.probs else []), *(["entities"] if task.scheme else [])]
            out.write(empty_output(inputs.columns, ["tokens", *keys, *details], to))
        out.write(write.footer)


def _writer(task: TagTask, to: str, column: str | None, options: TagOptions) -> SentenceWriter:
    """Return the writer of a format."""
    from rnntool.data.formats import sentence_writer, split_columns

    if options.nbest and not FORMATS[to].writes_nbest:
        raise UsageError(f"the format {to} can hold only one sequence of tags", setting="nbest",
                         advice=f"write JSONL: {setting('to', 'jsonl')}")
    named = [name for name, form in FORMATS.items() if form.sentence_writer and form.named_columns]
    if column and to not in named:
        raise UsageError(f"the columns of the format {to} have no names", setting="column",
                         advice=f"give {setting('to', ' or '.join(named))}, or leave it out")
    if column and len(split_columns(column)) != len(task.columns):
        raise UsageError(
            setting="column", found=repr(column), expected=(
                f"a name for each of the {len(task.columns)} columns that the model tags"
                if len(task.columns) > 1 else "one name, because the model tags one column"))
    return sentence_writer(to, column=column or default_column(task, to), probs=options.probs,
                           spans=task.scheme is not None)


def default_column(task: TagTask, to: str) -> str | None:
    """Return where tags go in formats with named columns: the column of training, if it had a name.

    In CoNLL-U, spans that were learned from a numbered column go to the key NER of MISC, because they are not
    parts of speech.
    """
    from rnntool.data.formats import split_columns

    first, *more = split_columns(task.settings.column)
    if not _is_name(first):
        first = FORMATS[to].span_column if task.scheme else None
    names = [first or "", *(str(name) if _is_name(name) else f"Column{name}" for name in more)]
    return ",".join(names) or None


def _is_name(column: str | None) -> bool:
    """Return whether a column has a name that formats with named columns can use."""
    return column is not None and not column.lstrip("-").isdecimal() and column not in ("last", "word")


def _scheme_of_file(
    file: str, task: TagTask, settings: TagSettings, format: str | None, column: str | None,
    reading: TableReading, messages: Messages,
) -> str | None:
    """Return the scheme of a file's own tags, so that the predicted ones can be compared with them."""
    from rnntool.data.formats import split_columns
    from rnntool.data.inputs import open_with_format
    from rnntool.data.labels import detect_scheme
    from rnntool.data.progress import silent

    if not Path(file).is_file():  # standard input and named pipes can be read only once
        return None
    source = open_with_format(file, "sentences", format=format, reading=reading, log=silent)
    with source as (lines, file_format):
        if not FORMATS[file_format].has_tags:
            return None
        if FORMATS[file_format].named_columns:
            names = split_columns(column or default_column(task, file_format))
            spans = next(i for i, one in enumerate(task.columns) if one.scheme)
            settings = settings.replace(column=names[spans] if spans < len(names) else None)
        sentences = islice(task.read(lines, file_format, settings, targets=False), SCHEME_SAMPLE)
        scheme = detect_scheme(sentence.tags or () for sentence in _until_error(sentences))
    if scheme:
        messages.log(f"{file}: has tags in {scheme.upper()}; the output uses the same scheme")
    return scheme


def _until_error(sentences: Iterator[Sentence]) -> Iterator[Sentence]:
    """Yield the sentences before a bad one; the command reports the error when it tags that sentence."""
    with suppress(DataError):
        yield from sentences
