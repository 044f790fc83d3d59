"""Commands say what they ignore, and what they read differently from what the user probably meant."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path

import pytest
import tiny
from conftest import Run, bash, invoke, ok

from rnntool.data.formats.text import is_wrapped

IGNORED = "rnntool: standard input is ignored; to continue each of its lines, give --prompts -"
PROSE = " ".join(f"The {word}s of the house had gone to the village, and nobody knew when they would return."
                 for word in 3 * tiny.STEMS)


def test_generate_says_that_standard_input_is_ignored(writer: Path, run: Run, tmp_path: Path) -> None:
    options = ("-m", writer, "-n", "1", "--max-tokens", "3", "--seed", "1")
    ran = run("generate", *options, input="the baker\n")
    assert (ran.code, ran.err) == (0, f"{IGNORED}\n")
    ran = run("generate", "-", *options, "--allow-unknown", input="the\n")
    assert ran.err == f"{IGNORED} without a prompt\n"
    (tmp_path / "prompts.txt").write_text("the baker\nthe hunter\n")
    silent = f"python -m rnntool generate -m {writer} --max-tokens 3 --seed 1"
    ran_bash = bash(f"{silent} < {tmp_path}/prompts.txt")
    assert ran_bash.stderr == f"{IGNORED}\n", "a file that nobody has read"
    # nothing to read, a loop of the shell, a pipe that is read, a prompt, and --quiet
    ok(run("generate", *options, input=""))
    for script in (f"{silent} < {os.devnull}", f"{silent} <&-",
                   f"while read x; do {silent} \"$x\"; done < {tmp_path}/prompts.txt",
                   f"while read x; do {silent}; done < {tmp_path}/prompts.txt",
                   f"cat {tmp_path}/prompts.txt | {silent} --prompts -",
                   f"cat {tmp_path}/prompts.txt | {silent} 'the baker'",
                   f"cat {tmp_path}/prompts.txt | {silent} -q"):
        done = bash(script)
        assert (done.returncode, done.stderr) == (0, ""), script


@pytest.mark.parametrize(("options", "said"), [
    (["-m", "gone", "-m", "MODEL"], "--model MODEL replaces the value"),
    (["--model=gone", "-m", "MODEL"], "--model MODEL replaces the value"),
    (["-m", "MODEL", "--threshold", "0.5", "--threshold", "0.1"], "--threshold 0.1 replaces the value"),
    (["-m", "MODEL", "--probs", "--probs"], None),
    (["-m", "gone", "-m", "MODEL", "-q"], None),
    (["-m", "MODEL"], None),
])
def test_an_option_given_twice(options: list[str], said: str | None, classifier: Path) -> None:
    options = [str(classifier) if option == "MODEL" else option for option in options]
    ran = invoke("classify", *options, input="who did the baker teach ?\n")
    assert (ran.code, ran.out.count("\n")) == (0, 1)
    expected = "" if said is None else (
        f"rnntool: {said.replace('MODEL', str(classifier))} given before it; give this option only once\n")
    assert ran.err == expected


def test_an_option_that_may_be_repeated_or_is_switched_off_again(tmp_path: Path) -> None:
    table = tmp_path / "in.tsv"
    table.write_text(tiny.tsv(tiny.questions(20)))
    small = [f"--{name.replace('_', '-')}={value}" for name, value in tiny.SETTINGS["classify"].items()]
    train = ["train", "classify", table, *small, "--epochs", "1"]
    assert "replaces" not in invoke(*train, "-o", tmp_path / "a", "--dev", table, "--dev", table).err
    ran = invoke(*train, "-o", tmp_path / "b", "--bidirectional", "--no-bidirectional")
    assert ran.err.startswith("rnntool: --no-bidirectional replaces the value given before it;")


def test_wrapped_prose_is_recognized() -> None:
    for width in (45, 72, 100):
        lines = textwrap.wrap(PROSE, width)
        assert is_wrapped(lines)
        assert is_wrapped([*lines[:9], "", *lines[9:]])
    sentences = [f"{sentence}." for sentence in PROSE.split(". ")]
    verse = [line.capitalize() for line in textwrap.wrap(PROSE, 50)]
    assert not any(map(is_wrapped, (
        [], [""], sentences, verse, tiny.lines_of_text(200), textwrap.wrap(PROSE, 72)[:10], [PROSE] * 50)))


def test_training_on_wrapped_prose_says_that_each_line_is_a_record(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("\n".join(textwrap.wrap(PROSE, 60)))
    train = ["train", "lm", tmp_path / "in.txt", "--tokenizer", "char", "--layers", "1", "--hidden", "4",
             "--embed", "4", "--epochs", "1"]
    said = "each line is a record that the model reads by itself; for running text give --unit document and "
    assert f"{said}--context stream\n" in invoke(*train, "-o", tmp_path / "a").err
    followed = invoke(*train, "-o", tmp_path / "b", "--unit", "document", "--context", "stream")
    assert followed.code == 0
    assert "each line is" not in followed.err
    assert "each line is" not in invoke(*train, "-o", tmp_path / "c", "-q").err


def test_a_model_to_start_from_that_split_words_differently(tmp_path: Path) -> None:
    for name, text in (("raw", "I don't know, do you?"), ("split", "I do n't know , do you ?")):
        (tmp_path / f"{name}.txt").write_text(f"{text}\n" * 40)
    (tmp_path / "in.tsv").write_text("text\tlabel\n" + "I don't know, do you?\ta\nWell, I know.\tb\n" * 20)
    small = ["--layers", "1", "--hidden", "4", "--embed", "4", "--epochs", "1", "--tokenizer", "word"]

    def train(task: str, data: str, out: str, *options: str) -> str:
        ran = invoke("train", task, tmp_path / data, "-o", tmp_path / out, *small, *options)
        assert ran.code == 0
        return ran.err

    for split in ("space", "words"):
        train("lm", "raw.txt", split, "--split", split)
    train("lm", "split.txt", "tokenized", "--split", "space")
    said = train("classify", "in.tsv", "a", "--init", str(tmp_path / "space"))
    assert "space was trained with --split space: " in said
    assert "`rnntool train lm … --tokenizer word --split words`" in said
    for good in ("words", "tokenized"):
        said = train("classify", "in.tsv", f"{good}-c", "--init", str(tmp_path / good))
        assert "was trained with" not in said
    said = train("lm", "raw.txt", "b", "--init", str(tmp_path / "words"), "--split", "space")
    assert "words was trained with --split words, so this training finds fewer of its words; give --" in said
    assert "was trained with" not in train("lm", "raw.txt", "c", "--init", str(tmp_path / "words"))
