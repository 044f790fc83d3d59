"""The body of `rnntool evaluate --system`: compare the output of a tagger or parser with a gold treebank."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from rnntool.commands import console
from rnntool.commands.options import MODEL_VARIABLE, Messages
from rnntool.data.json_text import to_json
from rnntool.data.reading import Reading
from rnntool.data.streams import input_names, open_lines, open_output
from rnntool.data.treebank import Treebank, read_treebank
from rnntool.errors import DataError, UsageError, contradiction, setting


def evaluate_system(
    files: Sequence[str], system: str, *, output: str | None, as_json: bool, reading: Reading,
    messages: Messages, model: str | None, inapplicable: Sequence[str],
) -> None:
    """Write a report on the file `system`; `files` are the gold treebank.

    `inapplicable` names the settings that the user chose although they apply only to models. `UsageError` if
    there are any, or if the command line names a model.
    """
    from rnntool import __version__
    from rnntool.commands.outputs import writes_json
    from rnntool.evaluation import conll18
    from rnntool.evaluation.metrics import signature

    if model is not None and model != os.environ.get(MODEL_VARIABLE):
        raise contradiction("system", "model")
    if inapplicable:
        raise UsageError(f"has no effect with {setting('system')}", setting=inapplicable[0],
                         advice="leave it out")
    if [*files, system].count("-") > 1:
        raise UsageError("standard input can be read only once", advice="give - only once")
    as_json = as_json or writes_json(output, messages)
    gold_bank, system_bank = _read(files, reading), _read([system], reading)
    scores = conll18.scores(gold_bank, system_bank)
    for bank, names in ((gold_bank, files), (system_bank, [system])):
        if not bank.has_heads:
            messages.warn(f"{input_names(names)}: expected heads, found _ in every word; "
                          "UAS, LAS, CLAS, MLAS and BLEX are left out")
    report = {
        "gold": input_names(files), "system": input_names([system]),
        "metrics": {name: score.report() for name, score in scores.items()},
        "signature": signature(rnntool=__version__, metric="conll18")}
    with open_output(output) as out:
        out.write(to_json(report, indent=2) + "\n" if as_json else _text(report))


def _read(files: Sequence[str], reading: Reading) -> Treebank:
    with ExitStack() as stack:
        treebank = read_treebank(
            stack.enter_context(open_lines(path, errors=reading.encoding_errors, encoding=reading.encoding))
            for path in files)
    if not treebank.words:
        raise DataError(place=input_names(files), expected="CoNLL-U with words", found="none")
    return treebank


def _text(report: dict[str, Any]) -> str:
    """Return a table of percentages, as the official script prints them."""
    names = ("precision", "recall", "f1", "aligned_accuracy")
    rows = [("metric", *names)]
    for metric, score in report["metrics"].items():
        values = (score[name] for name in names)
        rows.append((metric, *("" if value is None else f"{100 * value:.2f}" for value in values)))
    return console.table(rows, right=(1, 2, 3, 4))
