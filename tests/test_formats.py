"""Readers and writers of every format: exact round trips, hostile input, places in messages."""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Callable, Iterable
from html.parser import HTMLParser
from typing import Any, get_args

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rnntool.data.formats import (
    FORMATS,
    LABEL_FORMATS,
    WRITE_FORMATS,
    Guess,
    format_named_by,
    guess_format,
    label_writer,
    output_format,
    read_judgments,
    read_pairs,
    read_sentences,
    read_sequences,
    read_texts,
    readable_formats,
    sentence_writer,
)
from rnntool.data.records import Judgment, Kind, Pair, Sentence, SentenceWriter, Tagged, Text, WordWeight
from rnntool.data.streams import Lines
from rnntool.errors import DataError, UsageError
from rnntool.tokenize import split_words

KINDS = get_args(Kind)
TEXT_FORMATS, PAIR_FORMATS, SENTENCE_FORMATS = map(readable_formats, ("texts", "pairs", "sentences"))
BOM = "\ufeff"
ODD = "a\u2028b\u0085c\x0cd\x1ce\u00a0f\x0bg"  # none of these characters ends a line or separates words


def lines_of(text: str) -> Lines:
    return Lines(io.BytesIO(text.encode("utf-8", "surrogatepass")), name="x", errors="surrogatepass")


def split(text: str) -> list[tuple[int, int]]:
    return [match.span() for match in re.finditer(r"\w+|[^\w\s]", text)]


def texts(text: str, format: str = "text", **options: Any) -> list[Text]:
    return list(read_texts(lines_of(text), format=format, **options))


def pairs(text: str, format: str = "tsv", **options: Any) -> list[Pair]:
    return list(read_pairs(lines_of(text), format=format, **options))


def sentences(text: str, format: str, **options: Any) -> list[Sentence]:
    return list(read_sentences(lines_of(text), format=format, split=split, **options))


def written(writer: SentenceWriter, records: Iterable[Sentence], tag: str | None = None) -> str:
    """Write records with their own tags, or with the same tag everywhere."""
    return "".join(writer(s, Tagged(s.tags or [] if tag is None else [tag] * len(s.words))) for s in records)


def lines_text(alphabet: str) -> st.SearchStrategy[str]:
    """Generate files with many of the letters that matter to a format, and all kinds of line endings."""
    letters = st.sampled_from([*alphabet, "\n", "\n", "\r\n", ODD, "é", "x"])
    return st.lists(letters | st.characters(exclude_characters="\r", exclude_categories=["Cs"])).map("".join)


# text


def test_text_by_line_keeps_blank_lines_and_strips_endings_only() -> None:
    got = texts(f"{BOM} a \r\n\n\t\n{ODD}\nlast\r")
    assert [t.text for t in got] == [" a ", "", "\t", ODD, "last\r"]
    assert [t.place for t in got] == ["x:1", "x:2", "x:3", "x:4", "x:5"]
    assert texts("") == []


def test_text_by_paragraph_and_document() -> None:
    source = "\na\r\nb\n \t\n\n\u00a0\nc"
    assert [(t.text, t.place) for t in texts(source, unit="paragraph")] == [
        ("a\nb", "x:2"),
        ("\u00a0\nc", "x:6"),
    ]
    assert [t.text for t in texts(source, unit="document")] == ["\na\nb\n \t\n\n\u00a0\nc"]
    assert [t.text for t in texts("", unit="document")] == [""]
    with pytest.raises(UsageError, match="paragraph"):
        texts("a", unit="page")


@given(lines_text(" \t"))
def test_lines_of_text_join_to_the_text(text: str) -> None:
    text = text.lstrip(BOM)
    assert "\n".join(t.text for t in texts(text)) == text.replace("\r\n", "\n").removesuffix("\n")


# tables


def test_tsv_has_a_header_and_no_quotes() -> None:
    source = f'{BOM}label\ttext\r\npos\t"good, {ODD}\r\nneg\t\n'
    got = texts(source, "tsv", label_column="label")
    assert [(t.text, t.labels) for t in got] == [(f'"good, {ODD}', ("pos",)), ("", ("neg",))]
    assert got[0].fields == {"label": "pos", "text": f'"good, {ODD}'} and got[1].place == "x:3"


def test_csv_has_quotes_and_cells_of_several_lines() -> None:
    source = 'text,label\r\n"a ""b"", c\r\nd",pos\r\n\r\n5" e,\n"last",neg'
    got = texts(source, "csv", label_column="label")
    assert [(t.text, t.labels) for t in got] == [
        ('a "b", c\r\nd', ("pos",)),
        ('5" e', ()),
        ("last", ("neg",)),
    ]
    assert [t.place for t in got] == ["x:2", "x:5", "x:6"]


@pytest.mark.parametrize(
    ("text_column", "label_column", "expected"),
    [
        (None, "fine", ("t", "f")),
        ("coarse", "text", ("c", "t")),
        ("1", "3", ("c", "t")),
        ("2", None, ("f", None)),
    ],
)
def test_columns_by_name_and_number(
    text_column: str | None, label_column: str | None, expected: tuple[str, str]
) -> None:
    (got,) = texts("coarse\tfine\ttext\nc\tf\tt\n", "tsv", text_column=text_column, label_column=label_column)
    assert (got.text, *(got.labels or [None])) == expected


def test_the_other_column_is_the_text() -> None:
    assert texts("label\tsentence\na\tb\n", "tsv")[0] == Text(
        "b", ("a",), {"label": "a", "sentence": "b"}, "x:2"
    )
    assert texts("y,x\na,b\n", "csv", label_column="y")[0].text == "b"
    assert [t.text for t in texts("anything\na\n\nb", "tsv")] == [t.text for t in texts("any\na\n\nb", "csv")]


def test_the_label_column_of_training_is_not_the_text() -> None:
    table = "review\tsentiment\ngood\tpos\n"
    assert texts(table, "tsv", default_label_column="sentiment")[0].text == "good"
    assert texts("review\ngood\n", "tsv", default_label_column="sentiment")[0].text == "good"
    with pytest.raises(DataError, match="expected a column 'text'"):
        texts(table, "tsv")


def test_text_and_label_need_two_columns() -> None:
    with pytest.raises(DataError, match="two columns, found 'text' for both; choose"):
        texts("text\tx\na\tb\n", "tsv", label_column="text")


def test_columns_with_the_same_name_are_all_kept() -> None:
    (row,) = texts("text,id,id,,,id_2\nt,a,b,c,d,e\n", "csv")
    assert row.fields == {"text": "t", "id": "a", "id_3": "b", "": "c", "_2": "d", "id_2": "e"}
    (row,) = texts("text" + "," * 50_000 + "\n" + "t" + "," * 50_000 + "\n", "csv")
    assert row.fields is not None
    assert len(row.fields) == 50_001, "in time that does not grow with the square of the columns"
    (pair,) = pairs("x\tgood\tbad\tx\n1\tg\tb\t2\n", columns=("good", "bad"))
    assert pair.fields == {"x": "1", "good": "g", "bad": "b", "x_2": "2"}


@pytest.mark.parametrize(("format", "lines", "whole"), [
    ("tsv", ["\n"], False), ("tsv", [" \n", "a\n"], True), ("csv", ["\n"], False), ("csv", ["a\n"], True),
    ("csv", ['a,"b\n'], False), ("csv", ['a,"b\n', "\n"], False), ("csv", ['a,"b\n', 'c""d"\n'], True),
    ("csv", ["\n", 'a,"b"\n'], True),
])  # fmt: skip
def test_complete_rows_of_tables(format: str, lines: list[str], whole: bool) -> None:
    assert FORMATS[format].holds_record(lines) is whole


