"""Read a file of a model folder. The folder may come from a stranger, so only plain files in it are read."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rnntool.errors import ModelError

LARGEST_TEXT = 1 << 28  # bytes, of configurations, vocabularies and labels


def read(path: Path, *, largest: int = LARGEST_TEXT) -> bytes:
    """Return the content of a file, which has at most `largest` bytes; `ModelError` if it can't be read."""
    try:
        check_plain(path, largest=largest)
        return path.read_bytes()
    except OSError as error:
        raise damaged(path, f"can't be read ({error.strerror})") from None


def read_tensors(path: Path, names: Sequence[str]) -> list[Any]:
    """Return the NumPy arrays of these names in a safetensors file; `ModelError` if it is damaged."""
    return tensors_of(read(path), path, names)


def tensors_of(content: bytes, path: Path, names: Sequence[str]) -> list[Any]:
    """Return the NumPy arrays of these names, given the content of the safetensors file `path`."""
    from safetensors.numpy import load

    try:
        tensors = load(content)
        return [tensors[name] for name in names]
    except Exception as error:  # the exceptions of safetensors are not public
        raise damaged(path, f"is damaged ({error})") from None


def check_plain(path: Path, *, largest: int) -> None:
    """Raise `ModelError` unless `path` is a plain file of its folder with at most `largest` bytes.

    A pipe or a device might never end, and a link could lead to any file of the user. Raises `OSError` if
    there is no such file.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
        raise damaged(path, expected="a file", found="a pipe, a socket or a device")
    if path.is_symlink() and not path.resolve().is_relative_to(path.parent.resolve()):
        raise ModelError(place=path, expected="a file in the model's folder", found="a link that leaves it",
                         advice="if you trust the file, replace the link with a copy of it")
    if status.st_size > largest:
        raise damaged(path, expected=f"at most {largest:,} bytes", found=f"{status.st_size:,}")


def damaged(
    path: Path, problem: str = "", *, expected: str | None = None, found: object = None
) -> ModelError:
    """Return the error for a damaged file of a model folder."""
    return ModelError(problem, place=path, expected=expected, found=found, advice="copy the model again")
