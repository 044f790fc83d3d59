"""Files with a name on each line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnntool.data.escaping import read_escaped, write_escaped
from rnntool.errors import ModelError

NAMES = st.text(st.characters() | st.sampled_from("\\nrtu0 \n\r\t\x85\u2028\ufeff\ud800"))


@given(st.lists(NAMES, min_size=1))
def test_names_come_back_and_each_takes_a_line(
    tmp_path_factory: pytest.TempPathFactory, names: list[str]
) -> None:
    path = tmp_path_factory.mktemp("names") / "names.txt"
    write_escaped(path, names)
    assert read_escaped(path) == names
    lines = path.read_text("utf-8").splitlines()
    assert len(lines) == len(names)
    assert all(line == line.strip() for line in lines)


def test_what_can_be_read_stays_as_it_is(tmp_path: Path) -> None:
    write_escaped(tmp_path / "f", ["New York", " ", "a\nb", "\\", "日本", "B-PER"])
    assert (tmp_path / "f").read_text("utf-8") == "New York\n\\u0020\na\\nb\n\\\\\n日本\nB-PER\n"


def test_line_ends_of_windows_are_no_part_of_names(tmp_path: Path) -> None:
    names = ["DET", "a\rb", "c\r"]
    write_escaped(tmp_path / "f", names)
    (tmp_path / "f").write_bytes((tmp_path / "f").read_bytes().replace(b"\n", b"\r\n"))
    assert read_escaped(tmp_path / "f") == names


@pytest.mark.parametrize(("content", "want"), [
    (None, "No such file"), (b"", "cut short"), (b"a\nb", "cut short"), (b"a\xff\n", "expected UTF-8"),
    (b"\\x\n", r"found \\x, which is no escape"), (b"\\\n", "no escape"), (b"\\u12\n", "no escape"),
])  # fmt: skip
def test_a_damaged_file(content: bytes | None, want: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "f").write_bytes(content)
    with pytest.raises(ModelError, match=want) as caught:
        read_escaped(tmp_path / "f")
    assert str(caught.value).endswith("; copy the model again")
