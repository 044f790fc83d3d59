"""`rnntool score`: score text with a language model, or targets with a sequence-to-sequence model."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, TextIO

import typer

from rnntool.commands import console
from rnntool.commands.groups import examples
from rnntool.commands.options import (
    AsJsonl,
    Compute,
    Files,
    Messages,
    Output,
    TextColumn,
    format_option,
    model_option,
)
from rnntool.data.formats import RECORD_FORMATS, empty_output, merged, readable_formats, record_writer
from rnntool.data.json_text import to_json
from rnntool.data.reading import TableReading
from rnntool.data.records import fields_of
from rnntool.errors import DataError, UsageError, contradiction, no_effect_without, setting
from rnntool.inference.options import ScoreOptions

if TYPE_CHECKING:
    from rnntool.data.inputs import Inputs
    from rnntool.data.records import Pair, Text, Transduction
    from rnntool.data.streams import Lines
    from rnntool.inference.model import Model
    from rnntool.tasks.lm import LMTask, ScoredText
    from rnntool.tasks.specs.lm import LMSettings
    from rnntool.tasks.transduce import ScoredTarget, TransduceTask

FORMATS = ("text", *RECORD_FORMATS)  # of the output
HEADER = ("record", "start", "end", "text", "surprisal_bits")
PHENOMENON = "UID"  # the key in BLiMP for what a pair tests
GROUPS = ("field", "linguistics_term", PHENOMENON)  # keys in BLiMP, from coarse to fine
RESULTS = ("log_prob_good", "log_prob_bad", "right")  # keys that JSONL and tables add to a pair


@examples(
    "echo 'To be, or not to be' | rnntool score",
    "rnntool score --per word essay.txt > surprisals.tsv",
    "rnntool score --pairs --json pairs.tsv",
    "rnntool score --pairs --prefix prefix --columns good,bad --by attractors agreement.tsv",
    "rnntool score -m reviewer --label-column label reviews.tsv",
    "rnntool score -m g2p lexicon.tsv",
)
def score(
    *,
    files: Files = None,
    model: Annotated[str, model_option()] = "shakespeare",
    output: Output = None,
    format: Annotated[str | None, format_option(", ".join(readable_formats("texts")))] = None,
    text_column: TextColumn = None,
    label_column: Annotated[str | None, typer.Option(
        "--label-column", metavar="COLUMN", show_default="as in training",
        help="Column or key of the label, for models that were trained on labeled text.")] = None,
    per: Annotated[Literal["token", "word"] | None, typer.Option(
        "--per", show_default=False,
        help="Write one row for each token or word, with its offsets and its surprisal in bits.")] = None,
    pairs: Annotated[bool, typer.Option(
        "--pairs", help="Read minimal pairs, the better sentence first, and report how often the model is "
                        "right.")] = False,
    columns: Annotated[str | None, typer.Option(
        "--columns", metavar="GOOD,BAD", show_default="1,2, or sentence_good,sentence_bad in JSONL",
        help="Columns or keys of the two sentences of a pair. Needs --pairs.")] = None,
    prefix: Annotated[str | None, typer.Option(
        "--prefix", metavar="COLUMN", show_default=False,
        help="Column or key of a text that comes before both sentences of a pair and is not scored.")] = None,
    by: Annotated[str | None, typer.Option(
        "--by", metavar="COLUMN[,COLUMN…]", show_default="field,linguistics_term,UID if JSONL has them",
        help="Also report the accuracy for each value of these columns or keys.")] = None,
    to: Annotated[str | None, typer.Option(
        "-t", "--to", metavar="FORMAT", show_default="text",
        help=f"Format of the output: {', '.join(FORMATS)}.")] = None,
    as_jsonl: AsJsonl = False,
    as_json: Annotated[bool, typer.Option(
        "--json", help="Print the report on --pairs as JSON.")] = False,
    options: ScoreOptions,
    reading: TableReading,
    compute: Compute,
    messages: Messages,
) -> None:
    """Score text with a language model.

    For each text, write its log-probability in nats, its perplexity and its number of tokens. A
    sequence-to-sequence model scores pairs: each target given its source.
    """
    from rnntool.commands.inputs import task_records
    from rnntool.commands.outputs import output_format
    from rnntool.data.progress import Counter
    from rnntool.data.streams import line_count, open_output
    from rnntool.inference import model as models
    from rnntool.tasks.lm import LMTask
    from rnntool.tasks.transduce import TransduceTask

    files = files or ["-"]
    _check(options, text_column=text_column, label_column=label_column, per=per, pairs=pairs, columns=columns,
           prefix=prefix, by=by, as_json=as_json, as_jsonl=as_jsonl, to=to)
    written_as = output_format(to, as_jsonl, None if as_json else output, FORMATS, messages) or "text"
    named = ",".join(filter(None, (columns, prefix, by))).split(",")
    taken = next((name for name in RESULTS if name in named), None)
    if written_as == "jsonl" and taken:
        raise UsageError(f"the output has a key {taken!r} of its own",
                         setting="as_jsonl" if as_jsonl or not to else "to",
                         advice="rename the column of that name")
    scorer = models.load(model, device=compute.device, threads=compute.threads)
    if isinstance(scorer.task, TransduceTask):
        _check_transducer(options, text_column=text_column, label_column=label_column, per=per, pairs=pairs)
        with open_output(output) as out:
            unknown, tokens = _score_targets(
                scorer, scorer.task, files, format, reading, messages, out, to=written_as)
        _warn_of_unknown(scorer, f"{unknown:,} of {tokens:,}" if unknown else "", "tokens", messages)
        return
    task = scorer.require(LMTask)
    with open_output(output) as out:
        if pairs:
            inputs = _pair_inputs(files, columns, prefix, format, reading, messages)
            groups = [name.strip() for name in by.split(",")] if by else None
            printed = written_as != "text" and output is None and sys.stdout.isatty()
            with console.progress(quiet=messages.quiet or printed) as watch:
                if watch:
                    lines = line_count(files)
                    sentences = Counter("scoring", "sentences", watch, total=lines and 2 * lines)
                    scorer.pipeline.watch = sentences.add
                unknown = _score_pairs(
                    scorer, inputs, out, options, groups=groups, as_json=as_json, to=written_as)
            counted, unit = f"{unknown:,}", "pairs with tokens"
        else:
            settings = _settings(task, label_column, options.label)
            inputs = task_records(
                task, files, settings, text_column=text_column, format=format, reading=reading,
                messages=messages, chosen=["label_column"] if label_column else [])
            unknown, tokens = _score_texts(scorer, inputs, out, options, per=per, to=written_as)
            counted, unit = f"{unknown:,} of {tokens:,}", "tokens"
    _warn_of_unknown(scorer, counted if unknown else "", unit, messages)


def _warn_of_unknown(scorer: Model, counted: str, unit: str, messages: Messages) -> None:
    """Warn of tokens that the model has never seen, unless `counted` says nothing."""
    if counted:
        messages.warn(f"{unit} that {scorer.name} has never seen: {counted}; all such tokens are scored as "
                      "the same unknown token")


def _check(
    options: ScoreOptions, *, text_column: str | None, label_column: str | None, per: str | None, pairs: bool,
    columns: str | None, prefix: str | None, by: str | None, as_json: bool, as_jsonl: bool, to: str | None,
) -> None:
    """Raise `UsageError` for options that contradict each other or have no effect."""
    if pairs and (per or options.context == "stream"):
        other = setting("per") if per else setting("context", "stream")
        raise UsageError(f"{setting('pairs')} contradicts {other}", advice="leave one out")
    if pairs and text_column:
        raise UsageError(f"has no effect with {setting('pairs')}", setting="text_column",
                         advice=f"give {setting('columns', 'GOOD,BAD')} instead")
    if label_column and (options.label is not None or pairs):
        other = setting("pairs" if options.label is None else "label")
        raise UsageError(f"has no effect with {other}", setting="label_column", advice="leave one out")
    if columns and not pairs:
        raise UsageError(f"has no effect without {setting('pairs')}", setting="columns",
                         advice=f"give {setting('pairs')} as well, or use {setting('text_column')}")
    if (prefix or by) and not pairs:
        raise no_effect_without("prefix" if prefix else "by", "pairs")
    if as_json and (as_jsonl or to):
        raise contradiction("as_json", "as_jsonl" if as_jsonl else "to")
    if as_json and not pairs:
        raise UsageError(f"has no effect without {setting('pairs')}", setting="as_json",
                         advice=f"give {setting('as_jsonl')} to get records as JSON")


def _settings(task: LMTask, label_column: str | None, label: str | None) -> LMSettings:
    """Return the settings to read texts with. With one `label` for all texts, no label is read."""
    settings: LMSettings = task.settings.replace(unit="line")
    if label_column and task.labels is None:
        raise UsageError("the model was trained on text without labels", setting="label_column",
                         advice="leave it out")
    if label is not None:
        return settings.replace(label_column=None)
    return settings.replace(label_column=label_column) if label_column else settings


# --- Texts -------------------------------------------------------------------------------------------------


def _score_texts(
    scorer: Model, inputs: Inputs, out: TextIO, options: ScoreOptions, *, per: str | None, to: str
) -> tuple[int, int]:
    """Write a line for each text, or rows; return the number of unknown tokens and of all tokens."""
    write = None if to == "text" else record_writer(to)
    as_tsv = to in ("text", "tsv")
    if per and as_tsv:
        out.write("\t".join(HEADER) + "\n")
    scored = scorer.scored(inputs, options, ready=inputs.ready, flush=out.flush)
    unknown = tokens = number = 0
    for number, (record, result) in enumerate(scored, 1):
        unknown, tokens = unknown + result.unknown, tokens + len(result.tokens)
        if per and as_tsv:
            out.writelines("\t".join(map(_cell, row)) + "\n" for row in _rows(number, record, result, per))
        elif write and per and to == "csv":
            out.writelines(write(dict(zip(HEADER, row, strict=True)), {}, record.place)
                           for row in _rows(number, record, result, per))
        elif write:
            fields = {"text": record.text} if record.fields is None else record.fields
            out.write(write(fields, _results(record, result, per), record.place))
        else:
            out.write(_line(result))
    if not number and inputs.columns is not None and not (per and as_tsv):
        out.write(empty_output([], HEADER, to) if per and to == "csv"
                  else empty_output(inputs.columns, _names(per), to))
    return unknown, tokens


def _names(per: str | None) -> list[str]:
    """Return the names of what tables add to a text."""
    from rnntool.data.records import Text
    from rnntool.tasks.lm import ScoredText

    return list(_results(Text(""), ScoredText([], [0.0], 0), per))


def _line(result: ScoredText | ScoredTarget) -> str:
    return f"{result.total_nats:.4f}\t{result.perplexity:.4f}\t{len(result.log_probs)}\n"


def _rows(number: int, record: Text, result: ScoredText, per: str) -> Iterator[tuple[str, ...]]:
    """Return the cells of a row for each token or word; the last one is for the end of the record."""
    for unit in result.words(record.text) if per == "word" else result.units(record.text):
        yield str(number), str(unit.start), str(unit.end), unit.text, f"{unit.surprisal_bits:.4f}"


def _results(record: Text, result: ScoredText, per: str | None) -> dict[str, Any]:
    """Return the fields that JSONL and tables add to a text."""
    fields = result.results()
    if per:
        units = result.words(record.text) if per == "word" else result.units(record.text)
        fields["surprisals"] = [{"start": u.start, "end": u.end, "text": u.text,
                                 "surprisal_bits": round(u.surprisal_bits, 6)} for u in units]
    return fields


# --- Targets -----------------------------------------------------------------------------------------------


def _check_transducer(options: ScoreOptions, **given: Any) -> None:
    """Raise `UsageError` for an option that only language models have."""
    chosen = [name for name, value in given.items() if value]
    chosen += [name for name, value in options.to_json().items() if value != getattr(ScoreOptions, name)]
    if chosen:
        raise UsageError("has no effect with a sequence-to-sequence model", setting=chosen[0],
                         advice="leave it out")


def _score_targets(
    scorer: Model, task: TransduceTask, files: list[str], format: str | None, reading: TableReading,
    messages: Messages, out: TextIO, *, to: str,
) -> tuple[int, int]:
    """Write a line for each target; return the number of unknown tokens and of all tokens."""
    from rnntool.data.inputs import Inputs
    from rnntool.tasks.transduce import ScoredTarget

    def read(lines: Lines, name: str) -> Iterator[Transduction]:
        records = task.read(lines, name, task.settings, targets=True, layout=reading.layout(),
                            variants=False)
        for record in records:
            yield from (replace(record, targets=(target,)) for target in record.targets)

    inputs = Inputs(
        files, "sequences", read, format=format, reading=reading, log=messages.log, warn=messages.warn,
        supervised=True, chosen=reading.table_settings())
    write = None if to == "text" else record_writer(to)
    unknown = tokens = 0
    for record, result in scorer.score_targets(inputs, ready=inputs.ready, flush=out.flush):
        unknown, tokens = unknown + result.unknown, tokens + len(result.log_probs)
        if write is None:
            out.write(_line(result))
        else:
            out.write(write(merged(fields_of(record), result.results()), {}, record.place))
    if not tokens:  # each target has at least its end, so there is no record
        out.write(empty_output(inputs.columns, ScoredTarget([0.0], 0).results(), to))
    return unknown, tokens


# --- Minimal pairs -----------------------------------------------------------------------------------------


def _pair_inputs(
    files: list[str], columns: str | None, prefix: str | None, format: str | None, reading: TableReading,
    messages: Messages,
) -> Inputs:
    from rnntool.data.formats import read_pairs
    from rnntool.data.inputs import Inputs

    names = None
    if columns is not None:
        good, comma, bad = columns.partition(",")
        if not comma or not good or not bad or good == bad:
            raise UsageError(setting="columns", expected="two different names with a comma between them",
                             found=repr(columns))
        names = (good, bad)

    def read(lines: Lines, format: str) -> Iterator[Pair]:
        return read_pairs(lines, format=format, columns=names, prefix=prefix, layout=reading.layout())

    return Inputs(
        files, "pairs", read, format=format, reading=reading, log=messages.log, warn=messages.warn,
        chosen=reading.table_settings())


def _score_pairs(
    scorer: Model, inputs: Inputs, out: TextIO, options: ScoreOptions, *, groups: list[str] | None,
    as_json: bool, to: str,
) -> int:
    """Write how often the better sentence has the higher log-probability; a tie counts as wrong.

    Whole sentences are compared, or after a prefix the words that follow it, without the end of the text.
    `groups` are the fields to report by; None takes the fields of BLiMP that are present. Return the number
    of pairs that contain something unknown to the model.
    """
    write = None if to == "text" else record_writer(to)
    total, unknown = _Tally(), 0
    by: dict[str, dict[str, _Tally]] = {name: defaultdict(_Tally) for name in groups or GROUPS}
    for pair, *scored in scorer.compare(inputs, options, ready=inputs.ready, flush=out.flush):
        good, bad = [result.total_nats if pair.prefix is None else result.nats_from(text, len(pair.prefix))
                     for text, result in zip(pair.texts(), scored, strict=True)]
        right = good > bad
        unknown += any(result.unknown for result in scored)
        total.add(right)
        for name, tallies in by.items():
            if pair.fields is not None and name in pair.fields:
                tallies[str(pair.fields[name])].add(right)
            elif groups:
                raise DataError(
                    place=pair.place, expected=f"a column {name!r} to report by",
                    found=", ".join(map(repr, pair.fields or ())) or "columns without names",
                    advice=f"choose the columns with {setting('by')}")
        if write:
            results = dict(zip(RESULTS, (round(good, 6), round(bad, 6), right), strict=True))
            out.write(write(pair.fields or _fields(pair), results, pair.place))
    if not total.pairs:
        raise DataError(expected="pairs of sentences", found="none",
                        advice="give two sentences per line with a tab between them")
    tables = {name: dict(sorted(tallies.items(), key=_rank)) for name, tallies in by.items() if tallies}
    if as_json:
        phenomena = {name: tally.accuracy for name, tally in tables.get(PHENOMENON, {}).items()}
        report = total.report() | {"per_phenomenon": phenomena} | {
            "by": {name: {value: tally.report() for value, tally in table.items()}
                   for name, table in tables.items()}}
        out.write(to_json(report, indent=2) + "\n")
    elif not write:
        out.write(f"accuracy\t{total.accuracy:.4f}\npairs\t{total.pairs}\n")
        out.writelines(f"{_cell(name)}\t{_cell(value)}\t{tally.accuracy:.4f}\t{tally.pairs}\n"
                       for name, table in tables.items() for value, tally in table.items())
    return unknown


def _fields(pair: Pair) -> dict[str, Any]:
    """Return the fields of a pair whose columns have no names."""
    prefix = {} if pair.prefix is None else {"prefix": pair.prefix}
    return {**prefix, "good": pair.good, "bad": pair.bad}


@dataclass
class _Tally:
    """The number of pairs, and of those in which the model was right."""

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
    """Sort whole numbers, such as a number of attractors, by size and before names."""
    value = item[0]
    return (int(value), "") if value.isascii() and value.isdigit() else (sys.maxsize, value)


def _cell(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
