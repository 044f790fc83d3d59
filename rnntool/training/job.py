"""The job of a training: what it was asked to do, saved so that it can be resumed from any folder."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rnntool import model_folder
from rnntool.data.reading import USUAL_READING, TableReading
from rnntool.data.streams import input_names
from rnntool.errors import DataError, ModelError, setting
from rnntool.tasks import TASKS
from rnntool.tasks.specs.settings import Settings
from rnntool.tasks.specs.tag import TRAINED

# settings that name files and models to read
FILES, MODELS = ("raw", "vectors", "target", "dev_target"), ("init", "init_target", "features", "segmenter")
PURPOSES = {"train": "training data", "dev": "development data", "raw": "raw text", "vectors": "vectors",
            "target": "targets", "dev_target": "development targets"}
_DESCRIPTOR = re.compile(r"/(?:dev|proc/self)/fd/(\d+)")  # a shell replaces `<(…)` with such a path
CHECKPOINT_FORMAT = 2  # of the whole folder of checkpoints; format 1 had no number


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is trained, and from which files.

    Settings name files and models as the user did, and are published with the model. `places` has their
    locations by setting, so that a training can be resumed from another folder.
    """

    task: str
    train: list[str]
    dev: list[str]
    settings: Settings
    format: str | None = None
    reading: TableReading = USUAL_READING
    predictions: str | None = None  # file for the answers of a cross-validation
    places: dict[str, str] = dataclasses.field(default_factory=dict)

    def located(self) -> Job:
        """Return the job with the places of its files and models; `ModelError` if a model isn't found."""
        named = {name: getattr(self.settings, name, None) for name in (*FILES, *MODELS)}
        places = {name: value if name in FILES else str(model_folder.find(value))
                  for name, value in named.items() if value and (name, value) != ("segmenter", TRAINED)}
        return dataclasses.replace(self, places=places)

    def sources(self) -> dict[str, list[str]]:
        """Return the paths of everything that the training reads, by purpose."""
        return {"train": self.train, "dev": self.dev or self.train,
                **{name: [place] for name, place in self.places.items()}}

    def pipes(self) -> dict[str, str]:
        """Return the paths that are pipes of the shell, each with its purpose; "-" is standard input."""
        return {place: PURPOSES[name] for name, places in reversed(self.sources().items())
                for place in places if place == "-" or _DESCRIPTOR.fullmatch(place)}

    def command_to_resume(self, folder: Path, *, command: str = "train", finish: bool = False) -> str:
        """Return the command that resumes this training, with placeholders for data from pipes.

        `command` is `train` or `tune`. With `finish`, the command ends the training.
        """
        redirections = "".join(f" {re.sub(r'[^0-9]', '', place)}< {purpose.upper().replace(' ', '_')}"
                               for place, purpose in self.pipes().items())
        options = setting("resume") + (f" {setting('finish')}" if finish else "")
        return f"rnntool {command} {self.task} -o {shlex.quote(str(folder))} {options}{redirections}"

    def published(self) -> dict[str, Any]:
        """Return what a model's config.json says about the data: names of files, and how they were read."""
        names = {purpose: [place if place in self.pipes() else Path(place).name for place in places]
                 for purpose, places in (("train", self.train), ("dev", self.dev))}
        reading = {name: getattr(self.reading, name) for name in self.reading.chosen()}
        return {**names, "reading": ({"format": self.format} if self.format else {}) | reading}

    def save(self, path: Path, fingerprints: Mapping[str, str]) -> None:
        """Write the job as JSON, with absolute paths and the fingerprints of its sources."""
        places = {"train": list(map(_absolute, self.train)), "dev": list(map(_absolute, self.dev)),
                  "places": {name: _absolute(place) for name, place in self.places.items()},
                  "predictions": self.predictions and _absolute(self.predictions)}
        model_folder.write_json(path, {
            "checkpoint_format": CHECKPOINT_FORMAT, **dataclasses.asdict(self), **places,
            "fingerprints": fingerprints})

    @classmethod
    def load(cls, path: Path) -> tuple[Job, dict[str, str]]:
        """Read what `save` wrote: the job, and the fingerprints of its sources.

        `ModelError` if there is no training to resume, or if another version wrote its checkpoints.
        `DataError` or `ModelError` if one of the sources is missing.
        """
        folder = path.parent.parent
        if not model_folder.is_resumable(folder):
            if (folder / model_folder.CONFIG).exists():
                raise ModelError("its training has ended", place=folder,
                                 advice=f"to train again, give {setting('force')} in place of "
                                        f"{setting('resume')}")
            raise ModelError("there is no training to resume", place=folder,
                             advice=f"leave {setting('resume')} out to start one")
        return cls.read(path)

    @classmethod
    def read(cls, path: Path) -> tuple[Job, dict[str, str]]:
        """Read what `save` wrote; see `load`."""
        again, folder = f"start again with {setting('force')}", path.parent.parent
        try:
            data = json.loads(path.read_text("utf-8"))
            fingerprints = data.pop("fingerprints")
            if data.pop("checkpoint_format", 1) != CHECKPOINT_FORMAT:
                raise ModelError("its training began with another version of rnntool", place=folder,
                                 advice=f"resume it with that version, or {again}")
            settings = TASKS[data["task"]].settings.from_json(data.pop("settings"))
            reading = data.pop("reading", {"encoding_errors": data.pop("encoding_errors", "strict")})
            job = cls(**data, reading=TableReading(**reading), settings=settings)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(f"is damaged ({error})", place=path, advice=again) from None
        pipes = job.pipes()
        for place, purpose in pipes.items():
            stdin_waits = place == "-" and (sys.stdin is None or sys.stdin.isatty())
            if stdin_waits or not (place == "-" or Path(place).exists()):
                command = "tune" if path.parent.name == model_folder.TUNE else "train"
                resume = job.command_to_resume(folder, command=command)
                raise DataError(f"the {purpose} came from a pipe and must be given again",
                                place=input_names([place]), advice=f"resume with the same data: {resume}")
        for name, places in job.sources().items():
            for place in places:
                if place != "-" and not Path(place).exists():
                    raise (ModelError if name in MODELS else DataError)(
                        "this training needs it, but it is gone", place=place,
                        advice=f"put it back, or {again}")
        return job, fingerprints

    def check_unchanged(self, before: Mapping[str, str], now: Mapping[str, str]) -> None:
        """Raise `DataError` if the fingerprint of a source has changed."""
        changed = dict.fromkeys(place for name, places in self.sources().items()
                                if now[name] != before[name] for place in places)
        if changed:
            again = "" if changed.keys().isdisjoint(self.pipes()) else "give the same data as before, or "
            raise DataError("the data has changed since this training began", place=input_names(changed),
                            advice=f"{again}start again with {setting('force')}")


def _absolute(path: str) -> str:
    is_pipe = path == "-" or (_DESCRIPTOR.fullmatch(path) and not Path(path).is_file())
    return path if is_pipe else str(Path(path).resolve())
