"""`rnntool segment`: split raw text into sentences, words and multiword tokens."""

from __future__ import annotations

from typing import Annotated

from rnntool.commands.groups import examples
from rnntool.commands.options import Compute, Files, Messages, Output, format_option, model_option
from rnntool.data.reading import Reading


@examples("rnntool segment -m segmenter < raw.txt > text.conllu")
def segment(
    *,
    files: Files = None,
    model: Annotated[str, model_option()],
    output: Output = None,
    format: Annotated[str | None, format_option("text")] = None,
    reading: Reading,
    compute: Compute,
    messages: Messages,
) -> None:
    """Split raw text into sentences, words and multiword tokens.

    The output is CoNLL-U. A sentence may span several lines. An empty line and the end of a file always end
    one. Otherwise, it is written as soon as enough of the text after it has been read.
    """
    from rnntool.commands.inputs import raw_text
    from rnntool.commands.outputs import output_format
    from rnntool.data.formats import sentence_writer
    from rnntool.data.records import Tagged
    from rnntool.data.streams import open_output
    from rnntool.inference import model as models

    output_format(None, False, output, ("conllu",), messages)  # warns of another extension
    segmenter = models.load_segmenter(model, device=compute.device, threads=compute.threads)
    inputs = raw_text(files or ["-"], reading, messages, format=format)
    write = sentence_writer("conllu")
    with open_output(output) as out:
        for sentence in segmenter.segmented(inputs, ready=inputs.ready, flush=out.flush):
            out.write(write(sentence, Tagged([""] * len(sentence.words))))
