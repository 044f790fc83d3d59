"""Pretrained word vectors in files: text, as GloVe writes it, or the binary format of word2vec.

In text, each line has a word and its numbers; word2vec and fastText have a header before them. In the binary
format, each word of UTF-8 is followed by a space and by its numbers as little-endian 32-bit floats.
"""

from __future__ import annotations

import codecs
import math
import re
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from rnntool.data.streams import Lines, chomp, open_lines
from rnntool.errors import DataError, setting

_ADVICE = f"set {setting('vectors')} to a file of GloVe or word2vec vectors"
_HEADER = re.compile(rb"(\d{1,12}) (\d{1,6})\r?\n")  # the number of words and of dimensions
_FASTTEXT_MAGIC = b"\xba\x16\x4f\x2f"
_HEAD = 1 << 17  # bytes to recognize the format by; they hold at least one vector
_CHECKED_AT_ONCE = 1 << 14  # vectors

_Vector = tuple[str, bytes]  # a word and its float32 numbers


def read_vectors(path: str, *, limit: int) -> tuple[list[str], NDArray[np.float32]]:
    """Read up to `limit` words from the top of a file and their vectors (N, D).

    If a word occurs several times, its first vector counts. The file is read once and may be a pipe.
    """
    words: dict[str, None] = {}
    values = bytearray()  # grows without a second copy of its content
    with open_lines(path, errors=None) as lines:
        head = lines.peek(_HEAD)
        if head.startswith(_FASTTEXT_MAGIC):
            raise DataError(place=path, expected="word vectors", found="a fastText model",
                            advice=f"{_ADVICE}, such as the .vec file beside the model")
        for word, row in _binary_vectors(lines) if _is_binary(head) else _text_vectors(lines):
            if word not in words:
                words[word] = None
                values += row
            if len(words) == limit:
                break
    if not words:
        raise DataError(place=path, expected="word vectors", found="an empty file", advice=_ADVICE)
    vectors = np.frombuffer(values, "<f4").astype(np.float32, copy=False).reshape(len(words), -1)
    for start in range(0, len(vectors), _CHECKED_AT_ONCE):
        finite = np.isfinite(vectors[start : start + _CHECKED_AT_ONCE]).all(axis=1)
        if not finite.all():
            word = list(words)[start + int(finite.argmin())]
            raise DataError(place=path, expected=f"finite numbers in the vector of {word!r}",
                            found="NaN or infinity", advice=_ADVICE)
    return list(words), vectors


def _text_vectors(lines: Lines) -> Iterator[_Vector]:
    size = 0
    for line in lines:
        # some words of GloVe contain a space, so the numbers are counted from the end
        word, *numbers = chomp(line).rstrip(" ").rsplit(" ", size or -1)
        if lines.number == 1 and len(numbers) == 1 and word.isdigit():
            continue  # the header
        size = size or len(numbers)
        if len(numbers) != size or not numbers or _ends_in_a_number(word):
            raise DataError(place=lines.place(), expected=f"a word and {size or 'some'} numbers",
                            found=len(chomp(line).rstrip(" ").split(" ")) - 1, advice=_ADVICE)
        try:
            row = np.array(numbers, np.float32)
        except ValueError:
            row = np.array([np.nan])
        if not np.isfinite(row).all():
            raise DataError(place=lines.place(), expected="a word and finite numbers",
                            found=repr(chomp(line)[:80]), advice=_ADVICE)
        yield word, row.astype("<f4", copy=False).tobytes()


def _binary_vectors(lines: Lines) -> Iterator[_Vector]:
    chunks = lines.chunks()
    pending = next(chunks)
    header = _HEADER.match(pending)
    assert header is not None
    count, width = int(header[1]), 4 * int(header[2])
    at = header.end()
    for number in range(count):
        while (end := pending.find(b" ", at)) < 0 or len(pending) < end + 1 + width:
            chunk = next(chunks, b"")
            if not chunk:
                raise DataError(place=lines.name, expected=f"{count:,} vectors, as the header says",
                                found=f"the end of the file after {number:,}",
                                advice="check that the file is complete")
            pending, at = pending[at:] + chunk, 0
        # word2vec itself ends each vector with a line break
        word = pending[at:end].removeprefix(b"\n").decode("utf-8", "replace")
        at = end + 1 + width
        yield word, pending[end + 1 : at]


def _is_binary(head: bytes) -> bool:
    """Whether a file is in the binary format: no line of text follows the header."""
    header = _HEADER.match(head)
    if not header or len(head) == header.end() or header[2].strip(b"0") == b"":
        return False
    line, end, _ = head[header.end() :].partition(b"\n")
    if end and _is_text_vector(line, int(header[2])):
        return False
    try:
        text, _ = codecs.utf_8_decode(head)  # the last character may be cut off
    except UnicodeDecodeError:
        return True
    return any(character < " " and character not in "\t\r\n" for character in text)


def _is_text_vector(line: bytes, size: int) -> bool:
    try:
        return len(list(map(float, line.split()[-size:]))) == size
    except ValueError:
        return False


def _ends_in_a_number(word: str) -> bool:
    """Whether a word with spaces ends in a number, so that the line has more numbers than the others."""
    _, space, last = word.rpartition(" ")
    try:
        return bool(space) and math.isfinite(float(last))
    except ValueError:
        return False
