"""Rows of numbers of different lengths, stored one after the other in memory or in a memory-mapped file."""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Sequence
from typing import IO, Any, NamedTuple, Protocol, Self, overload

import numpy as np
from numpy.typing import NDArray

BLOCK_BYTES = 1 << 20  # read, computed or written at once
REMAP_AFTER = 1 << 26  # bytes read from a mapped file before it is mapped again
READAHEAD = 1 << 16  # bytes that the system maps around each slice that is read


class Values(Protocol):
    """A sequence of numbers that is read in slices: an array or `MappedValues`."""

    def __len__(self) -> int:
        """Return the number of values."""
        ...

    def __getitem__(self, span: slice, /) -> NDArray[Any]:
        """Return a slice of the numbers."""
        ...


class Block(NamedTuple):
    """Adjacent rows: their numbers (N,) and the length of each row (R,)."""

    values: NDArray[Any]
    lengths: NDArray[np.int64]


class MappedValues:
    """Numbers in a file.

    Pages that were read from a mapped file count as memory of the process until the file is unmapped, so it
    is mapped again from time to time. The system keeps the pages in its own cache while memory is free.
    """

    def __init__(self, file: IO[bytes], dtype: Any, *, offset: int, count: int) -> None:
        """`count` numbers start at the byte `offset`. `file` stays open as long as this object lives."""
        self.dtype = np.dtype(dtype)
        self._file = file
        self._offset = offset
        self._count = count
        self._map()

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, span: slice, /) -> NDArray[Any]:
        """Return a view of some of the numbers."""
        if self._read_bytes > REMAP_AFTER:
            self._map()
        part = self._values[span]
        self._read_bytes += part.nbytes + READAHEAD
        return part

    def _map(self) -> None:
        mapped = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        self._values = np.frombuffer(mapped, self.dtype, self._count, self._offset)
        self._read_bytes = 0


class Rows(Sequence[NDArray[Any]]):
    """Rows of numbers; row i is `values[bounds[i]:bounds[i + 1]]`."""

    def __init__(self, values: Values, bounds: NDArray[np.int64]) -> None:
        """`bounds` (R + 1,) begins with 0."""
        self.values = values
        self.bounds = bounds

    @classmethod
    def of(cls, blocks: Iterable[Block], dtype: Any) -> Self:
        """Collect rows in memory."""
        values, lengths = [np.empty(0, dtype)], []
        for block in blocks:
            values.append(block.values.astype(dtype))
            lengths.append(block.lengths)
        return cls(np.concatenate(values), bounds_of(lengths))

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Return the length of each row (R,)."""
        return np.diff(self.bounds)

    def __len__(self) -> int:
        return len(self.bounds) - 1

    @overload
    def __getitem__(self, i: int) -> NDArray[Any]: ...

    @overload
    def __getitem__(self, i: slice) -> Rows: ...

    def __getitem__(self, i: int | slice) -> NDArray[Any] | Rows:
        if isinstance(i, slice):
            raise TypeError("rows are read one at a time")
        return self.values[self.bounds[i] : self.bounds[i + 1]]


def bounds_of(lengths: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Return where rows of these lengths start, and where the last one ends (R + 1,)."""
    return np.cumsum(np.concatenate([np.zeros(1, np.int64), *lengths]), dtype=np.int64)
