"""`rnntool score`."""

from __future__ import annotations

import json
import math
import sys
from collections import defaultdict
from dataclasses import dataclass
from typing import Any, TextIO

from rnntool.commands.common import Common
from rnntool.commands.inputs import task_records
from rnntool.data.formats import Pair, Text, read_pairs
from rnntool.data.inputs import Inputs
from rnntool.data.streams import open_output
from rnntool.errors import DataError, UsageError
from rnntool.inference import model as models
from rnntool.inference.model import Model
from rnntool.inference.options import ScoreOptions
from rnntool.tasks.lm import LMTask, Scored
from rnntool.tasks.specs.lm import LMSettings

HEADER = "record\tstart\tend\ttext\tsurprisal_bits\n"
PHENOMENON = "UID"  # BLiMP's key for what a pair tests
GROUPS = ("field", "linguistics_term", PHENOMENON)  # its keys from the broad to the fine
ANSWERS = ("log_prob_good", "log_prob_bad", "right")  # keys that a pair gets


def run(
    files: list[str], *, model: str, output: str | None, format: str | None, text_column: str | None,
    label_column: str | None, label: str | None, per: str | None, pairs: bool, columns: str | None,
    prefix: str | None, by: str | None, stream: bool, as_jsonl: bool, as_json: bool, common: Common,
) -> None:
    """Score files, line by line, by token or word, or pair by pair."""
    if pairs and (per or stream):
        raise UsageError("--pairs compares whole sentences; leave --per and --context out")
    if pairs and text_column:
        raise UsageError("--text-column is for single texts; give --columns GOOD,BAD")
    if label_column and (label is not None or pairs):
        other = "--pairs" if label is None else "--label, which is that of all texts"
        raise UsageError(f"--label-column is for single texts and goes without {other}; leave one out")
    if columns and not pairs:
        raise UsageError("--columns names the two sentences of a pair; give --pairs, or --text-column")
    if (prefix or by) and not pairs:
        raise UsageError(f"{'--prefix' if prefix else '--by'} is for pairs; give --pairs")
    if as_json and as_jsonl:
        raise UsageError("--json is one report and --jsonl an object for each pair; leave one out")
    if as_json and not pairs:
        raise UsageError("--json is for the report of --pairs; give --jsonl for records")
    if not as_json:
        as_jsonl = as_jsonl or common.writes_json(output)
    named = ",".join(filter(None, (columns, prefix, by))).split(",")
    taken = next((name for name in ANSWERS if name in named), None)
    if as_jsonl and taken:
        raise UsageError(f"--jsonl: writes {taken!r} for what the model says, found a column of that name; "
                         "rename it")
    scorer = models.load(model, device=common.device, threads=common.threads)
    task = scorer.require(LMTask)
    with open_output(output) as out:
        if pairs:
            inputs = _pair_inputs(files, columns, prefix, format, common)
            groups = [name.strip() for name in by.split(",")] if by else None
            unknown = _score_pairs(
                scorer, inputs, out, groups, label=label, as_json=as_json, as_jsonl=as_jsonl)
            what, count = "pairs with tokens", f"{unknown:,}"
        else:
            settings = _settings(task, text_column, label_column, label)
            columns_of = {"text_column": text_column, "label_column": label_column}
            inputs = task_records(task, files, settings, format=format, common=common,
                                  chosen=[name for name, column in columns_of.items() if column])
            unknown, tokens = _score_texts(
                scorer, inputs, out, per=per, stream=stream, label=label, as_jsonl=as_jsonl)
            what, count = "tokens", f"{unknown:,} of {tokens:,}"
    if unknown:
        common.warn(f"{what} that {scorer.name} never saw: {count}; all such tokens are scored as the same "
                    "unknown one")


def _settings(
    task: LMTask, text_column: str | None, label_column: str | None, label: str | None
) -> LMSettings:
    """How lines are read; where one label is given for all, theirs need not be there."""
    settings: LMSettings = task.settings.replace(unit="line")
    if label_column and task.labels is None:
        raise UsageError(f"--label-column: the model learned text without labels, found {label_column!r}; "
                         "leave it out")
    if text_column:
        settings = settings.replace(text_column=text_column)
    if label is not None:
        return settings.replace(label_column=None)
    return settings.replace(label_column=label_column) if label_column else settings


def _score_texts(
    scorer: Model, inputs: Inputs, out: TextIO, *, per: str | None, stream: bool, label: str | None,
    as_jsonl: bool,
) -> tuple[int, int]:
    """Write a line for each text, or rows; how many tokens the model never saw, and how many there are."""
    if per and not as_jsonl:
        out.write(HEADER)
    scored = scorer.scored(inputs, ScoreOptions(label=label, context="stream" if stream else "line"),
                           ready=inputs.ready, flush=out.flush)
    unknown = tokens = 0
    for number, (record, result) in enumerate(scored, 1):
        unknown, tokens = unknown + result.unknown, tokens + len(result.tokens)
        if as_jsonl:
            out.write(_json(record, result, per))
        elif per:
            out.writelines(_rows(number, record, result, per))
        else:
            out.write(f"{result.total_nats:.4f}\t{result.perplexity:.4f}\t{len(result.log_probs)}\n")
    return unknown, tokens


