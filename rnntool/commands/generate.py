"""`rnntool generate`."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from dataclasses import replace

from rnntool.commands.common import Common
from rnntool.commands.inputs import plain_lines
from rnntool.data.streams import open_lines, open_output
from rnntool.errors import UsageError
from rnntool.evaluation.copied_ngrams import Copied, Source
from rnntool.inference import model as models
from rnntool.inference.generation import Generated
from rnntool.inference.sampling import Sampling
from rnntool.tasks.lm import LMTask

BATCH_SIZE = 64  # samples drawn side by side
COPIED_WORDS = 8  # in a row


def run(
    prompts: list[str], *, model: str, label: str | None, output: str | None, prompt_file: str | None, n: int,
    sampling: Sampling, no_repeat_ngram: int, copied: str | None, copied_words: int | None, beam: int,
    min_tokens: int, max_tokens: int, stop: str | None, stream: bool, batch_size: int | None,
    allow_unknown: bool, as_jsonl: bool, with_log_probs: bool, seed: int | None, common: Common,
) -> None:
    """Write `n` samples for each prompt."""
    if prompts and prompt_file:
        raise UsageError("prompts are given twice, as arguments and with --prompts; leave one out")
    if not stream:
        as_jsonl = as_jsonl or common.writes_json(output)
    if stream and (beam or as_jsonl):
        whole = "--beam" if beam else "--jsonl"
        raise UsageError(f"--stream: {whole} writes whole texts only; leave one out")
    if stream and batch_size:
        raise UsageError("--stream: writes one text after the other, none side by side; leave it or "
                         "--batch-size out")
    if copied_words and not copied:
        raise UsageError("--copied-words: expected --copied beside it, found it alone; give --copied FILE too")
    if stop == "":
        raise UsageError("--stop: expected a text, found none; leave it out, or give what texts stop before")
    if beam and sampling != Sampling():
        raise UsageError("--beam searches and draws nothing; leave --temperature, --top-k, --top-p, --min-p, "
                         "--typical and --repetition-penalty out")
    if beam and batch_size:
        raise UsageError("--beam: searches one text after the other; leave it or --batch-size out")
    cuts = replace(sampling, temperature=1.0, repetition_penalty=1.0)
    if sampling.temperature == 0 and cuts != Sampling():
        raise UsageError("--temperature 0: takes the likeliest token each time and draws none; leave it, or "
                         "--top-k, --top-p, --min-p and --typical out")
    writer = models.load(model, device=common.device, threads=common.threads)
    task = writer.require(LMTask)
    if seed is None and beam:
        seed = 0  # a search draws nothing
    if seed is None:
        seed = secrets.randbelow(1 << 32)
        common.log(f"--seed {seed}")
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
        samples = writer.generate(
            wanted, label=label, n=n, seed=seed, max_tokens=max_tokens, min_tokens=min_tokens,
            sampling=sampling, no_repeat_ngram=no_repeat_ngram, beam=beam, stop=stop,
            batch_size=1 if stream else batch_size or BATCH_SIZE, allow_unknown=allow_unknown,
            watch=show if stream else None, ready=inputs.ready,
        )
        for sample in samples:
            copy = source.copied(sample.prompt, sample.text) if source else None
            if copy:
                copies, runs = copies + copy.found, runs + copy.runs
            if as_jsonl:
                show(_json(sample, seed, label, copy, with_log_probs=with_log_probs))
            elif stream:
                show(between)
            else:
                show(sample.prompt + sample.text + between)
    if source:
        has = f"{copied}: has {copies / runs:.1%} of the {runs:,} runs" if runs else "there is no run"
        common.warn(f"{has} of {copied_words or COPIED_WORDS} words in the new text")


def _json(
    sample: Generated, seed: int, label: str | None, copy: Copied | None, *, with_log_probs: bool
) -> str:
    fields = {"index": sample.index, "seed": seed, **({"label": label} if label is not None else {}),
              "prompt": sample.prompt, "text": sample.text, "finished": sample.finished}
    if with_log_probs:
        fields |= {"tokens": sample.tokens, "log_probs": [round(value, 6) for value in sample.log_probs]}
    if copy:
        fields |= {"copied": copy.found, "runs": copy.runs}
    return json.dumps(fields, ensure_ascii=False) + "\n"
