"""Read lines and write text: files, pipes, terminals, compression. Knows encodings, but no file format.

A line ends at "\\n" only: U+2028, U+0085, form feeds and lone carriage returns are ordinary characters.
"""

from __future__ import annotations

import codecs
import errno
import importlib
import io
import os
import select
import stat
import sys
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self, TextIO, cast

from rnntool.data.atomic_files import replacement
from rnntool.data.progress import Log, silent
from rnntool.errors import DataError, RnntoolError, setting

# Both modules have the same interface and detect truncated files; the package zstandard does not.
_ZSTD = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
COMPRESSED = {".gz": "gzip", ".bz2": "bz2", ".xz": "lzma", ".zst": _ZSTD}  # extension: Python module
_CHUNK = 1 << 18  # bytes requested at a time; a pipe returns what it has
_BOM = b"\xef\xbb\xbf"
_UTF16 = "it looks like UTF-16; convert it first"
_FOREIGN = {  # first bytes of files that are not UTF-8 text: what to do with them
    b"\xff\xfe": _UTF16,
    b"\xfe\xff": _UTF16,
    b"\x1f\x8b": "it looks like gzip, so unpack it first with gzip -dc",
    b"BZh9": "it looks like bzip2, so unpack it first with bzip2 -dc",
    b"\xfd7zXZ": "it looks like xz, so unpack it first with xz -dc",
    b"\x28\xb5\x2f\xfd": "it looks like zstd, so unpack it first with zstd -dc",
    b"PK\x03\x04": "it looks like an archive or an office file, save it as text first",
}
_TAR_MAGIC, _TAR_OFFSET = b"ustar", 257
_UTF16_ZEROS = 4  # zero bytes; fewer may be characters that somebody put into a text
_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


def chomp(line: str) -> str:
    r"""Return the line without its "\n" or "\r\n"; nothing else is stripped."""
    if line.endswith("\n"):
        return line[:-2] if line.endswith("\r\n") else line[:-1]
    return line


def is_blank(line: str) -> bool:
    """Whether a line holds nothing but spaces and tabs before its ending."""
    return line[0] in " \t\r\n" and not line.strip(" \t\r\n")


def input_names(paths: Iterable[str | Path]) -> str:
    """Name inputs in a message; "-" is standard input."""
    return ", ".join("<stdin>" if str(path) == "-" else str(path) for path in paths)


