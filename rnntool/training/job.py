"""What a training was asked for, kept so that it can go on later and from elsewhere. Reads none of it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rnntool import model_folder
from rnntool.errors import DataError, ModelError
from rnntool.tasks import TASKS
from rnntool.tasks.specs.settings import Settings

FILES, MODELS = ("raw", "vectors"), ("init", "features")  # settings that name what is read, too


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is trained from which files. A resumed training goes on with the job that it began with.

    Settings name files and models as the user did, and are published with the model; where these are, which
    a training has to know that goes on from another folder, is in `places`, by the setting.
    """

    task: str
    train: list[str]
    dev: list[str]
    settings: Settings
    format: str | None = None
    encoding_errors: str = "strict"
    places: dict[str, str] = dataclasses.field(default_factory=dict)

    def begin(self) -> Job:
        """The job with the places of what its settings name; `ModelError` where there is no such model."""
        named = {name: getattr(self.settings, name, None) for name in (*FILES, *MODELS)}
        places = {name: value if name in FILES else str(model_folder.find(value))
                  for name, value in named.items() if value}
        return dataclasses.replace(self, places=places)

    def sources(self) -> dict[str, list[str]]:
        """All that is read, by what it is for."""
        return {"train": self.train, "dev": self.dev or self.train,
                **{name: [place] for name, place in self.places.items()}}

    def save(self, path: Path, fingerprints: Mapping[str, str]) -> None:
        """Write as JSON, with absolute paths, and with what the content of its sources was."""
        places = {"train": list(map(_absolute, self.train)), "dev": list(map(_absolute, self.dev)),
                  "places": {name: _absolute(place) for name, place in self.places.items()}}
        model_folder.write_json(path, dataclasses.asdict(self) | places | {"fingerprints": fingerprints})

    @classmethod
    def load(cls, path: Path) -> tuple[Job, dict[str, str]]:
        """The job that `save` wrote, and the fingerprints of its sources.

        `DataError` or `ModelError` where one of these is gone.
        """
        try:
            data = json.loads(path.read_text("utf-8"))
            fingerprints = data.pop("fingerprints")
            settings = TASKS[data["task"]].settings.from_json(data.pop("settings"))
            job = cls(**data, settings=settings)
        except FileNotFoundError:
            folder = path.parent.parent
            if (folder / model_folder.CONFIG).exists():
                raise ModelError(f"{folder}: its training has ended; give --force in place of --resume to "
                                 "train anew") from None
            raise ModelError(f"{folder}: no training to resume; leave --resume out to start one") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelError(f"{path}: is damaged ({error}); start anew with --force") from None
        for name, places in job.sources().items():
            for place in places:
                if place != "-" and not Path(place).exists():
                    raise (ModelError if name in MODELS else DataError)(
                        f"{place}: this training began with it and it is gone; put it back, or start anew "
                        "with --force")
        return job, fingerprints

    def check(self, before: Mapping[str, str], found: Mapping[str, str]) -> None:
        """`DataError` where the content of a source has changed; it names what. See `save`."""
        changed = [place for name, places in self.sources().items() if found[name] != before[name]
                   for place in places]
        if changed:
            raise DataError(f"{', '.join(dict.fromkeys(changed))}: the data has changed since this training "
                            "began; start anew with --force")


def _absolute(path: str) -> str:
    return path if path == "-" else str(Path(path).resolve())
