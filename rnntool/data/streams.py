"""Lines in, text out: files, pipes, terminals, compression. Knows encodings and line endings, and no format.

A line ends at "\\n" and nowhere else: U+2028, U+0085, form feeds and lone carriage returns are characters.
"""

from __future__ import annotations

import errno
import importlib
import io
import os
import secrets
import select
import shutil
import stat
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self, TextIO, cast

from rnntool.errors import DataError, RnntoolError

# both modules have one interface and notice a file that was cut short, which the package zstandard does not
_ZSTD = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
COMPRESSED = {".gz": "gzip", ".bz2": "bz2", ".xz": "lzma", ".zst": _ZSTD}  # extension: Python module
_CHUNK = 1 << 18  # bytes asked for at a time; a pipe gives what it has
_BOM = b"\xef\xbb\xbf"
_FOREIGN = {  # what files begin with that are no UTF-8, and what to do with them
    b"\xff\xfe": "it looks like UTF-16, convert it first",
    b"\xfe\xff": "it looks like UTF-16, convert it first",
    b"\x1f\x8b": "it looks like gzip, unpack it first with gzip -dc",
    b"BZh9": "it looks like bzip2, unpack it first with bzip2 -dc",
    b"\xfd7zXZ": "it looks like xz, unpack it first with xz -dc",
    b"\x28\xb5\x2f\xfd": "it looks like zstd, unpack it first with zstd -dc",
    b"PK\x03\x04": "it looks like an archive or an office file, save it as text first",
}  # fmt: skip
_TAR = b"ustar"  # at this place of an archive, all zeros and text before it
_TAR_AT = 257
_WIDE = 4  # zeros that make bytes UTF-16: fewer may be characters that somebody meant
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


def chomp(line: str) -> str:
    r"""The line without its "\n" or "\r\n"; nothing else is stripped."""
    if line.endswith("\n"):
        return line[:-2] if line.endswith("\r\n") else line[:-1]
    return line


def is_blank(line: str) -> bool:
    """Whether a line holds nothing but spaces and tabs before its ending."""
    return line[0] in " \t\r\n" and not line.strip(" \t\r\n")


def called(paths: Iterable[str | Path]) -> str:
    """What messages call inputs, "-" being standard input."""
    return ", ".join("<stdin>" if str(path) == "-" else str(path) for path in paths)


