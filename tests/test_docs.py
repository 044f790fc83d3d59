"""That the documents agree with the code: options, links, command lines, defaults, version."""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from conftest import ROOT

from rnntool import __version__
from rnntool.cli import app
from rnntool.tasks.specs import schema

PAGES = sorted([*ROOT.glob("*.md"), *(page for folder in ("docs", "examples", "benchmarks")
                                      for page in ROOT.glob(f"{folder}/**/*.md"))])
COMMANDS_PAGE = (ROOT / "docs" / "commands.md").read_text("utf-8")
TRAINING_PAGE = (ROOT / "docs" / "training.md").read_text("utf-8")
SHARED = "Options that several commands have"
TEST_COMMAND = "pip install -c constraints.txt -e '.[dev]' && bash tests/check"
CI = ROOT / ".ci" / "run"

_FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def commands(command: Any, path: tuple[str, ...] = ("rnntool",)) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Each command and group by the words that call it."""
    yield path, command
    for name, part in getattr(command, "commands", {}).items():
        yield from commands(part, (*path, name))


COMMANDS = dict(commands(typer.main.get_command(app)))


def options(command: Any) -> list[str]:
    """All spellings of a command's options."""
    return [flag for parameter in command.params if parameter.param_type_name == "option"
            for flag in (*parameter.opts, *parameter.secondary_opts)]


def prose(page: str) -> str:
    """A page without its fenced code."""
    return _FENCED.sub("", page)


def sections(page: str) -> dict[str, str]:
    """What stands between a heading and the next, by heading."""
    _, *parts = _HEADING.split(prose(page))
    return dict(zip(parts[::2], parts[1::2], strict=True))


def slug(heading: str) -> str:
    """The anchor that a heading gets where Markdown is shown."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def calls(code: str) -> Iterator[list[str]]:
    """The words of each call of rnntool in shell code, `rnntool` itself left out."""
    for line in code.replace("\\\n", " ").split("\n"):
        if "rnntool " not in line:
            continue
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if not set(word) <= set("();<>|&"):
                words.append(word)
                continue
            if "rnntool" in words:
                yield words[words.index("rnntool") + 1 :]
            words = []


CALLS = [(page.name, words) for page in PAGES for _, code in _FENCED.findall(page.read_text("utf-8"))
         for words in calls(code)]


def test_the_documents_hold_commands_to_check() -> None:
    assert {words[0] for _, words in CALLS} == {path[1] for path in COMMANDS if len(path) > 1}


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_and_option_is_documented(path: tuple[str, ...]) -> None:
    found = sections(COMMANDS_PAGE)
    own = [f"`{' '.join(path[:n])}`" for n in range(min(2, len(path)), len(path) + 1)]  # and its group's
    text = "".join(found[heading] for heading in [SHARED, *own])
    missing = [flag for flag in options(COMMANDS[path])
               if not re.search(rf"(?<![\w-]){re.escape(flag)}(?![\w-])", text)]
    assert not missing, f"docs/commands.md: name {', '.join(missing)} under {own[-1]}"


def test_no_option_is_documented_that_there_is_not() -> None:
    known = {flag for command in COMMANDS.values() for flag in options(command)} | {"-h", "--help"}
    named = {flag for page in PAGES if page.name not in ("CHANGELOG.md", "CONTRIBUTING.md")
             for span in re.findall(r"`([^`\n]+)`", prose(page.read_text("utf-8")))
             for flag in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", span)}
    assert named <= known


@pytest.mark.parametrize(("page", "words"), CALLS, ids=str)
def test_command_lines_parse(page: str, words: list[str]) -> None:
    path: tuple[str, ...] = ("rnntool",)
    while words and (*path, words[0]) in COMMANDS:
        path, words = (*path, words[0]), words[1:]
    command = COMMANDS[path]
    assert not hasattr(command, "commands"), f"{page}: {' '.join(path)} is no whole command"
    command.make_context(path[-1], list(words))  # raises for options and values that it doesn't know


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page: Path) -> None:
    for link in _LINK.findall(prose(page.read_text("utf-8"))):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), f"{page}: {link}"
        if anchor:
            anchors = [slug(heading) for heading in _HEADING.findall(prose(target.read_text("utf-8")))]
            assert anchor in anchors, f"{page}: {link}"


@pytest.mark.parametrize("page", ["README.md", "docs/python.md", "docs/training.md"])
def test_python_examples_compile(page: str) -> None:
    examples = [code for language, code in _FENCED.findall((ROOT / page).read_text("utf-8"))
                if language == "python"]
    assert examples
    for code in examples:
        compile(code, page, "exec")


def test_padding_is_as_the_page_shows_it(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = _FENCED.findall(TRAINING_PAGE[TRAINING_PAGE.index("### Padding and masks"):])
    (_, code), (_, output) = blocks[:2]
    exec(code, {})
    assert capsys.readouterr().out == output


def test_settings_files_in_examples_are_taken(tmp_path: Path) -> None:
    files = [code for language, code in _FENCED.findall(TRAINING_PAGE) if language == "toml"]
    assert files
    for code in files:
        path = tmp_path / "settings.toml"
        path.write_text(code, "utf-8")
        schema.resolve("tag", {}, file=path)


def default(task: str, name: str) -> str:
    """A setting's default as docs/training.md writes it; a dash where the task has no such setting."""
    fields = {field.name: field for field in dataclasses.fields(schema.SETTINGS[task])}
    if name not in fields:
        return "-"
    value = fields[name].default
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)


