"""Label names, their ids, and the tagging schemes (IOB1, IOB2, IOBES and its dialects).

A label is any text, a tag is "O" or LETTER-label, a span is a stretch of tokens under one label. Nothing here
knows a model, a file format or a score.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rnntool.data.escaping import read_names, write_names
from rnntool.errors import ModelError

Mask = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.intp]

OUTSIDE = "O"

# the letters that begin, continue and end a span of several tokens, and the letter of a span of one token
_LETTERS = {
    "iob1": "BIIB",  # Ramshaw and Marcus (1995): B only where a span touches one of its label before it
    "iob2": "BIIB",
    "iobes": "BIES",
    "bilou": "BILU",
    "bmewo": "BMEW",
    "bmes": "BMES",
}
SCHEMES = tuple(_LETTERS)
_CLOSED = {scheme for scheme, letters in _LETTERS.items() if len(set(letters)) == 4}  # these mark the ends
_BEGIN, _INSIDE, _END, _SINGLE, _OUTSIDE = range(5)  # places in a string of _LETTERS, and what is in none


class Span(NamedTuple):
    """One labelled stretch of tokens: `start` counts from 0, `end` is the token after its last."""

    start: int
    end: int
    label: str


class Labels:
    """Ordered label names, each once, and their ids 0, 1, 2, …

    Raises ValueError where a name comes twice.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.names: tuple[str, ...] = tuple(names)
        self._ids = {name: index for index, name in enumerate(self.names)}
        if len(self._ids) != len(self.names):
            twice = next(name for name, count in Counter(self.names).items() if count > 1)
            raise ValueError(f"label {twice!r} comes twice")

    @classmethod
    def from_counts(cls, counts: Mapping[str, int]) -> Labels:
        """The names of `counts`, most frequent first; equally frequent ones in alphabetical order."""
        return cls(sorted(counts, key=lambda name: (-counts[name], name)))

    @classmethod
    def collect(cls, names: Iterable[str]) -> Labels:
        """Count the names and order them as `from_counts` does, whatever the order they came in."""
        return cls.from_counts(Counter(names))

    def id(self, name: str) -> int:
        """The id of `name`; KeyError where it is no label."""
        return self._ids[name]

    def get(self, name: str, default: int) -> int:
        """The id of `name`, or `default` where it is no label."""
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
        """Read what `save` wrote; ModelError where it is missing or damaged."""
        return load_labels(folder, [None])[0]


def save_labels(sets: Sequence[Labels], folder: Path) -> None:
    """Write labels.txt: the names of all sets in id order, which is that of a network's outputs."""
    write_names(folder / "labels.txt", chain.from_iterable(labels.names for labels in sets))


def load_labels(folder: Path, sizes: Sequence[int | None]) -> list[Labels]:
    """The sets that `save_labels` wrote, by their sizes; None takes the rest.

    ModelError where the file is missing or damaged.
    """
    path = folder / "labels.txt"
    names = iter(read_names(path))
    try:
        sets = [Labels(islice(names, size)) for size in sizes]
    except ValueError as error:
        raise ModelError(f"{path}: {error}, expected each label once; copy the model again") from error
    if any(size not in (None, len(labels)) for size, labels in zip(sizes, sets, strict=True)) or any(names):
        wanted = sum(filter(None, sizes))
        raise ModelError(f"{path}: expected {wanted} labels, found more or fewer; copy the model again")
    return sets


def detect_scheme(sequences: Iterable[Sequence[str]]) -> str | None:
    """The scheme that the tags are written in, or None for plain tags such as parts of speech.

    A scheme needs every tag to be "O" or LETTER-label, and one span at least. Letters beyond B and I name the
    scheme: the first of iobes, bilou, bmewo, bmes that has them all, None where none has. With B and I alone,
    a span that starts with I speaks for IOB1, and one that starts with a B that IOB1 has no use for (after no
    token of its label) for IOB2. The majority decides, so that one slip of an annotator does not turn a whole
    file, and a tie is IOB2.
    """
    letters: set[str] = set()
    iob1 = iob2 = 0  # spans that begin as only this scheme writes them
    for tags in sequences:
        before = ""
        for tag in tags:
            if tag == OUTSIDE:
                before = ""
                continue
            letter, dash, label = tag[:1], tag[1:2], tag[2:]
            if dash != "-" or not label:
                return None
            letters.add(letter)
            if label != before:
                iob1 += letter == "I"
                iob2 += letter == "B"
            before = label
    if not letters:
        return None
    if letters <= {"B", "I"}:
        return "iob1" if iob1 > iob2 else "iob2"
    return next((scheme for scheme, known in _LETTERS.items() if letters <= set(known)), None)


