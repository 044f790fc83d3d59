"""Labels with their ids, and the tagging schemes that write spans as tags: IOB1, IOB2, IOBES and variants.

A label is any text. A tag is "O" or LETTER-label. A span is a run of tokens with one label.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rnntool.data.escaping import read_escaped, write_escaped
from rnntool.data.model_file import damaged

Mask = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.intp]

OUTSIDE = "O"


class Role(IntEnum):
    """What a tag says about its token."""

    BEGIN = 0  # the first token of a longer span
    INSIDE = 1
    END = 2  # the last token of a longer span
    SINGLE = 3  # a span of one token
    OUTSIDE = 4


# The letter of each role in each scheme. A letter with several roles is read as the first of them.
_LETTERS = {
    "iob1": "BIIB",  # Ramshaw and Marcus (1995): B only directly after another span with the same label
    "iob2": "BIIB",
    "iobes": "BIES",
    "bilou": "BILU",
    "bmewo": "BMEW",
    "bmes": "BMES",
}
SCHEMES = tuple(_LETTERS)
_ALL_LETTERS = frozenset("".join(_LETTERS.values()))
_FOREIGN_NOTATIONS = (  # PER-B and B_PER
    re.compile(r"(?P<label>.+)[-_](?P<letter>[BIESLUMW])"),
    re.compile(r"(?P<letter>[BIESLUMW])_(?P<label>.+)"),
)
SCHEMES_WITH_ENDS = frozenset(scheme for scheme, letters in _LETTERS.items() if len(set(letters)) == 4)


class Span(NamedTuple):
    """A labeled run of tokens, from `start`, counted from 0, up to but without `end`."""

    start: int
    end: int
    label: str


class Labels:
    """Ordered label names without duplicates; their ids are 0, 1, 2, …

    Raises ValueError for a duplicate.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.names: tuple[str, ...] = tuple(names)
        self._ids = {name: index for index, name in enumerate(self.names)}
        if len(self._ids) != len(self.names):
            duplicate = next(name for name, count in Counter(self.names).items() if count > 1)
            raise ValueError(f"label {duplicate!r} occurs twice")

    @classmethod
    def from_counts(cls, counts: Mapping[str, int]) -> Labels:
        """Order the names by falling count, and names with equal counts alphabetically."""
        return cls(sorted(counts, key=lambda name: (-counts[name], name)))

    @classmethod
    def collect(cls, names: Iterable[str]) -> Labels:
        """Count the names, and order them as `from_counts` does."""
        return cls.from_counts(Counter(names))

    def id(self, name: str) -> int:
        """Return the id of a label; KeyError if it doesn't exist."""
        return self._ids[name]

    def get(self, name: str, default: int) -> int:
        """Return the id of a label, or `default` if it doesn't exist."""
        return self._ids.get(name, default)

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self._ids

    def __eq__(self, other: object) -> bool:
        return self.names == other.names if isinstance(other, Labels) else NotImplemented

    def __repr__(self) -> str:
        return f"Labels({list(self.names)!r})"

    def save(self, folder: Path) -> None:
        """Write labels.txt; see `save_labels`."""
        save_labels([self], folder)

    @classmethod
    def load(cls, folder: Path) -> Labels:
        """Read what `save` wrote; `ModelError` if the file is missing or damaged."""
        return load_labels(folder, [None])[0]


def save_labels(sets: Sequence[Labels], folder: Path) -> None:
    """Write labels.txt with the names of all sets, in the order of a network's outputs."""
    write_escaped(folder / "labels.txt", chain.from_iterable(labels.names for labels in sets))


def load_labels(folder: Path, sizes: Sequence[int | None]) -> list[Labels]:
    """Read the sets that `save_labels` wrote, given their sizes; None takes the remaining names.

    Raises `ModelError` if the file is missing or damaged.
    """
    path = folder / "labels.txt"
    lines = read_escaped(path) if any(size != 0 for size in sizes) else []  # heads alone have no labels
    names = iter(lines)
    try:
        sets = [Labels(islice(names, size)) for size in sizes]
    except ValueError as error:
        raise damaged(path, str(error)) from error
    if any(size not in (None, len(labels)) for size, labels in zip(sizes, sets, strict=True)) or any(names):
        raise damaged(path, expected=f"{sum(filter(None, sizes))} labels", found=len(lines))
    return sets


