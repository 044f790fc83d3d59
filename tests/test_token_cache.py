"""The token cache: the same rows as in memory, no damaged or unfinished file, a bounded folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from rnntool.data import token_cache
from rnntool.data.rows import Block, Rows
from rnntool.data.token_cache import cached_rows
from rnntool.errors import RnntoolError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(token_cache, "folder", lambda: tmp_path / "cache")
    monkeypatch.setattr(token_cache, "BLOCK_BYTES", 40)
    monkeypatch.setattr("rnntool.data.rows.REMAP_AFTER", 100)
    return tmp_path / "cache"


def ignore(message: str) -> None:
    pass


def make(seed: int = 1) -> tuple[list[Block], Rows]:
    rng = np.random.default_rng(seed)
    blocks = []
    for _ in range(4):
        lengths = rng.integers(0, 40, 7)
        blocks.append(Block(rng.integers(0, 300, lengths.sum()), lengths))
    return blocks, Rows.of(blocks, np.uint16)


def keep(key: str = "k") -> Rows:
    return cached_rows(make()[0], np.uint16, key=key, warn=ignore)


def same(a: Rows, b: Rows) -> bool:
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_cached_rows_equal_those_in_memory_and_are_computed_once(cache: Path) -> None:
    blocks, rows = make()
    messages: list[str] = []
    kept = cached_rows(blocks, np.uint16, key="k", warn=messages.append)
    assert same(kept, rows)
    assert [kept[i].tolist() for i in (20, 3, 20)] == [rows[i].tolist() for i in (20, 3, 20)]
    assert np.array_equal(kept.values[5:100], rows.values[5:100])
    assert kept.lengths.tolist() == rows.lengths.tolist()

    def never() -> Iterator[Block]:
        raise AssertionError
        yield

    assert same(cached_rows(never(), np.uint16, key="k", warn=messages.append), rows)
    assert [message.split(str(cache / "k.tokens"))[0] for message in messages] == [
        "tokens are kept in ", "tokens are read from "]
    assert [path.name for path in cache.iterdir()] == ["k.tokens"]


def cut(data: bytes) -> bytes:
    return data[:-1]


def flipped(data: bytes) -> bytes:
    return data[:600] + bytes([data[600] ^ 1]) + data[601:]


def other_type(data: bytes) -> bytes:
    return data.replace(b"uint16", b"uint32")


@pytest.mark.parametrize("damage", [cut, flipped, other_type, lambda data: b"", lambda data: data[:512],
                                    lambda data: b"[]".ljust(512) + data[512:]])
def test_a_damaged_file_is_replaced(damage: Callable[[bytes], bytes], cache: Path) -> None:
    keep()
    path = cache / "k.tokens"
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert same(keep(), make()[1])
    assert path.read_bytes() == whole


def test_an_unfinished_file_is_never_used(cache: Path) -> None:
    def stopped() -> Iterator[Block]:
        yield make()[0][0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached_rows(stopped(), np.uint16, key="k", warn=ignore)
    assert list(cache.iterdir()) == []
    assert same(keep(), make()[1])


def test_the_least_recently_used_files_are_deleted(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    messages: list[str] = []
    for age, key in enumerate("dcba"):
        keep(key)
        os.utime(cache / f"{key}.tokens", (1e9 - age, 1e9 - age))  # a is the oldest
    size = (cache / "a.tokens").stat().st_size
    keep("b")
    keep("a")  # used again, so that d and c are the oldest now
    monkeypatch.setattr(token_cache, "LIMIT", 3 * size)
    new = cached_rows(make()[0], np.uint16, key="new", warn=messages.append)
    assert {path.stem for path in cache.iterdir()} == {"new", "a", "b"}
    assert same(new, make()[1])
    assert [message.split(" (")[0] for message in messages[1:]] == [
        f"{cache / name}.tokens is deleted" for name in "cd"]
    assert "MB of tokens, last used 2001-09-0" in messages[1]
    assert messages[1].endswith("): the folder is limited to 0 GB")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows doesn't delete a file that is open")
def test_an_open_file_stays_readable_after_deletion(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_cache, "LIMIT", 0)
    first, second = keep("first"), keep("second")
    assert [path.stem for path in cache.iterdir()] == ["second"], "even if it is larger than the limit"
    for _ in range(3):  # past the point where the file is mapped again
        assert same(first, make()[1]) and same(second, make()[1])
    assert same(keep("first"), make()[1]), "made again"


def test_files_that_a_killed_training_left_are_deleted(cache: Path) -> None:
    keep("a")
    for name, age in (("old.part", 2e5), ("new.part", 10), ("old.txt", 2e5)):
        (cache / name).write_text("")
        os.utime(cache / name, (cache.stat().st_mtime - age,) * 2)
    keep("b")
    assert {path.name for path in cache.iterdir()} == {"a.tokens", "b.tokens", "new.part", "old.txt"}


def test_a_full_disk_is_one_sentence(cache: Path) -> None:
    cache.write_text("a file")
    message = (r"cache: writing the data of the training to this folder failed .*; "
               r"free some disk space, or .* variable XDG_CACHE_HOME$")
    with pytest.raises(RnntoolError, match=message):
        keep()


def test_the_folder_is_the_user_s_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert token_cache.folder() == tmp_path / "rnntool" / "tokens"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    expected = {"linux": ".cache/rnntool/tokens", "darwin": "Library/Caches/rnntool/tokens"}
    if sys.platform in expected:
        assert token_cache.folder() == tmp_path / expected[sys.platform]
    assert token_cache.folder().name == "tokens"
