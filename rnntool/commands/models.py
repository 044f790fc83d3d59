"""`rnntool models`: list the models that can be used by name."""

from __future__ import annotations

from typing import Any

from rnntool.commands.groups import examples
from rnntool.commands.options import AsJson


@examples("rnntool models", "rnntool models --json")
def models(as_json: AsJson = False) -> None:
    """List the models that can be used by name."""
    from rnntool import model_folder
    from rnntool.commands import console
    from rnntool.commands.outputs import show
    from rnntool.errors import ModelError, setting
    from rnntool.evaluation.metrics import numbers

    rows: list[dict[str, Any]] = []
    for folder in model_folder.available():
        try:
            config = model_folder.read_config(folder)
        except ModelError as error:
            console.message(error.describe(setting))
            continue
        figures = numbers(config.report)
        key = next((key for key in config.spec.metrics if key in figures), None)
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        rows.append({"name": model_folder.name_of(folder), "task": config.task,
                     "megabytes": round(size / 1e6, 1), "figure": key,
                     "value": figures[key] if key else None, "folder": str(folder)})
    table = [(row["name"], row["task"], f"{row['megabytes']:.1f} MB",
              f"{row['figure']} {row['value']:.4f}" if row["figure"] else "", row["folder"]) for row in rows]
    header = ("model", "task", "size", "on its dev data", "folder")
    show(rows, as_json, console.table([header, *table]))
