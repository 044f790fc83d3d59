"""`rnntool inspect neighbors`: the nearest words by their vectors."""

from __future__ import annotations

from typing import Annotated

import typer

from rnntool.commands.groups import examples
from rnntool.commands.inspect.sources import PicturePath, VectorSource, draw_plane
from rnntool.commands.options import AsJson


@examples(
    "rnntool inspect neighbors Monday London -m en-pos",
    "rnntool inspect neighbors dog --vectors glove.txt --top 20 -o dog.svg",
)
def neighbors(
    *,
    words: Annotated[list[str], typer.Argument(
        metavar="WORD…", help="Words or other entries of the vocabulary.")],
    source: VectorSource,
    top: Annotated[int, typer.Option(
        "--top", metavar="K", min=1, help="Number of neighbors of each word.")] = 10,
    output: PicturePath = None,
    as_json: AsJson = False,
) -> None:
    """List the words whose vectors are nearest, by cosine."""
    from rnntool.commands import console
    from rnntool.commands.outputs import show
    from rnntool.inspection import svg

    svg.check_path(output)
    vectors = source.load()
    by_word = {word: vectors.neighbors(word, top) for word in words}
    rows = [(word, near.name, f"{near.cosine:.4f}") for word, nearest in by_word.items() for near in nearest]
    show({word: [{"word": near.name, "cosine": near.cosine} for near in nearest]
          for word, nearest in by_word.items()}, as_json,
         console.table([("word", "neighbor", "cosine"), *rows], right=(2,)))
    drawn = [*map(vectors.row, by_word), *(near.row for nearest in by_word.values() for near in nearest)]
    draw_plane(vectors, drawn, output, bold=len(by_word), caption="The words in bold are the queries.")