@pytest.mark.parametrize("format", ["tsv", "csv"])
def test_tables_without_rows(format: str) -> None:
    assert texts("", format) == texts("text\n", format) == texts("text", format) == []


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("text\tlabel\na\tb\tc\n", {}, r"x:2: expected 2 columns .* found 3"),
        ("text\tlabel\na\tb\nc\n", {}, r"x:3: expected 2 columns .* found 1"),
        ("a\tb\n1\t2\n", {}, r"x:1: expected a column 'text', found 'a', 'b'; choose one with text_column"),
        (
            "a\ttext\n1\t2\n",
            {"label_column": "label"},
            r"x:1: expected a column 'label' .* 'a', 'text'; choose one with label_column",
        ),
        ("a\ttext\n1\t2\n", {"label_column": "3"}, r"expected a column '3'"),
        ("a\ttext\n1\t2\n", {"label_column": "0"}, r"expected a column '0'"),
        ("text\ttext\n1\t2\n", {"text_column": "text"}, r"found several"),
        ("\t".join(map(str, range(99))), {"text_column": "x" * 9}, r"'19', …; choose"),
    ],
)
def test_table_errors(source: str, options: dict[str, str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        texts(source, "tsv", **options)


@pytest.mark.parametrize(("source", "format", "message"), [
    ("text;label\na;b\n", "csv", "separated by commas, found semicolons; set delimiter=';'"),
    ("text\tlabel\na\tb\n", "csv", "separated by commas, found tabs; set format=tsv"),
    ("id,body\n1,b\n", "tsv", "separated by tabs, found commas; set format=csv"),
])
def test_errors_name_a_wrong_separator(source: str, format: str, message: str) -> None:
    with pytest.raises(DataError, match=f"^x:1: expected columns {message}$"):
        texts(source, format, text_column="body" if "body" in source else None)
    with pytest.raises(DataError, match=r"^x:1: expected columns separated"):
        pairs(source, format, columns=("text", "label"), prefix="body")


def test_a_header_of_one_cell_may_contain_other_separators() -> None:
    assert [t.text for t in texts("what, and why; say\na, b; c\n", "tsv")] == ["a, b; c"]


def test_a_file_of_tags_is_not_text() -> None:
    with pytest.raises(DataError, match=r"^a.conllu.gz: expected text, .*, found the extension of a conllu "):
        guess_format("a.conllu.gz", lines_of("1\ta\n"), "texts")
    with pytest.raises(DataError, match=r"^a.ft: expected text, .*, found the extension of a fasttext file;"):
        guess_format("a.ft", lines_of("some words\n"), "sentences")
    with pytest.raises(DataError, match=r"^a.ann: expected text, .*, found brat annotations"):
        guess_format("a.ann", lines_of("T1\tPER 0 4\tAnna\n"), "sentences")


@pytest.mark.parametrize("names", ["good\tbad", "sentence_good\tsentence_bad"])
def test_a_header_row_is_not_a_pair(names: str) -> None:
    with pytest.raises(DataError, match=r"^x:1: expected two sentences, found what looks like a header row; "
                                        r"set columns=.*good,"):
        pairs(f"{names}\na\tb\n")
    assert [pair.good for pair in pairs(f"{names}\na\tb\n", columns=tuple(names.split("\t")))] == ["a"]


def test_a_word_with_a_space_is_not_a_word_and_a_tag() -> None:
    rows = "in O\nNew York B-LOC\n\n"
    with pytest.raises(DataError, match=r"^x:2: expected 2 columns as in line 1, found 3; .* column to"):
        sentences(rows, "conll", need_tags=True)
    assert sentences(rows, "conll", need_tags=True, column="2")[0].tags == ["O", "York"]
    assert sentences(rows, "conll")[0].words == ["in", "New"]


def test_csv_with_carriage_returns_as_line_ends() -> None:
    with pytest.raises(DataError, match=r"^x:1: expected CSV, found a carriage return in the middle"):
        texts("text,label\ra,b\r", "csv")


def test_an_open_quote_is_reported_where_it_begins() -> None:
    with pytest.raises(DataError, match=r"^x:3: expected CSV, .* quotes"):
        texts('text\na\n"b\nc\n', "csv")


def test_a_csv_cell_may_be_long() -> None:
    assert len(texts("text\n" + "x" * 300_000, "csv")[0].text) == 300_000


def test_fasttext() -> None:
    source = "__label__a __label__b-c\tsome  text \n\n__label__ not\nat the end __label__z\n__label__q\r\n"
    source += f"a__label__b {ODD}"
    assert [(t.text, t.labels) for t in texts(source, "fasttext")] == [
        ("some  text", ("a", "b-c")),
        ("", ()),
        ("__label__ not", ()),
        ("at the end", ("z",)),
        ("", ("q",)),
        (f"a__label__b {ODD}", ()),
    ]


# JSONL texts and pairs


def test_jsonl_texts() -> None:
    rows: list[Any] = [
        {"text": "a", "label": "x", "id": 7},
        {"text": "b", "label": ["x", 1, True], "n": None},
        {"text": "", "label": ""},
        {"text": ODD, "label": {}},
    ]
    source = BOM + "\r\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    got = texts(source, "jsonl")
    assert [t.labels for t in got] == [("x",), ("x", "1", "true"), (), ()]
    assert [t.fields for t in got] == rows and [t.place for t in got] == ["x:1", "x:3", "x:5", "x:7"]
    assert texts('{"s": "a", "y": 1.5}', "jsonl", text_column="s", label_column="y")[0].labels == ("1.5",)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            '{"text": "a", "label": "b"}\n{"text": }',
            r"^x:2: expected one JSON object on each line, found 'Expecting value' at column 10",
        ),
        ("[1]", r"^x:1: expected a JSON object, found a list; write it as"),
        ('"a"', "found a string"),
        ("7", "found a number"),
        ("null", "found null"),
        ('{"a": 1, "b": 2}', "^x:1: expected a key 'text', found 'a', 'b'; choose a key with text_column"),
        ('{"sentence_good": "a", "sentence_bad": "b"}',
         "a key 'text', found a pair of sentences, 'sentence_good', .*; pairs are read by `rnntool score`"),
        ("{}", "found none"),
        ('{"text": null, "label": "a"}', "expected a string in 'text', found null"),
        ('{"text": "a"}', "expected a key 'label'"),
        ('{"text": "a", "label": {}}', "found an object; choose a key with label_column"),
        ('{"text": "a", "label": [null]}', "found a list"),
        ("[" * 100_000, "x:1: expected one JSON object"),
        ("9" * 5000, "x:1: expected"),
    ],
)
def test_jsonl_errors(source: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        texts(source, "jsonl", label_column="label")


def test_lone_surrogates_are_replaced_so_that_output_cannot_fail() -> None:
    source = r'{"text": "a\ud800b", "label": "\uD83D\uDE00", "more": [{"\udfff": "\udc00\ud800"}]}'
    (got,) = texts(source, "jsonl", label_column="label")
    assert (got.text, got.labels) == ("a\ufffdb", ("😀",))
    assert got.fields is not None and got.fields["more"] == [{"\ufffd": "\ufffd\ufffd"}]
    (sentence,) = sentences(source, "jsonl")
    written(sentence_writer("jsonl"), [sentence], "O").encode()


def test_pairs() -> None:
    assert pairs("a b\tc d\r\n\ne\t\n") == [Pair("a b", "c d", None, "x:1"), Pair("e", "", None, "x:3")]
    named = pairs("id\tbad\tgood\n1\tb\tg\n", columns=("good", "bad"))
    assert named == [Pair("g", "b", {"id": "1", "bad": "b", "good": "g"}, "x:2")]
    assert pairs("1\tb\tg\n", columns=("3", "2")) == [Pair("g", "b", None, "x:1")]
    assert pairs('"a, b",c\n', "csv")[0].good == "a, b"
    row = {"sentence_good": "g", "sentence_bad": "b", "UID": "u"}
    assert pairs(json.dumps(row), "jsonl") == [Pair("g", "b", row, "x:1")]
    assert pairs('{"x": "g", "y": "b"}', "jsonl", columns=("x", "y"))[0].bad == "b"
    assert pairs("") == pairs("", columns=("a", "b")) == pairs("", "jsonl") == []


@pytest.mark.parametrize(
    ("source", "format", "columns", "message"),
    [
        ("a\tb\nc\n", "tsv", None, "x:2: expected 2 columns, found 1"),
        ("a\tb\tc\n", "tsv", None, "x:1: expected 2 columns, found 3"),
        ("a\tb\n", "tsv", ("1", "4"), "expected at least 4 columns, found 2"),
        ("a\tb\n", "tsv", ("good", "b"), "expected a column 'good'"),
        ("{}", "jsonl", None, "expected a key 'sentence_good'"),
    ],
)
def test_pair_errors(source: str, format: str, columns: tuple[str, str] | None, message: str) -> None:
    with pytest.raises(DataError, match=message):
        pairs(source, format, columns=columns)


# raw text and tokens


def test_raw_text_has_offsets_into_the_unchanged_line() -> None:
    first, blank, last = sentences("  Is it?\r\n\r\nno", "text")
    assert first.text == "  Is it?" and first.words == ["Is", "it", "?"]
    assert [first.text[a:b] for a, b in first.offsets or []] == first.words
    assert blank == Sentence([], text="", offsets=[], place="x:2") and last.place == "x:3"


def test_tokens_are_never_split_again() -> None:
    got = sentences(f"{BOM}can't  stop\t{ODD} \r\n\n \nx", "tokens")
    assert [s.words for s in got] == [["can't", "stop", ODD], [], [], ["x"]]
    assert written(sentence_writer("tokens"), got, "T") == "T T T\n\n\nT\n"
    assert written(sentence_writer("text"), got, "T") == "T T T\n\n\nT\n"
    assert written(sentence_writer("inline"), got[:2], "T") == f"can't_T stop_T {ODD}_T\n\n"


@given(lines_text(" \t"))
def test_each_line_of_tokens_is_a_record(text: str) -> None:
    text = text.lstrip(BOM)
    got = sentences(text, "tokens")
    out = written(sentence_writer("tokens"), got, "T")
    assert out.count("\n") == len(got) == len(texts(text))
    assert [s.words for s in sentences(written(sentence_writer("tokens"), got), "tokens")] == [[]] * len(got)


@pytest.mark.parametrize("format", ["text", "tokens"])
def test_words_without_tags_are_not_training_data(format: str) -> None:
    with pytest.raises(DataError, match="name its format with format"):
        sentences("a", format, need_tags=True)


# CoNLL columns

CONLL = (
    "-DOCSTART- -X- O O\n\nEU NNP I-NP I-ORG\nrejects VBZ  I-VP O \n\n\n"
    "-DOCSTART-\n\n\n# NN I-NP O\n\u00a0 SP O O\n\n-DOCSTART- -X- -X- O"
)


def test_conll_knows_when_a_record_is_complete() -> None:
    read_end, write_end = os.pipe()
    with os.fdopen(read_end, "rb") as pipe, os.fdopen(write_end, "wb", 0) as to:
        lines = Lines(pipe, name="x")
        records = read_sentences(lines, format="conll", split=split_words)
        ready = FORMATS["conll"].holds_record
        steps = [  # what arrives, and the words of the records that are complete then
            ("EU X\n", []), ("-DOCSTART- O\n", [["EU"]]), ("\n", []), ("a X\n", []), ("\n", [["a"]]),
            ("-DOCSTART- O\n\n", []), ("\n", [[]]), ("b X\n\n-DOCSTART-\n", [["b"]]),
            ("c X\n-DOCSTART-\n-DOCSTART-\n\nd X\n\n", [["c"], ["d"]]),
        ]
        for text, expected in steps:
            to.write(text.encode())
            words = []
            while lines.ready(ready):
                words.append(next(records).words)
            assert words == expected, text


def test_conll_documents_blank_lines_and_missing_newline() -> None:
    got = sentences(CONLL, "conll", need_tags=True)
    assert [s.words for s in got] == [["EU", "rejects"], [], [], ["#", "\u00a0"], []]
    assert [s.tags for s in got] == [["I-ORG", "O"], [], [], ["O", "O"], []]
    assert [s.place for s in got] == ["x:3", "x:6", "x:9", "x:10", "x:13"]
    assert written(sentence_writer("conll"), got, "Z") == (
        "-DOCSTART- -X- O O O\n\nEU NNP I-NP I-ORG Z\nrejects VBZ  I-VP O  Z\n\n\n"
        "-DOCSTART-\n\n\n# NN I-NP O Z\n\u00a0 SP O O Z\n\n-DOCSTART- -X- -X- O O"
    )


def test_conll_tabs_keep_spaces_in_words_and_crlf_stays() -> None:
    source = f"{BOM}New York\tB-LOC\r\n{ODD}\tO\r\n\r\n-DOCSTART-\tO\r\nx\tO"
    got = sentences(source, "conll", need_tags=True)
    assert [(s.words, s.tags) for s in got] == [(["New York", ODD], ["B-LOC", "O"]), (["x"], ["O"])]
    assert written(sentence_writer("conll"), got, "T") == (
        f"New York\tB-LOC\tT\r\n{ODD}\tO\tT\r\n\r\n-DOCSTART-\tO\tO\r\nx\tO\tT"
    )


def test_conll_document_line_without_blank_lines() -> None:
    source = "a X\n-DOCSTART- X\nb Y\n"
    got = sentences(source, "conll")
    assert [s.words for s in got] == [["a"], ["b"]]
    assert written(sentence_writer("conll"), got, "T") == "a X T\n-DOCSTART- X O\nb Y T\n"


def test_conll_words_alone() -> None:
    got = sentences("a\nb\n\nc", "conll")
    assert [(s.words, s.tags) for s in got] == [(["a", "b"], None), (["c"], None)]
    assert written(sentence_writer("conll"), got, "T") == "a\tT\nb\tT\n\nc\tT"
    with pytest.raises(DataError, match=r"^x:1: expected at least 2 columns, found 1; choose another"):
        sentences("a\nb\n", "conll", need_tags=True)


@pytest.mark.parametrize(
    ("column", "tags"),
    [
        (None, ["C"]),
        ("last", ["C"]),
        ("-1", ["C"]),
        ("3", ["B"]),
        ("-2", ["B"]),
        ("2", ["A"]),
        ("word", ["w"]),
    ],
)
def test_conll_columns(column: str | None, tags: list[str]) -> None:
    assert sentences("w A B C\n", "conll", column=column, need_tags=True)[0].tags == tags


def test_conll_column_errors() -> None:
    with pytest.raises(DataError, match=r"^x:2: expected at least 3 columns, found 2; choose another"):
        sentences("a b c\nd e\n", "conll", column="3", need_tags=True)
    assert sentences("a b c\nd e\n", "conll", column="3")[0].tags is None
    with pytest.raises(DataError, match=r"^x:2: .*'ner'; this line has 3 columns"):
        sentences("\na b c\n", "conll", column="ner")
    with pytest.raises(DataError, match=r"^x:3: expected a tag, found an empty cell"):
        sentences("a\tX\n\nb\t\n", "conll", need_tags=True)
    with pytest.raises(DataError, match=r"expected at least 4 columns"):  # the word is not a tag
        sentences("a b c\n", "conll", column="-3", need_tags=True)
    with pytest.raises(UsageError, match="a number from 1, or from -1 backward"):
        sentences("a b", "conll", column="0")


def test_conll_cells_between_tabs_have_no_spaces_around_them() -> None:
    source = "New York \t B-LOC \nin\tO\t\n\n \tSP\n"
    first, space = sentences(source.replace("O\t", "O"), "conll", need_tags=True)
    assert (first.words, first.tags) == (["New York", "in"], ["B-LOC", "O"])
    assert space.words == [" "], "a word may be a space"
    assert written(sentence_writer("conll"), [first], "T") == "New York \t B-LOC \tT\nin\tO\tT\n\n"
    trailing = "a\tN\t\nb\tV \t \n\n"
    (only,) = sentences(trailing, "conll", need_tags=True)
    assert (only.words, only.tags) == (["a", "b"], ["N", "V"])


def test_conll_word_column() -> None:
    source = "1\tAnna\tB-PER\tO\n2\tsings\tO\tO\n"
    (got,) = sentences(source, "conll", word_column="2", column="3", need_tags=True)
    assert (got.words, got.tags) == (["Anna", "sings"], ["B-PER", "O"])
    assert written(sentence_writer("conll"), [got], "T") == source.replace("\n", "\tT\n")
    (reverse,) = sentences("N cat\nV sat\n", "conll", word_column="2", column="1", need_tags=True)
    assert (reverse.words, reverse.tags) == (["cat", "sat"], ["N", "V"])
    with pytest.raises(DataError, match=r"^x:1: expected at least 3 columns, found 2"):
        sentences("1 cat\n", "conll", word_column="2", need_tags=True)  # the last column is the word
    with pytest.raises(DataError, match=r"^x:1: expected a word in column 3, found 2 columns"):
        sentences("1 cat\n", "conll", word_column="3")
    for wrong in ("0", "form", "-1"):
        with pytest.raises(UsageError, match=r"^word_column: expected a number from 1, found"):
            sentences("1 cat\n", "conll", word_column=wrong)


@pytest.mark.parametrize(
    ("comment", "rows"),
    [
        ("# id 5239d808\tdomain=en\n", "Anna _ _ B-PER\n# _ _ O\n"),  # MultiCoNER
        ("#\thttp://x.org/A\t[2009-10-17]\n", "1\tAnna\tO\tO\n2\t#\tO\tO\n"),  # GermEval 2014
        ("# sent_id = 1\n# text = Anna #\n", "Anna\tO\n#\tNN\n"),
        ("# a comment of several words\n", "#hashtag\tO\nand\tO\n"),
        ("", "# NN\nwins VB\n"),
        ("", "#\tNN\n"),
        ("", "#winning\tNN\n#\tNN\n"),
        ("", "#\nwins\n"),
    ],
)
@pytest.mark.parametrize("tail", ["", "\n"])
def test_conll_comments_and_words_that_begin_with_a_hash(comment: str, rows: str, tail: str) -> None:
    got = sentences((comment + rows + "\n") * 2 + rows + tail, "conll")
    count = rows.count("\n")
    lines = len(comment.splitlines())
    assert [len(sentence.words) for sentence in got] == [count] * 3
    assert [s.place for s in got[:2]] == [f"x:{lines + 1}", f"x:{2 * lines + count + 2}"]
    tab = "\t" if "\t" in rows or " " not in rows else " "
    tagged = rows.replace("\n", f"{tab}T\n")
    assert written(sentence_writer("conll"), got, "T") == (comment + tagged + "\n") * 2 + tagged + tail


def test_conll_documents_of_ontonotes() -> None:
    begin, end = "#begin document (bc/cctv/00); part 000\n", "#end document\n"
    source = f"{begin}a X\nb Y\n\nc X\n\n{end}{begin}d X\n\n{end}"
    got = sentences(source, "conll", need_tags=True)
    assert [s.words for s in got] == [["a", "b"], ["c"], ["d"], []]
    assert got[0].document is got[1].document is not got[2].document
    assert written(sentence_writer("conll"), got, "T") == re.sub("( [XY])\n", r"\1 T\n", source)


def test_conll_of_sentences_from_other_formats() -> None:
    writer = sentence_writer("conll", probs=True)
    got = sentences("a\u00a0 b\n\n", "tokens")
    assert writer(got[0], Tagged(["X", "Y"], [1.0, 0.12345])) == "a\u00a0\tX\t1.0000\nb\tY\t0.1235\n\n"
    assert writer(got[1], Tagged([], [])) == "\n"
    assert sentence_writer("conll")(Sentence(["a\tb", "c\r\nd"]), Tagged(["X", "Y"])) == "a b\tX\nc  d\tY\n\n"
    native = sentences("-DOCSTART- O\n\na O\n", "conll")
    assert writer(native[0], Tagged(["X"], [0.5])) == "-DOCSTART- O O _\n\na O X 0.5000\n"


@pytest.mark.parametrize("end", ["", "\n", "\n\n"])
def test_conll_keeps_files_apart(end: str) -> None:
    writer = sentence_writer("conll")
    two = [sentences(f"{word} O{end}", "conll")[0] for word in "ab"]
    assert written(writer, two, "T") == f"a O T\n\nb O T{end}"


@given(lines_text(" \t\t-\u00a0"))
@example("-DOCSTART-\n")
@example("\n-DOCSTART-\n \na b\n-DOCSTART-\n\n\n")
def test_conll_is_written_back_with_one_more_column(text: str) -> None:
    text = text.lstrip(BOM)
    got = sentences(text, "conll")
    out = written(sentence_writer("conll"), got, "@TAG")
    assert re.sub(r"[ \t]@TAG(?=\r?\n|\Z)", "", out) == text.replace("@TAG", "")
    assert out.count("@TAG") == sum(len(s.words) for s in got)
    assert len(sentences(out, "conll")) == len(got)


def test_excess_blank_lines_are_records() -> None:
    got = sentences("\na O\n\n\n\nb O\n", "conll")
    assert [len(s.words) for s in got] == [0, 1, 0, 0, 1]
    again = sentences(written(sentence_writer("conll"), [Sentence(s.words) for s in got], "T"), "conll")
    assert [s.words for s in again] == [s.words for s in got]


# CoNLL-U

CONLLU = f"""# newdoc
# text = Dámelo {ODD}
1-2\tDámelo\t_\t_\t_\t_\t_\t_\t_\tSpaceAfter=No
1\tDá\tdar\tVERB\tv\tMood=Imp\t0\troot\t_\tEntity=B-X|Gloss=give
2\tmelo\tyo\tPRON\t_\t_\t1\tobj\t_\t_
2.1\tnada\t_\tNOUN\t_\t_\t_\t_\t1:dep\t_
3\t{ODD}\t_\tX\t_\t_\t1\tdep\t_\tZ=1|A=2|Entity=O

# nothing but a comment

1\t#\t#\tSYM\t_\t_\t0\troot\t_\tA=1|Zeta=2
"""


@pytest.mark.parametrize(
    "column", [None, "upos", "XPOS", "feats", "deprel", "Entity", "SpaceAfter", "Gloss", "None"]
)
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("tail", ["", "\n", "\n\n", "\n\n\n"])
def test_conllu_round_trip_is_byte_exact(column: str | None, ending: str, tail: str) -> None:
    source = (CONLLU.rstrip("\n") + tail).replace("\n", ending)
    got = sentences(source, "conllu", column=column, need_tags=True)
    assert [s.words for s in got][:3] == [["Dá", "melo", ODD], [], ["#"]]
    assert len(got) == 3 + (tail == "\n\n\n")
    assert written(sentence_writer("conllu", column=column), got) == source


def test_conllu_reads_text_and_place() -> None:
    first, comment, last = sentences(CONLLU, "conllu")
    assert (first.text, first.place, comment.text, last.place) == (f"Dámelo {ODD}", "x:4", None, "x:11")
    assert first.tags == ["VERB", "PRON", "X"]
    assert sentences(CONLLU, "conllu", column="Entity")[0].tags == ["B-X", "O", "O"]


def test_conllu_changes_only_the_column_of_tags() -> None:
    old = CONLLU.split("\n")
    new = written(sentence_writer("conllu"), sentences(CONLLU, "conllu"), "TAG").split("\n")
    changed = [(a.split("\t"), b.split("\t")) for a, b in zip(old, new, strict=True) if a != b]
    assert [b for _, b in changed] == [[*a[:3], "TAG", *a[4:]] for a, _ in changed]
    assert [b[0] for _, b in changed] == ["1", "2", "3", "1"]


@pytest.mark.parametrize(
    ("key", "tag", "expected"),
    [
        (
            "Entity",
            "B-Y",
            ["Entity=B-Y|Gloss=give", "Entity=B-Y", "Z=1|A=2|Entity=B-Y", "A=1|Entity=B-Y|Zeta=2"],
        ),
        ("Entity", "O", ["Gloss=give", "_", "Z=1|A=2|Entity=O", "A=1|Zeta=2"]),
        (
            "Foo",
            "b|c",
            ["Entity=B-X|Foo=b/c|Gloss=give", "Foo=b/c", "Z=1|A=2|Entity=O|Foo=b/c", "A=1|Foo=b/c|Zeta=2"],
        ),
    ],
)
def test_conllu_misc_keys(key: str, tag: str, expected: list[str]) -> None:
    out = written(sentence_writer("conllu", column=key), sentences(CONLLU, "conllu"), tag)
    assert [row.split("\t")[9] for row in out.split("\n") if re.match(r"\d+\t", row)] == expected


def test_conllu_probabilities_go_to_misc() -> None:
    (got,) = sentences("1\ta\t_\tX\t_\t_\t_\t_\t_\tSpaceAfter=No\r\n", "conllu")
    out = sentence_writer("conllu", probs=True)(got, Tagged(["Y"], [0.5]))
    assert out == "1\ta\t_\tY\t_\t_\t_\t_\t_\tProb=0.5000|SpaceAfter=No\r\n"


def test_conllu_of_sentences_from_other_formats() -> None:
    (raw,) = sentences("Is it?", "text")
    assert sentence_writer("conllu")(raw, Tagged(["AUX", "PRON", "PUNCT"])) == (
        "# sent_id = 1\n# text = Is it?\n"
        "1\tIs\t_\tAUX\t_\t_\t0\troot\t_\t_\n"
        "2\tit\t_\tPRON\t_\t_\t1\tdep\t_\tSpaceAfter=No\n"
        "3\t?\t_\tPUNCT\t_\t_\t1\tdep\t_\t_\n\n"
    )
    odd = Sentence(["a\tb", "", " c\nd  "], text="a\tb  c\r\nd")
    out = sentence_writer("conllu", column="NE", probs=True)(odd, Tagged(["O", "B-\tX", "O"], [1, 1, 1]))
    assert out.split("\n")[1] == "# text = a b  c  d"
    assert [row.split("\t")[1::8] for row in out.split("\n")[2:5]] == [
        ["a b", "Prob=1.0000"],
        ["_", "NE=B- X|Prob=1.0000"],
        ["c d", "Prob=1.0000"],
    ]
    assert "\n1\tx\t_\t_\t_\t_\t0\troot\t" in sentence_writer("conllu")(Sentence(["x"]), Tagged([""]))


def test_conllu_finds_spaces_between_words_without_offsets() -> None:
    known = Sentence(["I", "do", "n't", "."], text="I don't.")
    rows = sentence_writer("conllu")(known, Tagged(["X"] * 4)).split("\n")[2:7]
    assert [row.split("\t")[0::9] for row in rows] == [
        ["1", "_"], ["2-3", "SpaceAfter=No"], ["2", "_"], ["3", "_"], ["4", "_"]]
    foreign = Sentence(["I", "do", "not"], text="I don't.")
    assert "SpaceAfter" not in sentence_writer("conllu")(foreign, Tagged(["X"] * 3))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("1\ta\tb\n", "x:2: expected 10 columns separated by tabs, found 3"),
        ("1 a b c d e f g h i\n", "found 1"),
        ("x\ta" + "\t_" * 8, "x:2: expected an ID .* found 'x'"),
        ("²\ta" + "\t_" * 8, "found '²'"),
        ("1\ta" + "\t_" * 8, "x:2: expected a tag in column 4, found '_'"),
    ],
)
def test_conllu_errors(row: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        sentences("# c\n" + row, "conllu", need_tags=True)


@pytest.mark.parametrize("column", ["form", "DEPS", "a=b", "a b", "a|b"])
def test_conllu_columns_that_cannot_hold_tags(column: str) -> None:
    with pytest.raises(UsageError, match="key of MISC"):
        sentence_writer("conllu", column=column)


CELL = st.text(st.characters(exclude_characters="\t\r\n", exclude_categories=["Cs"]), max_size=6)
MISC = st.just("_") | st.lists(st.sampled_from(["B=1", "A=2", "Key=3", "Keys=4", "C", "B"]), max_size=4).map(
    "|".join
)
ROW = st.tuples(st.sampled_from(["1", "7", "1-2", "3.1"]), st.lists(CELL, min_size=8, max_size=8), MISC)


@given(
    st.lists(
        ROW.map(lambda row: "\t".join([row[0], *row[1], row[2]])) | CELL.map("#{}".format) | st.just("")
    ),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from(["upos", "feats", "Key"]),
)
def test_any_conllu_is_written_back_byte_for_byte(rows: list[str], ending: str, column: str) -> None:
    source = ending.join(rows)
    got = sentences(source, "conllu", column=column)
    assert written(sentence_writer("conllu", column=column), got) == source
    again = sentences(written(sentence_writer("conllu", column=column), got, "N"), "conllu", column=column)
    assert [s.tags for s in again] == [["N"] * len(s.words) for s in got]


# JSONL sentences


PLUS = "# global.columns = ID FORM UPOS NER:TYPE\n1\tAnna\tPROPN\tB-PER\n2\tsings\tVERB\tO\n\n"


def test_conllu_plus_names_its_columns() -> None:
    (got,) = sentences(PLUS, "conllu", column="ner:type,UPOS", need_tags=True)
    assert (got.words, got.tags, got.more_tags) == (["Anna", "sings"], ["B-PER", "O"], [["PROPN", "VERB"]])
    assert sentences(PLUS, "conllu", word_column="upos")[0].words == ["PROPN", "VERB"]
    assert written(sentence_writer("conllu"), [got], "T") == PLUS.replace("PROPN", "T").replace("VERB", "T")
    writer = sentence_writer("conllu", column="NER:TYPE", probs=True)
    assert writer(got, Tagged(["X", "Y"], [0.5, 0.5])) == PLUS.replace("B-PER", "X").replace("\tO", "\tY")
    bare = PLUS.replace("UPOS", "LEMMA")
    assert sentences(bare, "conllu")[0].tags is None
    for call in (lambda: sentences(bare, "conllu", need_tags=True),
                 lambda: sentences(PLUS, "conllu", column="SpaceAfter")):
        with pytest.raises(UsageError, match=r"^column: expected .*ner:type, found"):
            call()
    with pytest.raises(DataError, match=r"^x:1: word_column: expected one of the columns id, form, upos, n"):
        sentences(PLUS, "conllu", word_column="2")
    with pytest.raises(DataError, match=r"^x:2: expected 4 columns separated by tabs, found 3"):
        sentences("# global.columns = ID FORM UPOS NER\n1\ta\tX\n", "conllu")


# inline tags


def test_inline_tags_are_read() -> None:
    got = sentences("the_DET snake_case_NOUN  __PUNCT\n\nNew_B-WORK_OF_ART\tO_O\n", "inline", need_tags=True)
    assert [s.words for s in got] == [["the", "snake_case", "_"], [], ["New", "O"]]
    assert [s.tags for s in got] == [["DET", "NOUN", "PUNCT"], [], ["B-WORK_OF_ART", "O"]]
    candc = "Anna|NNP|I-PER ||SYM|O\n"
    (last,) = sentences(candc, "inline", need_tags=True)
    assert (last.words, last.tags) == (["Anna", "|"], ["I-PER", "O"])
    (both,) = sentences(candc, "inline", column="2,3")
    assert (both.tags, both.more_tags) == (["NNP", "SYM"], [["I-PER", "O"]])


@pytest.mark.parametrize(
    ("source", "column", "message"),
    [
        ("a_X b\n", None, "x:1: expected word_TAG or word|TAG, found 'b'"),
        ("a|X b|Y\nc|Z d_N\n", None, "x:2: expected word|TAG, found 'd_N'"),
        ("a|X|Y b|Y\n", "3", "x:1: column: expected a number from 1 to 2, or 'last', found '3'"),
        ("a_X\n", "upos", "x:1: column: expected a number from 1 to 2, or 'last', found 'upos'"),
    ],
)
def test_inline_errors(source: str, column: str | None, message: str) -> None:
    with pytest.raises(DataError, match="^" + re.escape(message)):
        sentences(source, "inline", column=column)


def test_jsonl_sentences_in_and_out() -> None:
    source = '{"id": 1, "tags": ["O", "B-P"], "tokens": ["a", "b\\nc"], "z": "é"}\n{"text": "Is it?", "k": 2}'
    first, second = sentences(source, "jsonl")
    assert (first.words, first.tags, first.text, first.place) == (["a", "b\nc"], ["O", "B-P"], None, "x:1")
    assert (second.words, second.tags, second.text) == (["Is", "it", "?"], None, "Is it?")
    writer = sentence_writer("jsonl", probs=True)
    out = writer(first, Tagged(["B-P", "I-P"], [1.0, 0.5], [(["O", "O"], -1.5)]))
    assert out == (
        '{"id": 1, "tags": ["B-P", "I-P"], "tokens": ["a", "b\\nc"], "z": "é", "probs": [1.0, 0.5], '
        '"nbest": [{"tags": ["O", "O"], "score": -1.5}], '
        '"entities": [{"start_token": 0, "end_token": 2, "label": "P", "text": "a b\\nc", "score": 0.75}]}\n'
    )
    assert json.loads(sentence_writer("jsonl")(second, Tagged(["O", "S-X", "E-X"]))) == {
        "text": "Is it?",
        "k": 2,
        "tokens": ["Is", "it", "?"],
        "tags": ["O", "S-X", "E-X"],
        "offsets": [[0, 2], [3, 5], [5, 6]],
        "entities": [
            {"start": 3, "end": 5, "label": "X", "text": "it"},
            {"start": 5, "end": 6, "label": "X", "text": "?"},
        ],
    }
    (old,) = sentences(out, "jsonl")  # it describes its old tags
    assert not {"probs", "nbest"} & json.loads(sentence_writer("jsonl")(old, Tagged(["X", "Y"]))).keys()
    assert "probs" in json.loads(sentence_writer("jsonl", column="t")(old, Tagged(["X", "Y"])))
    assert "entities" not in json.loads(sentence_writer("jsonl")(first, Tagged(["DET", "NOUN"])))
    (again,) = sentences(sentence_writer("jsonl", column="t")(second, Tagged(["X"] * 3)), "jsonl", column="t")
    assert (again.text, again.offsets, again.tags) == ("Is it?", second.offsets, ["X"] * 3)


@pytest.mark.parametrize(("text", "offsets"), [
    ("a b.", [[0, 1], [2, 3], [3, 4]]), (" ab\u00a0. ", [[1, 2], [2, 3], [4, 5]]), ("a c b.", None),
    ("a b . c", None), ("b a .", None),
])  # fmt: skip
def test_jsonl_has_offsets_if_the_text_consists_of_the_words(text: str, offsets: Any) -> None:
    (sentence,) = sentences(json.dumps({"text": text, "tokens": ["a", "b", "."]}), "jsonl")
    written = json.loads(sentence_writer("jsonl")(sentence, Tagged(["B-X", "I-X", "O"])))
    assert written.get("offsets") == offsets
    assert ("start" in written["entities"][0]) == (offsets is not None)


@pytest.mark.parametrize("offsets", [[[0, 9]], [[1, 0]], [[0]], ["ab"], [[0, True]], [], 7, None])
def test_jsonl_offsets_that_do_not_fit_are_not_used(offsets: Any) -> None:
    (got,) = sentences(json.dumps({"text": "ab", "tokens": ["ab"], "offsets": offsets}), "jsonl")
    assert got.offsets is None and got.text == "ab"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ('{"words": []}', "x:1: expected 'tokens' or 'text', found 'words'"),
        ('{"tokens": ["a"]}', "expected a key 'ner', found 'tokens'; choose a key with column"),
        ('{"tokens": ["a", "b"], "ner": ["O"]}', "found 2 words and 1 tags in 'ner'"),
        ('{"tokens": ["a"], "ner": []}', "x:1: expected labels in 'ner', found an empty list; correct"),
        ('{"tokens": "a", "ner": []}', "expected a list of strings in 'tokens', found a string"),
        ('{"tokens": [1], "ner": ["a"]}', "expected a list of strings in 'tokens'"),
        ('{"text": 1}', "expected a string in 'text'"),
    ],
)
def test_jsonl_sentence_errors(source: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        sentences(source, "jsonl", column="ner", need_tags=True)


@pytest.mark.parametrize("tags", [["news", "today"], "news", None, [1, 2, 3]])
def test_a_tags_key_of_jsonl_may_hold_something_else(tags: Any) -> None:
    (got,) = sentences(json.dumps({"text": "a b c", "tags": tags}), "jsonl")
    assert (got.words, got.tags) == (["a", "b", "c"], None)


# entities and HTML


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("", []),
        ("O O", []),
        ("I-X I-X B-X O I-Y", [(0, 2, "X"), (2, 3, "X"), (4, 5, "Y")]),  # IOB1
        ("B-X I-X B-X I-Y", [(0, 2, "X"), (2, 3, "X"), (3, 4, "Y")]),  # IOB2
        ("B-X E-X S-X S-X I-X", [(0, 2, "X"), (2, 3, "X"), (3, 4, "X"), (4, 5, "X")]),  # IOBES
        ("B-X L-X U-Y-Z O", [(0, 2, "X"), (2, 3, "Y-Z")]),  # BILOU
        ("DET NOUN", None),
        ("O -LRB-", None),
        ("B- O", None),
    ],
)
def test_entities(tags: str, expected: list[tuple[int, int, str]] | None) -> None:
    assert Tagged(tags.split()).entities() == expected


