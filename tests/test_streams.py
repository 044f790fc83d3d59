"""Input lines and output files: line endings, encodings, live pipes, compression, atomic writes."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import stat
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnntool.data.streams import Lines, chomp, line_count, open_lines, open_output
from rnntool.errors import DataError, RnntoolError

ODD = "a\u2028b\u0085c\x0cd\x1ce\rf\u00a0g\x0b"  # str.splitlines would cut this seven times


def lines_of(data: bytes, *, errors: str = "strict") -> Lines:
    return Lines(io.BytesIO(data), name="x", errors=errors)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", []),
        (b"\n", ["\n"]),
        (b"a\r\nb\n\nc", ["a\r\n", "b\n", "\n", "c"]),
        (b"\xef\xbb\xbfa\n\xef\xbb\xbfb\n", ["a\n", "\ufeffb\n"]),
        (b"\xef\xbb\xbf", []),
        (f"{ODD}\n".encode(), [ODD + "\n"]),
    ],
)
def test_lines_end_at_newlines_only(data: bytes, expected: list[str]) -> None:
    assert list(lines_of(data)) == expected


@given(st.text(), st.integers(1, 5))
def test_lines_do_not_depend_on_the_size_of_chunks(text: str, size: int) -> None:
    class Drip(io.BytesIO):
        def read1(self, _: int | None = -1, /) -> bytes:
            return self.read(size)

    text = text.lstrip("\ufeff")
    lines = Lines(Drip(text.encode()), name="x")
    got = list(lines)
    assert "".join(got) == text
    assert lines.number == len(got) == text.count("\n") + (not text.endswith("\n") and bool(text))


def test_the_lines_of_plain_files_are_counted(tmp_path: Path) -> None:
    files = [tmp_path / "a.txt", tmp_path / "b.txt"]
    for file in files:
        file.write_bytes(b"x\n" * 700_000)
    assert line_count(files) == 1_400_000
    assert line_count([*files, "-"]) is None
    assert line_count([tmp_path / "a.txt", "/dev/null"]) is None
    packed = tmp_path / "c.txt.gz"
    packed.write_bytes(gzip.compress(b"x\n"))
    assert line_count([packed]) is None


@given(st.text(st.characters(exclude_characters="\n"), max_size=20))
def test_chomp_removes_one_line_ending(text: str) -> None:
    assert chomp(text + "\n") == (text[:-1] if text.endswith("\r") else text)
    assert chomp(text + "\r\n") == text
    assert chomp(text) == text


def test_number_and_place_belong_to_the_last_line() -> None:
    lines = lines_of(b"a\nb\nc\n")
    for n, _ in enumerate(lines, 1):
        assert (lines.number, lines.place()) == (n, f"x:{n}")
        if n == 2:
            break
    assert list(lines) == ["c\n"]  # a second iterator continues


def test_invalid_utf8_is_reported_after_the_valid_lines() -> None:
    lines = lines_of(b"good\r\nal\xc3\xa4 \xff\nrest\n")
    each = iter(lines)
    assert next(each) == "good\r\n"
    with pytest.raises(
        DataError, match=r"^x:2: expected UTF-8, found 0xff at byte 6; .*encoding_errors=replace$"
    ):
        next(each)
    assert lines.number == 1
    assert list(lines_of(b"a\xff\n", errors="replace")) == ["a\ufffd\n"]


@pytest.mark.parametrize(("data", "what"), [
    ("a\n".encode("utf-16"), "UTF-16; if it is, set encoding=utf-16"),
    (gzip.compress(b"a\n", mtime=0), "gzip, so unpack it first with gzip -dc"),
    (bz2.compress(b"a\n"), "bzip2, so unpack it first with bzip2 -dc"),
    (lzma.compress(b"a\n"), "xz, so unpack it first with xz -dc"),
    (b"PK\x03\x04\x14\xfa\n", "an archive or an office file, save it as text first"),
])
def test_errors_name_the_type_of_binary_files(data: bytes, what: str) -> None:
    for errors in ("strict", "replace"):  # an archive with replaced bytes is useless
        with pytest.raises(DataError, match=f": expected UTF-8, found .*; it looks like {what}$"):
            list(lines_of(data, errors=errors))
    with pytest.raises(DataError, match=r"; name its encoding .*, or set encoding_errors=replace$"):
        list(lines_of(b"text\n" + data))


@pytest.mark.parametrize("errors", ["strict", "replace"])
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("text", [
    "a line\r\nand a second\n", "A dog\n", "одна строка\nи вторая\n" * 9,
    "ઉદાહરણ એક વાક્ય\n" * 9,  # these letters have a byte 0x0a that doesn't end a line
])
def test_utf_16_without_a_byte_order_mark_is_detected(text: str, encoding: str, errors: str) -> None:
    advice = rf"^x:1: expected UTF-8, found 0x00 at byte \d+; it looks .* encoding={encoding}$"
    with pytest.raises(DataError, match=advice):
        list(lines_of(text.encode(encoding), errors=errors))


def test_a_tar_archive_is_detected(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a line\n")
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.USTAR_FORMAT) as archive:
        archive.add(tmp_path / "a.txt", "a.txt")
    with pytest.raises(DataError, match=":1: expected text, found an archive of files; unpack it first with"):
        list(lines_of((tmp_path / "a.tar").read_bytes()))


def test_a_zero_byte_in_text_is_a_character() -> None:
    for data in (b"a long enough line with a \0 in it\n", b"a\0bc\0def\0\n"):
        assert list(lines_of(data)) == [data.decode()]


@given(st.binary(max_size=50))
def test_any_bytes_give_lines_or_one_clear_error(data: bytes) -> None:
    with suppress(DataError):  # for what begins like an archive
        assert "".join(lines_of(data, errors="replace")).count("\n") == data.count(b"\n")
    try:
        list(lines_of(data))
    except DataError as e:
        assert str(e).startswith("x:")


def test_a_very_long_line_takes_linear_time(tmp_path: Path) -> None:
    file = tmp_path / "long"
    file.write_bytes(b"x" * 20_000_000)
    started = time.perf_counter()
    with open_lines(file) as lines:
        assert [len(line) for line in lines] == [20_000_000]
    assert time.perf_counter() - started < 3


def test_missing_folder_and_unreadable(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        open_lines(tmp_path / "none")
    for name in ("folder", "folder.gz"):
        (tmp_path / name).mkdir()
        with pytest.raises(DataError, match="found a folder"):
            open_lines(tmp_path / name)
    with pytest.raises(DataError, match="can't be read"):
        open_lines("a\0b")
    with pytest.raises(DataError, match="can't be read"):
        open_lines(tmp_path / ("x" * 5000))


PACK: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".GZ": gzip.compress,
}


@pytest.mark.parametrize("suffix", PACK)
def test_compressed_input(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"a{suffix}"
    packed = PACK[suffix]("ä\nb".encode())
    file.write_bytes(packed + packed)  # archives may be concatenated
    with open_lines(file) as lines:
        assert lines.ready()
        assert list(lines) == ["ä\n", "bä\n", "b"]


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz"])
@pytest.mark.parametrize("damage", ["cut", "foreign", "flipped"])
def test_damaged_archives_are_data_errors(tmp_path: Path, suffix: str, damage: str) -> None:
    packed = PACK[suffix](os.urandom(3000).hex().encode() + b"\n")
    middle = len(packed) // 2
    bad = {
        "cut": packed[:middle],
        "foreign": b"plain text\n",
        "flipped": packed[:middle]
        + bytes([packed[middle] ^ 0xFF, packed[middle + 1] ^ 0xFF])
        + packed[middle + 2 :],
    }[damage]
    file = tmp_path / f"a{suffix}"
    file.write_bytes(bad)
    with pytest.raises(DataError, match=r"check that the file is complete$"), open_lines(file) as lines:
        list(lines)


def test_a_truncated_archive_yields_its_good_lines_first(tmp_path: Path) -> None:
    file = tmp_path / "a.gz"
    file.write_bytes(gzip.compress(b"".join(b"%d\n" % n for n in range(99999)))[:-20])
    got: list[str] = []
    with pytest.raises(DataError, match="after line"), open_lines(file) as lines:
        for line in lines:
            got.append(line)
    assert got[:2] == ["0\n", "1\n"] and len(got) > 9999


def test_zstandard(tmp_path: Path) -> None:
    file = tmp_path / "a.zst"
    try:
        with open_output(file) as out:
            out.write("ä\nb")
    except DataError as e:
        assert "zst" in str(e) and "install" in str(e)
    else:
        assert list(open_lines(file)) == ["ä\n", "b"]


class Pipe:
    """A live pipe and the Lines that read it."""

    def __init__(self) -> None:
        reader, self.writer = os.pipe()
        self.lines = Lines(os.fdopen(reader, "rb", buffering=0), name="<pipe>")

    def send(self, data: bytes) -> None:
        os.write(self.writer, data)


@pytest.mark.skipif(os.name == "nt", reason="pipes can't be asked there")
def test_a_pushed_back_line_is_returned_again() -> None:
    lines = Lines(io.BytesIO(b"one\ntwo\nthree"), name="x")
    each = iter(lines)
    assert [next(each), next(each), lines.place()] == ["one\n", "two\n", "x:2"]
    lines.push_back("two\n")
    assert (lines.place(), lines.head()) == ("x:1", ["two\n"])
    assert [(line, lines.number) for line in each] == [("two\n", 2), ("three", 3)]
    lines.push_back("three")  # also at the end
    assert list(lines) == ["three"]


def test_ready_on_a_live_pipe() -> None:
    pipe = Pipe()
    lines, each = pipe.lines, iter(pipe.lines)
    with lines:
        assert not lines.ready()
        pipe.send(b"one\ntwo\nthr")
        assert lines.ready()
        assert next(each) == "one\n" and lines.ready()
        assert next(each) == "two\n"
        assert not lines.ready()  # half a line is not ready
        pipe.send(b"ee")
        assert not lines.ready()
        pipe.send(b"\n\xc3")
        assert lines.ready()
        assert next(each) == "three\n" and not lines.ready()
        pipe.send(b"\xa4")
        os.close(pipe.writer)
        assert lines.ready()  # at the end, nobody has to wait
        assert next(each) == "ä"
        assert lines.ready()
        assert next(each, None) is None and lines.ready()
        assert lines.number == 4


@pytest.mark.skipif(os.name == "nt", reason="pipes can't be asked there")
def test_ready_for_records_of_several_lines() -> None:
    pipe = Pipe()

    def ready() -> bool:
        return pipe.lines.ready(lambda lines: "\n" in lines)

    with pipe.lines as lines:
        pipe.send(b"one\ntwo\n")
        assert lines.ready() and not ready()
        pipe.send(b"\nthree\n")
        assert ready()
        assert [line for _, line in zip(range(3), lines, strict=False)] == ["one\n", "two\n", "\n"]
        assert lines.ready() and not ready()
        os.close(pipe.writer)
        assert ready()


@pytest.mark.skipif(os.name == "nt", reason="pipes can't be asked there")
def test_a_nonblocking_descriptor_waits() -> None:
    pipe = Pipe()
    os.set_blocking(pipe.lines._raw.fileno(), False)
    code = f"import os, time; time.sleep(.2); os.write({pipe.writer}, b'late\\n')"
    child = subprocess.Popen([sys.executable, "-c", code], pass_fds=[pipe.writer])
    os.close(pipe.writer)
    with pipe.lines as lines:
        assert not lines.ready()
        assert list(lines) == ["late\n"]
    child.wait()


def test_ready_is_true_on_files_and_on_errors(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"a\n\xff\n")
    with open_lines(file) as lines:
        assert lines.ready() and next(iter(lines)) == "a\n" and lines.ready()
        with pytest.raises(DataError):
            list(lines)
        assert lines.ready()


ECHO = """
import sys
from rnntool.data.streams import open_lines, open_output
with open_lines("-") as lines, open_output("-") as out:
    for line in lines:
        out.write(line)
        if not lines.ready():
            out.flush()
