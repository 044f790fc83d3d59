"""`rnntool inspect` and `rnntool report` in a shell: tables, JSON, pictures and errors."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import tiny
from conftest import Run, environment, failed, invoke, ok

from rnntool.commands.inspect.sources import VectorSource

TEXT = "the baker sings .\nthe workful baker paints the teacher .\n"
VECTORS = "man 1 0 0\nwoman -1 0 0\nking 1 1 0\nqueen -1 1 0\ncar 0 0 1\n"


@pytest.fixture
def vectors(tmp_path: Path) -> Path:
    (tmp_path / "vectors.txt").write_text(VECTORS)
    return tmp_path / "vectors.txt"


def drawn(path: Path) -> str:
    """Return the text of a well-formed picture."""
    return "\n".join(ElementTree.fromstring(path.read_text("utf-8")).itertext())


def test_gradients_of_new_networks_side_by_side(run: Run, tmp_path: Path) -> None:
    call = ("inspect", "gradients", "--hidden", "8", "--steps", "10", "--texts", "2")
    table = [line.split() for line in ok(run(*call, "-o", "picture.svg")).splitlines()]
    assert table[0] == ["steps", "back", "elman", "gru", "lstm"]
    assert [row[0] for row in table[1:]] == ["0", "1", "2", "4", "8", "10", "1"]
    assert table[1][1:] == ["1", "1", "1"]
    assert {"elman", "gru", "lstm"} <= set(drawn(tmp_path / "picture.svg").split("\n"))
    report = json.loads(ok(run(*call, "--json", "--cells", "gru")))
    assert len(report["gradients"]["gru"]) == 11
    assert f"{report['gradients']['gru'][10]:.3g}" == table[6][2]
    spaced = json.loads(ok(run(*call, "--json", "--cells", "gru, mingru")))
    assert list(spaced["gradients"]) == ["gru", "mingru"]
    ok(run(*call, "--seed", str(2**32 - 1), "--cells", "gru"))
    refused = run(*call, "--seed", str(2**32))
    assert (refused.code, "--seed" in refused.err) == (2, True)


def test_gradients_of_a_trained_model(writer: Path, run: Run) -> None:
    report = json.loads(ok(run("inspect", "gradients", "-m", writer, "--json", "--steps", "5", input=TEXT)))
    assert list(report["gradients"]) == ["tiny-writer"]
    assert len(report["gradients"]["tiny-writer"]) == 6, "0 to 5 steps back, BOS among them"
    failed(run("inspect", "gradients", "text.txt"), 2, "give --model")
    for cells in ("elman,rnn", ","):
        failed(run("inspect", "gradients", "--cells", cells), 2, "mogrifier", f"'{cells}'")
    failed(run("inspect", "gradients", "-m", writer, input="\n"), 3, "two tokens")
    failed(run("inspect", "gradients", "-m", "en-pos", input=TEXT), 4, "model.safetensors")


@pytest.mark.parametrize(("command", "first", "second"), [
    ("clusters", ["--words", "the,cat"], ["--top", "3"]), ("states", ["--units", "1"], ["--top", "3"]),
    ("gradients", ["--hidden", "8"], []),
])  # fmt: skip
def test_contradicting_options(
    command: str, first: list[str], second: list[str], writer: Path, run: Run
) -> None:
    failed(run("inspect", command, "-m", writer, *first, *second, input=TEXT), 2, first[0], "leave")


def test_clusters_of_words(tagger: Path, writer: Path, run: Run, tmp_path: Path) -> None:
    tree = ok(run("inspect", "clusters", "-m", tagger, "--words", "the,baker,.", "-o", "tree.svg",
                  "--from", "tokens", input=TEXT))
    assert sorted(line.split("─ ")[1] for line in tree.splitlines()) == [". (2)", "baker (2)", "the (3)"]
    assert {"the", "baker", "."} <= set(drawn(tmp_path / "tree.svg").split("\n"))
    report = json.loads(ok(run("inspect", "clusters", "-m", writer, "--top", "4", "--json", input=TEXT)))
    assert (report["words"], report["counts"]) == (["the", ".", "baker", "paints"], [3, 2, 2, 1])
    assert np.shape(report["merges"]) == (3, 4)
    failed(run("inspect", "clusters", "-m", writer, "--words", "the,cat", input=TEXT), 3, "'cat'", "--words")
    failed(run("inspect", "clusters", "-m", writer, "--words", "the,the", input=TEXT), 3, "found 1", "give")
    failed(run("inspect", "clusters", "-m", writer, "--layer", "3", input=TEXT), 2, "1 to 2", "found 3")


def test_neighbors_and_analogy_of_vectors(vectors: Path, run: Run, tmp_path: Path) -> None:
    out = ok(run("inspect", "neighbors", "man", "--vectors", vectors, "--top", "1", "-o", "near.html"))
    assert out.splitlines() == ["word  neighbor  cosine", "man   king      0.7071"]
    assert (tmp_path / "near.html").read_text().startswith("<!DOCTYPE html>")
    out = ok(run("inspect", "analogy", "man", "king", "woman", "--vectors", vectors, "-o", "plane.svg",
                 RNNTOOL_MODEL="what-is-typed-goes-before"))
    assert out.splitlines()[1].split() == ["queen", "0.9597"]
    assert {"man", "king", "woman", "queen", "car"} <= set(drawn(tmp_path / "plane.svg").split("\n"))
    failed(run("inspect", "analogy", "man", "king", "woma", "--vectors", vectors), 3, "'woma'", "'woman'")
    failed(run("inspect", "neighbors", "man"), 2, "found neither", "--model or --vectors")
    failed(run("inspect", "neighbors", "man", "--vectors", vectors, "-m", "en-pos"), 2, "found both")
    for name in ("near.gif", "near.png"):
        failed(run("inspect", "neighbors", "man", "--vectors", vectors, "-o", name), 2,
               f"expected a name that ends in .svg or .html, found '{name}'", "rsvg-convert")


@pytest.mark.parametrize("name", ["en-question", "en-pos"])
def test_every_vocabulary_entry_is_found_and_drawn(name: str, tmp_path: Path) -> None:
    vectors = VectorSource(model=name).load()
    assert [vectors.row(entry) for entry in vectors.names] == list(range(len(vectors.names)))
    ok(invoke("inspect", "neighbors", "mr.", "-m", "en-question", "-o", tmp_path / "a.svg"))
    assert "mr." in drawn(tmp_path / "a.svg").split("\n")


def test_subwords_are_found_by_their_pieces(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("the dog thinks and the dogs think\n" * 30, "utf-8")
    tiny.train("lm", tmp_path / "m", [tmp_path / "t.txt"], tokenizer="bpe", vocab_size=290, epochs=1)
    vectors = VectorSource(model=str(tmp_path / "m")).load()
    assert vectors.names[vectors.row("the")] == "▁the"
    assert {vectors.names[vectors.row(name)] for name in vectors.names} >= {"▁the", "▁dog", "<0x42>"}
    ok(invoke("inspect", "neighbors", "the", "-m", tmp_path / "m", "-o", tmp_path / "a.svg"))
    assert "▁the" in drawn(tmp_path / "a.svg").split("\n")


def test_states_of_a_text_up_to_the_limit(writer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rnntool.commands.inspect.states.MAX_TOKENS", 10)
    for text, cut in (("the baker\n", False), ("the baker si\n", True), ("the b\naker\n.\n", False),
                       ("the b\naker\n. .\n", True)):
        done = invoke("inspect", "states", "-m", writer, "--units", "0", "--json", input=text)
        assert len(json.loads(done.out)["tokens"]) <= 10
        assert ("only the first 10 tokens" in done.err) == cut


def test_words_of_vectors_may_have_a_space(run: Run, tmp_path: Path) -> None:
    (tmp_path / "v.txt").write_text("man 1 0\n. . . 1 0.5\nat x@y.z 0 1\n", "utf-8")
    nearest = json.loads(ok(run("inspect", "neighbors", "man", "--vectors", "v.txt", "--top", "2", "--json")))
    assert [near["word"] for near in nearest["man"]] == [". . .", "at x@y.z"]
    for line, numbers in (("car 1 0 1", 3), ("car 1", 1)):
        (tmp_path / "v.txt").write_text(f"man 1 0\n{line}\n", "utf-8")
        failed(run("inspect", "neighbors", "man", "--vectors", "v.txt"), 3,
               f"v.txt:2: expected a word and 2 numbers, found {numbers}")


def test_neighbors_of_a_models_tokens(writer: Path, tagger: Path, run: Run) -> None:
    nearest = json.loads(ok(run("inspect", "neighbors", "a", "-m", writer, "--json", "--top", "3")))
    assert len(nearest["a"]) == 3
    assert all(len(near["word"]) == 1 and -1 <= near["cosine"] <= 1 for near in nearest["a"])
    assert "the" in ok(run("inspect", "neighbors", "baker", "-m", tagger, "--top", "99"))
    failed(run("inspect", "neighbors", "two words", "-m", writer), 3, "tiny-writer", "'two words'")


def test_similarity_reads_headers_and_lists_missing_words(vectors: Path, run: Run, tmp_path: Path) -> None:
    rows = [("man", "king", 9), ("queen", "woman", 8), ("man", "car", 1), ("man", "dragon", 5)]
    plain = "".join(f"{a}\t{b}\t{score}\n" for a, b, score in rows)
    out = ok(run("inspect", "similarity", "-", "--vectors", vectors, input=plain))
    assert "3 of 4" in out
    assert "1: dragon" in out
    assert ok(run("inspect", "similarity", "-", "--vectors", vectors, input="a\tb\tmean\n" + plain)) == out
    (tmp_path / "named.csv").write_text(
        "id,score,one,two\n" + "".join(f"7,{score},{a},{b}\n" for a, b, score in rows))
    named = ("inspect", "similarity", "named.csv", "--columns", "one,two,score", "--vectors", vectors)
    assert ok(run(*named, "-o", "scatter.svg")) == out
    text = drawn(tmp_path / "scatter.svg")
    assert "man, king" in text
    assert "Spearman's rank correlation is" in text
    report = json.loads(ok(run(*named, "--json")))
    assert (report["pairs"], report["used"], report["missing"]) == (4, 3, ["dragon"])
    assert report["rows"][0] == {"first": "man", "second": "king", "score": 9.0,
                                 "cosine": pytest.approx(0.5**0.5)}
    for score in ("very", "nan"):
        failed(run("inspect", "similarity", "-", "--vectors", vectors, input=f"{plain}man\tcar\t{score}\n"),
               3, "<stdin>:5", f"'{score}'")
    failed(run("inspect", "similarity", "-", "--vectors", vectors, input="man car 3\n"), 3, "<stdin>:1",
           "3 columns")


def test_states_along_a_text(writer: Path, run: Run, tmp_path: Path) -> None:
    table = ok(run("inspect", "states", "-m", writer, "--units", "3,0", "-o", "heat.svg", input=TEXT))
    assert [line.split()[0] for line in table.splitlines()] == ["unit", "3", "0"]
    shapes = drawn(tmp_path / "heat.svg")
    assert {"unit 3", "unit 0"} <= set(shapes.split("\n"))
    report = json.loads(ok(run("inspect", "states", "-m", writer, "--units", "3", "--json", input="the\n")))
    assert report["tokens"] == [["t", 0, 1], ["h", 1, 2], ["e", 2, 3]]
    assert np.shape(report["units"]["3"]) == (3,)
    for units in ("99", ","):
        failed(run("inspect", "states", "-m", writer, "--units", units, input=TEXT), 2, "0 to 15",
               f"'{units}'")
    failed(run("inspect", "states", "-m", writer, input=""), 3, "<stdin>: expected a text, found none")


def test_states_of_a_shipped_model_in_8_bits(run: Run) -> None:
    for model in ("en-pos", "shakespeare"):
        assert len(ok(run("inspect", "states", "-m", model, "--top", "2", input=TEXT)).splitlines()) == 3
    call = ("inspect", "states", "-m", "shakespeare", "--units")
    failed(run(*call, "512", input=TEXT), 2, "0 to 511")  # units 512 and 513 belong to the quantized graph


@pytest.mark.skipif(sys.platform == "win32", reason="has no pseudo-terminals")
def test_a_terminal_shows_the_text_in_colors(writer: Path) -> None:
    terminal, child = pty.openpty()
    plain = environment(TERM="xterm-256color", COLORTERM="truecolor")
    plain.pop("NO_COLOR")
    done = subprocess.run([sys.executable, "-m", "rnntool", "inspect", "states", "-m", writer, "--top", "1"],
                          input=b"the\n", stdout=child, env=plain, timeout=60)
    os.close(child)
    shown = os.read(terminal, 1 << 16).decode()
    os.close(terminal)
    assert done.returncode == 0
    assert "unit" in shown
    assert shown.count("\x1b[38;2;34;34;34;48;2;") == 3


def test_a_report_is_one_page(tagger: Path, run: Run, tmp_path: Path) -> None:
    page = ok(run("report", tagger))
    assert page.startswith("<!DOCTYPE html>")
    assert "<h1>tiny-pos</h1>" in page
    assert ok(run("report", tagger, "-o", "page.html")) == ""
    assert (tmp_path / "page.html").read_text("utf-8") == page
    failed(run("report", "no-such-model"), 4, "no-such-model")


def test_attention_along_a_target(transducer: Path, run: Run, tmp_path: Path) -> None:
    call = ("inspect", "attention", "-m", transducer)
    table = ok(run(*call, "-o", "picture.svg", input="abc\n\nfed\n"))
    first, second = table.split("\n\n")
    assert first.splitlines()[0] == "abc → c b a"
    assert first.splitlines()[1].split() == ["a", "b", "c", "</s>"]
    assert [line.split()[0] for line in second.splitlines()] == ["fed", "f", "d", "e", "f", "</s>"]
    texts = drawn(tmp_path / "picture.svg").split("\n")
    assert {"abc → c b a", "fed → d e f", "a", "</s>"} <= set(texts)
    assert sum(text.startswith("c, ") for text in texts) == 4, "a tooltip for each field"
    report = json.loads(ok(run(*call, "--json", input="abc\n")))
    (source,) = report["sources"]
    assert (source["source_tokens"], source["target_tokens"]) == (["a", "b", "c", "</s>"],
                                                                  ["c", "b", "a", "</s>"])
    assert np.shape(source["weights"]) == (4, 4)
    assert np.sum(source["weights"], axis=1) == pytest.approx([1] * 4, abs=1e-4)


def test_what_has_no_attention(transducer: Path, run: Run, tmp_path: Path) -> None:
    failed(run("inspect", "attention", "-m", "en-pos", input="a\n"), 4, "en-pos")
    failed(run("inspect", "attention", "-m", transducer, input="\n"), 3, "a source")
    (tmp_path / "pairs.tsv").write_text(tiny.pairs(tiny.reversals(40)))
    tiny.train("transduce", tmp_path / "blind", [tmp_path / "pairs.tsv"], epochs=1, attention="none")
    failed(run("inspect", "attention", "-m", tmp_path / "blind", input="a\n"), 4, "has no attention")
    many = run("inspect", "attention", "-m", transducer, input="ab\n" * 60)
    assert many.out.count("→") == 50 and many.err == "rnntool: only the first 50 sources are shown\n"
