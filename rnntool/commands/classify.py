"""`rnntool classify`: label each text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rnntool.commands import console
from rnntool.commands.groups import examples
from rnntool.commands.options import (
    AsJsonl,
    Compute,
    Files,
    Messages,
    Output,
    TextColumn,
    format_option,
    model_option,
)
from rnntool.data.formats import LABEL_FORMATS, readable_formats
from rnntool.data.reading import TableReading
from rnntool.inference.options import ClassifyOptions

if TYPE_CHECKING:
    from rnntool.data.inputs import Inputs
    from rnntool.data.records import LabelWriter, Text, WordWeight
    from rnntool.inference.model import Model
    from rnntool.tasks.classify import Classified

    Answer = tuple[Text, Classified, Sequence[WordWeight] | None]  # with the words if they are explained


@examples(
    "echo 'Who wrote Hamlet ?' | rnntool classify --probs",
    "rnntool classify questions.jsonl --jsonl --top 3",
    "rnntool classify --explain --to html questions.txt > why.html",
)
def classify(
    *,
    files: Files = None,
    model: Annotated[str, model_option()] = "en-question",
    output: Output = None,
    format: Annotated[str | None, format_option(", ".join(readable_formats("texts")))] = None,
    text_column: TextColumn = None,
    to: Annotated[str | None, typer.Option(
        "-t", "--to", metavar="FORMAT", show_default="text",
        help=f"Format of the output: {', '.join(LABEL_FORMATS)}.")] = None,
    as_jsonl: AsJsonl = False,
    probs: Annotated[bool, typer.Option("--probs", help="Add the probability of each label.")] = False,
    explain: Annotated[bool, typer.Option(
        "--explain", help="Add the weight of each word: how much the label's probability drops without it. "
                     "On a terminal, words are colored.")
    ] = False,
    options: ClassifyOptions,
    reading: TableReading,
    compute: Compute,
    messages: Messages,
) -> None:
    """Label each text: one line in, one line out."""
    from rnntool.commands.inputs import task_records
    from rnntool.commands.outputs import output_format
    from rnntool.data.formats import empty_output, label_writer
    from rnntool.data.formats.results import label_results
    from rnntool.data.streams import open_output
    from rnntool.inference import model as models
    from rnntool.inference.model import choose
    from rnntool.tasks.classify import ClassifyTask

    written_as = output_format(to, as_jsonl, output, LABEL_FORMATS, messages) or "text"
    classifier = models.load(model, device=compute.device, threads=compute.threads)
    task = classifier.require(ClassifyTask)
    inputs = task_records(task, files or ["-"], task.settings, text_column=text_column, format=format,
                           reading=reading, messages=messages)
    several = task.multi_label or (options.top or 1) > 1
    if not several:
        options = options.replace(top=1)  # ranking one label is faster than ranking all
    if options.none_label is None:
        options = options.replace(none_label="none")  # each text has a line of its own
    on_terminal = explain and output is None and to is None and not as_jsonl and console.shows_color()
    write: LabelWriter = (console.ExplainedTextWriter() if on_terminal
                          else label_writer(written_as, probs=probs, several=several))
    with open_output(output) as out:
        out.write(write.header)
        record = None
        for record, result, words in _answers(classifier, inputs, options, out.flush, explain=explain):
            labels = choose(result.ranked, options, multi_label=task.multi_label)
            if words is not None and (on_terminal or written_as == "html") and not record.labels:
                record.labels = _gold(record.fields or {}, task.settings.label_column)
            out.write(write(record, labels, words))
        if record is None:
            names = label_results([("", 0.0)], [] if explain else None, several=several)
            out.write(empty_output(inputs.columns, names, written_as))
        out.write(write.footer)


def _gold(fields: Mapping[str, Any], column: str | None) -> tuple[str, ...]:
    """Return the correct labels of a record, from the column of the training or else from `label`."""
    gold = fields.get(column or "label") or fields.get("label") or ()
    return tuple(map(str, gold)) if isinstance(gold, list | tuple) else (str(gold),)


def _answers(
    classifier: Model, inputs: Inputs, options: ClassifyOptions, flush: Callable[[], None], *, explain: bool
) -> Iterator[Answer]:
    """Yield each record with its labels, and with its words if they are to be explained."""
    if explain:
        yield from classifier.explained(inputs, options, ready=inputs.ready, flush=flush)
    else:
        for record, result in classifier.classified(inputs, options, ready=inputs.ready, flush=flush):
            yield record, result, None
