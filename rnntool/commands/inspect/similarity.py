"""`rnntool inspect similarity`: word vectors compared with human judgments."""

from __future__ import annotations

from typing import Annotated

import typer

from rnntool.commands.groups import examples
from rnntool.commands.inspect.sources import PicturePath, VectorSource, comma_separated
from rnntool.commands.options import AsJson
from rnntool.data.reading import TableReading
from rnntool.errors import UsageError

MAX_MISSING_WORDS = 10  # that the table lists
MAX_LABELED_DOTS = 30  # with more dots, the picture has no labels


@examples(
    "rnntool inspect similarity wordsim353.tsv --vectors glove.txt",
    "rnntool inspect similarity SimLex-999.txt --columns word1,word2,SimLex999 -m words -o simlex.svg",
)
def similarity(
    *,
    file: Annotated[str, typer.Argument(
        metavar="FILE",
        help="TSV or CSV with two words and a human score of their similarity in each row; `-` is standard "
             "input.")],
    source: VectorSource,
    columns: Annotated[str | None, typer.Option(
        "--columns", metavar="WORD,WORD,SCORE", show_default="1,2,3",
        help="Columns of the two words and the score, by name or by number.")] = None,
    output: PicturePath = None,
    as_json: AsJson = False,
    reading: TableReading,
) -> None:
    """Compare cosines of word vectors with human judgments of similarity.

    Reports Spearman's rank correlation.
    """
    import numpy as np

    from rnntool.commands import console
    from rnntool.commands.outputs import show
    from rnntool.data.formats import read_judgments
    from rnntool.data.inputs import open_with_format
    from rnntool.data.progress import silent
    from rnntool.inspection import charts, svg
    from rnntool.inspection.word_vectors import agreement

    svg.check_path(output)
    names = comma_separated(columns or "1,2,3")
    if len(names) != 3:
        raise UsageError(setting="columns", expected="three names with commas between", found=repr(columns))
    vectors = source.load()
    opening = open_with_format(file, "judgments", format=None, reading=reading, log=silent)
    with opening as (lines, format):
        pairs = list(read_judgments(lines, format=format, columns=names, layout=reading.layout()))
    result = agreement(vectors, pairs)
    rows = [(pair.first, pair.second, pair.score, cosine)
            for pair, cosine in zip(result.used, result.cosines, strict=True)]
    keys = ("first", "second", "score", "cosine")
    missing = ": " + ", ".join(result.missing[:MAX_MISSING_WORDS]) if result.missing else ""
    show({"spearman": result.spearman, "p_value": result.p_value, "pairs": len(pairs), "used": len(rows),
          "missing": result.missing, "rows": [dict(zip(keys, row, strict=True)) for row in rows]}, as_json,
         console.table([
             ("spearman", f"{result.spearman:.4f}"), ("p_value", f"{result.p_value:.4g}"),
             ("pairs", f"{len(rows)} of {len(pairs)}"),
             ("missing words",
              f"{len(result.missing)}{missing}" + (", …" if len(result.missing) > MAX_MISSING_WORDS else "")),
         ]))
    if output:
        svg.write(charts.scatter(
            f"Cosines of {vectors.source} and human judgments", [f"{a}, {b}" for a, b, *_ in rows],
            np.array([(score, cosine) for _, _, score, cosine in rows]),
            x_name="human judgment, as in the file", y_name="cosine of the two vectors",
            named=len(rows) <= MAX_LABELED_DOTS,
            caption="Each dot is a pair of words. The more steadily the dots rise, the better the vectors "
                    f"agree with people. Spearman's rank correlation is {result.spearman:.3f}."), output)
