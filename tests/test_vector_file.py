"""Pretrained vectors: text and binary files give the same, without a second copy in memory."""

from __future__ import annotations

import gzip
import json
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import tiny
from conftest import Run, bash, failed
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from rnntool.data.vector_file import read_vectors
from rnntool.errors import DataError

Entries = list[tuple[str, tuple[float, ...]]]
ENTRIES: Entries = [("the", (0.5, -1.25)), ("Köln", (1e-7, 3.0)), ("the", (9.0, 9.0)), ("</s>", (0.0, 2.0))]
FLOATS = st.floats(-8, 8, width=32, allow_subnormal=False)  # a training may have turned them off


def text(entries: Entries, *, header: bool) -> bytes:
    """Write vectors as text."""
    head = f"{len(entries)} {len(entries[0][1])}\n" if header else ""
    rows = (f"{word} {' '.join(map(repr, numbers))}\n" for word, numbers in entries)
    return (head + "".join(rows)).encode()


def binary(entries: Entries, *, end: bytes = b"\n") -> bytes:
    """Write vectors as word2vec does; gensim leaves out the `end` of each."""
    rows = (word.encode() + b" " + struct.pack(f"<{len(numbers)}f", *numbers) + end
            for word, numbers in entries)
    return f"{len(entries)} {len(entries[0][1])}\n".encode() + b"".join(rows)


def read(content: bytes, path: Path, *, limit: int = 100) -> tuple[list[str], NDArray[np.float32]]:
    (gzip.open if path.suffix == ".gz" else open)(path, "wb").write(content)
    return read_vectors(str(path), limit=limit)


@pytest.mark.parametrize("name", ["v.txt", "v.bin", "v.bin.gz"])
@pytest.mark.parametrize("content", [text(ENTRIES, header=False), text(ENTRIES, header=True), binary(ENTRIES),
                                     binary(ENTRIES, end=b"")])
def test_all_formats_give_the_same(content: bytes, name: str, tmp_path: Path) -> None:
    words, vectors = read(content, tmp_path / name)
    assert words == ["the", "Köln", "</s>"]
    np.testing.assert_array_equal(vectors, np.array([(0.5, -1.25), (1e-7, 3), (0, 2)], np.float32))
    words, vectors = read(content, tmp_path / name, limit=2)
    assert (words, vectors.shape, vectors.dtype) == (["the", "Köln"], (2, 2), np.float32)


@given(st.integers(3, 6).flatmap(lambda size: st.dictionaries(
    st.text(st.characters(codec="utf-8", exclude_characters=" \n\r\t"), min_size=1),
    st.tuples(*[FLOATS] * size), min_size=1)))
def test_text_is_not_taken_for_binary_and_binary_not_for_text(
    tmp_path_factory: pytest.TempPathFactory, entries: dict[str, tuple[float, ...]]
) -> None:
    path = tmp_path_factory.mktemp("vectors") / "v"
    pairs = list(entries.items())
    for content in (text(pairs, header=True), binary(pairs), binary(pairs, end=b"")):
        words, vectors = read(content, path)
        assert words == list(entries)
        np.testing.assert_array_equal(vectors, np.array(list(entries.values()), np.float32))


NAN = struct.pack("<f", float("nan"))


@pytest.mark.parametrize(("content", "message"), [
    (binary(ENTRIES)[:-9], "expected 4 vectors, as the header says, found the end of the file after 3"),
    (b"999999999999 300\nthe " + bytes(1200), "expected 999,999,999,999 vectors, .* after 1"),
    (b"2 1\nthe " + NAN + b"cat " + NAN,
     "expected finite numbers in the vector of 'the', found NaN or infinity"),
    (b"\xba\x16\x4f\x2f\x0c\0\0\0", "found a fastText model; .* such as the .vec file beside the model"),
    (b"0 2\n", "found an empty file"),
    (b"\x80\x04\x95", "v:1: expected UTF-8, found 0x80 at byte 1; convert it$"),
    (b"2 2\nthe 1 x\nof 1 2\n", "v:2: expected a word and|v:2: expected numbers after the word"),
])
def test_what_is_no_file_of_vectors_is_named(content: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read(content, tmp_path / "v")


def test_a_damaged_archive_gives_one_sentence(tmp_path: Path) -> None:
    rows = np.random.default_rng(1).random((2000, 50)).tolist()
    content = gzip.compress(binary([(f"w{i}", tuple(row)) for i, row in enumerate(rows)]))
    (tmp_path / "v.gz").write_bytes(content[:-1000])
    with pytest.raises(DataError, match=r"v\.gz: reading failed .*; check that the file is complete"):
        read_vectors(str(tmp_path / "v.gz"), limit=10**9)


def test_large_files_are_in_memory_once(tmp_path: Path) -> None:
    count, size = 30_000, 200
    row = np.arange(size, dtype="<f4").tobytes()
    with gzip.open(tmp_path / "v.bin.gz", "wb", compresslevel=1) as file:
        file.write(f"{count} {size}\n".encode() + b"".join(b"w%d " % i + row for i in range(count)))
    tracemalloc.start()
    words, vectors = read_vectors(str(tmp_path / "v.bin.gz"), limit=10**9)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (len(words), vectors[-1, 7]) == (count, 7)
    assert peak < 1.6 * vectors.nbytes


def test_commands_read_binary_vectors_from_a_pipe(tmp_path: Path, run: Run) -> None:
    numbers = {"who": (1.0, 0.1), "where": (1.0, 0.2), "town": (-1.0, 0.5)}
    (tmp_path / "v.bin").write_bytes(binary(list(numbers.items())))
    done = bash(f"cd {tmp_path}; python -m rnntool inspect neighbors who --json --vectors <(cat v.bin)")
    near = json.loads(done.stdout)["who"]
    assert [entry["word"] for entry in near] == ["where", "town"], done.stderr
    (tmp_path / "q.tsv").write_text(tiny.tsv(tiny.questions(20)))
    done = run("train", "classify", "q.tsv", "-o", "m", "--vectors", "v.bin", "--hidden", "4", "--embed", "4",
               "--epochs", "1", "-v")
    assert "embeddings start from one of 3 pretrained vectors of size 2" in done.err
    (tmp_path / "odd").write_bytes(b"\xff\xfa")
    failed(run("inspect", "neighbors", "who", "--vectors", "odd"), 3, "odd:1: expected UTF-8", "convert it\n")
