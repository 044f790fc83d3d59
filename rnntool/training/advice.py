"""What the result of a training means, and what to do next. Reads only what is in the model folder."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rnntool.errors import setting
from rnntool.model_folder import ModelConfig
from rnntool.models.config import WITHOUT_NETWORK
from rnntool.tasks.specs.settings import Settings

FEW_RECORDS = 100  # development records below which the figure is uncertain, whatever its interval
WIDE_ERROR = 0.05  # half of the interval of an accuracy or F1, from which it is uncertain
LAST_SHARE = 0.75  # of the training; the gain after it shows whether more time would help
LARGE_GAIN = 0.03  # of the errors or of the nats per token, after that share
WHOLE_SHARE = 0.9  # of the epochs, before which the time limit has cut a training short
EARLY_SHARE = 0.6  # of the training; a best score before it shows overfitting
PERFECT = {"bleu": 100.0}  # the best value of a figure; 1 for the others

Entry = Mapping[str, Any]  # an evaluation, a line of metrics.jsonl


def cross_validated(figures: Mapping[str, Any]) -> str:
    """State the figures of a cross-validation: over all records with its interval, and by fold."""
    text = f"{figures['figure']} {shown_figure(figures['value'])}"
    if interval := figures["interval"]:
        text += f" (95% interval: {shown_figure(interval[0])} to {shown_figure(interval[1])})"
    return (f"{text} on {figures['records']:,} records; mean of {len(figures['folds'])} folds "
            f"{shown_figure(figures['mean'])}, standard deviation {shown_figure(figures['std'])}")


def result(config: ModelConfig) -> str:
    """State the main figure with its interval, the number of records, and the baselines."""
    report = config.report
    if not report:
        return "trained without development data, so nothing says how good the model is"
    key = report["interval_of"]
    text = f"{key} {shown_figure(report[key])}"
    if interval := report["interval"]:
        text += f" (95% interval: {shown_figure(interval[0])} to {shown_figure(interval[1])})"
    text += f" on {_counted(report['records'])}"
    baselines = [f"{shown_figure(report[name][key])} ({report[name]['method']})"
                 for name in ("baseline", "ngram", "linear") if name in report]
    text += f"; baseline{'s' * (len(baselines) > 1)} {', '.join(baselines)}" if baselines else ""
    mixed = report.get("perplexity_mixed")
    return text + (f"; the model and the 5-grams interpolated: {shown_figure(mixed)}" if mixed else "")


def next_step(config: ModelConfig, history: Sequence[Entry]) -> str:
    """Choose the one step that would probably help most, given the evaluations of the training in order."""
    report, settings = config.report, config.settings
    if report and config.network.encoder.kind in WITHOUT_NETWORK:
        return f"a network can do better, because it sees more of the text: leave out {setting('encoder')}"
    if not report or not history:
        return f"to know how good it is, give {setting('dev')}, or a {setting('dev_fraction')} above 0"
    higher, last = config.spec.higher_is_better, history[-1]["epoch"]
    more_time = f"give it more time with {_longer(settings, last)}"
    improving = _improving(config, history)
    if last < 1:
        return f"the time was over before all training data was read once: {more_time}"
    if _worse_than_baseline(config):
        if improving or not higher:
            return f"no better than the baseline yet: {more_time}"
        return ("no better than the baseline: check that the data has the right columns, give more training "
                f"data, or {more_time}")
    if report.get("ngram", {}).get(report["interval_of"], math.inf) < report[report["interval_of"]]:
        return f"counted n-grams are better: {more_time}, or count with {setting('encoder', 'ngram')}"
    if reason := _uncertain(config):
        return f"{reason}, so the figure is uncertain: {_more_records(config)}"
    if _is_perfect(config):
        return "no mistakes on the development data: evaluate it on other data"
    if improving:
        return f"still improving: {more_time}"
    if len(history) == 1:
        return f"nothing says whether it would improve further: {more_time}"
    best = _best(history, config)["epoch"]
    if best < EARLY_SHARE * last:
        return (f"best after epoch {best:.3g} of {last:.3g}, so more time would not help: give more training "
                f"data, or more {setting('dropout')} than {settings.dropout:g}")
    if getattr(settings, "tokenizer", "word") == "word" and not (settings.vectors or settings.init):
        return (f"no longer improving: give more training data, or word vectors with "
                f"{setting('vectors', 'FILE')}")
    return "no longer improving: more training data would help most"


def _longer(settings: Settings, epochs: float) -> str:
    """Return the setting with which the next training lasts twice as long."""
    if settings.max_time:
        return setting("max_time", f"{math.ceil(settings.max_time / 30)}m")
    return setting("epochs", 2 * math.ceil(epochs))


def _is_perfect(config: ModelConfig) -> bool:
    """Return whether the figure can't be better."""
    key = config.report["interval_of"]
    return config.spec.higher_is_better and bool(config.report[key] == PERFECT.get(key, 1.0))


