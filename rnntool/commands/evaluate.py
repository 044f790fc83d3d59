"""`rnntool evaluate`: report how good a model is on data with the correct answers."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from rnntool.commands import console
from rnntool.commands.groups import examples
from rnntool.commands.options import (
    AsJson,
    Compute,
    Messages,
    Output,
    complete_model,
    format_option,
    model_option,
)
from rnntool.data.formats import empty_output, merged, record_lines
from rnntool.data.json_text import to_json
from rnntool.data.reading import TableReading
from rnntool.data.records import fields_of, id_of
from rnntool.errors import DataError, UsageError, no_effect_without, setting
from rnntool.evaluation.options import EvaluateOptions

if TYPE_CHECKING:
    from rnntool.data.progress import Log, Watch
    from rnntool.inference.model import Model
    from rnntool.tasks.base import Criterion, Engine, Evaluation, Mistake

SEED = 0  # of resampling and permutation, so that the same data gives the same report
MISTAKE: tuple[Literal["prob", "gold", "predicted", "context"], ...] = (
    "prob", "gold", "predicted", "context")
MAX_ROWS = 10  # of tables that may be long; the JSON report has all rows


@examples(
    "rnntool evaluate dev.conllu -m my-tagger",
    "rnntool evaluate dev.conllu -m my-tagger --json > report.json",
    "rnntool evaluate dev.tsv -m topics --errors 10",
    "rnntool evaluate dev.conllu -m my-tagger --compare my-older-tagger",
    "rnntool evaluate test.txt -m words --dynamic --cache",
    "rnntool evaluate test.txt -m words --mix ngrams",
    "rnntool evaluate gold.conllu --system parsed.conllu",
)
def evaluate(
    *,
    files: Annotated[list[str], typer.Argument(
        metavar="FILE…", help="Files with the correct answers; `-` is standard input.")],
    model: Annotated[str | None, model_option("Model to evaluate")] = None,
    system: Annotated[str | None, typer.Option(
        "--system", metavar="FILE", show_default=False,
        help="CoNLL-U file to evaluate instead of a model: the output of any tagger or parser for the same "
             "text. Reports the metrics of the CoNLL 2018 shared task.")] = None,
    output: Output = None,
    format: Annotated[str | None, format_option("any that training reads")] = None,
    column: Annotated[str | None, typer.Option(
        "--column", metavar="COLUMN", help="Column of the correct tags.",
        show_default="as in training")] = None,
    word_column: Annotated[str | None, typer.Option(
        "--word-column", metavar="COLUMN", help="Column of the words.",
        show_default="as in training")] = None,
    text_column: Annotated[str | None, typer.Option(
        "--text-column", metavar="COLUMN", help="Column or key of the text.",
        show_default="as in training")] = None,
    label_column: Annotated[str | None, typer.Option(
        "--label-column", metavar="COLUMN", help="Column or key of the correct label.",
        show_default="as in training")] = None,
    source_columns: Annotated[str | None, typer.Option(
        "--source-columns", metavar="COLUMN[,COLUMN…]", help="Columns or keys of the source.",
        show_default="as in training")] = None,
    target_column: Annotated[str | None, typer.Option(
        "--target-column", metavar="COLUMN", help="Column or key of the target.",
        show_default="as in training")] = None,
    target: Annotated[str | None, typer.Option(
        "--target", metavar="FILE", show_default=False,
        help="File with a target on each line, for the source on the same line of FILE.")] = None,
    skip_unlabelled: Annotated[bool, typer.Option(
        "--skip-unlabelled", help="Skip records without a label and sentences in which a word has no tag, "
                                  "and report how many. By default, the first one is an error.")
    ] = False,
    compare: Annotated[str | None, typer.Option(
        "--compare", metavar="MODEL", show_default=False, autocompletion=complete_model,
        help="Second model to run on the same records. Reports the difference and its significance.")
    ] = None,
    mix: Annotated[str | None, typer.Option(
        "--mix", metavar="MODEL", show_default=False, autocompletion=complete_model,
        help="Second language model. Also report the perplexity of the interpolation of both.")] = None,
    mix_weight: Annotated[float | None, typer.Option(
        "--mix-weight", metavar="P", min=0, max=1, show_default="0.5",
        help="Weight of the model of --mix in the interpolation.")] = None,
    errors_to: Annotated[str | None, typer.Option(
        "--errors-to", metavar="FILE", show_default=False,
        help="Write all mistakes with all columns of their records to FILE (.csv, .tsv or .jsonl); with a "
             "language model, all tokens. The most confident mistakes come first.")] = None,
    options: EvaluateOptions,
    as_json: AsJson = False,
    reading: TableReading,
    compute: Compute,
    messages: Messages,
) -> None:
    """Report how good a model is on data with the correct answers."""
    columns = {"column": column, "word_column": word_column, "text_column": text_column,
               "label_column": label_column, "source_columns": source_columns,
               "target_column": target_column, "target": target}
    chosen = {name: value for name, value in columns.items() if value is not None}
    if system is not None:
        from rnntool.commands.system_output import evaluate_system

        others = {"format": format, "skip_unlabelled": skip_unlabelled, "compare": compare,
                  "mix": mix, "errors_to": errors_to}
        evaluate_system(
            files, system, output=output, as_json=as_json, reading=reading, messages=messages, model=model,
            inapplicable=[*chosen, *(name for name, value in others.items() if value), *options.chosen(),
                     *reading.table_settings()])
        return
    if model is None:
        raise UsageError("nothing to evaluate", advice=(
            f"name a model with {setting('model')}", f"a system's output with {setting('system')}"))
    from rnntool.commands.outputs import record_format, writes_json
    from rnntool.data.inputs import check_formats
    from rnntool.data.streams import input_names, open_output
    from rnntool.evaluation.metrics import mixed_perplexity
    from rnntool.inference import model as models

    if mix_weight is not None and not mix:
        raise no_effect_without("mix_weight", "mix", value="MODEL")
    mix_weight = 0.5 if mix_weight is None else mix_weight
    as_json = as_json or writes_json(output, messages)
    errors_format = record_format(errors_to, "errors_to")
    load = partial(models.load, device=compute.device, threads=compute.threads, parallel=False)
    loaded, other, mixed = load(model), load(compare) if compare else None, load(mix) if mix else None
    task = loaded.task
    adaptations = options.adaptations()
    for adaptation in adaptations:
        task.check_adaptable(adaptation, loaded.name)
    for each in (loaded, other):
        if each and (of_sequences := options.of_sequences()):
            each.task.configure_evaluation(of_sequences, each.name)
    settings = task.evaluation_settings({**chosen, "skip_unlabelled": skip_unlabelled}, loaded.name)
    inputs = type(task).inputs(
        files, settings, targets=True, format=format, reading=reading, log=messages.log,
        warn=messages.warn)
    records = list(inputs)
    if not records:
        raise DataError(place=input_names(files), expected="records to evaluate on", found="none")
    check_formats(inputs.formats, [*chosen, *reading.table_settings()], needs_labels=task.spec.needs_labels)
    if described := task.describe_gold(records):
        description, as_trained = described
        (messages.log if as_trained else messages.warn)(f"{input_names(files)}: {description}")
    criterion = task.shared_criterion(other.task, records) if other else None
    if mixed:
        task.check_mixable(mixed.task, records)

    with console.progress(quiet=messages.quiet) as watch:
        evaluation = task.evaluate(
            _watched(loaded, records, watch), records, mistakes=sys.maxsize if errors_to else options.errors)
        _warn_of_unseen(loaded, evaluation, files, messages.warn)
        report = {"task": loaded.config.task, "model": loaded.name, **evaluation.report,
                  **({"skipped": inputs.skipped} if settings.skip_unlabelled else {}),
                  "interval_of": task.criterion.key, "interval": task.criterion.interval(evaluation.counts)}
        for method, parameters in adaptations.items():
            perplexity = _adapted(loaded, records, method, options, static=report["perplexity"],
                                  compute=compute, watch=watch)
            report |= {f"perplexity_{method}": perplexity, method: parameters}
        if mixed:
            second = mixed.task.evaluate(_watched(mixed, records, watch), records)
            report |= {
                "perplexity_mixed": mixed_perplexity(
                    evaluation.log_probs, second.log_probs, other_weight=mix_weight),
                "mixed": {"model": mixed.name, "weight": mix_weight}}
        if other and criterion:
            reference = other.task.evaluate(_watched(other, records, watch), records)
            _warn_of_unseen(other, reference, files, messages.warn)
            report["compare"] = _comparison(evaluation, reference, other, criterion, options.ignore)
        if loaded.segmenter and set(inputs.formats) == {"conllu"}:
            from rnntool.commands.raw_text_evaluation import raw_text_scores

            report["conll18_raw"] = raw_text_scores(loaded, records, compute)
    report["signature"] = _signature(loaded, task.criterion, options.ignore)
    if errors_to:
        with open_output(errors_to) as out:
            out.writelines(_error_records(evaluation.mistakes, records, errors_format))
        messages.log(f"{errors_to}: {len(evaluation.mistakes):,} mistakes")
    mistakes = [_traced(mistake, records) for mistake in evaluation.mistakes[: options.errors]]
    with open_output(output) as out:
        if as_json:
            if options.errors:
                report["errors"] = mistakes
            out.write(to_json(report, indent=2) + "\n")
        else:
            out.write(_text(report, mistakes))


def _watched(loaded: Model, records: Sequence[Any], watch: Watch | None) -> Engine:
    """Return the engine of a model; if there is a `watch`, it receives the progress."""
    if watch is None:
        return loaded.engine
    from rnntool.training.watched_engine import WatchedEngine

    task = loaded.task
    total = sum(task.length(task.example(record)) for record in records)
    return WatchedEngine(loaded.engine, f"evaluating {loaded.name}", watch, total=total)


def _traced(mistake: Mistake, records: Sequence[Any]) -> dict[str, Any]:
    """Return a mistake with its file, its line, and the id of its record if it has one."""
    file, _, line = mistake["place"].rpartition(":")
    record_id = id_of(fields_of(records[mistake["record"]]))
    return {
        **{key: mistake[key] for key in MISTAKE},
        "file": file, "line": int(line), **({} if record_id is None else {"id": record_id})}


def _error_records(mistakes: Sequence[Mistake], records: Sequence[Any], format: str) -> Iterator[str]:
    """Return the text of each mistake with all fields of its record; a table has a header in any case."""
    if not mistakes:
        yield empty_output(fields_of(records[0]), (*MISTAKE, "file", "line"), format)
    rows = []
    for mistake in mistakes:
        traced = _traced(mistake, records)
        traced.pop("id", None)  # a field of the record
        rows.append((merged(fields_of(records[mistake["record"]]), traced), mistake["place"]))
    yield from record_lines(rows, format)


def _adapted(
    loaded: Model, records: Sequence[Any], method: str, options: EvaluateOptions, *, static: float,
    compute: Compute, watch: Watch | None,
) -> float:
    """Return the perplexity of a model that adapts to the records as it reads them.

    `static` is the perplexity without adaptation. `UsageError` if the adapted model is worse than both the
    static one and a uniform guess.
    """
    from rnntool.training import dynamic_evaluation

    perplexity = dynamic_evaluation.perplexity(
        loaded.folder, loaded.config, loaded.task, records, method, options, device=compute.device,
        threads=compute.threads, watch=watch)
    uniform = loaded.task.sizes()["outputs"]
    if method == "dynamic" and perplexity > max(static, uniform):
        raise UsageError(
            setting="dynamic", expected="a perplexity that falls as the model learns from the text",
            found=f"{perplexity:.4g} (without learning {static:.4g}, by a uniform guess {uniform:,})",
            advice=f"lower {setting('dynamic_lr')}")
    return perplexity


def _warn_of_unseen(loaded: Model, evaluation: Evaluation, files: Sequence[str], warn: Log) -> None:
    """Warn if the model doesn't know most of the labels; its scores then mean little."""
    from rnntool.data.streams import input_names

    unseen = evaluation.report.get("unseen_labels", {})
    count, total = sum(unseen.values()), evaluation.gold.total()
    if 2 * count > total:
        column = setting("column" if hasattr(loaded.task.settings, "column") else "label_column")
        warn(f"{input_names(files)}: {loaded.name} does not know {count:,} of {total:,} labels: the data has "
             f"{_some(unseen)}, the model knows {_some(evaluation.trained_labels)}; choose the column with "
             f"{column}")


