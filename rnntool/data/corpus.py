"""The texts of a corpus as bytes: those of a small corpus in memory, those of a large one in a file."""

from __future__ import annotations

import hashlib
import itertools
import json
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import IO, overload

import numpy as np
from numpy.typing import NDArray

from rnntool.data import token_cache
from rnntool.data.progress import Stage
from rnntool.data.records import Text
from rnntool.data.rows import BLOCK_BYTES, MappedValues, Rows, Values

LARGE = 1 << 26  # bytes of text; a larger corpus is kept in a file, as are its tokens

Watch = Callable[[Stage], None]


class Texts(Sequence[Text]):
    """Texts with their labels. Labeled texts keep their place; other fields are dropped."""

    def __init__(self, rows: Rows, picked: range | NDArray[np.int64], content: bytes) -> None:
        """`picked` are the indexes of the rows of these texts, `content` is the digest of all rows."""
        self._rows = rows
        self._picked = picked
        self._content = content

    @classmethod
    def collect(cls, texts: Iterable[Text], *, watch: Watch) -> Texts:
        """Read all texts once."""
        digest = hashlib.blake2b(digest_size=16)
        bounds = array("q", [0])
        pending, size = bytearray(), 0
        file: IO[bytes] | None = None
        for text in texts:
            labels = json.dumps(text.labels) if text.labels else ""
            content = f"{labels}\0{text.text}".encode("utf-8", "surrogatepass")
            digest.update(content)
            digest.update(b"\xff")  # a byte that UTF-8 never has
            place = json.dumps(text.place).encode() if labels else b""
            pending += place
            pending += content
            bounds.append(size + len(pending))
            if len(pending) > (LARGE if file is None else BLOCK_BYTES):
                file = file or token_cache.temporary_file()
                size += token_cache.flush(pending, file)
                watch(Stage("reading", None, size // 1_000_000, "MB"))
        values: Values
        if file is None:
            values = np.frombuffer(bytes(pending), np.uint8)
        else:
            size += token_cache.flush(pending, file)
            values = MappedValues(file, np.uint8, offset=0, count=size)
        rows = Rows(values, np.frombuffer(bounds, np.int64))
        return cls(rows, range(len(rows)), digest.digest())

    @property
    def large(self) -> bool:
        """Whether the texts are in a file."""
        return isinstance(self._rows.values, MappedValues)

    def digest(self) -> bytes:
        """Return a digest of texts and labels, which doesn't depend on where they were read from."""
        picked = self._picked
        which = repr(picked).encode() if isinstance(picked, range) else picked.tobytes()
        return hashlib.blake2b(self._content + which, digest_size=16).digest()

    def pick(self, indexes: NDArray[np.int64]) -> Texts:
        """Return some of the texts, in the order of `indexes`."""
        picked = np.asarray(self._picked, np.int64)[indexes]
        return Texts(self._rows, picked, self._content)

    def __len__(self) -> int:
        return len(self._picked)

    @overload
    def __getitem__(self, i: int) -> Text: ...

    @overload
    def __getitem__(self, i: slice) -> Texts: ...

    def __getitem__(self, i: int | slice) -> Text | Texts:
        if isinstance(i, slice):
            return Texts(self._rows, self._picked[i], self._content)
        return _text(self._rows[int(self._picked[i])].tobytes())

    def __iter__(self) -> Iterator[Text]:
        """Yield all texts; adjacent ones are read from the file at once."""
        bounds, picked, i = self._rows.bounds, self._picked, 0
        while i < len(picked):
            first = int(picked[i])
            in_block = int(np.searchsorted(bounds, bounds[first] + BLOCK_BYTES)) - first  # rows
            run = np.asarray(picked[i : i + max(1, in_block)])
            run = run[: int(np.argmin(np.append(np.diff(run) == 1, False))) + 1]  # up to the first gap
            limits = bounds[first : first + len(run) + 1].tolist()
            block = self._rows.values[limits[0] : limits[-1]].tobytes()
            for start, end in itertools.pairwise(limits):
                yield _text(block[start - limits[0] : end - limits[0]])
            i += len(run)


def _text(row: bytes) -> Text:
    head, _, text = row.decode("utf-8", "surrogatepass").partition("\0")
    if not head:
        return Text(text)
    place, end = json.JSONDecoder().raw_decode(head)
    return Text(text, tuple(json.loads(head[end:])), place=place)
