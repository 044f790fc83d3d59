"""`rnntool inspect analogy`: analogies answered by word vectors."""

from __future__ import annotations

from typing import Annotated

import typer

from rnntool.commands.groups import examples
from rnntool.commands.inspect.sources import PicturePath, VectorSource, draw_plane
from rnntool.commands.options import AsJson


@examples(
    "rnntool inspect analogy man king woman --vectors glove.txt",
    "rnntool inspect analogy walk walked talk -m words -o walk.svg",
)
def analogy(
    *,
    a: Annotated[str, typer.Argument(metavar="A", help="First word of the known pair.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Second word of the known pair.")],
    c: Annotated[str, typer.Argument(metavar="C", help="First word of the pair to complete.")],
    source: VectorSource,
    top: Annotated[int, typer.Option("--top", metavar="K", min=1, help="Number of answers.")] = 5,
    output: PicturePath = None,
    as_json: AsJson = False,
) -> None:
    """Answer what is to C as B is to A.

    The answers are the words whose vectors are nearest to B - A + C.
    """
    from rnntool.commands import console
    from rnntool.commands.outputs import show
    from rnntool.inspection import svg

    svg.check_path(output)
    vectors = source.load()
    answers = vectors.analogy(a, b, c, top)
    rows = [(near.name, f"{near.cosine:.4f}") for near in answers]
    show({"a": a, "b": b, "c": c,
          "answers": [{"word": near.name, "cosine": near.cosine} for near in answers]}, as_json,
         console.table([("word", "cosine"), *rows], right=(1,)))
    drawn = [*map(vectors.row, (a, b, c)), *(near.row for near in answers)]
    draw_plane(vectors, drawn, output, bold=4, joined=[(0, 1), (2, 3)] if answers else [],
               caption=f"If the analogy holds, the line from {a} to {b} and the line from {c} to the best "
                       "answer have the same direction and length.")
