"""`rnntool export`: write a model's network as an ONNX graph."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rnntool.commands.groups import examples
from rnntool.commands.options import ModelArgument
from rnntool.errors import ModelError, RnntoolError, UsageError, setting

if TYPE_CHECKING:
    from rnntool.model_folder import ModelConfig


@examples("rnntool export my-tagger -o tagger.onnx --int8")
def export(
    model: ModelArgument,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="File to write.")],
    int8: Annotated[bool, typer.Option(
        "--int8", help="Quantize the weights to 8 bits. The graph becomes smaller and faster.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Write a model's network as an ONNX graph for other programs."""
    from rnntool import model_folder
    from rnntool.data.atomic_files import replacement

    folder = model_folder.find(model)
    config = model_folder.read_config(folder)
    if str(output) == "-":
        raise UsageError("can't be standard output", setting="output", advice="name a file")
    if output.is_dir():
        raise UsageError("is a folder", setting="output", place=output,
                         advice=f"name a file, such as {output / model_folder.GRAPH}")
    if output.is_file() and not force:
        raise UsageError("exists already", place=output, advice=f"replace it with {setting('force')}")
    try:
        graph = _graph(folder, config, int8=int8)
        place = output.resolve()
        digest = model_folder.renewed_digest(place, graph="int8" if int8 else "float32")
        with digest, replacement(place) as part:
            part.write_bytes(graph)
    except OSError as error:
        raise RnntoolError(f"can't be written ({error.strerror})", place=output,
                           advice="choose another place") from None


def _graph(folder: Path, config: ModelConfig, *, int8: bool) -> bytes:
    """Return the graph of a model."""
    from rnntool import model_folder

    if (config.graph == "int8") == int8:
        if not (folder / model_folder.GRAPH).is_file():
            raise ModelError(f"has no {model_folder.GRAPH}", place=folder,
                             advice="copy or train the model again")
        from rnntool.inference import model as models

        models.load(folder)  # raises an error for a damaged model
        return (folder / model_folder.GRAPH).read_bytes()
    if int8 is False and not (folder / model_folder.WEIGHTS).is_file():
        raise ModelError("has only an 8-bit graph", place=folder, advice=f"give {setting('int8')}")
    from rnntool.inference.weights import load_network
    from rnntool.models.export.network_graph import MAIN, build_graphs, serialize

    return serialize(build_graphs(load_network(folder, config))[MAIN], int8=int8)
