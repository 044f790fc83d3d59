"""Metrics of predicted sequences, compared with sacrebleu itself and with edit distances by recursion."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU, CHRF

from rnntool.evaluation import sequences, significance
from rnntool.evaluation.sequences import edit_distances, error_counts, form_of, text_counts

WORDS = "the cat sat on a mat . dogs sleep , we cook rice".split()


def recursive_distance(one: Sequence[str], other: Sequence[str]) -> int:
    @cache
    def distance(i: int, j: int) -> int:
        if not i or not j:
            return i + j
        return min(distance(i - 1, j) + 1, distance(i, j - 1) + 1,
                   distance(i - 1, j - 1) + (one[i - 1] != other[j - 1]))

    return distance(len(one), len(other))


def corpus(n: int, seed: int, *, most: int = 3, longest: int = 12) -> tuple[list[str], list[list[str]]]:
    """Generate outputs that resemble one of 1 to `most` references."""
    rng = random.Random(seed)
    outputs, references = [], []
    for _ in range(n):
        of_record = [" ".join(rng.choices(WORDS, k=rng.randint(1, longest)))
                     for _ in range(rng.randint(1, most))]
        words = [word if rng.random() < 0.8 else rng.choice(WORDS) for word in rng.choice(of_record).split()]
        outputs.append(" ".join(words[rng.random() < 0.3 :]))
        references.append(of_record)
    return outputs, references


def streams(references: Sequence[Sequence[str]]) -> list[list[Any]]:
    most = max(map(len, references))
    return [[of_record[i] if i < len(of_record) else None for of_record in references] for i in range(most)]


def all_counts(outputs: Sequence[str], references: Sequence[Sequence[str]]) -> Any:
    errors = error_counts([o.split() for o in outputs], [[r.split() for r in rs] for rs in references])
    return np.hstack([errors, text_counts(outputs, references).counts])


# --- Edit distances and error rates ------------------------------------------------------------------------


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(st.text("abc", max_size=8), st.text("abc", max_size=8)), max_size=6))
def test_edit_distances_against_recursion(pairs: list[tuple[str, str]]) -> None:
    found = edit_distances([one for one, _ in pairs], [other for _, other in pairs])
    assert found.tolist() == [recursive_distance(*pair) for pair in pairs]


def test_edit_distances_of_long_and_short_sequences_together() -> None:
    rng = random.Random(1)
    pairs = [("".join(rng.choices("ab", k=n)), "".join(rng.choices("ab", k=m)))
             for n, m in ((400, 390), (0, 300), (1, 1), (0, 0), (60, 5), (3, 90))]
    found = edit_distances(*zip(*pairs, strict=True)).tolist()
    assert found[1] == 300 and found[2:] == [recursive_distance(*pair) for pair in pairs[2:]]
    a, b = pairs[0]
    assert found[0] == edit_distances([b], [a])[0] == edit_distances([a[::-1]], [b[::-1]])[0] > 0


def test_an_output_is_compared_with_its_nearest_reference() -> None:
    outputs = ["cat", "dog", "", "bird"]
    references = [["cats", "cat"], ["dig", "dogma"], ["a"], ["b", "birdie"]]
    counts = error_counts(outputs, references)
    assert counts.tolist() == [[1, 1, 0, 3], [0, 1, 1, 3], [0, 1, 1, 1], [0, 1, 2, 6]]
    sums = counts.sum(axis=0)
    assert sequences.exact_match(sums) == 0.25
    assert sequences.word_error_rate(sums) == 0.75
    assert sequences.symbol_error_rate(sums) == 4 / 13


def test_symbols_are_compared_whole() -> None:
    counts = error_counts([["R", "IH0"]], [[["R", "IH1"], ["R", "IH1", "T"]]])
    assert counts.tolist() == [[0, 1, 1, 2]]


def test_the_longer_of_equally_near_references_counts() -> None:
    assert error_counts(["ab"], [["b", "abc"]])[0].tolist() == [0, 1, 1, 3]


def test_no_records() -> None:
    sums = all_counts([], []).sum(axis=0)
    assert [float(metric(sums)) for metric in sequences.METRICS.values()] == [0] * 5


# --- BLEU and chrF -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("longest", [2, 5, 12])
@pytest.mark.parametrize("n", [1, 2, 40])
@pytest.mark.parametrize("tokenize", ["none", "13a", "char"])
def test_bleu_and_chrf_equal_those_of_sacrebleu(tokenize: str, n: int, longest: int) -> None:
    for seed in range(8):
        outputs, references = corpus(n, seed, longest=longest)
        counted = text_counts(outputs, references, tokenize=tokenize)
        sums = np.concatenate([np.zeros(4), counted.counts.sum(axis=0)])
        bleu, chrf = BLEU(tokenize=tokenize, force=True), CHRF()
        assert sequences.bleu(sums) == pytest.approx(bleu.corpus_score(outputs, streams(references)).score)
        assert sequences.chrf(sums) == pytest.approx(chrf.corpus_score(outputs, streams(references)).score)
        assert counted.signatures == {"bleu": str(bleu.get_signature()), "chrf": str(chrf.get_signature())}


@pytest.mark.parametrize(("outputs", "references"), [
    ([""], [["a b"]]),
    (["a b"], [[""]]),
    (["x y z"], [["a b c"]]),
    (["a b c d", ""], [["a b c d"], ["a"]]),
    (["the cat sat on", "the"], [["the cat sat up"], ["a", "the mat"]]),
])  # fmt: skip
def test_odd_corpora_have_the_scores_of_sacrebleu(outputs: list[str], references: list[list[str]]) -> None:
    sums = all_counts(outputs, references).sum(axis=0)
    assert sequences.bleu(sums) == pytest.approx(BLEU().corpus_score(outputs, streams(references)).score)
    assert sequences.chrf(sums) == pytest.approx(CHRF().corpus_score(outputs, streams(references)).score)


def test_counts_do_not_depend_on_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    outputs, references = corpus(40, seed=1, longest=9)
    whole = text_counts(outputs, references).counts
    monkeypatch.setattr(sequences, "_BLOCK", 7)
    assert text_counts(outputs, references).counts.tolist() == whole.tolist()


def test_signatures_name_version_tokenizer_and_references() -> None:
    one = text_counts(["a"], [["a"]], tokenize="none").signatures
    several = text_counts(["a", "b"], [["a"], ["b", "c"]]).signatures
    assert one["bleu"].startswith("nrefs:1|case:mixed|eff:no|tok:none|smooth:exp|version:")
    assert several["bleu"].startswith("nrefs:var|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    assert several["chrf"].startswith("nrefs:var|case:mixed|eff:yes|nc:6|nw:0|space:no|version:")


def test_nothing_is_printed_about_tokenized_text(capfd: pytest.CaptureFixture[str]) -> None:
    text_counts(["a cat ."] * 150, [["a cat ."]] * 150)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("texts", "expected"), [
    (["a man sleeps .", "two dogs run"], ["tokenized", "lower-cased"]),
    (["A man sleeps .", "Two dogs run ."], ["tokenized"]),
    (["A man sleeps.", "Two dogs run ."], []),
    (["a man sleeps.", "two dogs run"], ["lower-cased"]),
    (["人が寝る。"], []),
    ([], []),
])  # fmt: skip
def test_the_form_of_a_text(texts: list[str], expected: list[str]) -> None:
    assert form_of(texts) == expected


# --- Significance ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sequences.METRICS)
def test_intervals_are_those_of_resampled_corpora(name: str) -> None:
    outputs, references = corpus(30, seed=3)
    counts, metric = all_counts(outputs, references), sequences.METRICS[name]
    rng = np.random.default_rng(5)
    scores = []
    for _ in range(50):
        drawn = rng.integers(30, size=30)
        scores.append(float(metric(all_counts(
            [outputs[i] for i in drawn], [references[i] for i in drawn]).sum(axis=0))))
    found = significance.interval(counts, metric, np.random.default_rng(5), resamples=50)
    assert found == pytest.approx(tuple(np.quantile(scores, [0.025, 0.975])))


def test_two_systems_are_compared() -> None:
    outputs, references = corpus(60, seed=4)
    good, bad = all_counts(outputs, references), all_counts(["mat"] * 60, references)
    for metric in sequences.METRICS.values():
        assert significance.p_value(good, bad, metric, np.random.default_rng(0), rounds=1000) < 0.01
