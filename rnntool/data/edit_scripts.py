"""Edit scripts that turn a word's form into its lemma: a change of case, then edits at both ends.

A script says how many characters it removes, not which ones, so that it applies to new words. It is written
as a person can read it: `lower …---+y` lowercases the word and replaces its last three characters by y.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

from rnntool.data.alignment import common_subsequence

MIDDLE = "…"  # the characters between the edits, which stay
KEEP, DELETE, INSERT = "=-+"  # edits of one character; INSERT is followed by the new one
LITERAL = "lemma "  # begins a script that gives the same lemma whatever the form
LONGEST = 64  # characters of a form or lemma to align; longer ones are copied or literal


def _lower_turkic(text: str) -> str:
    """Lowercase as Turkish and Azerbaijani do: İ becomes i, and I becomes an i without a dot."""
    return text.replace("I\u0307", "i").replace("İ", "i").replace("I", "\u0131").lower()


def _title(text: str) -> str:
    return text[:1].upper() + text[1:].lower()


CASINGS: dict[str, Callable[[str], str]] = {
    "": str, "lower": str.lower, "lower-turkic": _lower_turkic, "title": _title, "upper": str.upper}


@dataclass(frozen=True, slots=True)
class EditScript:
    """A change of case, one of `CASINGS`, and the edits before and after the middle.

    With a `literal`, the lemma is that text whatever the form. Edits are one or two characters each: `=`
    keeps a character, `-` removes one, and `+x` inserts x.
    """

    casing: str = ""
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    literal: str | None = None

    def __str__(self) -> str:
        if self.literal is not None:
            return LITERAL + self.literal
        casing = self.casing and f"{self.casing} "
        return f"{casing}{''.join(self.before)}{MIDDLE}{''.join(self.after)}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `str` wrote; `ValueError` for anything else."""
        if text.startswith(LITERAL):
            return cls(literal=text.removeprefix(LITERAL))
        casing, space, rest = text.partition(" ")
        if not space or casing not in CASINGS:
            casing, rest = "", text
        edits: list[str] = []
        middle = None
        characters = iter(rest)
        for character in characters:
            if character == MIDDLE and middle is None:
                middle = len(edits)
            elif character in (KEEP, DELETE):
                edits.append(character)
            elif character == INSERT and (inserted := next(characters, "")):
                edits.append(INSERT + inserted)
            else:
                raise ValueError(f"{text!r} is no edit script")
        if middle is None:
            raise ValueError(f"{text!r} is no edit script")
        return cls(casing, tuple(edits[:middle]), tuple(edits[middle:]))

    def apply(self, form: str) -> str | None:
        """Return the lemma of a form; None if the form is too short for the edits."""
        if self.literal is not None:
            return self.literal
        text = CASINGS[self.casing](form)
        first, last = _length(self.before), len(text) - _length(self.after)
        if first >= last:
            return None
        return _edited(text[:first], self.before) + text[first:last] + _edited(text[last:], self.after)


def candidates(form: str, lemma: str) -> Iterator[EditScript]:
    """Return scripts that turn the form into the lemma, without duplicates, the plainest first.

    They keep a longest common substring of both, at any of its places. There is always at least one.
    """
    yield from dict.fromkeys(_candidates(form, lemma))


def learn(pairs: Iterable[tuple[str, str]]) -> list[EditScript]:
    """Choose scripts that turn each form into its lemma: few of them, the most frequent first.

    Of the scripts of a pair, the one that fits most pairs is chosen, so that rare scripts disappear.
    """
    candidates_of = [list(candidates(*pair)) for pair in set(pairs)]
    counts = Counter(script for scripts in candidates_of for script in scripts)
    casings = Counter[str]()  # on ties, the casing of a frequent script wins
    for script, count in counts.items():
        casings[script.casing] = max(casings[script.casing], count)

    def rank(script: EditScript) -> tuple[int, int, str]:
        return -counts[script], -casings[script.casing], str(script)

    for _ in range(2):  # the second time, scripts that few pairs chose are gone
        counts = Counter([min(scripts, key=rank) for scripts in candidates_of])
    return sorted(counts, key=rank)


def _candidates(form: str, lemma: str) -> Iterator[EditScript]:
    longest_kept = 0
    if lemma:
        for casing in CASINGS:
            text = CASINGS[casing](form)
            if text == lemma:
                yield EditScript(casing)
                longest_kept = len(lemma)
            elif max(len(text), len(lemma)) <= LONGEST:
                size, places = _common_substrings(text, lemma)
                longest_kept = max(longest_kept, size)
                for i, j in places:
                    before, after = (text[:i], lemma[:j]), (text[i + size :], lemma[j + size :])
                    yield EditScript(casing, _replacement(*before), _replacement(*after))
                    yield EditScript(casing, _alignment(*before), _alignment(*after))
    if 2 * longest_kept <= len(lemma):
        yield EditScript(literal=lemma)


def _common_substrings(a: str, b: str) -> tuple[int, list[tuple[int, int]]]:
    """Return the length of the longest common substrings, and where each of them begins in both texts."""
    for size in range(min(len(a), len(b)), 0, -1):
        places = [(i, j) for j in range(len(b) - size + 1) if b[j : j + size] in a
                  for i in range(len(a) - size + 1) if a.startswith(b[j : j + size], i)]
        if places:
            return size, places
    return 0, []


def _replacement(old: str, new: str) -> tuple[str, ...]:
    """Return the edits that remove all of one text and insert all of another."""
    return (*(DELETE for _ in old), *(INSERT + character for character in new))


@lru_cache(maxsize=1 << 14)
def _alignment(old: str, new: str) -> tuple[str, ...]:
    """Return the edits that keep as many characters as possible."""
    edits: list[str] = []
    i = j = 0
    for a, b in common_subsequence(old, new):
        edits += (*_replacement(old[i:a], new[j:b]), KEEP)
        i, j = a + 1, b + 1
    return (*edits, *_replacement(old[i:], new[j:]))


def _length(edits: tuple[str, ...]) -> int:
    """Return the number of characters that the edits read."""
    return sum(edit in (KEEP, DELETE) for edit in edits)


def _edited(text: str, edits: tuple[str, ...]) -> str:
    characters = iter(text)
    edited = []
    for edit in edits:
        if edit[0] == INSERT:
            edited.append(edit[1])
        else:
            character = next(characters)
            if edit == KEEP:
                edited.append(character)
    return "".join(edited)
