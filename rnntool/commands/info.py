"""`rnntool info`: describe a model."""

from __future__ import annotations

from rnntool.commands.groups import examples
from rnntool.commands.options import AsJson, ModelArgument

SHOWN = 20  # labels; the others are left out


@examples("rnntool info en-pos", "rnntool info en-pos --json")
def info(model: ModelArgument, as_json: AsJson = False) -> None:
    """Describe a model: its task, network, settings and scores."""
    from rnntool import model_folder
    from rnntool.commands import console
    from rnntool.commands.outputs import show
    from rnntool.evaluation.metrics import numbers
    from rnntool.tasks.base import task_class
    from rnntool.training.advice import cross_validated

    folder = model_folder.find(model)
    config = model_folder.read_config(folder)
    encoder, head = config.network.encoder, config.network.head
    cutoffs = " and ".join(f"{cutoff:,}" for cutoff in encoder.cutoffs)
    settings = {name: value for name, value in config.settings.to_json().items() if value is not None}
    validation = config.report.get("cross_validation")
    labels = task_class(config.task).label_names(folder, config.settings)
    rows = [
        ("model", model_folder.name_of(folder)),
        ("folder", str(folder)),
        ("task", config.task),
        ("made by", f"rnntool {config.version}"),
        ("network", f"{config.architecture}, {config.parameters:,} parameters"),
        ("vocabulary", f"{encoder.vocabulary:,}"),
        ("outputs", f"{head.outputs:,}" + (f", in clusters from {cutoffs} on" if cutoffs else "")),
        *([("labels", ", ".join(labels[:SHOWN]) + (", …" if len(labels) > SHOWN else ""))] if labels else []),
        ("graph", config.graph),
        ("weights", "yes" if (folder / model_folder.WEIGHTS).exists() else "no, only the ONNX graph"),
        *((f"dev {key}", f"{value:.4f}" if isinstance(value, float) else f"{value:,}")
          for key, value in numbers(config.report).items()),
        *([("cross-validation", cross_validated(validation))] if validation else []),
        *((f"set {key}", str(value)) for key, value in settings.items()),
    ]
    show(config.to_json(), as_json, console.table(rows))
