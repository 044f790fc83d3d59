"""A page about a training: learning curves, scores on the development data, network and settings.

It is made from the files in a model folder, without the network. The page loads nothing and contains no
scripts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from rnntool import model_folder
from rnntool.data import model_file
from rnntool.data.progress import duration
from rnntool.errors import ModelError
from rnntool.inspection import charts, svg
from rnntool.inspection.svg import Point
from rnntool.model_folder import ModelConfig

HUGE = 1e100  # larger numbers, or NaN, come from a damaged file or a failed training
NO_CURVE = ("epoch", "step", "seconds", "tokens")  # figures of an evaluation that get no curve
# title, unit and caption of the curves that don't show a score on the development data
CURVES = {
    "loss": ("Loss on the training data", "nats", "Mean of the steps since the previous evaluation."),
    "lr": ("Learning rate", "", ""),
}
CONFUSION = """<h3>Confusion matrix</h3>
<p>Rows are correct labels, columns predicted ones. Correct predictions are blue, mistakes red; the stronger
the color, the larger the share of its row.</p>
"""
Entry = dict[str, Any]


def read_history(folder: Path) -> list[Entry]:
    """Return the evaluations of a training in order; none if the folder has no file of them."""
    path = folder / model_folder.METRICS
    try:
        model_file.check_plain(path, largest=model_file.LARGEST_TEXT)
        history: list[Entry] = [json.loads(line) for line in path.read_text("utf-8").split("\n") if line]
        if not all(_is_number(entry["epoch"]) and _is_number(entry["seconds"]) for entry in history):
            raise ValueError("an epoch or a time is not a number")
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise ModelError(f"is damaged ({error})", place=path,
                         advice="copy or train the model again") from None
    return history


def page(name: str, config: ModelConfig, history: Sequence[Entry]) -> str:
    """Make the HTML page from a model's config and the evaluations of the training."""
    facts = [
        ("task", config.task),
        ("network", config.architecture),
        ("parameters", f"{config.parameters:,}"),
        ("vocabulary", f"{config.network.encoder.vocabulary:,}"),
        ("made by", f"rnntool {config.version}"),
    ]
    if history:
        facts.append(("training time", duration(history[-1]["seconds"])))
    settings = [(key, value) for key, value in config.settings.to_json().items() if value is not None]
    return svg.page(
        name,
        f"<h1>{escape(name)}</h1>\n", table(facts),
        *(_learning_curves(history, config.spec.higher_is_better) if history
          else [f"<p>This model has no {model_folder.METRICS}, so no curves can be drawn.</p>\n"]),
        *_report(config.report, "Scores on the development data"),
        "<h2>Settings</h2>\n", table(settings),
    )


def _learning_curves(history: Sequence[Entry], higher_is_better: bool) -> Iterator[str]:
    """Draw a curve over epochs for each figure, and list all figures, the best entry in bold."""
    figures = {name: value for entry in history for name, value in entry.items() if value is not None}
    names = [name for name, value in figures.items() if name not in NO_CURVE and _is_number(value)]
    score = next((name for name in names if name not in CURVES), None)  # the figure that chose the weights
    best: Point | None = None
    yield '<h2>Learning curves</h2>\n<div class="charts">\n'
    for name in sorted(names, key=lambda name: name != score):
        points = [(entry["epoch"], entry[name]) for entry in history if _is_number(entry.get(name))]
        title, unit, caption = CURVES.get(name, (f"{name} on the development data", "", ""))
        if name == score and points:
            best = (max if higher_is_better else min)(points, key=lambda point: point[1])
            caption = "The model has the weights of the best evaluation, whose score is shown."
        if points:
            yield charts.curves(
                title, {name: points}, x_name="epochs", y_name=unit, caption=caption, width=460, height=300,
                best=best if name == score else None).svg()
    yield f"</div>\n<details><summary>All {len(history):,} evaluations</summary>\n"
    columns = [*NO_CURVE, *names]
    yield table([[entry.get(name) for name in columns] for entry in history], head=columns,
                best=next((i for i, entry in enumerate(history) if best and entry["epoch"] == best[0]), None))
    yield "</details>\n"


def _report(report: Mapping[str, Any], heading: str) -> Iterator[str]:
    """List figures, figures of each label, and the confusion matrix; then the same for other columns."""
    if not report:
        return
    yield f"<h2>{escape(heading)}</h2>\n"
    yield table([(key, value) for key, value in report.items() if not isinstance(value, dict | list)])
    if report.get("per_label"):
        keys = list(next(iter(report["per_label"].values())))
        rows = [[label, *(figures[key] for key in keys)] for label, figures in report["per_label"].items()]
        yield table(rows, head=["label", *keys])
    if report.get("confusion"):
        yield CONFUSION + _confusion_matrix(report["confusion"])
    for name, column in report.get("columns", {}).items():
        yield from _report(column, f"Column {name}")


def _confusion_matrix(confusion: Mapping[str, Mapping[str, int]]) -> str:
    """Make a table of counts, a row per correct label and a column per predicted one, colored by share."""
    names = sorted(confusion.keys() | {name for row in confusion.values() for name in row})
    rows = []
    for gold in names:
        counts = confusion.get(gold, {})
        total = max(1, sum(counts.values()))
        cells = []
        for name in names:
            count = counts.get(name, 0)
            color = "rgb({} {} {})".format(
                *charts.diverging_color(count / total * (-1 if name == gold else 1)))
            cells.append(f'<td class="number" style="background:{color}">{count or ""}</td>')
        rows.append(f"<tr><th>{escape(gold)}</th>{''.join(cells)}</tr>\n")
    head = "".join(f'<th class="number">{escape(name)}</th>' for name in names)
    return f'<div class="confusion"><table>\n<tr><th></th>{head}</tr>\n{"".join(rows)}</table></div>\n'


def table(rows: Sequence[Sequence[Any]], *, head: Sequence[str] = (), best: int | None = None) -> str:
    """Make an HTML table; columns of numbers are aligned to the right, row `best` is bold."""
    kinds = [' class="number"' if all(cell is None or _is_number(cell) for cell in column) else ""
             for column in zip(*rows, strict=True)]

    def row_of(tag: str, cells: Iterable[str], attributes: str = "") -> str:
        joined = "".join(f"<{tag}{kind}>{escape(cell)}</{tag}>"
                         for cell, kind in zip(cells, kinds, strict=True))
        return f"<tr{attributes}>{joined}</tr>\n"

    lines = [row_of("td", map(_shown, row), ' class="best"' if i == best else "")
             for i, row in enumerate(rows)]
    return "".join(["<table>\n", row_of("th", head) if head else "", *lines, "</table>\n"])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < HUGE


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.5g}" if isinstance(value, float) else str(value)
