"""`rnntool evaluate`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from itertools import islice
from typing import Any

import numpy as np

from rnntool import __version__
from rnntool.commands import console
from rnntool.commands.common import Common
from rnntool.data.formats import split_columns
from rnntool.data.inputs import check_formats
from rnntool.data.progress import Log
from rnntool.data.streams import called, open_output
from rnntool.errors import DataError, UsageError
from rnntool.evaluation import significance
from rnntool.evaluation.adaptation import Adapting, Dynamic
from rnntool.evaluation.metrics import signature
from rnntool.inference import model as models
from rnntool.inference.model import Model
from rnntool.tasks.base import Criterion, Evaluation, Mistake
from rnntool.tasks.lm import LMTask
from rnntool.tasks.specs.schema import flag
from rnntool.tasks.tag import TagTask

SEED = 0  # of resamples and swaps: the same data gives the same report
SHOWN = 10  # rows of a table that may be long; JSON has all
GOLD = {"tag": "column", "classify": "label_column"}  # the option that says where the labels are


def run(
    files: list[str], *, model: str, compare: str | None, output: str | None, format: str | None,
    columns: dict[str, str | None], errors: int, adapting: Sequence[Adapting], as_json: bool, common: Common,
) -> None:
    """Print a model's report on data with the right answers, and how another one differs.

    `adapting` are the ways in which a language model is to learn from the data as it reads them, too.
    """
    as_json = as_json or common.writes_json(output)
    load = partial(models.load, device=common.device, threads=common.threads, side_by_side=False)
    loaded, other = load(model), load(compare) if compare else None
    task = loaded.task
    if adapting and not isinstance(task, LMTask):
        raise UsageError(f"--{adapting[0].name}: expected a language model, found {loaded.name} "
                         f"({task.name}); leave it out")
    chosen = _columns(loaded, columns)
    inputs = type(task).inputs(files, task.settings.replace(**chosen), targets=True, format=format,
                               errors=common.encoding_errors, log=common.log, warn=common.warn)
    records = list(inputs)
    if not records:
        raise DataError(f"{called(files)}: expected records to evaluate on, found none; "
                        "give files that have some")
    check_formats(inputs.formats, chosen, needs_labels=task.spec.needs_labels)
    if isinstance(task, TagTask) and task.scheme:
        scheme = task.columns[0].found_scheme(record.tags or () for record in records) or task.scheme
        aloud = common.log if scheme == task.scheme else common.warn
        aloud(f"{called(files)}: the tags are spans in {scheme.upper()}")
    shared = task.shared_criterion(other.task, records) if other else None

    found = task.evaluate(loaded.engine, records, mistakes=errors)
    _warn(loaded, found, files, common.warn)
    report = {"task": task.name, "model": loaded.name, **found.report, "interval_of": task.criterion.key,
              "interval": _interval(found, task.criterion)}
    if isinstance(task, LMTask):
        for way in adapting:
            report |= _adapted(loaded, task, records, way, plain=report["perplexity"], common=common)
    if other and shared:
        theirs = other.task.evaluate(other.engine, records)
        _warn(other, theirs, files, common.warn)
        report["compare"] = _comparison(found, theirs, other, shared)
    report["signature"] = _signature(loaded, task.criterion)
    with open_output(output) as out:
        if as_json:
            if errors:
                report["errors"] = found.mistakes
            out.write(json.dumps(report, ensure_ascii=False, indent=2) + "\n")
        else:
            out.write(_text(report, found.mistakes))


def _adapted(
    loaded: Model, task: LMTask, records: Sequence[Any], way: Adapting, *, plain: float, common: Common
) -> dict[str, Any]:
    """The perplexity of a model that learns from the records as it reads them, and the settings of that.

    `plain` is the one without. `UsageError` where learning has made the model worse than guessing is.
    """
    from rnntool.training import dynamic_evaluation

    found = dynamic_evaluation.perplexity(
        loaded.folder, loaded.config, task, records, way, device=common.device, threads=common.threads)
    entries = task.tokenizer.size
    if isinstance(way, Dynamic) and found > max(plain, entries):
        raise UsageError(f"--dynamic: expected a model that learns from the text, found a perplexity of "
                         f"{found:.4g} where it has {plain:.4g} without and guessing {entries:,}; lower "
                         "--dynamic-lr")
    return {f"perplexity_{way.name}": found, way.name: asdict(way)}


def _columns(loaded: Model, columns: Mapping[str, str | None]) -> dict[str, str]:
    """The columns that were given; `UsageError` for those that the model's task doesn't read."""
    given = {name: value for name, value in columns.items() if value is not None}
    task = loaded.task
    foreign = [flag(name) for name in given if not hasattr(task.settings, name)
               or (name == "label_column" and isinstance(task, LMTask) and task.labels is None)]
    if foreign:
        raise UsageError(f"{', '.join(foreign)}: the model {loaded.name} ({loaded.task.name}) reads no such "
                         "column; leave it out")
    if isinstance(loaded.task, TagTask) and "column" in given:
        tagged = len(loaded.task.columns)
        if len(split_columns(given["column"])) > tagged:
            raise UsageError(f"--column: expected {tagged} at most, as many as the model {loaded.name} tags, "
                             f"found {given['column']!r}")
        own, wanted = (split_columns(column) for column in (loaded.task.settings.column, given["column"]))
        if any(name and name in own and own.index(name) != i for i, name in enumerate(wanted)):
            raise UsageError(f"--column: expected columns in the order of the model {loaded.name}, from the "
                             f"first one on ({loaded.task.settings.column}), found {given['column']}")
    return given


def _warn(loaded: Model, found: Evaluation, files: Sequence[str], warn: Log) -> None:
    """Say so where most labels are none that the model knows: its figures then tell little about it."""
    unseen = found.report.get("unseen_labels", {})
    count, total = sum(unseen.values()), found.gold.total()
    if 2 * count > total:
        warn(f"{called(files)}: {count:,} of {total:,} labels are none that {loaded.name} knows: found "
             f"{_some(unseen)}, but it knows {_some(found.known)}; see {flag(GOLD[loaded.task.name])}")


def _some(labels: Any) -> str:
    return ", ".join(islice(labels, 3)) + (", …" if len(labels) > 3 else "")


def _interval(found: Evaluation, criterion: Criterion) -> list[float] | None:
    """None where there is one record: what others would be like can't be told from it."""
    if len(found.counts) < 2:
        return None
    return list(significance.interval(found.counts, criterion.figure, np.random.default_rng(SEED)))


