"""The table of commands. A command is imported only when it is called, so that the help starts fast.

To add a command, write `rnntool/commands/NAME.py` with a function `NAME`, and add a row here.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from rnntool import __version__
from rnntool.commands import allocator
from rnntool.commands.exit_codes import on_stop_signal, stop_signals
from rnntool.commands.groups import HELP, MARKUP, Group, Row, epilog, group

TRAIN = "Train a model on your own data."
TUNE = "Find good settings for a training on your own data."
INSPECT = "Look inside a network: gradients, states, word vectors."


def _train() -> Any:
    from rnntool.commands.train import rows

    return group("train", TRAIN, *rows())


def _tune() -> Any:
    from rnntool.commands.tune import rows

    return group("tune", TUNE, *rows())


def _inspect() -> Any:
    from rnntool.commands.inspect import rows

    return group("inspect", INSPECT, *rows())


COMMANDS = (
    Row("tag", "Tag each word of sentences, for example with parts of speech or named entities.",
        "rnntool.commands.tag"),
    Row("segment", "Split raw text into sentences, words and multiword tokens.", "rnntool.commands.segment"),
    Row("classify", "Label each text: one line in, one line out.", "rnntool.commands.classify"),
    Row("transduce", "Turn each sequence into another one, such as a word into its pronunciation.",
        "rnntool.commands.transduce"),
    Row("generate", "Write text with a language model.", "rnntool.commands.generate"),
    Row("score", "Score text with a language model.", "rnntool.commands.score"),
    Row("evaluate", "Report how good a model is on data with the correct answers.",
        "rnntool.commands.evaluate"),
    Row("models", "List the models that can be used by name.", "rnntool.commands.models"),
    Row("info", "Describe a model: its task, network, settings and scores.", "rnntool.commands.info"),
    Row("export", "Write a model's network as an ONNX graph for other programs.", "rnntool.commands.export"),
    Row("import-arpa", "Make a model from an ARPA file.", "rnntool.commands.import_arpa"),
    Row("tokenize", "Split lines into words, or into the tokens that a model reads.",
        "rnntool.commands.tokenize"),
    Row("report", "Write an HTML page about a training: learning curves, scores on the development data, "
                  "settings.", "rnntool.commands.report"),
    Row("train", TRAIN, _train),
    Row("tune", TUNE, _tune),
    Row("inspect", INSPECT, _inspect),
)


class Commands(Group):
    """All commands of rnntool."""

    rows = COMMANDS


app = typer.Typer(
    cls=Commands, name="rnntool", rich_markup_mode=MARKUP, pretty_exceptions_enable=False,
    context_settings=HELP,
    help="Small, fast, private text models from your own data: recurrent networks that write, tag and "
         "classify text.",
    epilog=epilog(
        "echo 'The keys on the table are mine.' | rnntool tag",
        "rnntool train tag train.conllu --dev dev.conllu -o my-tagger",
    ),
)


def _print_version(requested: bool) -> None:
    if requested:
        print(f"rnntool {__version__}")
        raise typer.Exit


@app.callback()
def _rnntool(
    version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True,
                                          help="Print the version and exit.")] = False,
) -> None:
    pass


def main() -> None:
    """Run the console script."""
    for number in stop_signals():
        signal.signal(number, on_stop_signal)
    gc.set_threshold(100_000)  # records form no cycles; looking for cycles costs 3 % of the time
    sys.setswitchinterval(0.0005)  # seconds; a thread that finished a batch continues sooner
    allocator.keep_freed()
    # Importing torch's compiler creates this folder. rnntool doesn't use the compiler, and "/" always exists.
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", os.sep)
    if sys.stderr is None:  # the shell closed it; no file that is opened later may get its descriptor
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115
    try:
        app()
    finally:
        gc.freeze()  # at exit, saves 25 ms of looking for cycles among imported objects
