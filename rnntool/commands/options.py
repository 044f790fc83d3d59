"""Options that several commands share, and options made from `Options` dataclasses.

A parameter of a command whose type is an `Options` class becomes one option for each field. The command
receives an instance, which has checked its values. A parameter of type `Given` becomes options as well, but
the command receives only the values that the user chose; files and presets can fill in the rest.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import typer

from rnntool.commands import console
from rnntool.commands.cli_errors import SWITCH, option_name, value_source
from rnntool.data.options import Options, option, value_types, variable
from rnntool.data.reading import PANEL
from rnntool.errors import UsageError, setting, with_names

COMMON = PANEL  # a panel of the help
LONGEST_CHOICES = 26  # characters; a longer list of choices moves to the help text
METAVARS: dict[type, str] = {int: "N", float: "X"}
CONTEXT = "typer_context"  # the parameter in which Typer passes its context

Command = Callable[..., None]


# --- Options that several commands share -------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Messages(Options):
    """Which messages a command prints on standard error."""

    quiet: bool = option(False, "Print errors only.", panel=COMMON, flags=("-q", "--quiet"))
    verbose: bool = option(False, "Also print details, such as the guessed input format.", panel=COMMON,
                           flags=("-v", "--verbose"))

    def log(self, message: str) -> None:
        """Print a message if `--verbose` is set."""
        if self.verbose and not self.quiet:
            console.message(message)

    def warn(self, message: str) -> None:
        """Print a message unless `--quiet` is set."""
        if not self.quiet:
            console.message(message)


@dataclass(frozen=True, kw_only=True)
class Compute(Options):
    """The hardware that a network runs on."""

    device: str = option("auto", "Device that runs the network.", panel=COMMON,
                         choices=("auto", "cpu", "cuda", "mps"), variable="RNNTOOL_DEVICE")
    threads: int = option(0, "Number of processor threads. 0 uses all cores.", panel=COMMON, low=0,
                          variable="RNNTOOL_THREADS")


Files = Annotated[list[str] | None, typer.Argument(
    metavar="[FILE]…", show_default=False,
    help="Files to read, in order. The default, `-`, is standard input. Compressed files (.gz, .bz2, .xz, "
         ".zst) are decompressed.")]
Output = Annotated[str | None, typer.Option(
    "-o", "--output", metavar="FILE", show_default=False,
    help="Write to FILE instead of standard output. Its extension chooses the format and the compression.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the report as JSON.")]
AsJsonl = Annotated[bool, typer.Option("--jsonl", help="Write one JSON object per record.")]
TextColumn = Annotated[str | None, typer.Option(
    "--text-column", metavar="COLUMN", show_default=False,
    help="Column or key of the text: a name, or a number from 1.")]


def complete_model(incomplete: str) -> list[str]:
    """Return the names of models that begin with what was typed, for the completion of a shell."""
    from rnntool import model_folder

    names = map(model_folder.name_of, model_folder.available())
    return [name for name in names if name.startswith(incomplete)]


ModelArgument = Annotated[str, typer.Argument(
    metavar="MODEL", autocompletion=complete_model,
    help="Model: a folder, or a name that `rnntool models` lists.")]


MODEL_VARIABLE = "RNNTOOL_MODEL"


def model_option(purpose: str = "Model to run", more: str = "") -> Any:
    """Declare `--model`; the variable RNNTOOL_MODEL is its default. `more` is added to the help."""
    return typer.Option(
        "-m", "--model", metavar="MODEL", envvar=MODEL_VARIABLE, show_envvar=False,
        autocompletion=complete_model,
        help=f"{purpose}: a folder, or a name that `rnntool models` lists.{more}")


PLAIN_FORMATS = ("text", "jsonl")  # for commands that read plain lines or JSONL


def format_option(formats: str | None = None) -> Any:
    """Declare `--from`, the format of the input; `formats` lists the valid names."""
    listed = f": {formats}" if formats else ""
    return typer.Option("-f", "--from", metavar="FORMAT", show_default="guessed from the input",
                        help=f"Format of the input{listed}.")


# --- Options from dataclasses ------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Given:
    """The values that the user chose for the fields of an `Options` class, unchecked.

    `values` come from the command line or from variables; `typed` names the fields from the command line.
    """

    values: Mapping[str, Any]
    typed: tuple[str, ...]


def expanded(function: Command, given: type[Options] | None = None) -> Command:
    """Return a function for Typer that has one parameter for each field of an `Options` class.

    `given` is the class whose fields a parameter of type `Given` stands for.
    """
    kinds: dict[str, type[Options]] = {}
    parameters = [inspect.Parameter(CONTEXT, inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)]
    for parameter in inspect.signature(function, eval_str=True).parameters.values():
        kind = given if parameter.annotation is Given else parameter.annotation
        if isinstance(kind, type) and issubclass(kind, Options):
            kinds[parameter.name] = kind
            parameters += _parameters(kind, settings=parameter.annotation is Given)
        else:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))

    def command(**arguments: Any) -> None:
        context = arguments.pop(CONTEXT)
        for name, options in kinds.items():
            chosen = _chosen(options, arguments, context)
            arguments[name] = chosen if options is given else options(**chosen.values)
        function(**arguments)

    command.__doc__ = function.__doc__
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def _parameters(kind: type[Options], *, settings: bool) -> Iterator[inspect.Parameter]:
    """Make a parameter for each field and each switch. A setting also has a variable and a `--no-` flag."""
    for field, value_type in _fields(kind):
        meta = field.metadata
        flags = _flags(field)
        if settings and value_type is bool:
            flags = (f"{flags[0]}/--no-{flags[0][2:]}",)
        help, metavar = with_names(meta["help"], option_name), meta["metavar"] or METAVARS.get(value_type)
        choices = meta["choices"]
        numeric = value_type in METAVARS and not meta["parse"]
        if choices:
            value_type = Literal[choices]  # type: ignore[assignment]
            if len("|".join(choices)) > LONGEST_CHOICES:
                metavar, help = metavar or "NAME", f"{help} One of {', '.join(choices)}."
        info = typer.Option(
            *flags, help=help, rich_help_panel=meta["panel"], metavar=metavar, parser=meta["parse"],
            autocompletion=complete_model if metavar == "MODEL" else None,
            envvar=meta["variable"] or (variable(field.name) if settings else None), show_envvar=False,
            show_default=meta["shown_default"] or field.default is not None,
            min=meta["low"] if numeric else None, max=meta["high"] if numeric else None)
        yield _parameter(field.name, value_type | None, info, field.default)
        for switch, choice in meta["switches"].items():
            info = typer.Option(switch, help=f"Short for {flags[0]} {choice}.", rich_help_panel=meta["panel"])
            yield _parameter(_switch_name(field.name, choice), bool, info, False)


def _parameter(name: str, value_type: Any, info: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default,
                             annotation=Annotated[value_type, info])


def _chosen(kind: type[Options], arguments: dict[str, Any], context: typer.Context) -> Given:
    """Move the values of a class's fields out of `arguments`; a switch counts as a value of its field.

    A switch overrides a variable. `UsageError` if it contradicts another option.
    """
    values, typed = {}, []
    for field, _ in _fields(kind):
        value, source = arguments.pop(field.name), value_source(context, field.name)
        if source == "COMMANDLINE":
            typed.append(field.name)
        if source in ("COMMANDLINE", "ENVIRONMENT"):
            values[field.name] = value
        for choice in field.metadata["switches"].values():
            if not arguments.pop(_switch_name(field.name, choice)):
                continue
            if field.name in typed and values[field.name] != choice:
                both = [setting(field.name, one) for one in (values[field.name], choice)]
                raise UsageError(f"{both[0]} contradicts {both[1]}", advice="leave one out")
            values[field.name] = choice
            typed.append(field.name)
    return Given(values=values, typed=tuple(dict.fromkeys(typed)))


def _fields(kind: type[Options]) -> Iterator[tuple[dataclasses.Field[Any], type]]:
    types = value_types(kind)
    return ((field, types[field.name]) for field in dataclasses.fields(kind))


def _flags(field: dataclasses.Field[Any]) -> tuple[str, ...]:
    return field.metadata["flags"] or ("--" + field.name.replace("_", "-"),)


def _switch_name(field: str, choice: str) -> str:
    return f"{field}{SWITCH}{choice}"
