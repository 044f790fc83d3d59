"""The model folder: how it is found, the content of its config.json, and how it is written.

`ModelConfig` is the typed content of config.json, validated once when it is read. Knows files and
configurations, but neither arrays nor networks.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from rnntool.data import model_file
from rnntool.data.json_text import to_json
from rnntool.errors import ModelError, RnntoolError, UsageError, setting
from rnntool.models import graph_check
from rnntool.models.config import NetworkConfig
from rnntool.tasks import TASKS
from rnntool.tasks.specs.settings import Settings
from rnntool.tasks.specs.spec import TaskSpec

FORMAT = 1  # of the folder; increased if older versions of rnntool can't read it
CONFIG, WEIGHTS, GRAPH, METRICS, CARD, RESUME = (
    "config.json", "model.safetensors", "model.onnx", "metrics.jsonl", "README.md", "resume")
JOB = "job.json"  # in RESUME
VOCABULARIES = ("tokenizer.model", "vocab.txt", "labels.txt", "vectors.txt")
MODEL_FILES = (CONFIG, WEIGHTS, GRAPH, METRICS, CARD, *VOCABULARIES)
GRAPH_TYPES = ("float32", "int8")
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
DISK_ERRORS = {*NO_ROOM, errno.EIO, errno.EROFS}
AGAIN = "copy or train the model again"


# --- config.json -------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The content of a model's config.json.

    `data` is the configuration of the task, which checks it when the model is loaded; every task has the
    configuration of its tokenizer in `data["tokenizer"]`.
    """

    version: str  # of the rnntool that wrote it
    task: str
    data: Mapping[str, Any]
    network: NetworkConfig
    parameters: int  # their number
    graph: str  # one of GRAPH_TYPES
    settings: Settings
    init: Mapping[str, Any] | None = None  # what was transferred from another model, if anything
    report: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # on the development data
    sha256: Mapping[str, str] = dataclasses.field(default_factory=dict)  # of files; see `digests`

    @property
    def spec(self) -> TaskSpec:
        """The spec of the task."""
        return TASKS[self.task]

    @property
    def tokenizer(self) -> dict[str, Any]:
        """The configuration that `rnntool.tokenize.load` needs."""
        return dict(self.data["tokenizer"])

    @property
    def architecture(self) -> str:
        """A short description of the network: `2 x 200 lstm, bidirectional`."""
        encoder = self.network.encoder
        name = encoder.cell if encoder.kind == "rnn" else encoder.kind
        directions = ", bidirectional" if encoder.bidirectional else ""
        return f"{encoder.layers} x {encoder.hidden} {name}{directions}"

    def to_json(self) -> dict[str, Any]:
        """Return the content of config.json as JSON types."""
        return {
            "format": FORMAT, "version": self.version, "task": self.task, "data": dict(self.data),
            "network": self.network.to_json(), "parameters": self.parameters, "graph": self.graph,
            "settings": self.settings.to_json(), "init": self.init, "report": dict(self.report),
            "sha256": dict(self.sha256),
        }

    @classmethod
    def from_json(cls, content: object, path: Path) -> Self:
        """Validate the content of the file `path`; `ModelError` names the first wrong key.

        The content may be that of an older version: unknown settings are ignored, and missing ones have their
        defaults.
        """
        if not isinstance(content, dict) or "format" not in content:
            raise ModelError("wasn't written by rnntool (it has no `format`)", place=path,
                             advice="give a folder that `rnntool train` wrote")
        if content["format"] != FORMAT:
            raise ModelError(place=path, expected=f"format {FORMAT}", found=repr(content["format"]),
                             advice="use the rnntool that wrote it, or a newer one")
        for key, kind in {"version": str, "task": str, "settings": dict, "parameters": int, "graph": str,
                          "data": dict, "network": dict}.items():
            _check_type(content, key, kind, path)
        _check_type(content["data"], "tokenizer", dict, path, parent="data.")
        _check_type(content["data"]["tokenizer"], "kind", str, path, parent="data.tokenizer.")
        if content["task"] not in TASKS:
            raise ModelError(place=path, expected=f"one of the tasks {', '.join(TASKS)}",
                             found=repr(content["task"]), advice="upgrade rnntool, or copy the model again")
        if content["graph"] not in GRAPH_TYPES:
            raise ModelError(place=path, expected=f"a graph in {' or '.join(GRAPH_TYPES)}",
                             found=repr(content["graph"]), advice=AGAIN)
        for key in ("report", "init", "sha256"):
            if content.get(key) is not None:
                _check_type(content, key, dict, path)
        try:
            settings = TASKS[content["task"]].settings.from_json(content["settings"])
        except UsageError as error:
            raise ModelError(f"is damaged (settings: {error})", place=path, advice=AGAIN) from None
        return cls(
            version=content["version"], task=content["task"], data=content["data"],
            network=NetworkConfig.from_json(content["network"], place=path),
            parameters=content["parameters"], graph=content["graph"], settings=settings,
            init=content.get("init"), report=content.get("report") or {}, sha256=content.get("sha256") or {})


