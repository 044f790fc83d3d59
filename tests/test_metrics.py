"""Reports compared with results by hand, and span metrics compared with seqeval."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import warnings
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnntool.data.labels import convert
from rnntool.evaluation.metrics import (
    calibration_error,
    classification_report,
    f1,
    lm_report,
    signature,
    span_counts,
    tagging_report,
    unseen_labels,
    vocabulary_report,
)

IOB2 = ["O", "B-X", "I-X", "B-Y", "I-Y"]
IOBES = ["O", *(f"{letter}-{label}" for letter in "BIES" for label in "XY")]
BILOU = {"E": "L", "S": "U"}


@pytest.fixture(autouse=True)
def no_warning() -> Any:
    """Fail on any warning, such as a division by zero."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        yield


def sides(tags: list[str]) -> st.SearchStrategy[list[tuple[list[str], list[str]]]]:
    """Sentences as (gold, predicted) with random tags."""
    pair = st.lists(st.tuples(st.sampled_from(tags), st.sampled_from(tags)), max_size=8)
    return st.lists(
        pair.map(lambda rows: ([g for g, _ in rows], [p for _, p in rows])), min_size=1, max_size=4
    )


def span_f1(gold: list[list[str]], predicted: list[list[str]], scheme: str) -> float:
    """F1 from the counts of all sentences."""
    counts = [span_counts(g, p, scheme) for g, p in zip(gold, predicted, strict=True)]
    return float(f1(np.array([(0, 0, 0), *counts], float).sum(axis=0)))


def plain(value: Any) -> bool:
    """Whether all values are of Python's own types. NumPy's float64 would pass `isinstance`."""
    if isinstance(value, dict):
        return all(type(key) is str and plain(item) for key, item in value.items())
    return type(value) in (int, float)


# --- language models -------------------------------------------------------------------------------------


def test_lm_report_by_hand() -> None:
    # four tokens of probability 1/2, 1/4, 1/8, 1/4: eight bits
    report = lm_report(nll_nats=8 * math.log(2), tokens=4, characters=16, bytes=32, oov=1)
    assert report == {
        "perplexity": pytest.approx(4.0),
        "nll_nats": pytest.approx(2 * math.log(2)),
        "bits_per_char": pytest.approx(0.5),
        "bits_per_byte": pytest.approx(0.25),
        "tokens": 4,
        "oov": 1,
    }
    assert plain(report)


def test_lm_report_at_the_edges() -> None:
    nothing = lm_report(nll_nats=0.0, tokens=0, characters=0, bytes=0, oov=0)
    assert nothing["nll_nats"] == nothing["bits_per_char"] == nothing["bits_per_byte"] == 0.0
    assert lm_report(nll_nats=math.inf, tokens=1, characters=1, bytes=1, oov=0)["perplexity"] == math.inf
    assert lm_report(nll_nats=5000.0, tokens=1, characters=1, bytes=1, oov=0)["perplexity"] == math.inf


# --- classifiers -----------------------------------------------------------------------------------------


def test_classification_by_hand() -> None:
    report = classification_report(["a", "a", "b", "new"], ["a", "b", "b", "a"])
    assert report["accuracy"] == 0.5
    assert report["per_label"] == {
        "a": {"precision": 0.5, "recall": 0.5, "f1": 0.5, "support": 2},
        "b": {"precision": 0.5, "recall": 1.0, "f1": pytest.approx(2 / 3), "support": 1},
        "new": {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 1},
    }
    assert report["macro_f1"] == pytest.approx((1 / 2 + 2 / 3 + 0) / 3)
    assert report["micro_f1"] == 0.5
    assert report["confusion"] == {"a": {"a": 1, "b": 1}, "b": {"b": 1}, "new": {"a": 1}}
    assert plain(report)


def test_a_tuple_of_one_label_equals_the_label() -> None:
    assert classification_report([("a",), ("b",)], [("a",), ("a",)]) == classification_report(
        ["a", "b"], ["a", "a"]
    )


def test_multi_label_by_hand() -> None:
    report = classification_report([("a", "b"), ("a",), ()], [("b", "a"), ("b",), ("a",)])
    assert report["accuracy"] == pytest.approx(1 / 3)
    assert report["per_label"]["a"] == {"precision": 0.5, "recall": 0.5, "f1": 0.5, "support": 2}
    assert report["per_label"]["b"] == {
        "precision": 0.5,
        "recall": 1.0,
        "f1": pytest.approx(2 / 3),
        "support": 1,
    }
    assert report["micro_f1"] == pytest.approx(2 * 2 / (4 + 3))
    assert report["confusion"] == {}
    assert plain(report)


