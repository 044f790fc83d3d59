"""JSON: an object for each text, pair or sentence, on a line of its own or in an array.

Other fields are kept in order.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any

from rnntool.data.formats.base import (
    Columns,
    Format,
    Offsets,
    PairOptions,
    SentenceOptions,
    SequenceOptions,
    TextOptions,
    UnlabeledError,
    WriterOptions,
    check_transduction,
    is_nothing,
    labeled,
)
from rnntool.data.formats.character_spans import (
    SPAN_KEYS,
    CharacterSpan,
    read_spans,
    span_items,
    split_at_spans,
    tags_of_words,
)
from rnntool.data.formats.json_values import MISSING, json_values, lookup
from rnntool.data.formats.results import label_results, tag_keys, tag_results
from rnntool.data.json_text import json_line, to_json
from rnntool.data.records import (
    Labels,
    LabelWriter,
    Pair,
    Sentence,
    SentenceWriter,
    Tagged,
    Text,
    Transduction,
    WordWeight,
)
from rnntool.data.streams import Lines
from rnntool.errors import DataError, closest, setting

_SURROGATES = re.compile("[\ud800-\udfff]")
# An object, an array of objects, or a pair of a text and an object as in spaCy; or only a bracket.
_JSON_START = re.compile(r'''\s*(\[\s*)?(\{\s*(["}]|$)|$)|[\s\[]*\["(?:[^"\\]|\\.)*"\s*,\s*\{''')
_SHOWN_KEYS = 20  # keys that a message lists
_PAIR_KEYS = ("sentence_good", "sentence_bad")  # as in BLiMP
_TEXT_KEYS = ("text", "data.text")  # the latter in Label Studio
_TARGET_KEYS = ("target", "targets")
_NOT_ACCEPTED = ("reject", "ignore")  # answers in Prodigy
_TAG_DETAILS = ("probs", "nbest")  # keys that describe the tags of a sentence


def _holds_record(lines: Iterable[str]) -> bool:
    """Whether an object may have ended."""
    return any("}" in line for line in lines)


def _read_texts(lines: Lines, options: TextOptions) -> Iterator[Text]:
    """Read texts from `text_column` ("text"), and labels: a string, a number, or a list of them.

    If `label_column` is None, labels are optional and have the key "label". Words without a text are joined
    by spaces.
    """
    default = options.default_text_column if options.text_column is None else None
    for record, place in _accepted(lines, needed=options.need_labels, columns=[options.label_column]):
        key = _text_key(record, default)
        if default is not None and key not in (None, default):
            lines.warn(f"{place}: no key {default!r}, which training used, so texts are read from {key!r}; "
                       f"choose another one with {setting('text_column')}")
            default = None  # one message is enough
        yield from labeled(options.on_unlabeled, partial(_labeled_text, record, place, options))


def _labeled_text(record: dict[str, Any], place: str, options: TextOptions) -> Text:
    label_key = options.label_column
    if options.text_column is None:
        text = _text(record, options.default_text_column, place)
    else:
        text = _string(record, options.text_column, place, "text_column")
    if label_key is None:
        return Text(text, _labels(record.get("label")) or (), record, place)
    if options.need_labels:
        _check_labeled(record, label_key, place, "label_column", may_be_empty=True)
    value = _value(record, label_key, place, "label_column")
    labels = _labels(value)
    if labels is None:
        raise DataError(
            place=place, expected=f"a label or a list of labels in {label_key!r}",
            found=_kind(value), advice=f"choose a key with {setting('label_column')}")
    return Text(text, labels, record, place)


def _read_pairs(lines: Lines, options: PairOptions) -> Iterator[Pair]:
    """Read pairs from two keys, by default those of BLiMP, and the prefix from a third."""
    prefix = options.prefix
    for record, place in _objects(lines):
        before = None if prefix is None else _string(record, prefix, place, "prefix")
        good, bad = [_string(record, key, place, "columns") for key in options.columns or _PAIR_KEYS]
        yield Pair(good, bad, record, place, before)


def _read_sequences(lines: Lines, options: SequenceOptions) -> Iterator[Transduction]:
    """Read sources ("source") and their targets ("target" or "targets"): a string, or a list of strings.

    A list in a further column of the source is joined by spaces.
    """
    for record, place in _objects(lines):
        yield from labeled(options.on_unlabeled, partial(_transduction, record, place, options))


def _transduction(record: dict[str, Any], place: str, options: SequenceOptions) -> Transduction:
    source, *further = options.source_columns or ("source",)
    extra = (_string_or_strings(record, key, place, "source_columns") for key in further)
    key = options.target_column or next(filter(record.__contains__, _TARGET_KEYS), _TARGET_KEYS[0])
    if options.need_targets:
        _check_labeled(record, key, place, "target_column", may_be_empty=False, what="a target")
        targets = _string_or_strings(record, key, place, "target_column")
    else:
        value = lookup(record, key)
        targets = [t for t in (value if isinstance(value, list) else [value]) if isinstance(t, str)]
    return check_transduction(
        Transduction(_string(record, source, place, "source_columns"), tuple(targets),
                     tuple(map(" ".join, extra)), record, place), options)


def _text_key(record: dict[str, Any], default: str | None = None) -> str | None:
    """Return the key of the text, which is `default` if it exists; None if there is none."""
    keys = (default, *_TEXT_KEYS) if default else _TEXT_KEYS
    return next((key for key in keys if lookup(record, key) is not MISSING), None)


def _text(record: dict[str, Any], default: str | None, place: str) -> str:
    """Return the text of a record, or its words joined by spaces."""
    key = _text_key(record, default)
    if key is None and record.keys() >= set(_PAIR_KEYS):
        raise DataError(place=place, expected="a key 'text'", found=f"a pair of sentences, {_keys(record)}",
                        advice=f"pairs are read by `rnntool score` with {setting('pairs')}")
    words = record.get("tokens")
    if key is None and isinstance(words, list) and all(isinstance(word, str) for word in words):
        return " ".join(words)
    return _string(record, key or default or "text", place, "text_column")


def _read_sentences(lines: Lines, options: SentenceOptions) -> Iterator[Sentence]:
    """Read sentences from `tokens`, or from `text` without tokens, and their tags from `columns` ("tags").

    `offsets` into `text` are used if they are valid. If tags are needed, spans of characters can replace
    them; a word in which a span begins or ends is split. `DataError` if there are neither tags nor spans.
    """
    cuts: list[tuple[str, CharacterSpan]] = []
    for record, place in _accepted(lines, needed=options.need_tags, columns=options.columns):
        yield from labeled(options.on_unlabeled, partial(_sentence, record, place, options, cuts))
    if cuts:
        place, span = cuts[0]
        records = len({place for place, _ in cuts})
        more = f"; this was done for {len(cuts):,} spans in {records:,} record{'s' if records > 1 else ''}"
        lines.warn(f"{place}: the span {span} begins or ends inside a word, so the word was split"
                   f"{more if len(cuts) > 1 else ''}")


def _sentence(
    record: dict[str, Any], place: str, options: SentenceOptions, cuts: list[tuple[str, CharacterSpan]]
) -> Sentence:
    """Make a sentence of a record. Add the place and each span that cuts a word to `cuts`."""
    words, text, offsets = _words(record, options, place)
    items = [_span_items(record, key) if options.need_tags else None for key in options.columns]
    spans: list[list[CharacterSpan] | None] = [None] * len(items)
    if any(item is not None for item in items):
        text, offsets = _located(words, text, offsets, place)
        spans = [None if item is None else read_spans(item, text, offsets, place) for item in items]
        offsets, cutting = split_at_spans(offsets, chain.from_iterable(filter(None, spans)))
        cuts.extend((place, span) for span in cutting)
        words = [text[start:end] for start, end in offsets]
    columns: list[list[str]] = []
    for key, of_column in zip(options.columns, spans, strict=True):
        if of_column is not None:
            assert offsets is not None
            columns.append(tags_of_words(offsets, of_column, place))
        elif options.need_tags:
            columns.append(_tags(record, key or "tags", len(words), place))
        elif (tags := _optional_tags(lookup(record, key or "tags"), len(words))) is not None:
            columns.append(tags)
    if len(columns) < len(options.columns):
        return Sentence(words, None, text, offsets, record, place)
    return Sentence(words, columns[0], text, offsets, record, place, columns[1:])


def _words(
    record: dict[str, Any], options: SentenceOptions, place: str
) -> tuple[list[str], str | None, Offsets | None]:
    """Return the words of a sentence, and its text and the words' offsets if they are known."""
    chosen = options.layout.text_column
    key = chosen or _text_key(record)
    text = lookup(record, key) if key else None
    tokens = record.get("tokens")
    is_count = isinstance(text, str) and not isinstance(tokens, list)
    if "tokens" in record and not chosen and not is_count:
        offsets: Any = record.get("offsets")
        if isinstance(tokens, list) and all(isinstance(token, dict) for token in tokens):
            offsets = [[token.get("start"), token.get("end")] for token in tokens]
            tokens = [token.get("text") for token in tokens]
        words = _strings({"tokens": tokens}, "tokens", place)
        if not isinstance(text, str):
            return words, None, None
        return words, text, _valid_offsets(offsets, len(words), len(text))
    if key is None:
        raise DataError(place=place, expected="'tokens' or 'text'", found=_keys(record),
                        advice="rename a key")
    text = _string(record, key, place, "text_column")
    offsets = options.split(text)
    return [text[start:end] for start, end in offsets], text, offsets


