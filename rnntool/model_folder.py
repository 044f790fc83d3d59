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
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from rnntool.data import atomic_files, model_file
from rnntool.data.json_text import to_json
from rnntool.data.progress import Log
from rnntool.errors import ModelError, RnntoolError, UsageError, setting
from rnntool.models import graph_check
from rnntool.models.config import WITHOUT_NETWORK, NetworkConfig, Shape
from rnntool.tasks import TASKS
from rnntool.tasks.specs.settings import Settings
from rnntool.tasks.specs.spec import TaskSpec

FORMAT = 1  # of the folder; increased if older versions of rnntool can't read it
CONFIG, WEIGHTS, GRAPH, METRICS, CARD, RESUME = (
    "config.json", "model.safetensors", "model.onnx", "metrics.jsonl", "README.md", "resume")
JOB, STATE = "job.json", "state.json"  # in RESUME
TUNE = "tune"  # folder of a study
FOLDS = "folds"  # folder of a cross-validation: its job, and a model for each fold
SEGMENTER = "segmenter"  # folder of a model that splits raw text for a tagger
SEGMENTING = "segmenting"  # folder of the training of a segmenter: the job of its tagger, and its model
NEW = ".new"  # folder of a complete model that is about to replace the files beside it
KEEPS = ".keeps-checkpoint"  # in NEW: the model is that of a stopped training, whose checkpoint stays
LOCK = ".lock"  # file that a training keeps locked
UNFINISHED = ".writing-"  # prefix of files and folders that are not complete
PARTS = ("decoder.onnx",)  # graphs of parts of a network that run on their own
TARGET = "target."  # before the name of a vocabulary's file: of what is written, not of what is read
VOCABULARIES = ("tokenizer.model", "vocab.txt", f"{TARGET}tokenizer.model", f"{TARGET}vocab.txt",
                "features.txt", "labels.txt", "lemmas.txt", "vectors.txt", "multiword.txt",
                "ngrams.safetensors", "window.safetensors")
