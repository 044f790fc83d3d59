"""`rnntool tokenize`."""

from __future__ import annotations

import json

from rnntool import model_folder
from rnntool.commands.common import Common
from rnntool.commands.inputs import plain_lines
from rnntool.data.streams import open_output
from rnntool.errors import DataError, UsageError
from rnntool.tasks.tag import TagTask
from rnntool.tokenize import Tokenizer, load, split_words

_DIGITS = 9  # of a number that may be that of an entry


def run(
    files: list[str], *, model: str | None, output: str | None, ids: bool, decode: bool, as_jsonl: bool,
    common: Common,
) -> None:
    """Encode or decode lines."""
    if decode and (ids or as_jsonl):
        raise UsageError(f"--decode: text comes out, so {'--ids' if ids else '--jsonl'} says nothing; leave "
                         "one out")
    if not (ids or decode):
        as_jsonl = as_jsonl or common.writes_json(output)
    tokenizer = None
    if model is not None:
        folder = model_folder.find(model)
        content = model_folder.read_config(folder)
        kind = content["data"]["tokenizer"]
        if content["task"] == TagTask.name:  # it has learned from words, into which text is split before it
            kind |= {"split": "words"}
        tokenizer = load(folder, kind)
    elif ids or decode:
        flag = "--ids" if ids else "--decode"
        raise UsageError(f"{flag}: words have numbers only in a model; give -m MODEL")
    inputs = plain_lines(files, common)
    with open_output(output) as out:
        for record in inputs:
            if decode:
                assert tokenizer is not None
                out.write(_decoded(tokenizer, record.text, record.place) + "\n")
            else:
                out.write(_encoded(tokenizer, record.text, ids=ids, as_jsonl=as_jsonl) + "\n")
            if not inputs.ready():
                out.flush()


def _encoded(tokenizer: Tokenizer | None, text: str, *, ids: bool, as_jsonl: bool) -> str:
    if as_jsonl:
        return json.dumps({"text": text, "tokens": _tokens(tokenizer, text)}, ensure_ascii=False)
    if tokenizer is None:
        return " ".join(text[start:end] for start, end in split_words(text))
    found = tokenizer.encode(text)
    return " ".join(map(str, found) if ids else map(tokenizer.piece, found))


def _tokens(tokenizer: Tokenizer | None, text: str) -> list[dict[str, object]]:
    if tokenizer is None:
        return [{"text": text[a:b], "start": a, "end": b} for a, b in split_words(text)]
    return [{"id": t.id, "piece": tokenizer.piece(t.id), "start": t.start, "end": t.end}
            for t in tokenizer.tokens(text)]


def _decoded(tokenizer: Tokenizer, line: str, place: str) -> str:
    ids = []
    for word in line.split():
        if not word.isdecimal() or len(word) > _DIGITS or int(word) >= tokenizer.size:
            raise DataError(f"{place}: expected numbers from 0 to {tokenizer.size - 1}, found {word!r}; "
                            "give what rnntool tokenize --ids wrote")
        ids.append(int(word))
    return tokenizer.decode(ids)