def _located(
    words: list[str], text: str | None, offsets: Offsets | None, place: str
) -> tuple[str, Offsets]:
    """Return the text that spans refer to, and the offsets of the words in it."""
    if text is None:
        text = " ".join(words)
    offsets = Sentence(words, text=text, offsets=offsets).located()
    if offsets is None:
        raise DataError(place=place, expected="words that make up the text", found="other words in 'tokens'",
                        advice="leave 'tokens' out, so that the text is split")
    return text, offsets


def _span_items(record: dict[str, Any], column: str | None) -> list[Any] | None:
    """Return the spans in a column, by default in the first key that has some; None if it has tags."""
    if column is None:
        keys: Sequence[str] = () if "tags" in record else SPAN_KEYS
        return next((items for key in keys if (items := span_items(record.get(key))) is not None), None)
    items = span_items(lookup(record, column))
    empty_tags = items == [] and "tokens" in record and column not in SPAN_KEYS
    return None if empty_tags else items


def _tags(record: dict[str, Any], key: str, count: int, place: str) -> list[str]:
    _check_labeled(record, key, place, "column", may_be_empty=not count)
    tags = _strings(record, key, place, "column")
    if len(tags) != count:
        raise DataError(
            place=place, expected="one tag for each word", found=f"{count} words and {len(tags)} tags in "
            f"{key!r}", advice="correct the line")
    return tags