MODEL_FILES = (CONFIG, WEIGHTS, GRAPH, *PARTS, METRICS, CARD, *VOCABULARIES)
GRAPH_TYPES = ("float32", "int8", "none")  # a model without a network has no graph
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
    training_data: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # see `Job.published`
    init: Mapping[str, Any] | None = None  # what was transferred from another model, if anything
    init_target: Mapping[str, Any] | None = None  # the same for a decoder
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
        return self.network.encoder.architecture

    def to_json(self) -> dict[str, Any]:
        """Return the content of config.json as JSON types."""
        return {
            "format": FORMAT, "version": self.version, "task": self.task, "data": dict(self.data),
            "network": self.network.to_json(), "parameters": self.parameters, "graph": self.graph,
            "settings": self.settings.to_json(), "training_data": dict(self.training_data), "init": self.init,
            "init_target": self.init_target, "report": dict(self.report), "sha256": dict(self.sha256),
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
        for key in ("training_data", "report", "init", "init_target", "sha256"):
            if content.get(key) is not None:
                _check_type(content, key, dict, path)
        _check_report(content.get("report") or {}, path)
        _check_cross_validation((content.get("report") or {}).get("cross_validation"), path)
        try:
            settings = TASKS[content["task"]].settings.from_json(content["settings"])
        except UsageError as error:
            raise ModelError(f"is damaged (settings: {error})", place=path, advice=AGAIN) from None
        return cls(
            version=content["version"], task=content["task"], data=content["data"],
            network=NetworkConfig.from_json(content["network"], place=path),
            parameters=content["parameters"], graph=content["graph"], settings=settings,
            training_data=content.get("training_data") or {}, init=content.get("init"),
            init_target=content.get("init_target"), report=content.get("report") or {},
            sha256=content.get("sha256") or {})


def _check_type(content: Mapping[str, Any], key: str, kind: type, path: Path, *, parent: str = "") -> None:
    value = content.get(key)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ModelError(f"is damaged (`{parent}{key}` is missing or has the wrong type)", place=path,
                         advice=AGAIN)


def _check_report(report: Mapping[str, Any], path: Path) -> None:
    """Raise `ModelError` if a table in a report isn't as rnntool writes it."""
    for key in ("baseline", "ngram", "linear"):
        if report.get(key) is not None:
            _check_type(report, key, dict, path, parent="report.")
    for key in ("per_label", "confusion", "columns"):
        table = report.get(key) or {}
        rows = list(table.values()) if isinstance(table, dict) else [table]
        fits = all(isinstance(row, dict) for row in rows) and (
            key != "per_label" or all(row.keys() == rows[0].keys() for row in rows)) and (
            key != "confusion" or all(type(count) is int for row in rows for count in row.values()))
        if not fits:
            raise ModelError(f"is damaged (`report.{key}` has the wrong type)", place=path, advice=AGAIN)
        if key == "columns":
            for row in rows:
                _check_report(row, path)


def _check_cross_validation(figures: Any, path: Path) -> None:
    """Raise `ModelError` if the figures of a cross-validation aren't as rnntool writes them."""
    def are_numbers(values: object) -> bool:
        return isinstance(values, list) and all(type(value) in (int, float, type(None)) for value in values)

    names = ("value", "mean", "std")
    fits = figures is None or (
        isinstance(figures, dict) and figures.keys() >= {"figure", "records", "folds", "interval", *names}
        and isinstance(figures["figure"], str) and type(figures["records"]) is int
        and are_numbers([figures[name] for name in names]) and are_numbers(figures["folds"])
        and (figures["interval"] is None
             or (are_numbers(figures["interval"]) and len(figures["interval"]) == 2)))
    if not fits:
        raise ModelError("is damaged (`report.cross_validation` has the wrong type)", place=path,
                         advice=AGAIN)


def read_config(folder: Path) -> ModelConfig:
    """Read and validate a model folder's config.json; `ModelError` says what is wrong with it."""
    path = folder / CONFIG
    try:
        model_file.check_plain(path, largest=model_file.LARGEST_TEXT)
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        if is_resumable(folder):
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
        return str(json.loads(job_file(folder).read_text("utf-8"))["task"])
    except (OSError, ValueError, KeyError, TypeError):
        return "…"


def check_has_network(folder: Path, config: ModelConfig) -> None:
    """Raise `ModelError` if a model is made of tables."""
    if config.network.encoder.kind in WITHOUT_NETWORK:
        raise ModelError(place=folder, expected="a neural network", found=f"a {config.architecture} model",
                         advice="give another model")


def read_graph(path: Path, config: ModelConfig | None = None) -> bytes:
    """Return the content of a graph that is safe to run.

    `ModelError` if it has a part that rnntool doesn't write, or if it differs from its digest in `config`.
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
    folder: Path, config: ModelConfig, inputs: Mapping[str, Shape], outputs: Mapping[str, Shape]
) -> None:
    """Raise `ModelError` if a folder's graph doesn't fit its config.

    `inputs` and `outputs` are the shapes that the graph declares, without outputs that aren't float32.
    """
    required, reads_words = config.network.head.graph_outputs(), config.network.encoder.word is not None
    states = {name: shape for name, shape in inputs.items() if name.startswith("state.")}
    required |= {"next" + name.removeprefix("state"): shape for name, shape in states.items()}
    vectors = outputs.get("word_vectors", ("types", 0))
    fits = (all(outputs.get(name) == shape for name, shape in required.items())
            and all(shape[:-1] == (1, "batch") and isinstance(shape[-1], int) for shape in states.values())
            and vectors[:-1] == ("types",) and isinstance(vectors[-1], int))
    if not fits or ("words" in inputs) != reads_words:
        raise ModelError(f"doesn't fit {CONFIG}", place=folder / GRAPH, advice=AGAIN)


def check_part(
    path: Path, config: ModelConfig, part: str, inputs: Mapping[str, Shape], outputs: Mapping[str, Shape]
) -> None:
    """Raise `ModelError` if the graph of a part of a network, at `path`, doesn't fit the config."""
    required = config.network.head.part_outputs(part)
    states = {"state" + name.removeprefix("next"): shape for name, shape in required.items()
              if name.startswith("next.")}
    if any(outputs.get(name) != shape for name, shape in required.items()) or any(
            inputs.get(name) != shape for name, shape in states.items()):
        raise ModelError(f"doesn't fit {CONFIG}", place=path, advice=AGAIN)


# --- Digests -----------------------------------------------------------------------------------------------


def digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file that a model's answers depend on, by name."""
    return {path.name: _sha256(path.name, path.read_bytes()) for path in sorted(folder.iterdir())
            if path.is_file() and path.name not in (CONFIG, METRICS, CARD)}


def check_digest(path: Path, content: bytes, config: ModelConfig) -> None:
    """Raise `ModelError` if the model has a digest of a file and its content differs."""
    if path.name in config.sha256 and _sha256(path.name, content) != config.sha256[path.name]:
        raise ModelError(
            f"differs from its SHA-256 in {CONFIG}", place=path,
            advice="copy the model again, or, if you changed the file yourself, remove its SHA-256 there")


def check_vocabularies(folder: Path, config: ModelConfig) -> None:
    """Raise `ModelError` if a vocabulary or the labels differ from their digest."""
    for name in VOCABULARIES:
        if name in config.sha256 and (folder / name).exists():
            check_digest(folder / name, model_file.read(folder / name), config)


@contextmanager
def renewed_digest(path: Path, **changes: Any) -> Iterator[None]:
    """Update the digest of a model's file that the body of the context replaces.

    `changes` are new values for other keys of config.json. The model can be loaded at any time meanwhile. A
    file that has no digest is left alone.
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
    try:
        yield
    except BaseException:
        write_json(config, content)
        raise
    digest = _sha256(path.name, path.read_bytes())
    write_json(config, content | changes | {"sha256": other_digests | {path.name: digest}})


def _sha256(name: str, content: bytes) -> str:
    if name.endswith(".txt"):
        content = content.replace(b"\r\n", b"\n")  # a Windows program may have changed the line ends
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
            return complete(path)
        if path.is_file():
            raise ModelError(place=path, expected="a folder that `rnntool train` wrote", found="a file")
        if len(path.parts) == 1:
            for place in search_path():
                folder = complete(place / path)
                if (folder / CONFIG).is_file():
                    return folder
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
    names = ", ".join(sorted(map(name_of, available())))
    raise ModelError("no such folder, and no model has this name", place=path,
                     advice=f"choose one of {names}" if names else "give the path of a folder")


def available() -> Iterator[Path]:
    """Yield the folder of each model that can be found by name, each name once."""
    names = set()
    for place in search_path():
        for folder in map(complete, sorted(place.glob("*"))):
            if name_of(folder) not in names and (folder / CONFIG).is_file():
                names.add(name_of(folder))
                yield folder


def complete(folder: Path) -> Path:
    """Return where a model's files are: in `folder`, or in `NEW` if their move was interrupted."""
    new = folder / NEW
    return new if (new / CONFIG).is_file() else folder


def identity(folder: Path) -> tuple[Path, int, int]:
    """Return a value that changes when another model replaces the one in a folder."""
    try:
        status = (folder / CONFIG).stat()
    except OSError:
        return folder, 0, 0
    return folder, status.st_ino, status.st_mtime_ns


def name_of(folder: Path) -> str:
    """Return the name of a model by its folder, which is the result of `complete`."""
    folder = folder.resolve()
    return folder.parent.name if folder.name == NEW else folder.name


# --- Writing -----------------------------------------------------------------------------------------------


@contextmanager
def locked(folder: Path, *, warn: Log) -> Iterator[None]:
    """Keep other trainings out of a folder, which is created if it doesn't exist.

    It first finishes or removes what a killed training left there. `RnntoolError` if another process has
    locked the folder, or if the folder can't be written to. The lock ends when the process ends or is killed.
    """
    path = folder / LOCK
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        with _naming_failures(folder):
            folder.mkdir(parents=True, exist_ok=True)
            for place in missing:
                atomic_files.sync(place.parent)
            descriptor = _lock(path, folder, warn)
        try:
            with _naming_failures(folder):
                _tidy(folder, warn)
            yield
        finally:
            _unlock(path, descriptor)
    finally:
        with suppress(OSError):  # a folder with content stays
            for place in missing:
                place.rmdir()


def _lock(path: Path, folder: Path, warn: Log) -> int:
    """Lock a file and write the name of this process into it; return its descriptor."""
    import platform

    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            free = atomic_files.try_lock(descriptor)
        except OSError:
            free = True
            warn(f"{folder}: this file system has no locks, so make sure that no other training writes there")
        if not free:
            holder = os.read(descriptor, 200).decode("utf-8", "replace")
            os.close(descriptor)
            raise RnntoolError(f"another training is writing there ({holder})", place=folder,
                               advice="wait until it ends, or choose another folder")
        if path.exists() and os.path.samestat(path.stat(), os.fstat(descriptor)):
            now = time.strftime("%Y-%m-%d %H:%M:%S")
            try:
                os.ftruncate(descriptor, 0)
                os.lseek(descriptor, 0, os.SEEK_SET)
                os.write(descriptor, f"process {os.getpid()} on {platform.node()}, since {now}".encode())
            except OSError:  # the disk is full
                _unlock(path, descriptor)
                raise
            return descriptor
        os.close(descriptor)  # the process that had the lock has just removed the file


def _unlock(path: Path, descriptor: int) -> None:
    """Remove the file of a lock and close it."""
    if sys.platform == "win32":  # Windows can't remove an open file
        os.close(descriptor)
    with suppress(OSError):
        path.unlink()
    if sys.platform != "win32":
        os.close(descriptor)


def _tidy(folder: Path, warn: Log) -> None:
    """Finish or remove what a killed process left in a folder, which this process has locked."""
    if complete(folder) != folder:
        warn(f"{folder}: a killed training left a complete new model here; putting it into place")
        _install(folder)
    unfinished = list(folder.glob(f"{UNFINISHED}*"))
    for path in unfinished:
        remove(path)
    if unfinished and not is_resumable(folder):
        warn(f"{folder}: removed the files of a training that was killed before its first checkpoint")
    atomic_files.remove_abandoned(folder)


def is_resumable(folder: Path) -> bool:
    """Whether a folder has a training that has not ended."""
    return job_file(folder).exists()


def has_checkpoint(folder: Path) -> bool:
    """Whether a folder has the checkpoint of a training; its cross-validation, if any, has ended."""
    return all((folder / RESUME / name).exists() for name in (JOB, STATE))


def has_folds(folder: Path) -> bool:
    """Whether a folder has a cross-validation that has begun, and whose training has not ended."""
    return (folder / FOLDS / JOB).exists()


def job_file(folder: Path) -> Path:
    """Return the file with the job of the training that has not ended; it doesn't exist if there is none."""
    places = ([RESUME] if has_checkpoint(folder) else []) + [FOLDS, SEGMENTING]
    files = [folder / place / JOB for place in places]
    return next((file for file in files if file.exists()), files[-1])


@contextmanager
def staged(folder: Path, name: str) -> Iterator[Path]:
    """Provide a temporary folder. At the end, sync it to the disk and let it replace `folder/name`.

    If the body of the context raises an error, nothing changes.
    `RnntoolError` if the folder can't be written to.
    """
    with _naming_failures(folder):
        folder.mkdir(parents=True, exist_ok=True)
        stage = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=folder))
    try:
        yield stage
        with _naming_failures(folder):
            atomic_files.sync_tree(stage)
            remove(folder / name)
            stage.rename(folder / name)
            atomic_files.sync(folder)
    except OSError as error:
        if error.errno not in DISK_ERRORS:  # the body failed for another reason
            raise
        raise _writing_failed(folder, error) from None
    finally:
        remove(stage)