class Lines:
    """Numbered decoded lines of one input, each with its own ending ("\\n", "\\r\\n", or none at the end).

    `name` stands for the input in messages, and `number` is the number of the last returned line, from 1. A
    line is returned as soon as it has arrived, and memory holds one chunk or one line. Invalid UTF-8 and
    damaged archives raise DataError, but only after all valid lines before them. Readers of the lines send
    warnings for the user to `warn`.
    """

    def __init__(
        self, raw: IO[bytes], *, name: str, errors: str | None = "strict",
        faults: tuple[type[Exception], ...] = (),
    ) -> None:
        """See `open_lines`. `faults` are the exceptions, besides OSError, that `raw` raises if it is damaged.
        """
        self.name = name
        self.number = 0
        self.warn: Log = silent
        self.columns: list[str] | None = None  # of a table, as soon as its reader knows them
        self._raw = raw
        self._read: Callable[[int], bytes | None] = getattr(raw, "read1", raw.read)
        self._errors = errors
        self._faults: tuple[type[Exception], ...] = (OSError, *faults)
        self._pending: deque[str] = deque()
        self._tail: list[bytes] = []  # pieces of a line that isn't complete
        self._decoded = 0  # lines
        self._at_end = False
        self._error: DataError | None = None
        self._live = _live_descriptor(raw)

    def __iter__(self) -> Iterator[str]:
        """Continue after the last returned line; several iterators share one position."""
        pending = self._pending
        while True:
            while pending:
                self.number += 1
                yield pending.popleft()
            if self._error is not None:
                raise self._error
            if self._at_end:
                return
            self._fill()

    def push_back(self, line: str) -> None:
        """Take back the line that was returned last, so that it is returned again."""
        self.number -= 1
        self._pending.appendleft(line)

    def head(self, enough: Callable[[Collection[str]], object] = bool) -> list[str]:
        """Read until there are `enough` lines; return all lines that no iterator has returned yet.

        By default, one line is enough. At the end of the input there may be fewer.
        """
        while not (self._at_end or enough(self._pending)):
            self._fill()
        return list(self._pending)

    def peek(self, size: int) -> bytes:
        """Return the first bytes, at least `size` if there are so many. Call it before lines are read."""
        while sum(map(len, self._tail)) < size and (chunk := self._read_chunk()):
            self._tail.append(chunk)
        return b"".join(self._tail)

    def chunks(self) -> Iterator[bytes]:
        """Yield all bytes in pieces. This is for a file that `peek` shows not to be text; read no lines."""
        yield b"".join(self._tail)
        while chunk := self._read_chunk():
            yield chunk

    def ended(self) -> bool:
        """Whether all lines were returned, as far as that is known without waiting."""
        while self._live is None and not (self._pending or self._at_end):
            self._fill()
        return self._at_end and not self._pending

    def ready(self, complete: Callable[[Iterable[str]], bool] = any) -> bool:
        """Return False if the next record would have to wait for a pipe or a terminal.

        `complete` says whether lines hold a whole record; by default, each line is one.
        """
        if self._live is None:
            return True
        while not (self._at_end or complete(self._pending)):
            if not _readable(self._live, timeout_s=0):
                return False
            self._fill()
        return True

    def place(self) -> str:
        """Return `name:number` of the last returned line."""
        return f"{self.name}:{self.number}"

    def close(self) -> None:
        """Close the file; standard input stays open."""
        self._raw.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _fill(self) -> None:
        """Read one chunk and queue the lines that it completes; keep an error until they were returned."""
        try:
            chunk = self._read_chunk()
        except DataError as error:
            self._fail(error)
            return
        if not chunk:
            self._at_end = True
            self._decode(b"".join(self._tail))
        elif end := chunk.rfind(b"\n") + 1:
            self._tail.append(chunk[:end])
            block = b"".join(self._tail)
            self._tail = [chunk[end:]] if end < len(chunk) else []
            self._decode(block)
        else:
            self._tail.append(chunk)

    def _read_chunk(self) -> bytes:
        """Read one chunk, or nothing at the end of the input."""
        try:
            while (chunk := self._read(_CHUNK)) is None:  # a non-blocking descriptor without data
                if self._live is not None:
                    _readable(self._live, timeout_s=None)
        except UnicodeDecodeError as error:
            raise DataError(
                place=f"{self.name}:{self._decoded + 1}", expected=error.encoding,
                found=f"0x{error.object[error.start]:02x}",
                advice=f"check {setting('encoding')}, or set {setting('encoding_errors', 'replace')}"
            ) from None
        except self._faults as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise DataError(f"reading failed after line {self._decoded}: {reason}", place=self.name,
                            advice="check that the file is complete") from None
        return chunk

    def _decode(self, block: bytes) -> None:
        """Decode a block of whole lines, none of which can end inside a UTF-8 sequence."""
        first = not self._decoded
        if first:
            block = block.removeprefix(_BOM)
        if first and block[_TAR_OFFSET:].startswith(_TAR_MAGIC):
            self._fail(DataError(place=f"{self.name}:1", expected="text", found="an archive of files",
                                 advice="unpack it first with tar -xf"))
            return
        if first and (utf16 := _utf16_name(block)):
            self._fail(DataError(
                place=f"{self.name}:1", expected="UTF-8", found=f"0x00 at byte {block.index(0) + 1}",
                advice=self._encoding_advice(_UTF16, utf16)))
            return
        try:
            text = block.decode("utf-8")
        except UnicodeDecodeError as error:
            foreign = next((advice for magic, advice in _FOREIGN.items()
                            if first and block.startswith(magic)), None)
            if foreign or self._errors in (None, "strict"):
                self._queue_valid(block, error.start, self._encoding_advice(foreign))
            else:
                self._queue(block.decode("utf-8", self._errors))
        else:
            self._queue(text)

    def _encoding_advice(self, foreign: str | None, utf16: str = "utf-16") -> str:
        """Say what to do about bytes that are not UTF-8; `foreign` is advice about another format."""
        if self._errors is None or foreign not in (None, _UTF16):
            return foreign or "convert it"
        if foreign:
            return f"it looks like UTF-16; if it is, set {setting('encoding', utf16)}"
        return f"name its encoding with {setting('encoding')}, or set {setting('encoding_errors', 'replace')}"

    def _queue_valid(self, block: bytes, at: int, advice: str) -> None:
        """Queue the lines before the byte `at`, which is not UTF-8, and keep an error for after them."""
        start = block.rfind(b"\n", 0, at) + 1
        self._queue(block[:start].decode("utf-8"))
        self._fail(DataError(
            place=f"{self.name}:{self._decoded + 1}", expected="UTF-8",
            found=f"0x{block[at]:02x} at byte {at - start + 1}", advice=advice))

    def _queue(self, text: str) -> None:
        *whole, rest = text.split("\n")
        self._pending.extend([line + "\n" for line in whole])
        if rest:
            self._pending.append(rest)
        self._decoded += len(whole) + bool(rest)

    def _fail(self, error: DataError) -> None:
        self._error = error
        self._at_end = True