assert not sys.stdout.closed
"""


def test_standard_streams_answer_each_line_at_once() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", ECHO], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdin is not None and child.stdout is not None
        for text in ("eins\r\n", "zw\u2028ö\n"):
            child.stdin.write(text.encode())
            child.stdin.flush()
            assert child.stdout.readline() == text.encode()
        child.stdin.write(b"last")
        child.stdin.close()
        assert child.stdout.read() == b"last"
    assert child.returncode == 0


@pytest.mark.skipif(os.name == "nt", reason="no such shell")
def test_closed_standard_input_is_a_data_error() -> None:
    code = "from rnntool.data.streams import open_lines; open_lines('-')"
    done = subprocess.run(f"'{sys.executable}' -c \"{code}\" <&-", shell=True, capture_output=True, text=True)
    assert "DataError: <stdin>" in done.stderr


def test_standard_output_is_utf8_with_plain_newlines() -> None:
    code = "from rnntool.data.streams import open_output\nwith open_output(None) as out: out.write('ä\\n')"
    env = {**os.environ, "PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=env)
    assert (done.stdout, done.stderr) == ("ä\n".encode(), b"")


def test_replaced_standard_streams(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a\nb")))
    with open_lines("-") as lines, open_output("-") as out:
        assert lines.name == "<stdin>"
        out.writelines(lines)
    assert capsys.readouterr().out == "a\nb"


@pytest.mark.parametrize("name", ["a.txt", "a.gz", "a.bz2", "a.xz"])
@settings(deadline=None)  # the disk may be slow
@given(text=st.text())
def test_written_text_is_read_again(tmp_path_factory: pytest.TempPathFactory, name: str, text: str) -> None:
    file = tmp_path_factory.mktemp("out") / name
    with open_output(file) as out:
        out.write(text)
    with open_lines(file) as lines:
        assert "".join(lines) == text.removeprefix("\ufeff")
    assert [f.name for f in file.parent.iterdir()] == [name]


def test_the_same_text_gives_the_same_archive(tmp_path: Path) -> None:
    for name in ("a.gz", "b.gz"):
        with open_output(tmp_path / name) as out:
            out.write("text\n")
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failure_leaves_only_the_old_file(tmp_path: Path, error: type[BaseException]) -> None:
    file = tmp_path / "a.txt"
    file.write_text("old")
    with pytest.raises(error), open_output(file) as out:
        out.write("new")
        assert file.read_text() == "old"
        raise error
    assert file.read_text() == "old" and list(tmp_path.iterdir()) == [file]


@pytest.mark.skipif(os.name == "nt", reason="modes and links of another kind")
def test_modes_and_links_are_kept(tmp_path: Path) -> None:
    old, new, link = tmp_path / "old", tmp_path / "new", tmp_path / "link"
    old.write_text("old")
    old.chmod(0o640)
    link.symlink_to(old)
    for place in (link, new):
        with open_output(place) as out:
            out.write("text")
    umask = os.umask(0)
    os.umask(umask)
    assert link.is_symlink() and old.read_text() == "text"
    assert stat.S_IMODE(old.stat().st_mode) == 0o640
    assert stat.S_IMODE(new.stat().st_mode) == 0o666 & ~umask


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no such devices")
def test_devices_are_written_not_replaced() -> None:
    with open_output("/dev/null") as out:
        out.write("text")
    assert Path("/dev/null").is_char_device()
    with pytest.raises(RnntoolError, match="/dev/full: writing failed"), open_output("/dev/full") as out:
        out.write("text")


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    for place, reason in ((tmp_path, "it is a folder"), ("a\0b", "embedded null byte"),
                          (tmp_path / "none" / "a.txt", "the folder .*none does not exist")):
        with pytest.raises(RnntoolError, match=f"can't be written: {reason}; choose"), open_output(place):
            pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("encoding", "data"), [("cp1252", b"a\nb\x81\n"), ("ascii", b"a\nb\x81\n")])
def test_a_bad_byte_in_another_encoding_names_that_encoding(
    encoding: str, data: bytes, tmp_path: Path
) -> None:
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(DataError, match=f"x:2: expected {encoding}, found 0x81; check encoding"):
        list(open_lines(tmp_path / "x", encoding=encoding))