def detect_scheme(sequences: Iterable[Sequence[str]]) -> str | None:
    """Return the scheme of the tags, or None for plain tags such as parts of speech.

    In a scheme, every tag is "O" or LETTER-label, and there is at least one span. With letters other than B
    and I, the answer is the first of iobes, bilou, bmewo and bmes that has all letters, or None. With B and I
    alone, a span that starts with I is evidence for IOB1, and a B where IOB1 would write I is evidence for
    IOB2. The majority decides, so that one annotation error does not change the result; a tie means IOB2.
    """
    letters: set[str] = set()
    iob1_spans = iob2_spans = 0  # whose first tag only this scheme would write
    for tags in sequences:
        previous_label = ""
        for tag in tags:
            if tag == OUTSIDE:
                previous_label = ""
                continue
            letter, hyphen, label = tag[:1], tag[1:2], tag[2:]
            if hyphen != "-" or not label:
                return None
            letters.add(letter)
            if label != previous_label:
                iob1_spans += letter == "I"
                iob2_spans += letter == "B"
            previous_label = label
    if not letters:
        return None
    if letters <= {"B", "I"}:
        return "iob1" if iob1_spans > iob2_spans else "iob2"
    return next((scheme for scheme, allowed in _LETTERS.items() if letters <= set(allowed)), None)


def span_advice(names: Sequence[str]) -> str | None:
    """Say how to write plain tags that look like spans in another notation; return None if they don't.

    `names` are the different tags by falling frequency. If most words are O, the other tags may be names of
    spans.
    """
    tags = [name for name in names if name != OUTSIDE]
    for notation in _FOREIGN_NOTATIONS:
        matches = [match for match in map(notation.fullmatch, tags) if match]
        if len(matches) == len(tags) and any(match["letter"] == "B" for match in matches):
            return "write {letter}-{label} instead of {}".format(matches[0][0], **matches[0].groupdict())
    if names[:1] != [OUTSIDE] or any(tag[1:2] == "-" for tag in tags):
        return None
    if "B" in tags and all(tag in _ALL_LETTERS for tag in tags):
        return "write B-NAME instead of B"
    return f"write B-{tags[0]} and I-{tags[0]} instead of {tags[0]}" if tags else None


@lru_cache(maxsize=10_000)
def parse_tag(tag: str, scheme: str) -> tuple[Role, str]:
    """Return the role and the label of a tag; a tag that the scheme doesn't have is outside every span."""
    index = _LETTERS[scheme].find(tag[0]) if tag[1:2] == "-" else -1
    return (Role(index), tag[2:]) if index >= 0 else (Role.OUTSIDE, "")


def spans(tags: Sequence[str], scheme: str) -> list[Span]:
    """Return the spans of a sequence of tags, in order.

    Tags that break the scheme are read as conlleval reads them (Tjong Kim Sang and Buchholz, 2000): a tag
    continues the span before it if it can, and begins a new one if not. A span may end without an end tag.
    """
    complete: list[Span] = []
    start, label = -1, ""  # of the open span; start < 0 if none is open
    for i, tag in enumerate(tags):
        role, tag_label = parse_tag(tag, scheme)
        if start < 0 or tag_label != label or role not in (Role.INSIDE, Role.END):
            if start >= 0:
                complete.append(Span(start, i, label))
            start, label = (-1 if role == Role.OUTSIDE else i), tag_label
        if role in (Role.END, Role.SINGLE):
            complete.append(Span(start, i + 1, label))
            start = -1
    if start >= 0:
        complete.append(Span(start, len(tags), label))
    return complete


def tags_from_spans(spans: Iterable[Span], n: int, scheme: str) -> list[str]:
    """Return the tags of `n` tokens with these spans; ValueError if spans overlap, are empty or don't fit."""
    begin, inside, end, single = (f"{letter}-" for letter in _LETTERS[scheme])
    tags = [OUTSIDE] * n
    previous = Span(-1, 0, "")
    for span in sorted(spans):
        start, stop, label = span
        if not previous.end <= start < stop <= n:
            raise ValueError(f"{span} is empty, overlaps {previous} or leaves a sequence of {n} tokens")
        if stop - start == 1:
            tags[start] = single + label
        else:
            tags[start:stop] = [begin + label, *[inside + label] * (stop - start - 2), end + label]
        if scheme == "iob1" and (start, label) != (previous.end, previous.label):
            tags[start] = f"I-{label}"
        previous = span
    return tags


