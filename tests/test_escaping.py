"""Files with one entry per line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnntool.data.escaping import read_escaped, write_escaped
from rnntool.errors import ModelError

ENTRIES = st.text(st.characters() | st.sampled_from("\\nrtu0 \n\r\t\x85\u2028\ufeff\ud800"))


@given(st.lists(ENTRIES, min_size=1))
def test_entries_survive_and_each_takes_one_line(
    tmp_path_factory: pytest.TempPathFactory, entries: list[str]
) -> None:
    path = tmp_path_factory.mktemp("entries") / "entries.txt"
    write_escaped(path, entries)
    assert read_escaped(path) == entries
    lines = path.read_text("utf-8").splitlines()
    assert len(lines) == len(entries)
    assert all(line == line.strip() for line in lines)


def test_readable_text_is_not_escaped(tmp_path: Path) -> None:
    write_escaped(tmp_path / "f", ["New York", " ", "a\nb", "\\", "日本", "B-PER"])
    assert (tmp_path / "f").read_text("utf-8") == "New York\n\\u0020\na\\nb\n\\\\\n日本\nB-PER\n"


def test_line_ends_of_windows_are_not_part_of_entries(tmp_path: Path) -> None:
    entries = ["DET", "a\rb", "c\r"]
    write_escaped(tmp_path / "f", entries)
    (tmp_path / "f").write_bytes((tmp_path / "f").read_bytes().replace(b"\n", b"\r\n"))
    assert read_escaped(tmp_path / "f") == entries


@pytest.mark.parametrize(("content", "message"), [
    (None, "No such file"), (b"", "cut short"), (b"a\nb", "cut short"), (b"a\xff\n", "expected UTF-8"),
    (b"\\x\n", r"expected an escape such as \\\\ or \\n, found \\x;"), (b"\\\n", r"found \\;"),
    (b"\\u12\n", r"found \\u;"),
])  # fmt: skip
def test_a_damaged_file(content: bytes | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "f").write_bytes(content)
    with pytest.raises(ModelError, match=message) as caught:
        read_escaped(tmp_path / "f")
    assert str(caught.value).endswith("; copy the model again")
