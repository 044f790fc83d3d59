"""Word probabilities from token probabilities, checked by enumerating all words; minimal pairs."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from conftest import Run
from numpy.typing import NDArray

from rnntool.data.records import Pair, Text
from rnntool.inference import model
from rnntool.inference.model import Model
from rnntool.tasks.lm import LMTask, ScoredText, Unit
from rnntool.tasks.specs.lm import LMSettings
from rnntool.tokenize import BOS, EOS, Tokenizer, load, train

SURFACES = [b"", "\ufffd".encode(), b"", b"", b" a", b" b", b"a", b"b", b" ab"]


class Pieces(Tokenizer):
    """Pieces with a leading space, like those of unigram and bpe, and few enough to enumerate."""

    kind = "pieces"
    learn = load = save = None  # type: ignore[assignment]  # never learned or saved

    def __init__(self) -> None:
        super().__init__(SURFACES, lower=False, starts_with_space=True)

    def encode(self, text: str) -> list[int]:
        pieces = re.findall(r" ab| ?[ab]", f" {text}" if text else "")
        return [SURFACES.index(piece.encode()) for piece in pieces]

    def piece(self, id: int) -> str:
        return SURFACES[id].decode()


class Bigrams:
    """An engine whose next token depends on the last one: `table` (V, V) of logits."""

    def __init__(self, table: NDArray[Any]) -> None:
        self.table = table.astype(np.float32)

    def run(self, arrays: Any, outputs: list[str] | None = None) -> dict[str, NDArray[Any]]:
        logits = self.table[arrays["tokens"]]
        log_probs = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
        indices = np.maximum(arrays["targets"], 0)[..., None]
        of_targets = np.take_along_axis(log_probs, indices, axis=-1)[..., 0] * (arrays["targets"] >= 0)
        return {"logits": logits, "log_probs": of_targets}

    def initial_state(self, batch: int) -> dict[str, NDArray[Any]]:
        return {}


def bigrams(tokenizer: Tokenizer, *, spaces: bool) -> Model:
    """Make a model of random bigrams with mostly short words; with `spaces`, the space is its own token."""
    table = np.random.default_rng(3).normal(size=(tokenizer.size, tokenizer.size))
    table[:, [0, 1, BOS]] = -50  # texts do not contain special ids
    enders = [*tokenizer.leading_space_ids, EOS]
    table[:, enders] += 2.5
    if spaces:  # never two in a row or at an end, so that each word has a single spelling
        table[np.ix_([BOS, *tokenizer.leading_space_ids], enders)] = -50
    else:
        others = [i for i in range(4, tokenizer.size) if i not in enders]
        table[BOS, others] = -50
    settings = LMSettings(tokenizer="char")
    task = LMTask(tokenizer, settings=settings)
    return Model(Path("bigrams"), {}, task, Bigrams(table))


def all_words(longest: int) -> Iterator[str]:
    for length in range(1, longest + 1):
        yield from map("".join, itertools.product("ab", repeat=length))


def words_of(loaded: Model, text: str) -> list[Unit]:
    ((_, scored),) = loaded.scored([Text(text)])
    return scored.words(text)


@pytest.mark.parametrize("before", ["b", "ab", "a ab"])
@pytest.mark.parametrize("kind", ["char", "pieces"])
def test_the_probabilities_of_all_words_sum_to_one(kind: str, before: str) -> None:
    tokenizer = train("char", ["ab ba"]) if kind == "char" else Pieces()
    loaded = bigrams(tokenizer, spaces=kind == "char")
    total = 2 ** -words_of(loaded, before)[-1].surprisal_bits  # of the end
    texts = [Text(f"{before} {word}") for word in all_words(9)]
    for text, scored in loaded.scored(texts):
        total += 2 ** -scored.words(text.text)[-2].surprisal_bits
    if kind == "char":
        assert total == pytest.approx(1, abs=2e-3), "the rest belongs to longer words"
    else:  # a word has the probability of one of its segmentations; add the others
        assert total < 1
        assert total + other_spellings(loaded, before) == pytest.approx(1, abs=2e-3)


def other_spellings(loaded: Model, before: str) -> float:
    """Return the probability that a word follows `before` in a segmentation other than its own."""
    task = loaded.require(LMTask)
    table = loaded.engine.table.astype(np.float64)  # type: ignore[attr-defined]
    probs = np.exp(table) / np.exp(table).sum(axis=-1, keepdims=True)
    enders = [*task.tokenizer.leading_space_ids, EOS]
    last = task.tokenizer.encode(before)[-1]
    total = 0.0
    ways = [([i], probs[last, i]) for i in task.tokenizer.leading_space_ids]
    for _ in range(9):
        onward = []
        for ids, p in ways:
            word = b"".join(SURFACES[i] for i in ids).decode()[1:]
            if len(word) <= 9 and task.tokenizer.encode(word) != ids:
                total += p * probs[ids[-1], enders].sum()
            onward += [([*ids, i], p * probs[ids[-1], i]) for i in range(4, task.tokenizer.size)
                       if i not in enders]
        ways = onward
    return float(total / probs[last, enders].sum())


def test_the_end_of_a_word_counts_for_the_word() -> None:
    loaded = bigrams(Pieces(), spaces=False)
    table = loaded.engine.table  # type: ignore[attr-defined]
    probs = np.exp(table) / np.exp(table).sum(axis=-1, keepdims=True)
    ends = probs[:, [EOS, 4, 5, 8]].sum(axis=1)  # tokens that can follow a complete word
    expected = [
        probs[BOS, 8] * probs[8, 6] * ends[6],  # " ab" "a"
        probs[6, 5] / ends[6] * ends[5],  # " b"
        probs[5, EOS] / ends[5],
    ]
    units = words_of(loaded, "aba b")
    assert [unit.text for unit in units] == ["aba", "b", "</s>"]
    assert [2**-unit.surprisal_bits for unit in units] == pytest.approx(expected, rel=1e-5)


@pytest.fixture(scope="session")
def subwords(models: Path, text_file: Path) -> Path:
    data = models / "data" / "subwords.txt"
    data.write_text("".join(f"{line}\n" for line in tiny.lines_of_text(150)), "utf-8")
    tiny.train("lm", models / "tiny-subwords", [data], dev=[text_file], epochs=2, tokenizer="unigram",
               vocab_size=300)
    return models / "tiny-subwords"


TEXTS = ["the baker sings .", "", "the  bakers\tdanced", " the", "the ", "the\u2003baker \u00a0x",
         "a\u2581b c", " ", " \t "]  # fmt: skip


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", ["writer", "subwords"])
def test_words_and_the_end_sum_to_the_text(
    name: str, stream: bool, request: pytest.FixtureRequest
) -> None:
    loaded = model.load(request.getfixturevalue(name), threads=1)
    for text, scored in zip(TEXTS, loaded.score(TEXTS, context="stream" if stream else "line"), strict=True):
        words = scored.words(text)
        assert [word.text for word in words] == [*text.split(), "</s>"]
        total = sum(word.surprisal_bits for word in words) * math.log(2)
        assert total == pytest.approx(-scored.total_nats, abs=1e-4)
        assert all(word.surprisal_bits >= -1e-5 for word in words)


def test_the_end_of_a_word_scores_the_same_alone_and_in_a_batch(subwords: Path) -> None:
    loaded = model.load(subwords, threads=1)
    task = loaded.require(LMTask)
    together = list(loaded.score(TEXTS))
    task.budget = 4  # read in pieces
    for text, expected in zip(TEXTS, together, strict=True):
        (alone,) = loaded.score([text])
        assert expected.log_ends is not None
        assert alone.log_ends == pytest.approx(expected.log_ends, abs=1e-5)
        assert all(end >= p - 1e-6 for p, end in zip(expected.log_probs, expected.log_ends, strict=True))


def test_word_tokens_need_no_end() -> None:
    task = LMTask.learn([Text("a b")], LMSettings(tokenizer="word"))
    engine = Bigrams(np.zeros((task.tokenizer.size, task.tokenizer.size)))
    (scored,) = task.decode([Text("a b")], task.run(engine, task.encode([Text("a b")])))
    assert scored.log_ends is None
    assert [unit.surprisal_bits for unit in scored.words("a b")] == pytest.approx([math.log2(6)] * 3)


def test_ids_with_a_leading_space(tmp_path: Path) -> None:
    char = train("char", ["a \tb\u00a0"])
    assert sorted(char.piece(i) for i in char.leading_space_ids) == ["\t", " ", "\u00a0"]
    byte = load(tmp_path, train("byte", ["a"]).config())
    assert [byte.piece(i) for i in byte.leading_space_ids][:2] == ["<0x09>", "<0x0A>"]
    assert [SURFACES[i] for i in Pieces().leading_space_ids] == [b" a", b" b", b" ab"]


def test_space_after_the_last_word() -> None:
    text = "ab "
    tokens = train("char", [text]).tokens(text)
    scored = ScoredText(tokens, [-1.0, -2.0, -3.0, -4.0], 0, [0.0, 0.0, -0.5, -0.25])
    assert [u.surprisal_bits * math.log(2) for u in scored.words(text)] == pytest.approx([3.5, 6.5])


def test_a_character_of_several_bytes_belongs_to_its_word() -> None:
    text = "café is"
    tokens = train("byte", [text]).tokens(text)
    assert len(tokens) == 8
    ends = [0.0] * 5 + [-0.25, 0.0, 0.0, -0.5]
    scored = ScoredText(tokens, [-1.0] * 9, 0, ends)
    assert [u.surprisal_bits * math.log(2) for u in scored.words(text)] == pytest.approx([5.25, 3.25, 0.5])
    assert scored.nats_from(text, 5) == pytest.approx(-3.25)


# --- Pairs -------------------------------------------------------------------------------------------------


def test_scores_after_a_prefix(writer: Path) -> None:
    loaded = model.load(writer, threads=1)
    pair = Pair("baker", "bakers sing", prefix="the")
    assert pair.texts() == ("the baker", "the bakers sing")
    ((_, good, bad),) = loaded.compare([pair])
    for scored, text in zip((good, bad), pair.texts(), strict=True):
        bits = [word.surprisal_bits for word in scored.words(text)]
        assert scored.nats_from(text, 3) == pytest.approx(-sum(bits[1:-1]) * math.log(2))
    assert Pair("a", "b", prefix="").texts() == ("a", "b")


AGREEMENT = "prefix\tright\twrong\tattractors\n" + "".join(
    f"the {noun}\tsings\tbqk\t{n}\n"
    for noun, n in [("baker", 2), ("teacher", 10), ("worker", 2), ("baker", 1)])


def test_agreement_by_attractors(writer: Path, run: Run) -> None:
    base = ["score", "-m", writer, "--pairs", "--prefix", "prefix", "--columns", "right,wrong"]
    done = run(*base, "--by", "attractors", input=AGREEMENT)
    assert done.out.splitlines() == ["accuracy\t1.0000", "pairs\t4", "attractors\t1\t1.0000\t1",
                                     "attractors\t2\t1.0000\t2", "attractors\t10\t1.0000\t1"]
    turned = [*base[:-1], "wrong,right", "--by", "attractors,prefix", "--json"]
    report = json.loads(run(*turned, input=AGREEMENT).out)
    assert (report["pairs"], report["accuracy"], report["per_phenomenon"]) == (4, 0.0, {})
    assert report["by"]["attractors"]["2"] == {"pairs": 2, "accuracy": 0.0}
    assert list(report["by"]["prefix"]) == ["the baker", "the teacher", "the worker"]
    numbers = run("score", "-m", writer, "--pairs", "--prefix", "1", "--columns", "2,3", "--jsonl",
                  input=AGREEMENT.split("\n", 1)[1])  # fmt: skip
    rows = [json.loads(line) for line in numbers.out.splitlines()]
    assert [row["right"] for row in rows] == [True] * 4
    assert list(rows[0].items())[:3] == [("prefix", "the baker"), ("good", "sings"), ("bad", "bqk")]
    assert all(row["log_prob_bad"] < row["log_prob_good"] < 0 for row in rows)


BLIMP = [
    {"sentence_good": "the baker sings .", "sentence_bad": "bqk the", "one_prefix_prefix": "the baker",
     "one_prefix_word_good": "sings", "one_prefix_word_bad": "qqq", "field": "morphology",
     "linguistics_term": term, "UID": uid}
    for term, uid in [("agreement", "x"), ("agreement", "y"), ("binding", "z")]
]


def test_blimp_is_reported_by_its_own_groups(writer: Path, run: Run) -> None:
    text = "".join(json.dumps(pair) + "\n" for pair in BLIMP)
    report = json.loads(run("score", "-m", writer, "--pairs", "--json", input=text).out)
    assert report["per_phenomenon"] == {"x": 1.0, "y": 1.0, "z": 1.0}
    counts = {name: [row["pairs"] for row in table.values()] for name, table in report["by"].items()}
    assert counts == {"field": [3], "linguistics_term": [2, 1], "UID": [1, 1, 1]}
    assert list(report["by"]["linguistics_term"]) == ["agreement", "binding"]
    words = run("score", "-m", writer, "--pairs", "--prefix", "one_prefix_prefix", "--columns",
                "one_prefix_word_good,one_prefix_word_bad", "--by", "UID", input=text).out  # fmt: skip
    assert words.splitlines()[2:] == ["UID\tx\t1.0000\t1", "UID\ty\t1.0000\t1", "UID\tz\t1.0000\t1"]


@pytest.mark.parametrize(("options", "code", "words"), [
    (["--prefix", "prefix"], 2, "--pairs"),
    (["--pairs", "--prefix", "prefix"], 2, "--columns GOOD,BAD"),
    (["--pairs", "--prefix", "nope", "--columns", "right,wrong"], 3, "choose one with --prefix"),
    (["--pairs", "--columns", "right,wrong", "--by", "nope"], 3, "<stdin>:2: expected a column 'nope'"),
    (["--pairs", "--columns", "2,3", "--no-header", "--by", "nope"], 3, "found columns without names"),
    (["--pairs", "--columns", "right,wrong", "--jsonl"], 2,
     "--jsonl: the output has a key 'right' of its own"),
    (["--pairs", "--columns", "2,3", "--no-header", "--prefix", "9"], 3, "expected at least 9 columns"),
])  # fmt: skip
def test_pairs_usage(options: list[str], code: int, words: str, writer: Path, run: Run) -> None:
    done = run("score", "-m", writer, *options, input=AGREEMENT)
    assert done.code == code
    assert words in done.err
    assert done.out == ""


# --- Counts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("context", ["line", "stream"])
def test_each_word_and_each_line_end_is_one_token(context: str, models: Path, run: Run) -> None:
    """The test part of the Penn Treebank has 82,430 tokens: 78,669 words in 3,761 lines."""
    lines = ["the <unk> N", "", "the the", "zebra"]
    data = models / "data" / f"counts-{context}.txt"
    data.write_text("".join(f" {line} \n" for line in lines), "utf-8")
    out = models / f"tiny-counts-{context}"
    tiny.train("lm", out, [data], dev=[data], epochs=1, tokenizer="word", context=context)
    report = json.loads(run("evaluate", data, "-m", out, "--json").out)
    assert report["tokens"] == sum(len(line.split()) for line in lines) + len(lines) == 10
    rows = run("score", data, "-m", out).out.splitlines()
    assert [int(row.split("\t")[2]) for row in rows] == [4, 1, 3, 2]
