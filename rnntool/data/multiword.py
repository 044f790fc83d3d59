"""Split multiword tokens into words: by a table of forms, or by the affixes of similar forms.

English `don't` may be `do` and `n't`, and Turkish `evdeki` is `evde` and `ki`. Both are learned from tokens
and their words. The table also has tokens that were always one word, because a token that occurred in one way
alone hardly ever occurs in another.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import NamedTuple, Self

from rnntool.data.escaping import read_escaped_rows, write_escaped_rows
from rnntool.data.model_file import damaged

FILE = "multiword.txt"
LONGEST_AFFIX = 8  # characters at the end or the beginning of a token that are compared
Words = tuple[str, ...]


class Rule(NamedTuple):
    """How to split a token: remove a prefix and a suffix, and write the rest, the stem, into a word.

    `before` and `after` are the parts around the stem in the word `at`; `words` has "" there.
    """

    prefix: str
    suffix: str
    words: Words
    at: int
    before: str
    after: str

    @classmethod
    def all_of(cls, token: str, words: Words) -> list[Self]:
        """Return the rules that split a token like this, the one with the longest stem first."""
        rules = []
        for at, word in enumerate(words):
            start, in_word, size = SequenceMatcher(None, token, word, autojunk=False).find_longest_match()
            rules.append((size, cls(
                token[:start], token[start + size :], (*words[:at], "", *words[at + 1 :]), at,
                word[:in_word], word[in_word + size :])))
        return [rule for size, rule in sorted(rules, key=lambda pair: -pair[0]) if size]

    def apply(self, token: str) -> Words | None:
        """Return the words of a token; None if it has other affixes, or no stem."""
        end = len(token) - len(self.suffix)
        if len(self.prefix) >= end or not (token.startswith(self.prefix) and token.endswith(self.suffix)):
            return None
        words = list(self.words)
        words[self.at] = self.before + token[len(self.prefix) : end] + self.after
        return tuple(words)


class MultiwordSplitter:
    """Splits known tokens as the training data does, and unknown ones like similar tokens."""

    def __init__(self, forms: Mapping[str, tuple[Words, int]], single: Mapping[str, int]) -> None:
        """`forms` has the most frequent words of each multiword token, and how often these occur.

        `single` says how often tokens occur as one word, at least of those that might be split.
        """
        self.forms = forms
        self.single = single

    @cached_property
    def _lower(self) -> Mapping[str, Words]:
        """The words of multiword tokens in lower case."""
        lower: defaultdict[str, Counter[Words]] = defaultdict(Counter)
        for form, (words, count) in self.forms.items():
            lower[form.lower()][tuple(map(str.lower, words))] += count
        return {form: words.most_common(1)[0][0] for form, words in lower.items()}

    @cached_property
    def _lower_single(self) -> Collection[str]:
        return set(map(str.lower, self.single))

    @cached_property
    def _rules(self) -> Mapping[tuple[str, str], Counter[Rule]]:
        """The rules by which forms with an affix are split, each with the number of these forms."""
        rules: defaultdict[tuple[str, str], Counter[Rule]] = defaultdict(Counter)
        for form, words in self._lower.items():
            own = Rule.all_of(form, words)
            for affix in _affixes(form):
                rules[affix].update(own)
        return dict(rules)

    @classmethod
    def learn(cls, tokens: Iterable[tuple[str, Words]]) -> Self:
        """Learn from the tokens of a treebank and their words."""
        counts: defaultdict[str, Counter[Words]] = defaultdict(Counter)
        single: Counter[str] = Counter()
        for form, words in tokens:
            if len(words) > 1:
                counts[form][words] += 1
            else:
                single[form] += 1
        splitter = cls({form: words.most_common(1)[0] for form, words in sorted(counts.items())}, {})
        splitter.single = {form: count for form, count in sorted(single.items())
                           if len(splitter.split(form)) > 1}
        return splitter

    def words(self, token: str, *, is_multiword: bool) -> Sequence[str]:
        """Return the words of a token that a network takes for a multiword token or not.

        The network decides only if the token, or else its lower-case form, is unknown or occurred in both
        ways.
        """
        lower = token.lower()
        for form, multiword, single in ((token, self.forms, self.single),
                                        (lower, self._lower, self._lower_single)):
            if form in multiword or form in single:
                is_multiword = form in multiword and (is_multiword or form not in single)
                break
        return self.split(token) if is_multiword else [token]

    def split(self, token: str) -> Sequence[str]:
        """Return the words of a multiword token: the token itself if nothing like it was learned."""
        if token in self.forms:
            return self.forms[token][0]
        words = self._split_lower(token.lower())
        return [token] if words is None else _cased(words, token)

    def _split_lower(self, token: str) -> Words | None:
        if token in self._lower:
            return self._lower[token]
        for affix in _affixes(token):
            for rule, _ in self._rules.get(affix, Counter[Rule]()).most_common():
                if words := rule.apply(token):
                    return words
        return None

    @property
    def size(self) -> int:
        """The number of known multiword tokens and tokens of one word."""
        return len(self.forms) + len(self.single)

    def save(self, folder: Path) -> None:
        """Write the forms, if there are any."""
        if self.forms:
            write_escaped_rows(folder / FILE, chain(
                ((str(count), form, *words) for form, (words, count) in self.forms.items()),
                ((str(count), form, form) for form, count in self.single.items())))

    @classmethod
    def load(cls, folder: Path, size: int) -> Self:
        """Read what `save` wrote of a splitter of this size; `ModelError` if it is damaged."""
        forms: dict[str, tuple[Words, int]] = {}
        single: dict[str, int] = {}
        for row in read_escaped_rows(folder / FILE) if size else ():
            if len(row) < 3 or not (row[0].isascii() and row[0].isdecimal()):
                raise damaged(folder / FILE, expected="a number, a form and its words", found=repr(row[:3]))
            count, form, *words = row
            if len(words) > 1:
                forms[form] = tuple(words), int(count)
            else:
                single[form] = int(count)
        splitter = cls(forms, single)
        if splitter.size != size:
            raise damaged(folder / FILE, expected=f"{size} forms", found=splitter.size)
        return splitter


def _affixes(token: str) -> Iterator[tuple[str, str]]:
    """Yield the ends and the beginnings of a token, the longest first; the empty affix is left out."""
    for size in range(min(len(token), LONGEST_AFFIX), 0, -1):
        yield "suffix", token[-size:]
        yield "prefix", token[:size]


def _cased(words: Words, token: str) -> list[str]:
    """Restore the capitals of `token` in its lower-case words."""
    if token == token.lower():
        return list(words)
    if len(token) > 1 and token == token.upper():
        return [word.upper() for word in words]
    if "".join(words) == token.lower() and len(token.lower()) == len(token):  # words are parts of the token
        starts = [sum(map(len, words[:i])) for i in range(len(words))]
        return [token[start : start + len(word)] for start, word in zip(starts, words, strict=True)]
    first = words[0][:1].upper() if token[:1] != token[:1].lower() else words[0][:1]
    return [first + words[0][1:], *words[1:]]
