"""Plain text and tokens in; a line of tags, `word_TAG` or an HTML page out. Knows no columns and no keys."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from html import escape

from rnntool.data.records import (
    Sentence,
    SentenceWriter,
    Tagged,
    Text,
    Weighed,
    one_line,
)
from rnntool.data.streams import Lines, chomp
from rnntool.errors import UsageError


def read(lines: Lines, unit: str = "line") -> Iterator[Text]:
    """One record a line, a paragraph (between blank lines, its lines joined by "\\n") or a whole document.

    Only the "\\n" or "\\r\\n" of a line is dropped. A blank line is an empty record where the unit is the
    line; a document is one record even where the file is empty.
    """
    if unit not in _UNITS:
        raise UsageError(f"unit: expected one of {', '.join(_UNITS)}, found {unit!r}")
    return _UNITS[unit](lines)


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


_UNITS = {"line": _by_line, "paragraph": _by_paragraph, "document": _by_document}


def read_raw(lines: Lines, split: Callable[[str], list[tuple[int, int]]]) -> Iterator[Sentence]:
    """One sentence a line, cut into words by `split`, which gives their (start, end) characters."""
    for line in lines:
        text = chomp(line)
        offsets = split(text)
        words = [text[start:end] for start, end in offsets]
        yield Sentence(words, text=text, offsets=offsets, place=lines.place())


def read_tokens(lines: Lines) -> Iterator[Sentence]:
    """One sentence a line, its words separated by spaces and tabs; a no-break space is part of a word."""
    for line in lines:
        words = list(filter(None, chomp(line).replace("\t", " ").split(" ")))
        yield Sentence(words, place=lines.place())


class TagsWriter(SentenceWriter):
    """One line of tags, separated by single spaces; those of several columns are joined by slashes."""

    def __call__(self, sentence: Sentence, tagged: Tagged) -> str:
        """`DET NOUN` and a line ending."""
        return " ".join(one_line(tagged.joined())) + "\n"


class InlineWriter(SentenceWriter):
    """One line of `word_TAG`, separated by single spaces; of several columns `word_TAG/TAG`."""

    def __call__(self, sentence: Sentence, tagged: Tagged) -> str:
        """`the_DET cat_NOUN` and a line ending."""
        words, tags = one_line(sentence.words), one_line(tagged.joined())
        return " ".join([f"{word}_{tag}" for word, tag in zip(words, tags, strict=True)]) + "\n"


_PAGE = """<!DOCTYPE html>
<html lang="und">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>rnntool</title>
<style>
:root { color-scheme: light dark; }
body { max-width: 48rem; margin: 2rem auto; padding: 0 1rem; font: 1.05rem/2.1 system-ui, sans-serif; }
p { margin: .3rem 0; min-height: 1em; white-space: pre-wrap; overflow-wrap: anywhere;
    unicode-bidi: plaintext; }
mark { padding: .15em .3em; border-radius: .3em; color: #111; background: hsl(var(--hue) 75% 84%); }
mark.weight { padding: .15em 0; color: inherit; background: hsl(var(--hue) 75% 50% / var(--share)); }
mark small { margin-left: .4em; font-size: .65em; font-weight: 600; color: hsl(var(--hue) 80% 24%); }
</style>
</head>
<body>
"""


_GOLDEN = 137.508  # degrees: as many hues as one likes, neighbours far apart
_HUES = {
    label: round(i * _GOLDEN) % 360
    for labels in (
        "NOUN VERB PUNCT PRON ADP ADJ DET PROPN ADV AUX CCONJ PART NUM SCONJ X INTJ SYM",
        "PER LOC ORG MISC",
    )
    for i, label in enumerate(labels.split())
}


def _hue(label: str) -> int:
    """A colour for a label, in degrees; those that are common together are told apart."""
    return _HUES.get(label, zlib.crc32(label.encode("utf-8", "surrogatepass")) % 360)


class HtmlWriter(SentenceWriter):
    """One self-contained page: a paragraph a sentence, words (or entities, each in one run) coloured by tag.

    The colour depends on the label alone, so that pages can be compared. Of several columns each word has all
    its tags, and the colour of the first. Nothing is loaded and nothing runs.
    """

    header = _PAGE
    footer = "</body>\n</html>\n"

    def __init__(self, *, probs: bool = False) -> None:
        """`probs` shows the probability of a tag (of an entity: the mean of its words') beside it."""
        self._probs = probs

    def __call__(self, sentence: Sentence, tagged: Tagged) -> str:
        """`<p>…</p>` and a line ending."""
        runs = None if tagged.more else tagged.entities()
        if runs is None:
            runs = [(i, i + 1, tag) for i, tag in enumerate(tagged.joined())]
        starts, ends, text = _layout(sentence)
        parts: list[str] = []
        done = 0  # characters written so far
        for first, after, label in runs:
            start, end = starts[first], ends[after - 1]
            prob = ""
            if self._probs and tagged.probs:
                prob = f" {sum(tagged.probs[first:after]) / (after - first):.4f}"
            inside = f"{escape(text[start:end])}<small>{escape(label)}{prob}</small>"
            hue = _hue(tagged.tags[first] if tagged.more else label)
            parts += (escape(text[done:start]), f'<mark style="--hue:{hue}">{inside}</mark>')
            done = end
        return _paragraph([*parts, escape(text[done:])])


class ExplainedPage:
    """The page of `HtmlWriter` with a paragraph a text: its labels, and its words by what speaks for them.

    Words without which the label is less probable are green, those without which it is more probable red.
    """

    header = HtmlWriter.header
    footer = HtmlWriter.footer

    def __call__(
        self, text: str, labels: Sequence[tuple[str, float | None]], words: Sequence[Weighed]
    ) -> str:
        """`<p>…</p>` and a line ending; a label may have its probability."""
        parts, done = [], 0
        for label, p in labels:
            prob = "" if p is None else f"<small>{p:.4f}</small>"
            parts.append(f'<mark style="--hue:{_hue(label)}">{escape(label)}{prob}</mark> ')
        most = max((abs(word.weight) for word in words), default=0.0)
        scale = max(most, _STRONG)  # where no word does much, none is bright
        for word in words:
            share = f"--hue:{140 if word.weight > 0 else 0};--share:{abs(word.weight) / scale:.2f}"
            parts += (escape(text[done:word.start]), f'<mark class="weight" style="{share}" '
                      f'title="{word.weight:+.4f}">{escape(text[word.start:word.end])}</mark>')
            done = word.end
        return _paragraph([*parts, escape(text[done:])])


_STRONG = 0.1  # of a probability, what a word does
explained_page = ExplainedPage()


def _paragraph(parts: list[str]) -> str:
    """Escaped text as a paragraph, what HTML can't have in it put right."""
    return "".join(["<p>", *parts, "</p>\n"]).replace("\r", "&#13;").replace("\0", "\ufffd")


def _layout(sentence: Sentence) -> tuple[list[int], list[int], str]:
    """Starts and ends of the words in the text to show: the given text, or the words joined by spaces."""
    if sentence.text is not None and sentence.offsets is not None:
        return [start for start, _ in sentence.offsets], [end for _, end in sentence.offsets], sentence.text
    starts, ends, position = [], [], 0
    for word in sentence.words:
        starts.append(position)
        ends.append(position + len(word))
        position += len(word) + 1
    return starts, ends, " ".join(sentence.words)
