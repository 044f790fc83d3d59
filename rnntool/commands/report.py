"""`rnntool report`: an HTML page about a training."""

from __future__ import annotations

from rnntool.commands.groups import examples
from rnntool.commands.options import ModelArgument, Output


@examples("rnntool report my-tagger > my-tagger.html")
def report(model: ModelArgument, output: Output = None) -> None:
    """Write an HTML page about a training: learning curves, scores on the development data, settings."""
    from rnntool import model_folder
    from rnntool.commands.cli_errors import option_name
    from rnntool.data.streams import open_output
    from rnntool.errors import with_names
    from rnntool.inspection import training_report

    folder = model_folder.find(model)
    config = model_folder.read_config(folder)
    page = training_report.page(model_folder.name_of(folder), config, training_report.read_history(folder))
    with open_output(output) as out:
        out.write(with_names(page, option_name))
