"""Much text and its tokens in little memory: what is small stays in memory, what is large lies in files.

Knows bytes, numbers and files, and neither tokenizers nor tasks. Nothing in a file is ever taken for whole
that isn't: it is written beside its place, moved in, and compared with its digest before it is read.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import mmap
import os
import sys
import tempfile
import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol, Self, overload

import numpy as np
from numpy.typing import NDArray

from rnntool.data.formats import Text
from rnntool.data.progress import Stage
from rnntool.errors import RnntoolError

try:
    import fcntl
except ImportError:  # on Windows, where a file that is open can't be deleted
    fcntl = None  # type: ignore[assignment]

LARGE = 1 << 26  # bytes of text; more of it lies in files, and so do its tokens
BLOCK = 1 << 20  # bytes that are handled at once
MAPPED = 1 << 26  # bytes of a file that stay in the process's memory after they were read
AROUND = 1 << 16  # bytes that the system maps around a place that is read
HEADER = 512  # bytes before the numbers of a kept file
FORMAT = 1  # of kept files
ABANDONED_S = 86_400.0  # a file that has been half-written for so long is nobody's
KEPT = 10_000_000_000  # bytes of kept files; beyond that the ones go that were not used for the longest time

Watch = Callable[[Stage], None]


class Values(Protocol):
    """Numbers one behind the other, read by slices: an array, or `Mapped`."""

    def __len__(self) -> int:
        """How many there are."""
        ...

    def __getitem__(self, span: slice, /) -> NDArray[Any]:
        """Some of them."""
        ...


class Block(NamedTuple):
    """Some rows one behind the other: their numbers (N,), and the length of each (R,)."""

    values: NDArray[Any]
    lengths: NDArray[np.int64]


class Mapped:
    """Numbers in a file.

    What is read of a mapped file counts as the process's memory until it is unmapped, so from time to time
    the file is mapped anew; the system's cache keeps it in memory as long as there is room.
    """

    def __init__(self, file: IO[bytes], dtype: Any, *, offset: int, count: int) -> None:
        """`count` numbers from the byte `offset` on; `file` stays open as long as this lives."""
        self.dtype = np.dtype(dtype)
        self._file = file
        self._offset = offset
        self._count = count
        self._map()

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, span: slice, /) -> NDArray[Any]:
        """A view of some of the numbers."""
        if self._read > MAPPED:
            self._map()
        part = self._values[span]
        self._read += part.nbytes + AROUND
        return part

    def _map(self) -> None:
        mapped = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        self._values = np.frombuffer(mapped, self.dtype, self._count, self._offset)
        self._read = 0


class Rows(Sequence[NDArray[Any]]):
    """Rows of numbers of any lengths: row i is `values[bounds[i]:bounds[i + 1]]`."""

    def __init__(self, values: Values, bounds: NDArray[np.int64]) -> None:
        """`bounds` (R + 1,) begins with 0."""
        self.values = values
        self.bounds = bounds

    @classmethod
    def of(cls, blocks: Iterable[Block], dtype: Any) -> Self:
        """In memory."""
        values, lengths = [np.empty(0, dtype)], [np.empty(0, np.int64)]
        for block in blocks:
            values.append(block.values.astype(dtype))
            lengths.append(block.lengths)
        return cls(np.concatenate(values), _bounds(lengths))

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(R,)."""
        return np.diff(self.bounds)

    def __len__(self) -> int:
        return len(self.bounds) - 1

    @overload
    def __getitem__(self, i: int) -> NDArray[Any]: ...

    @overload
    def __getitem__(self, i: slice) -> Rows: ...

    def __getitem__(self, i: int | slice) -> NDArray[Any] | Rows:
        if isinstance(i, slice):
            raise TypeError("rows are read one by one")
        return self.values[self.bounds[i] : self.bounds[i + 1]]