@contextmanager
def new_model(folder: Path, *, keep_checkpoint: bool = False) -> Iterator[Path]:
    """Provide a temporary folder for the files of a model that replaces the one in `folder`, if any.

    At any time, `complete` finds either the whole old model or the whole new one. The checkpoints are removed
    unless `keep_checkpoint` is true. `RnntoolError` if the folder can't be written to.
    """
    with staged(folder, NEW) as stage:
        yield stage
        if keep_checkpoint:
            (stage / KEEPS).touch()
    with _naming_failures(folder):
        _install(folder)


def _install(folder: Path) -> None:
    """Move the complete model in `NEW` to its place."""
    files = {path.name for path in (folder / NEW).iterdir()}
    if SEGMENTER not in files and _names_segmenter(folder / CONFIG):
        remove(folder / SEGMENTER)
    names = sorted(files - {KEEPS}, key=lambda name: name == CONFIG)
    for name in names:
        temporary = folder / f"{UNFINISHED}{name}"
        if (folder / NEW / name).is_dir():
            remove(folder / name)
            shutil.copytree(folder / NEW / name, temporary, dirs_exist_ok=True)
            atomic_files.sync_tree(temporary)
            temporary.rename(folder / name)
            continue
        temporary.unlink(missing_ok=True)
        try:
            temporary.hardlink_to(folder / NEW / name)
        except OSError:  # the file system has no links
            shutil.copyfile(folder / NEW / name, temporary)
            atomic_files.sync(temporary)
        temporary.replace(folder / name)
        temporary.unlink(missing_ok=True)  # `replace` does nothing if both names link to the same file
    for stale in set(MODEL_FILES).difference(names):
        (folder / stale).unlink(missing_ok=True)
    if KEEPS not in files:
        remove(folder / RESUME)
        remove(folder / FOLDS)
        remove(folder / SEGMENTING)
    atomic_files.sync(folder)
    remove(folder / NEW)


def _names_segmenter(config: Path) -> bool:
    """Return whether a model has a segmenter; another folder of that name may be the user's own."""
    try:
        return bool(json.loads(config.read_text("utf-8"))["settings"].get("segmenter"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def copy_files(folder: Path, to: Path) -> None:
    """Copy the files of a model into a new folder."""
    to.mkdir()
    for name in MODEL_FILES:
        if (folder / name).exists():
            shutil.copyfile(folder / name, to / name)


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


def remove(path: Path) -> None:
    """Remove a file, or a folder with everything in it, if it exists. Nobody sees a part of it."""
    unfinished = path
    if not path.name.startswith(UNFINISHED):
        unfinished = path.with_name(f"{UNFINISHED}{os.urandom(6).hex()}")
        with suppress(OSError):
            path.rename(unfinished)
    if unfinished.is_dir():
        shutil.rmtree(unfinished, ignore_errors=True)
    else:
        with suppress(OSError):
            unfinished.unlink()


def write_json(path: Path, data: Any) -> None:
    """Replace a file with indented JSON, and sync it to the disk."""
    with atomic_files.replacement(path) as part:
        part.write_text(to_json(data, indent=2) + "\n", "utf-8")
