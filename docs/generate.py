"""Write the reference of commands, settings and presets, and the tree of the README, from the code.

Run `python docs/generate.py` after a change to an option, a setting, a preset, or the first line of a module
under `rnntool/`. A test compares the pages with the code.
"""

from __future__ import annotations

import ast
import dataclasses
import re
import typing
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import typer

from rnntool.cli import app
from rnntool.commands.cli_errors import option_name
from rnntool.commands.train import SPECS
from rnntool.errors import with_names
from rnntool.tasks import TASKS

SETTINGS = {name: spec.settings for name, spec in TASKS.items()}
PRESETS = {name: spec.presets for name, spec in TASKS.items()}

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "reference"
NOTICE = "<!-- Written by docs/generate.py. Change the code, then run `python docs/generate.py`. -->\n\n"
TYPE_NAMES = {"int": "N", "int range": "N", "float": "NUMBER", "float range": "NUMBER"}
TREE_BEGINS, TREE_ENDS = "<!-- written by docs/generate.py -->", "<!-- end of the tree -->"
PANELS = ("Data", "Network", "Training", "Output")

Words = tuple[str, ...]  # that call a command: ("rnntool", "train", "tag")

SHARED: dict[Words, str] = {  # headings, the smallest groups first
    ("rnntool", "train"): "Options shared by `train` commands",
    ("rnntool", "tune"): "Options shared by `tune` commands",
    ("rnntool", "inspect"): "Options shared by `inspect` commands",
    ("rnntool",): "Options shared by several commands",
}
TRAININGS = (("train",), ("tune",))  # groups whose commands have the settings of a task as options
OFTEN = 3  # commands that must have the same option for it to be described once


# --- The code as data --------------------------------------------------------------------------------------


def commands() -> dict[Words, Any]:
    """Every command and group, by the words that call it. Subcommands may be loaded lazily."""
    return dict(_walk(typer.main.get_command(app), ("rnntool",), None))


def _walk(command: Any, path: Words, parent: Any) -> Iterator[tuple[Words, Any]]:
    yield path, command
    if not hasattr(command, "list_commands"):
        return
    context = command.context_class(command, info_name=path[-1], parent=parent)
    for name in command.list_commands(context):
        part = command.get_command(context, name)
        if not part.hidden:
            yield from _walk(part, (*path, name), context)


def flag(name: str) -> str:
    """Spell a setting as an option."""
    return "--" + name.replace("_", "-")


def settings() -> dict[str, dict[str, dataclasses.Field[Any]]]:
    """The fields of each task's settings, by task and name."""
    return {task: {field.name: field for field in dataclasses.fields(kind)}
            for task, kind in SETTINGS.items()}


def switches(field: dataclasses.Field[Any]) -> Mapping[str, str]:
    """The flags without a value that are short for a value of a setting, with that value."""
    values = field.metadata.get("switches")
    return values if isinstance(values, Mapping) else {}


def presets() -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
    """The settings of each preset, by task and name."""
    return PRESETS


# --- Markdown ----------------------------------------------------------------------------------------------


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    header = list(header)
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines) + "\n"


def code(text: str) -> str:
    """A code span. Renderers disagree about a vertical bar in a table."""
    assert "|" not in text
    return f"`{text}`"


def prose(help_text: str) -> str:
    """A help text as Markdown: options as code, and nothing that Markdown would take for markup."""
    text = re.sub(r"\[/?(?:bold|dim|italic)\]", "", help_text)
    text = " ".join(text.split())
    parts = re.split(r"(`[^`]*`|(?<![\w-])--[a-z][\w-]*)", text)
    escaped = [re.sub(r"([|<>*_\[\]])", r"\\\1", part) if i % 2 == 0 else code(part.strip("`"))
               for i, part in enumerate(parts)]
    return "".join(escaped)


def sentence(text: str) -> str:
    """Text that ends like a sentence."""
    return text if not text or text.endswith((".", "!", "?")) else text + "."


def shown(value: Any) -> str:
    """A default as it is written on the pages."""
    if value is None or value is False or value == "" or value == ():
        return ""
    if value is True:
        return "on"
    return str(value) if " " in str(value) else code(str(value))