def _utf16_name(block: bytes) -> str | None:
    """Return the kind of UTF-16 if a text without a byte-order mark looks like it; otherwise None.

    Such a text has many zero bytes, all at even or all at odd places. In any script, spaces and line ends
    have a zero byte.
    """
    even, odd = (block[i::2].count(0) for i in (0, 1))
    if min(even, odd) > 0 or max(even, odd) < max(_UTF16_ZEROS, len(block) // 40):
        return None
    return "utf-16-le" if odd else "utf-16-be"


class _Transcoded:
    """A file in any encoding, read as UTF-8 bytes. UnicodeDecodeError is raised after the valid text."""

    def __init__(self, raw: IO[bytes], encoding: str, errors: str) -> None:
        self._raw = raw
        self._encoding = encoding
        self._read: Callable[[int], bytes | None] = getattr(raw, "read1", raw.read)
        self._decoder = codecs.getincrementaldecoder(encoding)(errors)
        self._error: UnicodeDecodeError | None = None
        self.fileno, self.close = raw.fileno, raw.close

    def read(self, size: int) -> bytes | None:
        """Return some bytes: none at the end of the file, and None if a descriptor has no data yet."""
        while self._error is None:
            chunk = self._read(size)
            if chunk is None:
                return None
            state = self._decoder.getstate()  # a pair; the first part is the bytes of an incomplete character
            try:
                text = self._decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                error.encoding = self._encoding  # the codec may call itself charmap
                self._error = error
                self._decoder.setstate(state)
                text = self._decoder.decode(error.object[len(state[0]) : error.start])
            if text or not chunk:
                return text.encode("utf-8", "surrogatepass")
        raise self._error


def open_lines(path: str | Path, *, errors: str | None = "strict", encoding: str = "utf-8") -> Lines:
    """Open text for reading line by line; "-" is standard input.

    `.gz`, `.bz2`, `.xz` and `.zst` files are decompressed, and a byte-order mark is dropped. `errors` is the
    codec's error handler ("strict" or "replace"), or None if the user can't choose one. DataError for a
    missing or unreadable file or a folder.
    """
    raw, faults = _open(path)
    if encoding != "utf-8":
        raw = cast("IO[bytes]", _Transcoded(raw, encoding, errors or "strict"))
    return Lines(raw, name=input_names([path]), errors=errors, faults=faults)


def _open(path: str | Path) -> tuple[IO[bytes], tuple[type[Exception], ...]]:
    """Open a file, and return it with the exceptions besides OSError that it raises if it is damaged."""
    name = input_names([path])
    if str(path) == "-":
        return _stdin(), ()
    codec = _codec(Path(path))
    try:
        raw = codec.open(path, "rb") if codec else io.FileIO(path, "rb")
    except FileNotFoundError:
        raise DataError("no such file", place=name, advice="check the name") from None
    except IsADirectoryError:
        raise DataError(place=name, expected="a file", found="a folder",
                        advice="name the files in it") from None
    except (OSError, ValueError) as error:
        raise DataError(f"can't be read: {getattr(error, 'strerror', None) or error}", place=name) from None
    return raw, (EOFError, codec.fault) if codec else ()


@contextmanager
def open_output(path: str | Path | None) -> Iterator[TextIO]:
    """Open text for writing as UTF-8 with "\\n" endings; None or "-" is standard output, which stays open.

    A file is written under a temporary name. When the block ends without an error, it is synced to the disk
    and renamed. If the block fails, nothing is left behind and an older file stays as it was. The
    extension chooses a compression. RnntoolError if the file can't be written or the disk is full,
    BrokenPipeError for a closed pipe.
    """
    name = "<stdout>" if path is None or str(path) == "-" else str(path)
    try:
        if path is None or str(path) == "-":
            with _stdout() as out:
                yield out
        else:
            with _file(Path(path)) as out:
                yield out
    except OSError as error:
        if error.errno in _DISK_ERRORS:
            raise RnntoolError(f"writing failed: {error.strerror}", place=name,
                               advice="free some disk space or write elsewhere") from error
        raise


@contextmanager
def _stdout() -> Iterator[TextIO]:
    out = sys.stdout
    if out is None:
        raise RnntoolError("standard output is closed", place="<stdout>",
                           advice=(f"name a file with {setting('output')}", "redirect it to a file"))
    if isinstance(out, io.TextIOWrapper):  # surrogateescape writes invalid UTF-8 of an argument unchanged
        out.reconfigure(encoding="utf-8", errors="surrogateescape", newline="\n")
    try:
        yield out
    except Exception:
        with suppress(OSError):
            out.flush()  # finished records come before the message
        raise
    out.flush()


@contextmanager
def _file(path: Path) -> Iterator[TextIO]:
    codec = _codec(path)
    with ExitStack() as stack:
        try:
            # /dev/null or a named pipe is never replaced
            special = path.exists() and not path.is_file()
            raw = (path if special else stack.enter_context(replacement(path.resolve()))).open("wb")
        except (OSError, ValueError) as error:
            reason: Any = getattr(error, "strerror", None) or error
            if isinstance(error, IsADirectoryError):
                reason = "it is a folder"
            elif not path.parent.exists():
                reason = f"the folder {path.parent} does not exist"
            raise RnntoolError(f"can't be written: {reason}", place=path,
                               advice="choose another place") from None
        with raw:
            packed = codec.compress(raw) if codec else raw
            with io.TextIOWrapper(packed, "utf-8", errors="surrogateescape", newline="\n") as out:
                yield out


def _stdin() -> IO[bytes]:
    if sys.stdin is None:
        raise DataError("standard input is closed", place="<stdin>", advice="name a file")
    try:
        return cast("IO[bytes]", io.FileIO(sys.stdin.fileno(), "rb", closefd=False))
    except (OSError, ValueError):  # a replacement without a descriptor, as in tests
        return io.BytesIO(sys.stdin.buffer.read())


def line_count(paths: Iterable[str | Path]) -> int | None:
    """Count the lines of files; None if one of them is compressed or not a file."""
    count = 0
    for path in map(Path, paths):
        if not path.is_file() or _codec(path):
            return None
        with path.open("rb") as file:
            count += sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b""))
    return count


