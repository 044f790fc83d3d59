"""`rnntool tokenize`: split lines into tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from rnntool.commands.groups import examples
from rnntool.commands.options import (
    PLAIN_FORMATS,
    AsJsonl,
    Files,
    Messages,
    Output,
    format_option,
    model_option,
)
from rnntool.data.json_text import json_line
from rnntool.data.reading import Reading
from rnntool.errors import DataError, UsageError, contradiction, setting

if TYPE_CHECKING:
    from rnntool.data.records import Text
    from rnntool.tokenize import Tokenizer

MAX_DIGITS = 9  # of an id; int() rejects numbers of thousands of digits


@examples(
    "echo \"I can't read Dr. Smith's e-mail.\" | rnntool tokenize",
    "echo 'To be' | rnntool tokenize -m shakespeare --ids | rnntool tokenize -m shakespeare --decode",
)
def tokenize(
    *,
    files: Files = None,
    model: Annotated[str | None, model_option(
        "Model whose tokenizer to use", " Without a model, text is split into words.")] = None,
    output: Output = None,
    format: Annotated[str | None, format_option(", ".join(PLAIN_FORMATS))] = None,
    ids: Annotated[bool, typer.Option("--ids", help="Write the ids of the tokens.")] = False,
    decode: Annotated[bool, typer.Option("--decode", help="Read token ids and write text.")] = False,
    as_jsonl: AsJsonl = False,
    reading: Reading,
    messages: Messages,
) -> None:
    """Split lines into words, or into the tokens that a model reads."""
    from rnntool.commands.inputs import plain_lines
    from rnntool.commands.outputs import writes_json
    from rnntool.data.streams import open_output

    if decode and (ids or as_jsonl or format):
        raise contradiction("decode", "ids" if ids else "as_jsonl" if as_jsonl else "format")
    as_jsonl = as_jsonl or (not (ids or decode) and writes_json(output, messages))
    if model is None and (ids or decode):
        raise UsageError("needs the vocabulary of a model", setting="ids" if ids else "decode",
                         advice=f"give {setting('model', 'MODEL')}")
    tokenizer = _tokenizer(model) if model is not None else None
    inputs = plain_lines(files or ["-"], reading, messages, format="text" if decode else format)
    with open_output(output) as out:
        for record in inputs:
            if decode:
                assert tokenizer is not None
                out.write(_decoded(tokenizer, record.text, record.place) + "\n")
            else:
                out.write(_encoded(tokenizer, record, ids=ids, as_jsonl=as_jsonl))
            if not inputs.ready():
                out.flush()


def _tokenizer(model: str) -> Tokenizer:
    """Load the tokenizer of a model."""
    from rnntool import model_folder
    from rnntool.tokenize import load

    folder = model_folder.find(model)
    config = model_folder.read_config(folder)
    # a tagger's tokenizer gets words, so raw text has to be split first
    split = {"split": "words"} if config.spec.reads == "sentences" else {}
    return load(folder, config.tokenizer | split)


def _encoded(tokenizer: Tokenizer | None, record: Text, *, ids: bool, as_jsonl: bool) -> str:
    from rnntool.data.records import one_line
    from rnntool.tokenize import split_words

    text, fields = record.text, record.fields or {"text": record.text}
    if tokenizer is None:
        spans = split_words(text)
        if not as_jsonl:
            return " ".join(text[start:end] for start, end in spans) + "\n"
        tokens = [{"text": text[start:end], "start": start, "end": end} for start, end in spans]
        has_words = isinstance(fields.get("tokens"), list)  # other keys may refer to them, so they stay
        return json_line(fields if has_words else fields | {"tokens": tokens}, source=fields,
                         place=record.place)
    if as_jsonl:
        pieces = [{"id": t.id, "piece": tokenizer.piece(t.id), "start": t.start, "end": t.end}
                  for t in tokenizer.tokens(text)]
        return json_line(fields | {"pieces": pieces}, source=fields, place=record.place)
    encoded = tokenizer.encode(text)
    return " ".join(map(str, encoded) if ids else one_line(list(map(tokenizer.piece, encoded)))) + "\n"


def _decoded(tokenizer: Tokenizer, line: str, place: str) -> str:
    ids = []
    for word in line.split():
        if not word.isdecimal() or len(word) > MAX_DIGITS or int(word) >= tokenizer.size:
            raise DataError(place=place, expected=f"ids from 0 to {tokenizer.size - 1}", found=repr(word),
                            advice="use the same model as for writing the ids")
        ids.append(int(word))
    return tokenizer.decode(ids)
