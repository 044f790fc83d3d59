"""Columns of features: strings that training never saw, their probabilities, and taggers of features."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import tiny
from conftest import failed, invoke, ok
from hypothesis import given
from hypothesis import strategies as st

from rnntool.data.arrays import IGNORE, Floats, softmax
from rnntool.data.labels import Labels
from rnntool.tasks.feats_column import UNSEEN, FeatsColumn, canonical, parse_features, write_features

NAMES = st.sampled_from(["Case", "Number", "Number[psor]", "abbr", "Abbr", "VerbForm"])
VALUES = st.sampled_from(["Nom", "Acc", "Plur", "1,2"])
STRINGS = ("_", "Case=Nom|Number=Sing", "Case=Nom|Number=Plur", "Case=Acc|Number=Sing")
LENGTHS = np.ones(1, np.int32)


@given(st.dictionaries(NAMES, VALUES))
def test_features_are_sorted_and_come_back(values: dict[str, str]) -> None:
    text = write_features(values)
    assert parse_features(text) == values
    names = [feature.partition("=")[0].lower() for feature in text.split("|")]
    assert names == sorted(names)
    assert canonical("|".join(reversed(text.split("|")))) == text


@pytest.mark.parametrize(("text", "expected"), [
    ("_", "_"), ("number=1|Case=Nom", "Case=Nom|number=1"), ("B=1|B=2", "B=1,2"), ("", ""), ("Nom", "Nom"),
    ("A=1|", "A=1|"), ("A=1=2", "A=1=2"), ("A=|B=1", "A=|B=1")])
def test_other_text_stays_as_it_is(text: str, expected: str) -> None:
    assert canonical(text) == expected


def column() -> FeatsColumn:
    return FeatsColumn(Labels(STRINGS))


def emissions(whole: list[float], case: list[float], number: list[float]) -> Floats:
    """Return the scores of one word; the values of Case are _, Nom, Acc, those of Number _, Sing, Plur."""
    return np.array([[[*whole, *case, *number]]])


def test_the_network_predicts_strings_and_the_values_of_each_attribute() -> None:
    assert column().sizes == (4, 3, 3)
    words, tags = ["a", "b", "c", "d"], ["_", "Number=Plur|Case=Nom", "Case=Acc|Number=Plur", "Case=Dat"]
    assert [ids.tolist() for ids in column().targets(words, tags, None)] == [
        [0, 2, IGNORE, IGNORE], [0, 1, 2, IGNORE], [0, 2, 2, 0]]


def test_a_string_scores_its_own_plus_its_values() -> None:
    scores = column().label_scores(emissions([1, 2, 3, 4], [10, 20, 30], [100, 200, 300]))
    assert scores[0, 0].tolist() == [111, 222, 323, 234]


@pytest.mark.parametrize(("whole", "expected"), [
    ([0, 0, 0, 0], "Case=Acc|Number=Plur"),  # training never saw it
    ([0, 0, 0, 30], "Case=Acc|Number=Sing")])  # the network is sure of a whole string
def test_values_make_a_string_that_training_never_saw(whole: list[float], expected: str) -> None:
    scores = emissions(whole, [0, 0, 20], [0, 0, 8.5])
    assert column().decode([["w"]], scores, LENGTHS, None, "iob2") == [[expected]]
    ((prob,),) = column().probs([["w"]], [[expected]], scores, LENGTHS, None, "iob2")
    assert 0.99 < prob <= 1


@given(st.lists(st.floats(-20, 20, allow_subnormal=False), min_size=10, max_size=10))
def test_decode_returns_the_candidate_with_the_highest_score(scores: list[float]) -> None:
    whole, case, number = (np.array(part) for part in (scores[:4], scores[4:7], scores[7:]))
    log_whole = np.log(softmax(whole))
    totals = {}
    for i, case_name in enumerate(("_", "Nom", "Acc")):
        for j, number_name in enumerate(("_", "Sing", "Plur")):
            values = {"Case": case_name, "Number": number_name}
            text = write_features({name: value for name, value in values.items() if value != "_"})
            own = log_whole[STRINGS.index(text)] if text in STRINGS else math.log(UNSEEN)
            if text in STRINGS or (i, j) == (case.argmax(), number.argmax()):
                totals[text] = own + case[i] + number[j]
    all_scores = emissions(*(part.tolist() for part in (whole, case, number)))
    ((best,),) = column().decode([["w"]], all_scores, LENGTHS, None, "iob2")
    assert totals[best] == pytest.approx(max(totals.values()), abs=1e-6)
    ((prob,),) = column().probs([["w"]], [[best]], all_scores, LENGTHS, None, "iob2")
    assert 0 <= prob <= 1
    (nbest,) = column().nbest([["w"]], all_scores, LENGTHS, None, "iob2", 4)
    assert sum(math.exp(score) for _, score in nbest) == pytest.approx(1)


def test_a_crf_knows_no_new_strings() -> None:
    gold = [["Case=Acc|Number=Plur", "Case=Dat", "Case=Nom|Number=Sing"]]
    tags = column()
    assert tags.unseen_labels([["a", "b", "c"]], gold) == {"Case=Dat": 1}
    tags.crf = True
    assert tags.unseen_labels([["a", "b", "c"]], gold) == {"Case=Acc|Number=Plur": 1, "Case=Dat": 1}


def test_a_column_without_features_has_plain_tags() -> None:
    plain = FeatsColumn.learn([["a", "b"]], [["x", "y"]])
    assert (plain.sizes, plain.weights) == ((2,), (1.0,))
    assert plain.decode([["w"]], np.array([[[0.0, 1.0]]]), LENGTHS, None, "iob2") == [["y"]]


# --- Taggers -----------------------------------------------------------------------------------------------


def feature_sentences(n: int, seed: int = 0) -> str:
    """Write CoNLL-U in which suffixes determine Number, and stems Case, in the wrong order."""
    blocks = []
    for sentence in tiny.pos_sentences(n, seed):
        rows = []
        for i, (word, tag) in enumerate(sentence, 1):
            feats = "_"
            if tag not in ("DET", "PUNCT"):
                number = "Plur" if word.endswith(("er", "ed", "less")) else "Sing"
                feats = f"number={number}|Case={'Nom' if word[0] < 'h' else 'Acc'}"
            rows.append(f"{i}\t{word}\t_\t{tag}\t_\t{feats}" + "\t_" * 4 + "\n")
        blocks.append("".join(rows) + "\n")
    return "".join(blocks)


def test_a_tagger_writes_sorted_features(tmp_path: Path) -> None:
    train, dev = tmp_path / "train.conllu", tmp_path / "dev.conllu"
    train.write_text(feature_sentences(60), "utf-8")
    dev.write_text(feature_sentences(30, seed=5), "utf-8")
    report = tiny.train("tag", tmp_path / "m", [train], dev=[dev], column="feats,upos", epochs=6)
    assert report["unseen_labels"] == {} and report["accuracy"] > 0.9
    again = json.loads(invoke("evaluate", dev, "-m", tmp_path / "m", "--json").out)
    assert again["accuracy"] == pytest.approx(report["accuracy"])
    tagged = ok(invoke("tag", "-m", tmp_path / "m", "--probs", dev))
    cells = [line.split("\t") for line in tagged.splitlines() if line]
    combinations = {f"Case={case}|number={number}" for case in ("Nom", "Acc") for number in ("Sing", "Plur")}
    assert {row[5] for row in cells} == {"_", *combinations}
    assert all(row[9].startswith("Prob=") for row in cells)


def test_labels_that_do_not_fit_the_graph_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "t.conllu").write_text(feature_sentences(20), "utf-8")
    tiny.train("tag", tmp_path / "m", [tmp_path / "t.conllu"], column="feats", epochs=1, dev_fraction=0.0)
    labels = tmp_path / "m" / "labels.txt"
    labels.write_text(labels.read_text("utf-8").replace("Case=Nom", "Fall=Nom", 1), "utf-8")
    tiny.forget_digests(tmp_path / "m")
    failed(invoke("tag", "-m", tmp_path / "m"), 4, "window.safetensors: doesn't fit 13 outputs")


@pytest.mark.parametrize("settings", [{"head": "crf"}, {"class_weights": "balanced"}, {"int8": True}])
def test_other_settings_work_with_features(settings: dict[str, object], tmp_path: Path) -> None:
    (tmp_path / "t.conllu").write_text(feature_sentences(60), "utf-8")
    report = tiny.train("tag", tmp_path / "m", [tmp_path / "t.conllu"], column="feats,upos", epochs=6,
                        **settings)
    assert report["accuracy"] > 0.7
    result = ok(invoke("tag", "-m", tmp_path / "m", "--jsonl", "--probs", "--nbest", "2", input="bakers\n"))
    assert len(json.loads(result)["nbest"]) == 2
