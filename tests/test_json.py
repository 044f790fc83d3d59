"""JSON as other programs write it: arrays, pretty-printed objects, nested keys, spans of characters."""

from __future__ import annotations

import io
import json
import re
import tracemalloc
from collections import deque
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
import tiny
from conftest import Run, invoke, jsonl, ok

from rnntool.data.formats import Guess, guess_format, read_sentences, read_texts
from rnntool.data.records import Sentence, Tagged
from rnntool.data.streams import Lines
from rnntool.errors import DataError
from rnntool.tokenize import split_words

RECORDS: list[dict[str, Any]] = [
    {"text": "a ] \\ \" { b", "id": [1, [2, {"x": "}"}]]}, {"text": "é\u2028", "n": None}, {"text": "c"}]
TEXT = "Anna Berg met Bob in New York ."
SPANS = [(0, 9, "PER"), (14, 17, "PER"), (21, 29, "LOC")]
TAGS = ["B-PER", "I-PER", "O", "B-PER", "O", "B-LOC", "I-LOC", "O"]


def lines_of(text: str) -> Lines:
    return Lines(io.BytesIO(text.encode()), name="x")


def sentences(text: str, *, need_tags: bool = True, **options: Any) -> list[Sentence]:
    return list(read_sentences(
        lines_of(text), format="jsonl", split=split_words, need_tags=need_tags, **options))


# arrays and objects over several lines


@pytest.mark.parametrize("text", [
    json.dumps(RECORDS), json.dumps(RECORDS, indent=2), json.dumps(RECORDS, separators=(",\n", ":")),
    "[\n" + ",\n".join(map(json.dumps, RECORDS)) + "\n]\n",
    "\n [" + ",\n ".join(map(json.dumps, RECORDS)) + "]",
    "\n".join(json.dumps(record, indent=1) for record in RECORDS),
    json.dumps(RECORDS[:1], indent=1) + "\n\n" + json.dumps(RECORDS[1:], indent=1, ensure_ascii=False),
])  # fmt: skip
def test_arrays_and_pretty_printed_objects_are_read_as_if_they_were_lines(text: str) -> None:
    assert guess_format("-", lines_of(text), "texts") == Guess("jsonl")
    records = list(read_texts(lines_of(text), format="jsonl"))
    assert [record.fields for record in records] == RECORDS
    rows = text.split("\n")
    if len(rows) > len(RECORDS):  # an object begins in the line that its place names
        numbers = [int(record.place.split(":")[1]) for record in records]
        assert sorted(set(numbers)) == numbers
        assert all("{" in rows[number - 1] for number in numbers)