def _some(labels: Any) -> str:
    return ", ".join(islice(labels, 3)) + (", …" if len(labels) > 3 else "")


# --- Significance ------------------------------------------------------------------------------------------


def _comparison(
    evaluation: Evaluation, reference: Evaluation, other: Model, criterion: Criterion, ignore: str | None
) -> dict[str, Any]:
    import numpy as np

    from rnntool.evaluation import significance

    key, metric = criterion.key, criterion.metric
    sides = evaluation.counts, reference.counts
    difference = evaluation.report[key] - reference.report[key]
    interval = p_value = None  # an infinite perplexity has neither
    if math.isfinite(difference):
        p_value = significance.p_value(*sides, metric, np.random.default_rng(SEED))
    if math.isfinite(difference) and len(evaluation.counts) > 1:
        interval = list(significance.difference_interval(*sides, metric, np.random.default_rng(SEED)))
    return {
        "model": other.name, "figure": key, "value": reference.report[key],
        "difference": difference, "interval": interval, "p_value": p_value,
        "signature": _signature(other, criterion, ignore),
    }


def _signature(loaded: Model, criterion: Criterion, ignore: str | None) -> str:
    from rnntool import __version__
    from rnntool.evaluation.metrics import signature

    return signature(rnntool=__version__, model=loaded.name, seed=loaded.task.settings.seed,
                     tok=loaded.config.tokenizer["kind"], graph=loaded.config.graph, metric=criterion.key,
                     ignore=ignore)


