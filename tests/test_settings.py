"""Settings: where they come from, and errors for chosen settings that have no effect."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
import tiny
from conftest import Run

from rnntool.data import threads
from rnntool.errors import UsageError
from rnntool.tasks import TASKS
from rnntool.tasks.specs.classify import ClassifySettings
from rnntool.tasks.specs.resolve import resolve

CHOICES = {task: {field.name: field.metadata["choices"] for field in dataclasses.fields(kind)}
           for task, kind in ((name, spec.settings) for name, spec in TASKS.items())}


@pytest.mark.parametrize(("task", "chosen", "message"), [
    ("classify", {"encoder": "bag", "cell": "gru"}, "cell: needs encoder=rnn, found encoder=bag"),
    ("classify", {"encoder": "window", "cell": "lstm"}, "cell: needs encoder=rnn, found"),
    ("classify", {"window": 3}, "window: needs encoder=window, found encoder=rnn"),
    ("classify", {"encoder": "bag", "pooling": "mean"}, "pooling: needs encoder=rnn or window"),
    ("classify", {"encoder": "bag", "bidirectional": False}, "bidirectional: needs encoder=rnn or"),
    ("classify", {"tokenizer": "char", "neighbours": 0.1}, "neighbours: needs tokenizer=word, "),
    ("classify", {"tokenizer": "byte", "raw": "r.txt"}, "raw: needs tokenizer=word"),
    ("classify", {"tokenizer": "unigram", "chars": "cnn"}, "chars: needs tokenizer=word"),
    ("classify", {"tokenizer": "char", "affix_embed": 9}, "affix_embed: needs tokenizer=word"),
    ("classify", {"tokenizer": "char", "word_dropout": 0.1}, "word_dropout: needs tokenizer=word"),
    ("classify", {"tokenizer": "char", "vectors": "v.txt"}, "vectors: needs tokenizer=word"),
    ("classify", {"tokenizer": "char", "min_count": 3}, "min_count: needs tokenizer=word"),
    ("classify", {"dropout_between": 0.2}, "dropout_between: needs layers=2 or more, found"),
    ("classify", {"freeze": True}, "freeze: needs init; give init, or leave it out"),
    ("classify", {"unfreeze_every": 1}, "unfreeze_every: needs init"),
    ("classify", {"init": "m", "freeze": True, "unfreeze_every": 1}, "leave one out"),
    ("tag", {"features": "m", "neighbours": 0.1}, "neighbours: has no effect with features; leave one"),
    ("tag", {"features": "m", "raw": "r.txt"}, "raw: has no effect with features; leave one out"),
    ("tag", {"neighbours": 0.0, "raw": "r.txt"}, "raw: needs neighbours"),
    ("tag", {"chars": "none", "char_hidden": 8}, "char_hidden: needs chars=lstm or cnn, found"),
    ("tag", {"affix_embed": 0, "affix_buckets": 64}, "affix_buckets: needs affix_embed"),
    ("tag", {"momentum": 0.9}, "momentum: needs optimizer=sgd, found optimizer=adamw"),
    ("tag", {"vectors_limit": 9}, "vectors_limit: needs vectors"),
    ("tag", {"dev_fraction": 0.2}, "dev_fraction: has no effect with dev; leave one out"),
    ("tag", {"cell": "mingru", "weight_dropout": 0.2}, "weight_dropout: needs cell=elman or"),
    ("lm", {"bptt": 35}, "bptt: needs context=stream, found context=line"),
    ("lm", {"split": "words", "tokenizer": "char"}, "split: needs tokenizer=word, found"),
    ("lm", {"min_count": 2, "tokenizer": "byte"}, "min_count: needs tokenizer=unigram or bpe or"),
    ("lm", {"encoder": "window", "direction": "both"}, "direction: needs encoder=rnn, found"),
])
def test_a_chosen_setting_without_effect_is_an_error(
    task: str, chosen: dict[str, Any], message: str, tmp_path: Path
) -> None:
    dev = ["dev.txt"] if "dev_fraction" in chosen else []
    with pytest.raises(UsageError, match=re.escape(message)):
        resolve(TASKS[task], chosen, dev=dev)
    file = tmp_path / "settings.toml"
    file.write_text("".join(f"{name} = {str(value).lower() if isinstance(value, bool) else repr(value)}\n"
                            for name, value in chosen.items()))
    with pytest.raises(UsageError, match=re.escape(message)):
        resolve(TASKS[task], {}, file=file, dev=dev)


@pytest.mark.parametrize(("task", "chosen"), [
    ("tag", {"features": "m"}), ("tag", {"features": "m", "neighbours": 0.0}),
    ("tag", {"chars": "none", "affix_embed": 0}), ("tag", {"momentum": 0.0}),
    ("classify", {"tokenizer": "char", "chars": "none", "affix_embed": 0, "word_dropout": 0.0}),
    ("classify", {"encoder": "bag"}), ("classify", {"freeze": False}),
    ("lm", {"tokenizer": "byte"}), ("lm", {"tokenizer": "word", "vectors": "v.txt", "vectors_limit": 9}),
])
def test_defaults_without_effect_are_not_errors(task: str, chosen: dict[str, Any]) -> None:
    resolve(TASKS[task], chosen, dev=["dev.txt"])


@pytest.mark.parametrize(("task", "preset"), [(task, name) for task, spec in TASKS.items()
                                              for name in spec.presets])
def test_presets_combine_with_every_choice(task: str, preset: str) -> None:
    for name in ("encoder", "cell", "tokenizer", "context", "optimizer", "chars"):
        for value in CHOICES[task].get(name, ()):
            settings = resolve(TASKS[task], {name: value}, preset=preset)
            assert getattr(settings, name) == value


def test_requirements_name_existing_settings_and_choices() -> None:
    names = {name for choices in CHOICES.values() for name in choices}
    for spec in TASKS.values():
        for field in dataclasses.fields(spec.settings):
            requires = field.metadata["requires"]
            assert set(requires) - names <= {"dev"}
            for other, condition in requires.items():
                if isinstance(condition, tuple) and CHOICES[spec.name].get(other):
                    allowed = set(CHOICES[spec.name][other])
                    assert set(condition) & allowed, f"{field.name}: {other} {condition}"


def test_settings_of_another_version_can_be_read() -> None:
    settings = ClassifySettings.from_json({"hidden": 7, "removed_long_ago": [1]})
    assert settings == ClassifySettings(hidden=7, ngrams=False), "a model without the setting has no n-grams"
    with pytest.raises(UsageError, match=r"^hidden: expected a whole number of at least 1, found 0$"):
        ClassifySettings.from_json({"hidden": 0})


@pytest.mark.parametrize(("values", "message"), [
    ({"pooling": "foo"},
     "^pooling: expected last, mean, max, attention, or several joined by \\+, found 'foo'$"),
    ({"pooling": "max+max"}, "^pooling: expected each name once, found 'max\\+max'; leave one out$"),
    ({"epochs": True}, "^epochs: expected a whole number, found True$"),
    ({"encoder": "cnn"}, "^encoder: expected one of rnn, bag, window, found 'cnn'$"),
    ({"dropout": 1.5}, "^dropout: expected a number from 0 to 0.95, found 1.5$"),
    ({"lr": float("nan")}, "^lr: expected a number of at least 0, found nan$"),
])
def test_values_are_checked_on_construction(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ClassifySettings(**values)


def test_chosen_settings_override_inherited_ones() -> None:
    inherited = {"tokenizer": "word", "split": "words", "hidden": 7}
    settings = resolve(TASKS["lm"], {"hidden": 9}, inherit=lambda _: inherited)
    assert [getattr(settings, name) for name in inherited] == ["word", "words", 9]
    resolve(TASKS["lm"], {"tokenizer": "char"}, inherit=lambda _: inherited)
    assert resolve(TASKS["lm"], {"split": "words"}, inherit=lambda _: inherited), "requirement inherited"


def test_a_variable_counts_as_chosen(run: Run, tmp_path: Path) -> None:
    (tmp_path / "in.tsv").write_text(tiny.tsv(tiny.questions(9)))
    done = run("train", "classify", "in.tsv", "-o", "m", "--tokenizer", "char", RNNTOOL_NEIGHBOURS="0.2")
    assert (done.code, done.out) == (2, "")
    assert done.err == ("rnntool: RNNTOOL_NEIGHBOURS: needs --tokenizer word, found --tokenizer char; "
                        "leave it out\n")


def test_threads_are_no_more_than_cores() -> None:
    assert threads.thread_count(0) == threads.thread_count(99_999) == threads.cores()
    assert threads.thread_count(1) == 1
    with pytest.raises(UsageError, match="threads: expected a whole number of at least 0"):
        threads.thread_count(-1)
