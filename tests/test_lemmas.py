"""Lemmas: edit scripts of any forms, and taggers that predict them."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
from hypothesis import example, given
from hypothesis import strategies as st

from rnntool.data.edit_scripts import CASINGS, LONGEST, EditScript, candidates, learn

ALPHABET = "abIİıißẞςσΣéeÉ\u0301\u0307-+=… 'ﬁ\n"
TEXTS = st.text(st.one_of(st.sampled_from(ALPHABET), st.characters()), max_size=12)
# a stem with changes at both ends, so that there is something to keep
PAIRS = st.one_of(
    st.tuples(TEXTS, TEXTS),
    st.builds(lambda a, b, c, d, stem, case: (a + CASINGS[case](stem) + b, c + stem + d),
              TEXTS, TEXTS, TEXTS, TEXTS, TEXTS, st.sampled_from(sorted(CASINGS))))


@given(PAIRS)
@example(("İstanbul'a", "İstanbul"))
@example(("Işık", "ışık"))
@example(("I\u0307zmir", "izmir"))
@example(("STRASSE", "Straße"))
@example(("Straße", "STRASSE"))
@example(("ΟΔΟΣ", "οδός"))
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
    assert [*map(str, learn([("Işık", "ışık"), ("İçin", "için"), ("Evler", "ev"), ("ev", "ev")]))] == [
        "lower-turkic …", "lower-turkic …---"]
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
