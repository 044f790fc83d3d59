"""`rnntool tokenize`: split lines into tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from rnntool.commands.groups import examples
from rnntool.commands.options import AsJsonl, Files, Messages, Output, Reading, model_option
from rnntool.data.json_text import to_json
from rnntool.errors import DataError, UsageError, contradiction, setting

if TYPE_CHECKING:
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

    if decode and (ids or as_jsonl):
        raise contradiction("decode", "ids" if ids else "as_jsonl")
    as_jsonl = as_jsonl or (not (ids or decode) and writes_json(output, messages))
    if model is None and (ids or decode):
        raise UsageError("needs the vocabulary of a model", setting="ids" if ids else "decode",
                         advice=f"give {setting('model', 'MODEL')}")
    tokenizer = _tokenizer(model) if model is not None else None
    inputs = plain_lines(files or ["-"], reading, messages)
    with open_output(output) as out:
        for record in inputs:
            if decode:
                assert tokenizer is not None
                out.write(_decoded(tokenizer, record.text, record.place) + "\n")
            else:
                out.write(_encoded(tokenizer, record.text, ids=ids, as_jsonl=as_jsonl) + "\n")
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


def _encoded(tokenizer: Tokenizer | None, text: str, *, ids: bool, as_jsonl: bool) -> str:
    from rnntool.tokenize import split_words

    if as_jsonl:
        return to_json({"text": text, "tokens": _tokens(tokenizer, text)})
    if tokenizer is None:
        return " ".join(text[start:end] for start, end in split_words(text))
    encoded = tokenizer.encode(text)
    return " ".join(map(str, encoded) if ids else map(tokenizer.piece, encoded))


def _tokens(tokenizer: Tokenizer | None, text: str) -> list[dict[str, object]]:
    from rnntool.tokenize import split_words

    if tokenizer is None:
        return [{"text": text[a:b], "start": a, "end": b} for a, b in split_words(text)]
    return [{"id": t.id, "piece": tokenizer.piece(t.id), "start": t.start, "end": t.end}
            for t in tokenizer.tokens(text)]


def _decoded(tokenizer: Tokenizer, line: str, place: str) -> str:
    ids = []
    for word in line.split():
        if not word.isdecimal() or len(word) > MAX_DIGITS or int(word) >= tokenizer.size:
            raise DataError(place=place, expected=f"ids from 0 to {tokenizer.size - 1}", found=repr(word),
                            advice="use the same model as for writing the ids")
        ids.append(int(word))
    return tokenizer.decode(ids)
