"""`rnntool classify`: label each text."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from rnntool.commands.groups import examples
from rnntool.commands.options import (
    AsJsonl,
    Compute,
    Files,
    Messages,
    Output,
    Reading,
    TextColumn,
    format_option,
    model_option,
)
from rnntool.inference.options import ClassifyOptions

if TYPE_CHECKING:
    from rnntool.data.formats import Text, Weighed
    from rnntool.data.inputs import Inputs
    from rnntool.inference.model import Model
    from rnntool.tasks.classify import Classified

    Answer = tuple[Text, Classified, Sequence[Weighed] | None]  # with the words if they are explained

OUTPUT_FORMATS = ("text", "jsonl", "html")
Ranked = list[tuple[str, float]]  # labels with their probabilities, the most probable first


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
    format: Annotated[str | None, format_option("text, tsv, csv, jsonl, fasttext")] = None,
    text_column: TextColumn = None,
    to: Annotated[Literal["text", "jsonl", "html"] | None, typer.Option(
        "-t", "--to", help="Format of the output.", show_default="text")] = None,
    as_jsonl: AsJsonl = False,
    probs: Annotated[bool, typer.Option("--probs", help="Add the probability of each label.")] = False,
    explain: Annotated[bool, typer.Option(
        "--explain", help="Add the weight of each word: how much the label's probability falls without it.")
    ] = False,
    options: ClassifyOptions,
    reading: Reading,
    compute: Compute,
    messages: Messages,
) -> None:
    """Label each text: one line in, one line out."""
    from rnntool.commands.inputs import task_records
    from rnntool.commands.outputs import output_format
    from rnntool.data.formats import explained_page
    from rnntool.data.streams import open_output
    from rnntool.inference import model as models
    from rnntool.inference.model import choose
    from rnntool.tasks.classify import ClassifyTask

    written_as = output_format(to, as_jsonl, output, OUTPUT_FORMATS, messages) or "text"
    classifier = models.load(model, device=compute.device, threads=compute.threads)
    task = classifier.require(ClassifyTask)
    settings = task.settings.replace(text_column=text_column) if text_column else task.settings
    inputs = task_records(task, files or ["-"], settings, chosen=["text_column"] if text_column else [],
                          format=format, reading=reading, messages=messages)
    several = task.multi_label or (options.top or 1) > 1
    if not several:
        options = options.replace(top=1)  # ranking one label is faster than ranking all
    if options.none_label is None:
        options = options.replace(none_label="none")  # each text has a line of its own
    header, footer = ("", "") if written_as != "html" else (explained_page.header, explained_page.footer)
    with open_output(output) as out:
        out.write(header)
        for record, result, words in _answers(classifier, inputs, options, out.flush, explain=explain):
            labels = choose(result.ranked, options, multi_label=task.multi_label)
            if written_as == "jsonl":
                out.write(_json(record, labels, words, several=several))
            elif written_as == "html":
                out.write(explained_page(record.text, labels if probs else [(n, None) for n, _ in labels],
                                         words or ()))
            else:
                out.write(_line(labels, words, probs=probs))
        out.write(footer)


def _answers(
    classifier: Model, inputs: Inputs, options: ClassifyOptions, flush: Callable[[], None], *, explain: bool
) -> Iterator[Answer]:
    """Yield each record with its labels, and with its words if they are to be explained."""
    if explain:
        yield from classifier.explained(inputs, options, ready=inputs.ready, flush=flush)
    else:
        for record, result in classifier.classified(inputs, options, ready=inputs.ready, flush=flush):
            yield record, result, None


def _line(labels: Ranked, words: Sequence[Weighed] | None, *, probs: bool) -> str:
    """Format labels, with their probabilities if requested, and then all words with their weights.

    A label from JSONL may contain a tab or a line break, which becomes a space.
    """
    from rnntool.data.formats import one_line

    cells = [cell for name, p in labels for cell in ([name, f"{p:.4f}"] if probs else [name])]
    if words is not None:
        cells.append(" ".join(f"{word.token}({word.weight:+.3f})" for word in words))
    return "\t".join(one_line(cells)) + "\n"


def _json(record: Text, labels: Ranked, words: Sequence[Weighed] | None, *, several: bool) -> str:
    """Format the record's own fields, its labels and its words as a JSON object."""
    fields: dict[str, Any] = dict(record.fields) if record.fields is not None else {"text": record.text}
    fields |= {"label": labels[0][0], "prob": round(labels[0][1], 6)}
    if several:
        fields["labels"] = [{"label": name, "prob": round(p, 6)} for name, p in labels]
    if words is not None:
        fields["explain"] = [{**word._asdict(), "weight": round(word.weight, 6)} for word in words]
    return json.dumps(fields, ensure_ascii=False) + "\n"
