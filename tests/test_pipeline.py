"""Records in windows: each once and in order, no window larger than it may be, nothing waited for in vain."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnntool.data.records import Sentence
from rnntool.errors import DataError
from rnntool.inference import model
from rnntool.inference.pipeline import windows


@given(st.lists(st.integers(0, 9)), st.integers(1, 5), st.integers(1, 20), st.sets(st.integers(0, 30)))
def test_windows_hold_each_item_once_within_their_limits(
    items: list[int], most: int, longest: int, waits: set[int]
) -> None:
    taken = 0

    def read() -> Iterator[int]:
        nonlocal taken
        for item in items:
            taken += 1
            yield item

    found: list[int] = []
    for window in windows(read(), most=most, length=lambda item: item, longest=longest,
                          ready=lambda: taken not in waits):
        found += window
        assert len(found) == taken, "nothing is read ahead"
        assert 0 < len(window) <= most
        assert sum(window[:-1]) < longest, "one item more than fits at most"
        assert not waits & set(range(taken - len(window) + 1, taken)), "nobody waits for what is there"
    assert found == items


def test_what_came_before_a_bad_record_is_answered(tagger: Path) -> None:
    loaded = model.load(tagger, threads=1)

    def read() -> Iterator[Sentence]:
        yield Sentence(["the", "baker"])
        yield Sentence(["the"])
        raise DataError("line 3: is bad")

    tagged = loaded.tagged(read())
    assert [next(tagged)[1].tags for _ in range(2)] == [["DET", "NOUN"], ["DET"]]
    with pytest.raises(DataError, match="line 3"):
        next(tagged)