def explained(choices: Iterable[str], text: str) -> bool:
    """Whether a help text already names every value, in the form "what it does (value)"."""
    return all(f"({choice})" in text for choice in choices)


def bounds(low: float | None, high: float | None) -> str:
    """The range of a number in words."""
    if low is not None and high is not None:
        return f"{low:g} to {high:g}" if abs(high) < 1e6 else f"{low:g} to {high}"
    if low is not None:
        return f"at least {low:g}"
    return f"at most {high:g}" if high is not None else ""


# --- Commands ----------------------------------------------------------------------------------------------


class Row(NamedTuple):
    """An argument or option as the reference shows it. `name` is its longest spelling."""

    name: str
    spellings: str
    text: str
    default: str = ""

    def cells(self) -> list[str]:
        """Return the cells of a table."""
        return [self.spellings, self.text + (f" Default: {self.default}." if self.default else "")]


def commands_page() -> str:
    """The reference of all commands and their options."""
    found = {path: (command, _rows(path, command)) for path, command in commands().items()}
    shared = _shared({path: rows for path, (_, rows) in found.items()})
    parts = [NOTICE, "# Commands\n\n"
             "`rnntool COMMAND --help` shows the same options. [The command line](command-line.md) describes "
             "streams, exit codes and variables.\n\n"]
    for path, (command, rows) in found.items():
        parts.append(_command_section(path, command, rows, shared))
        if path in SHARED:
            parts.append(f"{'#' * (len(path) + 1)} {SHARED[path]}\n\n{_options_table(shared[path])}")
    return "".join(parts).rstrip("\n") + "\n"


def _rows(path: Words, command: Any) -> list[Row]:
    """The arguments and options of a command, without the settings of a training."""
    settings_of_task = settings().get(task_of(path), {}) if path[1:2] in TRAININGS else {}
    short = {switch for field in settings_of_task.values() for switch in switches(field)}
    return [_row(parameter) for parameter in command.params
            if parameter.param_type_name == "argument"
            or not (parameter.hidden or parameter.name in settings_of_task or short & set(parameter.opts))]


def _shared(found: Mapping[Words, list[Row]]) -> dict[Words, list[Row]]:
    """The rows that are described once, by the group whose commands share them."""
    groups: dict[Row, list[Row]] = {}  # rows that differ in their default only, by the row without it
    paths: dict[Row, list[Words]] = {}
    for path, rows in found.items():
        for row in rows:
            key = row._replace(default="")
            groups.setdefault(key, []).append(row)
            paths.setdefault(key, []).append(path)
    shared: dict[Words, list[Row]] = {group: [] for group in SHARED}
    for key, rows in groups.items():
        if len(rows) >= OFTEN:
            group = next(group for group in SHARED if all(path[: len(group)] == group for path in paths[key]))
            shared[group].append(rows[0] if len(set(rows)) == 1 else key)
    return shared


def _command_section(
    path: Words, command: Any, rows: list[Row], shared: Mapping[Words, list[Row]]
) -> str:
    parts = [f"{'#' * max(2, len(path))} `{' '.join(path)}`\n\n", f"{prose(command.help or '')}\n\n"]
    examples = _examples(command.epilog or "")
    if examples:
        parts.append("```sh\n" + "".join(f"{line}\n" for line in examples) + "```\n\n")
    group_of = {row._replace(default=""): group for group in shared for row in shared[group]}
    by_group: dict[Words | None, list[Row]] = {}
    for row in rows:
        by_group.setdefault(group_of.get(row._replace(default="")), []).append(row)
    parts.append(_options_table(by_group.pop(None, [])))
    for group, group_rows in by_group.items():
        assert group
        names = ", ".join(
            code(row.name) + (f" (default {row.default})" if row.default and row not in shared[group] else "")
            for row in group_rows)
        link = f"[Options of `{group[1]}`]" if group[1:] else "[Shared options]"
        parts.append(f"{link}(#{_slug(SHARED[group])}): {names}.\n\n")
    if path[1:2] in TRAININGS and path[2:]:
        parts.append(f"The [settings](settings.md) of `{task_of(path)}` are options as well.\n\n")
    return "".join(parts)