class JsonlWriter(SentenceWriter):
    """Writes the object that was read, or a new one, with the fields of `tag_results`."""

    def __init__(self, columns: Columns, *, probs: bool = False, spans: bool = True) -> None:
        """`probs` adds the probability of each tag, `spans` the entities; `UsageError` for a reserved key."""
        self._keys = tag_keys(columns)
        self._probs = probs
        self._spans = spans

    def __call__(self, sentence: Sentence, tagged: Tagged) -> str:
        """Return one JSON object and a line ending."""
        out: dict[str, Any] = {}
        if isinstance(sentence.source, dict):
            out.update(sentence.source)
            if isinstance(out.get("tokens"), int):  # a count
                out.setdefault("n_tokens", out["tokens"])
            if not out.keys().isdisjoint(self._keys):
                for name in _TAG_DETAILS:  # they describe the old tags
                    out.pop(name, None)
        elif sentence.text is not None:
            out["text"] = sentence.text
        out |= tag_results(sentence, tagged, self._keys, probs=self._probs, spans=self._spans)
        return json_line(out, source=sentence.source, place=sentence.place)


class JsonlLabelsWriter(LabelWriter):
    """Writes the fields of the record, its label with the probability, and the words that explain it.

    Labels that the record had are kept as `input_label` and `input_labels`.
    """

    def __init__(self, *, several: bool) -> None:
        """`several` adds a list with all labels."""
        self._several = several

    def __call__(self, text: Text, labels: Labels, words: Sequence[WordWeight] | None) -> str:
        """Return one JSON object and a line ending."""
        out: dict[str, Any] = dict(text.fields) if text.fields is not None else {"text": text.text}
        for key in ("label", "labels")[: 1 + self._several]:
            if key in out:
                out.setdefault(f"input_{key}", out[key])
        out |= label_results(labels, words, several=self._several)
        return json_line(out, source=text.fields, place=text.place)


