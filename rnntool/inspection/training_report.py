"""A page about a training: learning curves, the report on the development data, network and settings.

Made of what the model folder holds; knows no network. The page loads nothing and runs nothing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from html import escape
from pathlib import Path
from typing import Any

from rnntool import model_folder
from rnntool.data.progress import duration
from rnntool.errors import ModelError
from rnntool.inspection import charts, picture
from rnntool.inspection.picture import Point
from rnntool.tasks.base import Criterion, task_class

BESIDE = ("epoch", "step", "seconds", "tokens")  # of an evaluation, what no curve is drawn of
TITLES = {"loss": "loss on the training data, nats", "lr": "learning rate"}
Entry = dict[str, Any]


def read_history(folder: Path) -> list[Entry]:
    """The evaluations of a training, in order; none where the folder has lost them."""
    path = folder / model_folder.METRICS
    try:
        history: list[Entry] = [json.loads(line) for line in path.read_text("utf-8").split("\n") if line]
        for entry in history:
            float(entry["epoch"]), float(entry["seconds"])
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ModelError(f"{path}: is damaged ({error}); copy or train the model again") from None
    return history


def page(name: str, config: Mapping[str, Any], history: Sequence[Entry]) -> str:
    """The whole page. `config` is the checked content of config.json."""
    report = config.get("report") or {}
    facts = [
        ("task", config["task"]),
        ("network", model_folder.architecture(config)),
        ("parameters", f"{config['parameters']:,}"),
        ("vocabulary", f"{config['network']['encoder']['vocabulary']:,}"),
        ("made by", f"rnntool {config['version']}"),
    ]
    if history:
        facts.append(("time", duration(history[-1]["seconds"])))
    settings = [(key, value) for key, value in config["settings"].items() if value is not None]
    return picture.page(
        name,
        table(facts),
        *(_learning(history, task_class(config["task"]).criterion) if history
          else [f"<p>There is no {model_folder.METRICS} to draw curves of.</p>\n"]),
        *_reported(report, "On the development data"),
        "<h2>Settings</h2>\n", table(settings),
    )


def _learning(history: Sequence[Entry], criterion: Criterion) -> Iterator[str]:
    """A curve for each figure over epochs, and all figures in a table; `criterion` tells the best one."""
    names = [name for name, value in history[0].items() if name not in BESIDE and _is_number(value)]
    score = next((name for name in names if name not in TITLES), None)  # what picked the weights
    best: Point | None = None
    yield '<h2>Learning curves</h2>\n<div class="charts">\n'
    for name in sorted(names, key=lambda name: name != score):
        points = [(entry["epoch"], entry[name]) for entry in history
                  if math.isfinite(entry.get(name, math.nan))]
        if name == score and points:
            best = _best(points, criterion)
        if points:
            yield charts.curves(
                TITLES.get(name, name), {name: points}, x_name="epoch", y_name="", width=460, height=300,
                marked=best if name == score else None).svg()
    yield f"</div>\n<details><summary>All {len(history):,} evaluations</summary>\n"
    columns = [*BESIDE, *names]
    yield table([[entry.get(name) for name in columns] for entry in history], head=columns,
                best=next((i for i, entry in enumerate(history) if best and entry["epoch"] == best[0]), None))
    yield "</details>\n"


def _best(points: Sequence[Point], criterion: Criterion) -> Point:
    """The first of the best ones, as a training keeps its weights."""
    return reduce(lambda best, point: point if criterion.better(point[1], best[1]) else best, points)


def _reported(report: Mapping[str, Any], heading: str) -> Iterator[str]:
    """Figures, then labels, then what was taken for what; of further columns the same."""
    if not report:
        return
    yield f"<h2>{escape(heading)}</h2>\n"
    yield table([(key, value) for key, value in report.items() if not isinstance(value, dict | list)])
    if report.get("per_label"):
        keys = list(next(iter(report["per_label"].values())))
        rows = [[label, *(figures[key] for key in keys)] for label, figures in report["per_label"].items()]
        yield table(rows, head=["label", *keys])
    if report.get("confusion"):
        yield "<h3>What was taken for what</h3>\n" + _confusion(report["confusion"])
    for name, column in report.get("columns", {}).items():
        yield from _reported(column, f"Column {name}")


def _confusion(confusion: Mapping[str, Mapping[str, int]]) -> str:
    """Gold labels down, predicted ones across, each cell by its share of the gold label's."""
    names = sorted(confusion.keys() | {name for row in confusion.values() for name in row})
    rows = []
    for gold in names:
        found = confusion.get(gold, {})
        total = max(1, sum(found.values()))
        cells = []
        for name in names:
            count = found.get(name, 0)
            colour = "rgb({} {} {})".format(*charts.colour_of(count / total * (-1 if name == gold else 1)))
            cells.append(f'<td class="number" style="background:{colour}">{count or ""}</td>')
        rows.append(f"<tr><th>{escape(gold)}</th>{''.join(cells)}</tr>\n")
    head = "".join(f'<th class="number">{escape(name)}</th>' for name in names)
    return f"<table>\n<tr><th></th>{head}</tr>\n{''.join(rows)}</table>\n"


def table(rows: Sequence[Sequence[Any]], *, head: Sequence[str] = (), best: int | None = None) -> str:
    """Rows as an HTML table, numbers flush right; row `best` stands out."""
    lines = ["<table>\n"]
    if head:
        numbers = [_is_number(cell) for cell in rows[0]]
        cells = "".join(_cell("th", *pair) for pair in zip(head, numbers, strict=True))
        lines.append(f"<tr>{cells}</tr>\n")
    for i, row in enumerate(rows):
        cells = "".join(_cell("td", _figure(cell), _is_number(cell)) for cell in row)
        lines.append(f'<tr class="best">{cells}</tr>\n' if i == best else f"<tr>{cells}</tr>\n")
    return "".join([*lines, "</table>\n"])


def _cell(tag: str, text: str, number: bool) -> str:
    kind = ' class="number"' if number else ""
    return f"<{tag}{kind}>{escape(text)}</{tag}>"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _figure(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.5g}" if isinstance(value, float) else str(value)