def _check_type(content: Mapping[str, Any], key: str, kind: type, path: Path, *, parent: str = "") -> None:
    value = content.get(key)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ModelError(f"is damaged (`{parent}{key}` is missing or has the wrong type)", place=path,
                         advice=AGAIN)


def read_config(folder: Path) -> ModelConfig:
    """Read and validate a model folder's config.json; `ModelError` says what is wrong with it."""
    path = folder / CONFIG
    try:
        model_file.check_plain(path, largest=model_file.LARGEST_TEXT)
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        if (folder / RESUME).is_dir():
            raise ModelError(
                "its training has not ended", place=folder,
                advice=f"continue it with `rnntool train {_task_of_training(folder)}`, "
                       f"{setting('output', folder)} and {setting('resume')}"
            ) from None
        raise ModelError(f"is not a model folder (it has no {CONFIG})", place=folder,
                         advice="give one that `rnntool train` wrote") from None
    except OSError as error:
        raise ModelError(f"can't be read ({error.strerror})", place=path) from None
    except (ValueError, RecursionError) as error:
        raise ModelError(f"is damaged ({error})", place=path, advice=AGAIN) from None
    return ModelConfig.from_json(content, path)


def _task_of_training(folder: Path) -> str:
    """Return the task of an unfinished training, or an ellipsis if that can't be read."""
    try:
        return str(json.loads((folder / RESUME / JOB).read_text("utf-8"))["task"])
    except (OSError, ValueError, KeyError, TypeError):
        return "…"


def read_graph(path: Path, config: ModelConfig | None = None) -> bytes:
    """Return the content of a graph, which is safe to run.

    `ModelError` if it has something that rnntool doesn't write, or if it differs from its digest in `config`.
    """
    graph = model_file.read(path, largest=graph_check.LARGEST)
    if config is not None:
        check_digest(path, graph, config)
    try:
        graph_check.check(graph)
    except ValueError as error:
        raise ModelError(f"isn't a graph that rnntool wrote ({error})", place=path, advice=AGAIN) from None
    return graph


def check_graph(
    folder: Path, config: ModelConfig, inputs: Collection[str], widths: Mapping[str, Any]
) -> None:
    """Raise `ModelError` if a folder's graph doesn't fit its config.

    `inputs` are the names of the graph's inputs. `widths` are the sizes of the last axes of its outputs, by
    name.
    """
    required, reads_words = config.network.head.graph_outputs(), config.network.encoder.word is not None
    fits = all(name in widths and width in (None, widths[name]) for name, width in required.items())
    if not fits or ("words" in inputs) != reads_words:
        raise ModelError(f"doesn't fit {CONFIG}", place=folder / GRAPH, advice=AGAIN)


# --- Digests -----------------------------------------------------------------------------------------------


def digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file that a model's answers depend on, by name."""
    return {path.name: _sha256(path.name, path.read_bytes()) for path in sorted(folder.iterdir())
            if path.is_file() and path.name not in (CONFIG, METRICS, CARD)}


def check_digest(path: Path, content: bytes, config: ModelConfig) -> None:
    """Raise `ModelError` if a file's content differs from its digest, if the model has one."""
    if path.name in config.sha256 and _sha256(path.name, content) != config.sha256[path.name]:
        raise ModelError(
            f"differs from its SHA-256 in {CONFIG}", place=path,
            advice="copy the model again, or remove its SHA-256 there if you changed the file yourself")


def check_vocabularies(folder: Path, config: ModelConfig) -> None:
    """Raise `ModelError` if a vocabulary or the labels differ from their digest."""
    for name in VOCABULARIES:
        if name in config.sha256 and (folder / name).exists():
            check_digest(folder / name, model_file.read(folder / name), config)


