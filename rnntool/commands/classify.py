"""`rnntool classify`."""

from __future__ import annotations

import json
from typing import Any

from rnntool import model as models
from rnntool.commands.inputs import Inputs
from rnntool.formats import Text
from rnntool.streams import open_output
from rnntool.tasks import ClassifyTask
from rnntool.tasks.classify import Classified
from rnntool.tasks.reading import Say


def run(
    files: list[str], *, model: str, output: str | None, format: str | None, text_column: str | None,
    probs: bool, top: int, threshold: float, none_label: str, as_jsonl: bool, encoding_errors: str,
    device: str, threads: int, quiet: bool, say: Say,
) -> None:
    """Classify files, one line out for each record in."""
    classifier = models.load(model, device=device, threads=threads)
    task = classifier.require(ClassifyTask)
    settings = task.settings.replace(text_column=text_column) if text_column else task.settings
    inputs = Inputs(files, "classify", lambda lines, found: task.read(lines, found, settings, targets=False),
                    format=format, errors=encoding_errors, say=say, quiet=quiet)
    with open_output(output) as out:
        for record, result in classifier.classified(inputs, ready=inputs.ready, flush=out.flush):
            labels = _labels(result, top, threshold, task.multi_label) or [(none_label, 0.0)]
            if as_jsonl:
                out.write(_json(record, labels, with_all=top > 1 or task.multi_label))
            else:
                cells = [cell for name, p in labels for cell in ([name, f"{p:.4f}"] if probs else [name])]
                out.write("\t".join(cells) + "\n")


def _labels(result: Classified, top: int, threshold: float, multi_label: bool) -> list[tuple[str, float]]:
    """The labels to give: the `top` most probable, or of a multi-label model the chosen ones."""
    if multi_label and top == 1:
        ranked = [(name, p) for name, p in result.ranked if name in result.chosen]
    else:
        ranked = result.ranked[:top]
    return [(name, p) for name, p in ranked if p >= threshold]


def _json(record: Text, labels: list[tuple[str, float]], *, with_all: bool) -> str:
    """The record's own fields and its labels."""
    fields: dict[str, Any] = dict(record.fields) if record.fields is not None else {"text": record.text}
    fields |= {"label": labels[0][0], "prob": round(labels[0][1], 6)}
    if with_all:
        fields["labels"] = [{"label": name, "prob": round(p, 6)} for name, p in labels]
    return json.dumps(fields, ensure_ascii=False) + "\n"
