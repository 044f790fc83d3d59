"""The model folder: where models are found, what a whole one holds, and how one is written to be whole.

Knows files and JSON, and neither tasks nor networks.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rnntool.errors import ModelError, RnntoolError

FORMAT = 1  # of the folder; raised when an older rnntool could not read it
CONFIG, WEIGHTS, GRAPH, METRICS, CARD, RESUME = (
    "config.json", "model.safetensors", "model.onnx", "metrics.jsonl", "README.md", "resume")
JOB = "job.json"  # in RESUME: what is trained
OWN_FILES = (CONFIG, WEIGHTS, GRAPH, METRICS, CARD,
             "tokenizer.model", "vocab.txt", "labels.txt", "vectors.txt")
# what the graph of each task gives out
ANSWERS = {"lm": ("logits", "probs", "log_probs"), "classify": ("logits",), "tag": ("emissions",)}
TASKS = tuple(ANSWERS)
CONFIG_KEYS: dict[str, type] = {  # those that are read before a task or a network checks the rest
    "version": str, "task": str, "settings": dict, "parameters": int, "graph": str, "data.tokenizer": dict,
    "network.encoder.vocabulary": int, "network.encoder.layers": int, "network.encoder.hidden": int,
    "network.encoder.cell": str, "network.encoder.bidirectional": bool, "network.head.outputs": int,
}  # fmt: skip


def search_path() -> list[Path]:
    """Folders that hold models by name, in the order they are searched; those that ship come last."""
    package = Path(__file__).parent
    named = os.environ.get("RNNTOOL_MODELS")
    return [
        Path("models"),
        *([Path(named)] if named else []),
        _user_data() / "rnntool" / "models",
        package / "shipped",  # in an installed package
        package.parent / "models",  # in a checkout
    ]


def find(model: str | Path) -> Path:
    """The folder of a model given by path or by name; `ModelError` where there is none."""
    path = Path(model)
    try:
        if path.is_dir():
            return path
        if path.is_file():
            raise ModelError(f"{path}: is a file; a model is a folder, as `rnntool train` writes it")
        if len(path.parts) == 1:
            for folder in search_path():
                if (folder / path / CONFIG).is_file():
                    return folder / path
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
    names = ", ".join(sorted({folder.name for folder in known()}))
    raise ModelError(f"{path}: no model folder and no known model of that name; known are: {names or 'none'}")


def known() -> Iterator[Path]:
    """Folders of all models that can be named, each name once."""
    seen = set()
    for place in search_path():
        for config in sorted(place.glob(f"*/{CONFIG}")):
            if config.parent.name not in seen:
                seen.add(config.parent.name)
                yield config.parent


def _task_begun(folder: Path) -> str:
    """The task of a training that has not ended; an ellipsis where that can't be told."""
    try:
        return str(json.loads((folder / RESUME / JOB).read_text("utf-8"))["task"])
    except (OSError, ValueError, KeyError, TypeError):
        return "…"


def read_config(folder: Path) -> dict[str, Any]:
    """The checked `config.json` of a model folder; `ModelError` says what is wrong with it."""
    path = folder / CONFIG
    try:
        config = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        if (folder / RESUME).is_dir():
            task = _task_begun(folder)
            raise ModelError(f"{folder}: its training has not ended; go on with rnntool train {task} "
                             f"-o {folder} --resume") from None
        raise ModelError(f"{folder}: is no model folder (it has no {CONFIG}); give one that `rnntool train` "
                         "wrote") from None
    except OSError as error:
        raise ModelError(f"{path}: can't be read ({error.strerror})") from None
    except ValueError as error:
        raise ModelError(f"{path}: is damaged ({error}); copy or train the model again") from None
    if not isinstance(config, dict) or "format" not in config:
        raise ModelError(f"{path}: is not rnntool's (it has no `format`); give a folder that `rnntool train` "
                         "wrote")
    if config["format"] != FORMAT:
        raise ModelError(f"{path}: has format {config['format']!r}, this rnntool reads {FORMAT}; "
                         "use the rnntool that wrote it, or a newer one")
    for key, kind in CONFIG_KEYS.items():
        value: Any = config
        for name in key.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        if not isinstance(value, kind):
            raise ModelError(f"{path}: is damaged (`{key}` is missing or of a wrong kind); copy the model "
                             "again")
    if config["task"] not in TASKS:
        raise ModelError(f"{path}: has the unknown task {config['task']!r}; known are {', '.join(TASKS)}")
    return config


def check_graph(
    folder: Path, config: Mapping[str, Any], inputs: Collection[str], widths: Mapping[str, Any]
) -> None:
    """`ModelError` where a folder's graph is not that of its checked `config`.

    The graph has these `inputs`; `widths` are its outputs by name, each with the size of its last axis.
    """
    head, encoder = config["network"]["head"], config["network"]["encoder"]
    answers = [*ANSWERS[config["task"]], *(["transitions"] if head.get("crf") else [])]
    if (not set(answers) <= widths.keys() or widths[answers[0]] != head["outputs"]
            or ("words" in inputs) != bool(encoder.get("word"))):
        raise ModelError(f"{folder / GRAPH}: doesn't fit {CONFIG}; copy or train the model again")


def architecture(config: Mapping[str, Any]) -> str:
    """The network in a few words: `2 x 200 lstm, bidirectional`."""
    encoder = config["network"]["encoder"]
    kind = encoder.get("kind", "rnn")
    return (f"{encoder['layers']} x {encoder['hidden']} {encoder['cell'] if kind == 'rnn' else kind}"
            f"{', bidirectional' if encoder['bidirectional'] else ''}")


@contextmanager
def staged(folder: Path, *, replace: bool = False) -> Iterator[Path]:
    """A folder to write a model's files into, which are then moved into `folder`, `config.json` last.

    When the body raises, nothing of it reaches `folder`; an `OSError` becomes an `RnntoolError`. A folder
    that is read while files move in has no `config.json`, so it is never taken for a whole one. With
    `replace`, what an older model had and the new one has not is removed.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stage = Path(tempfile.mkdtemp(prefix=".writing-", dir=folder))
    except OSError as error:
        raise RnntoolError(
            f"{folder}: can't be written to ({error.strerror}); choose another folder with -o") from None
    try:
        yield stage
        (folder / CONFIG).unlink(missing_ok=True)
        names = sorted((path.relative_to(stage) for path in stage.rglob("*") if path.is_file()),
                       key=lambda path: path == Path(CONFIG))
        if replace:
            for stale in set(OWN_FILES).difference(map(str, names)):
                (folder / stale).unlink(missing_ok=True)
        for name in names:
            (folder / name).parent.mkdir(exist_ok=True)
            (stage / name).replace(folder / name)
    except OSError as error:
        raise RnntoolError(f"{folder}: writing failed ({error.strerror or error}); make room, or choose "
                           "another folder with -o") from None
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def remove(folder: Path) -> None:
    """Remove a folder with all that is in it, where there is one."""
    shutil.rmtree(folder, ignore_errors=True)


def write_json(path: Path, data: Any) -> None:
    """Write JSON for people to read and compare, through a neighbour file so that it is never half there."""
    neighbour = path.with_name(path.name + ".writing")
    neighbour.write_text(json.dumps(data, ensure_ascii=False, indent=2) + "\n", "utf-8")
    neighbour.replace(path)


def _user_data() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
