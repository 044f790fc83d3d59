"""HTML pages: sentences with their tags in color, and texts in which the weight of each word is visible."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from html import escape

from rnntool.data.formats.base import Format
from rnntool.data.records import (
    Labels,
    LabelWriter,
    Sentence,
    SentenceWriter,
    Tagged,
    Text,
    WordWeight,
    color_shares,
)

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

_GOLDEN_ANGLE = 137.508  # degrees; multiples of it give any number of hues that are far apart
_HUES = {
    label: round(i * _GOLDEN_ANGLE) % 360
    for labels in (
        "NOUN VERB PUNCT PRON ADP ADJ DET PROPN ADV AUX CCONJ PART NUM SCONJ X INTJ SYM",
        "PER LOC ORG MISC",
    )
    for i, label in enumerate(labels.split())
}
FOR, AGAINST = 215, 30  # hues of words that raise and lower a probability, also for color-blind people


def _hue(label: str) -> int:
    """Return the color of a label in degrees. Labels that often occur together have distant colors."""
    return _HUES.get(label, zlib.crc32(label.encode("utf-8", "surrogatepass")) % 360)


class SentencesHtmlWriter(SentenceWriter):
    """A self-contained page with a paragraph for each sentence and a color for each tag or entity.

    The color depends on the label alone, so that pages can be compared. If there are several columns, each
    word shows all its tags and has the color of the first. The page loads nothing and runs no script.
    """

    header = _PAGE
    footer = "</body>\n</html>\n"

    def __init__(self, *, probs: bool = False) -> None:
        """`probs` shows the probability of each tag. For an entity, that is the mean over its words."""
        self._probs = probs

    def __call__(self, sentence: Sentence, tagged: Tagged) -> str:
        """Return `<p>…</p>` and a line ending."""
        runs = None if tagged.more_tags else tagged.entities()
        if runs is None:
            runs = [(i, i + 1, tag) for i, tag in enumerate(tagged.joined())]
        starts, ends, text = _layout(sentence)
        parts: list[str] = []
        written = 0  # characters
        for first, after, label in runs:
            start, end = starts[first], ends[after - 1]
            prob = ""
            if self._probs and tagged.probs:
                prob = f" {sum(tagged.probs[first:after]) / (after - first):.4f}"
            inside = f"{escape(text[start:end])}<small>{escape(label)}{prob}</small>"
            hue = _hue(tagged.tags[first] if tagged.more_tags else label)
            parts += (escape(text[written:start]), f'<mark style="--hue:{hue}">{inside}</mark>')
            written = end
        return _paragraph([*parts, escape(text[written:])])


class LabelsHtmlWriter(LabelWriter):
    """A page with a paragraph for each text: its labels, and its words colored by their weight.

    Blue words make the label more probable, orange words make it less probable. Where words are explained,
    the page has a legend, the probability, and the gold label if the text has one.
    """

    header = SentencesHtmlWriter.header
    footer = SentencesHtmlWriter.footer

    def __init__(self, *, probs: bool) -> None:
        """`probs` shows the probability of each label."""
        self._probs = probs
        self._has_legend = False

    def __call__(self, text: Text, labels: Labels, words: Sequence[WordWeight] | None) -> str:
        """Return `<p>…</p>` and a line ending."""
        parts, written = [], 0
        for label, p in labels:
            prob = f"<small>{p:.4f}</small>" if self._probs or words is not None else ""
            parts.append(f'<mark style="--hue:{_hue(label)}">{escape(label)}{prob}</mark> ')
        if words is None:
            return _paragraph([*parts, escape(text.text)])
        if text.labels:
            parts.append(f"<small>gold: {escape(', '.join(text.labels))}</small> ")
        for word, share in zip(words, color_shares(words), strict=True):
            parts += (escape(text.text[written:word.start]),
                      _weighted(escape(text.text[word.start:word.end]), share, f"{word.weight:+.4f}"))
            written = word.end
        legend = "" if self._has_legend else _paragraph([
            "<small>Words in color ", _weighted("raise", 1.0, "+"), " or ", _weighted("lower", -1.0, "-"),
            " the probability of the first label. The stronger the color, the more it would change without "
            "the word.</small>"])
        self._has_legend = True
        return legend + _paragraph([*parts, escape(text.text[written:])])


def _weighted(html: str, share: float, title: str) -> str:
    """Return HTML on the color of a weight, scaled to -1 to 1."""
    style = f"--hue:{FOR if share > 0 else AGAINST};--share:{abs(share):.2f}"
    return f'<mark class="weight" style="{style}" title="{title}">{html}</mark>'


def _paragraph(parts: list[str]) -> str:
    """Join escaped text into a paragraph, and replace the characters that HTML does not allow."""
    return "".join(["<p>", *parts, "</p>\n"]).replace("\r", "&#13;").replace("\0", "\ufffd")


def _layout(sentence: Sentence) -> tuple[list[int], list[int], str]:
    """Return where words start, where they end, and the text to show: the original, or the words joined."""
    if sentence.text is not None and sentence.offsets is not None:
        return [start for start, _ in sentence.offsets], [end for _, end in sentence.offsets], sentence.text
    starts, ends, position = [], [], 0
    for word in sentence.words:
        starts.append(position)
        ends.append(position + len(word))
        position += len(word) + 1
    return starts, ends, " ".join(sentence.words)


HTML = Format(
    name="html",
    extensions=(".html", ".htm"),
    sentence_writer=lambda options: SentencesHtmlWriter(probs=options.probs),
    label_writer=lambda options: LabelsHtmlWriter(probs=options.probs),
    writes_probs=True,
)
