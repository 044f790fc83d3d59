"""Give damaged and odd data to filters, `evaluate`, `inspect` and short trainings.

No command shows a traceback or a control character, and each ends with an exit code from 0 to 4. If it ends
with 0, as many records come out as went in, and JSON output is valid JSON in the strict sense.
"""

from __future__ import annotations

import functools
import json
import random
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import harness
from harness import DATA, Case, flags, numbered, rnntool, train_models

EXAMPLES = [
    *DATA.values(),
    '[{"text": "We cook.", "label": "food"}, {"text": "It purrs.", "label": "pets"}]\n',  # JSON
    '{"text": "Anna met Bob.", "label": [[0, 4, "PER"], [9, 12, "PER"]]}\n',  # doccano
    '{"text": "Anna met Bob.", "spans": [{"start": 0, "end": 4, "label": "PER"}]}\n',  # Prodigy
    '{"tokens": ["Anna", "sings"], "ner_tags": [1, 0]}\n',
    "T1\tPER 0 4\tAnna\nT2\tLOC 9 13\tOslo\n",  # brat
    "# global.columns = ID FORM UPOS CUSTOM\n1\tIt\tPRON\tx\n2\tpurrs\tVERB\ty\n\n",  # CoNLL-U Plus
    "#begin document (a); part 000\na 0 0 It PRP *\na 0 1 purrs VBZ *\n\n#end document\n",  # OntoNotes
    "Anna|NNP|B-PER sings|VBZ|O\nThe_DET cat_NOUN\n",
    "text;label\nWe cook.;food\nIt purrs.;pets\n",
    ",text,label\n0,We cook.,food\n1,It purrs.,pets\n",
    "2 3\nthe 0.1 0.2 0.3\ncat 1 2 3\n",  # vectors
    "12 7 3\n5\n\n",  # token ids
]
ODD = [
    "\0", "\x1b[31m", "\x07", "\x7f", "\x85", "\u2028", "\r", "\r\n", "\n\n\n", "\t\t", " \t ", "\ufeff",
    "\ufffe", "\u202e", "\u200b", "\u00ad", "e\u0301\u0301", "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "\U0010ffff", "\ufdfa", "\u0130\u0131\u017f\u00df", '"', "'", '""', "\\", "\\ud800", "\\u0000", "{", "}",
    "[", "]", ",", ";", "|", "_", "NaN", "Infinity", "-Infinity", "null", "true", "1e400", "-0.0", "9" * 5000,
    "1-2", "1.1", "-DOCSTART-", "#", "# text = ", "__label__", "B-", "I-", "<unk>", "<s>", "\t" * 3000,
    "x" * 100_000, "x " * 20_000, "[" * 3000, '{"a":' * 2000, '{"text": "a", "text": 1}', '"label": null',
    '"tags": [""]', '"text": 5', '"label": {}',
]
BYTES = [b"\xff", b"\xfe\xff", b"\xc3", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\x80" * 50, b"\x1f\x8b\x08",
         b"PK\x03\x04"]
EXTENSIONS = ["", *".txt .conll .conllu .conllup .jsonl .json .tsv .csv .tok .ann .gz".split()]
FORMATS = ["text", "tokens", "jsonl", "fasttext", "cmudict", "conllu", "conll", "tsv", "csv"]
ENCODINGS = ["utf-16", "utf-16-le", "utf-32", "latin-1", "cp1252", "utf-8-sig", "shift-jis", "utf-7"]
PER_LINE = {"text", "tokens"}  # formats with a record in each line, blank ones included
ROW_PER_WORD = {"conll", "conllu"}  # formats that come back with all of their rows


@functools.cache
def examples() -> list[str]:
    """Return the examples of all formats, and those above."""
    from rnntool.data.formats import FORMATS as formats

    return [*EXAMPLES, *(text for format in formats.values() for text in format.examples.values())]