def spans(tags: Sequence[str], scheme: str, *, strict: bool = False) -> list[Span]:
    """The spans of one sequence, in order; a tag that `scheme` does not know is outside of every span.

    Tags that break the scheme are read as conlleval (Tjong Kim Sang, 2000) reads them: a tag continues the
    span of the tag before it where it may and begins one where it may not, and an end that nothing marks is
    an end. `strict` leaves out spans that do not begin and end with the letters of the scheme; IOB1 has no
    broken spans.
    """
    lenient = not strict or scheme == "iob1"
    unmarked_end = lenient or scheme not in _CLOSED
    found: list[Span] = []
    start, label, begun = -1, "", False  # of the span under way: none where start < 0; begun = by the rules
    for i, tag in enumerate(tags):
        role, name = _read(tag, scheme)
        if start < 0 or name != label or role not in (_INSIDE, _END):
            if start >= 0 and begun and unmarked_end:
                found.append(Span(start, i, label))
            start, label = (-1 if role == _OUTSIDE else i), name
            begun = lenient or role in (_BEGIN, _SINGLE)
        if role in (_END, _SINGLE):
            if begun:
                found.append(Span(start, i + 1, label))
            start = -1
    if start >= 0 and begun and unmarked_end:
        found.append(Span(start, len(tags), label))
    return found


def tags_from_spans(spans: Iterable[Span], n: int, scheme: str) -> list[str]:
    """The tags of `n` tokens with these spans; ValueError where spans overlap, are empty or lie outside."""
    begin, inside, end, single = (f"{letter}-" for letter in _LETTERS[scheme])
    tags = [OUTSIDE] * n
    last = Span(-1, 0, "")
    for span in sorted(spans):
        start, stop, label = span
        if not last.end <= start < stop <= n:
            raise ValueError(f"{span} is empty, overlaps {last} or leaves a sequence of {n} tokens")
        if stop - start == 1:
            tags[start] = single + label
        else:
            tags[start:stop] = [begin + label, *[inside + label] * (stop - start - 2), end + label]
        if scheme == "iob1" and (start, label) != (last.end, last.label):
            tags[start] = f"I-{label}"
        last = span
    return tags


def convert(tags: Sequence[str], source: str, target: str) -> list[str]:
    """The same spans in another scheme, lossless for valid tags; broken ones change as `spans` reads them."""
    return tags_from_spans(spans(tags, source), len(tags), target)


def transition_mask(names: Sequence[str], scheme: str | None) -> tuple[Mask, Mask, Mask]:
    """Which tags may begin a sequence (L,), follow one another (L, L) as [from, to], and end a sequence (L,).

    True = allowed. Names that the scheme does not know go as "O" does; scheme None allows everything.
    """
    size = len(names)
    if scheme is None:
        return np.ones(size, np.bool_), np.ones((size, size), np.bool_), np.ones(size, np.bool_)
    read = [_read(name, scheme) for name in names]
    roles = np.array([role for role, _ in read], dtype=np.intp)
    same = np.array([[a == b for _, b in read] for _, a in read], dtype=np.bool_).reshape(size, size)
    within = np.isin(roles, (_BEGIN, _INSIDE))  # (L,) a span is under way after this tag
    if scheme == "iob1":
        fresh = roles != _BEGIN  # (L,) may stand where no span of its label is under way
        return fresh, fresh[None, :] | (within[:, None] & same), np.ones(size, np.bool_)
    fresh = ~np.isin(roles, (_INSIDE, _END))
    onward = within[:, None] & same & ~fresh[None, :]
    if scheme in _CLOSED:
        return fresh, np.where(within[:, None], onward, fresh[None, :]), ~within
    return fresh, fresh[None, :] | onward, np.ones(size, np.bool_)


@dataclass(frozen=True)
class Spelling:
    """How tags of one scheme are written in another: a chain of K states, each of which writes one tag.

    A state stands for one of the L tags; for two states where what is written hangs on the tag before.
    """

    written: Labels  # all tags that are written
    tags: Ints  # (K,) which of the L tags a state stands for
    ids: Ints  # (K,) which of `written` it is written as
    first: Mask  # (K,) True = may begin a sequence, as far as writing goes
    onward: Mask  # (K, K) may follow one another, as [from, to]


def spelling(names: Sequence[str], source: str, target: str) -> Spelling:
    """How the tags `names` of `source`, which marks the ends of spans, are written in `target`."""
    read = [_read(name, source) for name in names]
    roles = np.array([role for role, _ in read], np.intp)
    types = np.array([label for _, label in read], object)
    begins = np.isin(roles, (_BEGIN, _SINGLE))
    # IOB1 writes B right behind a span of the label, which is a state of its own, and elsewhere I
    again = np.flatnonzero(begins) if target == "iob1" else np.empty(0, np.intp)
    tags = np.concatenate([np.arange(len(names)), again])
    touching = np.arange(len(tags)) >= len(names)  # (K,)
    ends = np.isin(roles, (_END, _SINGLE))
    behind = ends[:, None] & np.isin(np.arange(len(names)), again) & (types[:, None] == types)  # (from, to)

    def write(tag: int, touching: bool) -> str:
        role, label = read[tag]
        if role == _OUTSIDE:
            return OUTSIDE
        return f"{_LETTERS[target][_INSIDE if target == 'iob1' and not touching else role]}-{label}"

    spelt = [write(*state) for state in zip(tags.tolist(), touching.tolist(), strict=True)]
    written = Labels(dict.fromkeys(spelt))
    ids = np.array([written.id(tag) for tag in spelt], np.intp)
    return Spelling(written, tags, ids, ~touching, behind[np.ix_(tags, tags)] == touching)


@lru_cache(maxsize=10_000)
def _read(tag: str, scheme: str) -> tuple[int, str]:
    role = _LETTERS[scheme].find(tag[0]) if tag[1:2] == "-" else -1
    return (role, tag[2:]) if role >= 0 else (_OUTSIDE, "")
