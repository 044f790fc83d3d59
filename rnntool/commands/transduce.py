"""`rnntool transduce`: turn each sequence into another one."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rnntool.commands.groups import examples
from rnntool.commands.options import (
    AsJsonl,
    Compute,
    Files,
    Messages,
    Output,
    format_option,
    model_option,
)
from rnntool.data.formats import RECORD_FORMATS, empty_output, merged, readable_formats, record_writer
from rnntool.data.reading import TableReading
from rnntool.errors import UsageError, setting
from rnntool.inference.options import TransduceOptions

if TYPE_CHECKING:
    from rnntool.data.formats import RecordWriter
    from rnntool.data.records import Transduction
    from rnntool.tasks.transduce import Transduced, TransduceTask

FORMATS = ("text", *RECORD_FORMATS)  # of the output
ANSWER = ("target", "log_prob", "score", "truncated")  # what tables add to a source


@examples(
    "echo recurrent | rnntool transduce",
    "rnntool transduce --beam 1 words.txt > pronunciations.txt",
    "rnntool transduce --n-best 3 --jsonl words.txt",
    "rnntool transduce -m inflector --source-columns lemma,features forms.tsv",
)
def transduce(
    *,
    files: Files = None,
    model: Annotated[str, model_option()] = "en-g2p",
    output: Output = None,
    format: Annotated[str | None, format_option(", ".join(readable_formats("sequences")))] = None,
    source_columns: Annotated[str | None, typer.Option(
        "--source-columns", metavar="COLUMN[,COLUMN…]", show_default="as in training",
        help="Columns or keys of the source.")] = None,
    to: Annotated[str | None, typer.Option(
        "-t", "--to", metavar="FORMAT", show_default="text",
        help=f"Format of the output: {', '.join(FORMATS)}.")] = None,
    as_jsonl: AsJsonl = False,
    alignments: Annotated[bool, typer.Option(
        "--alignments", help="Add how much each token of the target looked at each token of the source. "
                             "Needs the format jsonl.")] = False,
    options: TransduceOptions,
    reading: TableReading,
    compute: Compute,
    messages: Messages,
) -> None:
    """Turn each sequence into another one, such as a word into its pronunciation.

    One line in, one line out. With --n-best, a line has several targets with tabs between them.
    """
    from rnntool.commands.inputs import task_records
    from rnntool.commands.outputs import output_format
    from rnntool.data.streams import open_output
    from rnntool.inference import model as models
    from rnntool.tasks.transduce import TransduceTask

    written_as = output_format(to, as_jsonl, output, FORMATS, messages) or "text"
    if alignments and written_as != "jsonl":
        raise UsageError(f"the format {written_as} has no place for them", setting="alignments",
                         advice=f"give {setting('as_jsonl')}")
    loaded = models.load(model, device=compute.device, threads=compute.threads)
    task = loaded.require(TransduceTask)
    if alignments and not task.has_attention:
        raise UsageError("the model has no attention", setting="alignments", advice="leave it out")
    if options.sample and options.seed is None:
        options = options.replace(seed=secrets.randbelow(1 << 32))
        messages.log(setting("seed", options.seed))
    settings = task.settings.replace(source_columns=source_columns or task.settings.source_columns)
    inputs = task_records(
        task, files or ["-"], settings, chosen=["source_columns"] if source_columns else [], format=format,
        reading=reading, messages=messages)
    write = None if written_as == "text" else record_writer(written_as)
    records = truncated = unknown = 0
    with open_output(output) as out:
        for record, results in loaded.transduced(inputs, options, ready=inputs.ready, flush=out.flush):
            records += 1
            truncated += results[0].truncated
            unknown += task.has_unknown(record)
            if write is None:
                out.write("\t".join(result.text for result in results) + "\n")
            else:
                out.writelines(_rows(write, written_as, record, results, task if alignments else None,
                                     several=options.n_best > 1))
        if not records and inputs.columns is not None:
            names = [*(["rank"] if options.n_best > 1 else []), *ANSWER]
            out.write(empty_output(inputs.columns, names, written_as))
    if truncated:
        messages.warn(f"{truncated:,} of {records:,} targets reached the length limit and are cut off; "
                      f"raise {setting('length_limit')} if they should be longer")
    if unknown:
        messages.warn(f"{unknown:,} of {records:,} sources have a token that {loaded.name} has never seen")


def _rows(
    write: RecordWriter, to: str, record: Transduction, results: Sequence[Transduced],
    task: TransduceTask | None, *, several: bool,
) -> Iterator[str]:
    """Return the text of a record with its targets: an object in JSONL, a row for each target in tables.

    `several` says that a record can have several targets. With a `task`, the object also has alignments.
    """
    fields = {"source": record.source} if record.fields is None else record.fields
    answers = [_answer(record, result, task) for result in results]
    if to == "jsonl" or not several:
        best = {**answers[0], "nbest": answers} if several else answers[0]
        yield write(merged(fields, best), {}, record.place)
        return
    for rank, answer in enumerate(answers, 1):
        yield write(merged(fields, {"rank": rank, **answer}), {}, record.place)


def _answer(record: Transduction, result: Transduced, task: TransduceTask | None) -> dict[str, Any]:
    """Return what is known of a target."""
    values = result.text, round(result.log_prob, 6), round(result.score, 6), result.truncated
    answer: dict[str, Any] = dict(zip(ANSWER, values, strict=True))
    if task is not None and result.alignment is not None:
        end = [] if result.truncated else ["</s>"]
        answer |= {"source_tokens": task.source_pieces(record), "target_tokens": [*result.tokens, *end],
                   "alignment": [[round(float(weight), 4) for weight in row] for row in result.alignment]}
    return answer