class Page(HTMLParser):
    """The text and the open elements that a browser sees."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""
        self.open: list[str] = []
        self.marks: list[dict[str, str | None]] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        if tag != "meta":
            self.open.append(tag)
        if tag == "mark":
            self.marks.append(dict(attrs))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] in (["p"], ["mark"]):
            self.text += data


@given(
    st.lists(
        st.tuples(st.text(st.characters(exclude_characters="\0\r")), st.sampled_from(["<b>", "X&Y", "O"]))
    )
)
@example([("</p><script>alert(1)</script>", "<b>"), ("&amp;", "X&Y")])
def test_html_shows_every_character_and_runs_nothing(rows: list[tuple[str, str]]) -> None:
    writer = sentence_writer("html")
    page = Page()
    sentence = Sentence([word for word, _ in rows])
    page.feed(writer.header + writer(sentence, Tagged([tag for _, tag in rows])) + writer.footer)
    page.close()
    assert page.text == " ".join(sentence.words) and page.open == []
    assert page.seen <= {"html", "head", "meta", "title", "style", "body", "p", "mark", "small"}


def test_html_shows_an_entity_as_one_run_of_the_original_text() -> None:
    (sentence,) = sentences("in  New  York <3", "text")
    tagged = Tagged(["O", "B-LOC", "I-LOC", "O", "O"], [1.0, 0.5, 1.0, 1.0, 1.0])
    out = sentence_writer("html", probs=True)(sentence, tagged)
    assert re.sub(r"--hue:\d+", "--hue:1", out) == (
        '<p>in  <mark style="--hue:1">New  York<small>LOC 0.7500</small></mark> &lt;3</p>\n'
    )
    assert out == sentence_writer("html", probs=True)(sentence, tagged)
    assert sentence_writer("html")(Sentence([]), Tagged([])) == "<p></p>\n"


def test_a_word_shows_the_tags_of_all_columns() -> None:
    sentence = Sentence(["New", "York"])
    tagged = Tagged(["B-LOC", "I-LOC"], [0.5, 1.0], more_tags=[["PROPN", "PROPN"], ["a<b", "_"]])
    out = [sentence_writer(name)(sentence, tagged) for name in ("tokens", "inline")]
    assert out == ["B-LOC/PROPN/a<b I-LOC/PROPN/_\n", "New_B-LOC/PROPN/a<b York_I-LOC/PROPN/_\n"]
    page = sentence_writer("html", probs=True)(sentence, tagged)
    assert re.sub(r"--hue:\d+", "", page) == (
        '<p><mark style="">New<small>B-LOC/PROPN/a&lt;b 0.5000</small></mark> '
        '<mark style="">York<small>I-LOC/PROPN/_ 1.0000</small></mark></p>\n')


# labels


WORDS = [WordWeight("a", 0, 1, 0.5), WordWeight("<b>", 2, 5, -0.25)]


@pytest.mark.parametrize(("format", "probs", "expected"), [
    ("text", False, "x\ty z\n"), ("text", True, "x\t0.7500\ty z\t0.2500\n"),
    ("jsonl", False, '{"id": 1, "label": "x", "prob": 0.75, "labels": [{"label": "x", "prob": 0.75}, '
                     '{"label": "y\\tz", "prob": 0.25}]}\n'),
    ("html", True, '<p><mark style="--hue:0">x<small>0.7500</small></mark> '
                   '<mark style="--hue:0">y\tz<small>0.2500</small></mark> a &lt;b&gt;</p>\n'),
])  # fmt: skip
def test_labels_are_written(format: str, probs: bool, expected: str) -> None:
    writer = label_writer(format, probs=probs, several=True)
    out = writer(Text("a <b>", fields={"id": 1}), [("x", 0.75), ("y\tz", 0.25)], None)
    assert re.sub(r"--hue:\d+", "--hue:0", out) == expected


def test_words_that_explain_a_label_are_written() -> None:
    text, labels = Text("a <b>"), [("x", 0.75)]
    writers = {name: label_writer(name, probs=False, several=False) for name in LABEL_FORMATS}
    out = {name: write(text, labels, WORDS) for name, write in writers.items()}
    assert out["text"] == "x\ta(+0.500) <b>(-0.250)\n"
    assert json.loads(out["jsonl"]) == {"text": "a <b>", "label": "x", "prob": 0.75, "explain": [
        {"token": "a", "start": 0, "end": 1, "weight": 0.5},
        {"token": "<b>", "start": 2, "end": 5, "weight": -0.25}]}
    assert re.sub(r'style="--hue:\d+"', "", out["html"]) == (
        '<p><small>Words in color '
        '<mark class="weight" style="--hue:215;--share:1.00" title="+">raise</mark> or '
        '<mark class="weight" style="--hue:30;--share:1.00" title="-">lower</mark> the probability of the '
        'first label. The stronger the color, the more it would change without the word.</small></p>\n'
        '<p><mark >x<small>0.7500</small></mark> '
        '<mark class="weight" style="--hue:215;--share:1.00" title="+0.5000">a</mark> '
        '<mark class="weight" style="--hue:30;--share:0.50" title="-0.2500">&lt;b&gt;</mark></p>\n')
    again = writers["html"](Text("a", labels=("y<",)), labels, WORDS[:1])
    assert "Words in color" not in again, "one legend is enough"
    assert "<small>gold: y&lt;</small>" in again


# every format


THREE = {  # sentences of two words, none, and one; the last line has no ending
    "text": "a b\n\nc",
    "tokens": "a b\n\nc",
    "conll": "a X\nb X\n\n\nc X",
    "conllu": "".join(
        f"{i}\t{w}" + "\t_" * 8 + e for i, w, e in [(1, "a", "\n"), (2, "b", "\n\n\n"), (1, "c", "")]
    ),
    "jsonl": '{"tokens": ["a", "b"]}\n{"tokens": []}\n{"text": "c"}',
}


@pytest.mark.parametrize("format", WRITE_FORMATS)
@pytest.mark.parametrize("source", THREE)
def test_every_format_into_every_other(source: str, format: str) -> None:
    got = sentences(THREE[source], source)
    assert [s.words for s in got] == [["a", "b"], [], ["c"]]
    out = into(format, got)
    if source != format:
        assert out.endswith("\n")
    if format == "html":
        assert out.count("<p>") == 3 and out.startswith("<!DOCTYPE") and out.endswith("</html>\n")
    elif format in ("text", "tokens", "inline"):
        assert out.count("\n") == 3


@pytest.mark.parametrize("format", WRITE_FORMATS)
@pytest.mark.parametrize("source", SENTENCE_FORMATS)
def test_examples_into_every_other_format(source: str, format: str) -> None:
    into(format, sentences(FORMATS[source].examples["sentences"], source))


def into(format: str, got: list[Sentence]) -> str:
    """Write sentences in a format and check that their words and new tags are read from it again."""
    writer = sentence_writer(format)
    out = writer.header + written(writer, got, "T") + writer.footer
    if FORMATS[format].has_tags:
        again = sentences(out, format)
        blank_lost = format == "conllu" and "sent_id" in out  # there, blank records begin a paragraph
        expected = [s for s in got if s.words or not blank_lost]
        assert [s.words for s in again] == [s.words for s in expected]
        assert [s.tags for s in again] == [["T"] * len(s.words) for s in expected]
    return out


@pytest.mark.parametrize("source", SENTENCE_FORMATS)
def test_empty_files(source: str) -> None:
    assert sentences("", source) == sentences(BOM, source) == []


@given(lines_text('\t ,"{}:#-_|.1[]'), st.sampled_from(TEXT_FORMATS))
def test_hostile_texts_give_records_or_one_clear_error(text: str, format: str) -> None:
    try:
        got = texts(text, format)
    except DataError as e:
        assert str(e).startswith("x:") and "expected" in str(e) and "\n" not in str(e)
    else:
        assert all(t.place.startswith("x:") for t in got)


@given(lines_text('\t ,"{}:#-_|.1[]'), st.sampled_from(SENTENCE_FORMATS), st.sampled_from(WRITE_FORMATS))
def test_hostile_sentences_give_one_record_each_or_one_clear_error(
    text: str, source: str, target: str
) -> None:
    try:
        got = sentences(text, source)
    except DataError as e:
        assert str(e).startswith("x:") and "expected" in str(e) and "\n" not in str(e)
        return
    out = written(sentence_writer(target), got, "T")
    if target in ("text", "tokens", "inline"):
        assert out.count("\n") == len(got)
    if target == "jsonl":
        assert [len(json.loads(row)["tokens"]) for row in out.split("\n")[:-1]] == [len(s.words) for s in got]


@pytest.mark.parametrize("format", ["text", "tokens", "inline"])
def test_formats_without_a_place_for_probabilities(format: str) -> None:
    with pytest.raises(UsageError, match=r"^probs: .* set to to html, jsonl, conllu, conll, tsv or csv$"):
        sentence_writer(format, probs=True)


def test_an_unknown_format_is_rejected_with_the_choices() -> None:
    calls: list[tuple[Callable[[], object], str, tuple[str, ...]]] = [
        (lambda: texts("", "html"), "format", TEXT_FORMATS),
        (lambda: pairs("", "text"), "format", PAIR_FORMATS),
        (lambda: sentences("", "html"), "format", SENTENCE_FORMATS),
        (lambda: sentence_writer("fasttext"), "to", WRITE_FORMATS),
        (lambda: label_writer("tokens", probs=False, several=False), "to", LABEL_FORMATS),
    ]
    for call, option, known in calls:
        with pytest.raises(UsageError, match=f"^{option}: expected one of {', '.join(known)}, found"):
            call()


def test_a_very_long_line_in_every_format() -> None:
    long = "x" * 1_000_000
    assert len(texts(long)[0].text) == len(texts(f"text\n{long}", "tsv")[0].text) == len(long)
    many = "x " * 200_000
    assert len(sentences(many, "tokens")[0].words) == 200_000
    assert sentences(f"{long} T\n", "conll")[0].words == [long]


ONE_PER_LINE = "The\ncat\nsleeps\n.\n"
TOKENIZED = "The cat sleeps .\nThe dog barks .\nThe bird sings .\n"
ROW = "1\ta" + "\t_" * 8 + "\n"


@pytest.mark.parametrize(
    ("path", "head", "kind", "expected"),
    [
        ("a.jsonl", "", "texts", "jsonl"),
        ("a.CSV.gz", "", "texts", "csv"),
        ("dir.tsv/a.tab", "", "texts", "tsv"),
        ("a.conllu.bz2", "", "sentences", "conllu"),
        ("a.conllup", "", "sentences", "conllu"),
        ("a.iob2", "", "sentences", "conll"),
        ("a.tok", "", "sentences", "tokens"),
        ("wiki.train.tokens", "The cat\n", "texts", "text"),
        ("a.csv", "some words\n", "sentences", "csv"),
        ("a.tsv", "1\tThe keys are here.\n2\tAnna sings.\n", "sentences", "tsv"),
        ("a.tsv", "", "pairs", "tsv"),
        ("a", "", "pairs", "tsv"),
        ("a.txt", "some text", "texts", "text"),
        ("-", "{ sic } said he", "texts", "text"),
        ("a", "one, two\nthree, four\n", "texts", "text"),
        ("-", "", "sentences", "text"),
        ("-", "\n" * 1000, "sentences", "text"),
        ("-", "Hello world\n", "sentences", "text"),
        ("-", "HELLO WORLD\nGOOD BYE\nSO LONG\n", "sentences", "text"),
        ("-", "a b c\nd e f\ng h i\n", "sentences", "text"),
        ("-", TOKENIZED, "sentences", "text"),
        ("-", TOKENIZED.replace(".", "7"), "sentences", "text"),
        ("-", TOKENIZED.replace(".", "\U0001f600"), "sentences", "text"),
        ("-", "I saw you\tyesterday\n", "sentences", "text"),
        ("-", "a\t1\nb\t2.5\n", "sentences", "text"),
        ("-", "send an E-mail\n", "sentences", "text"),
        ("-", "blood type O\n", "sentences", "text"),
        ("a.txt", "Drive along I-95\nThen take I-80\n", "sentences", "text"),
        ("-", "-DOCSTART- is here\n", "sentences", "text"),
        ("a", "text, he said\nhello, she said\n", "texts", "text"),
        ("-", "T1\tPER 0 4\tAnna\nT2\tLOC 8 12\tRome\n", "sentences", "text"),
    ],
)
def test_the_extension_decides_and_other_input_is_text(
    path: str, head: str, kind: Kind, expected: str
) -> None:
    assert guess_format(path, lines_of(head), kind) == Guess(expected)


@pytest.mark.parametrize(
    ("path", "head", "kind", "expected"),
    [
        ("a", '{"sentence_good": ', "pairs", "jsonl"),
        ("-", BOM + '{"text": "', "texts", "jsonl"),
        ("a.txt", '\n\n{"text": "a"}\n', "texts", "jsonl"),
        ("a.txt", "__label__x good\n", "texts", "fasttext"),
        ("eng.train", "-DOCSTART- -X- O O\n\nEU", "sentences", "conll"),
        ("-", "-DOCSTART-\n\n", "sentences", "conll"),
        ("a", "# sent_id = 1\n" + ROW, "sentences", "conllu"),
        ("-", ROW, "sentences", "conllu"),
        ("-", "# global.columns = ID FORM\n1\ta\n", "sentences", "conllu"),
    ],
)
def test_input_is_not_text_if_no_text_begins_like_that(
    path: str, head: str, kind: Kind, expected: str
) -> None:
    assert guess_format(path, lines_of(head), kind) == Guess(expected)


@pytest.mark.parametrize(
    ("path", "head", "kind", "similar"),
    [
        ("eng.train", "EU NNP I-NP I-ORG\r\nsays VBZ I-VP O\r\n\r\n", "sentences", "conll"),
        ("a.train", "The DT\ncat NN\n\nsat VBD\n", "sentences", "conll"),
        ("-", "Hà Nội\tNp\n", "sentences", "conll"),
        ("-", "Hà Nội\tnp\nlà\tv\n", "sentences", "conll"),
        ("-", ".\t.\n", "sentences", "conll"),
        ("-", "dog\tnoun\nsees\tverb\n", "sentences", "conll"),
        ("-", "Anna B-PER\nsings O\n", "sentences", "conll"),
        ("-", ONE_PER_LINE, "sentences", "conll"),
        ("-", "Anna|N sings|V .|.\n", "sentences", "inline"),
        ("a", "label\ttext\nx\ty\n", "texts", "tsv"),
        ("a", 'id,"text"\n1,a\n', "texts", "csv"),
        ("a", ",text,label\n0,hello,x\n", "texts", "csv"),
        ("-", "name,quote\nA,hello\nB,bye\n", "sentences", "csv"),
        ("-", ROW, "texts", "conllu"),
    ],
)
def test_what_text_looks_like_is_known(path: str, head: str, kind: Kind, similar: str) -> None:
    assert guess_format(path, lines_of(head), kind) == Guess("text", looks_like=similar)


@pytest.mark.parametrize(
    ("path", "head", "kind", "expected"),
    [
        ("a.tsv", "w\tO\n", "sentences", "conll"),
        ("a.txt", "The DT\ncat NN\n\nsat VBD\n", "sentences", "conll"),
        ("-", "The\tdet\ncat\tnoun\n", "sentences", "conll"),
        ("a.txt", "# id 1\tdomain=en\nAnna _ _ B-PER\nsings _ _ O\n", "sentences", "conll"),
        ("a.txt", "#\tx.org\t[2009]\n1\tAnna\tB-PER\tO\n2\tsings\tO\tO\n", "sentences", "conll"),
        ("a.txt", "#begin document (a); part 0\nAnna B-PER\nsings O\n", "sentences", "conll"),
        ("a.txt", "Anna_N sings_V ._.\n", "sentences", "inline"),
        ("-", "label\ttext\nx\ty\n", "texts", "tsv"),
        ("a.txt", "question,category\na,x\nb,y\n", "texts", "csv"),
    ],
)
def test_content_decides_between_formats_with_labels(
    path: str, head: str, kind: Kind, expected: str
) -> None:
    assert guess_format(path, lines_of(head), kind, supervised=True) == Guess(expected, certain=False)


@pytest.mark.parametrize("head", [TOKENIZED, "The cat sleeps on it\tpos\nThe dog barks at me\tneg\n"])
def test_text_is_not_taken_for_words_with_tags(head: str) -> None:
    assert guess_format("a.txt", lines_of(head), "sentences", supervised=True) == Guess("text")


@given(st.text(), st.sampled_from(KINDS), st.booleans())
def test_guess_format_never_fails(head: str, kind: Kind, supervised: bool) -> None:
    lines = Lines(io.BytesIO(head.encode("utf-8", "replace")), name="x")
    assert FORMATS[guess_format("-", lines, kind, supervised=supervised).format].reads(kind)


class Slow(io.BytesIO):
    """Bytes that arrive one line at a time."""

    def read1(self, size: int | None = -1, /) -> bytes:
        return self.readline(size)


LINES = [*ONE_PER_LINE.split("\n"), "a\tB", '{"text": ""}', "-DOCSTART-", ROW[:-1], "#"]


@given(st.lists(st.sampled_from(LINES)), st.sampled_from(KINDS), st.booleans())
def test_the_format_does_not_depend_on_how_fast_lines_arrive(
    rows: list[str], kind: Kind, supervised: bool
) -> None:
    raw = "".join(row + "\n" for row in rows).encode()
    slow, fast = [guess_format("-", Lines(source, name="x"), kind, supervised=supervised)
                  for source in (Slow(raw), io.BytesIO(raw))]
    assert slow[:2] == fast[:2]


def test_guess_format_checks_the_kind() -> None:
    with pytest.raises(UsageError, match=r"^kind: expected one of texts, pairs, judgments, sentences, seq"):
        guess_format("a", lines_of(""), "parses")  # type: ignore[arg-type]


# the registry


def records(text: str, format: str, kind: Kind) -> list[Any]:
    read: dict[str, Callable[..., Iterable[Any]]] = {
        "texts": read_texts, "pairs": read_pairs, "judgments": read_judgments, "sentences": sentences_of,
        "sequences": read_sequences}
    return list(read[kind](lines_of(text), format=format))


def sentences_of(lines: Lines, *, format: str) -> Iterable[Sentence]:
    return read_sentences(lines, format=format, split=split)


def test_names_and_extensions_are_unique() -> None:
    assert [format.name for format in FORMATS.values()] == list(FORMATS)
    extensions = [extension for format in FORMATS.values() for extension in format.extensions]
    assert len(set(extensions)) == len(extensions)
    for format in FORMATS.values():
        for extension in format.extensions:
            assert extension == extension.lower() and extension.startswith(".")
            assert format_named_by(f"dir.x/a{extension}.gz") == format.name


@pytest.mark.parametrize("name", FORMATS)
def test_every_row_of_the_registry_is_complete(name: str) -> None:
    format = FORMATS[name]
    kinds = {kind for kind in KINDS if format.reads(kind)}
    assert kinds or format.sentence_writer, "a format is good for something"
    assert format.examples.keys() == kinds
    assert not format.recognizes or kinds
    assert not format.has_labels or "texts" in kinds
    assert not format.has_targets or "sequences" in kinds
    assert not format.settings or kinds
    assert not (format.has_tags or format.raw) or "sentences" in kinds
    if format.has_tags or format.writes_probs or format.writes_nbest or format.named_columns:
        assert format.sentence_writer
    if "sentences" in kinds:
        assert output_format(name, probs=True) in WRITE_FORMATS
        assert FORMATS[output_format(name, probs=True)].writes_probs


@pytest.mark.parametrize("name", FORMATS)
def test_the_examples_of_a_format_are_whole_records_that_it_recognizes(name: str) -> None:
    format = FORMATS[name]
    for kind, content in format.examples.items():
        got = records(content, name, kind)
        assert got and all(getattr(record, "place", "x:").startswith("x:") for record in got)
        assert format.holds_record(content.splitlines(keepends=True))
        if (format.recognizes or format.signature) and kind in ("texts", "sentences") and (
                format.has_answers(kind)):
            assert guess_format("-", lines_of(content), kind, supervised=True).format == name
        if kind == "texts":
            assert any(record.labels for record in got) == format.has_labels
        if kind == "sentences":
            assert any(record.tags for record in got) == format.has_tags
        if kind == "sequences":
            assert any(record.targets for record in got) == format.has_targets
        if kind == "judgments":
            assert got == [Judgment("cat", "dog", 7.5), Judgment("cat", "rice", 0.3)]


@pytest.mark.parametrize("name", [name for name in WRITE_FORMATS if FORMATS[name].has_tags])
def test_written_examples_are_read_back_with_their_tags(name: str) -> None:
    got = records(FORMATS[name].examples["sentences"], name, "sentences")
    writer = sentence_writer(name)
    again = records(writer.header + written(writer, got) + writer.footer, name, "sentences")
    assert [(s.words, s.tags) for s in again] == [(s.words, s.tags) for s in got]


@pytest.mark.parametrize("name", [name for name in WRITE_FORMATS if FORMATS[name].writes_probs])
def test_a_format_that_writes_probabilities_shows_them(name: str) -> None:
    out = sentence_writer(name, probs=True)(Sentence(["a"]), Tagged(["X"], [0.625]))
    assert "0.625" in out and "0.625" not in sentence_writer(name)(Sentence(["a"]), Tagged(["X"], [0.625]))
