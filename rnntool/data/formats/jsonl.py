"""JSONL: one JSON object a line, read as text, pairs or sentences; its fields come back in order."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from rnntool.data.formats.conll import is_blank
from rnntool.data.records import (
    Pair,
    Sentence,
    SentenceWriter,
    Tagged,
    Text,
)
from rnntool.data.streams import Lines, chomp
from rnntool.errors import DataError, UsageError

Offsets = list[tuple[int, int]]

_SURROGATES = re.compile("[\ud800-\udfff]")
_SHOWN = 20  # keys that a message lists
# by the line that it begins with, how a file becomes JSONL that is JSON
_ON_ONE_LINE = {begun: f"put each object on one line with jq -c {filter}"
                for begun, filter in (("{", "."), ("[", "'.[]'"))}
PAIR = ("sentence_good", "sentence_bad")  # BLiMP's keys
_OF_TAGS = ("probs", "nbest")  # what is said of a sentence's tags
_OWN = {"text", "tokens", "offsets", "probs", "nbest", "entities"}  # keys of a sentence that are no tags


def whole(lines: Iterable[str]) -> bool:
    """Whether lines hold a record, each being one but those of white space only."""
    return not all(map(is_blank, lines))


def read(lines: Lines, text_key: str | None, label_key: str | None) -> Iterator[Text]:
    """Texts from `text_key` ("text"), labels from `label_key`: a string, a number, or a list of them.

    Where `label_key` is None, labels are taken from "label" if they are there, and nothing needs to be.
    """
    key = text_key or "text"
    for found, place in _objects(lines):
        if key not in found and found.keys() >= set(PAIR):
            raise DataError(f"{place}: expected a key {key!r}, found a pair of sentences, {_keys(found)}; see "
                            "rnntool score --pairs")
        text = _string(found, key, place, "--text-column")
        if label_key is None:
            labels = _labels(found.get("label")) or ()
        else:
            given = _labels(_value(found, label_key, place, "--label-column"))
            if given is None:
                raise DataError(
                    f"{place}: expected a label or a list of labels in {label_key!r}, "
                    f"found {_kind(found[label_key])}; see --label-column"
                )
            labels = given
        yield Text(text, labels, found, place)


def read_pairs(lines: Lines, keys: tuple[str, str] | None, prefix: str | None) -> Iterator[Pair]:
    """Minimal pairs from two keys, by default those of BLiMP; what stands before both from a third."""
    good, bad = keys or PAIR
    for found, place in _objects(lines):
        before = None if prefix is None else _string(found, prefix, place, "--prefix")
        better, worse = [_string(found, key, place, "--columns") for key in (good, bad)]
        yield Pair(better, worse, found, place, before)


def read_sentences(
    lines: Lines, tag_keys: Sequence[str | None], split: Callable[[str], Offsets], *, need_tags: bool = False
) -> Iterator[Sentence]:
    """Sentences from `tokens` and `tag_keys` ("tags"), or from `text`, which `split` cuts into words.

    With `need_tags`, an object without tags raises DataError; `offsets` into `text` are used where they fit.
    """
    keys = [key or "tags" for key in tag_keys]
    for found, place in _objects(lines):
        text = found.get("text")
        offsets: Offsets | None = None
        if "tokens" in found:
            words = _strings(found, "tokens", place)
            if isinstance(text, str):
                offsets = _offsets(found.get("offsets"), len(words), len(text))
            else:
                text = None
        elif "text" in found:
            text = _string(found, "text", place)
            offsets = split(text)
            words = [text[start:end] for start, end in offsets]
        else:
            raise DataError(f"{place}: expected 'tokens' or 'text', found {_keys(found)}; rename one")
        columns: list[list[str]] = []
        for key in keys:
            tags = _strings(found, key, place) if need_tags else _tags(found.get(key), len(words))
            if tags is None:
                continue
            if len(tags) != len(words):
                raise DataError(
                    f"{place}: expected one tag a word, found {len(words)} words and {len(tags)} tags in "
                    f"{key!r}; make them equal"
                )
            columns.append(tags)
        if len(columns) < len(keys):
            yield Sentence(words, None, text, offsets, found, place)
        else:
            yield Sentence(words, columns[0], text, offsets, found, place, columns[1:])


class Writer(SentenceWriter):
    """The input's own object, or a new one, with `tokens`, the tags and what is known about them.

    `entities`, for tags of an IOB style, have `start` and `end` in characters where the offsets are known,
    and `start_token` and `end_token` where they aren't; `end` is always one past the last. Where the
    probabilities of words are known, their mean is an entity's `score`.
    """

    def __init__(
        self, tag_keys: Sequence[str | None] = (None,), *, probs: bool = False, spans: bool = True
    ) -> None:
        """`tag_keys` are those of `read_sentences`; `UsageError` for keys that have something else in them.

        `probs` adds the probability of each tag, `spans` the entities of tags that mark some.
        """
        self._spans = spans
        self._keys = [key or "tags" for key in tag_keys]
        taken = [key for i, key in enumerate(self._keys) if key in _OWN or key in self._keys[:i]]
        if taken:
            raise UsageError(f"--column: expected keys that JSONL has free, each once, found {taken[0]!r}; "
                             "give it another name")
        self._probs = probs

    def __call__(self, sentence: Sentence, tagged: Tagged) -> str:
        """One JSON object and a line ending."""
        out: dict[str, Any] = {}
        if isinstance(sentence.source, dict):
            out.update(sentence.source)
            if not out.keys().isdisjoint(self._keys):
                for name in _OF_TAGS:  # which are other ones now
                    out.pop(name, None)
        elif sentence.text is not None:
            out["text"] = sentence.text
        out["tokens"] = sentence.words
        out.update(zip(self._keys, (tagged.tags, *tagged.more), strict=True))
        offsets = sentence.located()
        if offsets is not None:
            out["offsets"] = offsets
        if self._probs and tagged.probs is not None:
            out["probs"] = [round(float(p), 6) for p in tagged.probs]
        if tagged.nbest is not None:
            out["nbest"] = [{"tags": tags, "score": round(float(score), 6)} for tags, score in tagged.nbest]
        entities = tagged.entities() if self._spans else None
        if entities is not None:
            out["entities"] = [self._entity(sentence, offsets, tagged, *entity) for entity in entities]
        return json.dumps(out, ensure_ascii=False) + "\n"

    def _entity(
        self, sentence: Sentence, offsets: Offsets | None, tagged: Tagged, first: int, after: int, label: str
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


def _objects(lines: Lines) -> Iterator[tuple[dict[str, Any], str]]:
    """The object of each line and its place; lines of white space only are no records."""
    for line in lines:
        if is_blank(line):
            continue
        place = lines.place()
        try:
            found = json.loads(chomp(line))
            if "\\u" in line:
                found = _printable(found)
        except json.JSONDecodeError as e:
            begun = _ON_ONE_LINE.get(line.strip())
            found = "only its beginning" if begun else f"{e.msg!r} at column {e.colno}"
            raise DataError(f"{place}: expected one JSON object a line, found {found}; "
                            f"{begun or 'correct the line'}") from None
        except (ValueError, RecursionError) as e:  # a number of thousands of digits, thousands of brackets
            raise DataError(f"{place}: expected one JSON object a line, found {e}; correct the line") from None
        if not isinstance(found, dict):
            objects = isinstance(found, list) and all(isinstance(item, dict) for item in found)
            remedy = _ON_ONE_LINE["["] if objects else "put it into braces with a key"
            raise DataError(f"{place}: expected a JSON object, found {_kind(found)}; {remedy}")
        yield found, place


def _printable(value: Any) -> Any:
    """Replace lone surrogates (half of an escaped pair), which no output could hold, by U+FFFD."""
    if isinstance(value, str):
        return _SURROGATES.sub("\ufffd", value)
    if isinstance(value, list):
        return [_printable(item) for item in value]
    if isinstance(value, dict):
        return {_printable(key): _printable(item) for key, item in value.items()}
    return value


def _value(found: dict[str, Any], key: str, place: str, option: str = "--column") -> Any:
    if key not in found:
        raise DataError(f"{place}: expected a key {key!r}, found {_keys(found)}; see {option}")
    return found[key]


def _string(found: dict[str, Any], key: str, place: str, option: str = "--column") -> str:
    value = _value(found, key, place, option)
    if not isinstance(value, str):
        raise DataError(f"{place}: expected a string in {key!r}, found {_kind(value)}; see {option}")
    return value


def _strings(found: dict[str, Any], key: str, place: str) -> list[str]:
    value = _value(found, key, place)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise DataError(f"{place}: expected a list of strings in {key!r}, found {_kind(value)}; see --column")
    return value


def _labels(value: Any) -> tuple[str, ...] | None:
    """A label, a number or a list of them as labels, "" being none; None where it is nothing of these."""
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(v, str | int | float) for v in values):
        return None
    return tuple(v if isinstance(v, str) else json.dumps(v) for v in values if v != "")


def _tags(value: Any, count: int) -> list[str] | None:
    """Tags that nobody asked for, if that is what they are: the key may hold something else."""
    fits = isinstance(value, list) and len(value) == count and all(isinstance(tag, str) for tag in value)
    return value if fits else None


def _offsets(value: Any, count: int, length: int) -> Offsets | None:
    """The offsets of an object that came with some, if they are what they should be."""
    if not isinstance(value, list) or len(value) != count:
        return None
    offsets: Offsets = []
    reached = 0
    for pair in value:
        if not (isinstance(pair, list) and len(pair) == 2 and all(type(n) is int for n in pair)):
            return None
        start, end = pair
        if not reached <= start <= end <= length:
            return None
        offsets.append((start, end))
        reached = end
    return offsets


def _keys(found: dict[str, Any]) -> str:
    names = ", ".join([repr(key) for key in list(found)[:_SHOWN]])
    return (names + (", …" if len(found) > _SHOWN else "")) or "none"


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a truth value", type(None): "null"}
    return names.get(type(value), "a number")