def _rows(number: int, record: Text, result: Scored, per: str) -> list[str]:
    """A row for each token or word, the last one for the end of the record."""
    units = result.words(record.text) if per == "word" else result.units(record.text)
    return [f"{number}\t{u.start}\t{u.end}\t{_cell(u.text)}\t{u.surprisal_bits:.4f}\n" for u in units]


def _json(record: Text, result: Scored, per: str | None) -> str:
    fields: dict[str, Any] = dict(record.fields) if record.fields is not None else {"text": record.text}
    fields |= {"log_prob": round(result.total_nats, 6), "tokens": len(result.log_probs),
               "unknown": result.unknown, "perplexity": round(result.perplexity, 6),
               "surprisal_bits": round(-result.total_nats / math.log(2), 6)}
    if per:
        units = result.words(record.text) if per == "word" else result.units(record.text)
        fields["surprisals"] = [{"start": u.start, "end": u.end, "text": u.text,
                                 "surprisal_bits": round(u.surprisal_bits, 6)} for u in units]
    return json.dumps(fields, ensure_ascii=False) + "\n"


def _pair_inputs(
    files: list[str], columns: str | None, prefix: str | None, format: str | None, common: Common
) -> Inputs:
    names = None
    if columns is not None:
        good, comma, bad = columns.partition(",")
        if not comma or not good or not bad:
            raise UsageError(f"--columns: expected two names with a comma between, found {columns!r}")
        if good == bad:
            raise UsageError(f"--columns: expected two columns, found one twice in {columns!r}")
        names = (good, bad)
    return Inputs(
        files, "pairs", lambda lines, found: read_pairs(lines, format=found, columns=names, prefix=prefix),
        format=format, errors=common.encoding_errors, log=common.log, warn=common.warn)


def _score_pairs(
    scorer: Model, inputs: Inputs, out: TextIO, groups: list[str] | None, *, label: str | None,
    as_json: bool, as_jsonl: bool,
) -> int:
    """A pair counts as right where the better one has the higher log-probability; a tie is wrong.

    Returns how many pairs have something in them that the model never saw.

    Whole sentences are compared, or after a prefix the words that follow it, without the end. `groups` are
    the fields to report by: None takes those of BLiMP that there are.
    """
    every, unknown = _Tally(), 0
    by: dict[str, dict[str, _Tally]] = {name: defaultdict(_Tally) for name in groups or GROUPS}
    for pair, *scored in scorer.compare(inputs, label=label, ready=inputs.ready, flush=out.flush):
        good, bad = [result.total_nats if pair.prefix is None else result.nats_behind(text, len(pair.prefix))
                     for text, result in zip(pair.texts(), scored, strict=True)]
        right = good > bad
        unknown += any(result.unknown for result in scored)
        every.add(right)
        for name, tallies in by.items():
            if pair.fields is not None and name in pair.fields:
                tallies[str(pair.fields[name])].add(right)
            elif groups:
                have = ", ".join(map(repr, pair.fields or ())) or "no names"
                raise DataError(f"{pair.place}: expected a column {name!r} to report by, found {have}; see --by")
        if as_jsonl:
            fields = dict(pair.fields) if pair.fields else _own_fields(pair)
            fields |= zip(ANSWERS, (round(good, 6), round(bad, 6), right), strict=True)
            out.write(json.dumps(fields, ensure_ascii=False) + "\n")
    if not every.pairs:
        raise DataError("expected pairs of sentences, found none; give two sentences a line with a tab between")
    tables = {name: dict(sorted(tallies.items(), key=_rank)) for name, tallies in by.items() if tallies}
    if as_json:
        phenomena = {name: tally.accuracy for name, tally in tables.get(PHENOMENON, {}).items()}
        report = every.report() | {"per_phenomenon": phenomena} | {
            "by": {name: {value: tally.report() for value, tally in table.items()}
                   for name, table in tables.items()}}
        out.write(json.dumps(report, ensure_ascii=False, indent=2) + "\n")
    elif not as_jsonl:
        out.write(f"accuracy\t{every.accuracy:.4f}\npairs\t{every.pairs}\n")
        out.writelines(f"{_cell(name)}\t{_cell(value)}\t{tally.accuracy:.4f}\t{tally.pairs}\n"
                       for name, table in tables.items() for value, tally in table.items())
    return unknown


def _own_fields(pair: Pair) -> dict[str, Any]:
    """What a pair from columns without names has."""
    before = {} if pair.prefix is None else {"prefix": pair.prefix}
    return {**before, "good": pair.good, "bad": pair.bad}


@dataclass
class _Tally:
    """How many pairs there are and in how many the model was right."""

    pairs: int = 0
    right: int = 0

    @property
    def accuracy(self) -> float:
        return self.right / self.pairs

    def add(self, right: bool) -> None:
        self.pairs += 1
        self.right += right

    def report(self) -> dict[str, Any]:
        return {"pairs": self.pairs, "accuracy": self.accuracy}


def _rank(item: tuple[str, Any]) -> tuple[int, str]:
    """Whole numbers by size, such as how many attractors there are, before names by letter."""
    value = item[0]
    return (int(value), "") if value.isascii() and value.isdigit() else (sys.maxsize, value)


def _cell(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