def task_of(path: Words) -> str:
    """The task of a training by the words that call it."""
    return SPECS[path[-1]].name if path[-1] in SPECS else ""


def _options_table(rows: Iterable[Row]) -> str:
    rows = [row.cells() for row in rows]
    return table(["Argument or option", "What it does"], rows) if rows else ""


def _slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _examples(epilog: str) -> list[str]:
    lines = re.sub(r"\[/?(?:bold|dim|italic)\]", "", epilog).split("\n")
    return [line.removeprefix("$ ").replace("\\[", "[") for line in lines if line.startswith("$ ")]


def _row(parameter: Any) -> Row:
    if parameter.param_type_name == "argument":
        name = parameter.metavar or parameter.name.upper()
        return Row(name, code(name), prose(parameter.help or ""))
    value = _value_name(parameter)
    *short, long = parameter.opts
    spellings = [code(name) for name in (*short, f"{long} {value}".strip(), *parameter.secondary_opts)]
    text = sentence(prose(parameter.help or ""))
    choices = getattr(parameter.type, "choices", ())
    if not explained(choices, text):
        text += f" One of {', '.join(map(code, choices))}."
    limits = bounds(getattr(parameter.type, "min", None), getattr(parameter.type, "max", None))
    if limits and limits != "at least 0":
        text += f" {limits[0].upper()}{limits[1:]}."
    if parameter.multiple and "repeat" not in text and "several times" not in text:
        text += " May be given several times."
    if parameter.envvar:
        text += f" Variable: {code(parameter.envvar)}."
    default = parameter.default if parameter.default is not None else parameter.show_default
    default = None if callable(default) or isinstance(default, bool) else default
    return Row(long, ", ".join(spellings), text, shown(default))


def _value_name(parameter: Any) -> str:
    if getattr(parameter, "is_flag", False) or parameter.count:
        return ""
    if parameter.metavar:
        return str(parameter.metavar)
    if getattr(parameter.type, "choices", None):
        return "NAME"
    return TYPE_NAMES.get(parameter.type.name, "TEXT")


# --- Settings ----------------------------------------------------------------------------------------------


def settings_page() -> str:
    """The reference of all settings, grouped by the tasks that share them."""
    groups: dict[tuple[str, ...], list[tuple[str, list[str]]]] = {}  # tasks -> (panel, row)
    for name, fields in _by_name().items():
        for tasks, row in _setting_rows(name, fields):
            panel = fields[tasks[0]].metadata["panel"]
            groups.setdefault(tasks, []).append((panel, row))
    order = list(SETTINGS)
    parts = [NOTICE, "# Settings\n\n"
             "Every setting of `rnntool train` is an option, [a variable and a key of a "
             "file](command-line.md#where-settings-come-from). "
             "[Presets](presets.md) are sets of settings.\n\n"]
    for tasks in sorted(groups, key=lambda tasks: (-len(tasks), [*map(order.index, tasks)])):
        parts.append(f"## {_heading(tasks)}\n\n")
        rows = groups[tasks]
        for panel in sorted({panel for panel, _ in rows}, key=PANELS.index):
            parts.append(f"**{panel}**\n\n")
            parts.append(table(["Setting", "What it does", "Default"],
                               [row for of_row, row in rows if of_row == panel]))
    return "".join(parts).rstrip("\n") + "\n"


def _heading(tasks: tuple[str, ...]) -> str:
    if len(tasks) == len(SETTINGS):
        return "All tasks"
    *others, last = [f"`train {task}`" for task in tasks]
    return f"{', '.join(others)} and {last}" if others else last


def _by_name() -> dict[str, dict[str, dataclasses.Field[Any]]]:
    """The field of each task that has a setting, by setting and task."""
    by_name: dict[str, dict[str, dataclasses.Field[Any]]] = {}
    for task, fields in settings().items():
        for name, field in fields.items():
            by_name.setdefault(name, {})[task] = field
    return by_name


