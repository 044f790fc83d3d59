"""The options of `rnntool inspect`; what the subcommands do is in `rnntool.commands.inspect`."""

from __future__ import annotations

from typing import Annotated

import typer

from rnntool.commands.common import Common
from rnntool.commands.groups import examples
from rnntool.commands.options import (
    AsJson,
    Compute,
    Files,
    Messages,
    Reading,
    format_option,
    model_option,
)
from rnntool.tasks.specs.settings import CELL_NAMES, MAX_SEED


def _common(reading: Reading, compute: Compute, messages: Messages) -> Common:
    return Common(**reading.to_json(), **compute.to_json(), **messages.to_json())


Picture = Annotated[str | None, typer.Option(
    "-o", "--output", metavar="FILE", show_default=False,
    help="Draw a picture, too: a name that ends in .svg, .html or .png.")]
Layer = Annotated[int | None, typer.Option(
    "--layer", metavar="N", min=1, help="Layer to look at, from 1.", show_default="the last one")]
VectorsOf = Annotated[str | None, model_option()]
VectorsFile = Annotated[str | None, typer.Option(
    "--vectors", metavar="FILE", show_default=False,
    help="Vectors in the text format of GloVe or word2vec, in place of a model's.")]
AsTraining = Annotated[str | None, format_option("as in training")]


@examples(
    "rnntool inspect gradients -o gradients.svg",
    "rnntool inspect gradients --cells elman,lstm --hidden 50 --steps 100",
    "rnntool inspect gradients -m my-model --cells lstm text.txt",
)
def gradients(
    *,
    files: Files = None,
    model: Annotated[list[str] | None, typer.Option(
        "-m", "--model", metavar="MODEL", show_default=False,
        help="A trained model, which reads the files; may be given several times.")] = None,
    cells: Annotated[str | None, typer.Option(
        "--cells", metavar="CELL,…", show_default="elman,gru,lstm where there is no model",
        help=f"New networks of one layer, which read noise: {', '.join(CELL_NAMES)}.")] = None,
    steps: Annotated[int, typer.Option("--steps", metavar="N", min=1, help="Steps to go back.")] = 50,
    hidden: Annotated[int | None, typer.Option(
        "--hidden", metavar="N", min=1, help="Units of new networks.", show_default="100")] = None,
    texts: Annotated[int, typer.Option("--texts", metavar="N", min=1, help="Texts to average over.")] = 10,
    seed: Annotated[int, typer.Option(
        "--seed", min=0, max=MAX_SEED, envvar="RNNTOOL_SEED", show_envvar=False,
        help="Seed of new networks.")] = 1,
    output: Picture = None,
    format: AsTraining = None,
    as_json: AsJson = False,
    reading: Reading,
    compute: Compute,
    messages: Messages,
) -> None:
    """Show what is left of a gradient k steps back."""
    from rnntool.commands.inspect import run_gradients

    run_gradients(files or [], model=model or [], cells=cells, steps=steps, hidden=hidden, texts=texts,
                  seed=seed, output=output, format=format, as_json=as_json,
                  common=_common(reading, compute, messages))


@examples(
    "rnntool inspect clusters -m words text.txt -o clusters.svg",
    "rnntool inspect clusters -m words --words dog,cat,run,sleep text.txt",
)
def clusters(
    *,
    model: Annotated[str, model_option()],
    files: Files = None,
    words: Annotated[str | None, typer.Option(
        "--words", metavar="WORD,…", help="Words to cluster.", show_default=False)] = None,
    top: Annotated[int | None, typer.Option(
        "--top", metavar="N", min=2, max=500, help="Cluster the N most frequent words.",
        show_default="30")] = None,
    layer: Layer = None,
    output: Picture = None,
    format: AsTraining = None,
    as_json: AsJson = False,
    reading: Reading,
    compute: Compute,
    messages: Messages,
) -> None:
    """Cluster words by the states that a network has behind them, averaged over a text."""
    from rnntool.commands.inspect import run_clusters

    run_clusters(files or ["-"], model=model, words=words, top=top, layer=layer, output=output, format=format,
                 as_json=as_json, common=_common(reading, compute, messages))


