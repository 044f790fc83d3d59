"""The linear classifier of words in a window: its features, its fit, and its place beside a network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny
from safetensors.numpy import load_file
from sklearn.feature_extraction import DictVectorizer
from sklearn.linear_model import LogisticRegression

from rnntool.data.arrays import IGNORE
from rnntool.data.records import Sentence
from rnntool.errors import ModelError
from rnntool.inference import model
from rnntool.tasks import window_scores
from rnntool.tasks.tag import TagTask
from rnntool.tasks.window_scores import OFFSETS, WindowScores
from rnntool.tasks.word_features import shape

TAGGED = tiny.ner_sentences(60)
SENTENCES = [[word for word, _ in sentence] for sentence in TAGGED]
TAGS = sorted({tag for sentence in TAGGED for _, tag in sentence})
TARGETS = np.array([TAGS.index(tag) for sentence in TAGGED for _, tag in sentence], np.int32)
NEW = [["Zorba", "met", "a", "BAKER-x9", "."], [], ["a"]]


def described(words: list[str], i: int) -> dict[str, bool]:
    """Return the features of a word by hand."""
    features = {}
    for offset in OFFSETS:
        if not 0 <= i + offset < len(words):
            features[f"{offset} edge"] = True
            continue
        word = words[i + offset]
        features[f"{offset} lower {word.lower()}"] = True
        features[f"{offset} capital"] = word[0].isupper()
        if offset:
            features[f"{offset} ending {word.lower()[-3:]}"] = True
            continue
        features[f"word {word}"] = features[f"shape {shape(word)}"] = True
        for size in range(1, min(4, len(word)) + 1):
            features[f"prefix {word[:size]}"] = features[f"suffix {word[-size:]}"] = True
        features |= {"upper": word.isupper(), "hyphen": "-" in word,
                     "digit": any(c.isdigit() for c in word)}
    return {name: True for name, is_on in features.items() if is_on}


def rows(sentences: list[list[str]]) -> list[dict[str, bool]]:
    return [described(words, i) for words in sentences for i in range(len(words))]


def test_the_fit_is_the_logistic_regression_of_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window_scores, "STEPS", 2000)
    fitted = WindowScores.fit(SENTENCES, [TARGETS], [len(TAGS)])
    scores = fitted.scores(NEW)
    vectorizer = DictVectorizer()
    x = vectorizer.fit_transform(rows(SENTENCES))
    regression = LogisticRegression(C=window_scores.INVERSE_PENALTY, max_iter=2000, tol=1e-6)
    expected = regression.fit(x, TARGETS).decision_function(vectorizer.transform(rows(NEW)))
    found = np.concatenate([scores[: len(words), i] for i, words in enumerate(NEW)])
    found, expected = (values - values.mean(axis=1, keepdims=True) for values in (found, expected))
    np.testing.assert_allclose(found, expected, atol=0.15)  # weights have 8 bits


def test_scores_do_not_depend_on_the_batch_or_on_what_came_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window_scores, "MAX_TYPES", 8)  # so that types are forgotten now and then
    fitted = WindowScores.fit(SENTENCES, [TARGETS], [len(TAGS)])
    together = fitted.scores([*SENTENCES, []])
    for i, words in reversed(list(enumerate(SENTENCES))):
        np.testing.assert_array_equal(fitted.scores([words])[:, 0], together[: len(words), i])
    assert not together[:, -1].any()


def test_columns_are_fitted_on_their_own_and_words_without_a_tag_are_left_out() -> None:
    other = TARGETS[::-1].copy()
    one, two, both = (WindowScores.fit(SENTENCES, targets, [len(TAGS)] * len(targets))
                      for targets in ([TARGETS], [other], [TARGETS, other]))
    np.testing.assert_allclose(
        both.scores(NEW), np.concatenate([one.scores(NEW), two.scores(NEW)], axis=2), atol=1e-5)
    partly = TARGETS.copy()
    partly[partly == 0] = IGNORE
    scores = WindowScores.fit(SENTENCES, [partly], [len(TAGS)]).scores([SENTENCES[0]])
    assert (scores[..., 0] < scores.max(axis=2)).all()


def test_labels_without_scores_take_no_room(tmp_path: Path) -> None:
    many = window_scores.MOST_LABELS + 1
    sizes = []
    outputs = {"one": [len(TAGS)], "two": [len(TAGS), many]}
    for name in outputs:
        (tmp_path / name).mkdir()
        WindowScores.fit(SENTENCES, [TARGETS] * len(outputs[name]), outputs[name]).save(tmp_path / name)
        sizes.append((tmp_path / name / window_scores.FILE).stat().st_size)
    assert sizes[1] - sizes[0] < 16 * many  # not for each of the features
    one, two = (WindowScores.load(tmp_path / name, outputs=sum(outputs[name])) for name in outputs)
    np.testing.assert_array_equal(two.scores(NEW)[..., : len(TAGS)], one.scores(NEW))
    assert not two.scores(NEW)[..., len(TAGS) :].any()


def test_what_is_saved_gives_the_same_scores(tmp_path: Path) -> None:
    fitted = WindowScores.fit(SENTENCES, [TARGETS], [len(TAGS)])
    fitted.multiply(np.arange(1, 1 + len(TAGS), dtype=np.float32))
    fitted.save(tmp_path)
    loaded = WindowScores.load(tmp_path, outputs=len(TAGS))
    np.testing.assert_array_equal(loaded.scores(NEW), fitted.scores(NEW))
    with pytest.raises(ModelError, match="doesn't fit 99 outputs"):
        WindowScores.load(tmp_path, outputs=99)
    (tmp_path / window_scores.FILE).write_bytes(b"x")
    with pytest.raises(ModelError, match="is damaged"):
        WindowScores.load(tmp_path, outputs=len(TAGS))


@pytest.mark.parametrize("head", ["softmax", "crf"])
def test_a_tagger_adds_the_scores_to_those_of_its_network(head: str, tmp_path: Path) -> None:
    file = tmp_path / "train.conll"
    file.write_text(tiny.conll(tiny.ner_sentences(80)), "utf-8")
    tiny.train("tag", tmp_path / "m", [file], epochs=1, head=head)
    loaded = model.load(tmp_path / "m", threads=1)
    task = loaded.require(TagTask)
    arrays = task.encode(list(map(Sentence, NEW)))
    network = loaded.engine.run(arrays)["emissions"]
    window = WindowScores.load(tmp_path / "m", outputs=len(task.labels)).scores(NEW)
    np.testing.assert_allclose(task.run(loaded.engine, arrays)["emissions"] - network, window, atol=1e-5)
    assert np.abs(window).max() > 0.1


def test_few_sentences_are_enough_and_many_need_no_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few, dev = tmp_path / "few.conll", tmp_path / "dev.conll"
    few.write_text(tiny.conll(tiny.ner_sentences(30)), "utf-8")
    dev.write_text(tiny.conll(tiny.ner_sentences(60, seed=1)), "utf-8")
    f1 = {on: tiny.train("tag", tmp_path / str(on), [few], dev=[dev], epochs=1, window_scores=on)["f1"]
          for on in (True, False)}
    assert f1[True] > f1[False] + 0.2
    monkeypatch.setattr("rnntool.tasks.tag.MOST_WORDS", 50)
    tiny.train("tag", tmp_path / "many", [few], dev=[dev], epochs=1)
    assert not (tmp_path / "many" / window_scores.FILE).exists()


def test_after_the_report_the_classifier_learns_from_sentences_that_were_held_out(tmp_path: Path) -> None:
    file, dev = tmp_path / "train.conll", tmp_path / "dev.conll"
    file.write_text(tiny.conll([*tiny.pos_sentences(60), [("zzz", "X"), ("yyy", "Y")]] * 2), "utf-8")
    dev.write_text(tiny.conll(tiny.pos_sentences(20, seed=3)), "utf-8")
    features = {}
    for name, files in (("split", []), ("apart", [dev])):
        tiny.train("tag", tmp_path / name, [file], dev=files, epochs=1)
        features[name] = set(load_file(tmp_path / name / window_scores.FILE)["features"].tolist())
    everything, _ = window_scores._matrix(
        [*([word for word, _ in sentence] for sentence in tiny.pos_sentences(60)), ["zzz", "yyy"]])
    assert features["split"] == features["apart"]
    assert features["split"] <= set(everything.tolist())
