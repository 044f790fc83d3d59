"""The linear classifier of n-grams: its features, its fit, and its place beside a network."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import tiny
from safetensors.numpy import load_file
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier

import rnntool
from rnntool.data.records import Text
from rnntool.errors import ModelError
from rnntool.evaluation.calibration import equal_weight, fit_weight
from rnntool.tasks import ngrams
from rnntool.tasks.ngrams import NGrams

TEXTS = [text.split() for text, _ in tiny.questions(80)]
LABELS = sorted({label for _, label in tiny.questions(80)})
QUESTIONS = ["who did the baker sing ?", "", "where"]
TARGETS = np.array([[label == name for name in LABELS] for _, label in tiny.questions(80)], np.float32)


def tf_idf(texts: list[list[str]], training: list[list[str]]) -> np.ndarray:
    """Compute the features by hand: a dictionary for each block, and one column per feature."""

    def blocks(words: list[str]) -> list[list[str]]:
        kept = [word for word in words if len(word) > 1]
        pairs = [f"{first} {second}" for first, second in pairwise(kept)]
        characters = []
        for word in words:
            padded = f" {word} "
            parts = {(i, i + n) for n in (2, 3, 4, 5) for i in range(len(padded) - n + 1)}
            parts |= {(0, len(padded))} if len(padded) < 5 else set()
            characters += ["c" + padded[start:end] for start, end in parts]
        return [[*kept, *pairs], characters]

    known = sorted({feature for words in training for block in blocks(words) for feature in block})
    column = {feature: i for i, feature in enumerate(known)}
    texts_with = np.zeros(len(known))
    for words in training:
        texts_with[[column[f] for f in {f for block in blocks(words) for f in block}]] += 1
    idf = np.log((1 + len(training)) / (1 + texts_with)) + 1
    x = np.zeros((len(texts), len(known)))
    for row, words in zip(x, texts, strict=True):
        for block in blocks(words):
            counts = np.bincount([column[f] for f in block if f in column], minlength=len(known))
            row += counts * idf / max(1e-6, math.sqrt(counts @ idf**2))
    return x


@pytest.mark.parametrize("multi_label", [False, True])
def test_the_fit_is_the_logistic_regression_of_scikit_learn(
    multi_label: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ngrams, "STEPS", 1000)
    new = [*TEXTS[60:], "what is a completely unheard word".split(), []]
    scores = NGrams.fit(TEXTS[:60], TARGETS[:60], multi_label=multi_label).scores(new)
    regression = LogisticRegression(C=ngrams.INVERSE_PENALTY, max_iter=1000, tol=1e-6)
    x, x_new = tf_idf(TEXTS[:60], TEXTS[:60]), tf_idf(new, TEXTS[:60])
    if multi_label:
        expected = OneVsRestClassifier(regression).fit(x, TARGETS[:60]).decision_function(x_new)
    else:
        expected = regression.fit(x, TARGETS[:60].argmax(1)).decision_function(x_new)
        scores = scores - scores.mean(axis=1, keepdims=True)
        expected = expected - expected.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(scores, expected, atol=0.1)  # weights have 8 bits


def test_scores_do_not_depend_on_the_batch_or_on_what_came_before() -> None:
    model = NGrams.fit(TEXTS[:60], TARGETS[:60], multi_label=False)
    together = model.scores(TEXTS)
    for i, text in reversed(list(enumerate(TEXTS))):
        np.testing.assert_array_equal(model.scores([text])[0], together[i])
    np.testing.assert_array_equal(model.scores([[], ["?"], []])[0], model.scores([[]])[0])


def test_what_is_saved_gives_the_same_scores(tmp_path: Path) -> None:
    model = NGrams.fit(TEXTS[:60], TARGETS[:60], multi_label=False)
    model.multiply(1.5)
    model.save(tmp_path)
    loaded = NGrams.load(tmp_path, labels=len(LABELS))
    np.testing.assert_allclose(loaded.scores(TEXTS), model.scores(TEXTS), rtol=1e-6)
    assert loaded.expected_weight == model.expected_weight
    with pytest.raises(ModelError, match="doesn't fit 9 labels"):
        NGrams.load(tmp_path, labels=9)
    (tmp_path / ngrams.FILE).write_bytes(b"x")
    with pytest.raises(ModelError, match="is damaged"):
        NGrams.load(tmp_path, labels=len(LABELS))


def test_a_limit_keeps_the_features_of_most_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ngrams, "MAX_FEATURES", 40)
    scores = NGrams.fit(TEXTS, TARGETS, multi_label=False).scores(TEXTS)
    assert (scores.argmax(1) == TARGETS.argmax(1)).mean() > 0.9


def test_a_weight_is_fitted_to_many_targets_and_expected_with_few() -> None:
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 3, 3000)
    good = np.eye(3)[targets] * 2 + rng.normal(size=(3000, 3))
    noise = rng.normal(size=(3000, 3)) * 5
    equal = equal_weight(noise, good)
    assert fit_weight(noise, good, targets, expected=equal) > 5 * equal
    assert fit_weight(good, noise, targets, expected=1 / equal) < 0.2 / equal
    assert fit_weight(noise, good, targets[:0], expected=2.0) == 2.0
    assert 1 / 3 < fit_weight(good[:3], good[3:6], targets[:3], expected=1.0) < 3


def test_a_classifier_adds_the_scores_of_its_ngrams(tmp_path: Path) -> None:
    file = tmp_path / "train.tsv"
    file.write_text(tiny.tsv(tiny.questions(120)), "utf-8")
    tiny.train("classify", tmp_path / "m", [file], epochs=2)
    loaded = rnntool.load(tmp_path / "m", threads=1)
    batch = loaded.task.encode(list(map(Text, QUESTIONS)))
    network, both = loaded.engine.run(batch)["logits"], loaded.task.run(loaded.engine, batch)["logits"]
    scores = NGrams.load(tmp_path / "m", labels=3).scores([question.split() for question in QUESTIONS])
    np.testing.assert_allclose(both - network, scores, atol=1e-5)
    assert np.abs(scores).max() > 0.1
    tiny.train("classify", tmp_path / "without", [file], epochs=1, ngrams=False)
    assert not (tmp_path / "without" / ngrams.FILE).exists()


def test_after_the_report_ngrams_learn_from_texts_that_were_held_out(tmp_path: Path) -> None:
    rows = tiny.questions(100)
    train, dev = tmp_path / "train.tsv", tmp_path / "dev.tsv"
    train.write_text(tiny.tsv(rows[:80]), "utf-8")
    dev.write_text(tiny.tsv(rows[80:]), "utf-8")
    for name, files, held_out in (("split", [], True), ("apart", [dev], False)):
        tiny.train("classify", tmp_path / name, [train], dev=files, epochs=1)
        texts = load_file(tmp_path / name / ngrams.FILE)["texts"]
        assert texts.tolist() == [80], f"with development data held out: {held_out}"
