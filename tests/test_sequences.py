"""Reading sources and their targets: tables with and without a header, JSONL, parallel files, plain lines."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnntool.data.formats import UnlabeledError, guess_format, read_parallel, read_sequences
from rnntool.data.inputs import parallel_inputs
from rnntool.data.progress import silent
from rnntool.data.reading import Layout, TableReading
from rnntool.data.records import Transduction, fields_of, group_variants
from rnntool.data.streams import Lines
from rnntool.errors import DataError, UsageError, with_names

INFLECTION = "lemma\tform\tfeatures\nhaham\thahama\tN;ACC\nev\tevler\tN;PL\n"


def lines_of(text: str, name: str = "x") -> Lines:
    return Lines(io.BytesIO(text.encode()), name=name)


def read(text: str, format: str = "tsv", *, need_targets: bool = True, **options: Any) -> list[Transduction]:
    return list(read_sequences(lines_of(text), format=format, need_targets=need_targets, **options))


def contents(records: list[Transduction]) -> list[tuple[Any, ...]]:
    return [(record.source, *record.extra, *record.targets) for record in records]


# --- Tables ------------------------------------------------------------------------------------------------


def test_a_table_without_a_header() -> None:
    first, second = read("cat\tK AE T\r\n\ndog\tD AO G\n")
    assert first == Transduction("cat", ("K AE T",), (), {"source": "cat", "target": "K AE T"}, "x:1")
    assert second.place == "x:3"
    assert contents(read("1\tK AE T\tcat\n", source_columns="3", target_column="2")) == [("cat", "K AE T")]
    assert contents(read("cat,K AE T\n", "csv")) == [("cat", "K AE T")]
    assert contents(read("a;b\n", layout=Layout(delimiter=";"))) == [("a", "b")]


def test_a_table_with_a_header() -> None:
    (record,) = read("id\ttarget\tsource\n7\tK AE T\tcat\n")
    assert record == Transduction("cat", ("K AE T",), (), {"id": "7", "target": "K AE T", "source": "cat"},
                                  "x:2")
    named = read("word\tphones\ncat\tK AE T\n", source_columns="word")
    assert contents(named) == [("cat", "K AE T")], "the only other column has the targets"
    assert fields_of(named[0]) == {"word": "cat", "phones": "K AE T"}


def test_further_columns_of_the_source() -> None:
    expected = [("haham", "N;ACC", "hahama"), ("ev", "N;PL", "evler")]
    assert contents(read(INFLECTION, source_columns="lemma,features", target_column="form")) == expected
    assert contents(read(INFLECTION, source_columns="lemma, features")) == expected
    rows = INFLECTION.split("\n", 1)[1]
    assert contents(read(rows, source_columns="1,3")) == expected
    assert contents(read(rows, source_columns="1,3", layout=Layout(header=False))) == expected


def test_the_first_row_is_a_record_if_it_is_said_to_be_one() -> None:
    layout = Layout(header=False)
    assert contents(read("source\ttarget\n", layout=layout)) == [("source", "target")]
    assert contents(read("word\tphones\n", layout=layout)) == [("word", "phones")]


def test_without_targets_only_the_source_must_be_there() -> None:
    assert contents(read("cat\n\ndog\n", need_targets=False)) == [("cat",), ("",), ("dog",)]
    options: dict[str, Any] = {
        "source_columns": "lemma,features", "target_column": "form", "need_targets": False}
    assert contents(read("features\tlemma\nPL\tev\n", **options)) == [("ev", "PL")]
    assert contents(read(INFLECTION, **options))[0] == ("haham", "N;ACC", "hahama")
    assert contents(read("cat\tx\ty\n", need_targets=False)) == [("cat",)]
    assert contents(read("cat\t\n", need_targets=False)) == [("cat",)]


@pytest.mark.parametrize(("text", "options", "message"), [
    ("cat\n", {}, r"^x:1: expected a source and a target separated by tabs, found 1 column; set format or"),
    ("cat,K\n", {}, r"^x:1: expected columns separated by tabs, found commas; set format=csv"),
    ("cat;K\n", {}, r"^x:1: expected columns separated by tabs, found semicolons; set delimiter=';'"),
    ("a\tb\tc\n", {}, r"^x:1: expected 2 columns, found 3; choose columns with source_columns and target_c"),
    ("source\tb\tc\n", {}, r"^x:1: expected a column 'target', found 'source', 'b', 'c'; choose colum"),
    ("a\tb\nc\n", {}, r"^x:2: expected 2 columns as in the first row, found 1"),
    ("word\tphones\na\tb\n", {}, r"^x:1: expected a source and a target, found what looks like a header "
                                 r"row, 'word', 'phones'; name the columns with source_columns and "
                                 r"target_column, or if it is a record, set no_header"),
    ("a\tb\n\tc\n", {}, r"^x:2: expected a source, found an empty one; remove the record"),
    ("a\tb\n \tc\n", {}, r"^x:2: expected a source, found white space"),
    ("a\tb\nc\t\n", {}, r"^x:2: expected a target, found an empty one; fill it in, or skip such records"),
    (INFLECTION, {"source_columns": "lemma,featurs"}, r"^x:1: expected a column 'featurs' in the header row, "
                                                      r"found 'lemma', .*; did you mean 'features'\?"),
    (INFLECTION, {"source_columns": "lemma", "target_column": "tag"}, r"^x:1: expected a column 'tag' in"),
    (INFLECTION, {"source_columns": "lemma", "target_column": "lemma"}, r"^x:1: .* two columns, found"),
    ("a\tb\n", {"source_columns": "3"}, r"^x:1: expected a number from 1 to 2, because there is no header"),
    ("a\tb\n", {"source_columns": "1", "target_column": "5"}, r"^x:1: expected a number from 1 to 2"),
    ("a\tb\n" + f"c\t{'d' * 10_000}\n", {"longest": 9_999}, r"^x:2: expected a target of at most 9,999 "
                                                            r"symbols, found 10,000; correct the record, or "
                                                            r"raise max_length"),
    (f"{'d' * 51}\tb\n", {"longest": 50}, r"^x:1: expected a source of at most 50 symbols, found 51"),
])  # fmt: skip
def test_errors_name_the_line(text: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(text, **options)


@pytest.mark.parametrize("columns", ["lemma,lemma", "lemma,", ","])
def test_column_lists_that_cannot_be_right(columns: str) -> None:
    with pytest.raises(UsageError, match=r"^source_columns: expected different names or numbers separated"):
        read(INFLECTION, source_columns=columns)


def test_a_long_target_of_few_symbols() -> None:
    target = " ".join(["a:"] * 60)
    sizes = (len, lambda text: len(text.split()))
    assert len(read(f"a\t{target}\n", longest=60, sizes=sizes)) == 1
    with pytest.raises(DataError, match="at most 59 symbols, found 60"):
        read(f"a\t{target}\n", longest=59, sizes=sizes)


def test_records_without_a_target_can_be_skipped() -> None:
    skipped: list[UnlabeledError] = []
    assert contents(read("a\tb\nc\t\nd\te\n", on_unlabeled=skipped.append)) == [("a", "b"), ("d", "e")]
    assert [error.place for error in skipped] == ["x:2"]


cells = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1).filter(str.strip)


@given(st.lists(st.tuples(cells, cells), min_size=1))
def test_what_was_written_is_read(rows: list[tuple[str, str]]) -> None:
    table = "".join(f"{source}\t{target}\n" for source, target in rows)
    objects = "".join(json.dumps({"source": s, "target": t}) + "\n" for s, t in rows)
    assert contents(read(table, layout=Layout(header=False))) == rows
    assert contents(read(objects, "jsonl")) == rows
    sources, targets = ("".join(row[i] + "\n" for row in rows) for i in (0, 1))
    assert contents(list(read_parallel(lines_of(sources), lines_of(targets)))) == rows


# --- JSONL -------------------------------------------------------------------------------------------------


def test_json_objects() -> None:
    rows = ({"source": "cat", "target": "K AE T", "id": 3}, {"source": "a", "targets": ["AH", "EY"]})
    first, second = read("".join(json.dumps(row) + "\n" for row in rows), "jsonl")
    assert first == Transduction("cat", ("K AE T",), (), rows[0], "x:1")
    assert second.targets == ("AH", "EY")
    nested = '{"translation": {"de": "ja", "en": "yes"}, "tags": ["V", "PL"]}'
    options: dict[str, Any] = {"source_columns": "translation.de,tags", "target_column": "translation.en"}
    assert contents(read(nested, "jsonl", **options)) == [("ja", "V PL", "yes")]
    assert contents(read('{"source": "a"}\n{"source": "", "target": 7}', "jsonl", need_targets=False)) == [
        ("a",), ("",)]


@pytest.mark.parametrize(("text", "message"), [
    ('{"text": "a", "target": "b"}', r"^x:1: expected a key 'source', found 'text', 'target'; choose a key"),
    ('{"source": "a"}', r"^x:1: expected a key 'target', found 'source'; choose a key with target_column"),
    ('{"source": "a", "target": null}', r"^x:1: expected a target in 'target', found null"),
    ('{"source": "a", "targets": []}', r"^x:1: expected a target in 'targets', found an empty list"),
    ('{"source": "a", "target": 7}', r"^x:1: expected a list of strings in 'target', found a number"),
    ('{"source": 7, "target": "a"}', r"^x:1: expected a string in 'source', found a number"),
    ('{"source": "", "target": "a"}', r"^x:1: expected a source, found an empty one"),
])  # fmt: skip
def test_json_errors(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(text, "jsonl")


# --- CMUdict -----------------------------------------------------------------------------------------------

CMUDICT = """;;; # CMUdict  --  Major Version: 0.07
!EXCLAMATION-POINT  EH2 K S
#HASH-MARK  HH AE1 SH

