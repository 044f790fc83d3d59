"""Tokens of large corpora, kept in the user's cache folder so that each corpus is tokenized once.

The name of a file is a digest of everything that its tokens depend on. The file also stores a digest of its
own content, which is checked before use. It gets its name only when it is complete. When a new file makes the
folder larger than `LIMIT`, the least recently used files are deleted; a process that has one of them open can
still read it. The folder also holds the temporary files of large corpora.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np

from rnntool.data.progress import Log
from rnntool.data.rows import BLOCK_BYTES, Block, MappedValues, Rows, bounds_of
from rnntool.errors import RnntoolError

LIMIT = 10_000_000_000  # bytes, of all files together
ABANDONED_S = 86_400.0  # age of an unfinished file that no process can still be writing
_HEADER = 512  # bytes before the numbers
_VERSION = 1  # of the layout of files


def cached_rows(blocks: Iterable[Block], dtype: Any, *, key: str, warn: Log) -> Rows:
    """Return the rows that the cache has under `key`; if it has none, write `blocks` there.

    `warn` receives a message for each file that is written, read or deleted. A damaged file is replaced.
    `RnntoolError` if the disk is full.
    """
    path = folder() / f"{key}.tokens"
    rows = _open(path)
    if rows is not None:
        with suppress(OSError):
            os.utime(path)  # used now
        warn(f"tokens are read from {path}, which an earlier training wrote")
        return rows
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, blocks, np.dtype(dtype))
        size = path.stat().st_size
    except OSError as error:
        raise _no_room(error) from None
    warn(f"tokens are kept in {path} ({size / 1e6:,.0f} MB) for other trainings on the same data; you can "
         "delete the file at any time")
    rows = _open(path)
    if rows is None:
        raise RnntoolError("the file can't be read back after it was written", place=path,
                           advice="check the disk")
    _make_room(path, warn)
    return rows


def folder() -> Path:
    """Return the folder of the token cache."""
    if chosen := os.environ.get("XDG_CACHE_HOME"):
        return Path(chosen) / "rnntool" / "tokens"
    import platformdirs

    return platformdirs.user_cache_path("rnntool", appauthor=False) / "tokens"


def temporary_file() -> IO[bytes]:
    """Open a file in the cache folder that is deleted when it is closed."""
    try:
        folder().mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryFile(dir=folder())
    except OSError as error:
        raise _no_room(error) from None


def flush(pending: bytearray, file: IO[bytes]) -> int:
    """Move pending bytes into a temporary file, and return their number."""
    size = len(pending)
    try:
        file.write(pending)
        file.flush()
    except OSError as error:
        raise _no_room(error) from None
    pending.clear()
    return size


def _no_room(error: OSError) -> RnntoolError:
    return RnntoolError(
        f"writing the data of the training to this folder failed ({error.strerror or error})",
        place=folder(),
        advice="free some disk space, or choose another folder with the variable XDG_CACHE_HOME")


def _write(path: Path, blocks: Iterable[Block], dtype: np.dtype[Any]) -> None:
    """Write the header, the numbers, padding up to a multiple of 8 bytes, and the bounds of the rows."""
    digest, lengths, count = hashlib.blake2b(digest_size=16), [], 0
    descriptor, name = tempfile.mkstemp(suffix=".part", dir=path.parent)
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor has no path
            file.write(bytes(_HEADER))
            for block in blocks:
                data = block.values.astype(dtype).tobytes()
                file.write(data)
                digest.update(data)
                lengths.append(block.lengths)
                count += len(block.values)
            bounds = bounds_of(lengths)
            for data in (bytes(-count * dtype.itemsize % 8), bounds.tobytes()):
                file.write(data)
                digest.update(data)
            header = {"format": _VERSION, "dtype": dtype.name, "numbers": count, "rows": len(bounds) - 1}
            file.seek(0)
            file.write(json.dumps(header | {"digest": _sealed(digest, header)}).encode().ljust(_HEADER))
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    finally:
        with suppress(OSError):
            Path(name).unlink()


def _open(path: Path) -> Rows | None:
    """Open the rows that `_write` wrote; None if the file is missing or damaged."""
    try:
        file = path.open("rb")
    except OSError:
        return None
    try:
        header = json.loads(file.read(_HEADER))
        digest = hashlib.blake2b(digest_size=16)
        while data := file.read(BLOCK_BYTES):
            digest.update(data)
        if header.pop("digest") != _sealed(digest, header):
            raise ValueError
        dtype, count, rows = np.dtype(header["dtype"]), header["numbers"], header["rows"]
        values = MappedValues(file, dtype, offset=_HEADER, count=count)
        end = _HEADER + -(-count * dtype.itemsize // 8) * 8
        bounds = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.int64, rows + 1, end)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        file.close()
        return None
    return Rows(values, bounds)


def _sealed(digest: hashlib.blake2b, header: dict[str, Any]) -> str:
    """Return the digest of a header and the content after it."""
    sealed = digest.copy()
    sealed.update(json.dumps(header).encode())
    return sealed.hexdigest()


def _make_room(new: Path, warn: Log) -> None:
    """Delete abandoned files, and the least recently used ones until the folder is within its limit."""
    files = []
    for path in new.parent.iterdir():
        with suppress(OSError):  # another process may delete it at the same time
            files.append((path.stat().st_mtime, path.stat().st_size, path))
    total = sum(size for _, size, path in files if path.suffix == ".tokens")
    for used, size, path in sorted(files):
        unfinished = path.suffix == ".part" and time.time() - used > ABANDONED_S
        surplus = path.suffix == ".tokens" and path != new and total > LIMIT
        if not (unfinished or surplus):
            continue
        with suppress(OSError):  # Windows doesn't delete a file that is open
            path.unlink()
            if surplus:
                total -= size
                warn(f"{path} is deleted ({size / 1e6:,.0f} MB of tokens, last used "
                     f"{time.strftime('%Y-%m-%d', time.localtime(used))}): the folder is limited to "
                     f"{LIMIT / 1e9:,.0f} GB")