def convert(tags: Sequence[str], source: str, target: str) -> list[str]:
    """Write the same spans in another scheme. Nothing is lost; broken tags are read as `spans` reads them."""
    return tags_from_spans(spans(tags, source), len(tags), target)


def transition_mask(names: Sequence[str], scheme: str | None) -> tuple[Mask, Mask, Mask]:
    """Return which tags may be first (L,), follow one another (L, L) as [from, to], and be last (L,).

    True = allowed. A tag that the scheme doesn't have counts as "O". Without a scheme everything is allowed.
    """
    size = len(names)
    if scheme is None:
        return np.ones(size, np.bool_), np.ones((size, size), np.bool_), np.ones(size, np.bool_)
    parsed = [parse_tag(name, scheme) for name in names]
    roles = np.array([role for role, _ in parsed], dtype=np.intp)
    same_label = np.array([[a == b for _, b in parsed] for _, a in parsed], np.bool_).reshape(size, size)
    leaves_open = np.isin(roles, (Role.BEGIN, Role.INSIDE))  # (L,) a span may go on after this tag
    if scheme == "iob1":
        independent = roles != Role.BEGIN  # (L,) allowed whatever the tag before it
        allowed = independent[None, :] | (leaves_open[:, None] & same_label)
        return independent, allowed, np.ones(size, np.bool_)
    starts = ~np.isin(roles, (Role.INSIDE, Role.END))  # (L,) continues no span
    continues = leaves_open[:, None] & same_label & ~starts[None, :]
    if scheme in SCHEMES_WITH_ENDS:
        return starts, np.where(leaves_open[:, None], continues, starts[None, :]), ~leaves_open
    return starts, starts[None, :] | continues, np.ones(size, np.bool_)


@dataclass(frozen=True)
class Transducer:
    """A finite-state transducer of K states that rewrites tags: each state reads one tag and writes one tag.

    A tag has one state, or two if its output depends on the tag before it.
    """

    outputs: Labels  # every tag that it can write
    input_ids: Ints  # (K,) the tag that a state reads
    output_ids: Ints  # (K,) the tag that a state writes, as an id of `outputs`
    initial: Mask  # (K,) True = may come first
    transitions: Mask  # (K, K) True = may follow one another, as [from, to]


def scheme_transducer(names: Sequence[str], source: str, target: str) -> Transducer:
    """Return the transducer that rewrites the tags `names` of the scheme `source` in the scheme `target`.

    `source` is one of `SCHEMES_WITH_ENDS`. The transducer forbids only what can't be written in `target`;
    `transition_mask` has the rules of `source`.
    """
    parsed = [parse_tag(name, source) for name in names]
    roles = np.array([role for role, _ in parsed], np.intp)
    labels = np.array([label for _, label in parsed], object)
    # IOB1 writes B for the first token of a span directly after one with the same label, and I elsewhere.
    begins = np.isin(roles, (Role.BEGIN, Role.SINGLE)) & (target == "iob1")  # (L,) needs a second state
    input_ids = np.concatenate([np.arange(len(names)), np.flatnonzero(begins)])
    adjacent = np.arange(len(input_ids)) >= len(names)  # (K,) the second states
    ends = np.isin(roles, (Role.END, Role.SINGLE))
    touching = ends[:, None] & begins & (labels[:, None] == labels)  # (L, L) as [from, to]

    def write(input_id: int, is_adjacent: bool) -> str:
        role, label = parsed[input_id]
        if role == Role.OUTSIDE:
            return OUTSIDE
        return f"{_LETTERS[target][Role.INSIDE if target == 'iob1' and not is_adjacent else role]}-{label}"

    written = [write(*state) for state in zip(input_ids.tolist(), adjacent.tolist(), strict=True)]
    outputs = Labels(dict.fromkeys(written))
    output_ids = np.array([outputs.id(tag) for tag in written], np.intp)
    return Transducer(
        outputs, input_ids, output_ids, ~adjacent, touching[np.ix_(input_ids, input_ids)] == adjacent)