def _comparison(ours: Evaluation, theirs: Evaluation, other: Model, criterion: Criterion) -> dict[str, Any]:
    key, figure = criterion.key, criterion.figure
    sides = ours.counts, theirs.counts
    interval = None
    if len(ours.counts) > 1:
        interval = list(significance.difference_interval(*sides, figure, np.random.default_rng(SEED)))
    return {
        "model": other.name, "figure": key, "value": theirs.report[key],
        "difference": ours.report[key] - theirs.report[key], "interval": interval,
        "p_value": significance.p_value(*sides, figure, np.random.default_rng(SEED)),
        "signature": _signature(other, criterion),
    }


def _signature(loaded: Model, criterion: Criterion) -> str:
    return signature(rnntool=__version__, model=loaded.name, seed=loaded.task.settings.seed,
                     tok=loaded.tokenizer_name, graph=loaded.config["graph"], metric=criterion.key)


# --- As text -----------------------------------------------------------------------------------------------


def _text(report: dict[str, Any], mistakes: Sequence[Mistake]) -> str:
    beside = {report["interval_of"]: _between(report["interval"])}
    parts = [console.table([(key, value + beside.get(key, "")) for key, value in _rows(report)])]
    for name, column in report.get("columns", {}).items():
        parts.append(f"column {name}\n" + console.table(_rows(column)))
    compared = report.get("compare")
    if compared:
        parts.append(f"compared with {compared['model']}\n" + console.table([
            (compared["figure"], _figure(compared["value"])),
            ("difference", _figure(compared["difference"]) + _between(compared["interval"])),
            ("p_value", _figure(compared["p_value"])),
        ]))
    per_label = report.get("per_label")
    if per_label:
        head = ("label", *next(iter(per_label.values())))
        body = [(name, *map(_figure, figures.values())) for name, figures in per_label.items()]
        parts.append(console.table([head, *body], right=tuple(range(1, len(head)))))
    unseen = report.get("unseen_labels")
    if unseen:
        body = [(label, str(n)) for label, n in islice(unseen.items(), SHOWN)]
        parts.append("labels that training never saw\n"
                     + console.table([("label", "count"), *body], right=(1,)))
    confused = _confusions(report.get("confusion", {}))
    if confused:
        parts.append("most frequent confusions\n"
                     + console.table([("gold", "predicted", "count"), *confused[:SHOWN]], right=(2,)))
    if mistakes:
        places = [(_figure(m["prob"]), m["gold"], m["predicted"], m["context"]) for m in mistakes]
        parts.append("most confident mistakes\n"
                     + console.table([("prob", "gold", "predicted", "in"), *places]))
    return "\n".join(parts)


def _rows(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What is one figure or word each; the interval stands beside its figure."""
    return [(key, _figure(value)) for key, value in report.items()
            if not isinstance(value, dict | list) and not key.startswith("interval")]


def _confusions(confusion: Mapping[str, Mapping[str, int]]) -> list[tuple[str, str, str]]:
    """Gold label, predicted label and count of what was taken for something else, the most frequent first."""
    wrong = [(gold, label, n) for gold, row in confusion.items() for label, n in row.items() if label != gold]
    return [(gold, label, str(n)) for gold, label, n in sorted(wrong, key=lambda row: -row[2])]


def _between(interval: Sequence[float] | None) -> str:
    return f"  (95% interval: {_figure(interval[0])} to {_figure(interval[1])})" if interval else ""


def _figure(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if isinstance(value, float) else str(value)