def _write_record(record: Mapping[str, Any], results: Mapping[str, Any], place: str) -> str:
    return json_line({**record, **results}, source=record, place=place)


def _objects(lines: Lines) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield each object and its place."""
    repeated: list[str] = []  # keys of the value that is being read

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        record = dict(pairs)
        if len(record) < len(pairs):
            repeated.extend(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        return record

    decoder, warned = json.JSONDecoder(object_pairs_hook=unique), False
    for text, number in json_values(lines):
        try:
            value = decoder.decode(text)
            if "\\u" in text:
                value = _printable(value)
        except json.JSONDecodeError as error:
            raise DataError(
                place=f"{lines.name}:{number + error.lineno - 1}", expected="one JSON object on each line",
                found=f"{error.msg!r} at column {error.colno}", advice="correct the line") from None
        except (ValueError, RecursionError) as error:  # thousands of digits or brackets
            raise DataError(place=f"{lines.name}:{number}", expected="one JSON object on each line",
                            found=error, advice="correct the line") from None
        if repeated and not warned:
            warned = True  # one message is enough
            lines.warn(f"{lines.name}:{number}: the key {repeated[0]!r} occurs twice, and its last value is "
                       "read; rename one of them")
        for record in _records(value, f"{lines.name}:{number}"):
            yield record, f"{lines.name}:{number}"


def _accepted(
    lines: Lines, *, needed: bool, columns: Iterable[str | None]
) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield each object and its place, without those whose labels people rejected or ignored in Prodigy.

    Only if labels are `needed`, and if they aren't read from the key `answer` itself.
    """
    skipped = 0
    applies = needed and "answer" not in columns
    for record, place in _objects(lines):
        if applies and record.get("answer") in _NOT_ACCEPTED:
            skipped += 1
        else:
            yield record, place
    if skipped:
        lines.warn(f"{lines.name}: skipped {skipped:,} record{'s' if skipped > 1 else ''} whose 'answer' is "
                   f"{' or '.join(_NOT_ACCEPTED)}")


def _records(value: Any, place: str) -> Iterator[dict[str, Any]]:
    """Yield an object, the objects of an array, or the text and the annotations of spaCy as one object."""
    if isinstance(value, dict):
        yield value
    elif isinstance(value, list) and len(value) == 2 and [type(item) for item in value] == [str, dict]:
        yield {"text": value[0], **value[1]}
    elif isinstance(value, list) and all(isinstance(item, dict | list) for item in value):
        for item in value:
            yield from _records(item, place)
    else:
        raise DataError(place=place, expected="a JSON object", found=_kind(value),
                        advice='write it as {"text": …}')


def _printable(value: Any) -> Any:
    """Replace lone surrogates (half of an escaped pair), which UTF-8 can't encode, by U+FFFD."""
    if isinstance(value, str):
        return _SURROGATES.sub("\ufffd", value)
    if isinstance(value, list):
        return [_printable(item) for item in value]
    if isinstance(value, dict):
        return {_printable(key): _printable(item) for key, item in value.items()}
    return value


def _advice(parameter: str | None, key: str = "", record: Iterable[str] = ()) -> list[str]:
    """Say what to do about a wrong key, or about one that the `record` lacks.

    `parameter` is the setting that chooses the key.
    """
    if (close := closest(key, record)) is not None:
        return [f"did you mean {close!r}?"]
    return [*([f"choose a key with {setting(parameter)}"] if parameter else []), "correct the line"]


def _value(record: dict[str, Any], key: str, place: str, parameter: str | None) -> Any:
    value = lookup(record, key)
    if value is MISSING:
        raise DataError(place=place, expected=f"a key {key!r}", found=_keys(record),
                        advice=_advice(parameter, key, record))
    return value


def _string(record: dict[str, Any], key: str, place: str, parameter: str | None = None) -> str:
    value = _value(record, key, place, parameter)
    if not isinstance(value, str):
        raise DataError(place=place, expected=f"a string in {key!r}", found=_kind(value),
                        advice=_advice(parameter))
    return value


def _string_or_strings(record: dict[str, Any], key: str, place: str, parameter: str) -> list[str]:
    value = _value(record, key, place, parameter)
    return [value] if isinstance(value, str) else _strings(record, key, place, parameter)