def may_wait(path: str | Path) -> bool:
    """Whether a reader of `path`, which isn't open yet, may have to wait, as for a pipe."""
    if str(path) == "-":
        return _live_descriptor(sys.stdin) is not None
    return Path(path).exists() and not Path(path).is_file()


def stdin_holds_data() -> bool:
    """Whether unread data waits on standard input, as far as that is known without reading or waiting.

    A file that somebody has read a part of, such as a loop of a shell, doesn't count.
    """
    try:
        descriptor = sys.stdin.fileno()
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode):
            return status.st_size > 0 and os.lseek(descriptor, 0, os.SEEK_CUR) == 0
        if not stat.S_ISFIFO(status.st_mode):
            return False
        import fcntl
        import termios

        return any(fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4)))  # number of bytes
    except (OSError, ValueError, AttributeError, ImportError):  # Windows lacks both modules
        return False


def _live_descriptor(raw: IO[Any] | None) -> int | None:
    """Return the descriptor of an input that may make a reader wait; None for plain files and buffers."""
    try:
        descriptor: int = raw.fileno()  # type: ignore[union-attr]
        return None if stat.S_ISREG(os.fstat(descriptor).st_mode) else descriptor
    except (OSError, ValueError, AttributeError):
        return None


def _readable(descriptor: int, *, timeout_s: float | None) -> bool:
    try:
        return bool(select.select([descriptor], [], [], timeout_s)[0])
    except (OSError, ValueError):  # Windows can't poll pipes; after False, answers go out at once
        return False


@dataclass(frozen=True, kw_only=True)
class _Codec:
    open: Callable[..., Any]  # (path, "rb") -> binary file of the decompressed bytes
    compress: Callable[[Any], Any]  # binary file -> file that compresses what is written into it
    fault: type[Exception]  # raised for damaged data, besides OSError and EOFError


def _codec(path: Path) -> _Codec | None:
    """Return the compression that the extension names. Its module is imported only if it is needed."""
    suffix = path.suffix.lower()
    if suffix not in COMPRESSED:
        return None
    try:
        module = importlib.import_module(COMPRESSED[suffix])
    except ModuleNotFoundError:
        package = COMPRESSED[suffix]
        raise DataError(f"{suffix} needs the Python package {package}", place=path,
                        advice="install it") from None
    if suffix == ".gz":  # without a name and a time in the header, the same text gives the same bytes
        return _Codec(
            open=module.open,
            compress=lambda raw: module.GzipFile("", "wb", compresslevel=6, fileobj=raw, mtime=0),
            fault=module.zlib.error,
        )
    fault = getattr(module, {".xz": "LZMAError", ".zst": "ZstdError"}.get(suffix, ""), EOFError)
    return _Codec(open=module.open, compress=lambda raw: module.open(raw, "wb"), fault=fault)
