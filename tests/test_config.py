"""Settings: where they come from, and that whoever chooses one that has no effect hears of it."""

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
from rnntool.tasks.specs import schema

CHOICES = {task: {field.name: field.metadata["choices"] for field in dataclasses.fields(kind)}
           for task, kind in schema.SETTINGS.items()}


@pytest.mark.parametrize(("task", "chosen", "message"), [
    ("classify", {"encoder": "bag", "cell": "gru"}, "--cell: goes with --encoder rnn, found --encoder bag; "
                                                    "leave it out"),
    ("classify", {"encoder": "window", "cell": "lstm"}, "--cell: goes with --encoder rnn, found"),
    ("classify", {"window": 3}, "--window: goes with --encoder window, found --encoder rnn"),
    ("classify", {"encoder": "bag", "pooling": "mean"}, "--pooling: goes with --encoder rnn or window"),
    ("classify", {"encoder": "bag", "bidirectional": False}, "--bidirectional: goes with --encoder rnn or"),
    ("classify", {"tokenizer": "char", "neighbours": 0.1}, "--neighbours: goes with --tokenizer word, found "
                                                           "--tokenizer char; leave it out"),
    ("classify", {"tokenizer": "byte", "raw": "r.txt"}, "--raw: goes with --tokenizer word"),
    ("classify", {"tokenizer": "unigram", "chars": "cnn"}, "--chars: goes with --tokenizer word"),
    ("classify", {"tokenizer": "char", "affix_embed": 9}, "--affix-embed: goes with --tokenizer word"),
    ("classify", {"tokenizer": "char", "word_dropout": 0.1}, "--word-dropout: goes with --tokenizer word"),
    ("classify", {"tokenizer": "char", "vectors": "v.txt"}, "--vectors: goes with --tokenizer word"),
    ("classify", {"tokenizer": "char", "min_count": 3}, "--min-count: goes with --tokenizer word"),
    ("classify", {"dropout_between": 0.2}, "--dropout-between: goes with --layers 2 or more, found"),
    ("classify", {"freeze": True}, "--freeze: goes with --init, found none; leave it out, or give --init"),
    ("classify", {"unfreeze_every": 1}, "--unfreeze-every: goes with --init, found none"),
    ("classify", {"init": "m", "freeze": True, "unfreeze_every": 1}, "leave one out"),
    ("tag", {"features": "m", "neighbours": 0.1}, "--neighbours: has no effect beside --features; leave one"),
    ("tag", {"features": "m", "raw": "r.txt"}, "--raw: has no effect beside --features; leave one out"),
    ("tag", {"neighbours": 0.0, "raw": "r.txt"}, "--raw: goes with --neighbours, found none"),
    ("tag", {"chars": "none", "char_hidden": 8}, "--char-hidden: goes with --chars lstm or cnn, found"),
    ("tag", {"affix_embed": 0, "affix_buckets": 64}, "--affix-buckets: goes with --affix-embed, found none"),
    ("tag", {"momentum": 0.9}, "--momentum: goes with --optimizer sgd, found --optimizer adamw"),
    ("tag", {"vectors_limit": 9}, "--vectors-limit: goes with --vectors, found none"),
    ("tag", {"dev_fraction": 0.2}, "--dev-fraction: has no effect beside --dev; leave one out"),
    ("tag", {"cell": "mingru", "weight_dropout": 0.2}, "--weight-dropout: goes with --cell elman or"),
    ("lm", {"bptt": 35}, "--bptt: goes with --context stream, found --context line"),
    ("lm", {"split": "words", "tokenizer": "char"}, "--split: goes with --tokenizer word, found"),
    ("lm", {"min_count": 2, "tokenizer": "byte"}, "--min-count: goes with --tokenizer unigram or bpe or"),
    ("lm", {"encoder": "window", "direction": "both"}, "--direction: goes with --encoder rnn, found"),
])
def test_a_setting_that_was_chosen_and_has_no_effect_is_an_error(
    task: str, chosen: dict[str, Any], message: str, tmp_path: Path
) -> None:
    dev = ["dev.txt"] if "dev_fraction" in chosen else []
    with pytest.raises(UsageError, match=re.escape(message)):
        schema.resolve(task, chosen, dev=dev)
    file = tmp_path / "settings.toml"
    file.write_text("".join(f"{name} = {str(value).lower() if isinstance(value, bool) else repr(value)}\n"
                            for name, value in chosen.items()))
    with pytest.raises(UsageError, match=re.escape(message)):
        schema.resolve(task, {}, file=file, dev=dev)


@pytest.mark.parametrize(("task", "chosen"), [
    ("tag", {"features": "m"}), ("tag", {"features": "m", "neighbours": 0.0}),
    ("tag", {"chars": "none", "affix_embed": 0}), ("tag", {"momentum": 0.0}),
    ("classify", {"tokenizer": "char", "chars": "none", "affix_embed": 0, "word_dropout": 0.0}),
    ("classify", {"encoder": "bag"}), ("classify", {"freeze": False}),
    ("lm", {"tokenizer": "byte"}), ("lm", {"tokenizer": "word", "vectors": "v.txt", "vectors_limit": 9}),
])
def test_what_nobody_chose_is_silently_without_effect(task: str, chosen: dict[str, Any]) -> None:
    schema.resolve(task, chosen, dev=["dev.txt"])


@pytest.mark.parametrize(("task", "preset"), [(task, name) for task in schema.PRESETS
                                              for name in schema.PRESETS[task]])
def test_presets_go_with_every_choice(task: str, preset: str) -> None:
    for name in ("encoder", "cell", "tokenizer", "context", "optimizer", "chars"):
        for value in CHOICES[task].get(name, ()):
            settings = schema.resolve(task, {name: value}, preset_name=preset)
            assert getattr(settings, name) == value


def test_what_settings_want_can_be_had() -> None:
    names = {name for choices in CHOICES.values() for name in choices}
    for name, wants in schema.CONDITIONS.items():
        assert {name, *wants} - names <= {"dev"}
        for other, wanted in wants.items():
            for choices in CHOICES.values():
                if isinstance(wanted, tuple) and other in choices:
                    assert set(wanted) & set(choices[other]), f"{name} wants {other} {wanted}"


def test_what_is_inherited_goes_behind_what_was_chosen_and_is_no_choice() -> None:
    theirs = {"tokenizer": "word", "split": "words", "hidden": 7}
    settings = schema.resolve("lm", {"hidden": 9}, inherit=lambda _: theirs)
    assert [getattr(settings, name) for name in theirs] == ["word", "words", 9]
    schema.resolve("lm", {"tokenizer": "char"}, inherit=lambda _: theirs)
    assert schema.resolve("lm", {"split": "words"}, inherit=lambda _: theirs), "what it wants is inherited"


def test_the_environment_is_a_choice(run: Run, tmp_path: Path) -> None:
    (tmp_path / "in.tsv").write_text(tiny.tsv(tiny.questions(9)))
    done = run("train", "classify", "in.tsv", "-o", "m", "--tokenizer", "char", RNNTOOL_NEIGHBOURS="0.2")
    assert (done.code, done.out) == (2, "")
    assert done.err == ("rnntool: --neighbours: goes with --tokenizer word, found --tokenizer char; leave it "
                        "out\n")


def test_threads_are_no_more_than_cores() -> None:
    assert threads.thread_count(0) == threads.thread_count(99_999) == threads.cores()
    assert threads.thread_count(1) == 1
    with pytest.raises(UsageError, match="threads: expected a whole number of at least 0"):
        threads.thread_count(-1)
