"""A page about a training: learning curves, scores on the development data, network and settings.

It is made from the files in a model folder, without the network. The page loads nothing and contains no
scripts.
"""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from rnntool import model_folder
from rnntool.data import model_file
from rnntool.data.progress import duration
from rnntool.errors import ModelError, setting
from rnntool.inspection import charts, svg
from rnntool.inspection.svg import Point
from rnntool.model_folder import ModelConfig

HUGE = 1e100  # larger numbers, or NaN, come from a damaged file or a failed training
NO_CURVE = ("epoch", "step", "seconds", "tokens")  # figures of an evaluation that get no curve
LOSS = """Lower is better. The loss on the training data is the mean of the steps since the last evaluation,
with dropout, so it can be the larger one. If the loss on the development data rises while the other falls,
the network memorizes its training data."""
BEST = "The model has the weights of the best evaluation, whose score is shown."
CONFUSION = """<h3>Confusion matrix</h3>
<p>A number says how often a gold label (row) was predicted as a label (column). Correct predictions are blue,
mistakes red; the stronger the color, the larger the share of its row.</p>
"""
CALIBRATION = """<p>Probabilities are calibrated if 80 % of the answers with a probability of 80 % are right.
<code>ece</code> is the mean distance from that{before}.</p>
"""
TEMPERATURE = """: {ece}, after the scores were divided by the temperature of {temperature} that fits the
development data best, and {ece_uncalibrated} before"""
HIDDEN = ("interval_of", "interval")  # shown beside the figure that they belong to
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
    """Make the HTML page from a model's config and the evaluations of the training.

    The command that repeats the training names settings by `setting`.
    """
    facts = [
        ("task", config.task),
        ("network", config.architecture),
        ("parameters", f"{config.parameters:,}"),
        ("vocabulary", f"{config.network.encoder.vocabulary:,}"),
        *_data(config),
        ("made by", f"rnntool {config.version}"),
    ]
    if history:
        facts.append(("training time", duration(history[-1]["seconds"])))
    changed = _changed(config)
    rest = {key: value for key, value in config.settings.to_json().items()
            if value is not None and key not in changed}
    return svg.page(
        name,
        f"<h1>{escape(name)}</h1>\n", table(facts),
        *([f"<pre>{_command(name, config)}</pre>\n"] if config.training_data else []),
        *(_learning_curves(history, config.spec.higher_is_better) if history
          else [f"<p>This model has no {model_folder.METRICS}, so no curves can be drawn.</p>\n"]),
        *_report(config.report, "Scores on the development data"),
        *_cross_validation(config.report.get("cross_validation")),
        "<h2>Settings</h2>\n<h3>Chosen</h3>\n",
        table(_exactly(changed)) if changed else "<p>None: all settings have their defaults.</p>\n",
        f"<details><summary>{len(rest)} defaults</summary>\n", table(_exactly(rest)), "</details>\n",
    )


def _cross_validation(figures: Mapping[str, Any] | None) -> Iterator[str]:
    """List the figure over all records, its interval, and the figures of the folds."""
    if figures:
        rows = [(f"{figures['figure']} of all {figures['records']:,} records", figures["value"]),
                ("95% interval", " to ".join(map(_shown, figures["interval"] or ())) or None),
                ("mean of the folds", figures["mean"]), ("standard deviation of the folds", figures["std"]),
                *((f"fold {number}", figure) for number, figure in enumerate(figures["folds"], 1))]
        yield "<h2>Cross-validation</h2>\n" + table(rows)