class Lines:
    """Numbered decoded lines of one input, each with its own ending ("\\n", "\\r\\n", or none at the end).

    `name` is what messages call the input, `number` the 1-based number of the line last returned. A line is
    returned as soon as it is there, and memory holds one chunk or one line. Bad UTF-8 and damaged archives
    raise DataError, after all the good lines before them were returned.
    """

    def __init__(
        self, raw: IO[bytes], *, name: str, errors: str = "strict", faults: tuple[type[Exception], ...] = ()
    ) -> None:
        """`faults` are the exceptions, besides OSError, that `raw` raises where it is damaged."""
        self.name = name
        self.number = 0
        self._raw = raw
        self._read: Callable[[int], bytes | None] = getattr(raw, "read1", raw.read)
        self._errors = errors
        self._faults: tuple[type[Exception], ...] = (OSError, *faults)
        self._pending: deque[str] = deque()
        self._tail: list[bytes] = []  # pieces of a line whose end was not read yet
        self._taken = 0  # lines decoded so far
        self._ended = False
        self._fault: DataError | None = None
        self._live = _live_descriptor(raw)

    def __iter__(self) -> Iterator[str]:
        """Go on after the line last returned; several iterators share one position."""
        pending = self._pending
        while True:
            while pending:
                self.number += 1
                yield pending.popleft()
            if self._fault is not None:
                raise self._fault
            if self._ended:
                return
            self._fill()

    def push_back(self, line: str) -> None:
        """Take back the line that was returned last, so that it is returned again."""
        self.number -= 1
        self._pending.appendleft(line)

    def head(self) -> str:
        """The beginning of what is to be returned yet: all that was read, at least a line if there is one."""
        while not (self._pending or self._ended):
            self._fill()
        return "".join(self._pending)

    def ended(self) -> bool:
        """Whether nothing is left, as far as that can be told without waiting."""
        while self._live is None and not (self._pending or self._ended):
            self._fill()
        return self._ended and not self._pending

    def ready(self, complete: Callable[[Iterable[str]], bool] = any) -> bool:
        """False when asking for the next record would wait: a pipe or terminal that holds no whole one.

        `complete` says whether lines hold a record; by default each line is one.
        """
        if self._live is None:
            return True
        while not (self._ended or complete(self._pending)):
            if not _readable(self._live, timeout_s=0):
                return False
            self._fill()
        return True

    def place(self) -> str:
        """`name:number` of the line last returned."""
        return f"{self.name}:{self.number}"

    def close(self) -> None:
        """Close the file; standard input stays open."""
        self._raw.close()

    def __enter__(self) -> Self:
        """Leave by closing."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Close the input."""
        self.close()

    def _fill(self) -> None:
        """Read one chunk and queue the lines it completes; an error waits until they were returned."""
        try:
            chunk = self._read(_CHUNK)
        except self._faults as e:
            reason = getattr(e, "strerror", None) or str(e) or type(e).__name__
            self._fail(f"{self.name}: reading failed after line {self._taken}: {reason}; is the file whole?")
            return
        if chunk is None:  # a descriptor in non-blocking mode that has nothing yet
            if self._live is not None:
                _readable(self._live, timeout_s=None)
        elif not chunk:
            self._ended = True
            self._take(b"".join(self._tail))
        elif end := chunk.rfind(b"\n") + 1:
            self._tail.append(chunk[:end])
            block = b"".join(self._tail)
            self._tail = [chunk[end:]] if end < len(chunk) else []
            self._take(block)
        else:
            self._tail.append(chunk)

    def _take(self, block: bytes) -> None:
        """Decode whole lines: no longer UTF-8 sequence holds a "\\n", so each block can be decoded alone."""
        first = not self._taken
        if first:
            block = block.removeprefix(_BOM)
        if first and block[_TAR_AT:].startswith(_TAR):
            self._fail(f"{self.name}:1: expected text, found an archive of files; unpack it first with tar -xf")
            return
        if first and _wide(block):
            self._fail(f"{self.name}:1: expected UTF-8, found 0x00 at byte {block.index(0) + 1}; it looks like "
                       "UTF-16, convert it first")
            return
        try:
            text = block.decode("utf-8")
        except UnicodeDecodeError as e:
            likely = next((what for magic, what in _FOREIGN.items() if first and block.startswith(magic)), "")
            if likely or self._errors == "strict":
                self._foreign(block, e.start, likely or "convert it, or see --encoding-errors replace")
            else:
                self._queue(block.decode("utf-8", self._errors))
        else:
            self._queue(text)

    def _foreign(self, block: bytes, at: int, remedy: str) -> None:
        """Queue the lines before the byte `at`, which is no text; the error comes after them."""
        start = block.rfind(b"\n", 0, at) + 1
        self._queue(block[:start].decode("utf-8"))
        self._fail(f"{self.name}:{self._taken + 1}: expected UTF-8, found 0x{block[at]:02x} at byte "
                   f"{at - start + 1}; {remedy}")

    def _queue(self, text: str) -> None:
        *whole, rest = text.split("\n")
        self._pending.extend([line + "\n" for line in whole])
        if rest:
            self._pending.append(rest)
        self._taken += len(whole) + bool(rest)

    def _fail(self, message: str) -> None:
        self._fault = DataError(message)
        self._ended = True