class Texts(Sequence[Text]):
    """Texts with their labels and places, kept as bytes; their other fields are left out."""

    def __init__(self, rows: Rows, picked: range | NDArray[np.int64], content: bytes) -> None:
        """Those of `rows` that are `picked`; `content` is a digest of all of them."""
        self._rows = rows
        self._picked = picked
        self._content = content

    @classmethod
    def collect(cls, texts: Iterable[Text], *, watch: Watch) -> Texts:
        """Read all `texts`, once."""
        digest = hashlib.blake2b(digest_size=16)
        bounds = array("q", [0])
        pending, size = bytearray(), 0
        file: IO[bytes] | None = None
        for text in texts:
            labels = json.dumps(text.labels) if text.labels else ""
            content = f"{labels}\0{text.text}".encode("utf-8", "surrogatepass")
            digest.update(content)
            digest.update(b"\xff")  # is in no UTF-8
            place = json.dumps(text.place).encode() if labels else b""
            pending += place
            pending += content
            bounds.append(size + len(pending))
            if len(pending) > (LARGE if file is None else BLOCK):
                file = file or _scratch()
                size += _flush(pending, file)
                watch(Stage("reading", None, size // 1_000_000, "MB"))
        values: Values
        if file is None:
            values = np.frombuffer(bytes(pending), np.uint8)
        else:
            size += _flush(pending, file)
            values = Mapped(file, np.uint8, offset=0, count=size)
        rows = Rows(values, np.frombuffer(bounds, np.int64))
        return cls(rows, range(len(rows)), digest.digest())

    @property
    def large(self) -> bool:
        """Whether they lie in a file."""
        return isinstance(self._rows.values, Mapped)

    def digest(self) -> bytes:
        """Equal for equal texts and labels, wherever they were read from."""
        picked = self._picked
        which = repr(picked).encode() if isinstance(picked, range) else picked.tobytes()
        return hashlib.blake2b(self._content + which, digest_size=16).digest()

    def pick(self, places: NDArray[np.int64]) -> Texts:
        """Some of them, in the order of `places`."""
        picked = np.asarray(self._picked, np.int64)[places]
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
        """As `[i]` gives them, but neighbours in the file are read together."""
        bounds, picked, i = self._rows.bounds, self._picked, 0
        while i < len(picked):
            first = int(picked[i])
            n = int(np.searchsorted(bounds, bounds[first] + BLOCK)) - first  # rows in a block
            run = np.asarray(picked[i : i + max(1, n)])
            run = run[: int(np.argmin(np.append(np.diff(run) == 1, False))) + 1]  # that follow each other
            ends = bounds[first : first + len(run) + 1].tolist()
            block = self._rows.values[ends[0] : ends[-1]].tobytes()
            for start, end in itertools.pairwise(ends):
                yield _text(block[start - ends[0] : end - ends[0]])
            i += len(run)


def keep(blocks: Iterable[Block], dtype: Any, *, key: str, warn: Callable[[str], None]) -> Rows:
    """Rows in the user's cache: those that are there under `key`, or else those of `blocks`, written there.

    `tell` hears where they lie, and of files that are deleted, as there is room for `KEPT` bytes. A damaged
    file is written anew. `RnntoolError` where there is no room.
    """
    path = cache() / f"{key}.tokens"
    rows = _open(path)
    if rows is not None:
        with suppress(OSError):
            os.utime(path)  # that it was used
        warn(f"tokens are read from {path}, made for a training before")
        return rows
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for old in path.parent.glob("*.part"):
            if time.time() - old.stat().st_mtime > ABANDONED_S:
                old.unlink(missing_ok=True)
        _write(path, blocks, np.dtype(dtype))
        size = path.stat().st_size
    except OSError as error:
        raise _no_room(path.parent, error) from None
    warn(f"tokens are kept in {path} ({size / 1e6:,.0f} MB) for other trainings on the same data; delete it "
         "when you like")
    rows = _open(path)
    if rows is None:
        raise RnntoolError(f"{path}: what was written can't be read back; is the disk sound?")
    _prune(path.parent, warn)
    return rows


def _prune(folder: Path, warn: Callable[[str], None]) -> None:
    """Delete kept files that no process has open, the least recently used first, until the rest has room."""
    found: list[tuple[os.stat_result, Path]] = []
    for file in folder.glob("*.tokens"):
        with suppress(OSError):  # another process may be doing the same
            found.append((file.stat(), file))
    total = sum(status.st_size for status, _ in found)
    for status, file in sorted(found, key=lambda pair: pair[0].st_mtime):
        if total <= KEPT:
            return
        if _delete_unused(file):
            total -= status.st_size
            warn(f"{file} is deleted ({status.st_size / 1e6:,.0f} MB of tokens, last used "
                 f"{time.strftime('%Y-%m-%d', time.localtime(status.st_mtime))}): all that is kept there is "
                 f"to have {KEPT / 1e9:,.0f} GB at most")


def _delete_unused(path: Path) -> bool:
    """Delete a file that no process has open; whether that was so."""
    try:
        if fcntl is None:
            path.unlink()
        else:
            with path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails where another has it; see `_open`
                path.unlink()
    except OSError:
        return False
    return True


def cache() -> Path:
    """The folder of the user's cache that tokens are kept in."""
    if named := os.environ.get("XDG_CACHE_HOME"):
        base = Path(named)
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    else:
        base = Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache")
    return base / "rnntool" / "tokens"


def _text(row: bytes) -> Text:
    head, _, text = row.decode("utf-8", "surrogatepass").partition("\0")
    if not head:
        return Text(text)
    place, end = json.JSONDecoder().raw_decode(head)
    return Text(text, tuple(json.loads(head[end:])), place=place)


def _bounds(lengths: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Where rows of these lengths begin, and where the last one ends."""
    return np.cumsum(np.concatenate([np.zeros(1, np.int64), *lengths]), dtype=np.int64)


def _scratch() -> IO[bytes]:
    """A file that is gone when it is closed."""
    folder = cache()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryFile(dir=folder)
    except OSError as error:
        raise _no_room(folder, error) from None


def _flush(pending: bytearray, file: IO[bytes]) -> int:
    """Move what is pending into a file; how many bytes that were."""
    size = len(pending)
    try:
        file.write(pending)
        file.flush()
    except OSError as error:
        raise _no_room(cache(), error) from None
    pending.clear()
    return size


def _no_room(folder: Path, error: OSError) -> RnntoolError:
    return RnntoolError(f"{folder}: large data is kept there while it is learned, and writing failed "
                        f"({error.strerror or error}); make room, or name another place with XDG_CACHE_HOME")


def _write(path: Path, blocks: Iterable[Block], dtype: np.dtype[Any]) -> None:
    """The header, the numbers, room up to a multiple of 8 bytes, and the bounds of the rows."""
    digest, lengths, count = hashlib.blake2b(digest_size=16), [], 0
    descriptor, name = tempfile.mkstemp(suffix=".part", dir=path.parent)
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor is no path
            file.write(bytes(HEADER))
            for block in blocks:
                data = block.values.astype(dtype).tobytes()
                file.write(data)
                digest.update(data)
                lengths.append(block.lengths)
                count += len(block.values)
            bounds = _bounds(lengths)
            for data in (bytes(-count * dtype.itemsize % 8), bounds.tobytes()):
                file.write(data)
                digest.update(data)
            header = {"format": FORMAT, "dtype": dtype.name, "numbers": count, "rows": len(bounds) - 1}
            file.seek(0)
            file.write(json.dumps(header | {"digest": _sealed(digest, header)}).encode().ljust(HEADER))
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    finally:
        with suppress(OSError):
            Path(name).unlink()


def _open(path: Path) -> Rows | None:
    """The rows that `_write` wrote; None where there is no such file, or a damaged one."""
    try:
        file = path.open("rb")
    except OSError:
        return None
    if fcntl is not None:
        with suppress(OSError):  # not every file system has locks
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # while it is open; see `_delete_unused`
    try:
        header = json.loads(file.read(HEADER))
        digest = hashlib.blake2b(digest_size=16)
        while data := file.read(BLOCK):
            digest.update(data)
        found = header.pop("digest")
        if found != _sealed(digest, header):
            raise ValueError
        dtype, count, rows = np.dtype(header["dtype"]), header["numbers"], header["rows"]
        values = Mapped(file, dtype, offset=HEADER, count=count)
        end = HEADER + -(-count * dtype.itemsize // 8) * 8
        bounds = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.int64, rows + 1, end)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        file.close()
        return None
    return Rows(values, bounds)


def _sealed(digest: hashlib.blake2b, header: dict[str, Any]) -> str:
    """The digest of what stands behind a header and of the header."""
    sealed = digest.copy()
    sealed.update(json.dumps(header).encode())
    return sealed.hexdigest()