@examples(
    "rnntool inspect neighbors Monday London -m en-pos",
    "rnntool inspect neighbors dog --vectors glove.txt --top 20 -o dog.svg",
)
def neighbors(
    *,
    words: Annotated[list[str], typer.Argument(metavar="WORD…", help="Words or other tokens.")],
    model: VectorsOf = None,
    vectors: VectorsFile = None,
    top: Annotated[int, typer.Option("--top", metavar="K", min=1, help="Neighbors of each word.")] = 10,
    output: Picture = None,
    as_json: AsJson = False,
) -> None:
    """List the words whose vectors are nearest, by cosine."""
    from rnntool.commands.inspect import run_neighbors

    run_neighbors(words, model=model, vectors=vectors, top=top, output=output, as_json=as_json)


@examples(
    "rnntool inspect analogy man king woman --vectors glove.txt",
    "rnntool inspect analogy walk walked talk -m words -o walk.svg",
)
def analogy(
    *,
    a: Annotated[str, typer.Argument(metavar="A", help="A is to B")],
    b: Annotated[str, typer.Argument(metavar="B", help="as")],
    c: Annotated[str, typer.Argument(metavar="C", help="C is to what is looked for.")],
    model: VectorsOf = None,
    vectors: VectorsFile = None,
    top: Annotated[int, typer.Option("--top", metavar="K", min=1, help="Answers.")] = 5,
    output: Picture = None,
    as_json: AsJson = False,
) -> None:
    """Answer what is to C as B is to A: the words nearest to B - A + C."""
    from rnntool.commands.inspect import run_analogy

    run_analogy(a, b, c, model=model, vectors=vectors, top=top, output=output, as_json=as_json)


@examples(
    "rnntool inspect similarity wordsim353.tsv --vectors glove.txt",
    "rnntool inspect similarity SimLex-999.txt --columns word1,word2,SimLex999 -m words -o simlex.svg",
)
def similarity(
    *,
    file: Annotated[str, typer.Argument(
        metavar="FILE", help="TSV or CSV: two words and how alike people find them; `-` is standard input.")],
    model: VectorsOf = None,
    vectors: VectorsFile = None,
    columns: Annotated[str | None, typer.Option(
        "--columns", metavar="WORD,WORD,SCORE", help="Columns by name or number.",
        show_default="1,2,3")] = None,
    output: Picture = None,
    as_json: AsJson = False,
    reading: Reading,
    compute: Compute,
    messages: Messages,
) -> None:
    """Compare cosines of words with human judgements, by Spearman's rank correlation."""
    from rnntool.commands.inspect import run_similarity

    run_similarity(file, model=model, vectors=vectors, columns=columns, output=output, as_json=as_json,
                   common=_common(reading, compute, messages))


@examples(
    "echo 'To be, or not to be' | rnntool inspect states -m shakespeare",
    "rnntool inspect states -m en-pos --units 3,17 --layer 1 text.txt -o states.html",
)
def states(
    *,
    model: Annotated[str, model_option()],
    files: Files = None,
    units: Annotated[str | None, typer.Option(
        "--units", metavar="N,…", help="Units to show, from 0.", show_default=False)] = None,
    top: Annotated[int | None, typer.Option(
        "--top", metavar="K", min=1, help="Show the K units that vary most.", show_default="5")] = None,
    layer: Layer = None,
    output: Picture = None,
    format: AsTraining = None,
    as_json: AsJson = False,
    reading: Reading,
    compute: Compute,
    messages: Messages,
) -> None:
    """Show what units do along a text: a table, and on a terminal or in a picture the text in colours."""
    from rnntool.commands.inspect import run_states

    run_states(files or ["-"], model=model, units=units, top=top, layer=layer, output=output, format=format,
               as_json=as_json, common=_common(reading, compute, messages))
