"""Files that appear complete or not at all: temporary names, syncing to the disk, locks between processes."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PART = re.compile(r"\.rnntool-[0-9a-f]{12}\.part")
_LOCKED_BYTE = 1 << 30  # after the content, because Windows lets nobody read a locked byte


@contextmanager
def replacement(path: Path) -> Iterator[Path]:
    """Provide a temporary file beside `path`. At the end, sync it to the disk and let it replace `path`.

    If the body fails, nothing changes. Temporary files of processes that were killed are removed. A device
    or a named pipe is never replaced: it is provided itself.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        yield path
        return
    remove_abandoned(path.parent)
    part, descriptor = None, None
    try:
        part, descriptor = _new_part(path.parent)
        yield part
        if path.exists():
            shutil.copymode(path, part)
        sync(part)
        part.replace(path)
    except BaseException:
        if part is not None:
            part.unlink(missing_ok=True)
        raise
    finally:
        if descriptor is not None:
            os.close(descriptor)
    sync(path.parent)


def remove_abandoned(folder: Path) -> None:
    """Remove the temporary files of processes that don't exist any more."""
    with suppress(OSError):
        for name in filter(_PART.fullmatch, os.listdir(folder)):  # noqa: PTH208 - faster than paths
            with suppress(OSError):
                _remove_if_abandoned(folder / name)


def sync(path: Path) -> None:
    """Wait until a file's content, or the names in a folder, are on the disk and survive a power cut."""
    is_folder = path.is_dir()
    if is_folder and sys.platform == "win32":
        return  # Windows can't sync folders
    descriptor = os.open(path, os.O_RDWR if sys.platform == "win32" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        if not is_folder:  # some file systems can't sync folders
            raise
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Sync a folder with everything in it."""
    for path in folder.rglob("*"):
        sync(path)
    sync(folder)


def try_lock(descriptor: int) -> bool:
    """Lock a file that is open for writing; return False if another process has locked it.

    The lock ends when the descriptor is closed or the process ends. `OSError` if the file system has no
    locks.
    """
    if sys.platform == "win32":
        import msvcrt

        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
    else:
        import fcntl

        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def _new_part(folder: Path) -> tuple[Path, int | None]:
    """Create a temporary file. While its descriptor is open, other processes see that it is in use."""
    while True:
        part = folder / f".rnntool-{os.urandom(6).hex()}.part"
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        if sys.platform == "win32":  # Windows can't remove or rename an open file
            os.close(descriptor)
            return part, None
        locked = True
        with suppress(OSError):  # without locks, no process removes another's file
            locked = try_lock(descriptor)
        if locked and os.fstat(descriptor).st_nlink:
            return part, descriptor
        os.close(descriptor)  # another process removed it before it was locked


def _remove_if_abandoned(part: Path) -> None:
    if sys.platform == "win32":
        part.unlink()
        return
    descriptor = os.open(part, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW)
    try:
        if try_lock(descriptor):
            part.unlink()
    finally:
        os.close(descriptor)
