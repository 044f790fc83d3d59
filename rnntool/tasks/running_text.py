"""Running text, cut into windows that a network reads, and put together again as sentences.

A window depends on the text alone, never on how fast it arrives. Knows no network.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from rnntool.data.multiword import MultiwordSplitter
from rnntool.data.records import Sentence
from rnntool.errors import RnntoolError

CORE = 256  # largest number of characters that a window tags
CONTEXT = 48  # characters that it also reads on each side of these
LONGEST = 4096  # characters; a longer sentence is cut after a word
INSIDE, WORD, MULTIWORD, SENTENCE, MULTIWORD_SENTENCE = TAGS = "IWMSX"  # of a character: what ends there
_SENTENCE_END = re.compile(f"[{SENTENCE}{MULTIWORD_SENTENCE}]")
Token = tuple[int, int, bool]  # start, end, and whether it is a multiword token


@dataclass(slots=True)
class Window:
    """Characters `start` to `end` of `text`, to be tagged; the others are their context.

    A window without text stands for a blank line, or says that the next line has not arrived yet (`waits`).
    """

    text: str
    start: int = 0
    end: int = 0
    ends_paragraph: bool = False
    waits: bool = False
    place: str = ""


def windows(lines: Iterable[Sentence], ready: Callable[[], bool]) -> Iterator[Window]:
    """Cut the texts of lines into windows. A paragraph ends at a blank line, and at the end of a file.

    A window is yielded as soon as its context is there. If reading fails, the lines before the error are
    yielded before it is raised.
    """
    paragraph = _PendingText()
    source = iter(lines)
    while True:
        if not ready():
            yield Window("", waits=True)
        try:
            line = next(source, None)
        except RnntoolError:
            yield from paragraph.windows(at_end=True)
            raise
        if line is None:
            yield from paragraph.windows(at_end=True)
            return
        text = line.text or ""
        if line.place.endswith(":1") or not text.strip():  # a new file, or a blank line
            yield from paragraph.windows(at_end=True)
            paragraph = _PendingText()
        if text.strip():
            paragraph.add(text, line.place)
            yield from paragraph.windows()
        else:
            yield Window("", place=line.place)


class _PendingText:
    """The text of a paragraph from the context of the next window on, which is still needed."""

    def __init__(self) -> None:
        self._text = ""
        self._cores: deque[tuple[int, int, str]] = deque()  # start, end and place of the next windows

    def add(self, line: str, place: str) -> None:
        """Append a line, with a line break before it unless it is the first one."""
        first = len(self._text)
        self._text += ("\n" if self._text else "") + line
        size = len(self._text)
        self._cores.extend((start, min(start + CORE, size), place) for start in range(first, size, CORE))

    def windows(self, *, at_end: bool = False) -> Iterator[Window]:
        """Yield the windows whose context is complete, or all of them at the end of the paragraph."""
        text = self._text
        while self._cores and (at_end or self._cores[0][1] + CONTEXT <= len(text)):
            start, end, place = self._cores.popleft()
            first = max(0, start - CONTEXT)
            yield Window(text[first : end + CONTEXT], start - first, end - first,
                         ends_paragraph=not self._cores, place=place)
        if self._cores and (unused := max(0, self._cores[0][0] - CONTEXT)):
            self._text = text[unused:]
            self._cores = deque((start - unused, end - unused, place) for start, end, place in self._cores)


def tokens(text: str, tags: str, *, spaced: bool) -> list[Token]:
    """Return the tokens of a tagged text; they hold every character that is not white space.

    A token ends at the tag of an end, and before white space unless tokens may be `spaced`. A line break
    always ends it.
    """
    result: list[Token] = []
    start = end = -1  # of the token; -1 between tokens
    for i, (character, tag) in enumerate(zip(text, tags, strict=True)):
        if character.isspace():
            if start >= 0 and (not spaced or character == "\n"):
                result.append((start, end, False))
                start = -1
            continue
        start, end = i if start < 0 else start, i + 1
        if tag != INSIDE:
            result.append((start, end, tag in (MULTIWORD, MULTIWORD_SENTENCE)))
            start = -1
    if start >= 0:
        result.append((start, end, False))
    return result


def sentence_spans(spans: Sequence[Token], tags: str) -> set[tuple[int, int]]:
    """Return the start and end of each sentence, given the tokens of a text; the last token ends one."""
    sentences = set()
    first: int | None = None
    for i, (start, end, _) in enumerate(spans):
        first = start if first is None else first
        if tags[end - 1] in (SENTENCE, MULTIWORD_SENTENCE) or i == len(spans) - 1:
            sentences.add((first, end))
            first = None
    return sentences


def sentences(
    results: Iterable[tuple[Window, str]], splitter: MultiwordSplitter, *, spaced: bool
) -> Iterator[Sentence | None]:
    """Put the tags of windows together: yield each sentence, and one without words for a blank line.

    None says that the next line has not arrived yet.
    """
    text = tags = place = ""  # of the sentence that has not ended yet

    def ended(size: int, following: str) -> Sentence:
        """Remove the first characters from the text, and make a sentence of them."""
        nonlocal text, tags
        sentence = _sentence(text[:size], tags[:size], splitter, spaced=spaced, place=place,
                             space_after=not following or following.isspace())
        text, tags = text[size:], tags[size:]
        return sentence

    for window, new_tags in results:
        if window.waits:
            yield None
        elif not window.text:
            yield Sentence([], text="", place=window.place)
        size = len(text)  # searched already: no sentence ends there
        place = place if text.strip() else window.place
        text += window.text[window.start : window.end]
        tags += new_tags
        while end := _SENTENCE_END.search(tags, size):
            size = end.end()
            if not text[size - 1].isspace():
                yield ended(size, text[size : size + 1] or window.text[window.end : window.end + 1])
                size, place = 0, window.place
        while len(text) > LONGEST:
            size = max(map(tags[:LONGEST].rfind, (WORD, MULTIWORD))) + 1 or LONGEST
            yield ended(size, text[size])
        if window.ends_paragraph:
            if text.strip():
                yield ended(len(text), "")
            text = tags = ""


def _sentence(
    text: str, tags: str, splitter: MultiwordSplitter, *, spaced: bool, place: str, space_after: bool
) -> Sentence:
    """Make a sentence of a tagged text, without the white space around it."""
    first = len(text) - len(text.lstrip())
    text, tags = text[first:].rstrip(), tags[first:]
    words: list[str] = []
    offsets: list[tuple[int, int]] = []
    multiword: list[tuple[int, int]] = []
    for start, end, is_multiword in tokens(text, tags[: len(text)], spaced=spaced):
        parts = splitter.words(text[start:end], is_multiword=is_multiword)
        if len(parts) > 1:
            multiword.append((len(words), len(words) + len(parts)))
        words += parts
        offsets += [(start, end)] * len(parts)
    return Sentence(words, text=text, offsets=offsets, multiword=multiword, space_after=space_after,
                    place=place)
