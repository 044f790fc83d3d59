"""Render errors with the names that the user knows: options, environment variables, keys of a TOML file."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import typer

from rnntool.data.options import number_range
from rnntool.errors import RnntoolError, SettingName, python_name, suggestion

# The class of all usage errors that Typer raises; it has no public name.
TyperUsageError: type[Exception] = typer.BadParameter.__bases__[0]

SWITCH = "_is_"  # in the parameter name of a switch, between the setting and the choice that it stands for
CONFIG = "config_file"  # the parameter that names the TOML file of a command


def describe(error: RnntoolError, context: typer.Context) -> str:
    """Render an error as one sentence that names each setting by where its value came from."""
    if error.place is not None and error.setting is None:  # a bad file or model that a variable names
        error.setting = next((name for name, value in context.params.items() if str(value) == error.place
                              and value_source(context, name) == "ENVIRONMENT"), None)
    file = context.params.get(CONFIG)
    keys = _keys(context)
    if error.place is None and error.setting in keys:
        error.place = str(file)
    names = naming(context)
    if file is not None and error.place == str(file):
        names = _in_file(error.setting, names)
    parameters = {str(parameter.name) for parameter in context.command.params}
    return error.describe(names, (keys | parameters).__contains__)


def naming(context: typer.Context) -> SettingName:
    """Return a function that names a setting as the user gave it to this command."""
    parameters = {parameter.name: parameter for parameter in context.command.params}
    keys = _keys(context)

    def name(setting: str, value: str | None) -> str:
        parameter = parameters.get(setting)
        if setting in keys:
            return python_name(setting, value)
        if parameter is None:
            return option_name(setting, value)
        switches = [other for key, other in parameters.items() if str(key).startswith(f"{setting}{SWITCH}")
                    and value_source(context, str(key)) == "COMMANDLINE"]
        if switches and value is None:
            return _typed(switches[0])
        if not switches and value_source(context, setting) == "ENVIRONMENT":
            variable = str(parameter.envvar)
            return variable if value is None else f"{variable}={value}"
        if value == "False" and parameter.secondary_opts:
            return str(max(parameter.secondary_opts, key=len))
        return _joined(_typed(parameter), None if getattr(parameter, "is_flag", False) else value)

    return name


def option_name(setting: str, value: str | None = None) -> str:
    """Spell a setting as an option: `--head crf`, `--no-bidirectional`."""
    flag = setting.replace("_", "-")
    return f"--no-{flag}" if value == "False" else _joined(f"--{flag}", value)


def usage(error: Any, context: typer.Context) -> str:
    """Render an error that Typer found in a command line."""
    see = f"See {context.command_path} --help."
    if hasattr(error, "possibilities"):  # an unknown option
        parameters = context.command.params
        names = [name for parameter in parameters for name in (*parameter.opts, *parameter.secondary_opts)]
        return no_such("option", error.option_name, names, otherwise=see)
    if isinstance(error, typer.BadParameter) and error.param and not hasattr(error, "param_type"):
        return _bad_value(error, error.param, context)
    return f"{error.format_message().rstrip('.')}. {see}"


def no_such(kind: str, name: str, names: Iterable[str], *, otherwise: str | None = None) -> str:
    """Say that a name is unknown, and suggest the closest one."""
    advice = suggestion(name, names, otherwise=otherwise)
    return f"No such {kind}: {name}. {advice[0].upper()}{advice[1:]}"


def _bad_value(error: Any, parameter: Any, context: typer.Context) -> str:
    place = naming(context)(parameter.name, None)
    expected, found = _expected(parameter.type), re.match(r"(.+?) is not ", error.message)
    if expected is None or found is None:
        return f"{place}: {error.message.rstrip('.')}"
    return f"{place}: expected {expected}, found {found[1]}"


def _expected(kind: Any) -> str | None:
    """Describe the values that a type allows; None for a type without limits."""
    choices = getattr(kind, "choices", None)
    if choices:
        return f"one of {', '.join(map(str, choices))}"
    if kind.name == "boolean":
        return "true or false"
    number = {"int": int, "float": float}.get(kind.name.removesuffix(" range"))
    if number is None:
        return None
    return number_range(number, getattr(kind, "min", None), getattr(kind, "max", None))


def _typed(parameter: Any) -> str:
    """Return the long name of an option, or the name that the help shows for an argument."""
    if parameter.param_type_name == "argument":
        return str(parameter.human_readable_name)
    return str(max(parameter.opts, key=len))


def _joined(flag: str, value: str | None) -> str:
    return flag if value is None else f"{flag} {value}"


def _keys(context: typer.Context) -> set[str]:
    """Return the settings whose values come from the TOML file of the command."""
    file = context.params.get(CONFIG)
    if file is None:
        return set()
    import tomllib

    content: dict[str, Any] = {}
    with suppress(OSError, ValueError):  # the command itself complains about a file that can't be read
        content = tomllib.loads(Path(file).read_text("utf-8-sig"))
    names = [key.replace("-", "_") for key in content]
    return {name for name in names if value_source(context, name) == "DEFAULT"}


def value_source(context: typer.Context, parameter: str) -> str:
    """Return where a value comes from, in Typer's terms: COMMANDLINE, ENVIRONMENT or DEFAULT."""
    source = context.get_parameter_source(parameter)
    return "DEFAULT" if source is None else source.name


def _in_file(subject: str | None, name: SettingName) -> SettingName:
    """Name the setting `subject` by its key in the TOML file, and others as the user gave them."""
    return lambda setting, value: (
        python_name(setting, value) if setting == subject else name(setting, value))
