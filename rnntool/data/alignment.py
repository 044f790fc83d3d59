"""Alignment of two sequences by a longest common subsequence."""

from __future__ import annotations

from collections.abc import Hashable, Sequence


def common_subsequence(one: Sequence[Hashable], other: Sequence[Hashable]) -> list[tuple[int, int]]:
    """Return the index pairs of a longest common subsequence.

    Where several are possible, an item of `one` is skipped before an item of `other`.
    """
    # longest[i][j] is the length of the longest common subsequence of one[i:] and other[j:]
    longest = [[0] * (len(other) + 1) for _ in range(len(one) + 1)]
    for i in reversed(range(len(one))):
        for j in reversed(range(len(other))):
            longest[i][j] = (1 + longest[i + 1][j + 1] if one[i] == other[j]
                             else max(longest[i + 1][j], longest[i][j + 1]))
    pairs: list[tuple[int, int]] = []
    i = j = 0
    while i < len(one) and j < len(other):
        if one[i] == other[j]:
            pairs.append((i, j))
            i, j = i + 1, j + 1
        elif longest[i + 1][j] >= longest[i][j + 1]:
            i += 1
        else:
            j += 1
    return pairs
