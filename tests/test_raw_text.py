"""Raw text in addition to labeled records: what taggers and classifiers learn from it, what they ignore."""

from __future__ import annotations

import random
import signal
from pathlib import Path

import pytest
import tiny
import torch
from safetensors.torch import load_file

from rnntool.data.arrays import IGNORE
from rnntool.errors import DataError, UsageError
from rnntool.inference import model
from rnntool.models.config import ClassifierHeadConfig, ObjectiveConfig
from rnntool.models.heads.classifier import ClassifierHead
from rnntool.training.loop import Interrupted

CLASSES = {"DET": "abc", "NOUN": "defghijklmnopqr", "VERB": "stuvwxyz"}


def sentences(n: int, seed: int, *, each: int | None = None) -> list[list[tuple[str, str]]]:
    """Generate endings of DET NOUN VERB DET NOUN, with the first `each` one-letter words of every class."""
    rng = random.Random(seed)
    return [[(rng.choice(CLASSES[tag][:each]), tag) for tag in ("DET", "NOUN", "VERB", "DET", "NOUN")[start:]]
            for start in (rng.randint(0, 3) for _ in range(n))]


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Write thirty tagged sentences with few different words, and many untagged ones with all words."""
    tagged, raw = tmp_path / "tagged.conllu", tmp_path / "raw.txt"
    tagged.write_text(tiny.conllu(sentences(30, 0, each=2)), "utf-8")
    raw.write_text("".join(" ".join(w for w, _ in s) + "\n" for s in sentences(600, 1)), "utf-8")
    return tagged, raw


def test_words_that_occur_only_in_raw_text_are_tagged_by_their_context(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    tagged, raw = files
    settings = {"epochs": 12, "dev_fraction": 0.0, "neighbours": 0.5, "chars": "none", "affix_embed": 0,
                "word_dropout": 0.0, "min_count": 1}
    tiny.train("tag", tmp_path / "without", [tagged], **settings)
    tiny.train("tag", tmp_path / "with", [tagged], raw=str(raw), **settings)
    untagged = {w for letters in CLASSES.values() for w in letters[2:]}
    accuracy = {}
    for name in ("without", "with"):
        loaded = model.load(tmp_path / name, threads=1)
        gold = sentences(100, 2)
        answers = loaded.tag([[w for w, _ in sentence] for sentence in gold])
        correct = [tag == predicted for sentence, answer in zip(gold, answers, strict=True)
                   for (w, tag), predicted in zip(sentence, answer.tags, strict=True) if w in untagged]
        accuracy[name] = sum(correct) / len(correct)
    assert accuracy["with"] >= 0.98 > accuracy["without"] + 0.02


def test_tags_of_raw_sentences_are_ignored(files: tuple[Path, Path], tmp_path: Path) -> None:
    tagged, _ = files
    correct = sentences(40, 3)
    wrong = [[(w, "X" if tag == "NOUN" else tag) for w, tag in sentence] for sentence in correct]
    for name, text in (("correct.conllu", tiny.conllu(correct)), ("wrong.conllu", tiny.conllu(wrong)),
                       ("raw.txt", "".join(" ".join(w for w, _ in s) + "\n" for s in correct))):
        (tmp_path / name).write_text(text, "utf-8")
        tiny.train("tag", tmp_path / f"{name}.model", [tagged], raw=str(tmp_path / name), epochs=2,
                   neighbours=0.1)
    one, two, three = (load_file(tmp_path / f"{name}.model" / "model.safetensors")
                       for name in ("correct.conllu", "wrong.conllu", "raw.txt"))
    assert all((one[name] == two[name]).all() and (one[name] == three[name]).all() for name in one)
    assert len(model.load(tmp_path / "wrong.conllu.model").task.labels) == 3


def test_raw_text_may_be_a_very_long_line(files: tuple[Path, Path], tmp_path: Path) -> None:
    tagged, _ = files
    book = [w for sentence in sentences(3000, 4) for w, _ in sentence]
    (tmp_path / "book.txt").write_text(" ".join(book) + "\n\n", "utf-8")
    report = tiny.train("tag", tmp_path / "m", [tagged], raw=str(tmp_path / "book.txt"), epochs=6, head="crf",
                        neighbours=0.1)
    assert report["accuracy"] > 0.9


def test_a_training_with_raw_text_resumes_and_checks_its_content(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    tagged, raw = files
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    settings = {"raw": str(raw), "epochs": 1, "neighbours": 0.1}
    tiny.train("tag", whole, [tagged], **settings)
    steps = iter(range(1, 1000))
    with pytest.raises(Interrupted):
        tiny.train("tag", stopped, [tagged], **settings,
                   stopping=lambda: signal.SIGTERM if next(steps) == 20 else None)
    text = raw.read_text("utf-8")
    raw.write_text(text + "a new line\n", "utf-8")
    with pytest.raises(DataError, match="the data has changed since this training began"):
        tiny.train("tag", stopped, resume=True)
    raw.write_text(text, "utf-8")
    tiny.train("tag", stopped, resume=True)
    assert (stopped / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


KINDS = {"food": ("bread", "soup", "rice", "beans", "salt", "leek", "plum"),
         "sky": ("sun", "wind", "cloud", "rain", "star", "moon", "dusk")}


def texts(n: int, seed: int, *, first: int = 0, last: int | None = None) -> list[tuple[str, str]]:
    """Make texts that each have words of one kind, from word `first` to before word `last`."""
    rng = random.Random(seed)
    return [(" ".join(rng.choices(KINDS[kind][first:last], k=5)), kind)
            for kind in (rng.choice(sorted(KINDS)) for _ in range(n))]


def test_classifiers_learn_words_that_occur_only_in_raw_text(tmp_path: Path) -> None:
    (tmp_path / "few.tsv").write_text(tiny.tsv(texts(20, 0, last=2)), "utf-8")
    (tmp_path / "raw.txt").write_text("".join(f"{text}\n" for text, _ in texts(400, 1)), "utf-8")
    settings = {"epochs": 12, "dev_fraction": 0.0, "chars": "none", "affix_embed": 0, "neighbours": 1.0}
    tiny.train("classify", tmp_path / "m", [tmp_path / "few.tsv"], raw=str(tmp_path / "raw.txt"), **settings)
    unlabeled = texts(100, 2, first=2)
    answers = model.load(tmp_path / "m", threads=1).classify([text for text, _ in unlabeled])
    assert sum(answer.chosen == [kind] for answer, (_, kind) in zip(answers, unlabeled, strict=True)) >= 95


@pytest.mark.parametrize("multi_label", [False, True])
def test_texts_without_labels_have_no_loss(multi_label: bool) -> None:
    torch.manual_seed(0)
    head = ClassifierHead(ClassifierHeadConfig(outputs=3, multi_label=multi_label), 6, 6, 0.0)
    states, lengths = torch.randn(4, 8, 6, requires_grad=True), torch.full((8,), 4)
    real = torch.tensor([True, False, True, False] * 2)
    targets = torch.randint(0, 2, (8, 3) if multi_label else (8,))
    targets[~real] = IGNORE
    for consistency in (0.0, 1.0):
        head.set_objective(ObjectiveConfig(consistency=consistency))
        whole = head.loss(states, {"lengths": lengths, "targets": targets})
        part = head.loss(states[:, real], {"lengths": lengths[real], "targets": targets[real]})
        assert torch.allclose(whole, part)
    empty = head.loss(states, {"lengths": lengths, "targets": torch.full_like(targets, IGNORE)})
    empty.backward()
    assert empty == 0 and states.grad is not None and not states.grad.any()


def test_errors_of_useless_raw_text(files: tuple[Path, Path], tmp_path: Path) -> None:
    tagged, raw = files
    with pytest.raises(UsageError, match=r"^raw: needs neighbours; give neighbours, or leave it out"):
        tiny.train("tag", tmp_path / "m", [tagged], raw=str(raw), neighbours=0.0)
    with pytest.raises(UsageError, match="raw: needs tokenizer=word, found tokenizer=char"):
        tiny.train("classify", tmp_path / "m", [tagged], raw=str(raw), tokenizer="char")
    for text in ("", "\n \n"):
        (tmp_path / "empty.txt").write_text(text, "utf-8")
        sentence = r"empty\.txt: expected raw text, found no words; give a file that has some"
        with pytest.raises(DataError, match=sentence):
            tiny.train("tag", tmp_path / "m", [tagged], raw=str(tmp_path / "empty.txt"), neighbours=0.1)
