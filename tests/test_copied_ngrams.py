"""Word n-grams that two texts share."""

from __future__ import annotations

import pytest

from rnntool.evaluation.copied_ngrams import SourceText


@pytest.mark.parametrize(("prompt", "text", "copied", "total"), [
    ("", "a b c d", 2, 2),  # n-grams extend over line ends of the source
    ("", "a b\nx c d", 0, 3),
    ("a b", " c d", 2, 2),
    ("a b c", " d", 1, 1),  # an n-gram that ends in the prompt is not generated
    ("a b c", "", 0, 0),
    ("a b ", "c", 1, 1),
    ("a b x", "c", 0, 1),  # the word at the border is generated
    ("", "b c", 0, 0),
    ("", "", 0, 0),
])  # fmt: skip
def test_ngrams(prompt: str, text: str, copied: int, total: int) -> None:
    source = SourceText(["a b\n", "  c d\n", "e\n"], n=3)
    assert source.copied_ngrams(prompt, text) == (copied, total)


def test_a_source_shorter_than_an_ngram() -> None:
    assert SourceText(["a b"], n=3).copied_ngrams("", "a b c d") == (0, 2)
    assert SourceText([], n=1).copied_ngrams("", "a") == (0, 1)
