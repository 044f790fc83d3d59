"""Paragraphs of a treebank as running text with the gold tag of each character, to train and to evaluate."""

from __future__ import annotations

import random
from bisect import bisect
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from rnntool.data.records import Sentence
from rnntool.tasks.running_text import (
    INSIDE,
    MULTIWORD,
    MULTIWORD_SENTENCE,
    SENTENCE,
    WORD,
    sentence_spans,
    tokens,
)

BREAK_SHARE = 0.1  # of the sentence ends in a training text, which also end a paragraph
DOUBLE_SPACE_SHARE = 0.01  # of the spaces in a training text, which are doubled


@dataclass(slots=True)
class GoldParagraph:
    """Records that are read as one text, with its gold tags; `first` is the index of the first record."""

    first: int
    text: str = ""
    tags: str = ""
    starts: list[int] = field(default_factory=list)  # of the records
    places: list[str] = field(default_factory=list)
    # start and end of the token, and in a multiword token the number and form of the word, otherwise 0 and ""
    words: set[Any] = field(default_factory=set)

    def record_at(self, character: int) -> int:
        """Return the index of the record that has this character of the text."""
        return self.first + bisect(self.starts, character) - 1

    def units(self, spaced: bool) -> tuple[set[Any], ...]:
        """Return the gold words, sentences and tokens."""
        spans = tokens(self.text, self.tags, spaced=spaced)
        return self.words, sentence_spans(spans, self.tags), {(start, end) for start, end, _ in spans}


def gold_tags(sentence: Sentence) -> str:
    """Return a tag for each character of a sentence that has tokens."""
    tags = [INSIDE] * len(text_of(sentence))
    offsets = sentence.offsets or []
    for _, end in offsets:
        tags[end - 1] = WORD
    for first, _ in sentence.multiword or ():
        tags[offsets[first][1] - 1] = MULTIWORD
    if offsets:
        last = offsets[-1][1] - 1
        tags[last] = MULTIWORD_SENTENCE if tags[last] == MULTIWORD else SENTENCE
    return "".join(tags)


def gold_paragraphs(sentences: Iterable[Sentence]) -> list[GoldParagraph]:
    """Join the sentences of each paragraph, with a space after each unless the treebank has none there."""
    paragraphs: list[GoldParagraph] = []
    first = 0
    for _, group in groupby(sentences, lambda sentence: id(sentence.document)):
        paragraph = GoldParagraph(first)
        for sentence in group:
            start = len(paragraph.text)
            paragraph.starts.append(start)
            paragraph.places.append(sentence.place)
            space = " " if sentence.space_after else ""
            paragraph.text += text_of(sentence) + space
            paragraph.tags += gold_tags(sentence) + INSIDE * len(space)
            offsets = [(start + a, start + b) for a, b in sentence.offsets or ()]
            words: list[Any] = [(a, b, 0, "") for a, b in offsets]
            for begin, end in sentence.multiword or ():
                if end - begin > 1:
                    words[begin:end] = [
                        (*offsets[j], j - begin, sentence.words[j]) for j in range(begin, end)]
            paragraph.words.update(words)
        paragraphs.append(paragraph)
        first += len(paragraph.starts)
    return paragraphs


def random_paragraphs(sentences: Iterable[Sentence], rng: random.Random) -> Iterator[list[Sentence]]:
    """Yield the sentences in random paragraphs; each lies within one paragraph of the treebank."""
    paragraph: list[Sentence] = []
    for sentence in sentences:
        if paragraph and (sentence.document is not paragraph[0].document or rng.random() < BREAK_SHARE):
            yield paragraph
            paragraph = []
        paragraph.append(sentence)
    if paragraph:
        yield paragraph


def with_random_spaces(sentences: Iterable[Sentence], rng: random.Random) -> tuple[str, str]:
    """Join sentences into a text with its tags: on one line, on lines of some width, or a line for each.

    Some spaces are doubled.
    """
    text = tags = ""
    width, line_each = rng.choice(((0, False), (0, False), (rng.randint(40, 120), False), (0, True)))
    for sentence in sentences:
        space = ("\n" if line_each else " ") if sentence.space_after else ""
        text += text_of(sentence) + space
        tags += gold_tags(sentence) + INSIDE * len(space)
    characters, character_tags = [], []
    column = 0
    for character, tag in zip(text.rstrip(), tags, strict=False):
        if character == " " and width and column >= width:
            character = "\n"
        elif character == " " and rng.random() < DOUBLE_SPACE_SHARE:
            characters.append(" ")
            character_tags.append(INSIDE)
        column = 0 if character == "\n" else column + 1
        characters.append(character)
        character_tags.append(tag)
    return "".join(characters), "".join(character_tags)


def text_of(sentence: Sentence) -> str:
    """Return the text of a sentence, or else its words with spaces between them."""
    return " ".join(sentence.words) if sentence.text is None else sentence.text
