"""Options made from dataclasses, the names of settings in messages, and commands imported on demand."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer
from conftest import ROOT, Run, bash, environment, failed, invoke, ok

from rnntool import cli
from rnntool.commands import cli_errors, groups
from rnntool.commands.options import Given
from rnntool.data.options import Options, option
from rnntool.errors import DataError, UsageError, setting
from rnntool.evaluation.options import EvaluateOptions
from rnntool.inference.options import GenerateOptions
from rnntool.tasks import TASKS

PYTHON_ONLY = {"kind", "options", "cutoffs"}  # parameters that no command has


# --- Options from dataclasses ------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Fruit(Options):
    kind: str = option("apple", "Kind of fruit.", choices=("apple", "pear"), switches={"--pears": "pear"})
    count: int = option(3, "How many.", low=1, flags=("-c", "--count"), variable="FRUIT_COUNT")
    peeled: bool = option(False, "Peel them.")
    weight: float | None = option(None, "Weight in grams.", low=0, shown_default="as it comes")


@dataclass(frozen=True)
class Called:
    """What the function behind a command received, and how the command ended."""

    options: Any
    code: int
    out: str
    err: str


Call = Callable[..., Called]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Call a command whose options are those of `Fruit`."""
    received: list[Any] = []

    def fruit(*, options: Fruit) -> None:
        received.append(options)

    def settings(*, options: Given) -> None:
        received.append(options)

    def called(*words: str, given: bool = False, **variables: str) -> Called:
        command = groups.command(settings, "fruit", given=Fruit) if given else groups.command(fruit, "fruit")
        received.clear()
        with monkeypatch.context() as patch, pytest.raises(SystemExit) as ended:
            for name, value in variables.items():
                patch.setenv(name, value)
            command.main(list(words), prog_name="fruit")
        out, err = capsys.readouterr()
        return Called(received[0] if received else None, int(ended.value.code or 0), out, err)

    return called


def test_fields_become_options(call: Call) -> None:
    assert call().options == Fruit()
    assert call("--kind", "pear", "-c", "5", "--peeled").options == Fruit(kind="pear", count=5, peeled=True)
    assert call("--pears").options == Fruit(kind="pear")
    assert call(FRUIT_COUNT="7").options == Fruit(count=7)
    assert call("--count", "2", FRUIT_COUNT="7").options == Fruit(count=2)


@pytest.mark.parametrize(("words", "variables", "message"), [
    (["--count", "0"], {}, "--count: expected a whole number of at least 1, found 0"),
    (["--count", "two"], {}, "--count: expected a whole number of at least 1, found 'two'"),
    ([], {"FRUIT_COUNT": "0"}, "FRUIT_COUNT: expected a whole number of at least 1, found 0"),
    (["--kind", "plum"], {}, "--kind: expected one of apple, pear, found 'plum'"),
    (["--weight", "nan"], {}, "--weight: expected a number of at least 0, found nan"),
    (["--kind", "apple", "--pears"], {}, "--kind apple contradicts --kind pear; leave one out"),
])  # fmt: skip
def test_errors_name_a_value_as_it_was_given(
    words: list[str], variables: dict[str, str], message: str, call: Call
) -> None:
    assert call(*words, **variables) == Called(None, 2, "", f"rnntool: {message}\n")


def test_given_holds_what_the_user_chose(call: Call) -> None:
    received = call("--no-peeled", "--pears", given=True, FRUIT_COUNT="7").options
    assert received == Given(values={"kind": "pear", "count": 7, "peeled": False}, typed=("kind", "peeled"))
    assert call(given=True).options == Given(values={}, typed=())


def test_the_help_shows_defaults_and_choices(call: Call) -> None:
    shown = " ".join(call("--help", COLUMNS="200").out.split())
    for part in ("<apple|pear>", "[default: apple]", "[default: 3]", "(as it comes)",
                 "Short for --kind pear"):
        assert part in shown