def test_classification_of_nothing() -> None:
    report = classification_report([], [])
    assert report == {"accuracy": 0.0, "macro_f1": 0.0, "micro_f1": 0.0, "per_label": {}, "confusion": {}}


def test_sides_of_unequal_length_raise() -> None:
    with pytest.raises(ValueError, match="zip"):
        classification_report(["a"], [])
    with pytest.raises(ValueError, match="zip"):
        tagging_report([["O"]], [["O", "O"]], "iob2")


# --- taggers ---------------------------------------------------------------------------------------------


def test_plain_tags_by_hand() -> None:
    report = tagging_report([["N", "V"], [], ["N", "X"]], [["N", "N"], [], ["N", "V"]], None)
    assert report == {
        "tokens": 4,
        "accuracy": 0.5,
        "per_label": {
            "N": {"precision": pytest.approx(2 / 3), "recall": 1.0, "f1": pytest.approx(0.8), "support": 2},
            "V": {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 1},
            "X": {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 1},
        },
        "confusion": {"N": {"N": 2}, "V": {"N": 1}, "X": {"V": 1}},
    }
    assert plain(report)


def test_spans_by_hand() -> None:
    gold = [["B-PER", "I-PER", "O", "B-LOC"], ["B-NEW", "O", "B-LOC", "I-LOC"]]
    predicted = [["B-PER", "I-PER", "O", "B-LOC"], ["O", "B-PER", "I-LOC", "I-LOC"]]
    report = tagging_report(gold, predicted, "iob2")
    assert report["tokens"] == 8 and report["accuracy"] == pytest.approx(5 / 8)
    assert report["precision"] == pytest.approx(2 / 3)  # I-LOC I-LOC begins nothing
    assert report["recall"] == 0.5
    assert report["f1"] == pytest.approx(4 / 7) == span_f1(gold, predicted, "iob2")
    assert report["f1_conlleval"] == pytest.approx(3 / 4)
    assert report["per_label"]["PER"] == {
        "precision": 0.5,
        "recall": 1.0,
        "f1": pytest.approx(2 / 3),
        "support": 1,
    }
    assert report["per_label"]["NEW"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 1}
    assert list(report["per_label"]) == ["LOC", "NEW", "PER"]
    assert report["confusion"] == {
        "LOC": {"LOC": 3}, "NEW": {"O": 1}, "O": {"O": 1, "PER": 1}, "PER": {"PER": 2}}
    assert plain(report) and json.loads(json.dumps(report)) == report


@settings(deadline=None)
@given(sides(IOB2))
def test_iob2_scores_equal_those_of_seqeval(sentences: list[tuple[list[str], list[str]]]) -> None:
    from seqeval.metrics import f1_score, precision_score, recall_score
    from seqeval.scheme import IOB2 as STRICT

    gold, predicted = [g for g, _ in sentences], [p for _, p in sentences]
    report = tagging_report(gold, predicted, "iob2")
    strict = {"mode": "strict", "scheme": STRICT, "zero_division": 0}
    if all(tag == "O" for pair in sentences for side in pair for tag in side if tag[0] != "I"):
        assert report["f1"] == 0.0  # seqeval can't average without labels
    else:
        assert report["precision"] == pytest.approx(precision_score(gold, predicted, **strict))
        assert report["recall"] == pytest.approx(recall_score(gold, predicted, **strict))
        assert report["f1"] == pytest.approx(f1_score(gold, predicted, **strict))
        assert report["f1_conlleval"] == pytest.approx(f1_score(gold, predicted, zero_division=0))
    assert span_f1(gold, predicted, "iob2") == pytest.approx(report["f1"])


@settings(deadline=None)
@given(sides(IOBES))
def test_iobes_scores_equal_those_of_seqeval(sentences: list[tuple[list[str], list[str]]]) -> None:
    from seqeval.metrics import f1_score
    from seqeval.scheme import IOBES as STRICT

    gold, predicted = [g for g, _ in sentences], [p for _, p in sentences]
    report = tagging_report(gold, predicted, "iobes")
    expected = f1_score([*gold, ["S-Z"]], [*predicted, ["O"]], mode="strict", scheme=STRICT, zero_division=0)
    assert tagging_report([*gold, ["S-Z"]], [*predicted, ["O"]], "iobes")["f1"] == pytest.approx(expected)
    assert span_f1(gold, predicted, "iobes") == pytest.approx(report["f1"])

    def bilou(side: list[list[str]]) -> list[list[str]]:
        return [[BILOU.get(tag[0], tag[0]) + tag[1:] for tag in tags] for tags in side]

    assert tagging_report(bilou(gold), bilou(predicted), "bilou") == report


