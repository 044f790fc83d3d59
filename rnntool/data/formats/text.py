"""Plain text and tokenized text: one record per line, without columns. Tags are written in the same way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from rnntool.data.formats.base import Format, SentenceOptions, SequenceOptions, TextOptions, UnlabeledError
from rnntool.data.records import (
    Labels,
    LabelWriter,
    Sentence,
    SentenceWriter,
    Tagged,
    Text,
    Transduction,
    WordWeight,
    one_line,
)
from rnntool.data.streams import Lines, chomp
from rnntool.errors import DataError, UsageError, setting

_WIDTHS = (40, 132)  # characters of a line of wrapped prose
_WIDTH_QUANTILE = 0.95  # of the lengths, because some lines may be longer
_FEWEST_PAIRS = 20  # of adjacent lines, to judge by
_FULL = 0.9  # of the width, because lines are ragged
_WRAPPED_SHARE = 0.6  # of these pairs


def _read_texts(lines: Lines, options: TextOptions) -> Iterator[Text]:
    """Read a record from each line, each paragraph, or the whole document.

    Paragraphs are separated by blank lines, and their lines are joined by "\\n". A line loses its "\\n" or
    "\\r\\n" and nothing else. A blank line is an empty record where the unit is the line. A document is one
    record even where the file is empty.
    """
    if options.unit not in _UNITS:
        raise UsageError(setting="unit", expected=f"one of {', '.join(_UNITS)}", found=repr(options.unit))
    texts = _UNITS[options.unit](lines)
    return _without_labels(texts, options) if options.need_labels else texts


def _without_labels(texts: Iterator[Text], options: TextOptions) -> Iterator[Text]:
    for text in texts:
        options.on_unlabeled(_unlabeled(text.place))
    yield from ()


def _unlabeled(place: str, expected: str = "a label") -> UnlabeledError:
    return UnlabeledError(place, expected=expected, found="plain text",
                          advice=f"name its format with {setting('format')}")


def _by_line(lines: Lines) -> Iterator[Text]:
    for line in lines:
        yield Text(chomp(line), place=lines.place())


def _by_paragraph(lines: Lines) -> Iterator[Text]:
    paragraph: list[str] = []
    place = ""
    for line in lines:
        text = chomp(line)
        if text.strip(" \t"):
            place = place or lines.place()
            paragraph.append(text)
        elif paragraph:
            yield Text("\n".join(paragraph), place=place)
            paragraph, place = [], ""
    if paragraph:
        yield Text("\n".join(paragraph), place=place)


def _by_document(lines: Lines) -> Iterator[Text]:
    yield Text("\n".join([chomp(line) for line in lines]), place=f"{lines.name}:1")


def is_wrapped(lines: Sequence[str]) -> bool:
    """Return whether lines look like prose that was broken into lines of at most some width.

    Then the first word of most lines would hardly have fitted on the line before it. Verse has such lines as
    well, but each begins with a capital letter.
    """
    lengths = sorted(len(line) for line in lines if line.strip())
    if not lengths:
        return False
    width = lengths[int(_WIDTH_QUANTILE * (len(lengths) - 1))]
    pairs = [(line, following.split(maxsplit=1)[0]) for line, following in pairwise(lines)
             if line.strip() and following.strip()]
    full = sum(len(line.rstrip()) + 1 + len(word) > _FULL * width for line, word in pairs)
    capitals = sum(word[0].isupper() for _, word in pairs)
    return (_WIDTHS[0] <= width <= _WIDTHS[1] and len(pairs) >= _FEWEST_PAIRS
            and min(full, len(pairs) - capitals) >= _WRAPPED_SHARE * len(pairs))


_UNITS = {"line": _by_line, "paragraph": _by_paragraph, "document": _by_document}


def _read_raw_sentences(lines: Lines, options: SentenceOptions) -> Iterator[Sentence]:
    """Read a sentence from each line and split it into words."""
    for line in lines:
        text = chomp(line)
        offsets = options.split(text)
        words = [text[start:end] for start, end in offsets]
        yield Sentence(words, text=text, offsets=offsets, place=lines.place())


def _read_sequences(lines: Lines, options: SequenceOptions) -> Iterator[Transduction]:
    """Read a source from each line. If it has further columns, tabs separate them."""
    columns = options.source_columns
    noticed = False
    for line in lines:
        text, place = chomp(line), lines.place()
        if options.need_targets:
            options.on_unlabeled(_unlabeled(place, "a target"))
        elif len(columns) > 1 and text:
            source, *extra = text.split("\t")
            if len(extra) != len(columns) - 1:
                raise DataError(place=place, expected=f"{len(columns)} columns, {', '.join(columns)}, "
                                                      "separated by tabs",
                                found=len(extra) + 1, advice="correct the line")
            yield Transduction(source, extra=tuple(extra), place=place)
        else:
            if "\t" in text and not noticed:
                noticed = True
                lines.warn(f"{place}: the tab is read as a character of the source; if it separates columns, "
                           f"set {setting('format', 'tsv')}")
            yield Transduction(text, place=place)


def _read_tokens(lines: Lines, options: SentenceOptions) -> Iterator[Sentence]:
    """Read a sentence from each line. Spaces and tabs separate words; a no-break space is part of one."""
    for line in lines:
        words = list(filter(None, chomp(line).replace("\t", " ").split(" ")))
        yield Sentence(words, place=lines.place())


class TagsWriter(SentenceWriter):
    """A line of tags with single spaces between them. Slashes join the tags of several columns."""

    def __call__(self, sentence: Sentence, tagged: Tagged) -> str:
        """Return `DET NOUN` and a line ending."""
        return " ".join(one_line(tagged.joined())) + "\n"


class LabelsWriter(LabelWriter):
    """A line with the labels of a text, separated by tabs, and then all words with their weights."""

    def __init__(self, *, probs: bool) -> None:
        """`probs` adds a cell after each label, with its probability."""
        self._probs = probs

    def __call__(self, text: Text, labels: Labels, words: Sequence[WordWeight] | None) -> str:
        """Return `LABEL` and a line ending, or `LABEL<TAB>0.9000<TAB>some(+0.100) words(-0.020)`."""
        cells = [cell for label, p in labels for cell in ([label, f"{p:.4f}"] if self._probs else [label])]
        if words is not None:
            cells.append(" ".join(f"{word.token}({word.weight:+.3f})" for word in words))
        return "\t".join(one_line(cells)) + "\n"


TEXT = Format(
    name="text",
    read_texts=_read_texts,
    read_sentences=_read_raw_sentences,
    read_sequences=_read_sequences,
    sentence_writer=lambda options: TagsWriter(),
    label_writer=lambda options: LabelsWriter(probs=options.probs),
    examples=dict.fromkeys(("texts", "sentences", "sequences"), "The cat sleeps.\n\nIt purrs.\n"),
    settings=frozenset({"unit", "source_columns"}),
    raw=True,
)
TOKENS = Format(
    name="tokens",
    extensions=(".tok", ".tokens"),
    read_sentences=_read_tokens,
    sentence_writer=lambda options: TagsWriter(),
    examples={"sentences": "The cat sleeps .\n\nIt purrs .\n"},
)
