"""Evaluate a tagger that has a segmenter on the raw text of a treebank."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence

from rnntool.commands.options import Compute
from rnntool.commands.tag import default_column
from rnntool.data.formats import sentence_writer, split_columns
from rnntool.data.formats.conllu import CONLLU, with_tokens
from rnntool.data.records import Sentence
from rnntool.data.streams import Lines
from rnntool.data.treebank import Treebank, read_treebank
from rnntool.evaluation import conll18
from rnntool.inference import model as models
from rnntool.inference.model import Model
from rnntool.tasks.paragraphs import gold_paragraphs
from rnntool.tasks.tag import TagTask


def raw_text_scores(tagger: Model, records: Sequence[Sentence], compute: Compute) -> dict[str, float]:
    """Return the F1 of the CoNLL 2018 metrics of segmentation and of the tagger's columns.

    `records` are gold sentences from CoNLL-U. Their text is split by the segmenter of the tagger, which must
    have one.
    """
    assert tagger.segmenter
    column = default_column(tagger.require(TagTask), CONLLU.name)
    segmenter = models.load(tagger.segmenter, device=compute.device, threads=compute.threads)
    write = sentence_writer(CONLLU.name, column=column)
    system = (write(*pair) for pair in tagger.tagged(segmenter.segmented(_lines(records))))
    gold = ("".join(record.source.lines) + "\n" for record in records if record.words)
    scores = conll18.scores(_treebank(gold, "gold"), _treebank(system, tagger.name))
    names = [name.lower() for name in split_columns(column) if name]
    return {name: scores[name].report()["f1"] for name in (*conll18.SPAN_METRICS, *conll18.metrics_of(names))
            if name in scores}


def _lines(sentences: Sequence[Sentence]) -> Iterator[Sentence]:
    """Yield the text of each paragraph of a treebank, with a blank line after it."""
    for paragraph in gold_paragraphs(with_tokens(sentences)):
        yield Sentence([], text=paragraph.text.rstrip())
        yield Sentence([], text="")


def _treebank(blocks: Iterable[str], name: str) -> Treebank:
    content = "".join(blocks).encode()
    return read_treebank([Lines(io.BytesIO(content), name=name)])
