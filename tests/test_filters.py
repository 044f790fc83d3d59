"""Filters in a row: each reads what another one wrote as JSONL, and keeps its fields."""

from __future__ import annotations

import json
import shlex
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from conftest import bash, invoke, jsonl, ok

Records = list[dict[str, Any]]

FILTERS = {
    "generate": ("writer", ["generate", "--prompts", "-", "--logprobs", "--seed", "1", "--max-tokens", "9"]),
    "score": ("writer", ["score", "--jsonl", "--per", "token", "-q"]),
    "tag": ("tagger", ["tag", "--jsonl", "--probs"]),
    "entities": ("ner", ["tag", "--jsonl", "--nbest", "2", "--column", "ner"]),
    "classify": ("classifier", ["classify", "--jsonl", "--top", "2"]),
    "transduce": ("transducer", ["transduce", "--jsonl", "--source-columns", "text", "-q"]),
    "tokenize": (None, ["tokenize", "--jsonl"]),
    "pieces": ("writer", ["tokenize", "--jsonl"]),
}
TEXTS = ["the baker sings .", "", "the hunter"]
REPLACED = {  # keys that both filters write
    ("tokenize", "tag"): {"tokens"}, ("tokenize", "entities"): {"tokens"},  # strings instead of objects
    ("tag", "entities"): {"probs"}, ("entities", "tag"): {"probs"},
    ("score", "transduce"): {"log_prob"}, ("transduce", "score"): {"log_prob"},
}  # fmt: skip


@pytest.fixture(scope="module")
def commands(request: pytest.FixtureRequest) -> dict[str, list[str]]:
    return {name: [*words, *(["-m", str(request.getfixturevalue(model))] if model else [])]
            for name, (model, words) in FILTERS.items()}


@cache
def answers(command: tuple[str, ...], source: str) -> Records:
    return jsonl(ok(invoke(*command, input=source)))


def lines(records: Records) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


@pytest.mark.parametrize("second", FILTERS)
@pytest.mark.parametrize("first", FILTERS)
def test_a_filter_keeps_every_field_of_another(
    first: str, second: str, commands: dict[str, list[str]]
) -> None:
    source = lines([{"text": text, "id": [i]} for i, text in enumerate(TEXTS)])
    before = answers(tuple(commands[first]), source)
    after = answers(tuple(commands[second]), lines(before))
    alone = answers(tuple(commands[second]), lines([{"text": record["text"]} for record in before]))
    assert [record["id"] for record in after] == [[0], [1], [2]]
    for old, new, own in zip(before, after, alone, strict=True):
        given = {"tokens"} if isinstance(old.get("tokens"), list) else set()  # words are not split again
        assert {key: new[key] for key in own.keys() - given} == {key: own[key] for key in own.keys() - given}
        changed = {key for key in old if new.get(key) != old[key]}
        if second == "generate":
            assert new["prompt"] == old["text"]
            changed -= {"text", "prompt"}
        if first != second:
            assert changed <= REPLACED.get((first, second), set())


def test_filters_in_a_shell(writer: Path, tagger: Path, classifier: Path) -> None:
    rnntool = shlex.join([sys.executable, "-m", "rnntool"])
    score, tag = f"{rnntool} score -q --jsonl -m {writer}", f"{rnntool} tag --jsonl -m {tagger}"
    texts = r"printf 'the baker sings .\n\nthe hunter\n'"
    done = bash(f"{texts} | {score} | {tag} | {rnntool} classify -m {classifier} --jsonl | {score}")
    assert (done.returncode, done.stderr) == (0, "")
    records = jsonl(done.stdout)
    assert [record["tokens"] for record in records] == [["the", "baker", "sings", "."], [], ["the", "hunter"]]
    assert [record["n_tokens"] for record in records] == [18, 1, 11]
    assert all(record.keys() >= {"text", "log_prob", "tags", "label", "prob"} for record in records)
    done = bash(f"{texts} | {rnntool} tokenize --jsonl | {rnntool} tag -m {tagger} --to inline")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["the_DET baker_NOUN sings_VERB ._PUNCT", "", "the_DET hunter_NOUN"]
    done = bash(f"printf 'the baker\\n' | {tag} --from tokens | {score}")  # without a text
    (record,) = jsonl(done.stdout)
    assert (record["tokens"], record["n_tokens"], "text" in record) == (["the", "baker"], 10, False)


def test_a_count_is_never_read_as_words(tagger: Path) -> None:
    (record,) = jsonl(ok(invoke("tag", "-m", tagger, "--jsonl", input='{"text": "the baker", "tokens": 10}')))
    assert (record["tokens"], record["n_tokens"], record["tags"]) == (["the", "baker"], 10, ["DET", "NOUN"])


def test_labels_of_the_input_are_kept(classifier: Path) -> None:
    source = {"text": "where ?", "label": "gold", "labels": [[0, 5, "X"]]}
    (record,) = jsonl(ok(invoke("classify", "-m", classifier, "--jsonl", input=json.dumps(source))))
    assert (record["input_label"], record["labels"]) == ("gold", [[0, 5, "X"]])
    top = ["classify", "-m", classifier, "--jsonl", "--top", "2"]
    (record,) = jsonl(ok(invoke(*top, input=json.dumps(source))))
    assert (record["input_label"], record["input_labels"]) == ("gold", [[0, 5, "X"]])


def test_json_can_be_read_as_plain_lines(writer: Path) -> None:
    text = '{"text": "a"}'
    assert ok(invoke("tokenize", input=text)) == "a\n"
    assert ok(invoke("tokenize", "--from", "text", input=text)) == '{ " text " : " a " }\n'
    assert invoke("tokenize", "--from", "csv", input=text).code == 2
    assert invoke("generate", "-m", writer, "--from", "text").code == 2
