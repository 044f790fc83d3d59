"""`rnntool info`: describe a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from rnntool.commands.groups import examples
from rnntool.commands.options import AsJson

SHOWN = 20  # labels


@examples("rnntool info en-pos", "rnntool info en-pos --json")
def info(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Model: a folder or a name.")],
    as_json: AsJson = False,
) -> None:
    """Describe a model: its task, network, settings and scores."""
    from rnntool import model_folder
    from rnntool.commands import console
    from rnntool.commands.outputs import show
    from rnntool.evaluation.metrics import figures

    folder = model_folder.find(model)
    config = model_folder.read_config(folder)
    encoder, head = config["network"]["encoder"], config["network"]["head"]
    cutoffs = encoder.get("cutoffs", ())
    rows = [
        ("model", folder.resolve().name),
        ("folder", str(folder)),
        ("task", config["task"]),
        ("made by", f"rnntool {config['version']}"),
        ("network", f"{model_folder.architecture(config)}, {config['parameters']:,} parameters"),
        ("vocabulary", f"{encoder['vocabulary']:,}"),
        ("outputs", f"{head['outputs']:,}" + (
            f", in clusters from {' and '.join(f'{cutoff:,}' for cutoff in cutoffs)} on" if cutoffs else "")),
        *_labels(folder, config),
        ("graph", config["graph"]),
        ("weights", "yes" if (folder / model_folder.WEIGHTS).exists() else "no, only the ONNX graph"),
        *((f"dev {key}", f"{value:.4f}" if isinstance(value, float) else f"{value:,}")
          for key, value in figures(config.get("report") or {}).items()),
        *((f"set {key}", str(value)) for key, value in config["settings"].items() if value is not None),
    ]
    show(config, as_json, console.table(rows))


def _labels(folder: Path, config: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the labels that a classifier predicts, or that a language model can write text for."""
    from rnntool.data.labels import Labels

    conditional = config["task"] == "lm" and config["settings"].get("label_column")
    if not conditional and config["task"] != "classify":
        return []
    names = Labels.load(folder).names
    return [("labels", ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else ""))]
