"""The metrics of the CoNLL 2018 shared task (Zeman et al., 2018): segmentation, tags, lemmas and trees.

They compare the output of a system with a gold treebank. The system may have split the text differently, so
tokens are compared by their characters. The words of a multiword token have no characters of their own and
are aligned by a longest common subsequence of their forms. All numbers equal those of the official script,
`conll18_ud_eval.py` 1.2, including its choices where several alignments are possible. Knows no model.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

from rnntool.data.alignment import common_subsequence
from rnntool.data.treebank import Span, Treebank, Word
from rnntool.errors import DataError
from rnntool.evaluation.metrics import ratio

CONTENT_RELATIONS = frozenset({
    "acl", "advcl", "advmod", "amod", "appos", "ccomp", "compound", "conj", "csubj", "dep", "discourse",
    "dislocated", "expl", "fixed", "flat", "goeswith", "iobj", "list", "nmod", "nsubj", "nummod", "obj",
    "obl", "orphan", "parataxis", "reparandum", "root", "vocative", "xcomp"})
FUNCTIONAL_RELATIONS = frozenset({"aux", "case", "cc", "clf", "cop", "det", "mark"})
UNIVERSAL_FEATURES = frozenset({  # of UD 2.2; the metrics ignore others
    "Abbr", "Animacy", "Aspect", "Case", "Definite", "Degree", "Evident", "Foreign", "Gender", "Mood",
    "NumType", "Number", "Person", "Polarity", "Polite", "Poss", "PronType", "Reflex", "Tense", "VerbForm",
    "Voice"})
SPAN_METRICS = ("Tokens", "Sentences", "Words")
WORD_METRICS = {  # what must be equal in two aligned words
    "UPOS": ("upos",),
    "XPOS": ("xpos",),
    "UFeats": ("feats",),
    "AllTags": ("upos", "xpos", "feats"),
    "Lemmas": ("lemma",),
    "UAS": ("head",),
    "LAS": ("head", "relation"),
}
CONTENT_METRICS = {  # the same over words with a content relation
    "CLAS": ("head", "relation"),
    "MLAS": ("head", "relation", "upos", "feats", "function_words"),
    "BLEX": ("head", "relation", "lemma"),
}
_COLUMNS = {"relation": "deprel", "function_words": "deprel"}  # of fields with another name
_UNALIGNED = -1  # index of the gold word for a system word that is aligned with none
_EXCERPT = 20  # characters in a message
_Pairs = list[tuple[int, int]]  # indices of a gold word and of the system word that is aligned with it


class Score(NamedTuple):
    """Counts of correct, gold and system units; `aligned` is the number of aligned words, None for spans."""

    correct: int
    gold: int
    system: int
    aligned: int | None = None

    def report(self) -> dict[str, Any]:
        """Return precision, recall, F1, the accuracy of aligned words, and the counts."""
        return {
            "precision": ratio(self.correct, self.system),
            "recall": ratio(self.correct, self.gold),
            "f1": ratio(2 * self.correct, self.gold + self.system),
            "aligned_accuracy": None if self.aligned is None else ratio(self.correct, self.aligned),
            **self._asdict(),
        }


class _Analysis(NamedTuple):
    """What is compared of a word; other words are represented by the gold word aligned with them."""

    upos: str
    xpos: str
    feats: str  # universal features only
    lemma: str
    head: int | None  # None for a root
    relation: str  # without subtype
    function_words: tuple[tuple[int, str, str, str], ...]  # index, relation, UPOS and features

    @property
    def is_content(self) -> bool:
        return self.relation in CONTENT_RELATIONS


def scores(gold: Treebank, system: Treebank) -> dict[str, Score]:
    """Return the score of each metric by its name.

    Metrics of trees are left out if a treebank has no heads. `DataError` if the texts differ.
    """
    _check_text(gold, system)
    pairs = aligned_words(gold.words, system.words)
    gold_side = _analyses(gold.words, {i: i for i in range(len(gold.words))})
    system_side = _analyses(system.words, {s: g for g, s in pairs})
    compared = [(gold_side[g], system_side[s]) for g, s in pairs]
    # any lemma is correct where the gold treebank has none
    compared = [(g, s._replace(lemma="_") if g.lemma == "_" else s) for g, s in compared]
    result = {  # of SPAN_METRICS
        "Tokens": _span_score(gold.tokens, system.tokens),
        "Sentences": _span_score(gold.sentences, system.sentences),
        "Words": Score(len(pairs), len(gold.words), len(system.words)),
    }
    content = [(g, s) for g, s in compared if g.is_content]
    totals = len(gold.words), len(system.words)
    content_totals = sum(g.is_content for g in gold_side), sum(s.is_content for s in system_side)
    for metrics, words, (gold_total, system_total) in (
        (WORD_METRICS, compared, totals), (CONTENT_METRICS, content, content_totals),
    ):
        for name, fields in metrics.items():
            if "head" not in fields or (gold.has_heads and system.has_heads):
                key = attrgetter(*fields)
                correct = sum(key(g) == key(s) for g, s in words)
                result[name] = Score(correct, gold_total, system_total, len(words))
    return result


def tag_scores(
    gold: Mapping[str, Sequence[Sequence[str]]], predicted: Mapping[str, Sequence[Sequence[str]]]
) -> dict[str, float]:
    """Return the F1 of tags that were predicted for gold words, by the names of metrics such as UPOS.

    Columns are `lemma`, `upos`, `xpos`, `feats`, `head` and `deprel`, each with a tag for every word of every
    sentence; others are ignored. Metrics of columns that are missing are left out. Raises `ValueError` if
    lengths differ.
    """
    result = scores(*map(_tagged_words, (gold, predicted)))
    return {name: result[name].report()["f1"] for name in metrics_of(gold) if name in result}


def metrics_of(columns: Collection[str]) -> list[str]:
    """Return the names of the metrics of words that depend on these columns alone."""
    return [name for name, fields in (WORD_METRICS | CONTENT_METRICS).items()
            if {_COLUMNS.get(field, field) for field in fields} <= set(columns)]


def _tagged_words(columns: Mapping[str, Sequence[Sequence[str]]]) -> Treebank:
    """Return a treebank of words with tags alone, each a token of one character."""
    names = ("lemma", "upos", "xpos", "feats", "head", "deprel")
    sizes = list(map(len, next(iter(columns.values()), [])))
    unknown = [[""] * size for size in sizes]
    words: list[Word] = []
    for sentence in zip(*(columns.get(name, unknown) for name in names), strict=True):
        first = len(words)
        for lemma, upos, xpos, feats, head, deprel in zip(*sentence, strict=True):
            words.append(Word(
                form="", lemma=lemma, upos=upos, xpos=xpos, feats=feats, deprel=deprel, in_range=False,
                head=first + int(head) - 1 if int(head or 0) else None,
                token=Span(len(words), len(words) + 1)))
    return Treebank(words=words, has_heads="head" in columns)


def _check_text(gold: Treebank, system: Treebank) -> None:
    """Raise `DataError` at the first token of the system whose characters differ from the gold text."""
    if gold.text == system.text:
        return
    shorter = min(len(gold.text), len(system.text))
    at = next((i for i in range(shorter) if gold.text[i] != system.text[i]), shorter)
    (gold_place, gold_text), (system_place, system_text) = _text_at(gold, at), _text_at(system, at)
    raise DataError(place=system_place, expected=f"{gold_text} as at {gold_place}", found=system_text,
                    advice="give files with the same text")


def _text_at(treebank: Treebank, at: int) -> tuple[str, str]:
    """Return the place of a character, and how the text continues from there."""
    token = next((i for i, span in enumerate(treebank.tokens) if at < span.end), -1)
    excerpt = treebank.text[at : at + _EXCERPT]
    return treebank.places[token], repr(excerpt) if excerpt else "the end of the text"


def _span_score(gold: Sequence[Span], system: Sequence[Span]) -> Score:
    return Score(len(set(gold) & set(system)), len(gold), len(system))


def _analyses(words: Sequence[Word], gold_of: Mapping[int, int]) -> list[_Analysis]:
    """Return what is compared of each word; `gold_of` maps words to the gold words aligned with them."""
    feats = ["|".join(sorted(feature for feature in word.feats.split("|")
                             if feature.partition("=")[0] in UNIVERSAL_FEATURES)) for word in words]
    relations = [word.deprel.partition(":")[0] for word in words]
    function_words: list[list[tuple[int, str, str, str]]] = [[] for _ in words]
    for i, word in enumerate(words):
        if word.head is not None and relations[i] in FUNCTIONAL_RELATIONS:
            function_words[word.head].append(
                (gold_of.get(i, _UNALIGNED), relations[i], word.upos, feats[i]))
    return [_Analysis(
        upos=word.upos, xpos=word.xpos, feats=feats[i], lemma=word.lemma,
        head=None if word.head is None else gold_of.get(word.head, _UNALIGNED),
        relation=relations[i], function_words=tuple(function_words[i])) for i, word in enumerate(words)]


# --- Alignment ---------------------------------------------------------------------------------------------


def aligned_words(gold: Sequence[Word], system: Sequence[Word]) -> _Pairs:
    """Align words of the same text: by their characters, and in regions of multiword tokens by their forms.

    A region is as small as possible, but no multiword token of either side is partly outside.
    """
    pairs: _Pairs = []
    g = s = 0
    while g < len(gold) and s < len(system):
        one, other = gold[g], system[s]
        if one.in_range or other.in_range:
            # a word that begins before the region is not in it
            if one.in_range and not other.in_range and other.token.start < one.token.start:
                s += 1
            elif other.in_range and not one.in_range and one.token.start < other.token.start:
                g += 1
            g_end, s_end = _region_end(gold, system, g, s, (one if one.in_range else other).token.end)
            region = _forms(gold[g:g_end]), _forms(system[s:s_end])
            pairs += ((g + i, s + j) for i, j in common_subsequence(*region))
            g, s = g_end, s_end
        elif one.token == other.token:
            pairs.append((g, s))
            g, s = g + 1, s + 1
        elif one.token.start <= other.token.start:
            g += 1
        else:
            s += 1
    return pairs


def _region_end(gold: Sequence[Word], system: Sequence[Word], g: int, s: int, end: int) -> tuple[int, int]:
    """Return the words after the region that starts at `g` and `s` and reaches at least to `end`."""
    while _is_inside(gold, g, end) or _is_inside(system, s, end):
        from_gold = s >= len(system) or (g < len(gold) and gold[g].token.start <= system[s].token.start)
        word = gold[g] if from_gold else system[s]
        if word.in_range:
            end = max(end, word.token.end)
        g, s = (g + 1, s) if from_gold else (g, s + 1)
    return g, s


def _is_inside(words: Sequence[Word], i: int, end: int) -> bool:
    """Whether a word is in a region up to `end`; a multiword token counts if it begins there."""
    if i >= len(words):
        return False
    token = words[i].token
    return token.start < end if words[i].in_range else token.end <= end


def _forms(words: Sequence[Word]) -> list[str]:
    return [word.form.lower() for word in words]