def _setting_rows(
    name: str, fields: Mapping[str, dataclasses.Field[Any]],
) -> Iterator[tuple[tuple[str, ...], list[str]]]:
    """A row for each group of tasks in which a setting means the same."""
    groups: dict[tuple[str, str], list[str]] = {}  # what it does, values -> tasks
    for task, field in fields.items():
        help_text = with_names(field.metadata["help"], option_name)
        groups.setdefault((help_text, _values(task, field)), []).append(task)
    for (help_text, values), tasks in groups.items():
        field = fields[tasks[0]]
        default = _defaults({task: fields[task].default for task in tasks})
        spellings = [code(f"{flag(name)} {field.metadata.get('metavar') or ''}".strip())]
        if isinstance(field.default, bool):
            spellings.append(code(flag(f"no_{name}")))
        short = [f"{code(switch)} is short for {code(f'{flag(name)} {value}')}."
                 for switch, value in switches(field).items()]
        text = " ".join(filter(None, [sentence(prose(help_text)), values, *short]))
        yield tuple(tasks), [", ".join(spellings), text, default]


def _values(task: str, field: dataclasses.Field[Any]) -> str:
    """A sentence about the values that a setting takes, unless any text or number will do."""
    meta = field.metadata
    if meta.get("choices"):
        if explained(meta["choices"], meta["help"]):
            return ""
        return f"One of {', '.join(map(code, meta['choices']))}."
    hint = typing.get_type_hints(SETTINGS[task])[field.name]
    kind = next((part for part in typing.get_args(hint) if part is not type(None)), hint)
    limits = bounds(meta.get("low"), meta.get("high")) if kind in (int, float) else ""
    return f"{limits[0].upper()}{limits[1:]}." if limits and limits != "at least 0" else ""


def _defaults(values: Mapping[str, Any]) -> str:
    """One default, or that of each task where they differ."""
    written = {task: "off" if value is False else shown(value) or "none" for task, value in values.items()}
    if len(set(written.values())) == 1:
        return next(iter(written.values()))
    return ", ".join(f"{task} {value}" for task, value in written.items())


# --- Presets -----------------------------------------------------------------------------------------------


def presets_page() -> str:
    """The settings of each preset."""
    parts = [NOTICE, "# Presets\n\n"
             "`rnntool train TASK --preset NAME` sets these. "
             "[Train a model](../how-to/train.md#choose-a-preset) says what each is for.\n\n"]
    for task, named in presets().items():
        parts.append(f"## `train {task}`\n\n")
        parts.append(table(["Preset", "Settings"], [
            [code(name), ", ".join(code(spelled(*setting)) for setting in chosen.items())]
            for name, chosen in named.items()]))
    return "".join(parts).rstrip("\n") + "\n"


def spelled(name: str, value: Any) -> str:
    """A setting with its value as it is typed."""
    if isinstance(value, bool):
        return flag(name if value else f"no_{name}")
    return f"{flag(name)} {value}"


# --- The tree of the README --------------------------------------------------------------------------------


def tree() -> dict[str, str]:
    """The first sentence of each module's docstring, by the name directly under `rnntool/`."""
    package = ROOT / "rnntool"
    folders = sorted(path.parent for path in package.glob("*/__init__.py"))
    modules = sorted(package.glob("[a-z]*.py"))
    return {f"{path.name}/": _first_sentence(path / "__init__.py") for path in folders} | {
        path.name: _first_sentence(path) for path in modules}


def _first_sentence(path: Path) -> str:
    line = (ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "").split("\n")[0]
    return line.split(". ")[0].rstrip(".")


def readme() -> str:
    """The README with the tree between its two markers."""
    names = tree()
    width = max(map(len, names))
    lines = "".join(f"  {name:{width}}  {text}\n" for name, text in names.items())
    before, rest = (ROOT / "README.md").read_text("utf-8").split(TREE_BEGINS)
    _, after = rest.split(TREE_ENDS)
    return f"{before}{TREE_BEGINS}\n```text\nrnntool/\n{lines}```\n{TREE_ENDS}{after}"


def pages() -> dict[Path, str]:
    """The text of each page that is generated, wholly or in part."""
    return {FOLDER / "commands.md": commands_page(), FOLDER / "settings.md": settings_page(),
            FOLDER / "presets.md": presets_page(), ROOT / "README.md": readme()}


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text, "utf-8", newline="\n")
