"""Windows of records are complete, in order, within their limits, and never wait needlessly."""

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
def test_windows_contain_each_item_once_within_their_limits(
    items: list[int], max_items: int, max_length: int, waits: set[int]
) -> None:
    taken = 0

    def read() -> Iterator[int]:
        nonlocal taken
        for item in items:
            taken += 1
            yield item

    grouped: list[int] = []
    for window in windows(read(), max_items=max_items, length=lambda item: item, max_length=max_length,
                          ready=lambda: taken not in waits):
        grouped += window
        assert len(grouped) == taken, "a window ends with the last item that was read"
        assert 0 < len(window) <= max_items
        assert sum(window[:-1]) < max_length, "only the last item may exceed the limit"
        assert not waits & set(range(taken - len(window) + 1, taken)), "no window waits while it has items"
    assert grouped == items


def test_records_before_a_bad_one_are_answered(tagger: Path) -> None:
    loaded = model.load(tagger, threads=1)

    def read() -> Iterator[Sentence]:
        yield Sentence(["the", "baker"])
        yield Sentence(["the"])
        raise DataError("line 3: is bad")

    tagged = loaded.tagged(read())
    assert [next(tagged)[1].tags for _ in range(2)] == [["DET", "NOUN"], ["DET"]]
    with pytest.raises(DataError, match="line 3"):
        next(tagged)
