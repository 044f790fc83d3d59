"""Made-up training pairs with random stems (Anastasopoulos and Neubig 2019). Knows no tokens.

What a source and its target have in common is taken to be the stem. In inflection, the last letters of a stem
and its vowels often decide about the affixes (as in vowel harmony), so some of them stay as they are.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from difflib import SequenceMatcher
from itertools import pairwise

from rnntool.data.records import Transduction

SHORTEST_STEM = 3  # letters that a source and its target have in common
LONGEST_END = 3  # letters at the end of a stem that may stay
SAME_VOWELS = 0.6  # share of the made-up pairs in which all vowels stay
ANY_LETTER = 0.5  # share of the made-up pairs in which all letters are equally likely


def hallucinated(pairs: Sequence[Transduction], count: int, generator: random.Random) -> list[Transduction]:
    """Make up `count` pairs that are like `pairs`, which have one target each; none if no source has letters.

    Each has random letters in place of its stem. If the stem is followed by a change, up to `LONGEST_END` of
    its last letters stay. In a share of `SAME_VOWELS`, all vowels stay as well. Stems of fewer than
    `SHORTEST_STEM` letters stay, because they may be affixes or chance. Letters are as likely as in
    `pairs`, but in a share of `ANY_LETTER` equally likely, so that the network learns to copy rare ones.
    """
    if not count:
        return []
    letters = [letter for pair in pairs for letter in pair.source if letter.isalpha()]
    vowels = vowels_of(pair.source for pair in pairs)
    consonants = [letter for letter in letters if letter.lower() not in vowels]
    letter_types, consonant_types = sorted(set(letters)), sorted(set(consonants))

    def made_up() -> Transduction:
        pair = generator.choice(pairs)
        keep = vowels if consonants and generator.random() < SAME_VOWELS else frozenset()
        drawn = consonants if keep else letters
        if generator.random() < ANY_LETTER:
            drawn = consonant_types if keep else letter_types
        source, (target, *_) = pair.source, pair.targets
        sides = list(source), list(target)
        for i, j, size in SequenceMatcher(None, source, target, autojunk=False).get_matching_blocks():
            if size < SHORTEST_STEM:
                continue
            is_changed_after = i + size < len(source) or j + size < len(target)
            end = generator.randint(0, LONGEST_END) if is_changed_after else 0
            for k in range(size - end):
                if source[i + k].isalpha() and source[i + k].lower() not in keep:
                    sides[0][i + k] = sides[1][j + k] = generator.choice(drawn)
        return replace(pair, source="".join(sides[0]), targets=("".join(sides[1]),))

    return [made_up() for _ in range(count if letters else 0)]


def vowels_of(texts: Iterable[str]) -> frozenset[str]:
    """Find the vowels of an alphabet, in lower case: they tend to alternate with consonants (Sukhotin 1962).

    The letter with the most neighbors is a vowel. After that, being its neighbor counts against a letter.
    """
    neighbors: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for text in texts:
        for one, other in pairwise(text.lower()):
            if one != other and one.isalpha() and other.isalpha():
                neighbors[one][other] += 1
                neighbors[other][one] += 1
    scores = {letter: counts.total() for letter, counts in neighbors.items()}
    vowels = set[str]()
    while scores and scores[best := max(scores, key=lambda letter: (scores[letter], letter))] > 0:
        vowels.add(best)
        del scores[best]
        for letter in scores:
            scores[letter] -= 2 * neighbors[best][letter]
    return frozenset(vowels)