@pytest.mark.parametrize(("options", "message"), [
    ({"beam": 2, "top_k": 3}, "beam: beam search does not sample; leave out top_k"),
    ({"temperature": 0.0, "top_p": 0.5, "min_p": 0.1},
     "temperature=0 always takes the most likely token; leave out top_p and min_p"),
    ({"min_tokens": 9, "max_tokens": 3}, "min_tokens: expected at most 3, the value of max_tokens, found 9"),
    ({"stop": ""}, "stop: expected at least one character, found an empty text"),
    ({"top_p": 0.0}, "top_p: expected a number above 0 and up to 1, found 0.0"),
    ({"max_tokens": 0}, "max_tokens: expected a whole number of at least 1, found 0"),
])  # fmt: skip
def test_the_library_names_its_own_parameters(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        GenerateOptions(**options)


def test_settings_of_an_adaptation_have_no_effect_without_it() -> None:
    with pytest.raises(UsageError, match="cache_theta: has no effect without cache; give cache as well"):
        EvaluateOptions(cache_theta=0.5)
    assert EvaluateOptions(dynamic=True, cache=True, dynamic_lr=0.2, cache_lambda=0.3).adaptations() == {
        "dynamic": {"lr": 0.2, "decay": 0.005}, "cache": {"theta": 0.3, "weight": 0.3, "window": 500}}


# --- Where a value came from -------------------------------------------------------------------------------


@pytest.mark.parametrize(("variable", "value", "message"), [
    ("RNNTOOL_NEIGHBOURS", "x", "RNNTOOL_NEIGHBOURS: expected a number of at least 0, found 'x'"),
    ("RNNTOOL_EPOCHS", "0", "RNNTOOL_EPOCHS: expected a whole number of at least 1, found 0"),
    ("RNNTOOL_MAX_TIME", "soon", "RNNTOOL_MAX_TIME: expected a duration such as 90s, 10m or 1.5h, "
                                 "found 'soon'"),
    ("RNNTOOL_LR", "nan", "RNNTOOL_LR: expected a number of at least 0, found nan"),
    ("RNNTOOL_FREEZE", "1", "RNNTOOL_FREEZE: needs --init; give --init, or leave it out"),
])  # fmt: skip
def test_errors_name_the_variable_of_a_value(variable: str, value: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "in.conllu").write_text("1\tthe" + "\t_" * 8 + "\n\n")
    done = invoke("train", "tag", tmp_path / "in.conllu", "-o", tmp_path / "out", **{variable: value})
    failed(done, 2)
    assert done.err == f"rnntool: {message}\n"


@pytest.mark.parametrize(("content", "message"), [
    ("lr = -1", "my.toml: lr: expected a number of at least 0, found -1.0"),
    ("batch-size = 0", "my.toml: batch_size: expected a whole number of at least 1, found 0"),
    ('max-time = "soon"', "my.toml: max_time: expected a duration such as 90s, 10m or 1.5h, found 'soon'"),
    ('label-column = "label"\ncontext = "stream"',
     "my.toml: label_column: expected context=line, because each text starts from its own label, "
     "found a stream"),
    ("freeze = true", "my.toml: freeze: needs --init; give --init, or leave it out"),
    ("lr = ", "my.toml: is not a TOML file"),
])  # fmt: skip
def test_errors_name_the_key_of_a_toml_file(content: str, message: str, run: Run, tmp_path: Path) -> None:
    (tmp_path / "my.toml").write_text(content)
    (tmp_path / "in.txt").write_text("the baker sings .\n")
    done = run("train", "lm", "in.txt", "-o", "out", "--config", "my.toml")
    failed(done, 2)
    assert done.err.startswith(f"rnntool: {message}")


def test_errors_name_an_option_that_contradicts_the_file(run: Run, tmp_path: Path) -> None:
    (tmp_path / "my.toml").write_text('context = "stream"')
    (tmp_path / "in.txt").write_text("the baker sings .\n")
    done = run("train", "lm", "in.txt", "-o", "out", "--config", "my.toml", "--label-column", "label")
    failed(done, 2, "rnntool: --label-column: expected context=line")


def test_messages_name_settings_as_the_command_line_does(writer: Path, run: Run) -> None:
    done = run("generate", "-m", writer, "the", "--max-tokens", "1", "-v")
    assert re.search(r"^rnntool: --seed \d+$", done.err, re.M)


def command_parameters(command: Any, context: Any) -> Iterator[str]:
    """The parameters of a command and of all its subcommands."""
    yield from (parameter.name for parameter in command.params)
    for name in command.list_commands(context) if hasattr(command, "list_commands") else ():
        part = command.get_command(context, name)
        yield from command_parameters(part, part.context_class(part, info_name=name, parent=context))


def test_each_setting_that_a_message_names_is_an_option() -> None:
    group = typer.main.get_command(cli.app)
    names = set(command_parameters(group, group.context_class(group, info_name="rnntool")))
    for path in (ROOT / "rnntool").rglob("*.py"):
        named = re.findall(r'setting(?:\(|=)"(\w+)"', path.read_text("utf-8"))
        assert set(named) <= names | PYTHON_ONLY, path


def commands(command: Any, context: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """All commands with their contexts, by path."""
    for name in command.list_commands(context) if hasattr(command, "list_commands") else ():
        part = command.get_command(context, name)
        yield from commands(part, part.context_class(part, info_name=name, parent=context), (*path, name))
    if not hasattr(command, "list_commands"):
        yield path, context


GROUP = typer.main.get_command(cli.app)
COMMANDS = dict(commands(GROUP, GROUP.context_class(GROUP, info_name="rnntool")))
SOURCE = {path: path.read_text("utf-8") for path in (ROOT / "rnntool").rglob("*.py")}
SETTINGS = sorted({name for text in SOURCE.values() for name in re.findall(r"""setting\(["'](\w+)""", text)})


@pytest.mark.parametrize("path", COMMANDS)
def test_advice_names_only_options_of_the_command_that_shows_it(path: tuple[str, ...]) -> None:
    context = COMMANDS[path]
    options = {option for parameter in context.command.params
               for option in (*parameter.opts, *parameter.secondary_opts)}
    for name in SETTINGS:
        alternatives = (f"set {setting(name)}", f"give {setting(name, 'X')} and {setting('model')}", "stop")
        shown = cli_errors.describe(DataError("is wrong", place="x:1", advice=alternatives), context)
        assert shown.startswith("x:1: is wrong; ") and shown.endswith("stop")
        assert set(re.findall(r"--?[a-z][\w-]*", shown)) <= options, shown
        lost = cli_errors.describe(DataError("is wrong", place="x:1", advice=alternatives[0]), context)
        assert name in {parameter.name for parameter in context.command.params} or lost == "x:1: is wrong"


def test_advice_to_use_another_command_names_its_options() -> None:
    advice = [ast.unparse(node.value) for text in SOURCE.values() for node in ast.walk(ast.parse(text))
              if isinstance(node, ast.keyword) and node.arg == "advice"]
    named = [(match[1], text) for text in advice if (match := re.search(r"`rnntool ([\w {}.()]+)`", text))]
    assert len(named) > 5
    for words, text in named:
        command, *task = words.split()
        path = (command, *(task and ["lm" if "{" in task[0] else task[0]]))
        if path == ("train",):
            continue  # a page of the help, which lists the tasks
        parameters = {parameter.name for parameter in COMMANDS[path].command.params}
        assert set(re.findall(r"""setting\(["'](\w+)""", text)) <= parameters, text


def test_advice_in_real_commands(writer: Path, tagger: Path, run: Run, tmp_path: Path) -> None:
    (tmp_path / "odd.txt").write_bytes(b"\xff\n")
    (tmp_path / "u.tsv").write_text("a\tb\n1\t2\n", "utf-8")
    (tmp_path / "x.conll").write_text("the DET\n\n", "utf-8")
    strict = "expected UTF-8, found 0xff at byte 1; "
    failed(run("inspect", "neighbors", "a", "--vectors", "odd.txt"), 3, f"{strict}convert it\n")
    failed(run("score", "-m", writer, "odd.txt"), 3, strict, ", or set --encoding-errors replace\n")
    columns = "expected a column 'text', found 'a', 'b'; "
    failed(run("inspect", "states", "-m", writer, "u.tsv"), 3, f"{columns}rename one\n")
    failed(run("score", "-m", writer, "u.tsv"), 3, f"{columns}choose one with --text-column, or rename one\n")
    (tmp_path / "v.txt").write_text("the 1 2\n", "utf-8")
    failed(run("inspect", "similarity", "--vectors", "v.txt", "x.conll"), 3, "; give another file\n")
    done = bash(f"cd {tmp_path}; python -m rnntool models >&-; python -m rnntool tag -m {tagger} x.conll >&-")
    problem, redirect = "rnntool: <stdout>: standard output is closed; ", "redirect it to a file\n"
    assert done.stderr == f"{problem}{redirect}{problem}name a file with --output, or {redirect}"
    weights = shutil.copytree(tagger, tmp_path / "m")
    (weights / "model.safetensors").unlink()
    failed(run("inspect", "gradients", "-m", "m", "x.conll"), 4, "train the model again to get the weights\n")


# --- Commands that are imported when they are called -------------------------------------------------------


def imported_commands(*arguments: str) -> set[str]:
    """The commands' modules that a run imports."""
    script = ("import sys; from rnntool.cli import app\n"
              f"try: app({list(arguments)!r})\n"
              "except SystemExit: pass\n"
              "print(*(m for m in sys.modules if m.startswith('rnntool.commands.')), file=sys.stderr)")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, input="",
                          env=environment(), timeout=60)
    return {name.split(".")[2] for name in done.stderr.split()}


def test_a_command_is_imported_when_it_is_called() -> None:
    modules = {row.name for row in cli.COMMANDS}
    assert imported_commands("--help") & modules == set()
    assert imported_commands("--version") & modules == set()
    assert imported_commands("tokenize") & modules == {"tokenize"}
    assert imported_commands("train", "lm", "--help") & modules == {"train"}


def test_the_help_lists_the_first_line_of_each_command() -> None:
    group = typer.main.get_command(cli.app)
    context = group.context_class(group, info_name="rnntool")
    for row in cli.COMMANDS:
        command = group.get_command(context, row.name)  # type: ignore[attr-defined]
        assert command.help.split("\n")[0] == row.summary, row.name
        for part in getattr(command, "rows", ()):
            assert command.get_command(context, part.name).help.split("\n")[0] == part.summary, part.name


def test_each_task_has_a_command_with_its_settings() -> None:
    for task, spec in TASKS.items():
        page = " ".join(ok(invoke("train", task, "--help", COLUMNS="200")).split())
        assert spec.summary in page
        assert all(line in page for line in spec.examples)
