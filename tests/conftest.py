"""Shared by the tests: models that are trained once per session, and functions that run commands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import tiny
from typer.testing import CliRunner

from rnntool import cli

ROOT = Path(__file__).parent.parent

# Networks this small are fastest on one thread; torch reads this when it is imported.
os.environ["OMP_NUM_THREADS"] = "1"
for name in [name for name in os.environ if name.startswith("RNNTOOL_")]:
    del os.environ[name]
os.environ.pop("PYTHONUNBUFFERED", None)  # with it, a missing flush has no effect

# no deadline, because the machine may be busy
hypothesis.settings.register_profile("rnntool", deadline=None, derandomize=True)
hypothesis.settings.load_profile("rnntool")


# --- Models ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of all models of the session."""
    return tmp_path_factory.mktemp("tiny-models")


def _file(folder: Path, name: str, text: str) -> Path:
    path = folder / "data" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, "utf-8")
    return path


@pytest.fixture(scope="session")
def pos_file(models: Path) -> Path:
    """Held-out tagged sentences in CoNLL-U."""
    return _file(models, "dev.conllu", tiny.conllu(tiny.pos_sentences(20, seed=9)))


@pytest.fixture(scope="session")
def ner_file(models: Path) -> Path:
    """Held-out people and places in CoNLL columns, in IOB1."""
    return _file(models, "dev.conll", tiny.conll(tiny.ner_sentences(20, seed=9), tiny.iob1))


@pytest.fixture(scope="session")
def question_file(models: Path) -> Path:
    """A table of held-out questions."""
    return _file(models, "dev.tsv", tiny.tsv(tiny.questions(20, seed=9)))


@pytest.fixture(scope="session")
def text_file(models: Path) -> Path:
    """Held-out lines of text."""
    return _file(models, "dev.txt", "".join(f"{line}\n" for line in tiny.lines_of_text(20, seed=9)))


@pytest.fixture(scope="session")
def tagger(models: Path, pos_file: Path) -> Path:
    """A tagger of parts of speech: softmax, both directions, character CNN and affixes."""
    data = _file(models, "train.conllu", tiny.conllu(tiny.pos_sentences(100)))
    tiny.train("tag", models / "tiny-pos", [data], dev=[pos_file], epochs=4)
    return models / "tiny-pos"


@pytest.fixture(scope="session")
def joint(models: Path) -> Path:
    """A tagger of three columns: parts of speech with a CRF, finer ones, and entities in the MISC column."""
    data = _file(models, "joint.conllu", tiny.joint_conllu(tiny.pos_sentences(100)))
    dev = _file(models, "joint-dev.conllu", tiny.joint_conllu(tiny.pos_sentences(20, seed=9)))
    tiny.train("tag", models / "tiny-joint", [data], dev=[dev], epochs=16, head="crf",
               column="upos,xpos,NER")
    return models / "tiny-joint"


@pytest.fixture(scope="session")
def ner(models: Path, ner_file: Path) -> Path:
    """A tagger of entities, trained on IOB1: CRF and character LSTM."""
    data = _file(models, "train.conll", tiny.conll(tiny.ner_sentences(100), tiny.iob1))
    tiny.train("tag", models / "tiny-ner", [data], dev=[ner_file], epochs=8, head="crf", chars="lstm")
    return models / "tiny-ner"


@pytest.fixture(scope="session")
def classifier(models: Path, question_file: Path) -> Path:
    """A classifier of questions: GRU, max and last pooling."""
    data = _file(models, "train.tsv", tiny.tsv(tiny.questions(100)))
    tiny.train("classify", models / "tiny-question", [data], dev=[question_file], epochs=5, cell="gru",
               pooling="max+last")
    return models / "tiny-question"


