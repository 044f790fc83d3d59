"""`rnntool generate`: write text with a language model."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rnntool.commands.groups import examples
from rnntool.commands.options import (
    PLAIN_FORMATS,
    AsJsonl,
    Compute,
    Messages,
    Output,
    format_option,
    model_option,
)
from rnntool.data.json_text import json_line
from rnntool.data.reading import Reading
from rnntool.errors import UsageError, contradiction, no_effect_without, setting
from rnntool.inference.options import GenerateOptions

if TYPE_CHECKING:
    from rnntool.data.records import Text
    from rnntool.evaluation.copied_ngrams import CopiedNgrams
    from rnntool.inference.generation import Generated

COPIED_WORDS = 8  # in a row
SEPARATORS = {"line": "\n", "paragraph": "\n\n", "document": "\n"}  # between texts, by the model's unit


@examples(
    "rnntool generate 'ROMEO:' --temperature 0.7 --seed 1",
    "rnntool generate -n 5 --max-tokens 100 --jsonl",
    "rnntool generate -n 20 --copied train.txt > texts.txt",
    "printf 'KING\\nQUEEN\\n' | rnntool generate --prompts -",
    "rnntool generate -m reviewer --label positive -n 5",
)
def generate(
    *,
    prompts: Annotated[list[str] | None, typer.Argument(
        metavar="[PROMPT]…", help="Texts to continue. Without a prompt, the model starts from nothing.",
        show_default=False)] = None,
    model: Annotated[str, model_option()] = "shakespeare",
    output: Output = None,
    prompt_file: Annotated[str | None, typer.Option(
        "--prompts", metavar="FILE", show_default=False,
        help="Read a prompt from each line of FILE; `-` is standard input.")] = None,
    format: Annotated[str | None, format_option(", ".join(PLAIN_FORMATS))] = None,
    stream: Annotated[bool, typer.Option(
        "--stream", help="Write each token as soon as it is generated.")] = False,
    as_jsonl: AsJsonl = False,
    log_probs: Annotated[bool, typer.Option(
        "--logprobs", help="Write JSONL with the log-probability of each token, in nats.")] = False,
    copied: Annotated[str | None, typer.Option(
        "--copied", metavar="FILE", show_default=False,
        help="Report how much of the generated text is copied from FILE, such as the training text.")] = None,
    copied_words: Annotated[int | None, typer.Option(
        "--copied-words", metavar="N", min=1, show_default=str(COPIED_WORDS),
        help="Number of consecutive words that count as copied.")] = None,
    options: GenerateOptions,
    reading: Reading,
    compute: Compute,
    messages: Messages,
) -> None:
    """Write text with a language model."""
    from rnntool.commands.inputs import plain_lines
    from rnntool.commands.outputs import writes_json
    from rnntool.data.streams import open_lines, open_output, stdin_holds_data
    from rnntool.evaluation.copied_ngrams import SourceText
    from rnntool.inference import model as models
    from rnntool.tasks.base import always
    from rnntool.tasks.lm import LMTask

    if prompts and prompt_file:
        raise UsageError("prompts were given both as arguments and as a file", setting="prompt_file",
                         advice="leave one out")
    whole_texts = {"beam": options.beam, "as_jsonl": as_jsonl, "log_probs": log_probs}
    for name in (name for name, value in whole_texts.items() if stream and value):
        raise contradiction("stream", name, reason="which writes each text as a whole")
    if stream and options.batch_size:
        raise contradiction("stream", "batch_size")
    if copied_words and not copied:
        raise no_effect_without("copied_words", "copied", value="FILE")
    if format and not prompt_file:
        raise no_effect_without("format", "prompt_file", value="FILE")
    as_jsonl = as_jsonl or log_probs or (not stream and writes_json(output, messages))
    writer = models.load(model, device=compute.device, threads=compute.threads)
    task = writer.require(LMTask)
    if not prompt_file and prompts in (None, ["-"]) and stdin_holds_data():
        messages.warn(f"standard input is ignored; to continue each of its lines, give "
                      f"{setting('prompt_file', '-')}" + (" without a prompt" if prompts else ""))
    if options.seed is None and not options.beam:  # a search draws no random numbers
        options = options.replace(seed=secrets.randbelow(1 << 32))
        messages.log(setting("seed", options.seed))
    source = None
    if copied:
        with open_lines(copied, errors=reading.encoding_errors) as lines:
            source = SourceText(lines, n=copied_words or COPIED_WORDS)
    copied_ngrams = ngrams = 0
    separator = SEPARATORS[task.settings.unit]
    with open_output(output) as out:

        def show(text: str) -> None:
            out.write(text)
            out.flush()

        texts: Iterable[str] = prompts or [""]
        records: dict[int, Text] = {}  # the records that prompts came from, by number
        ready = always  # all arguments are known, so they fill a batch
        if prompt_file:
            inputs = plain_lines([prompt_file], reading, messages, format=format)
            texts, ready = _prompts(inputs, records), inputs.ready
        samples = writer.generate(texts, options, watch=show if stream else None, ready=ready)
        for sample in samples:
            counts = source.copied_ngrams(sample.prompt, sample.text) if source else None
            if counts:
                copied_ngrams, ngrams = copied_ngrams + counts.copied, ngrams + counts.total
            if as_jsonl:
                number = sample.index // options.n
                records.pop(number - 1, None)
                show(_json(sample, options, counts, records.get(number), log_probs=log_probs))
            elif stream:
                show(separator)
            else:
                show(sample.prompt + sample.text + separator)
    if source and ngrams:
        messages.warn(f"{copied}: contains {copied_ngrams / ngrams:.1%} of the {ngrams:,} sequences of "
                      f"{source.n} words in the new text")
    elif source:
        messages.warn(f"the new text is shorter than {source.n} words, so nothing was compared")


def _prompts(inputs: Iterable[Text], records: dict[int, Text]) -> Iterator[str]:
    """Yield the texts of a file, and remember their records by number."""
    for number, record in enumerate(inputs):
        records[number] = record
        yield record.text


def _json(
    sample: Generated, options: GenerateOptions, counts: CopiedNgrams | None, record: Text | None, *,
    log_probs: bool,
) -> str:
    source: dict[str, Any] = record.fields or {} if record else {}
    label = {"label": options.label} if options.label is not None else {}
    fields = {**source, "index": sample.index, "seed": options.seed or 0, **label, "prompt": sample.prompt,
              "text": sample.text, "finished": sample.finished}
    if log_probs:
        fields |= {"generated_tokens": sample.tokens,
                   "log_probs": [round(value, 6) for value in sample.log_probs]}
    if counts:
        fields |= {"copied": counts.copied, "runs": counts.total}
    return json_line(fields, source=source, place=record.place if record else "")
