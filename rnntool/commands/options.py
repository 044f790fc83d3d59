"""Options made from settings, and options shared by commands."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Annotated, Any, Literal

import typer

from rnntool.commands.cli_errors import by_variable
from rnntool.commands.common import Common
from rnntool.data.options import value_types
from rnntool.errors import UsageError
from rnntool.tasks.specs import schema

SHARED: dict[str, Any] = {
    "encoding_errors": Annotated[Literal["strict", "replace"], typer.Option(
        "--encoding-errors", help="What to do with bytes that are no UTF-8: stop, or put U+FFFD for them.")],
    "device": Annotated[Literal["auto", "cpu", "cuda", "mps"], typer.Option(
        "--device", envvar="RNNTOOL_DEVICE", show_envvar=False, help="Where to compute.")],
    "threads": Annotated[int, typer.Option(
        "--threads", min=0, envvar="RNNTOOL_THREADS", show_envvar=False,
        help="Processor threads; 0 takes all cores.")],
    "quiet": Annotated[bool, typer.Option("-q", "--quiet", help="Say nothing but errors.")],
    "verbose": Annotated[bool, typer.Option("-v", "--verbose", help="Say what was guessed and chosen.")],
}  # by the fields of `Common`

Command = Callable[..., None]


def sharing(*names: str) -> Callable[[Command], Command]:
    """Put options that are shared, all or those of these `names`, in the place of a command's `common`."""
    given = names or tuple(SHARED)

    def give(command: Command) -> Command:
        def whole(**options: Any) -> None:
            common = Common(**{name: options.pop(name) for name in given})
            command(**options, common=common)

        parameters: list[inspect.Parameter] = []
        for own in inspect.signature(command, eval_str=True).parameters.values():
            if own.name != "common":
                parameters.append(own.replace(kind=inspect.Parameter.KEYWORD_ONLY))
                continue
            parameters += [
                inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=getattr(Common, name),
                                  annotation=SHARED[name]) for name in given]
        whole.__name__, whole.__doc__ = command.__name__, command.__doc__
        whole.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        whole.__annotations__ = {}  # the signature has them
        return whole

    return give


def setting_options(kind: type[schema.Settings]) -> list[inspect.Parameter]:
    """An option for each setting. None says that it was not given, so that files and presets can speak."""
    options = []
    kinds = value_types(kind)
    for field in dataclasses.fields(kind):
        meta = field.metadata
        value: Any = Literal[meta["choices"]] if meta["choices"] else kinds[field.name]
        flag = schema.flag(field.name)
        options.append(inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=None,
            annotation=Annotated[value | None, typer.Option(
                f"{flag}/--no-{flag[2:]}" if value is bool else flag,
                help=meta["help"], rich_help_panel=meta["panel"], show_default=_shown(field.default),
                metavar=meta["metavar"], parser=meta["parse"], envvar=schema.variable(field.name),
                show_envvar=False)]))
        for switch, choice in meta["switches"].items():
            options.append(inspect.Parameter(
                _switch(field.name, choice), inspect.Parameter.KEYWORD_ONLY, default=False,
                annotation=Annotated[bool, typer.Option(
                    switch, help=f"The same as {flag} {choice}.", rich_help_panel=meta["panel"])]))
    return options


def _switch(setting: str, choice: str) -> str:
    """The parameter of a switch that stands for one choice of a setting."""
    return f"{setting}_is_{choice}"


def fold_switches(kind: type[schema.Settings], given: dict[str, Any], call: typer.Context) -> list[str]:
    """Take the switches out of `given` and put the settings that they stand for in.

    Returns the settings that were typed, and not taken from a variable. A switch goes before a variable, and
    beside another choice that was typed it is an error.
    """
    typed = [name for name, value in given.items() if value is not None and not by_variable(call, name)]
    for field in dataclasses.fields(kind):
        for choice in field.metadata["switches"].values():
            if given.pop(_switch(field.name, choice)):
                if field.name in typed and given[field.name] != choice:
                    raise UsageError(f"{schema.flag(field.name)}: expected one choice, found {given[field.name]} "
                                     f"and {choice}; leave one out")
                given[field.name] = choice
                typed.append(field.name)
    return [name for name in given if name in typed]


def _shown(default: Any) -> str | bool:
    """A default as help pages show it; False for one that is not worth showing."""
    if default is None:
        return False
    return ("yes" if default else "no") if isinstance(default, bool) else str(default)
