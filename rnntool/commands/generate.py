"""`rnntool generate`."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator

from rnntool.commands.common import Common
from rnntool.commands.inputs import plain_lines
from rnntool.data.streams import open_lines, open_output
from rnntool.errors import UsageError, setting
from rnntool.evaluation.copied_ngrams import Copied, Source
from rnntool.inference import model as models
from rnntool.inference.generation import Generated
from rnntool.inference.options import GenerateOptions
from rnntool.tasks.lm import LMTask

COPIED_WORDS = 8  # in a row


def run(
    prompts: list[str], options: GenerateOptions, *, model: str, output: str | None, prompt_file: str | None,
    copied: str | None, copied_words: int | None, stream: bool, as_jsonl: bool, with_log_probs: bool,
    common: Common,
) -> None:
    """Write samples for each prompt."""
    if prompts and prompt_file:
        raise UsageError("prompts are given twice, as arguments and in a file",
                         advice=f"leave out the arguments or {setting('prompts')}")
    if not stream:
        as_jsonl = as_jsonl or common.writes_json(output)
    for name in ("beam", "batch_size", "jsonl"):
        if stream and (as_jsonl if name == "jsonl" else getattr(options, name)):
            raise UsageError("a stream shows one text after the other, token by token", setting="stream",
                             advice=f"leave out {setting('stream')} or {setting(name)}")
    if copied_words and not copied:
        raise UsageError("counts the words in a row that were copied from a file", setting="copied_words",
                         advice=f"give {setting('copied')} as well")
    writer = models.load(model, device=common.device, threads=common.threads)
    task = writer.require(LMTask)
    if options.seed is None and not options.beam:
        options = options.replace(seed=secrets.randbelow(1 << 32))
        common.log(f"--seed {options.seed}")
    source = None
    if copied:
        with open_lines(copied, errors=common.encoding_errors) as lines:
            source = Source(lines, n=copied_words or COPIED_WORDS)
    copies, runs = 0, 0
    between = {"line": "\n", "paragraph": "\n\n", "document": "\n"}[task.settings.unit]
    with open_output(output) as out:

        def show(text: str) -> None:
            out.write(text)
            out.flush()

        inputs = plain_lines([prompt_file or "-"], common)
        wanted: Iterator[str] = (record.text for record in inputs) if prompt_file else iter(prompts or [""])
        samples = writer.generate(wanted, options, watch=show if stream else None, ready=inputs.ready)
        for sample in samples:
            copy = source.copied(sample.prompt, sample.text) if source else None
            if copy:
                copies, runs = copies + copy.found, runs + copy.runs
            if as_jsonl:
                show(_json(sample, options, copy, with_log_probs=with_log_probs))
            elif stream:
                show(between)
            else:
                show(sample.prompt + sample.text + between)
    if source:
        has = f"{copied}: has {copies / runs:.1%} of the {runs:,} runs" if runs else "there is no run"
        common.warn(f"{has} of {copied_words or COPIED_WORDS} words in the new text")


def _json(
    sample: Generated, options: GenerateOptions, copy: Copied | None, *, with_log_probs: bool
) -> str:
    label = {"label": options.label} if options.label is not None else {}
    fields = {"index": sample.index, "seed": options.seed or 0, **label, "prompt": sample.prompt,
              "text": sample.text, "finished": sample.finished}
    if with_log_probs:
        fields |= {"tokens": sample.tokens, "log_probs": [round(value, 6) for value in sample.log_probs]}
    if copy:
        fields |= {"copied": copy.found, "runs": copy.runs}
    return json.dumps(fields, ensure_ascii=False) + "\n"
