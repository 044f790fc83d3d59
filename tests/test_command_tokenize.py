"""`rnntool tokenize`: tokens, ids and decoding."""

from __future__ import annotations

from pathlib import Path

from conftest import Run, failed, jsonl, ok


def test_tokenize_and_decode(writer: Path, tagger: Path, run: Run) -> None:
    text = "the baker  sings .\n\n a\n"
    ids = ok(run("tokenize", "-m", writer, "--ids", input=text))
    assert len(ids.splitlines()) == 3
    assert ok(run("tokenize", "-m", writer, "--decode", input=ids)) == text
    assert ok(run("tokenize", input="I can't, Mr. Smith.\n\n")) == "I ca n't , Mr. Smith .\n\n"
    (record,) = jsonl(ok(run("tokenize", "--jsonl", input="can't\n")))
    assert record["tokens"] == [{"text": "ca", "start": 0, "end": 2}, {"text": "n't", "start": 2, "end": 5}]
    failed(run("tokenize", "--ids", input="a\n"), 2, "--model MODEL")
    failed(run("tokenize", "-m", writer, "--decode", input="1 99999\n"), 3, "<stdin>:1: expected ids")
    assert run("tokenize", "-m", tagger, input="the unheard\n").out == "the <unk>\n"


def test_tokens_of_a_tagger_are_the_words_that_it_tags(run: Run) -> None:
    text = "I can't read Dr. Smith's e-mail.\n"
    tagged = ok(run("tag", "-m", "en-pos", input=text)).splitlines()
    (record,) = jsonl(ok(run("tokenize", "-m", "en-pos", "--jsonl", input=text)))
    spans = [(token["start"], token["end"]) for token in record["pieces"]]
    assert [text[a:b] for a, b in spans] == [row.split("\t")[0] for row in tagged if row]
    assert record["pieces"][2]["piece"] == "n't"
