"""Runs of words that two texts share."""

from __future__ import annotations

import pytest

from rnntool.evaluation.copied_ngrams import Source


@pytest.mark.parametrize(("prompt", "text", "found", "runs"), [
    ("", "a b c d", 2, 2),  # the line end of the source counts for nothing
    ("", "a b\nx c d", 0, 3),
    ("a b", " c d", 2, 2),
    ("a b c", " d", 1, 1),  # a run that ends in the prompt is not new
    ("a b c", "", 0, 0),
    ("a b ", "c", 1, 1),
    ("a b x", "c", 0, 1),  # the word at the border is new
    ("", "b c", 0, 0),
    ("", "", 0, 0),
])  # fmt: skip
def test_runs_of_words(prompt: str, text: str, found: int, runs: int) -> None:
    source = Source(["a b\n", "  c d\n", "e\n"], n=3)
    assert source.copied(prompt, text) == (found, runs)


def test_a_source_shorter_than_a_run() -> None:
    assert Source(["a b"], n=3).copied("", "a b c d") == (0, 2)
    assert Source([], n=1).copied("", "a") == (0, 1)
