"""The documents agree with the code: options, links, command lines, defaults, presets, version."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import re
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from conftest import ROOT, invoke, ok

from rnntool import __version__
from rnntool.data.formats import FORMATS
from rnntool.models.cells import CELLS
from rnntool.models.config import ENCODERS
from rnntool.tasks import TASKS
from rnntool.tasks.specs.resolve import resolve
from rnntool.tokenize import KINDS
from rnntool.training.optimizers import SCHEDULES

PAGES = sorted([*ROOT.glob("*.md"), *(page for folder in ("docs", "examples", "benchmarks")
                                      for page in ROOT.glob(f"{folder}/**/*.md"))])
REFERENCE = ROOT / "docs" / "reference"
TRAINING_PAGE = (ROOT / "docs" / "explanation" / "training.md").read_text("utf-8")
TRAIN_GUIDE = (ROOT / "docs" / "how-to" / "train.md").read_text("utf-8")
TEST_COMMAND = "pip install -c constraints.txt -e '.[dev]' && bash tests/check"
CI = ROOT / ".ci" / "run"
WORKFLOW = ROOT / ".github" / "workflows" / "check.yml"

_FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_QUOTED = re.compile(  # a call of a model that ships, and its output below it
    r"^```sh\n[^\n]*?echo '([^'\n]*)' \| rnntool ([^\n|]*)\n```\n\n```text\n(.*?)^```$",
    re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def load_generator() -> ModuleType:
    """docs/generate.py as a module."""
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


generate = load_generator()
COMMANDS: dict[tuple[str, ...], Any] = generate.commands()


def page_id(page: Path) -> str:
    """A page's path as the name of a test."""
    return page.relative_to(ROOT).as_posix()


def options(command: Any) -> list[str]:
    """All spellings of a command's options."""
    return [flag for parameter in command.params if parameter.param_type_name == "option"
            for flag in (*parameter.opts, *parameter.secondary_opts)]


def prose(page: str) -> str:
    """A page without its fenced code."""
    return _FENCED.sub("", page)


def sections(page: str) -> dict[str, str]:
    """The text between a heading and the next, by heading."""
    _, *parts = _HEADING.split(prose(page))
    return dict(zip(parts[::2], parts[1::2], strict=True))