def _exactly(settings: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return rows of settings, whose numbers must not be rounded."""
    return [(key, f"{value:g}" if isinstance(value, float) else value) for key, value in settings.items()]


def _changed(config: ModelConfig) -> dict[str, Any]:
    """Return the settings that differ from their defaults."""
    defaults = type(config.settings)().to_json()
    return {key: value for key, value in config.settings.to_json().items() if value != defaults[key]}


def _data(config: ModelConfig) -> Iterator[tuple[str, str]]:
    """Name the files of the training."""
    if config.training_data:
        train, dev = (", ".join("a pipe" if "/fd/" in name else "standard input" if name == "-" else name
                                for name in config.training_data.get(purpose) or ())
                      for purpose in ("train", "dev"))
        yield "training data", train
        yield "development data", dev or f"{config.settings.dev_fraction:.0%} of the training data"


def _command(name: str, config: ModelConfig) -> str:
    """Return the command that repeats the training, in HTML."""
    data = config.training_data
    options = {"dev": data.get("dev") or [], "output": name, **(data.get("reading") or {}),
               **_changed(config)}
    words = ["rnntool", "train", config.task, *(_quoted(file) for file in data.get("train") or ())]
    for option, values in options.items():
        for value in values if isinstance(values, list) else [values]:
            words.append(setting(option, None if value is True else _quoted(value)))
    return " ".join(words)


def _quoted(value: Any) -> str:
    return escape(shlex.quote(f"{value:g}" if isinstance(value, float) else str(value)), quote=False)


def _learning_curves(history: Sequence[Entry], higher_is_better: bool) -> Iterator[str]:
    """Draw the losses, the other figures over epochs, and list all figures, the best entry in bold."""
    figures = {name: value for entry in history for name, value in entry.items() if value is not None}
    names = [name for name, value in figures.items() if name not in NO_CURVE and _is_number(value)]
    losses = {"training": "loss", "development": "dev_loss"}
    score = next((name for name in names if name not in ("lr", *losses.values())), None)  # chose the weights

    def points(name: str) -> list[Point]:
        return [(entry["epoch"], entry[name]) for entry in history if _is_number(entry.get(name))]

    curves = {data: points(name) for data, name in losses.items() if points(name)}
    if "perplexity" in names:
        curves["development"] = [(epoch, math.log(value)) for epoch, value in points("perplexity")
                                      if value > 0]
    best: Point | None = None
    yield '<h2>Learning curves</h2>\n<div class="charts">\n'
    if curves:
        yield charts.curves("Loss", curves, x_name="epochs", y_name="nats", caption=LOSS, width=330,
                            height=300).svg()
    others = [name for name in names if name not in losses.values()]
    for name in sorted(others, key=lambda name: (name == "lr", name != score)):
        title, caption, mark = f"{name} on the development data", "", None
        if name == score:
            best = (max if higher_is_better else min)(points(name), key=lambda point: point[1])
            caption, mark = BEST, best
        elif name == "lr":
            title = "Learning rate"
        yield charts.curves(title, {name: points(name)}, x_name="epochs", y_name="", caption=caption,
                            width=460, height=300, best=mark).svg()
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
    yield table([(key, _with_interval(key, report)) for key, value in report.items()
                 if key not in HIDDEN and not isinstance(value, dict | list)] + _baseline(report))
    if "ece" in report:
        shown = {key: _shown(report.get(key)) for key in ("ece", "temperature", "ece_uncalibrated")}
        yield CALIBRATION.format(before=TEMPERATURE.format(**shown) if "temperature" in report else "")
    if report.get("per_label"):
        keys = list(next(iter(report["per_label"].values())))
        rows = [[label, *(figures[key] for key in keys)] for label, figures in report["per_label"].items()]
        yield table(rows, head=["label", *keys])
    if report.get("confusion"):
        yield CONFUSION + _confusion_matrix(report["confusion"])
    for name, column in report.get("columns", {}).items():
        yield from _report(column, f"Column {name}")


def _with_interval(key: str, report: Mapping[str, Any]) -> Any:
    """Return a figure, with its interval if it has one."""
    value, interval = report[key], report.get("interval")
    if key != report.get("interval_of") or not interval:
        return value
    return f"{_shown(value)} (95% interval: {_shown(interval[0])} to {_shown(interval[1])})"


def _baseline(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    baselines = [report.get(name) or {} for name in ("baseline", "ngram", "linear")]
    return [(f"baseline {name}", f"{_shown(value)} ({baseline.get('method')})")
            for baseline in baselines for name, value in baseline.items() if name != "method"]


def _confusion_matrix(confusion: Mapping[str, Mapping[str, int]]) -> str:
    """Make a table of counts, a row per correct label and a column per predicted one, colored by share."""
    names = sorted(confusion.keys() | {name for row in confusion.values() for name in row})
    rows: list[str] = []
    for gold in names:
        counts = confusion.get(gold, {})
        total = max(1, sum(counts.values()))
        cells = []
        for name in names:
            count = counts.get(name, 0)
            color = "rgb({} {} {})".format(
                *charts.diverging_color(count / total * (-1 if name == gold else 1)))
            cells.append(f'<td class="number" style="background:{color}">{count or ""}</td>')
        axis = f'<th class="axis" rowspan="{len(names)}"><span>gold</span></th>' if not rows else ""
        rows.append(f"<tr>{axis}<th>{escape(gold)}</th>{''.join(cells)}</tr>\n")
    head = "".join(f'<th class="number">{escape(name)}</th>' for name in names)
    return (f'<div class="confusion"><table>\n<tr><th></th><th></th><th class="top" colspan="{len(names)}">'
            f'predicted</th></tr>\n<tr><th></th><th></th>{head}</tr>\n{"".join(rows)}</table></div>\n')


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
    if not isinstance(value, float):
        return str(value)
    return f"{value:.4f}" if value == 0 or abs(value) >= 0.001 else f"{value:.4g}"