def _worse_than_baseline(config: ModelConfig) -> bool:
    """Return whether the figure is not better than the baseline, and not by chance."""
    report, key = config.report, config.report["interval_of"]
    baseline = report.get("baseline", {}).get(key)
    if baseline is None or _is_perfect(config):
        return False
    low, high = report["interval"] or (report[key], report[key])
    return bool(high <= baseline if config.spec.higher_is_better else low >= baseline)


def _more_records(config: ModelConfig) -> str:
    """Say how to get a figure that is more certain."""
    if config.report.get("cross_validation"):
        return "give more training data"
    return (f"give more of them with {setting('dev', 'FILE')}, or evaluate on all training data with "
            f"{setting('folds', 5)}")


def _uncertain(config: ModelConfig) -> str:
    """Say why the figure is uncertain; "" if it is not."""
    report, key = config.report, config.report["interval_of"]
    if figures := report.get("cross_validation"):
        report, key = figures, "value"
    counted = f"{report['records']:,} records" if figures else _counted(report["records"])
    interval = report["interval"]
    if not config.spec.higher_is_better:  # a perplexity is a mean over many tokens
        low, high = interval or (1.0, 1.0)
        return "" if not interval or high < (1 + 2 * WIDE_ERROR) * low else counted
    few = report["records"] < FEW_RECORDS
    largest = WIDE_ERROR * PERFECT.get(config.report["interval_of"], 1.0)
    wide = interval is not None and max(report[key] - interval[0], interval[1] - report[key]) > largest
    return f"only {counted}" if few or wide else ""


def _improving(config: ModelConfig, history: Sequence[Entry]) -> bool:
    """Return whether the training was cut short at its best, or its end still lowered the error by much."""
    settings, last = config.settings, history[-1]
    planned = settings.epochs_for(round(last["step"] / max(last["epoch"], 1e-9)))
    if settings.max_time and last["epoch"] < WHOLE_SHARE * planned and _best(history, config) is last:
        return True
    before = [entry for entry in history if entry["epoch"] <= LAST_SHARE * last["epoch"]]
    if not before:
        return False
    old, new = (_error(_best(entries, config), config) for entries in (before, history))
    return new < (1 - LARGE_GAIN) * old


def _best(history: Sequence[Entry], config: ModelConfig) -> Entry:
    return min(history, key=lambda entry: (_error(entry, config), entry.get("symbol_error_rate", 0.0)))


def _error(entry: Entry, config: ModelConfig) -> float:
    """Return the share of errors, or for a perplexity the nats per token."""
    score = main_figure(entry)[1]
    if score is None or math.isnan(score):
        return math.inf
    if not config.spec.higher_is_better:
        return math.log(max(1.0, score))
    return 1 - score / PERFECT.get(config.report["interval_of"], 1.0)


def evaluation_scores(entry: Entry) -> dict[str, Any]:
    """Return the figures of an evaluation on the development data, the main one first."""
    return {name: value for name, value in entry.items()
            if name not in ("epoch", "step", "loss", "lr", "seconds", "tokens")}


def main_figure(entry: Entry) -> tuple[str, float | None]:
    """Return the name and value of the main figure of an evaluation."""
    return next(iter(evaluation_scores(entry).items()), ("", None))


def _counted(records: int) -> str:
    return f"{records:,} development record{'s' if records != 1 else ''}"


def shown_figure(value: float | None) -> str:
    """Format a figure of a report for people."""
    return "-" if value is None else f"{value:.4f}" if abs(value) < 10 else f"{value:,.1f}"
