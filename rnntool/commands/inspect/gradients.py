"""`rnntool inspect gradients`: the vanishing gradient of trained and of new networks."""

from __future__ import annotations

from typing import Annotated

import typer

from rnntool.commands.groups import examples
from rnntool.commands.inspect.sources import PicturePath, TextFormat, comma_separated
from rnntool.commands.options import AsJson, Files, Messages
from rnntool.data.reading import TableReading
from rnntool.errors import DataError, UsageError, setting
from rnntool.models.cells import CELL_NAMES
from rnntool.tasks.specs.settings import MAX_SEED

NEW_CELLS = ("elman", "gru", "lstm")  # the default without a model
HIDDEN = 100  # units of new networks


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
        help="Trained model that reads the files. Can be given several times to compare models.")] = None,
    cells: Annotated[str | None, typer.Option(
        "--cells", metavar="CELL,…", show_default=f"{','.join(NEW_CELLS)} if no model is given",
        help=f"Also inspect new networks of one layer, which read noise: {', '.join(CELL_NAMES)}.")] = None,
    steps: Annotated[int, typer.Option(
        "--steps", metavar="N", min=1, help="Number of steps to go back.")] = 50,
    hidden: Annotated[int | None, typer.Option(
        "--hidden", metavar="N", min=1, help="Size of new networks.", show_default=str(HIDDEN))] = None,
    texts: Annotated[int, typer.Option(
        "--texts", metavar="N", min=1, help="Number of texts to average over.")] = 10,
    seed: Annotated[int, typer.Option(
        "--seed", metavar="N", min=0, max=MAX_SEED, envvar="RNNTOOL_SEED", show_envvar=False,
        help="Seed of the new networks and their input.")] = 1,
    output: PicturePath = None,
    format: TextFormat = None,
    as_json: AsJson = False,
    reading: TableReading,
    messages: Messages,
) -> None:
    """Show how much of a gradient is left k steps back."""
    from rnntool.commands import console
    from rnntool.commands.inputs import inspected_records
    from rnntool.commands.outputs import show
    from rnntool.data.progress import Counter
    from rnntool.data.streams import input_names
    from rnntool.inspection import charts, svg

    svg.check_path(output)
    if files and not model:
        raise UsageError(expected="a model to read the text", found="none",
                         advice=f"give {setting('model')}, or leave the files out")
    files = files or ["-"]
    if model and len(model) > 1 and "-" in files:
        raise UsageError("standard input can be read only once", advice="give several models a file")
    new_cells = comma_separated(cells) if cells else [] if model else NEW_CELLS
    if (cells and not new_cells) or not set(new_cells) <= set(CELL_NAMES):
        raise UsageError(setting="cells", found=repr(cells),
                         expected=f"one or more of {', '.join(CELL_NAMES)}, with commas between")
    if hidden is not None and not new_cells:
        raise UsageError("is the size of new networks, but all networks here are trained", setting="hidden",
                         advice=f"give {setting('cells')}, or leave it out")
    from rnntool.inference import model as models
    from rnntool.inference.weights import load_network
    from rnntool.inspection.gradients import cell_gradients, network_gradients, text_batches, vanishing_step

    curves: dict[str, list[float]] = {}
    with console.progress(quiet=messages.quiet) as watch:
        done = Counter("gradients", "texts", watch or (lambda stage: None),
                       total=texts * len([*(model or ()), *new_cells]))
        for name in model or ():
            loaded = models.read(name)
            task = loaded.task
            records = inspected_records(task, files, format=format, reading=reading, messages=messages)
            batches = text_batches(task, records, steps=steps, count=texts)
            curve = network_gradients(load_network(loaded.folder, loaded.config), batches, steps=steps,
                                      done=done)
            if not curve:
                raise DataError(place=input_names(files), expected="texts of at least two tokens",
                                found="none", advice="give longer texts")
            curves[name if loaded.name in curves else loaded.name] = curve
        for cell in new_cells:
            curves[f"new {cell}" if model else cell] = cell_gradients(
                cell, size=hidden or HIDDEN, steps=steps, texts=texts, seed=seed, done=done)
    vanishing = {name: vanishing_step(curve) for name, curve in curves.items()}
    last = max(map(len, curves.values())) - 1
    rows = [(str(k), *(f"{curve[k]:.3g}" if k < len(curve) else "-" for curve in curves.values()))
            for k in range(last + 1) if k & (k - 1) == 0 or k == last]  # 0, powers of 2, the last
    summary = ("1 % left", *(f"> {len(curve) - 1}" if vanishing[name] is None else str(vanishing[name])
                             for name, curve in curves.items()))
    show({"gradients": curves, "reach": vanishing}, as_json,
         console.table([("steps back", *curves), *rows, summary], right=tuple(range(len(curves) + 1))))
    if output:
        points = {name: list(enumerate(map(float, curve))) for name, curve in curves.items()}
        svg.write(charts.curves(
            "How much of a gradient is left k steps back", points, x_name="steps back, k",
            y_name="share of the gradient at k = 0", log=True,
            caption="The gradient is the derivative of the last state by the input k steps before. Where "
                    "little of it is left, a network hardly learns from that input."), output)
