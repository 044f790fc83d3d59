"""Corpora in memory and in files: the same texts, the same training, and bounded memory."""

from __future__ import annotations

import gzip
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from conftest import environment
from test_resume import files_of, metrics_of, stop_after

from rnntool import model_folder
from rnntool.data import corpus, token_cache
from rnntool.data.corpus import Texts
from rnntool.data.records import Text
from rnntool.data.tokenizers import subword
from rnntool.errors import RnntoolError
from rnntool.tasks.lm import LMTask
from rnntool.tasks.specs.lm import LMSettings
from rnntool.training.loop import Interrupted

HOSTILE = ["", "a b", "\0", "\0[]\0", "ä€😀", "\ud800", "a\nb\r", "\ufeff", "x" * 300, ""]
TEXTS = [Text(text, place=f"f:{i}") for i, text in enumerate(HOSTILE * 3)]
LABELED = [Text(text.text, (f"l{i % 3}", '"'), place=text.place) for i, text in enumerate(TEXTS)]

NO_ROOM = (r"^.*cache: writing the data of the training to this folder failed .*; "
           r"free some disk space, or .* variable XDG_CACHE_HOME$")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(token_cache, "folder", lambda: tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every corpus a large one that is handled in small blocks."""
    monkeypatch.setattr(corpus, "LARGE", 50)
    monkeypatch.setattr(corpus, "BLOCK_BYTES", 40)
    monkeypatch.setattr("rnntool.data.rows.REMAP_AFTER", 100)
    monkeypatch.setattr("rnntool.tasks.lm.BLOCK_BYTES", 40)


def ignore(anything: object) -> None:
    pass


def collect(texts: list[Text]) -> Texts:
    return Texts.collect(texts, watch=ignore)


def content(texts: Texts | list[Text]) -> list[tuple[Any, ...]]:
    return [(text.text, text.labels, text.place if text.labels else "") for text in texts]


@pytest.mark.parametrize("texts", [TEXTS, LABELED, []])
@pytest.mark.parametrize("where", ["memory", "file"])
def test_texts_come_back_unchanged(
    where: str, texts: list[Text], request: pytest.FixtureRequest
) -> None:
    if where == "file":
        request.getfixturevalue("large")
    kept = collect(texts)
    assert kept.large == (where == "file" and bool(texts))
    assert content(kept) == content(texts)
    assert content([kept[i] for i in range(len(kept))]) == content(texts)
    assert content(kept[3:-4]) == content(texts[3:-4])
    places = [i for i in range(len(texts)) if i % 5 not in (1, 2)]
    picked = kept.pick(np.array(places, np.int64))
    assert content(picked) == content([texts[i] for i in places])
    assert content(picked[1:]) == content([texts[i] for i in places[1:]])


def test_the_digest_depends_on_the_content_only(large: None, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [Text("ab"), Text("c")]
    of_file = collect(texts * 20).digest()
    monkeypatch.setattr(corpus, "LARGE", 1000)
    assert collect(texts * 20).digest() == of_file
    moved = [Text(text.text, text.labels, place="other") for text in LABELED]
    assert collect(moved).digest() == collect(LABELED).digest()
    others = [[Text("a"), Text("bc")], [Text("ab"), Text("c"), Text("")], [Text("ab", ("x",)), Text("c")],
              [Text("abc")], [Text("c"), Text("ab")], texts]
    assert len({collect(other).digest() for other in others}) == len(others)
    halves = collect(texts * 20)
    assert len({halves.digest(), halves[:20].digest(), halves[20:].digest(),
                halves.pick(np.array([0, 3])).digest()}) == 4


def test_a_full_disk_for_a_large_corpus_is_one_sentence(large: None, cache: Path) -> None:
    cache.write_text("a file")
    with pytest.raises(RnntoolError, match=NO_ROOM):
        collect(TEXTS)


@pytest.mark.parametrize("kind", ["unigram", "char", "byte", "word"])
def test_blocks_contain_the_examples(kind: str, large: None) -> None:
    texts = [Text(text) for text in [*tiny.lines_of_text(30), "", "a \u2581 b", "zebra \ud800"]]
    task = LMTask.learn(texts, LMSettings(tokenizer=kind, vocab_size=300 if kind == "unigram" else None))
    rows = task.rows(texts)
    assert rows.values[:0].dtype == np.min_scalar_type(task.sizes()["vocabulary"] - 1)
    assert [row.tolist() for row in rows] == [task.example(text).tolist() for text in texts]


def test_subwords_are_learned_from_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = tiny.lines_of_text(400)
    few = subword._sample(iter(texts))
    assert few == texts
    monkeypatch.setattr(subword, "SUBWORD_SAMPLE", 4000)
    sample = subword._sample(iter(texts))
    assert sample == subword._sample(iter(texts))
    assert 1000 < sum(map(len, sample)) <= 4000
    rest = iter(texts)
    assert all(text in rest for text in sample), "in order"
    assert set(sample) & set(texts[-100:]), "from everywhere"
    monkeypatch.setattr(subword, "SUBWORD_SAMPLE", 100_000)
    assert 30_000 < sum(map(len, subword._sample(["x" * 1_000_000]))) <= 100_000, "of a long text, parts"


# --- Training -----------------------------------------------------------------------------------------------

TRAININGS: dict[str, dict[str, Any]] = {
    "stream": {"context": "stream", "bptt": 20, "epochs": 2},
    "line": {"epochs": 2, "tokenizer": "word"},
    "labels": {"epochs": 2, "label_column": "label"},
}


def write(kind: str, folder: Path) -> Path:
    path = folder / ("train.tsv" if kind == "labels" else "train.txt")
    text = tiny.tsv(tiny.labeled_texts(60)) if kind == "labels" else "\n".join(tiny.lines_of_text(60))
    path.write_text(text, "utf-8")
    return path


@pytest.mark.parametrize("kind", TRAININGS)
def test_training_on_a_large_text_gives_the_same_model(
    kind: str, tmp_path: Path, cache: Path, request: pytest.FixtureRequest
) -> None:
    file, settings = write(kind, tmp_path), TRAININGS[kind]
    tiny.train("lm", tmp_path / "small", [file], **settings)
    assert not cache.exists()
    request.getfixturevalue("large")
    packed = file.with_name(file.name + ".gz")
    packed.write_bytes(gzip.compress(file.read_bytes()))
    tiny.train("lm", tmp_path / "large", [packed], **settings)
    assert files_of(tmp_path / "large", named=False) == files_of(tmp_path / "small", named=False)
    assert metrics_of(tmp_path / "large") == metrics_of(tmp_path / "small")
    (kept,) = cache.iterdir()
    written = kept.stat().st_ino
    once = settings | {"epochs": 1}
    tiny.train("lm", tmp_path / "again", [file], **once)
    assert [path.stat().st_ino for path in cache.iterdir()] == [written], "used again, as it is"
    text = file.read_text("utf-8")
    file.write_text(text.replace("soup", "rice", 1).replace(" the ", " teh ", 1), "utf-8")
    tiny.train("lm", tmp_path / "again", [file], force=True, **once)
    assert len(list(cache.iterdir())) == 2, "other content has a place of its own"


@pytest.mark.parametrize("kind", TRAININGS)
def test_training_on_a_large_text_resumes_to_the_same_bytes(
    kind: str, tmp_path: Path, cache: Path, large: None
) -> None:
    file, settings = write(kind, tmp_path), TRAININGS[kind]
    tiny.train("lm", tmp_path / "whole", [file], **settings)
    out = tmp_path / "stopped"
    with pytest.raises(Interrupted):
        tiny.train("lm", out, [file], stopping=stop_after(3), **settings)
    with pytest.raises(Interrupted):
        tiny.train("lm", out, resume=True, stopping=stop_after(2))
    for kept in cache.iterdir():
        kept.write_bytes(kept.read_bytes()[:700])
    tiny.train("lm", out, resume=True)
    assert files_of(out) == files_of(tmp_path / "whole")
    assert metrics_of(out) == metrics_of(tmp_path / "whole")
    assert not (out / model_folder.RESUME).exists()


MEASURED = """
import sys
from pathlib import Path
from rnntool.data import corpus, rows
from rnntool.tasks.specs.lm import LMSettings
from rnntool.data.formats import read_texts
from rnntool.data.streams import open_lines
from rnntool.tasks.lm import LMTask
from rnntool.data.tokenizers import subword
from rnntool.training.batching import Streamed
corpus.LARGE = rows.REMAP_AFTER = 1 << 20
with open_lines(sys.argv[1]) as lines:
    texts = corpus.Texts.collect(read_texts(lines, format="text"), watch=lambda stage: None)
task = LMTask.learn(texts, LMSettings(tokenizer="byte"))
cached = task.training_examples(texts, watch=lambda stage: None, log=lambda text: None)
windows = sum(1 for window in Streamed(task.windows, cached.values, columns=8, time_steps=1000).epoch(0))
peak = Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]  # not that of the parent
print(len(texts), len(cached.values), windows, peak)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for the peak")
def test_memory_does_not_grow_with_the_text(tmp_path: Path) -> None:
    line = "".join(random.Random(1).choices("abcdefgh ", k=255)) + "\n"
    peaks = []
    for megabytes in (3, 18):
        file = tmp_path / f"{megabytes}.txt"
        file.write_text(line * (megabytes << 12))
        done = subprocess.run([sys.executable, "-c", MEASURED, str(file)], capture_output=True, text=True,
                              env=environment() | {"XDG_CACHE_HOME": str(tmp_path)}, check=True)
        texts, tokens, windows, peak = map(int, done.stdout.split())
        assert (texts, tokens) == (megabytes << 12, megabytes << 20)
        assert windows == -(-tokens // 8000)
        peaks.append(peak)
    assert peaks[1] - peaks[0] < 20 << 10, "KiB; there were 15 MiB more of text, and 30 of tokens"