@pytest.mark.parametrize(("text", "message"), [
    ('[\n {"text": "a"},\n {"text": }\n]', r"x:3: .* 'Expecting value' at column 11"),
    ('[\n {"text": "a"},\n 7, {"text": "b"}]', "x:3: expected a JSON object, found '7,'"),
    ('[\n {"text": "a"},\n "b"\n]', "x:3: expected a JSON object, found '\"b\"'"),
    ('[\n {"text": "a"}\n', "x:2: expected a ] at the end of the array, found the end of the file"),
    ('[\n {"text": "a",\n', "x:3: .* at column"),
    ('[\n {"text": "a"}\n]]', "x:3: expected a JSON object, found ']'"),
    ('{\n "text": "a"\n}\n}', "x:4: expected a JSON object, found '}'"),
    ('{\n "text": ["a"}\n}', r"x:2: .* at column"),
    ("[1, 2]", "x:1: expected a JSON object, found a list"),
])  # fmt: skip
def test_errors_in_arrays_name_the_line(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        list(read_texts(lines_of(text), format="jsonl"))


def test_an_array_is_read_in_the_memory_of_one_element() -> None:
    def chunks() -> Iterator[bytes]:
        yield b"[\n"
        for _ in range(2000):
            yield b'{"text": "' + b"a" * 10_000 + b'"\n},\n'
        yield b'{"text": "b"}\n]\n'

    class Raw(io.BytesIO):
        source = chunks()

        def read1(self, size: int | None = -1) -> bytes:
            return next(self.source, b"")

    tracemalloc.start()
    (last,) = deque(read_texts(Lines(Raw(), name="x"), format="jsonl"), maxlen=1)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert last.text == "b" and peak < 2_500_000  # of 20 MB


def test_a_path_names_a_nested_key(run: Run, classifier: Path) -> None:
    record = {"data": {"text": "who sings ?", "meta": {"y": 1}}, "a.b": "where ?", "spans": [{"s": "what ?"}]}
    for key, text in (("data.text", "who sings ?"), ("a.b", "where ?"), ("spans.0.s", "what ?")):
        (got,) = read_texts(lines_of(json.dumps(record)), format="jsonl", text_column=key,
                            label_column="data.meta.y")
        assert (got.text, got.labels, got.fields) == (text, ("1",), record)
    for key in ("data.texts", "spans.1.s", "spans.x", "data.text.x", "a.c"):
        with pytest.raises(DataError, match=f"expected a key '{key}', found 'data.text', 'data.meta', 'a.b'"):
            list(read_texts(lines_of(json.dumps(record)), format="jsonl", text_column=key))
    array = json.dumps([{"about": record["data"]}] * 2, indent=2)
    out = ok(run("classify", "-m", classifier, "--jsonl", "--text-column", "about.text", input=array))
    assert [row["label"] for row in jsonl(out)] == ["person"] * 2


# spans of characters


def _span(names: str, span: tuple[int, int, str]) -> dict[str, Any]:
    return dict(zip(names.split(), span, strict=True))


TOKENS = [{"text": TEXT[a:b], "start": a, "end": b, "id": i} for i, (a, b) in enumerate(split_words(TEXT))]
ANNOTATED: dict[str, Any] = {
    "doccano": {"id": 3, "text": TEXT, "label": SPANS},
    "doccano 1": {"text": TEXT, "labels": SPANS, "meta": {}},
    "doccano relations": {"text": TEXT, "relations": [], "entities": [
        {"id": i, **_span("start_offset end_offset label", span)} for i, span in enumerate(SPANS)]},
    "prodigy": {"text": TEXT, "tokens": TOKENS, "answer": "accept", "spans": [
        {"token_start": 0, "token_end": 1, **_span("start end label", span)} for span in reversed(SPANS)]},
    "spacy": [TEXT, {"entities": SPANS}],
    "spacy objects": {"text": TEXT, "entities": [_span("start end label", span) for span in SPANS]},
    "label studio": {"id": 7, "data": {"text": TEXT}, "predictions": [], "annotations": [
        {"was_cancelled": True, "result": []},
        {"id": 1, "result": [
            {"type": "labels", "value": {"start": a, "end": b, "text": TEXT[a:b], "labels": [label]}}
            for a, b, label in SPANS] + [{"type": "choices", "value": {"choices": ["news"]}}]}]},
    "label studio, short": {"id": 7, "text": TEXT, "label": [
        {"start": a, "end": b, "text": TEXT[a:b], "labels": [label]} for a, b, label in SPANS]},
    "rnntool, spans of words": {"tokens": TEXT.split(), "entities": [
        {"start_token": a, "end_token": b, "label": label} for a, b, label in
        ((0, 2, "PER"), (3, 4, "PER"), (5, 7, "LOC"))]},
}  # fmt: skip


@pytest.mark.parametrize("record", ANNOTATED.values(), ids=ANNOTATED)
def test_spans_of_annotation_tools_become_tags(record: Any) -> None:
    for text in (json.dumps(record), json.dumps([record, record]), json.dumps([record], indent=2)):
        for sentence in sentences(text):
            assert (sentence.words, sentence.tags, sentence.text) == (TEXT.split(), TAGS, TEXT)


def test_a_tagger_trains_and_evaluates_on_spans_as_on_tags(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    data = tiny.ner_sentences(30)
    (tmp_path / "tags.conll").write_text(tiny.conll(data))
    records = []
    for sentence in data:
        tags = Tagged([tag for _, tag in sentence])
        words = [word for word, _ in sentence]
        ends = list(accumulate(len(word) + 1 for word in words))
        records.append({"text": " ".join(words), "label": [
            [ends[a] - len(words[a]) - 1, ends[b - 1] - 1, label] for a, b, label in tags.entities() or ()]})
    (tmp_path / "spans.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (tmp_path / "spans.json").write_text(json.dumps(records, indent=2))
    reports = []
    for name in ("tags.conll", "spans.jsonl", "spans.json"):
        options = [f"--{key.replace('_', '-')}={value}" for key, value in tiny.SETTINGS["tag"].items()]
        ok(invoke("train", "tag", name, "--dev", name, "-o", f"of-{name}", *options, "--epochs=1", "-q"))
        reports.append(json.loads(ok(invoke("evaluate", name, "-m", f"of-{name}", "--json"))))
        del reports[-1]["model"], reports[-1]["signature"]
    assert reports[0] == reports[1] == reports[2]
    assert reports[0]["per_label"].keys() == {"PER", "LOC"}


@pytest.mark.parametrize(("record", "words", "tags"), [
    ({"text": "Annas Buch", "label": [[0, 4, "PER"]]}, ["Anna", "s", "Buch"], ["B-PER", "O", "O"]),
    ({"text": "abc", "label": [[1, 2, "X"]]}, ["a", "b", "c"], ["O", "B-X", "O"]),
    ({"text": "ab cd", "label": [[1, 4, "X"], [4, 5, "X"]]}, ["a", "b", "c", "d"],
     ["O", "B-X", "I-X", "B-X"]),
    ({"text": "ab", "tokens": ["ab"], "spans": [{"start": 0, "end": 1, "label": "X"}]}, ["a", "b"],
     ["B-X", "O"]),
])  # fmt: skip
def test_a_span_that_cuts_a_word_splits_it_and_is_reported(
    record: Any, words: list[str], tags: list[str]
) -> None:
    text = "".join(json.dumps(one) + "\n" for one in ({"text": "", "label": []}, record, record))
    lines, warnings = lines_of(text), list[str]()
    lines.warn = warnings.append
    got = list(read_sentences(lines, format="jsonl", split=split_words, need_tags=True))
    assert [(s.words, s.tags) for s in got] == [([], []), (words, tags), (words, tags)]
    (warning,) = warnings
    assert re.fullmatch(
        r"x:2: the span \d+-\d+ '\w+' begins or ends inside a word, so the word was split; "
        r"this was done for [2-9] spans in 2 records", warning)


def test_spans_may_begin_and_end_with_space() -> None:
    (got,) = sentences(json.dumps({"text": "to Anna Berg .", "label": [[2, 13, "PER"]]}))
    assert got.tags == ["O", "B-PER", "I-PER", "O"]


@pytest.mark.parametrize(("spans", "message"), [
    ([[0, 4, "PER"], [2, 7, "LOC"]], "that do not overlap, found 0-4 'PER' and 2-7 'LOC'; keep"),
    ([[0, 4, "PER"], [0, 4, "LOC"]], "do not overlap"),
    ([[0, 4, "PER"], [3, 99, "LOC"]], "within the 8 characters of the text, found 3-99 'LOC'; count"),
    ([[-1, 4, "PER"]], "within the 8"), ([[3, 3, "PER"]], "within the 8"),
    ([[4, 5, "PER"]], "expected spans that contain words, found only white space in 4-5 'PER'"),
    ([[0, 4, ""]], "a label in each span"), ([[0, 4, None]], "a label in each span"),
    ([[0, "4", "PER"]], "a start"), ([{"start": 0, "label": "PER"}], "a start, an end"),
    ([{"start": 0, "end": 4}], 'a label in each span, found {"start": 0'), ([[0, True, "PER"]], "a start"),
])  # fmt: skip
def test_bad_spans_are_told_with_their_line(spans: Any, message: str) -> None:
    good = json.dumps({"text": "Bob", "label": [[0, 3, "PER"], [0, 3, "PER"]]})
    with pytest.raises(DataError, match=f"^x:2: .*{message}"):
        sentences(good + "\n" + json.dumps({"text": "Anna Bob", "label": spans}))


def test_columns_of_spans_have_names() -> None:
    record = {"text": "Anna sings", "tokens": ["Anna", "sings"], "tags": ["N", "V"], "who": [[0, 4, "P"]]}
    (got,) = sentences(json.dumps(record), column=",who")
    assert (got.tags, got.more_tags) == (["N", "V"], [["B-P", "O"]])
    (got,) = sentences(json.dumps(record))
    assert got.tags == ["N", "V"]  # tags are preferred
    with pytest.raises(DataError, match="labels in 'none', found an empty list"):
        sentences(json.dumps(record | {"none": []}), column="none")
    with pytest.raises(DataError, match="expected a key 'tags'"):  # what classify wrote are no spans
        sentences('{"text": "Anna", "label": "PER", "labels": [{"label": "PER", "prob": 1.0}]}')


def test_what_tag_wrote_reads_back(run: Run, ner: Path, ner_file: Path, tmp_path: Path) -> None:
    for given in ([ner_file], ["--from", "text"]):
        text = TEXT + "\n\nBob met Anna Berg in Oslo.\n"
        written = ok(run("tag", "-m", ner, "--jsonl", "--scheme", "iob2", *given, input=text))
        records = jsonl(written)
        assert [s.tags for s in sentences(written)] == [record["tags"] for record in records]
        for record in records:  # the entities alone give the same tags
            del record["tags"]
        spans = "".join(json.dumps(record) + "\n" for record in records)
        assert [s.tags for s in sentences(spans)] == [record["tags"] for record in jsonl(written)]
        again = ok(run("tag", "-m", ner, "--jsonl", input=written))
        assert again == written


@pytest.mark.parametrize("record", [
    '{"text": "Anna", "text": "Bob", "label": "a"}',
    '{"text": "Bob", "meta": {"id": 1, "id": 2}, "label": "a"}',
])
def test_a_key_that_occurs_twice_is_reported(record: str) -> None:
    warnings: list[str] = []
    lines = lines_of(f'{{"text": "Eve", "label": "b"}}\n{record}\n{record}\n')
    lines.warn = warnings.append
    texts = list(read_texts(lines, format="jsonl"))
    assert [text.text for text in texts] == ["Eve", "Bob", "Bob"]
    (warning,) = warnings
    key = "id" if "meta" in record else "text"
    assert warning == f"x:2: the key '{key}' occurs twice, and its last value is read; rename one of them"


def test_what_was_rejected_in_prodigy_is_not_learned() -> None:
    records = [{"text": f"text {i}", "label": "a", "spans": [], "answer": answer}
               for i, answer in enumerate(["accept", "reject", "ignore", "accept"])]
    data = "".join(json.dumps(record) + "\n" for record in records)

    def texts_of(data: str, **options: Any) -> tuple[list[str], list[str]]:
        lines, warnings = lines_of(data), list[str]()
        lines.warn = warnings.append
        return [text.text for text in read_texts(lines, format="jsonl", **options)], warnings

    texts, (warning,) = texts_of(data, label_column="label", need_labels=True)
    assert texts == ["text 0", "text 3"]
    assert warning == "x: skipped 2 records whose 'answer' is reject or ignore"
    assert texts_of(data, label_column="answer", need_labels=True) == ([r["text"] for r in records], [])
    assert texts_of(data) == ([r["text"] for r in records], []), "a filter answers every record"
    assert [s.text for s in sentences(data, need_tags=True)] == ["text 0", "text 3"]
    assert len(sentences(data, need_tags=False)) == 4
