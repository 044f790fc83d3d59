"""Labels and tagging schemes: round trips, detection, broken tags as in conlleval, and transition masks."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnntool.data.labels import (
    SCHEMES,
    Labels,
    Span,
    convert,
    detect_scheme,
    span_advice,
    spans,
    tags_from_spans,
    transition_mask,
)
from rnntool.errors import ModelError
from rnntool.evaluation.metrics import strict_spans

LETTERS = {"iob1": "BI", "iob2": "BI", "iobes": "BIES", "bilou": "BILU", "bmewo": "BMEW", "bmes": "BMES"}
LABELS = ["PER", "LOC", "B-x", "é"]


@st.composite
def span_lists(draw: st.DrawFn) -> tuple[list[Span], int]:
    """Spans without overlap, and the length of their sequence."""
    drawn, n = [], 0
    for gap, size, label in draw(
        st.lists(st.tuples(st.integers(0, 2), st.integers(1, 4), st.sampled_from(LABELS)), max_size=5)
    ):
        drawn.append(Span(n + gap, n + gap + size, label))
        n += gap + size
    return drawn, n + draw(st.integers(0, 2))


def broken_tags(scheme: str) -> st.SearchStrategy[list[str]]:
    """Random tags of a scheme."""
    tags = ["O", *(f"{letter}-{label}" for letter in LETTERS[scheme] for label in "XY")]
    return st.lists(st.sampled_from(tags), max_size=8)


def conlleval_spans(tags: list[str]) -> list[Span]:
    """Spans by the rules of the conlleval script (startOfChunk, endOfChunk)."""
    chunks: list[Span] = []
    start, previous, previous_label = 0, "O", ""
    for i, tag in enumerate([*tags, "O"]):
        letter, label = tag[0], tag[2:]
        differs = previous_label != label
        end = previous in "ES" or (previous in "BI" and letter in "BSO") or (previous != "O" and differs)
        begin = letter in "BS" or (previous in "ESO" and letter in "EI") or (letter != "O" and differs)
        if end and previous != "O":
            chunks.append(Span(start, i, previous_label))
        if begin:
            start = i
        previous, previous_label = letter, label
    return chunks


# --- names and ids ---------------------------------------------------------------------------------------


def test_names_and_ids() -> None:
    labels = Labels(["b", "a"])
    assert labels.names == ("b", "a") and list(labels) == ["b", "a"] and len(labels) == 2
    assert labels.id("a") == 1 and labels.get("a", -1) == 1 and labels.get("z", -1) == -1
    assert "a" in labels and "z" not in labels and labels == Labels("ba") and labels != Labels("ab")
    with pytest.raises(KeyError):
        labels.id("z")
    with pytest.raises(ValueError, match="'a' occurs twice"):
        Labels("aba")


def test_order_depends_on_counts_and_names_alone() -> None:
    names = list("ccbbdaaa")
    assert Labels.collect(names).names == ("a", "b", "c", "d")
    for seed in range(5):
        random.Random(seed).shuffle(names)
        assert Labels.collect(names) == Labels.from_counts({"b": 2, "a": 3, "d": 1, "c": 2})


@settings(deadline=None)
@given(
    st.lists(
        st.text(st.characters() | st.sampled_from("\\nru\n\r\t\x85\u2028\ud800")), unique=True, min_size=1
    )
)
def test_saved_names_are_loaded_unchanged(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    folder = tmp_path_factory.mktemp("labels")
    Labels(names).save(folder)
    assert Labels.load(folder).names == tuple(names)
    assert (folder / "labels.txt").read_bytes().count(b"\n") == len(names)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "can't be read (no such file"),
        (b"", "cut short"),
        (b"a\nb", "cut short"),
        (b"a\n\xff\n", "expected utf-8"),
        (b"a\na\n", "'a' occurs twice"),
        (b"a\\x\n", "expected an escape such as"),
        (b"a\\\n", "expected an escape such as"),
    ],
)
def test_damaged_file_is_a_model_error(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "labels.txt").write_bytes(content)
    with pytest.raises(ModelError) as caught:
        Labels.load(tmp_path)
    assert "labels.txt: " in str(caught.value) and message in str(caught.value).lower()


# --- schemes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "scheme"),
    [
        ("O I-A I-A B-A O", "iob1"),
        ("I-A I-B", "iob1"),
        ("O B-A I-A O B-B", "iob2"),
        ("B-A B-A B-B", "iob2"),
        ("I-A O B-A", "iob2"),  # a tie
        ("B-A O B-A O I-A", "iob2"),  # one slip
        ("B-A E-A S-B O", "iobes"),
        ("S-A O", "iobes"),
        ("B-A I-A L-A U-B", "bilou"),
        ("B-A M-A E-A W-B", "bmewo"),
        ("B-A M-A E-A S-B", "bmes"),
        ("L-A S-A", None),
        ("NOUN VERB O", None),
        ("B-A X", None),
        ("B-A B-", None),
        ("-LRB- B-A", None),
        ("B I O", None),
        ("O O", None),
        ("", None),
        ("_ B-A", None),
    ],
)
def test_detection(text: str, scheme: str | None) -> None:
    assert detect_scheme([["O"], [], text.split(), ["O"]] if text else []) == scheme
    assert detect_scheme([[*text.split(), ""]]) is None  # the empty tag is plain


@pytest.mark.parametrize(
    ("names", "advice"),
    [
        ("O PER-B PER-I LOC-B", "write B-PER instead of PER-B"),
        ("O PER_B PER_I", "write B-PER instead of PER_B"),
        ("O B_PER I_PER", "write B-PER instead of B_PER"),
        ("O B I", "write B-NAME instead of B"),
        ("O PERSON WORK_OF_ART", "write B-PERSON and I-PERSON instead of PERSON"),
        ("O", None),
        ("NOUN O VERB", None),  # most words have a tag
        ("B E S M", None),  # word segmentation
        ("O B-PER x", None),  # probably a mistake in span tags
        ("NN VB-I", None),
        ("", None),
    ],
)
def test_tags_that_look_like_spans_in_another_notation(names: str, advice: str | None) -> None:
    assert span_advice(names.split()) == advice


def test_detection_treats_sentences_separately() -> None:
    assert detect_scheme([["I-A"], ["I-A"], ["B-B"]]) == "iob1"


def test_tags_of_each_scheme_by_hand() -> None:
    expected = [Span(0, 2, "A"), Span(2, 3, "A"), Span(3, 6, "B")]
    tags_by_scheme = {
        "iob1": "I-A I-A B-A I-B I-B I-B O",
        "iob2": "B-A I-A B-A B-B I-B I-B O",
        "iobes": "B-A E-A S-A B-B I-B E-B O",
        "bilou": "B-A L-A U-A B-B I-B L-B O",
        "bmewo": "B-A E-A W-A B-B M-B E-B O",
        "bmes": "B-A E-A S-A B-B M-B E-B O",
    }
    assert tags_by_scheme.keys() == set(SCHEMES)
    for scheme, text in tags_by_scheme.items():
        assert tags_from_spans(expected, 7, scheme) == text.split()
        assert spans(text.split(), scheme) == expected
        assert detect_scheme([text.split()]) == scheme


@settings(deadline=None)
@given(span_lists(), st.sampled_from(SCHEMES), st.sampled_from(SCHEMES))
def test_valid_tags_convert_there_and_back(case: tuple[list[Span], int], source: str, target: str) -> None:
    expected, n = case
    tags = tags_from_spans(expected, n, source)
    assert spans(tags, source) == expected and strict_spans(tags, source) == set(expected)
    assert convert(tags, source, target) == tags_from_spans(expected, n, target)
    assert convert(convert(tags, source, target), target, source) == tags


@pytest.mark.parametrize("scheme", ["iob1", "iob2", "iobes"])
@settings(deadline=None)
@given(data=st.data())
def test_broken_tags_are_read_as_conlleval_reads_them(scheme: str, data: st.DataObject) -> None:
    tags = data.draw(broken_tags(scheme))
    assert spans(tags, scheme) == conlleval_spans(tags)


@pytest.mark.parametrize("scheme", SCHEMES)
@settings(deadline=None)
@given(data=st.data())
def test_a_repair_is_valid_and_keeps_the_spans(scheme: str, data: st.DataObject) -> None:
    tags = data.draw(broken_tags(scheme))
    repaired = convert(tags, scheme, scheme)
    assert strict_spans(repaired, scheme) == set(spans(tags, scheme))
    assert spans(repaired, scheme) == spans(tags, scheme)
    assert convert(repaired, scheme, scheme) == repaired


@pytest.mark.parametrize("scheme", SCHEMES)
@settings(deadline=None)
@given(data=st.data())
def test_strict_spans_have_well_formed_tags(scheme: str, data: st.DataObject) -> None:
    tags = data.draw(broken_tags(scheme))
    lenient = spans(tags, scheme)
    well_formed = [
        span
        for span in lenient
        if scheme == "iob1"
        or tags[span.start : span.end]
        == tags_from_spans([Span(0, span.end - span.start, span.label)], span.end - span.start, scheme)
    ]
    assert strict_spans(tags, scheme) == set(well_formed)


def test_tags_that_a_scheme_lacks_are_outside() -> None:
    assert spans(["S-A", "B-A", "X-A", "I-A", "B", ""], "iob2") == [Span(1, 2, "A"), Span(3, 4, "A")]


@pytest.mark.parametrize("wrong", [[(0, 2), (1, 3)], [(0, 5)], [(1, 1)], [(-1, 1)], [(0, 1), (0, 1)]])
def test_impossible_spans_raise(wrong: list[tuple[int, int]]) -> None:
    with pytest.raises(ValueError, match="overlaps"):
        tags_from_spans([Span(a, b, "A") for a, b in wrong], 4, "iob2")


def test_spans_may_come_in_any_order() -> None:
    assert tags_from_spans([Span(2, 3, "B"), Span(0, 2, "A")], 3, "iob1") == ["I-A", "I-A", "I-B"]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_mask_allows_exactly_the_valid_sequences(scheme: str) -> None:
    names = ["O", *(f"{letter}-{label}" for letter in LETTERS[scheme] for label in "XY")]
    start, transitions, end = transition_mask(names, scheme)
    for n in (1, 2, 3):
        for path in itertools.product(range(len(names)), repeat=n):
            tags = [names[i] for i in path]
            allowed = (
                start[path[0]]
                and end[path[-1]]
                and all(transitions[a, b] for a, b in itertools.pairwise(path))
            )
            assert allowed == (convert(tags, scheme, scheme) == tags), tags


def test_mask_of_plain_tags_allows_everything() -> None:
    assert all(part.all() for part in transition_mask(["NOUN", "B-X"], None))
    assert [part.shape for part in transition_mask([], "iob2")] == [(0,), (0, 0), (0,)]
    assert all(part.dtype == np.bool_ for part in transition_mask(["O"], "iobes"))
