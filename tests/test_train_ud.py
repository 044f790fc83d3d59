"""From a treebank to a model of raw text: a tagger with a segmenter of its own, and `train ud`."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import tiny
from conftest import Run, failed, invoke, ok

import rnntool
from rnntool import model_folder
from rnntool.commands.options import Messages
from rnntool.commands.treebank_columns import annotated_columns
from rnntool.data.reading import TableReading
from rnntool.errors import DataError, ModelError, UsageError
from rnntool.tasks.specs.segment import SegmentSettings
from rnntool.tasks.specs.tag import UD_COLUMNS
from rnntool.training.loop import Interrupted

UPOS = {".": "PUNCT", "do": "AUX", "nt": "PART"}
TEXT = "Hunt dont sing. Jump bak.\n\nWork."


def treebank(n: int, seed: int = 0) -> str:
    """Write a treebank in which each word depends on the one before it; all FEATS and XPOS are `_`."""
    def annotated(line: str) -> str:
        cells = line.split("\t")
        if cells[0].isdecimal():
            cells[2] = cells[1].lower()
            cells[3] = UPOS.get(cells[1], "NOUN" if cells[1].endswith("r") else "VERB")
            cells[6], cells[7] = str(int(cells[0]) - 1), "dep" if int(cells[0]) > 1 else "root"
        return "\t".join(cells)

    return "\n".join(map(annotated, tiny.segmented_conllu(n, seed).split("\n")))


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with treebanks. Segmenters are trained for a few steps only."""
    monkeypatch.setattr(SegmentSettings, "min_steps", 10)
    (tmp_path / "t.conllu").write_text(treebank(30), "utf-8")
    (tmp_path / "d.conllu").write_text(treebank(10, seed=5), "utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def train(data: Path, name: str = "m", **settings: Any) -> dict[str, Any]:
    """Train a tagger with a segmenter of its own."""
    begun = settings.get("resume")
    chosen = {} if begun else {"segmenter": "train", "column": "upos,lemma", "epochs": 2}
    return tiny.train("tag", data / name, [] if begun else [data / "t.conllu"],
                      dev=[] if begun else [data / "d.conllu"], **(chosen | settings))


def contents(folder: Path) -> dict[str, bytes]:
    """Return the content of each file of a model."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_raw_text_becomes_what_segment_and_tag_make_of_it(data: Path, segmenter: Path) -> None:
    train(data, segmenter=str(segmenter))
    assert contents(data / "m" / "segmenter") == contents(segmenter)
    out = ok(invoke("tag", "-m", data / "m", input=TEXT))
    blocks = out.rstrip().split("\n\n")
    assert [[line for line in block.split("\n") if line.startswith("# text")] for block in blocks] == [
        ["# text = Hunt dont sing."], ["# text = Jump bak."], ["# text = Work."]]
    alone = ok(invoke("segment", "-m", segmenter, input=TEXT))
    assert ok(invoke("tag", "-m", data / "m", "--from", "conllu", input=alone)) == out
    assert ok(invoke("tag", "-m", data / "m", "--segmenter", segmenter, input=TEXT)) == out
    assert ok(invoke("segment", "-m", data / "m", input=TEXT)) == alone
    assert ok(invoke("tag", "-m", data / "m", "--segmenter", data / "m", input=TEXT)) == out
    words = ok(invoke("tag", "-m", data / "m", "--from", "tokens", "--to", "tokens", input=TEXT))
    assert len(words.split("\n")) == len(TEXT.split("\n")) + 1  # each line is a sentence
    assert len(list(rnntool.load(data / "m" / "segmenter").segment(TEXT.split("\n")))) == 4


def test_raw_text_and_other_formats_are_not_mixed(data: Path, segmenter: Path) -> None:
    train(data, segmenter=str(segmenter))
    (data / "raw.txt").write_text(TEXT, "utf-8")
    done = invoke("tag", "-m", data / "m", data / "raw.txt", data / "t.conllu")
    assert done.code == 3
    assert "t.conllu: expected text, as in" in done.err
    assert "# text = Work.\n" in done.out  # the first file was tagged


@pytest.mark.parametrize("pauses", [(0,), (3,), (9, 0, 2), (14,)], ids=str)
def test_a_training_that_is_stopped_anywhere_gives_the_same_model(
    pauses: tuple[int, ...], data: Path
) -> None:
    report = train(data, "whole")
    for i, pause in enumerate(pauses):
        steps = iter(range(pause))
        with pytest.raises(Interrupted, match="saved"):
            train(data, resume=i > 0, stopping=lambda steps=steps: next(steps, signal.SIGTERM))
    assert train(data, resume=True) == report
    whole, stopped = contents(data / "whole"), contents(data / "m")
    assert {name: content for name, content in whole.items() if name.endswith((".onnx", ".txt"))} == {
        name: content for name, content in stopped.items() if name.endswith((".onnx", ".txt"))}
    assert whole.keys() == stopped.keys()


def test_a_segmenter_that_is_not_trained_cannot_be_ended_or_extended(data: Path) -> None:
    with pytest.raises(Interrupted, match=r"^stopped before segment; saved$"):
        train(data, stopping=lambda: signal.SIGINT)
    with pytest.raises(UsageError, match="its segmenter is not trained, so there is no model yet"):
        train(data, resume=True, finish=True)
    with pytest.raises(UsageError, match="before the segmenter is trained"):
        train(data, resume=True, extension={"epochs": 3})
    failed(invoke("tag", "-m", data / "m", input="a"), 4, "its training has not ended")


def test_the_model_of_another_training_is_replaced_whole(data: Path) -> None:
    train(data)
    assert (data / "m" / "segmenter" / "config.json").exists()
    train(data, force=True, folds=2, dev_fraction=0.1, segmenter="train")
    config = json.loads((data / "m" / "config.json").read_text("utf-8"))
    assert config["report"]["cross_validation"]["records"] == 30
    assert not (data / "m" / "folds").exists() and not (data / "m" / "segmenting").exists()
    train(data, force=True, segmenter=None)
    assert not (data / "m" / "segmenter").exists()


def test_a_link_to_a_segmenter_outside_of_the_model_is_refused(data: Path, segmenter: Path) -> None:
    train(data, segmenter=str(segmenter))
    shutil.rmtree(data / "m" / "segmenter")
    (data / "m" / "segmenter").symlink_to(segmenter)
    failed(invoke("tag", "-m", data / "m", input="a"), 4, "found a link that leaves it")


def test_a_model_without_its_segmenter_is_damaged(data: Path) -> None:
    train(data)
    shutil.rmtree(data / "m" / "segmenter")
    with pytest.raises(ModelError, match=r"has no segmenter/config\.json"):
        rnntool.load(data / "m")


def test_a_segmenter_learns_only_from_conllu(data: Path, tagger: Path) -> None:
    (data / "t.conll").write_text(tiny.conll(tiny.pos_sentences(20)), "utf-8")
    with pytest.raises(DataError, match=r"t\.conll:1: expected conllu, from which a segmenter learns"):
        tiny.train("tag", data / "m", [data / "t.conll"], segmenter="train")
    assert not (data / "m").exists()
    with pytest.raises(UsageError, match="expected a model of `rnntool train segment`, found"):
        tiny.train("tag", data / "m", [data / "t.conllu"], segmenter=str(tagger))
    assert not model_folder.is_resumable(data / "m")


def test_train_ud_learns_the_columns_that_the_treebank_has(data: Path, run: Run) -> None:
    done = run("train", "ud", "t.conllu", "--dev", "d.conllu", "-o", "m", "--hidden", "8",
               "--max-time", "10s")
    assert done.code == 0
    assert "rnntool: t.conllu: nothing to learn in the columns xpos, feats\n" in done.err
    assert "rnntool: segmenter: word_f1 " in done.err
    assert "| rnntool tag -m m" in done.err
    settings = json.loads((data / "m" / "config.json").read_text("utf-8"))["settings"]
    assert (settings["column"], settings["segmenter"]) == ("upos,lemma,head,deprel", "train")
    out = ok(run("tag", "-m", "m", input=TEXT))
    rows = [line.split("\t") for line in out.split("\n") if "\t" in line]
    assert {len(row) for row in rows} == {10}
    words = [row for row in rows if "-" not in row[0]]
    assert all("_" not in (row[2], row[3], row[6], row[7]) for row in words)
    roots = [row for row in words if row[6] == "0"]
    assert [row for row in words if row[7] == "root"] == roots
    assert len(roots) == out.count("# text = ") >= 2


def test_a_pipe_is_not_read_to_find_its_columns() -> None:
    messages = Messages(quiet=True, verbose=False)
    assert annotated_columns([os.devnull], None, TableReading(), messages) == ",".join(UD_COLUMNS)


def test_train_ud_needs_a_treebank(data: Path, run: Run) -> None:
    (data / "t.conll").write_text(tiny.conll(tiny.pos_sentences(20)), "utf-8")
    failed(run("train", "ud", "t.conll", "-o", "m"), 3,
           "t.conll: expected a treebank in CoNLL-U, found conll")
    (data / "bare.conllu").write_text(tiny.segmented_conllu(20), "utf-8")
    failed(run("train", "ud", "bare.conllu", "-o", "m"), 3,
           "bare.conllu: expected tags in one of upos, xpos, feats, lemma, head, deprel")
    assert not (data / "m").exists()


def test_evaluation_reports_raw_text_like_the_output_of_tag(data: Path, segmenter: Path, run: Run) -> None:
    train(data, segmenter=str(segmenter), column="upos,lemma,head,deprel")
    report = json.loads(ok(run("evaluate", "d.conllu", "-m", "m", "--json")))
    gold = (data / "d.conllu").read_text("utf-8")
    paragraphs = [" ".join(block.split("\n")) for block in text_of(gold)]
    parsed = ok(run("tag", "-m", "m", input="\n\n".join(paragraphs)))
    (data / "parsed.conllu").write_text(parsed, "utf-8")
    official = json.loads(ok(run("evaluate", "d.conllu", "--system", "parsed.conllu", "--json")))["metrics"]
    names = ["Tokens", "Sentences", "Words", "UPOS", "Lemmas", "UAS", "LAS", "CLAS", "BLEX"]
    assert list(report["conll18_raw"]) == names
    assert report["conll18_raw"] == {name: official[name]["f1"] for name in names}
    assert "on raw text, in percent" in ok(run("evaluate", "d.conllu", "-m", "m"))


def text_of(treebank: str) -> list[str]:
    """Return the text of each paragraph."""
    paragraphs: list[str] = []
    for block in treebank.rstrip().split("\n\n"):
        lines = block.split("\n")
        if lines[0] == "# newpar" or not paragraphs:
            paragraphs.append("")
        last_of_token = 0
        for line in lines:
            number, _, rest = line.partition("\t")
            cells = rest.split("\t")
            if "-" in number:
                last_of_token = int(number.partition("-")[2])
            elif not number.isdecimal() or int(number) <= last_of_token:
                continue
            paragraphs[-1] += cells[0] + " " * ("SpaceAfter=No" not in line)
    return [paragraph.rstrip() for paragraph in paragraphs]