@settings(deadline=None, max_examples=30)
@given(sides(IOB2))
def test_valid_tags_score_the_same_in_every_scheme(sentences: list[tuple[list[str], list[str]]]) -> None:
    scores = set()
    for scheme in ("iob1", "iob2", "iobes", "bmewo"):
        gold, predicted = ([convert(pair[side], "iob2", scheme) for pair in sentences] for side in (0, 1))
        report = tagging_report(gold, predicted, scheme)
        scores.add((report["precision"], report["recall"], report["f1"], report["f1_conlleval"]))
    assert len(scores) == 1


def test_labels_that_seqeval_would_split_stay_whole() -> None:
    tags = [["B--", "I--", "B-x-", "B--x", "B-micro avg", "B-x"]]
    report = tagging_report(tags, tags, "iob2")
    assert report["f1"] == 1.0 and list(report["per_label"]) == ["-", "-x", "micro avg", "x", "x-"]


@pytest.mark.parametrize("sentences", [[], [[]], [["O", "O"]]])
def test_no_span_anywhere(sentences: list[list[str]]) -> None:
    report = tagging_report(sentences, sentences, "iob2")
    assert report["precision"] == report["recall"] == report["f1"] == report["f1_conlleval"] == 0.0
    assert report["per_label"] == {} and span_f1(sentences, sentences, "iob2") == 0.0


def test_only_span_metrics_load_seqeval_and_only_reports_its_dependencies() -> None:
    code = (
        "import sys; from rnntool.evaluation.metrics import *; tagging_report([['N']], [['N']], None);"
        "classification_report(['a'], ['a']);"
        "heavy = lambda: print([name for name in ('seqeval', 'sklearn', 'torch') if name in sys.modules]);"
        "heavy(); span_counts(['B-X'], ['B-X'], 'iob2'); heavy()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n['seqeval']\n" and done.stderr == ""


# --- unknown words, unseen labels, calibration-------------------------------------------------------------


def test_accuracy_of_known_and_unknown_words() -> None:
    correct, in_vocabulary = np.array([True, False, True, True]), np.array([True, True, False, True])
    report = vocabulary_report(correct, in_vocabulary)
    assert report == {"accuracy_known": pytest.approx(2 / 3), "accuracy_unknown": 1.0, "unknown": 0.25}
    assert plain(report)
    assert vocabulary_report(correct, in_vocabulary | True) == {
        "accuracy_known": 0.75, "accuracy_unknown": None, "unknown": 0.0}
    nothing = np.array([], bool)
    assert vocabulary_report(nothing, nothing) == {
        "accuracy_known": None, "accuracy_unknown": None, "unknown": 0.0}


def test_unseen_labels_come_most_frequent_first() -> None:
    gold = Counter({"a": 5, "b": 2, "c": 3})
    assert list(unseen_labels(gold, ("a",)).items()) == [("c", 3), ("b", 2)]
    assert unseen_labels(Counter(), ()) == {}


def test_calibration_by_hand() -> None:
    # bins of a fifteenth: 0.95 and 0.99 share the last one; 1/15 still belongs to the first
    confidence = [0.95, 0.99, 0.5, 1 / 15, 0.01]
    correct = [True, False, True, False, False]
    last, middle, first = abs(1 - (0.95 + 0.99)), 0.5, 1 / 15 + 0.01
    assert calibration_error(confidence, correct) == pytest.approx((last + middle + first) / 5)
    assert calibration_error([1.0, 0.0], [True, False]) == 0.0
    assert calibration_error([1.0, 1.0], [True, False]) == 0.5
    assert calibration_error([], []) == 0.0
    assert type(calibration_error([0.5], [True])) is float


def test_calibration_equals_that_of_a_loop_over_bins() -> None:
    rng = np.random.default_rng(3)
    confidence = rng.uniform(size=500)
    correct = rng.uniform(size=500) < confidence**2
    error = 0.0
    for i in range(15):
        in_bin = (confidence > i / 15) & (confidence <= (i + 1) / 15)
        error += in_bin.sum() / 500 * abs(correct[in_bin].mean() - confidence[in_bin].mean())
    assert calibration_error(confidence.tolist(), correct.tolist()) == pytest.approx(error)


# --- signature -------------------------------------------------------------------------------------------


def test_signature() -> None:
    parts = {"rnntool": "0.1.0", "model": "en-pos", "seed": 1, "tok": None, "metric": "f1|strict"}
    assert signature(**parts) == "rnntool:0.1.0|model:en-pos|seed:1|metric:f1%7Cstrict"
