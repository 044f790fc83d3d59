"""`rnntool import-arpa`: make a model folder from an ARPA file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rnntool.commands.groups import examples
from rnntool.commands.options import Messages


@examples("rnntool import-arpa lm.arpa.gz -o lm")
def import_arpa(
    file: Annotated[str, typer.Argument(
        metavar="FILE", help="ARPA file, which may be compressed; `-` is standard input.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Folder of the new model.")],
    force: Annotated[bool, typer.Option("--force", help="Replace the model that DIR has.")] = False,
    *,
    messages: Messages,
) -> None:
    """Make a model from an ARPA file.

    ARPA files are n-gram language models of words, as SRILM, KenLM and other programs write them. The model
    splits text into words at spaces.
    """
    from rnntool import model_folder
    from rnntool.commands import console
    from rnntool.data.progress import Stage
    from rnntool.data.streams import input_names, open_lines
    from rnntool.models import arpa
    from rnntool.tasks.lm import LMTask
    from rnntool.tasks.specs.lm import LMSettings
    from rnntool.tokenize import WordTokenizer
    from rnntool.training.write_folder import check_contents, check_place, write_backoff_model

    check_place(output)
    with model_folder.locked(output, warn=messages.warn), console.progress(quiet=messages.quiet) as watch:
        check_contents(output, force=force)
        words, model = arpa.read(open_lines(file), place=input_names([file]))
        settings = LMSettings(tokenizer="word", encoder="ngram", order=model.order)
        task = LMTask(WordTokenizer(words, lower=False, split="space"), settings=settings)

        def show(stage: Stage) -> None:
            if watch:
                watch(stage)

        write_backoff_model(task, model, [], output, training_data={}, watch=show)
    messages.log(f"{output}: {len(words):,} words, {model.order}-grams")
