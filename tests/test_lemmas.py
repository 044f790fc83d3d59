"""Lemmas: edit scripts of any forms, and taggers that predict them."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import tiny
from conftest import failed, invoke
from hypothesis import example, given
from hypothesis import strategies as st

from rnntool.data.edit_scripts import CASINGS, LONGEST, EditScript, candidates, learn
from rnntool.data.labels import Labels, load_labels, save_labels
from rnntool.tasks.lemma_column import LemmaColumn

ALPHABET = "abIİ\u0131ißẞς\u03c3\u03a3éeÉ\u0301\u0307-+=… 'ﬁ\n"
TEXTS = st.text(st.one_of(st.sampled_from(ALPHABET), st.characters()), max_size=12)
# a stem with changes at both ends, so that there is something to keep
PAIRS = st.one_of(
    st.tuples(TEXTS, TEXTS),
    st.builds(lambda a, b, c, d, stem, case: (a + CASINGS[case](stem) + b, c + stem + d),
              TEXTS, TEXTS, TEXTS, TEXTS, TEXTS, st.sampled_from(sorted(CASINGS))))


@given(PAIRS)
@example(("İstanbul'a", "İstanbul"))
@example(("Iş\u0131k", "\u0131ş\u0131k"))
@example(("I\u0307zmir", "izmir"))
@example(("STRASSE", "Straße"))
@example(("Straße", "STRASSE"))
@example(("\u039f\u0394\u039f\u03a3", "\u03bf\u03b4\u03cc\u03c2"))
@example(("cafe\u0301s", "café"))
@example(("a" * 200 + "s", "a" * 200))
@example(("lower …", "lemma x"))
@example(("x", ""))
def test_each_script_of_a_pair_gives_its_lemma_and_can_be_read_back(pair: tuple[str, str]) -> None:
    form, lemma = pair
    scripts = list(candidates(form, lemma))
    assert scripts
    for script in scripts:
        assert script.apply(form) == lemma
        assert EditScript.parse(str(script)) == script


@given(st.lists(PAIRS, max_size=8))
def test_learned_scripts_reproduce_every_pair(pairs: list[tuple[str, str]]) -> None:
    learned = set(learn(pairs))
    for form, lemma in pairs:
        chosen = [script for script in candidates(form, lemma) if script in learned]
        assert chosen
        assert {script.apply(form) for script in chosen} == {lemma}


@pytest.mark.parametrize(("form", "lemma", "script"), [
    ("Walking", "walk", "lower …---"), ("try", "try", "…"), ("tries", "try", "…---+y"),
    ("gemacht", "machen", "--…-+e+n"), ("abgeholt", "abholen", "==--…-+e+n"), ("went", "go", "lemma go"),
    ("NASA's", "NASA", "…--"), ("american", "American", "title …"), ("KELİME", "kelime", "lower-turkic …")])
def test_scripts_are_written_for_people(form: str, lemma: str, script: str) -> None:
    assert script in map(str, candidates(form, lemma))
    assert EditScript.parse(script).apply(form) == lemma


def test_few_scripts_are_learned() -> None:
    stems = ("Walk", "talk", "JUMP", "look")
    forms = [(stem + suffix, stem.lower()) for stem in stems for suffix in ("", "s", "ed", "ing")]
    assert [*map(str, learn([*forms, ("went", "go"), ("Went", "go")]))] == [
        "lower …", "lower …-", "lower …--", "lower …---", "lemma go"]


def test_the_case_of_turkish_is_learned_from_its_words() -> None:
    turkish = [("Iş\u0131k", "\u0131ş\u0131k"), ("İçin", "için"), ("Evler", "ev"), ("ev", "ev")]
    assert [*map(str, learn(turkish))] == ["lower-turkic …", "lower-turkic …---"]
    assert [*map(str, learn([("It", "it"), ("In", "in"), ("Cars", "car"), ("car", "car")]))] == [
        "lower …", "lower …-"]


@pytest.mark.parametrize(("script", "form"), [
    ("…---", "abc"), ("==…-", "ab"), ("…", ""), ("lower =…=", "Ab")])
def test_a_script_does_not_fit_a_form_of_which_nothing_would_stay(script: str, form: str) -> None:
    assert EditScript.parse(script).apply(form) is None


@pytest.mark.parametrize("text", ["", "---", "lower", "lower ---", "…+", "x…", "lower  …", "……", "Lower …"])
def test_other_text_is_no_script(text: str) -> None:
    with pytest.raises(ValueError, match="is no edit script"):
        EditScript.parse(text)


def test_long_words_are_not_aligned() -> None:
    word = "ab" * LONGEST
    assert list(map(str, candidates(word, word + "x"))) == [f"lemma {word}x"]


# --- A column of lemmas ------------------------------------------------------------------------------------

SCRIPTS = ("…", "…-", "lower …", "lower …-", "…---+y", "lemma be")
PAIRS_SEEN = {("saw", "saw"): 1, ("saw", "see"): 1, ("cats", "cat"): 1, ("are", "be"): 9}


def decoded(word: str, probs: Mapping[str, float]) -> tuple[str, float, list[tuple[str, float]]]:
    """Return the lemma of a word with its probability, and all lemmas, given probabilities of scripts."""
    scripts = (*SCRIPTS, "lemma see")
    column = LemmaColumn(Labels(scripts), PAIRS_SEEN)
    emissions = np.log([[[max(1e-9, probs.get(script, 0.0)) for script in scripts]]])
    lengths = np.ones(1, np.int32)
    tags = column.decode([[word]], emissions, lengths, None, "iob2")
    ((prob,),) = column.probs([[word]], tags, emissions, lengths, None, "iob2")
    (best,) = column.nbest([[word]], emissions, lengths, None, "iob2", 3)
    return tags[0][0], prob, [(lemma, math.exp(score)) for (lemma,), score in best]


def test_scripts_with_the_same_lemma_are_summed() -> None:
    lemma, prob, best = decoded("dogs", {"…": 0.4, "…-": 0.35, "lower …-": 0.25})
    assert (lemma, best[0][0]) == ("dog", "dog")
    assert prob == pytest.approx(0.6, abs=1e-4) and best[0][1] == pytest.approx(0.6, abs=1e-4)
    assert best[1][1] == pytest.approx(0.4, abs=1e-4)


def test_a_script_that_does_not_fit_is_passed_over() -> None:
    assert decoded("ox", {"…---+y": 0.9, "…-": 0.06, "…": 0.04})[0] == "o"


def test_a_word_that_no_script_fits_is_its_own_lemma() -> None:
    column = LemmaColumn(Labels(["…---", "…--"]), PAIRS_SEEN)
    zeros, lengths = np.zeros((1, 1, 2)), np.ones(1, np.int32)
    assert column.decode([["ox"]], zeros, lengths, None, "iob2") == [["ox"]]
    assert column.probs([["ox"]], [["ox"]], zeros, lengths, None, "iob2") == [[1.0]]
    assert column.outer(["ox", "oxen"], ["…--", "…--"], "iob2") == ["ox", "ox"]


@pytest.mark.parametrize(("word", "probs", "lemma"), [
    ("Cats", {"…": 0.7, "lower …-": 0.3}, "cat"),  # training saw the pair in lower case
    ("cats", {"…": 0.7, "…-": 0.3}, "cat"),
    ("cats", {"…": 0.9999, "…-": 0.0001}, "cats"),  # once is little
    ("are", {"…": 0.999, "lemma be": 0.001}, "be"),  # nine times are much
    ("saw", {"…": 0.6, "lemma see": 0.4}, "saw"),  # both are known
    ("saw", {"…": 0.4, "lemma see": 0.6}, "see"),
    ("Xcat", {"…": 1.0}, "Xcat")])
def test_lemmas_of_the_training_data_are_preferred(word: str, probs: Mapping[str, float], lemma: str) -> None:
    assert decoded(word, probs)[0] == lemma


@given(st.lists(PAIRS, min_size=1, max_size=6), st.integers(0, 2**32 - 1))
def test_a_column_survives_its_folder_and_decodes_any_form(pairs: list[tuple[str, str]], seed: int) -> None:
    column = LemmaColumn.learn([["x", "y"], [form for form, _ in pairs]],
                               [["x", "z"], [lemma for _, lemma in pairs]])
    with TemporaryDirectory() as name:
        save_labels([column.labels], Path(name))
        column.save(Path(name))
        labels = load_labels(Path(name), [len(column.labels)])[0]
        loaded = LemmaColumn.load(Path(name), labels, None)
    words = [[form for form, _ in pairs]]
    lengths = np.array([len(pairs)], np.int32)
    emissions = np.random.default_rng(seed).normal(size=(len(pairs), 1, len(labels)))
    tags = loaded.decode(words, emissions, lengths, None, "iob2")
    assert tags == column.decode(words, emissions, lengths, None, "iob2")
    # the fast way gives the best of all lemmas, with a probability
    probs = loaded.probs(words, tags, emissions, lengths, None, "iob2")
    (best,) = loaded.nbest(words, emissions, lengths, None, "iob2", 1)
    assert math.exp(best[0][1]) == pytest.approx(math.prod(probs[0]), rel=1e-6)
    ids = loaded.ids(words[0], [lemma for _, lemma in pairs], None)
    assert loaded.outer(words[0], [labels.names[i] for i in ids], "iob2") == [lemma for _, lemma in pairs]


# --- Taggers -----------------------------------------------------------------------------------------------


def lemma_sentences(n: int, seed: int = 0) -> str:
    """Write CoNLL-U in which verbs lose their suffix, and the first word is capitalized."""
    blocks = []
    for sentence in tiny.pos_sentences(n, seed):
        rows = []
        for i, (word, tag) in enumerate(sentence, 1):
            lemma = word.removesuffix("s").removesuffix("ed") if tag == "VERB" else word
            form = word.title() if i == 1 else word
            rows.append(f"{i}\t{form}\t{lemma}\t{tag}" + "\t_" * 6 + "\n")
        blocks.append("".join(rows) + "\n")
    return "".join(blocks)


@pytest.fixture(scope="module")
def lemmatizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lemmas")
    (folder / "train.conllu").write_text(lemma_sentences(80), "utf-8")
    (folder / "dev.conllu").write_text(lemma_sentences(20, seed=5), "utf-8")
    tiny.train("tag", folder / "model", [folder / "train.conllu"], dev=[folder / "dev.conllu"],
               column="lemma,upos", epochs=6)
    return folder


def test_a_tagger_of_lemmas_shows_lemmas_and_not_scripts(lemmatizer: Path) -> None:
    model, dev = lemmatizer / "model", lemmatizer / "dev.conllu"
    report = json.loads(invoke("evaluate", dev, "-m", model, "--json", "--errors", "5").out)
    assert report["accuracy"] > 0.95 and "per_label" not in report and "confusion" not in report
    assert "per_label" in report["columns"]["upos"]
    tagged = invoke("tag", "-m", model, "--to", "conllu", "--probs", input="The baker hunts.\n").out
    assert [line.split("\t")[2] for line in tagged.splitlines()[2:6]] == ["the", "baker", "hunt", "."]
    for output in (invoke("info", model).out, (model / "README.md").read_text("utf-8"), tagged,
                   invoke("evaluate", dev, "-m", model).out, invoke("report", model).out):
        assert output and "…-" not in output and "lower …" not in output
    assert (model / "labels.txt").read_text("utf-8").splitlines()[:3] == ["lower …", "lower …-", "lower …--"]
    assert "baked\tbak\t2" in (model / "lemmas.txt").read_text("utf-8").splitlines()


@pytest.mark.parametrize(("name", "old", "new", "problem"), [
    ("labels.txt", "lower …-\n", "lower -\n", "'lower -' is no edit script"),
    ("lemmas.txt", "\tbak\t2\n", "\tbak\n", "expected 3 cells in a line, found 2"),
    ("lemmas.txt", "\tbak\t2\n", "\tbak\ttwo\n", "expected a form, a lemma and a count in each line")])
def test_the_error_names_the_damaged_file(
    name: str, old: str, new: str, problem: str, lemmatizer: Path, tmp_path: Path
) -> None:
    shutil.copytree(lemmatizer / "model", tmp_path / "m")
    text = (tmp_path / "m" / name).read_text("utf-8")
    assert old in text
    (tmp_path / "m" / name).write_text(text.replace(old, new, 1), "utf-8")
    failed(invoke("tag", "-m", tmp_path / "m"), 4, name, "differs from its SHA-256")
    tiny.forget_digests(tmp_path / "m")
    failed(invoke("tag", "-m", tmp_path / "m"), 4, f"{name}: {problem}")


def test_data_without_lemmas_cannot_train_a_lemmatizer(tmp_path: Path) -> None:
    (tmp_path / "t.conllu").write_text(tiny.conllu(tiny.pos_sentences(3)), "utf-8")
    failed(invoke("train", "tag", tmp_path / "t.conllu", "-o", tmp_path / "m", "--column", "lemma", "-q"), 3,
           "expected at least 2 different lemmas in column lemma, found only '_'")


def test_a_tagger_has_one_column_of_lemmas(tmp_path: Path) -> None:
    record = {"tokens": ["dogs", "bark"], "lemma": ["dog", "bark"], "Lemma": ["Dog", "Bark"]}
    (tmp_path / "t.jsonl").write_text(json.dumps(record) + "\n", "utf-8")
    failed(invoke("train", "tag", tmp_path / "t.jsonl", "-o", tmp_path / "m", "--column", "lemma,Lemma"), 2,
           "--column: expected at most one column of lemmas, found 'lemma,Lemma'; leave one out")


def test_sentences_with_rare_lemmas_can_be_held_out(tmp_path: Path) -> None:
    rows = "".join(f"1\tw{i}s\tw{i}\tNOUN" + "\t_" * 6 + "\n\n" for i in range(40))
    (tmp_path / "t.conllu").write_text(rows, "utf-8")
    report = tiny.train("tag", tmp_path / "m", [tmp_path / "t.conllu"], column="lemma", epochs=1,
                        dev_fraction=0.5)
    assert report["records"] == 20