def mutate(rng: random.Random, text: str, others: Sequence[str]) -> bytes:
    """Change a text in one to four ways, and encode it."""
    def at() -> int:
        return rng.randint(0, len(text))

    for _ in range(rng.randint(0, 3)):
        i, j = sorted((at(), at()))
        lines = text.split("\n")
        change = rng.randrange(8)
        if change == 0:
            text = text[:i] + text[j:]
        elif change == 1:
            text = text[:i] + text[i:j] * rng.randint(2, 4) + text[j:]
        elif change == 2:
            rng.shuffle(lines)
            text = "\n".join(lines)
        elif change == 3:
            text = text[:i] + rng.choice(others)[at() // 2:]
        elif change == 4:
            old, new = rng.sample(["\n", "\t", " ", ",", '"', "\r\n", "", "_", "1"], 2)
            text = text.replace(old, new)[:300_000]
        else:
            text = text[:i] + rng.choice(ODD) + text[i:]
    if rng.random() < 0.1:
        data = text.encode(rng.choice(ENCODINGS), "replace")
    else:
        data = text.encode("utf-8", "surrogatepass")
    if rng.random() < 0.2:
        i = rng.randint(0, len(data))
        data = data[:i] + rng.choice(BYTES) + data[i:]
    return data


def command(rng: random.Random, models: dict[str, Path]) -> tuple[list[object], str]:
    """Draw a command, up to its input, and its kind of output.

    `json` is an object, `jsonl` one per record, `lines` a line per record, `copy` the rows of the input.
    """
    tag, classify, lm = models[rng.choice(["tag", "ner"])], models["classify"], models["lm"]
    transduce, task = models["transduce"], rng.choice(["tag", "classify", "lm", "transduce", "segment"])
    train: list[object] = ["train", task, "-o", "new", *flags(task, epochs=1)]
    commands: list[tuple[list[object], str]] = [
        (["tag", "-m", tag, "--jsonl"], "jsonl"), (["tag", "-m", tag, "--probs", "--jsonl"], "jsonl"),
        (["tag", "-m", tag, "--nbest", 2, "--jsonl"], "jsonl"), (["tag", "-m", tag], "copy"),
        (["tag", "-m", tag, "--to", rng.choice(["conll", "conllu", "text", "html"])], ""),
        (["classify", "-m", classify, "--jsonl"], "jsonl"), (["classify", "-m", classify], "lines"),
        (["classify", "-m", classify, "--explain", "--jsonl"], "jsonl"),
        (["classify", "-m", classify, "--text-column", rng.choice(["1", "2", "text"])], "lines"),
        (["transduce", "-m", transduce, "--jsonl"], "jsonl"), (["transduce", "-m", transduce], "lines"),
        (["transduce", "-m", transduce, "--alignments", "--n-best", 2, "--jsonl"], "jsonl"),
        (["score", "-m", transduce, "--jsonl"], "jsonl"),
        (["segment", "-m", models["segment"]], ""),
        (["tag", "-m", tag, "--segmenter", models["segment"], "--jsonl"], ""),
        (["score", "-m", lm, "--jsonl"], "jsonl"),
        (["score", "-m", lm, "--context", "stream", "--jsonl"], "jsonl"),
        (["score", "-m", lm, "--per", rng.choice(["word", "token"])], ""),
        (["score", "-m", lm, "--pairs", "--json"], "json"),
        (["tokenize", "--jsonl"], "jsonl"), (["tokenize", "-m", lm, "--ids", "--jsonl"], "jsonl"),
        (["tokenize", "-m", lm, "--decode"], ""),
        (["generate", "-m", lm, "--max-tokens", 3, "--seed", 1, "--jsonl", "--prompts"], ""),
        (["inspect", rng.choice(["states", "clusters"]), "-m", rng.choice([lm, tag]), "--json"], "json"),
        (["inspect", "similarity", "-m", classify, "--json"], "json"),
        *[(["evaluate", "-m", rng.choice(list(models.values())), "--json"], "json")] * 3,
        (train, ""), (train, ""),
    ]
    return rng.choice(commands)


def check(number: int, seed: int, models: dict[str, Path], at: Path) -> str | None:
    """Run a random command on mutated data, from a file or standard input, and return what is wrong."""
    rng, texts = numbered(seed, number), examples()
    arguments, output = command(rng, models)
    data = mutate(rng, rng.choice(texts), texts)
    format = None
    if arguments[0] == "tokenize" and not data.lstrip().startswith((b"[", b"{")):
        format = "text"
    if arguments[0] not in ("tokenize", "generate") and arguments[1] != "similarity":
        format = rng.choice([None, *FORMATS])
        arguments += ["--from", format] if format else []
    if arguments[0] != "inspect" and rng.random() < 0.2:
        arguments.insert(-1 if arguments[0] == "generate" else len(arguments), "--encoding-errors=replace")
    file = at / f"data{rng.choice(EXTENSIONS)}"
    file.write_bytes(data)
    from_file = rng.random() < 0.5
    arguments.append(file.name if from_file else "-")
    ran = rnntool(*arguments, folder=at, input=b"" if from_file else data)
    fault = ran.fault(0, 1, 2, 3, 4)
    foreign = data.startswith((b"\xff\xfe", b"\xfe\xff")) or data.count(0) > len(data) // 4  # UTF-16
    if not fault and ran.code == 0:
        fault = invalid_json(ran.out, output)
        if format in PER_LINE and output in ("jsonl", "lines") and not foreign:
            fault = fault or unequal("records", len(lines_of(data)), len(lines_of(ran.out)))
        elif format in ROW_PER_WORD and output == "copy" and not foreign:
            rows = [sum(bool(line.strip()) for line in lines_of(content)) for content in (data, ran.out)]
            fault = unequal("rows", *rows)
    return f"rnntool {' '.join(map(str, arguments))}: {fault}" if fault else None


def unequal(unit: str, before: int, after: int) -> str | None:
    """Return what is wrong if another number came out than went in."""
    return f"{before} {unit} came in, {after} out" if before != after else None


def lines_of(content: bytes) -> list[bytes]:
    """Split into lines."""
    return content.removesuffix(b"\n").split(b"\n") if content else []


def invalid_json(out: bytes, output: str) -> str | None:
    """Return what is wrong with the output of a command that succeeded, if it should be JSON."""
    try:
        for part in {"json": [out], "jsonl": lines_of(out)}.get(output, []):
            json.loads(part.decode("utf-8"), parse_constant=_not_json).keys()  # of an object
    except (ValueError, AttributeError, RecursionError) as error:
        return f"invalid JSON ({error}): {part[:300]!r}"
    return None


def _not_json(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def cases(shared: Path, count: int, seed: int) -> Sequence[Case]:
    """Draw commands and data."""
    models = train_models(shared)
    return [Case(str(command(numbered(seed, number), models)[0][0]), f"input {number}",
                 partial(check, number, seed, models)) for number in range(count)]


if __name__ == "__main__":
    harness.main(__doc__, cases, count=5000)
