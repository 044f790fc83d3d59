"""The shipped models: complete, small, described, and correct on the examples of the README."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import rnntool

MODELS = Path(__file__).parent.parent / "models"
NAMES = ("en-g2p", "en-ner", "en-pos", "en-question", "shakespeare")


def test_the_shipped_models_are_small() -> None:
    assert tuple(sorted(folder.name for folder in MODELS.iterdir())) == NAMES
    assert sum(path.stat().st_size for path in MODELS.rglob("*")) <= 20_000_000


@pytest.mark.parametrize("name", NAMES)
def test_each_model_has_a_card(name: str) -> None:
    config = json.loads((MODELS / name / "config.json").read_text("utf-8"))
    card = (MODELS / name / "README.md").read_text("utf-8")
    assert config["graph"] == "int8"
    assert f"license: {config['settings']['license']}\nlanguage: en\n" in card
    assert config["settings"]["about"] in card
    assert f"\n# {name}\n" in card


def test_the_part_of_speech_tagger() -> None:
    tagged = next(rnntool.load("en-pos").tag(["The keys on the table are mine."]))
    assert tagged.tags == ["DET", "NOUN", "ADP", "DET", "NOUN", "AUX", "PRON", "PUNCT"]


def test_the_named_entity_tagger() -> None:
    tagged = next(rnntool.load("en-ner").tag(["Anna Berg lives in New York."]))
    assert tagged.tags == ["B-PER", "I-PER", "O", "O", "B-LOC", "I-LOC", "O"]


def test_the_question_classifier() -> None:
    model = rnntool.load("en-question")
    questions = ["Who wrote Hamlet?", "How many legs has a spider?", "Where is Oslo?"]
    assert [result.chosen for result in model.classify(questions)] == [["HUM"], ["NUM"], ["LOC"]]


def test_pronunciations_do_not_depend_on_the_batch() -> None:
    model = rnntool.load("en-g2p")
    words = ["a", "recurrent", "network", "x", "antidisestablishmentarianism", "Recurrent"]
    together = list(model.transduce(words, n_best=2))
    assert together[1][0].text == together[5][0].text
    assert together[1][0].text in {"R IH0 K ER1 AH0 N T", "R IY0 K ER1 AH0 N T"}  # both are in the dictionary
    assert together[0][0].text in {"AH0", "EY1"}
    for word, results in zip(words, together, strict=True):
        (alone,) = model.transduce([word], n_best=2)
        assert [(result.text, result.log_prob) for result in alone] == [
            (result.text, result.log_prob) for result in results]


@pytest.mark.parametrize("name", ["en-pos", "en-ner"])
def test_tags_do_not_depend_on_the_batch(name: str) -> None:
    sentences = [["The", "keys", "are", "mine", "."], ["?"], ["Anna", "Berg", "lives", "in", "York", "."],
                 ["Oslo", "and", "Bergen", ","] * 20, ["keys", "?"]]
    model = rnntool.load(name)
    together = list(model.tag(sentences, probs=True))
    for sentence, result in zip(sentences, together, strict=True):
        assert next(model.tag([sentence], probs=True)).probs == result.probs
        assert next(rnntool.load(name).tag([sentence], probs=True)).probs == result.probs


def test_labels_do_not_depend_on_the_batch() -> None:
    model = rnntool.load("en-question")
    questions = ["Who wrote Hamlet?", "How many legs has a spider?", "Where?", "What is " * 30 + "Oslo?"]
    together = list(model.classify(questions))
    for question, result in zip(questions, together, strict=True):
        assert next(rnntool.load("en-question").classify([question])) == result


def test_the_language_model() -> None:
    model = rnntool.load("shakespeare")
    texts = ["ROMEO:\nO, she doth teach the torches to burn bright!", "ROMEO:\nxqzj vvw kkq jjx zzq"]
    play, noise = model.score(texts)
    assert play.total_nats / len(play.log_probs) > -2.5 > noise.total_nats / len(noise.log_probs)
    written = next(model.generate(["JULIET:\n"], seed=1, max_tokens=80))
    assert written == next(model.generate(["JULIET:\n"], seed=1, max_tokens=80))
    assert sum(word.isalpha() for word in written.text.split()) >= 3


def test_generated_text_does_not_depend_on_the_batch() -> None:
    model = rnntool.load("shakespeare")
    prompts = ["KING:\n", "", "To be, or", "O"]
    together = list(model.generate(prompts, seed=4, max_tokens=60, batch_size=4))
    assert together == list(model.generate(prompts, seed=4, max_tokens=60, batch_size=1))
    scored = model.score([sample.text for sample in together])
    for sample, result in zip(together, scored, strict=True):
        assert next(model.score([sample.text])).log_probs == result.log_probs
