"""`rnntool evaluate`."""

from __future__ import annotations

import json
from typing import Any

from rnntool import __version__, console
from rnntool import model as models
from rnntool.config import flag
from rnntool.errors import DataError, UsageError
from rnntool.metrics import signature
from rnntool.streams import open_output
from rnntool.tasks.reading import Say, read_all


def run(
    files: list[str], *, model: str, output: str | None, format: str | None, columns: dict[str, str | None],
    errors: int, as_json: bool, encoding_errors: str, device: str, threads: int, say: Say,
) -> None:
    """Print a model's report on data with the right answers."""
    loaded = models.load(model, device=device, threads=threads, side_by_side=False)
    task = loaded.task
    given = {name: value for name, value in columns.items() if value is not None}
    foreign = [flag(name) for name in given if not hasattr(task.settings, name)]
    if foreign:
        raise UsageError(
            f"{', '.join(foreign)}: the model {model} ({task.name}) reads no such column; leave it out")
    settings = task.settings.replace(**given)
    records = read_all(type(task), files, format=format, settings=settings, errors=encoding_errors, say=say)
    if not records:
        raise DataError(f"{', '.join(files)}: want records to evaluate on, found none")
    report = {"task": task.name, "model": loaded.name, **task.report(loaded.engine, records)}
    report["signature"] = signature(
        rnntool=__version__, model=loaded.name, seed=task.settings.seed, tok=loaded.tokenizer_name,
        graph=loaded.config["graph"], metric=task.criterion.key,
    )
    mistakes = task.mistakes(loaded.engine, records, errors) if errors else []
    with open_output(output) as out:
        if as_json:
            if errors:
                report["errors"] = mistakes
            out.write(json.dumps(report, ensure_ascii=False, indent=2) + "\n")
        else:
            out.write(_text(report))
            if mistakes:
                out.write("\nmost confident mistakes\n")
                rows = [(f"{m['prob']:.4f}", m["gold"], m["predicted"], m["context"]) for m in mistakes]
                out.write(console.table([("prob", "gold", "predicted", "in"), *rows]))


def _text(report: dict[str, Any]) -> str:
    rows = [(key, _figure(value)) for key, value in report.items() if not isinstance(value, dict)]
    text = console.table(rows)
    per_label = report.get("per_label")
    if per_label:
        head = ("label", *next(iter(per_label.values())))
        body = [(name, *(_figure(v) for v in figures.values())) for name, figures in per_label.items()]
        text += "\n" + console.table([head, *body], right=tuple(range(1, len(head))))
    return text


def _figure(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)
