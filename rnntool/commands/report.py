"""`rnntool report`."""

from __future__ import annotations

from rnntool import modeldir
from rnntool.reports import training
from rnntool.streams import open_output


def run(model: str, *, output: str | None) -> None:
    """Write the page about a training."""
    folder = modeldir.find(model)
    config = modeldir.read_config(folder)
    page = training.page(folder.resolve().name, config, training.read_history(folder))
    with open_output(output) as out:
        out.write(page)
