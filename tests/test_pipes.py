"""Filters on a live pipe: each record is answered as soon as it arrives."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import environment


@contextmanager
def live(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A running command whose standard input stays open; it is killed after 30 seconds."""
    words, pipe = [sys.executable, "-m", "rnntool", *arguments], subprocess.PIPE
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, text=True,
                          env=environment()) as process:
        late = threading.Timer(30, process.kill)
        late.start()
        yield process
        late.cancel()


def answers(process: subprocess.Popen[str], text: str, lines: int = 1) -> list[str]:
    """Send a text, and return the given number of output lines."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(text)
    process.stdin.flush()
    return [process.stdout.readline() for _ in range(lines)]


@pytest.mark.parametrize(("command", "name", "line"), [
    (["tag", "--from", "tokens"], "tagger", "DET NOUN VERB PUNCT"),
    (["classify", "--from", "text"], "classifier", None),
    (["transduce", "-q"], "transducer", None),
    (["score"], "writer", None),
    (["score", "--context", "stream"], "writer", None),
    (["tokenize"], None, "the baker sings ."),
    (["generate", "--prompts", "-", "--max-tokens", "5", "--seed", "1"], "writer", None),
])  # fmt: skip
def test_a_live_pipe_gets_an_answer_for_each_line(
    command: list[str], name: str | None, line: str | None, request: pytest.FixtureRequest
) -> None:
    model = ["-m", str(request.getfixturevalue(name))] if name else []
    with live(*command, *model) as process:
        for _ in range(2):
            (answer,) = answers(process, "the baker sings .\n")
            assert answer.endswith("\n")
            assert line is None or answer == f"{line}\n"
        assert process.communicate(timeout=10) == ("", "")
        assert process.returncode == 0


@pytest.mark.parametrize(("first", "format"), [
    ("the\tDT\n", "text"), ("# id x\n", "text"), ('{"text": "the"}\n', "jsonl"),
    ("1\tthe" + "\t_" * 8 + "\n\n", "conllu"),
])  # fmt: skip
def test_the_format_does_not_depend_on_how_fast_the_input_arrives(
    first: str, format: str, tagger: Path
) -> None:
    with live("tag", "-m", str(tagger), "-v") as process:
        fast, said = process.communicate(first * 3, timeout=20)
    assert f"<stdin>: read as {format}" in said
    with live("tag", "-m", str(tagger)) as process:
        slow = [line for _ in range(3) for line in answers(process, first, fast.count("\n") // 3)]
    assert "".join(slow) == fast


@pytest.mark.parametrize(("format", "record", "begun"), [
    ("conll", "the\nbaker\n\n", "sings\n"),
    ("conll", "\n", "-DOCSTART-\n\n"),
    ("conllu", "1\tthe" + "\t_" * 8 + "\n\n", "# sent_id = 2\n"),
    ("jsonl", '{"tokens": ["the", "baker"]}\n', "\n"),
])  # fmt: skip
def test_a_record_is_answered_before_the_next_is_complete(
    format: str, record: str, begun: str, tagger: Path
) -> None:
    with live("tag", "--from", format, "-m", str(tagger)) as process:
        found = answers(process, record + begun, record.count("\n"))
        assert all(line.endswith("\n") for line in found)


@pytest.mark.parametrize(("format", "begun"), [("tsv", "\n"), ("csv", '2,"who\n')])
def test_a_row_is_answered_before_the_next_is_complete(format: str, begun: str, classifier: Path) -> None:
    row = "id,text\n1,who did the baker sing ?\n".replace(",", "\t" if format == "tsv" else ",")
    with live("classify", "--from", format, "-m", str(classifier)) as process:
        assert answers(process, row + begun) == ["person\n"]


def test_pairs_are_answered_one_by_one(writer: Path) -> None:
    with live("score", "-m", str(writer), "--pairs", "--jsonl") as process:
        for good in ("the baker", "the teacher"):
            (answer,) = answers(process, f"{good}\tzzz\n")
            assert json.loads(answer)["good"] == good


@pytest.mark.parametrize("command", [["segment"], ["tag", "--to", "conllu", "--segmenter"]])
def test_a_sentence_of_running_text_is_answered_as_soon_as_its_end_is_certain(
    command: list[str], segmenter: Path, tagger: Path
) -> None:
    """Its end is certain at a blank line, and once enough of the text after its line is known."""
    models = ["-m", str(segmenter)] if command == ["segment"] else [str(segmenter), "-m", str(tagger)]
    with live(*command, *models) as process:
        assert answers(process, "Hunt sing.\n\n", 2)[1] == "# text = Hunt sing.\n"
        while answers(process, "") != ["\n"]:
            pass
        assert answers(process, "Jump bak.\n" + "Work hunt sing jump form.\n" * 2, 3) == [
            "# newpar\n", "# sent_id = 3\n", "# text = Jump bak.\n"]


def test_a_file_is_answered_before_waiting_for_the_pipe_after_it(tagger: Path, tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("the baker sings .\n", "utf-8")
    with live("tag", "-m", str(tagger), "--from", "tokens", str(tmp_path / "one.txt"), "-") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "DET NOUN VERB PUNCT\n"
        assert answers(process, "the baker .\n") == ["DET NOUN PUNCT\n"]
