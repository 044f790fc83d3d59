"""Commands and groups for Typer. A group imports the module of a command only when it is called."""

from __future__ import annotations

import importlib
import inspect
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

from rnntool.commands import console
from rnntool.commands.cli_errors import naming, no_such
from rnntool.commands.exit_codes import exit_on_error
from rnntool.commands.options import expanded
from rnntool.data.options import Options
from rnntool.errors import UsageError

HELP = {"help_option_names": ["-h", "--help"]}
MARKUP: Literal["rich"] = "rich"


class Row(NamedTuple):
    """A command of a group: its name, one line of help, and how to load it.

    `load` is the module that holds the function of the same name, or a function that makes the command.
    """

    name: str
    summary: str
    load: str | Callable[[], TyperCommand | TyperGroup]


class Command(TyperCommand):
    """A command whose errors become one sentence and the right exit code."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the options; `--help` prints here."""
        with exit_on_error(ctx):
            typed = list(args)  # the parser empties its list
            rest = super().parse_args(ctx, args)
            if not (ctx.resilient_parsing or ctx.params.get("quiet")):
                self._warn_of_repeated(ctx, typed)
            return rest

    def _warn_of_repeated(self, ctx: Any, args: list[str]) -> None:
        """Warn of options that were typed several times although only the last value counts."""
        _, _, order = self.make_parser(ctx).parse_args(args=args)
        for parameter, count in Counter(order).items():
            switch = getattr(parameter, "is_flag", False) and not parameter.secondary_opts
            if count > 1 and parameter.param_type_name == "option" and not (parameter.multiple or switch):
                last = naming(ctx)(str(parameter.name), str(ctx.params[parameter.name]))
                console.message(f"{last} replaces the value given before it; give this option only once")

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        with exit_on_error(ctx):
            return super().invoke(ctx)


class Group(TyperGroup):
    """A group with a table of commands; their order in the table is their order in the help."""

    rows: tuple[Row, ...] = ()
    listing = False  # True while the help is written, which needs only one line about each command

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names in the order of the table."""
        return [row.name for row in self.rows]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import and return a command; None for an unknown name."""
        row = next((row for row in self.rows if row.name == cmd_name), None)
        if row is None:
            return None
        if self.listing:
            return TyperCommand(row.name, help=row.summary)
        if callable(row.load):
            return row.load()
        return command(getattr(importlib.import_module(row.load), row.name.replace("-", "_")), row.name)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command that the first argument names; `UsageError` for an unknown one."""
        name = args[0]
        if not (name.startswith("-") or ctx.resilient_parsing or self.get_command(ctx, name)):
            raise UsageError(no_such("command", name, self.list_commands(ctx)))
        return super().resolve_command(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help without importing any command."""
        self.listing = True
        try:
            super().format_help(ctx, formatter)
        finally:
            self.listing = False

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the options; without arguments print the help."""
        with exit_on_error(ctx):
            if not args and not ctx.resilient_parsing:
                console.write(ctx.get_help())  # an empty text if rich has printed the help
                raise typer.Exit(2)
            return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run a command of the group."""
        with exit_on_error(ctx):
            return super().invoke(ctx)


def examples(*lines: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Set the examples at the end of a command's help; each can be pasted into a shell."""
    def mark(function: Callable[..., None]) -> Callable[..., None]:
        function.examples = lines  # type: ignore[attr-defined]
        return function

    return mark


def command(
    function: Callable[..., None], name: str, *, given: type[Options] | None = None, help: str | None = None,
    lines: tuple[str, ...] = (), presets: Mapping[str, str] | None = None,
) -> Any:
    """Make a command from a function; its docstring is the help unless `help` is given.

    `given` is the class of settings that a parameter of type `Given` stands for. `lines` are the examples if
    the function has none. `presets` are listed before them, each with what it is for.
    """
    listed = "".join(f"[bold]--preset {preset}[/bold]: {use}\n\n" for preset, use in (presets or {}).items())
    # Typer would keep the line breaks of a docstring, except in its first paragraph
    paragraphs = (help or inspect.cleandoc(function.__doc__ or "")).split("\n\n")
    text = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    app = typer.Typer(add_completion=False, rich_markup_mode=MARKUP)
    app.command(name, cls=Command, help=text, epilog=listed + epilog(*getattr(function, "examples", lines)),
                context_settings=HELP)(expanded(function, given))
    return typer.main.get_command(app)


def group(name: str, help: str, *rows: Row) -> Group:
    """Make a group of commands."""
    made = Group(name=name, help=help, context_settings=HELP, rich_markup_mode=MARKUP)
    made.rows = rows
    return made


def epilog(*lines: str) -> str:
    """Return the examples at the end of a help page."""
    return "[bold]Examples[/bold]\n\n" + "\n\n".join(f"[dim]$[/dim] {line}" for line in lines)
