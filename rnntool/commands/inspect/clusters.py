"""`rnntool inspect clusters`: words clustered by the states of a network."""

from __future__ import annotations

from typing import Annotated

import typer

from rnntool.commands.groups import examples
from rnntool.commands.inspect.sources import (
    PicturePath,
    StatesOptions,
    TextFormat,
    comma_separated,
    watched,
)
from rnntool.commands.options import AsJson, Files, Messages, model_option
from rnntool.data.reading import TableReading
from rnntool.errors import DataError, contradiction, setting

FREQUENT = 30  # default number of words


@examples(
    "rnntool inspect clusters -m words text.txt -o clusters.svg",
    "rnntool inspect clusters -m words --words dog,cat,run,sleep text.txt",
)
def clusters(
    *,
    model: Annotated[str, model_option("Model to inspect")],
    files: Files = None,
    words: Annotated[str | None, typer.Option(
        "--words", metavar="WORD,…", show_default=False,
        help="Words to cluster, separated by commas.")] = None,
    top: Annotated[int | None, typer.Option(
        "--top", metavar="N", min=2, max=500, help="Cluster the N most frequent words.",
        show_default=str(FREQUENT))] = None,
    options: StatesOptions,
    output: PicturePath = None,
    format: TextFormat = None,
    as_json: AsJson = False,
    reading: TableReading,
    messages: Messages,
) -> None:
    """Cluster words by the mean states of a network after them."""
    import numpy as np
    from scipy.cluster.hierarchy import linkage as cluster

    from rnntool.commands import console
    from rnntool.commands.outputs import show
    from rnntool.data.streams import input_names
    from rnntool.inspection import charts, svg
    from rnntool.inspection.states import mean_states

    svg.check_path(output)
    if words and top:
        raise contradiction("words", "top")
    files = files or ["-"]
    loaded, texts = options.read(model, files, format=format, reading=reading, messages=messages)
    with console.progress(quiet=messages.quiet) as watch:
        means = mean_states(watched(texts, watch), loaded.task)
    names = list(means)[: top or FREQUENT]
    if words:
        names = comma_separated(words.lower() if loaded.task.tokenizer.lower else words)
    missing = ", ".join(repr(name) for name in names if name not in means)
    if missing:
        raise DataError(f"the text does not contain {missing}", place=input_names(files),
                        advice=f"remove it from {setting('words')}")
    if len(names) < 2:
        raise DataError(place=input_names(files), expected="at least two words to cluster", found=len(names),
                        advice=f"give more {setting('words')}" if words else "give more text")
    linkage = cluster(np.stack([means[name][1] for name in names]), "average")
    counts = [means[name][0] for name in names]
    leaves = [f"{name} ({count:,})" for name, count in zip(names, counts, strict=True)]
    show({"model": loaded.name, "words": names, "counts": counts, "merges": linkage.tolist()}, as_json,
         "".join(f"{line}\n" for line in charts.text_tree(leaves, linkage)))
    if output:
        svg.write(charts.dendrogram(
            f"Words clustered by the states of {loaded.name} after them", names, linkage,
            caption="The farther right two branches join, the more similar are the mean states after their "
                    "words. The axis shows the mean distance between the two groups."), output)
