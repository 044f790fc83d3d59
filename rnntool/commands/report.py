"""`rnntool report`."""

from __future__ import annotations

from rnntool import model_folder
from rnntool.data.streams import open_output
from rnntool.inspection import training_report


def run(model: str, *, output: str | None) -> None:
    """Write the page about a training."""
    folder = model_folder.find(model)
    config = model_folder.read_config(folder)
    page = training_report.page(folder.resolve().name, config, training_report.read_history(folder))
    with open_output(output) as out:
        out.write(page)
