"""`rnntool classify`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from rnntool.commands.common import Common
from rnntool.commands.inputs import task_records
from rnntool.data.formats import (
    Text,
    Weighed,
    explained_page,
    one_line,
)
from rnntool.data.inputs import Inputs
from rnntool.data.streams import open_output
from rnntool.errors import UsageError
from rnntool.inference import model as models
from rnntool.inference.options import ClassifyOptions
from rnntool.tasks.classify import MULTI_LABEL_THRESHOLD, Classified, ClassifyTask

Answer = tuple[Text, Classified, Sequence[Weighed] | None]  # the words where they are asked for
ANSWER_FORMATS = ("text", "jsonl", "html")
Ranked = list[tuple[str, float]]


def run(
    files: list[str], *, model: str, output: str | None, format: str | None, to: str | None,
    text_column: str | None, probs: bool, top: int | None, threshold: float | None, none_label: str,
    explain: bool, common: Common,
) -> None:
    """Classify files, one record out for each record in."""
    if threshold is not None and threshold != threshold:
        raise UsageError("--threshold: expected a number from 0 to 1, found nan")
    to = to or common.output_format(output, ANSWER_FORMATS) or "text"
    classifier = models.load(model, device=common.device, threads=common.threads)
    task = classifier.require(ClassifyTask)
    settings = task.settings.replace(text_column=text_column) if text_column else task.settings
    inputs = task_records(task, files, settings, chosen=["text_column"] if text_column else [],
                          format=format, common=common)
    choose = _chooser(top, threshold, none_label, multi_label=task.multi_label)
    several = task.multi_label or (top or 1) > 1
    header, footer = ("", "") if to != "html" else (explained_page.header, explained_page.footer)
    with open_output(output) as out:
        out.write(header)
        for record, result, words in _answers(classifier, inputs, out.flush, explain=explain, top=top):
            labels = choose(result.ranked)
            if to == "jsonl":
                out.write(_json(record, labels, words, several=several))
            elif to == "html":
                out.write(explained_page(record.text, labels if probs else [(n, None) for n, _ in labels],
                                         words or ()))
            else:
                out.write(_line(labels, words, probs=probs))
        out.write(footer)


def _answers(
    classifier: models.Model, inputs: Inputs, flush: Callable[[], None], *, explain: bool, top: int | None
) -> Iterator[Answer]:
    """Each record with its labels and, where that is asked for, its words."""
    if explain:
        yield from classifier.explained(inputs, ready=inputs.ready, flush=flush)
        return
    task = classifier.require(ClassifyTask)
    limit = top if top or task.multi_label else 1
    options = ClassifyOptions(top=limit)
    for record, result in classifier.classified(inputs, options, ready=inputs.ready, flush=flush):
        yield record, result, None


def _chooser(
    top: int | None, threshold: float | None, none_label: str, *, multi_label: bool
) -> Callable[[Ranked], Ranked]:
    """From ranked labels those to give: `top`, or where there may be several all that are probable enough."""
    if top is None and not multi_label:
        top = 1
    if threshold is None:
        threshold = MULTI_LABEL_THRESHOLD if top is None else 0.0
    none, least = [(none_label, 0.0)], threshold
    return lambda ranked: [(name, p) for name, p in ranked[:top] if p >= least] or none


def _line(labels: Ranked, words: Sequence[Weighed] | None, *, probs: bool) -> str:
    """Labels, with their probabilities if wanted, and behind them all words with their weights.

    A label from JSONL may have a tab or a line break in it, which becomes a space.
    """
    cells = [cell for name, p in labels for cell in ([name, f"{p:.4f}"] if probs else [name])]
    if words is not None:
        cells.append(" ".join(f"{word.token}({word.weight:+.3f})" for word in words))
    return "\t".join(one_line(cells)) + "\n"


def _json(record: Text, labels: Ranked, words: Sequence[Weighed] | None, *, several: bool) -> str:
    """The record's own fields, its labels and its words."""
    fields: dict[str, Any] = dict(record.fields) if record.fields is not None else {"text": record.text}
    fields |= {"label": labels[0][0], "prob": round(labels[0][1], 6)}
    if several:
        fields["labels"] = [{"label": name, "prob": round(p, 6)} for name, p in labels]
    if words is not None:
        fields["explain"] = [{**word._asdict(), "weight": round(word.weight, 6)} for word in words]
    return json.dumps(fields, ensure_ascii=False) + "\n"
