"""`rnntool export`: write a model's network as an ONNX graph, or its n-grams as an ARPA file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rnntool.commands.groups import examples
from rnntool.commands.options import ModelArgument
from rnntool.errors import ModelError, RnntoolError, UsageError, setting

if TYPE_CHECKING:
    from rnntool.model_folder import ModelConfig

MAIN = "model"  # the graph that reads records


@examples("rnntool export my-tagger -o tagger.onnx --int8", "rnntool export g2p -o graphs/encoder.onnx",
          "rnntool export ngrams -o ngrams.arpa")
def export(
    model: ModelArgument,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="File to write.")],
    int8: Annotated[bool, typer.Option(
        "--int8", help="Quantize the weights to 8 bits. The graph becomes smaller and faster.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Write a model's network as an ONNX graph for other programs.

    A sequence-to-sequence model has a second graph, for a step of its decoder. It is written to decoder.onnx
    in the same folder. A model of n-grams has no network and is written as an ARPA file.
    """
    from rnntool import model_folder
    from rnntool.data.atomic_files import replacement
    from rnntool.models.config import WITHOUT_NETWORK

    folder = model_folder.find(model)
    config = model_folder.read_config(folder)
    if str(output) == "-":
        raise UsageError("can't be standard output", setting="output", advice="name a file")
    if output.is_dir():
        raise UsageError("is a folder", setting="output", place=output,
                         advice=f"name a file, such as {output / model_folder.GRAPH}")
    parts = {name: output.with_name(f"{name}.onnx") for name in config.network.head.parts}
    if output in parts.values():
        raise UsageError("is the name of the second graph", setting="output", place=output,
                         advice=f"name another file, such as {output.with_name(model_folder.GRAPH)}")
    if parts and output.exists() and not output.is_file():
        raise UsageError(setting="output", place=output, found="a device or a pipe",
                         expected="a file, beside which the other graphs can be written")
    for place in (output, *parts.values()):
        if place.is_file() and not force:
            raise UsageError("exists already", place=place, advice=f"replace it with {setting('force')}")
    if config.network.encoder.kind in WITHOUT_NETWORK:
        _write_arpa(folder, output, int8=int8)
        return
    graphs = _graphs(folder, config, int8=int8)
    for name, place in {MAIN: output, **parts}.items():
        try:
            target = place.resolve()
            digest = model_folder.renewed_digest(target, graph="int8" if int8 else "float32")
            with digest, replacement(target) as part:
                part.write_bytes(graphs[name])
        except OSError as error:
            raise RnntoolError(f"can't be written ({error.strerror})", place=place,
                               advice="choose another place") from None


def _write_arpa(folder: Path, output: Path, *, int8: bool) -> None:
    """Write the n-grams of a model as an ARPA file."""
    from rnntool.data.streams import open_output
    from rnntool.inference import model as models
    from rnntool.inference.backoff_engine import BackoffEngine
    from rnntool.models import arpa

    if int8:
        raise UsageError("needs a network, and this model has n-grams", setting="int8", advice="leave it out")
    loaded = models.load(folder)
    assert isinstance(loaded.engine, BackoffEngine)
    with open_output(output) as out:
        out.writelines(arpa.write(loaded.engine.model, loaded.task.tokenizer.entries))


def _graphs(folder: Path, config: ModelConfig, *, int8: bool) -> dict[str, bytes]:
    """Return the graphs of a model by name."""
    from rnntool import model_folder

    names = (MAIN, *config.network.head.parts)
    if (config.graph == "int8") == int8:
        if missing := next((name for name in names if not (folder / f"{name}.onnx").is_file()), None):
            raise ModelError(f"has no {missing}.onnx", place=folder, advice="copy or train the model again")
        from rnntool.inference import model as models

        engine = models.load(folder).engine  # raises an error for a damaged model
        for name in config.network.head.parts:
            engine.part(name)
        return {name: (folder / f"{name}.onnx").read_bytes() for name in names}
    if int8 is False and not (folder / model_folder.WEIGHTS).is_file():
        raise ModelError("has only an 8-bit graph", place=folder, advice=f"give {setting('int8')}")
    from rnntool.inference.weights import load_network
    from rnntool.models.export.network_graph import build_graphs, serialize

    graphs = build_graphs(load_network(folder, config))
    return {name: serialize(graph, int8=int8) for name, graph in graphs.items()}
