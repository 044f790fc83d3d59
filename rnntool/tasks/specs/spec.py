"""What is particular to a task and can be known before NumPy or torch is imported."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from rnntool.data.records import Kind
from rnntool.errors import UsageError
from rnntool.tasks.specs.settings import Settings

Preset = Mapping[str, Any]  # settings by name


def usual(settings: Settings, chosen: Collection[str]) -> Preset:
    """Return no settings: the defaults suit all data of a task."""
    return {}


@dataclass(frozen=True, kw_only=True)
class TaskSpec:
    """A task as commands, model folders and model cards see it."""

    name: str  # in `train NAME` and in config.json
    title: str  # with an article: `a language model`
    summary: str  # one sentence for the help of `train NAME`
    examples: tuple[str, ...]  # command lines for that help
    settings: type[Settings]
    presets: Mapping[str, Preset]
    preset_uses: Mapping[str, str]  # what each preset is for, in one line
    reads: Kind  # of records
    learns_from: str  # what training data holds, for messages
    commands: tuple[str, ...]  # names of the commands that run a model
    usage: tuple[str, ...]  # command lines that run a model; `{model}` and `{label}` are filled in
    pipeline_tag: str  # what the Hugging Face Hub calls the task
    higher_is_better: bool  # whether a higher score on the development data is better
    implementation: str  # `module:class` of the task itself
    metrics: tuple[str, ...]  # keys of its report that training prints, the most important one first
    search: Mapping[str, str]  # values that `rnntool tune` tries by default; see `read_space`
    # defaults that suit these settings better, given the names of those that the user or a model chose
    recipe: Callable[[Any, Collection[str]], Preset] = usual
    needs_labels: tuple[str, ...] = ()  # settings that apply to every format with labels

    def preset(self, name: str) -> Preset:
        """Return the settings of a preset; `UsageError` lists the names."""
        if name not in self.presets:
            raise UsageError(setting="preset", expected=f"one of {', '.join(self.presets)} for {self.name}",
                             found=repr(name))
        return self.presets[name]

    def command_lines(self, model: str, *, label: str | None = None) -> list[str]:
        """Return commands to try with a model folder; `label` is one that the model was trained with."""
        given = f" --label {shlex.quote(label)}" if label is not None else ""
        return [line.format(model=shlex.quote(model), label=given) for line in self.usage]
