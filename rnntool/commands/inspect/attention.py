"""`rnntool inspect attention`: which tokens of the source a model looks at while it writes a target."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rnntool.commands.groups import examples
from rnntool.commands.inspect.sources import PicturePath, TextFormat
from rnntool.commands.options import AsJson, Compute, Files, Messages, model_option
from rnntool.data.reading import TableReading
from rnntool.errors import DataError, ModelError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rnntool.inspection.charts import HeatMap

MAX_SOURCES = 50  # that are shown
SMALL = 0.05  # weights that the table leaves out


@examples(
    "echo recurrent | rnntool inspect attention -m g2p",
    "rnntool inspect attention -m de-en sentences.txt -o attention.html",
)
def attention(
    *,
    model: Annotated[str, model_option()],
    files: Files = None,
    source_columns: Annotated[str | None, typer.Option(
        "--source-columns", metavar="COLUMN[,COLUMN…]", show_default="as in training",
        help="Columns or keys of the source.")] = None,
    output: PicturePath = None,
    format: TextFormat = None,
    as_json: AsJson = False,
    reading: TableReading,
    compute: Compute,
    messages: Messages,
) -> None:
    """Show which tokens of the source a model looks at while it writes a target.

    Prints a table for each source: a row for each token of the target that beam search finds, and a column
    for each token of the source. The attention weights are percentages; those below 5 are left out.
    """
    from rnntool.commands.inputs import task_records
    from rnntool.commands.outputs import show
    from rnntool.data.streams import input_names
    from rnntool.inference import model as models
    from rnntool.inspection import charts, svg
    from rnntool.tasks.transduce import TransduceTask

    svg.check_path(output)
    files = files or ["-"]
    loaded = models.load(model, device=compute.device, threads=compute.threads)
    task = loaded.require(TransduceTask)
    if not task.has_attention:
        raise ModelError("has no attention", place=loaded.folder, advice="give another model")
    settings = task.settings.replace(source_columns=source_columns or task.settings.source_columns)
    inputs = task_records(
        task, files, settings, chosen=["source_columns"] if source_columns else [], format=format,
        reading=reading, messages=messages)
    records = list(islice((record for record in inputs if record.source.strip()), MAX_SOURCES + 1))
    if not records:
        raise DataError(place=input_names(files), expected="a source", found="none",
                        advice="give one that has characters")
    if len(records) > MAX_SOURCES:
        messages.warn(f"only the first {MAX_SOURCES} sources are shown")
    maps, report = [], []
    for record, (best, *_) in loaded.transduced(records[:MAX_SOURCES]):
        assert best.alignment is not None
        rows = [*best.tokens, *([] if best.truncated else ["</s>"])]
        columns = task.source_pieces(record)
        maps.append(charts.HeatMap(f"{record.source} → {best.text}", rows, columns, best.alignment))
        weights = [[round(float(weight), 5) for weight in row] for row in best.alignment]
        report.append({"source": record.source, "target": best.text, "source_tokens": columns,
                       "target_tokens": rows, "weights": weights})
    show({"model": loaded.name, "sources": report}, as_json, "\n".join(map(_table, maps)), indent=None)
    if output:
        svg.write(charts.heat_maps(
            f"Attention of {loaded.name}", maps,
            caption="Rows: the tokens of the target, from top to bottom as they were written. Columns: the "
                    "tokens of the source. The darker a field, the more the model looked at that token of "
                    "the source."), output)


def _table(grid: HeatMap) -> str:
    """Return the weights of a source in percent."""
    from rnntool.commands import console

    rows: list[Sequence[Any]] = [["", *grid.columns]]
    for name, weights in zip(grid.rows, grid.weights.tolist(), strict=True):
        rows.append([name, *(f"{100 * weight:.0f}" if weight >= SMALL else "" for weight in weights)])
    return f"{grid.name}\n" + console.table(
        [tuple(row) for row in rows], right=tuple(range(1, len(grid.columns) + 1)))
