"""What is wrong with a command line, in one sentence: what Typer finds, in the words that all errors have."""

from __future__ import annotations

import math
import re
from typing import Any

from typer._click import exceptions, types  # Typer has no other name for them
from typer._click.core import Context, Parameter, ParameterSource
from typer.core import TyperGroup

from rnntool.errors import UsageError, suggestion


def flag_of(name: str, value: str | None = None) -> str:
    """A setting as it is typed."""
    flag = "--from" if name == "format" else "--" + name.replace("_", "-")
    return flag if value is None else f"{flag} {value}"


class Group(TyperGroup):
    """Commands, each found by its name."""

    def resolve_command(self, ctx: Context, args: list[str]) -> Any:
        """The command that the first argument names; `UsageError` where it names none."""
        name = args[0]
        if not name.startswith("-") and self.get_command(ctx, name) is None:
            names = self.list_commands(ctx)
            raise UsageError(f"{name}: is no command of {ctx.command_path}; {suggestion(name, names)}")
        return super().resolve_command(ctx, args)


def sentence(error: exceptions.UsageError) -> str:
    """What was found, where, and what was wanted."""
    command = error.ctx.command_path if error.ctx else "rnntool"
    place, page = command, f"see {command} --help"
    if error.ctx and error.ctx.parent:  # without the program, whose name begins every message
        place = command.removeprefix(error.ctx.find_root().command_path).lstrip()
    if isinstance(error, exceptions.NoSuchOption):
        return f"{error.option_name}: is no option of {command}; {_likely_option(error, page)}"
    if isinstance(error, exceptions.BadOptionUsage):
        wants_none = "does not take" in error.message
        found = "takes no value, found one; leave it out" if wants_none else "expected a value, found none"
        return f"{error.option_name}: {found}"
    if isinstance(error, exceptions.BadParameter) and error.param and error.ctx:
        if isinstance(error, exceptions.MissingParameter):
            return f"{place}: expected {_name(error.param)}, found none; {page}"
        return _bad_value(error, error.param, error.ctx)
    message = error.format_message()
    return f"{place}: {message[:1].lower()}{message[1:].rstrip('.')}; {page}"


def by_variable(context: Context, name: str) -> bool:
    """Whether an option has its value from a variable of the environment."""
    return context.get_parameter_source(name) is ParameterSource.ENVIRONMENT


def _likely_option(error: exceptions.NoSuchOption, page: str) -> str:
    parameters = error.ctx.command.params if error.ctx else []
    names = [name for parameter in parameters for name in (*parameter.opts, *parameter.secondary_opts)]
    return suggestion(error.option_name, names, otherwise=page)


def _bad_value(error: exceptions.BadParameter, parameter: Parameter, context: Context) -> str:
    """Of an option or of the variable that stands for it, whichever was given."""
    place = str(parameter.envvar) if by_variable(context, parameter.name or "") else _name(parameter)
    want = _want(parameter.type)
    found = re.match(r"(.+?) is not ", error.message)
    if want is None or found is None:
        return f"{place}: {error.message.rstrip('.')}"
    return f"{place}: expected {want}, found {found[1]}"


def _name(parameter: Parameter) -> str:
    """As it is typed: an option's long name, or what stands for an argument in the help."""
    if parameter.param_type_name == "argument":
        return parameter.human_readable_name
    return max(parameter.opts, key=len)


def _want(kind: types.ParamType) -> str | None:
    """What an option takes; None where that can't be told from its type."""
    choices = getattr(kind, "choices", None)
    if choices:
        return f"one of {', '.join(map(str, choices))}"
    if isinstance(kind, types.BoolParamType):
        return "true or false"
    whole = isinstance(kind, types.IntParamType)
    if not whole and not isinstance(kind, types.FloatParamType):
        return None
    low, high = (getattr(kind, end, None) for end in ("min", "max"))
    name = "a whole number" if whole else "a number"
    if high is not None and not math.isinf(high):
        return f"{name} from {low} to {high}"
    return name if low is None else f"{name} of at least {low}"
