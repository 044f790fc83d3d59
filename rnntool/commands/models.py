"""`rnntool models`, `info` and `export`."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from rnntool import model_folder
from rnntool.commands import console
from rnntool.commands.outputs import show
from rnntool.data.labels import Labels
from rnntool.errors import ModelError, RnntoolError, UsageError
from rnntool.evaluation.metrics import figures
from rnntool.inference import model as models

SHOWN = 20  # labels
FIGURES = ("f1", "accuracy", "perplexity")  # the one that tells most comes first


def run_list(*, as_json: bool) -> None:
    """Print the models that can be named."""
    rows: list[dict[str, Any]] = []
    for folder in model_folder.known():
        try:
            config = model_folder.read_config(folder)
        except ModelError as error:
            console.message(str(error))
            continue
        report = config.get("report") or {}
        key = next((key for key in FIGURES if key in report), None)
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        rows.append({"name": folder.name, "task": config["task"], "megabytes": round(size / 1e6, 1),
                     "figure": key, "value": report.get(key) if key else None, "folder": str(folder)})
    table = [(row["name"], row["task"], f"{row['megabytes']:.1f} MB",
              f"{row['figure']} {row['value']:.4f}" if row["figure"] else "", row["folder"]) for row in rows]
    heads = ("model", "task", "size", "on its dev data", "folder")
    show(rows, as_json, console.table([heads, *table]))


def run_info(model: str, *, as_json: bool) -> None:
    """Describe a model."""
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
            f", in bands from {' and '.join(f'{cutoff:,}' for cutoff in cutoffs)} on" if cutoffs else "")),
        *_labels(folder, config),
        ("graph", config["graph"]),
        ("weights", "yes" if (folder / model_folder.WEIGHTS).exists() else "no, only the graph that runs"),
        *((f"dev {key}", f"{value:.4f}" if isinstance(value, float) else f"{value:,}")
          for key, value in figures(config.get("report") or {}).items()),
        *((f"set {key}", str(value)) for key, value in config["settings"].items() if value is not None),
    ]
    show(config, as_json, console.table(rows))


def _labels(folder: Path, config: dict[str, Any]) -> list[tuple[str, str]]:
    """What a classifier gives, or a language model writes text given."""
    given = config["task"] == "lm" and config["settings"].get("label_column")
    if not given and config["task"] != "classify":
        return []
    names = Labels.load(folder).names
    return [("labels", ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else ""))]


def run_export(model: str, output: Path, *, int8: bool, force: bool) -> None:
    """Write a model's graph to a file."""
    folder = model_folder.find(model)
    config = model_folder.read_config(folder)
    if str(output) == "-":
        raise UsageError("-o -: a graph is written to a file, not to standard output; give -o its name")
    if output.is_dir():
        raise UsageError(f"{output}: is a folder; give -o the name of a file, such as "
                         f"{output / model_folder.GRAPH}")
    if output.exists() and not force:
        raise UsageError(f"{output}: exists already; --force replaces it")
    neighbour = output.with_name(output.name + ".writing")
    try:
        if (config["graph"] == "int8") == int8:
            if not (folder / model_folder.GRAPH).is_file():
                raise ModelError(f"{folder}: has no {model_folder.GRAPH}; copy or train the model again")
            models.load(folder)  # says what is wrong with a damaged one
            shutil.copyfile(folder / model_folder.GRAPH, neighbour)
        else:
            from rnntool.inference.weights import load_network
            from rnntool.models.export.network_graph import MAIN, build_graphs, save

            save(build_graphs(load_network(folder, config))[MAIN], neighbour, int8=int8)
        neighbour.replace(output)
    except OSError as error:
        raise RnntoolError(f"{output}: can't be written ({error.strerror}); choose another place") from None
    finally:
        with suppress(OSError):
            neighbour.unlink()