# --- The report as text ------------------------------------------------------------------------------------


def _text(report: dict[str, Any], mistakes: Sequence[dict[str, Any]]) -> str:
    parts = []

    def add(rows: Sequence[tuple[str, ...]], title: str = "", right: tuple[int, ...] = ()) -> None:
        parts.append((f"{title}\n" if title else "") + console.table(rows, right=right))

    intervals = {report["interval_of"]: _interval_text(report["interval"])}
    add([(key, value + intervals.get(key, "")) for key, value in _rows(report)])
    for name, column in report.get("columns", {}).items():
        add(_rows(column), f"column {name}")
    for key, data in (("conll18", "gold words"), ("conll18_raw", "raw text")):
        if official := report.get(key):
            add([(name, f"{100 * value:.2f}") for name, value in official.items()],
                f"metrics of the CoNLL 2018 shared task on {data}, in percent")
    if comparison := report.get("compare"):
        add([(comparison["figure"], _shown(comparison["value"])),
             ("difference", _shown(comparison["difference"]) + _interval_text(comparison["interval"])),
             ("p_value", _shown(comparison["p_value"]))], f"compared with {comparison['model']}")
    if per_label := report.get("per_label"):
        header = ("label", *next(iter(per_label.values())))
        add([header, *((name, *map(_shown, scores.values())) for name, scores in per_label.items())],
            right=tuple(range(1, len(header))))
    if unseen := report.get("unseen_labels"):
        add([("label", "count"), *((label, str(n)) for label, n in islice(unseen.items(), MAX_ROWS))],
            "labels that training never saw", right=(1,))
    if confused := _confusions(report.get("confusion", {})):
        add([("gold", "predicted", "count"), *confused[:MAX_ROWS]], "most frequent confusions", right=(2,))
    if mistakes:
        ids = ("id",) if any("id" in mistake for mistake in mistakes) else ()
        rows = [(_shown(m["prob"]), m["gold"], m["predicted"], f"{m['file']}:{m['line']}",
                 *(str(m.get(name, "")) for name in ids), m["context"]) for m in mistakes]
        add([("prob", "gold", "predicted", "place", *ids, "in"), *rows], "most confident mistakes")
    return "\n".join(parts)


def _rows(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the entries that are a single number or word; the interval has no row of its own."""
    return [(key, _shown(value)) for key, value in report.items()
            if not isinstance(value, dict | list) and not key.startswith("interval")]


def _confusions(confusion: Mapping[str, Mapping[str, int]]) -> list[tuple[str, str, str]]:
    """Return the gold label, the predicted label and the count of each confusion, the most frequent first."""
    wrong = [(gold, label, n) for gold, row in confusion.items() for label, n in row.items() if label != gold]
    return [(gold, label, str(n)) for gold, label, n in sorted(wrong, key=lambda row: -row[2])]


def _interval_text(interval: Sequence[float] | None) -> str:
    return f"  (95% interval: {_shown(interval[0])} to {_shown(interval[1])})" if interval else ""


def _shown(value: Any) -> str:
    if value is None or value != value:  # NaN: the difference of two infinite perplexities
        return "-"
    return f"{value:.4f}" if isinstance(value, float) else str(value)