def _wide(block: bytes) -> bool:
    """Whether bytes are UTF-16 without a byte-order mark: zeros at every other place alone, and not few.

    Spaces and line ends have one in any script.
    """
    least, most = sorted(block[i::2].count(0) for i in (0, 1))
    return least == 0 and most >= max(_WIDE, len(block) // 40)


def open_lines(path: str | Path, *, errors: str = "strict") -> Lines:
    """Open a UTF-8 text for reading line by line; "-" is standard input.

    `.gz`, `.bz2`, `.xz` and `.zst` files are decompressed, and one byte-order mark is dropped. `errors` is
    the codec's error handler ("strict", "replace"). A missing or unreadable file or a folder raises
    DataError.
    """
    name = called([path])
    if str(path) == "-":
        return Lines(_stdin(), name=name, errors=errors)
    codec = _codec(Path(path))
    try:
        raw = codec.open(path, "rb") if codec else io.FileIO(path, "rb")
    except FileNotFoundError:
        raise DataError(f"{name}: no such file; check the name") from None
    except IsADirectoryError:
        raise DataError(f"{name}: expected a file, found a folder; name the files in it") from None
    except (OSError, ValueError) as e:
        raise DataError(f"{name}: can't be read: {getattr(e, 'strerror', None) or e}") from None
    return Lines(raw, name=name, errors=errors, faults=(EOFError, codec.fault) if codec else ())


@contextmanager
def open_output(path: str | Path | None) -> Iterator[TextIO]:
    """Open a text for writing, UTF-8 with "\\n" endings; None or "-" is standard output and stays open.

    A file is written beside its place and moved in when the block ends well; when it fails, nothing is left
    behind and an older file stays as it was. The extension decides about compression. A place that can't be
    written and a full disk raise RnntoolError; a closed pipe raises BrokenPipeError.
    """
    name = "<stdout>" if path is None or str(path) == "-" else str(path)
    try:
        if path is None or str(path) == "-":
            with _stdout() as out:
                yield out
        else:
            with _file(Path(path)) as out:
                yield out
    except OSError as e:
        if e.errno in _DISK:
            raise RnntoolError(f"{name}: writing failed: {e.strerror}; make room or write elsewhere") from e
        raise


@contextmanager
def _stdout() -> Iterator[TextIO]:
    out = sys.stdout
    if out is None:
        raise RnntoolError("<stdout>: is closed; give -o FILE")
    if isinstance(out, io.TextIOWrapper):  # surrogateescape: an argument that was no UTF-8 leaves as it came
        out.reconfigure(encoding="utf-8", errors="surrogateescape", newline="\n")
    try:
        yield out
    except Exception:
        with suppress(OSError):
            out.flush()  # what was finished is out before the message about what was not
        raise
    out.flush()


@contextmanager
def _file(path: Path) -> Iterator[TextIO]:
    codec = _codec(path)
    special, part = False, None
    try:
        try:
            special = path.exists() and not path.is_file()  # /dev/null, a named pipe: never to be replaced
            place = path if special else path.resolve()
            part = place if special else place.with_name(f".rnntool-{secrets.token_hex(6)}.part")
            raw = part.open("wb" if special else "xb")
        except (OSError, ValueError) as e:
            folder = isinstance(e, IsADirectoryError)
            reason = "it is a folder" if folder else getattr(e, "strerror", None) or e
            raise RnntoolError(f"{path}: can't be written: {reason}; choose another place") from None
        with raw:
            packed = codec.compress(raw) if codec else raw
            with io.TextIOWrapper(packed, "utf-8", errors="surrogateescape", newline="\n") as out:
                yield out
        if not special:
            if place.exists():
                shutil.copymode(place, part)
            part.replace(place)
    except BaseException:
        if part is not None and not special:
            with suppress(OSError):
                part.unlink()
        raise


def _stdin() -> IO[bytes]:
    if sys.stdin is None:
        raise DataError("<stdin>: expected text, found standard input closed; name a file")
    try:
        return cast("IO[bytes]", io.FileIO(sys.stdin.fileno(), "rb", closefd=False))
    except (OSError, ValueError):  # a stand-in without a descriptor, as in tests
        return io.BytesIO(sys.stdin.buffer.read())


def may_wait(path: str | Path) -> bool:
    """Whether a reader of `path`, which isn't open yet, may have to wait for it, as for a pipe."""
    if str(path) == "-":
        return _live_descriptor(sys.stdin) is not None
    return Path(path).exists() and not Path(path).is_file()


def _live_descriptor(raw: IO[Any] | None) -> int | None:
    """The descriptor of an input that may make a reader wait; None for plain files and buffers."""
    try:
        descriptor: int = raw.fileno()  # type: ignore[union-attr]
        return None if stat.S_ISREG(os.fstat(descriptor).st_mode) else descriptor
    except (OSError, ValueError, AttributeError):
        return None


def _readable(descriptor: int, *, timeout_s: float | None) -> bool:
    try:
        return bool(select.select([descriptor], [], [], timeout_s)[0])
    except (OSError, ValueError):  # Windows can't ask a pipe: say "not yet", so that answers go out at once
        return False


@dataclass(frozen=True, kw_only=True)
class _Codec:
    open: Callable[..., Any]  # (path, "rb") -> a binary file of the decompressed bytes
    compress: Callable[[Any], Any]  # a binary file to write into -> one that takes the uncompressed bytes
    fault: type[Exception]  # what damaged data raises besides OSError and EOFError


def _codec(path: Path) -> _Codec | None:
    """How the extension says that the file is compressed. Each module is imported only where it is needed."""
    suffix = path.suffix.lower()
    if suffix not in COMPRESSED:
        return None
    try:
        module = importlib.import_module(COMPRESSED[suffix])
    except ModuleNotFoundError:
        package = COMPRESSED[suffix]
        raise DataError(f"{path}: {suffix} needs the Python package {package}; install it") from None
    if suffix == ".gz":  # no name and no time in the header: the same text gives the same bytes
        return _Codec(
            open=module.open,
            compress=lambda raw: module.GzipFile("", "wb", compresslevel=6, fileobj=raw, mtime=0),
            fault=module.zlib.error,
        )
    fault = getattr(module, {".xz": "LZMAError", ".zst": "ZstdError"}.get(suffix, ""), EOFError)
    return _Codec(open=module.open, compress=lambda raw: module.open(raw, "wb"), fault=fault)