## a heading
READ  R EH1 D	# verb
READ(1)  R  IY1 D #hash
(PAREN  P ER0
"""


def test_entries_of_cmudict() -> None:
    records = read(CMUDICT, "cmudict", variants=True)
    assert contents(records) == [
        ("!EXCLAMATION-POINT", "EH2 K S"), ("#HASH-MARK", "HH AE1 SH"), ("READ", "R EH1 D", "R IY1 D"),
        ("(PAREN", "P ER0")]
    assert [record.place for record in records] == ["x:2", "x:3", "x:6", "x:8"]
    assert fields_of(records[2]) == {"source": "READ", "target": "R EH1 D"}
    newer = "aalborg AO1 L B AO0 R G # place, danish\nit's(2) IH1 T S\n"
    assert contents(read(newer, "cmudict")) == [("aalborg", "AO1 L B AO0 R G"), ("it's", "IH1 T S")]
    assert contents(read("a\nb(1)\n", "cmudict", need_targets=False)) == [("a",), ("b",)]


@pytest.mark.parametrize(("text", "options", "message"), [
    ("A  AH0\nB(1) # no phones\n", {}, r"^x:2: expected a target, found an empty one; fill it in, or skip"),
    ("A  AH0\n  B IY1\n", {}, r"^x:2: expected a source, found an empty one"),
    ("A  AH0\n", {"source_columns": "lemma,tag"}, r"^x: expected columns lemma, tag, found words and their"),
])  # fmt: skip
def test_errors_in_cmudict(text: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(text, "cmudict", **options)


# --- Parallel files and plain lines ------------------------------------------------------------------------


def parallel(sources: str, targets: str, **options: Any) -> list[Transduction]:
    return list(read_parallel(lines_of(sources, "x.de"), lines_of(targets, "x.en"), **options))


def test_parallel_files() -> None:
    records = parallel("ja\t!\r\nnein\n", "yes\nno")
    assert records == [Transduction("ja\t!", ("yes",), place="x.de:1"),
                       Transduction("nein", ("no",), place="x.de:2")]
    assert parallel("", "") == []


@pytest.mark.parametrize(("sources", "targets", "message"), [
    ("a\nb\n", "c\n", r"^x\.en:2: expected as many lines as x\.de, found the end of the file; check that"),
    ("a\n", "c\nd\n", r"^x\.de:2: expected as many lines as x\.en, found the end of the file"),
    ("a\n\n", "c\nd\n", r"^x\.de:2: expected a source, found an empty one"),
    ("a\nb\n", "c\n\n", r"^x\.de:2: expected a target, found an empty one"),
])  # fmt: skip
def test_errors_in_parallel_files(sources: str, targets: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parallel(sources, targets)


def test_the_inputs_of_parallel_files(tmp_path: Path) -> None:
    sources, targets, more = (str(tmp_path / name) for name in ("a.de.gz", "a.en", "b.de"))
    Path(sources).write_bytes(gzip.compress(b"ja\nnein\n"))
    Path(targets).write_bytes("yes\nno\n".encode("utf-16"))
    with pytest.raises(DataError, match=r"a\.en:1: expected UTF-8"):
        list(parallel_inputs([sources], targets, read_parallel, reading=TableReading(), log=silent))
    Path(targets).write_text("yes\nno\n")
    inputs = parallel_inputs([sources], targets, read_parallel, reading=TableReading(), log=silent)
    assert contents(list(inputs)) == [("ja", "yes"), ("nein", "no")] and inputs.formats == ["text"]
    with pytest.raises(UsageError, match=r"^target: expected one file of sources, found 2; join them with"):
        parallel_inputs([sources, more], targets, read_parallel, reading=TableReading(), log=silent)
    with pytest.raises(UsageError, match=r"^standard input can be read only once"):
        parallel_inputs(["-"], "-", read_parallel, reading=TableReading(), log=silent)


def test_a_plain_line_is_a_source() -> None:
    assert contents(read("nets\n\nnet\n", "text", need_targets=False)) == [("nets",), ("",), ("net",)]
    options: dict[str, Any] = {"source_columns": "lemma,features", "need_targets": False}
    assert contents(read("ev\tN;PL\n\n", "text", **options)) == [("ev", "N;PL"), ("",)]
    with pytest.raises(DataError, match=r"^x:1: expected 2 columns, lemma, features, separated by tabs, "):
        read("ev\n", "text", **options)
    with pytest.raises(DataError, match=r"^x:1: expected a target, found plain text; name its format"):
        read("ev\n", "text")


def test_a_tab_in_a_plain_line_is_mentioned_once() -> None:
    lines = lines_of("a\tb\nc\td\n")
    lines.warn = (warned := []).append
    assert len(list(read_sequences(lines, format="text"))) == 2
    assert list(map(with_names, warned)) == [
        "x:1: the tab is read as a character of the source; if it separates columns, set format=tsv"]


# --- Variants and formats ----------------------------------------------------------------------------------


def test_variants_are_references_of_one_record() -> None:
    rows = "a\tAH\nread\tR IY D\na\tEY\nread\tR EH D\na\tAH\n"
    assert contents(read(rows)) == [
        ("a", "AH"), ("read", "R IY D"), ("a", "EY"), ("read", "R EH D"), ("a", "AH")]
    first, second = read(rows, variants=True)
    assert (first.source, first.targets, first.place) == ("a", ("AH", "EY"), "x:1")
    assert (second.source, second.targets, second.place) == ("read", ("R IY D", "R EH D"), "x:2")
    assert len(read(INFLECTION + "ev\tevi\tN;ACC\n", source_columns="lemma,features", variants=True)) == 3
    assert contents(parallel("a\na\n", "b\nc\n", variants=True)) == [("a", "b", "c")]


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xy"), st.sampled_from("TU"))))
def test_grouping_keeps_every_target_once(rows: list[tuple[str, str, str]]) -> None:
    groups = group_variants(Transduction(source, (target,), (extra,)) for source, extra, target in rows)
    keys = [(group.source, *group.extra) for group in groups]
    assert keys == list(dict.fromkeys((source, extra) for source, extra, _ in rows))
    for (source, extra), group in zip(keys, groups, strict=True):
        expected = dict.fromkeys(t for s, e, t in rows if (s, e) == (source, extra))
        assert group.targets == tuple(expected)


@pytest.mark.parametrize(("path", "head", "supervised", "expected"), [
    ("a.tsv", "cat\tK AE T\n", True, "tsv"),
    ("a.txt", "cat\tK AE T\n", True, "tsv"),
    ("-", "cat\tK AE T\n", True, "tsv"),
    ("-", "cat\tK AE T\n", False, "text"),
    ("a.csv", "cat,K AE T\n", False, "csv"),
    ("-", '{"source": "a", "target": "b"}\n', True, "jsonl"),
    ("-", '{"source": "a"}\n', False, "jsonl"),
    ("cmudict.dict", "a AH0\n", False, "cmudict"),
    ("cmudict-0.7b", CMUDICT, False, "cmudict"),
    ("-", "aaa  T R IH2 P AH0 L EY1 # acronym\n'm M\n", True, "cmudict"),
    ("-", "IBM PC\n", True, "tsv"),
    ("a.txt", "EH2 K\tS AE1\n", True, "tsv"),
    ("a.de", "zwei junge weiße männer .\n", False, "text"),
])  # fmt: skip
def test_formats_are_recognized(path: str, head: str, supervised: bool, expected: str) -> None:
    assert guess_format(path, lines_of(head), "sequences", supervised=supervised).format == expected