@contextmanager
def renewed_digest(path: Path, **changes: Any) -> Iterator[None]:
    """Renew the digest of a file that the body of the context replaces, if it belongs to a model.

    `changes` are other keys of the model's config.json. The model can be loaded at any time in between.
    """
    config = path.with_name(CONFIG)
    try:
        content = json.loads(model_file.read(config))
        other_digests = {name: digest for name, digest in content["sha256"].items() if name != path.name}
        listed = path.name in content["sha256"]
    except (ModelError, ValueError, KeyError, TypeError, AttributeError):
        listed = False
    if not listed:
        yield
        return
    write_json(config, content | {"sha256": other_digests})
    yield
    digest = _sha256(path.name, path.read_bytes())
    write_json(config, content | changes | {"sha256": other_digests | {path.name: digest}})


def _sha256(name: str, content: bytes) -> str:
    if name.endswith(".txt"):
        content = content.replace(b"\r\n", b"\n")  # line ends that Windows programs write
    return hashlib.sha256(content).hexdigest()


# --- Finding models ----------------------------------------------------------------------------------------


def search_path() -> list[Path]:
    """Return the folders in which models are searched for by name, in order; the shipped models come last."""
    from platformdirs import user_data_path

    package = Path(__file__).parent
    variable = os.environ.get("RNNTOOL_MODELS")
    return [
        Path("models"),
        *([Path(variable)] if variable else []),
        user_data_path("rnntool", appauthor=False) / "models",
        package / "shipped",  # in an installed package
        package.parent / "models",  # in a checkout
    ]


def find(model: str | Path) -> Path:
    """Return the folder of a model given by path or by name; `ModelError` if there is none."""
    path = Path(model)
    try:
        if path.is_dir():
            return path
        if path.is_file():
            raise ModelError(place=path, expected="a folder that `rnntool train` wrote", found="a file")
        if len(path.parts) == 1:
            for folder in search_path():
                if (folder / path / CONFIG).is_file():
                    return folder / path
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
    names = ", ".join(sorted({folder.name for folder in available()}))
    raise ModelError("no such folder, and no model has this name", place=path,
                     advice=f"choose one of {names}" if names else "give the path of a folder")


def available() -> Iterator[Path]:
    """Yield the folder of each model that can be found by name, each name once."""
    names = set()
    for place in search_path():
        for config in sorted(place.glob(f"*/{CONFIG}")):
            if config.parent.name not in names:
                names.add(config.parent.name)
                yield config.parent


# --- Writing -----------------------------------------------------------------------------------------------


@contextmanager
def staged(folder: Path, *, replace: bool = False) -> Iterator[Path]:
    """Provide a temporary folder to write into, and move its files into `folder` at the end.

    If the body of the context raises an error, `folder` stays as it was. `config.json` moves last, so a
    reader never takes an incomplete folder for a model. With `replace`, files of an older model that the new
    one doesn't have are removed. `RnntoolError` if the folder can't be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stage = Path(tempfile.mkdtemp(prefix=".writing-", dir=folder))
    except OSError as error:
        raise _writing_failed(folder, error) from None
    try:
        yield stage
        with _naming_failures(folder):
            (folder / CONFIG).unlink(missing_ok=True)
            names = sorted((path.relative_to(stage) for path in stage.rglob("*") if path.is_file()),
                           key=lambda path: path == Path(CONFIG))
            if replace:
                for stale in set(MODEL_FILES).difference(map(str, names)):
                    (folder / stale).unlink(missing_ok=True)
            for name in names:
                (folder / name).parent.mkdir(exist_ok=True)
                (stage / name).replace(folder / name)
    except OSError as error:
        if error.errno not in DISK_ERRORS:  # the body failed for another reason
            raise
        raise _writing_failed(folder, error) from None
    finally:
        shutil.rmtree(stage, ignore_errors=True)


@contextmanager
def _naming_failures(folder: Path) -> Iterator[None]:
    """Turn an `OSError` into an error about the folder."""
    try:
        yield
    except OSError as error:
        raise _writing_failed(folder, error) from None


def _writing_failed(folder: Path, error: OSError) -> RnntoolError:
    free = "free some disk space, or " if error.errno in NO_ROOM else ""
    return RnntoolError(f"can't be written to ({error.strerror or error})", place=folder,
                        advice=f"{free}choose another folder")


def remove(folder: Path) -> None:
    """Remove a folder with everything in it, if it exists."""
    shutil.rmtree(folder, ignore_errors=True)


def write_json(path: Path, data: Any) -> None:
    """Write indented JSON to a temporary file that then replaces `path`, so that it is never incomplete."""
    temporary = path.with_name(path.name + ".writing")
    temporary.write_text(to_json(data, indent=2) + "\n", "utf-8")
    temporary.replace(path)