@pytest.fixture(scope="session")
def writer(models: Path, text_file: Path) -> Path:
    """A character language model: two layers, tied embeddings, each line on its own."""
    data = _file(models, "train.txt", "".join(f"{line}\n" for line in tiny.lines_of_text(150)))
    tiny.train("lm", models / "tiny-writer", [data], dev=[text_file], epochs=20)
    return models / "tiny-writer"


@pytest.fixture(scope="session")
def segmented_file(models: Path) -> Path:
    """Held-out sentences of CoNLL-U with multiword tokens."""
    return _file(models, "dev-segmented.conllu", tiny.segmented_conllu(20, seed=9))


@pytest.fixture(scope="session")
def segmenter(models: Path, segmented_file: Path) -> Path:
    """A segmenter of text in which a period ends a sentence."""
    data = _file(models, "train-segmented.conllu", tiny.segmented_conllu(100))
    tiny.train("segment", models / "tiny-segmenter", [data], dev=[segmented_file], epochs=25)
    return models / "tiny-segmenter"


@pytest.fixture(scope="session")
def reversal_file(models: Path) -> Path:
    """A table of held-out words and their characters in reverse."""
    return _file(models, "dev-pairs.tsv", tiny.pairs(tiny.reversals(20, seed=9)))


@pytest.fixture(scope="session")
def transducer(models: Path, reversal_file: Path) -> Path:
    """A model that reverses words: additive attention, symbols between spaces as its output."""
    data = _file(models, "train-pairs.tsv", tiny.pairs(tiny.reversals(800)))
    tiny.train("transduce", models / "tiny-reversal", [data], dev=[reversal_file], epochs=12,
               target_tokenizer="space")
    return models / "tiny-reversal"


# --- Commands ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ran:
    """The exit code of a command and its output."""

    code: int
    out: str
    err: str


Run = Callable[..., Ran]


def environment(**more: str) -> dict[str, str]:
    """Return the environment of a command: this package, one thread, no terminal, no models of the user."""
    plain = {"PYTHONPATH": str(ROOT), "RNNTOOL_THREADS": "1", "XDG_DATA_HOME": os.devnull, "NO_COLOR": "1",
             "COLUMNS": "120", "TERM": "dumb"}
    return os.environ | plain | more


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run `python -m rnntool …` in an empty folder with `input` on standard input."""

    def command(
        *arguments: str | Path, input: str | bytes = "", python: tuple[str, ...] = (), **more: str
    ) -> Ran:
        done = subprocess.run(
            [sys.executable, *python, "-m", "rnntool", *map(str, arguments)], capture_output=True,
            cwd=tmp_path, input=input.encode() if isinstance(input, str) else input,
            env=environment(**more), timeout=60,
        )
        return Ran(done.returncode, done.stdout.decode(), done.stderr.decode())

    return command


def invoke(*arguments: object, input: str = "", **more: str) -> Ran:
    """Run a command in this process, which is faster because everything is imported already."""
    done = CliRunner().invoke(cli.app, list(map(str, arguments)), input=input,
                              env={"RNNTOOL_THREADS": "1"} | more)
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return Ran(done.exit_code, done.stdout, done.stderr)


def ok(ran: Ran) -> str:
    """Return the standard output of a command that succeeded without a message."""
    assert (ran.code, ran.err) == (0, "")
    return ran.out


def failed(ran: Ran, code: int, *words: str) -> None:
    """Check that a command failed with one sentence on standard error and nothing on standard output."""
    assert "Traceback" not in ran.err
    assert ran.code == code, ran.err
    assert ran.err.startswith("rnntool: ")
    assert ran.err.count("\n") == 1
    assert ran.err.endswith("\n")
    for word in words:
        assert word in ran.err
    assert ran.out == ""


def bash(script: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script in the environment of a command."""
    words = ["bash", "-c", script]
    return subprocess.run(words, capture_output=True, text=True, env=environment(), timeout=60)


def jsonl(text: str) -> list[dict[str, Any]]:
    """Parse lines of JSON."""
    return [json.loads(line) for line in text.splitlines()]
