"""The answers for a record as fields, which JSON objects and rows of tables have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rnntool.data.formats.base import Columns, Offsets
from rnntool.data.records import Labels, Sentence, Tagged, WordWeight
from rnntool.errors import UsageError

_RESERVED_KEYS = {"text", "tokens", "offsets", "probs", "nbest", "entities"}


def label_results(labels: Labels, words: Sequence[WordWeight] | None, *, several: bool) -> dict[str, Any]:
    """Return the best label, all labels if there can be `several`, and the words that explain the best."""
    results: dict[str, Any] = {"label": labels[0][0], "prob": round(labels[0][1], 6)}
    if several:
        results["labels"] = [{"label": label, "prob": round(p, 6)} for label, p in labels]
    if words is not None:
        results["explain"] = [{**word._asdict(), "weight": round(word.weight, 6)} for word in words]
    return results


def merged(record: Mapping[str, Any], results: Mapping[str, Any]) -> dict[str, Any]:
    """Return all fields of a record and its results; a field with the name of a result becomes `input_…`."""
    return {_free_name(name, record, results): value for name, value in record.items()} | dict(results)


def _free_name(name: str, record: Mapping[str, Any], results: Mapping[str, Any]) -> str:
    """Return a name that neither a result nor another field has."""
    free = name
    while free in results or (free != name and free in record):
        free = f"input_{free}"
    return free


def tag_keys(columns: Columns) -> list[str]:
    """Return the key of each column of tags; `UsageError` for one that has another meaning or comes twice."""
    keys = [key or "tags" for key in columns]
    taken = [key for i, key in enumerate(keys) if key in _RESERVED_KEYS or key in keys[:i]]
    if taken:
        raise UsageError(setting="column", expected="keys without another meaning, each once",
                         found=repr(taken[0]), advice="choose another name")
    return keys


def tag_results(
    sentence: Sentence, tagged: Tagged, keys: Sequence[str], *, probs: bool, spans: bool
) -> dict[str, Any]:
    """Return the words of a sentence, their tags by the key of each column, and more about them.

    If the tags have an IOB style and `spans` are written, `entities` have `start` and `end` in characters
    where offsets are available, else `start_token` and `end_token`; the end is always one past the last.
    Where words have probabilities, the `score` of an entity is their mean.
    """
    results: dict[str, Any] = {"tokens": sentence.words}
    results.update(zip(keys, (tagged.tags, *tagged.more_tags), strict=True))
    offsets = sentence.located()
    if offsets is not None:
        results["offsets"] = offsets
    if probs and tagged.probs is not None:
        results["probs"] = [round(float(p), 6) for p in tagged.probs]
    if tagged.nbest is not None:
        results["nbest"] = [{"tags": tags, "score": round(float(score), 6)} for tags, score in tagged.nbest]
    entities = tagged.entities() if spans else None
    if entities is not None:
        results["entities"] = [_entity(sentence, offsets, tagged, *entity) for entity in entities]
    return results


def _entity(
    sentence: Sentence, offsets: Offsets | None, tagged: Tagged, first: int, after: int, label: str
) -> dict[str, Any]:
    entity: dict[str, Any]
    if sentence.text is not None and offsets is not None:
        start, end = offsets[first][0], offsets[after - 1][1]
        entity = {"start": start, "end": end, "label": label, "text": sentence.text[start:end]}
    else:
        text = " ".join(sentence.words[first:after])
        entity = {"start_token": first, "end_token": after, "label": label, "text": text}
    if tagged.probs is not None:
        entity["score"] = round(float(sum(tagged.probs[first:after])) / (after - first), 6)
    return entity
