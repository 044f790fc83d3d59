"""Options that are made from settings: one for each, as `rnntool.config` has it."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Annotated, Any, Literal

import typer

from rnntool import config
from rnntool.errors import UsageError


def setting_options(kind: type[config.Settings]) -> list[inspect.Parameter]:
    """An option for each setting. None says that it was not given, so that files and presets can speak."""
    options = []
    kinds = config.value_types(kind)
    for field in dataclasses.fields(kind):
        meta = field.metadata
        value: Any = Literal[meta["choices"]] if meta["choices"] else kinds[field.name]
        flag = config.flag(field.name)
        options.append(inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=None,
            annotation=Annotated[value | None, typer.Option(
                f"{flag}/--no-{flag[2:]}" if value is bool else flag,
                help=meta["help"], rich_help_panel=meta["panel"], show_default=_shown(field.default),
                metavar=meta["metavar"], parser=meta["parse"], envvar=config.variable(field.name),
                show_envvar=False)]))
        for switch, choice in meta["flags"].items():
            options.append(inspect.Parameter(
                _switch(field.name, choice), inspect.Parameter.KEYWORD_ONLY, default=False,
                annotation=Annotated[bool, typer.Option(
                    switch, help=f"The same as {flag} {choice}.", rich_help_panel=meta["panel"])]))
    return options


def _switch(setting: str, choice: str) -> str:
    """The parameter of a switch that stands for one choice of a setting."""
    return f"{setting}_is_{choice}"


def fold_switches(kind: type[config.Settings], given: dict[str, Any]) -> None:
    """Take the switches out of `given` and put the settings that they stand for in."""
    for field in dataclasses.fields(kind):
        for choice in field.metadata["flags"].values():
            if given.pop(_switch(field.name, choice)):
                if given[field.name] not in (None, choice):
                    raise UsageError(f"{config.flag(field.name)}: want one choice, found {given[field.name]} "
                                     f"and {choice}; leave one out")
                given[field.name] = choice


def _shown(default: Any) -> str | bool:
    """A default as help pages show it; False for one that is not worth showing."""
    if default is None:
        return False
    return ("yes" if default else "no") if isinstance(default, bool) else str(default)
