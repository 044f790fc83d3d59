"""Trained taggers: other languages, unclean data, tag schemes, calibration, and very long sentences."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import tiny

from rnntool import cli
from rnntool.data.labels import convert
from rnntool.data.records import Sentence
from rnntool.inference import model
from rnntool.tasks import tag as tagging
from rnntool.tasks.specs.tag import TagSettings
from rnntool.tasks.tag import TagTask


@pytest.mark.parametrize("script", tiny.SCRIPTS)
def test_unseen_words_are_tagged_by_their_suffixes(script: str, tmp_path: Path) -> None:
    """In any script, with or without capitals, even if only the last of many suffixes determines the tag."""
    (tmp_path / "train.conllu").write_text(tiny.conllu(tiny.made_up_sentences(script, 400)), "utf-8")
    tiny.train("tag", tmp_path / "made-up", [tmp_path / "train.conllu"], epochs=10, char_embed=16,
               char_hidden=24)
    gold = tiny.made_up_sentences(script, 60, seed=1)
    seen = {word for sentence in tiny.made_up_sentences(script, 400) for word, _ in sentence}
    tagged = model.load(tmp_path / "made-up", threads=1).tag([[word for word, _ in s] for s in gold])
    correct = [tag == predicted for sentence, result in zip(gold, tagged, strict=True)
               for (word, tag), predicted in zip(sentence, result.tags, strict=True) if word not in seen]
    assert len(correct) > 300
    assert sum(correct) / len(correct) >= 0.95


@pytest.mark.parametrize("head", ["softmax", "crf"])
@pytest.mark.parametrize("spans", [False, True])
def test_labels_that_occur_only_in_the_dev_data_are_reported(spans: bool, head: str, tmp_path: Path) -> None:
    sentences = tiny.ner_sentences(30) if spans else tiny.pos_sentences(30)
    new = [[(word, "B-NEW" if spans else "NEW") for word, _ in sentences[0]], *sentences[1:4]]
    for name, data in (("train.conll", sentences), ("dev.conll", new)):
        (tmp_path / name).write_text(tiny.conll(data), "utf-8")
    report = tiny.train("tag", tmp_path / "m", [tmp_path / "train.conll"], dev=[tmp_path / "dev.conll"],
                        epochs=1, head=head)
    assert report["unseen_labels"] == {"NEW": len(sentences[0])}
    assert report["per_label"]["NEW"]["recall"] == 0


def test_training_data_with_a_very_long_sentence_and_a_very_long_word(tmp_path: Path) -> None:
    short = tiny.pos_sentences(60)
    book = [word for sentence in tiny.pos_sentences(1000, seed=2) for word in sentence]
    word = ("x" * 10_000 + "er", "NOUN")
    (tmp_path / "train.conllu").write_text(tiny.conllu([*short, book, [word], *short]), "utf-8")
    tiny.train("tag", tmp_path / "m", [tmp_path / "train.conllu"], epochs=3, dev_fraction=0.0)
    loaded = model.load(tmp_path / "m", threads=1)
    sentences = [[word for word, _ in book], ["the", "y" * 10_000 + "er", "sings", "."]]
    first, second = loaded.tag(sentences, probs=True, nbest=2)
    assert len(first.tags) == len(book)
    assert second.tags == ["DET", "NOUN", "VERB", "PUNCT"]


@pytest.mark.parametrize("name", ["tagger", "ner"])
def test_a_sentence_read_in_pieces_has_the_same_emissions(
    name: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = model.load(request.getfixturevalue(name), threads=1)
    task, generate = loaded.require(TagTask), tiny.ner_sentences if name == "ner" else tiny.pos_sentences
    book = Sentence([word for sentence in generate(60) for word, _ in sentence])
    arrays = task.encode([book])
    whole = task.run(loaded.engine, arrays)
    for piece in (len(book.words) - 1, 100, 7):
        monkeypatch.setattr(tagging, "PIECE", piece)
        monkeypatch.setattr(tagging, "CONTEXT", 60)
        parts = task.run(loaded.engine, arrays)
        assert parts.keys() == whole.keys()
        assert parts["emissions"].shape == whole["emissions"].shape
        difference = abs(parts["emissions"] - whole["emissions"]).max()
        assert difference < 1e-3 * abs(whole["emissions"]).max()


@pytest.mark.parametrize("more", [[], ["--quiet"]])
def test_the_scheme_of_the_tags_is_reported_unless_quiet(
    more: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "train.conll").write_text(tiny.conll(tiny.ner_sentences(20), tiny.iob1), "utf-8")
    small = ["--hidden", "4", "--embed", "4", "--epochs", "1", "--threads", "1", "--chars", "none"]
    with pytest.raises(SystemExit) as exit_:
        cli.app(["train", "tag", str(tmp_path / "train.conll"), "-o", str(tmp_path / "m"), *small, *more])
    assert not exit_.value.code
    errors = capfd.readouterr().err
    message = "rnntool: the tags are spans in IOB1; they are learned as IOBES\n"
    assert errors == "" if more else message in errors


@pytest.mark.parametrize("head", ["softmax", "crf"])
@pytest.mark.parametrize("spans", [False, True])
def test_probabilities_are_calibrated_by_the_dev_data(spans: bool, head: str, tmp_path: Path) -> None:
    sentences = tiny.ner_sentences(120) if spans else tiny.pos_sentences(120)
    rng = random.Random(1)  # one sentence in five has its tags in another order
    data = [sentence if rng.random() > 0.2 else
            [(word, tag) for (word, _), (_, tag) in zip(sentence, sentence[::-1], strict=True)]
            for sentence in sentences]
    for name, part in (("train.conll", data[:80]), ("dev.conll", data[80:])):
        (tmp_path / name).write_text(tiny.conll(part), "utf-8")
    report = tiny.train("tag", tmp_path / "noisy", [tmp_path / "train.conll"], dev=[tmp_path / "dev.conll"],
                        epochs=5, head=head, label_smoothing=0.5, window_scores=False)
    assert report["temperature"] < 0.8, "label smoothing makes the model underconfident"
    assert report["ece"] < report["ece_uncalibrated"]
    loaded = model.load(tmp_path / "noisy", threads=1)
    task = loaded.require(TagTask)
    dev = [Sentence([w for w, _ in s], [t for _, t in s]) for s in data[80:]]
    calibration = task.calibrate(loaded.engine, dev)
    assert calibration.temperatures[0] == pytest.approx(1, abs=0.02), "it is calibrated already"
    assert calibration.error_before == pytest.approx(report["ece"], abs=1e-6)


@pytest.mark.parametrize("head", ["softmax", "crf"])
def test_class_weights_raise_the_probability_of_rare_tags(head: str, tmp_path: Path) -> None:
    """40% of `a` and 2% of `b` have the rare tag; if both tags had the same weight, `a` would be rare."""
    rng = random.Random(2)
    sentences = [[(word, "RARE" if rng.random() < {"a": 0.4, "b": 0.02}[word] else "COMMON")
                  for word in rng.choices("ab", k=4)] for _ in range(400)]
    (tmp_path / "train.conll").write_text(tiny.conll(sentences), "utf-8")
    tagged = {}
    for weights in ("none", "balanced"):
        tiny.train("tag", tmp_path / weights, [tmp_path / "train.conll"], epochs=4, head=head,
                   class_weights=weights)
        (result,) = model.load(tmp_path / weights, threads=1).tag([["b", "a", "b"]])
        tagged[weights] = result.tags
    assert tagged == {"none": ["COMMON"] * 3, "balanced": ["COMMON", "RARE", "COMMON"]}


@pytest.mark.parametrize("scheme", ["iob1", "iobes", "bilou"])
def test_calibration_reads_the_dev_data_in_its_own_scheme(scheme: str, ner: Path) -> None:
    loaded = model.load(ner, threads=1)
    data = tiny.ner_sentences(20, seed=4)
    written = {name: [Sentence([w for w, _ in s], convert([t for _, t in s], "iob2", name)) for s in data]
               for name in ("iob2", scheme)}
    calibrations = {name: loaded.task.calibrate(loaded.engine, records) for name, records in written.items()}
    assert calibrations[scheme] == calibrations["iob2"]


def test_balanced_weights_have_a_mean_of_one_although_some_tags_of_the_scheme_do_not_occur() -> None:
    records = [Sentence(["a", "b", "c"], ["B-X", "O", "O"], more_tags=[["P", "Q", "P"]]),
               Sentence(["b", "b", "a"], ["B-Y", "I-Y", "O"], more_tags=[["P", "P", "P"]])]
    settings = TagSettings(class_weights="balanced", column="1,2")
    task = TagTask.learn(records, settings)
    examples = [task.example(record, targets=True) for record in records]
    first = len(task.columns[0].labels)
    all_weights = np.array(task.objective(examples).label_weights)
    for k, weights in enumerate((all_weights[:first], all_weights[first:])):
        gold = np.concatenate([example.tags[k] for example in examples if example.tags])
        assert weights[gold].mean().item() == pytest.approx(1)