def slug(heading: str) -> str:
    """The anchor of a heading, the same on the site and on a forge."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def examples(language: str) -> list[tuple[Path, str]]:
    """The fenced code of a language with the page that it is on."""
    return [(page, code) for page in PAGES for found, code in _FENCED.findall(page.read_text("utf-8"))
            if found == language]


def calls(code: str) -> Iterator[list[str]]:
    """The words of each call of rnntool in shell code, without `rnntool` itself."""
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


@pytest.mark.parametrize("page", generate.pages(), ids=page_id)
def test_generated_pages_are_current(page: Path) -> None:
    assert page.read_text("utf-8") == generate.pages()[page], "run `python docs/generate.py`"


def test_the_documents_show_every_command() -> None:
    assert {words[0] for _, words in CALLS} == {path[1] for path in COMMANDS if len(path) > 1}


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_and_option_is_documented(path: tuple[str, ...]) -> None:
    page = sections((REFERENCE / "commands.md").read_text("utf-8"))
    text = page[f"`{' '.join(path)}`"]
    for name, anchor in shared_options(text):  # a name stands for its row, with all spellings
        rows = next(rows for heading, rows in page.items() if slug(heading) == anchor).split("\n")
        (row,) = (row for row in rows if re.search(rf"`{re.escape(name)}[ `]", row.split(" | ")[0] + " "))
        text += row
    if path[1:2] in generate.TRAININGS:
        text += settings_of(generate.task_of(path))
    missing = [flag for flag in options(COMMANDS[path])
               if not re.search(rf"(?<![\w-]){re.escape(flag)}(?![\w-])", text)]
    assert not missing, f"docs/reference/commands.md: {' '.join(path)} lacks {', '.join(missing)}"


@pytest.mark.parametrize(("page", "names"), [
    ("reference/formats.md", FORMATS), ("explanation/networks.md", CELLS),
    ("explanation/networks.md", ENCODERS), ("how-to/language-models.md", KINDS),
    ("explanation/training.md", SCHEDULES),
], ids=["formats", "cells", "encoders", "tokenizers", "schedules"])
def test_each_row_of_a_registry_is_documented(page: str, names: Iterable[str]) -> None:
    text = (ROOT / "docs" / page).read_text("utf-8")
    assert not [name for name in names if not re.search(rf"[` ]{name}`", text)]


def shared_options(section: str) -> list[tuple[str, str]]:
    """The names that a section of the reference takes from shared tables, with the anchors of the tables."""
    lists = re.findall(r"^\[[^\]]*ptions[^\]]*\]\(#(.+?)\): (.*)$", section, re.MULTILINE)
    return [(name, anchor) for anchor, names in lists
            for name in re.findall(r"`([^`]+)`", re.sub(r"\(default .*?\)", "", names))]


def test_only_existing_options_are_named() -> None:
    known = {flag for command in COMMANDS.values() for flag in options(command)} | {"-h", "--help"}
    named = {(page.name, flag) for page in PAGES if page.name not in ("CHANGELOG.md", "CONTRIBUTING.md")
             for span in re.findall(r"`([^`\n]+)`", prose(page.read_text("utf-8")))
             if not re.match(r"mkdocs |pip |\w+\.py ", span)  # options of other programs
             for flag in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", span)}
    assert {(page, flag) for page, flag in named if flag not in known} == set()


@pytest.mark.parametrize(("page", "words"), CALLS, ids=str)
def test_command_lines_parse(page: str, words: list[str]) -> None:
    path: tuple[str, ...] = ("rnntool",)
    while words and (*path, words[0]) in COMMANDS:
        path, words = (*path, words[0]), words[1:]
    command = COMMANDS[path]
    assert not hasattr(command, "list_commands"), f"{page}: {' '.join(path)} is not a complete command"
    command.make_context(path[-1], list(words))  # raises for unknown options and values


@pytest.mark.parametrize("page", PAGES, ids=page_id)
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


@pytest.mark.parametrize("page", ["README.md", "first-models.md", "linguistics.md", "training.md"])
def test_python_examples_compile(page: str) -> None:
    found = [code for path, code in examples("python") if path.name == page]
    assert found
    for code in found:
        compile(code, page, "exec")


def test_python_examples_of_the_reference_run(capsys: pytest.CaptureFixture[str]) -> None:
    for page, code in examples("python"):
        if page.name == "python.md":
            exec(code, {})
    printed = capsys.readouterr().out
    assert printed.startswith("['DET', 'NOUN', 'ADP', 'DET', 'NOUN', 'AUX', 'PRON', 'PUNCT']\n")
    assert "(4, 5, 'LOC')" in printed
    assert "['HUM']" in printed


@pytest.mark.parametrize("name", ["README.md", "docs/index.md", "docs/tutorials/first-models.md"])
def test_the_output_of_models_that_ship_is_quoted_as_it_is(name: str) -> None:
    quoted = _QUOTED.findall((ROOT / name).read_text("utf-8"))
    assert quoted
    for text, words, output in quoted:
        printed = ok(invoke(*shlex.split(words), input=f"{text}\n"))
        assert printed.rstrip("\n") == output.rstrip("\n")  # an empty line ends a sentence


def test_json_examples_are_json() -> None:
    found = [line for _, code in examples("json") for line in code.splitlines()]
    assert found
    for line in found:
        json.loads(line)


def test_padding_is_as_the_page_shows_it(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = _FENCED.findall(TRAINING_PAGE[TRAINING_PAGE.index("## Padding and masks"):])
    (_, code), (_, output) = blocks[:2]
    exec(code, {})
    assert capsys.readouterr().out == output


def test_settings_files_in_examples_are_accepted(tmp_path: Path) -> None:
    files = [code for path, code in examples("toml") if path.name == "train.md"]
    assert files
    for code in files:
        path = tmp_path / "settings.toml"
        path.write_text(code, "utf-8")
        resolve(TASKS["tag"], {}, file=path)


def settings_of(task: str) -> str:
    """The rows of docs/reference/settings.md that concern a task."""
    found = sections((REFERENCE / "settings.md").read_text("utf-8"))
    return "".join(text for heading, text in found.items()
                   if heading == "All tasks" or f"`train {task}`" in heading)


@pytest.mark.parametrize("task", generate.SETTINGS)
def test_defaults_are_documented(task: str) -> None:
    rows = {row.split("`")[1].split(" ")[0]: row.rsplit(" | ", 1)[1] for row in settings_of(task).split("\n")
            if row.startswith("| `--")}
    for field in dataclasses.fields(generate.SETTINGS[task]):
        value = "off" if field.default is False else "on" if field.default is True else field.default
        written = str(value or "none") if value is None or isinstance(field.default, bool) else f"`{value}`"
        row = rows[generate.flag(field.name)].removesuffix(" |")
        assert written == row or f"{task} {written}" in row.split(", "), field.name


def test_presets_are_documented() -> None:
    page = (REFERENCE / "presets.md").read_text("utf-8")
    found = {task: {name: chosen.split("`, `") for name, chosen in
                    re.findall(r"^\| `(\w+)` \| `(.*)` \|$", sections(page)[f"`train {task}`"], re.MULTILINE)}
             for task in generate.PRESETS}
    assert found == {task: {name: [generate.spelled(*setting) for setting in settings.items()]
                            for name, settings in presets.items()}
                     for task, presets in generate.PRESETS.items()}


def test_the_guide_says_what_each_preset_is_for() -> None:
    section = sections(TRAIN_GUIDE)["Choose a preset"]
    found = re.findall(r"^\| `(\w+)` \| `(\w+)` \| \w", section, re.MULTILINE)
    assert found == [(task, name) for task, presets in generate.PRESETS.items() for name in presets]


def test_the_changelog_and_the_citation_have_this_version() -> None:
    newest = re.search(r"^## \[(\d[^\]]*)\]", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert newest
    assert newest[1] == __version__
    assert f"version: {__version__}\n" in (ROOT / "CITATION.cff").read_text("utf-8")


@pytest.mark.skipif(not CI.exists(), reason="the source distribution has no .ci")
def test_ci_runs_the_test_command_of_the_readme() -> None:
    assert TEST_COMMAND in CI.read_text("utf-8").split("\n")


@pytest.mark.skipif(not WORKFLOW.exists(), reason="the source distribution has no .github")
def test_the_workflow_runs_the_test_command_of_the_readme() -> None:
    assert f"run: {TEST_COMMAND}\n" in WORKFLOW.read_text("utf-8")


def test_the_readme_has_the_test_command() -> None:
    assert TEST_COMMAND in (ROOT / "README.md").read_text("utf-8").split("\n")


def test_the_tree_of_the_readme_has_every_module() -> None:
    tree = (ROOT / "README.md").read_text("utf-8").split(generate.TREE_BEGINS)[1].split(generate.TREE_ENDS)[0]
    package = ROOT / "rnntool"
    names = [f"{path.parent.name}/" for path in package.glob("*/__init__.py")]
    names += [path.name for path in package.glob("[a-z]*.py")]
    assert sorted(re.findall(r"^  (\S+)  +\S", tree, re.MULTILINE)) == sorted(names)