def test_defaults_are_documented() -> None:
    kinds = schema.SETTINGS.values()
    names = dict.fromkeys(field.name for kind in kinds for field in dataclasses.fields(kind))
    rows = [f"| `{schema.flag(name)}` | {' | '.join(default(task, name) for task in schema.SETTINGS)} |"
            for name in names]
    missing = [row for row in rows if row not in TRAINING_PAGE.split("\n")]
    assert not missing, "docs/training.md: expected these rows under Defaults:\n" + "\n".join(missing)


def spelled(name: str, value: Any) -> str:
    """A setting with its value as it is typed."""
    if isinstance(value, bool):
        return schema.flag(name if value else f"no_{name}")
    return f"{schema.flag(name)} {value}"


def test_presets_are_documented() -> None:
    rows = [[cell.strip(" `") for cell in line.split("|")[1:-1]]
            for line in sections(TRAINING_PAGE)["Presets"].split("\n") if line.startswith("| ")]
    found = {(task, name): settings.split("`, `") for task, name, _, settings in rows[1:]}
    assert found == {(task, name): [spelled(*setting) for setting in settings.items()]
                     for task, presets in schema.PRESETS.items() for name, settings in presets.items()}


def test_the_changelog_has_this_version() -> None:
    newest = re.search(r"^## \[(\d[^\]]*)\]", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert newest
    assert newest[1] == __version__


@pytest.mark.skipif(not CI.exists(), reason="the source distribution has no .ci")
def test_ci_runs_the_test_command_of_the_readme() -> None:
    assert TEST_COMMAND in CI.read_text("utf-8").split("\n")


def test_the_readme_has_the_test_command() -> None:
    assert TEST_COMMAND in (ROOT / "README.md").read_text("utf-8").split("\n")


def test_the_map_of_the_house_has_every_module() -> None:
    page = (ROOT / "docs" / "internals.md").read_text("utf-8")
    floors = page.split("## Floors")[1].split("\n## ")[0]
    rows = re.findall(r"^\|[^|]*\|([^|]*)\|", floors, re.MULTILINE)
    named = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    package = ROOT / "rnntool"
    modules = [path.stem for path in package.glob("[a-z]*.py")]
    folders = [path.parent.name for path in package.glob("*/__init__.py")]
    assert sorted(named) == sorted(modules + folders)