def _strings(record: dict[str, Any], key: str, place: str, parameter: str | None = None) -> list[str]:
    value = _value(record, key, place, parameter)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        ids = isinstance(value, list) and all(isinstance(item, int) for item in value)
        raise DataError(
            place=place, expected=f"a list of strings in {key!r}", found="numbers" if ids else _kind(value),
            advice="replace each by its name, in Hugging Face Datasets with int2str of the feature" if ids
            else _advice(parameter))
    return value


def _labels(value: Any) -> tuple[str, ...] | None:
    """Return a label, a number or a list of them as labels, without empty ones; None for other values."""
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(v, str | int | float) for v in values):
        return None
    return tuple(v if isinstance(v, str) else to_json(v) for v in values if _nothing(v) is None)


def _check_labeled(
    record: dict[str, Any], key: str, place: str, parameter: str, *, may_be_empty: bool,
    what: str = "labels",
) -> None:
    """Raise `UnlabeledError` if the key is missing, or if its value or an item of its list is not a label.

    `may_be_empty` says that an empty list is valid: no label applies.
    """
    value = lookup(record, key)
    if value is MISSING:
        raise UnlabeledError(place, expected=f"a key {key!r}", found=_keys(record),
                             advice=_advice(parameter, key, record))
    found = next(filter(None, map(_nothing, value if isinstance(value, list) else [value])), None)
    if value == [] and not may_be_empty:
        found = "an empty list"
    if found is not None:
        raise UnlabeledError(place, expected=f"{what} in {key!r}", found=found, advice="correct the line")


def _nothing(value: Any) -> str | None:
    """Name a value that is not a label: null, NaN, a number that is too large, or white space. Else None."""
    if value is None:
        return "null"
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "an infinite number"
    if isinstance(value, str) and is_nothing(value):
        return "white space" if value else "an empty string"
    return None


def _optional_tags(value: Any, count: int) -> list[str] | None:
    """Return tags that were not required; None if the key holds something else."""
    fits = isinstance(value, list) and len(value) == count and all(isinstance(tag, str) for tag in value)
    return value if fits else None


def _valid_offsets(value: Any, count: int, length: int) -> Offsets | None:
    """Return the offsets that an object came with; None if they don't fit its words and its text."""
    if not isinstance(value, list) or len(value) != count:
        return None
    offsets: Offsets = []
    position = 0
    for pair in value:
        if not (isinstance(pair, list) and len(pair) == 2 and all(type(n) is int for n in pair)):
            return None
        start, end = pair
        if not position <= start <= end <= length:
            return None
        offsets.append((start, end))
        position = end
    return offsets


def _keys(record: dict[str, Any]) -> str:
    keys = list(chain.from_iterable(
        [f"{key}.{inner}" for inner in value] if isinstance(value, dict) and value else [key]
        for key, value in record.items()))
    return ", ".join(map(repr, keys[:_SHOWN_KEYS])) + (", …" if len(keys) > _SHOWN_KEYS else "") or "none"


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _writer(options: WriterOptions) -> JsonlWriter:
    return JsonlWriter(options.columns, probs=options.probs, spans=options.spans)


JSONL = Format(
    name="jsonl",
    extensions=(".jsonl", ".ndjson", ".json"),
    signature=_JSON_START,
    holds_record=_holds_record,
    read_texts=_read_texts,
    read_pairs=_read_pairs,
    read_sentences=_read_sentences,
    read_sequences=_read_sequences,
    sentence_writer=_writer,
    label_writer=lambda options: JsonlLabelsWriter(several=options.several),
    record_writer=lambda: _write_record,
    examples={
        "texts": '{"text": "The cat sleeps.", "label": "pets"}\n{"text": "We cook.", "label": ["food"]}\n',
        "pairs": '{"sentence_good": "We cook.", "sentence_bad": "We cooks."}\n',
        "sequences": '{"source": "cat", "target": "K AE T"}\n{"source": "a", "targets": ["AH", "EY"]}\n',
        "sentences": '{"tokens": ["Anna", "sings"], "tags": ["B-PER", "O"]}\n{"tokens": [], "tags": []}\n',
    },
    settings=frozenset({"text_column", "label_column", "source_columns", "target_column"}),
    has_labels=True,
    has_targets=True,
    has_tags=True,
    named_columns=True,
    writes_probs=True,
    writes_nbest=True,
    writes_entity_scores=True,
)
