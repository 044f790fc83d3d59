"""`rnntool generate`: the same text in any batch, where it stops, what it copies, unknown characters."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Run, environment, failed, jsonl, ok


def test_generate_is_reproducible_in_any_batch(writer: Path, run: Run) -> None:
    base = ["generate", "-m", writer, "the ", "-n", "6", "--max-tokens", "30", "--seed", "5"]
    expected = ok(run(*base))
    assert len(expected.splitlines()) == 6
    assert all(line.startswith("the ") for line in expected.splitlines())
    assert ok(run(*base, "--batch-size", "1")) == expected
    assert ok(run(*base, "--stream")) == expected
    assert ok(run(*base[:-1], "6")) != expected
    records = jsonl(ok(run(*base, "--batch-size", "4", "--logprobs")))
    assert [r["prompt"] + r["text"] for r in records] == expected.splitlines()
    assert [r["index"] for r in records] == list(range(6))
    assert all(len(r["log_probs"]) == len(r["generated_tokens"]) + r["finished"] for r in records)


def test_prompts_from_arguments_are_sampled_in_one_batch(writer: Path) -> None:
    prompts = ["the ", "a ", "the baker "]
    arguments = ["generate", "-m", str(writer), *prompts, "--max-tokens", "5", "--seed", "5"]
    script = f"""
import sys
from rnntool.cli import app
from rnntool.inference.onnx_engine import OnnxEngine
run, sizes = OnnxEngine.run, []
def counted(engine, arrays, *rest):
    sizes.append(arrays["tokens"].shape[1])
    return run(engine, arrays, *rest)
OnnxEngine.run = counted
try:
    app({arguments!r})
finally:
    print(max(sizes), file=sys.stderr)
"""
    words = [sys.executable, "-c", script]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, env=environment()) as process:  # a pipe on which nothing ever comes
        assert process.stdout is not None
        assert process.stderr is not None
        assert len(process.stdout.read().splitlines()) == 3
        assert process.stderr.read() == "3\n"


def test_generate_stops_before_a_text(writer: Path, run: Run) -> None:
    base = ["generate", "-m", writer, "the ", "-n", "3", "--max-tokens", "40", "--seed", "5"]
    expected = [("the " + line[4:].split("e ")[0]) + "\n" for line in ok(run(*base)).splitlines()]
    assert ok(run(*base, "--stop", "e ")) == "".join(expected)
    assert ok(run(*base, "--stop", "e ", "--stream")) == "".join(expected)


def test_generate_beam_and_prompts(writer: Path, run: Run) -> None:
    out = ok(run("generate", "-m", writer, "--prompts", "-", "--beam", "3", "-n", "2", "--max-tokens", "20",
                 input="the\na baker"))  # fmt: skip
    lines = out.splitlines()
    assert [line[:3] for line in lines] == ["the", "the", "a b", "a b"]
    assert lines[0] != lines[1]


def test_generate_reports_copied_ngrams(writer: Path, models: Path, run: Run, tmp_path: Path) -> None:
    base = ["generate", "-m", writer, "the ", "-n", "4", "--max-tokens", "60", "--seed", "3"]
    expected = run(*base, "--jsonl").out
    source = ["--copied", models / "data" / "train.txt", "--copied-words", "2"]
    for line, record in zip(jsonl(expected), jsonl(run(*base, "--jsonl", *source).out), strict=True):
        assert 0 <= record.pop("copied") <= record.pop("runs") == len(("the " + line["text"]).split()) - 1
        assert record == line
    own = tmp_path / "own.txt"
    own.write_text(ok(run(*base)))
    done = run(*base, "--copied", own, "--copied-words", "2")
    assert done.out == own.read_text()
    copied = r"rnntool: \S+: contains 100.0% of the \d+ sequences of 2 words in the new text\n"
    assert re.fullmatch(copied, done.err)
    own.write_text("nothing")
    assert "contains 0.0% of" in run(*base, "--copied", own, "--copied-words", "2", "--typical", "0.9").err
    done = run(*base, "--copied", own, "--copied-words", "99")
    assert done.err == "rnntool: the new text is shorter than 99 words, so nothing was compared\n"
    failed(run(*base, "--copied", "nowhere.txt"), 3, "nowhere.txt: no such file")


def test_generate_writes_the_texts_before_a_bad_prompt(writer: Path, run: Run) -> None:
    done = run("generate", "-m", writer, "--prompts", "-", "--max-tokens", "3", input="the\nthe Q\nthe\n")
    assert done.code == 3
    assert done.out.startswith("the")
    assert len(done.out.splitlines()) == 1


def test_generate_reports_unknown_characters(writer: Path, run: Run) -> None:
    failed(run("generate", "-m", writer, "the Q"), 3, "'Q'", "character 5", "--allow-unknown")
    done = run("generate", "-m", writer, "the Q", "--allow-unknown", "--max-tokens", "3", "-v")
    assert done.code == 0
    assert done.out.startswith("the Q")
    assert "--seed " in done.err


@pytest.mark.parametrize(("options", "words"), [
    (["--typical", "0"], "--typical: expected"), (["--beam", "2", "--typical", "0.9"], "--typical"),
    (["--no-repeat-ngram", "1", "--min-tokens", "99", "--max-tokens", "99"],
     "--no-repeat-ngram: every next token would repeat 1 token;"),
    (["--temperature", "-1"], "--temperature: expected"), (["--top-p", "0"], "--top-p: expected"),
    (["--min-tokens", "9", "--max-tokens", "3"], "min"), (["a", "--prompts", "-"], "--prompts"),
    (["--stream", "--jsonl"], "--stream contradicts --jsonl, which writes each text as a whole; leave"),
    (["--stream", "--logprobs"], "--stream contradicts --logprobs, which writes each text as a whole; leave"),
    (["--stream", "--batch-size", "2"], "--stream contradicts --batch-size; leave one out"),
    (["--copied-words", "3"], "--copied-words: has no effect without --copied; give --copied FILE as well"),
    (["--beam", "2", "--batch-size", "2"], "--batch-size"),
    (["--temperature", "0", "--top-p", "0.9"],
     "--temperature 0 always takes the most likely token; leave out --top-p"),
])  # fmt: skip
def test_generate_usage(options: list[str], words: str, writer: Path, run: Run) -> None:
    failed(run("generate", "-m", writer, *options), 2, words)
