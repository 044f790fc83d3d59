"""Pretokenizer: splits raw text into words with character offsets, by rules for English and other scripts.

Knows no vocabulary and no labels. The conventions are those of the Penn Treebank as applied in the English
Web Treebank (Bies et al., 2012; Silveira et al., 2014). The rules match a simplified copy of the text, of the
same length, in which characters that they don't distinguish look alike (marks, ideographs, apostrophes,
digits). A rule that can match long runs starts only at the beginning of a run, so the time is linear in the
length of any text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import cache
from itertools import chain, pairwise
from typing import cast

# Stand-ins in the simplified copy; to `re`, all of them are letters.
MARK, JOINER, IDEOGRAPH, UNSPACED = "\u02d0", "\u02d1", "\u4e00", "\u30a2"
IDEOGRAPHIC_NAMES = ("CJK UNIFIED", "CJK COMPATIBILITY IDEOGRAPH", "IDEOGRAPHIC ITERATION", "HIRAGANA LETTER")
UNSPACED_NAMES = ("KATAKANA", "HALFWIDTH KATAKANA", "THAI CHARACTER", "LAO", "KHMER", "MYANMAR")


def split_words(text: str) -> list[tuple[int, int]]:
    """Return the spans (start, end) of the words, in characters of the original text.

    The spans are in order, do not overlap, and cover everything but white space. `don't` becomes `do` and
    `n't`, the final period is a word, `Mr.` keeps its period, and each ideograph is a word.
    """
    simplified = text if text.isascii() else text.translate(_SIMPLIFIED)
    return [match.span() for match in _word_pattern().finditer(simplified)]


def surface_forms(text: str) -> list[str]:
    """Return the words that `split_words` finds, as text. Faster if the text repeats words.

    A stretch without white space is split the same way in any context, so the result is cached. Exceptions
    are a stretch that ends in a letter and a period, which may be an abbreviation or the end of the text, and
    one that contains `its`.
    """
    words = list(map(_CHUNKS.__getitem__, text.split()))
    if None in words:
        return [text[start:end] for start, end in split_words(text)]
    return list(chain.from_iterable(cast("list[tuple[str, ...]]", words)))


class _ChunkCache(dict[str, "tuple[str, ...] | None"]):
    """Maps text without white space to its words, or to None if they depend on the context."""

    MAX_SIZE = 1 << 16  # the cache is cleared then, so that memory stays constant

    def __missing__(self, chunk: str) -> tuple[str, ...] | None:
        if len(self) >= self.MAX_SIZE:
            self.clear()
        depends_on_context = _CONTEXT_DEPENDENT.search(chunk.translate(_SIMPLIFIED))
        words = None if depends_on_context else tuple(chunk[start:end] for start, end in split_words(chunk))
        self[chunk] = words
        return words


_CHUNKS = _ChunkCache()
# Only rules that start with one of these look beyond white space.
_CONTEXT_DEPENDENT = re.compile(r"[^\W\d_]\.[)\]\"'”]*+\Z|(?i:its)")


def contractions(text: str, words: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the groups of words that treebanks write as one token, as indices (first, last + 1).

    `do` and `n't` are a group, and `he` and `'s`; `5` and `pm` are not, although no space is between them.
    """
    groups: list[tuple[int, int]] = []
    for i, ((start, end), (next_start, next_end)) in enumerate(pairwise(words)):
        if end == next_start and _is_contraction(text[start:end], text[next_start:next_end]):
            first = groups.pop()[0] if groups and groups[-1][1] == i + 1 else i
            groups.append((first, i + 2))
    return groups


def _is_contraction(host: str, clitic: str) -> bool:
    """Whether two adjacent words are a contraction."""
    host, clitic = host.lower(), clitic.lower().translate(_APOSTROPHES)
    if clitic[:1] == "'":
        return clitic[1:] in _CLITICS and host[-1:].isalpha()
    return clitic == "n't" or (host, clitic) in _CONTRACTIONS


class _Simplified(dict[int, str]):
    """Maps a code point to its stand-in in the simplified copy; filled as characters occur."""

    def __missing__(self, code_point: int) -> str:
        stand_in = self[code_point] = _stand_in(chr(code_point))
        return stand_in


def _stand_in(char: str) -> str:
    category, name = unicodedata.category(char), unicodedata.name(char, "")
    if category == "Nd":
        return str(unicodedata.decimal(char))
    if name.startswith(IDEOGRAPHIC_NAMES):
        return IDEOGRAPH
    if category[0] == "M" or name.startswith("EMOJI MODIFIER") or (category == "Cf" and char != "\u200b"):
        return MARK
    return UNSPACED if category[0] == "L" and name.startswith(UNSPACED_NAMES) else char


# Curly quotes, Arabic decimal and thousands separators, and the joiner of emoji.
_SIMPLIFIED = _Simplified({0x2018: "`", 0x2019: "'", 0x066B: ".", 0x066C: ",", 0x200D: JOINER})

ABBREVIATIONS = """adm al approx apr arrv asst attn aug ave bldg blvd bros capt cf cmdr co col conf corp
    ct dec dept det dr eg esp esq est etc ext feb fig figs fri ft gen gov hon hrs ie inc jan jr jul jun lt
    ltd maj messrs mr mrs ms mt mts mx nov oct oz para ph pl prof pvt rd reps rev sec sen sens sept sgt sr
    st ste tel thur thurs tue tues univ viz vol vols vs wed yr yrs"""
BEFORE_NUMBERS = "art ch eq ex mar mon no nos p pg pp sat sun"  # abbreviations before a number only
PREFIXES = """anti co counter cyber e ex extra infra inter intra macro mega meta micro mid mini mis mono
    multi neo non over para post pre pro proto pseudo psycho quasi re semi socio sub super trans tri ultra
    un under uni"""
DOMAINS = "com org net edu gov mil info biz int eu uk us ca de fr au nz ie jp cn ru br es nl ch se io tv"
EXTENSIONS = "doc docx xls xlsx ppt pptx pdf txt rtf csv html htm xml jpg jpeg gif png zip exe mp3 py url"
UNITS = """a.m am b bn cc cm day days fps ft g gb ghz hh hr hrs hz inch inches k kb kg khz km kw kwh lb
    lbs m mb mg mhz mi mile miles min mins minute minutes ml mm mph mw mwh oz p.m percent persons pm sec
    secs sqft t tb v watt watts x yr yrs years"""
CLITICS = "d ll m ma re s ve"  # after an apostrophe; `I'ma` has two of them
BARE_CLITICS = {
    "nt": "ai are ca could did do does had has have is should was were wo would",
    "s": "he here how let she that there what where who",
    "m": "i",
    "re": "they you",
    "ve": "i they we you",
    "not": "can",
    "na": "gon wan",
    "ta": "got out",
    "me": "gim lem",
    "lot": "a",
}  # clitics without an apostrophe, and the words that they follow
AFTER_ITS = "a all also an been definitely just like not really simply so still the very"  # means `it is`

_APOSTROPHES = {ord("`"): "'", ord("\u2019"): "'"}
_CLITICS = frozenset(CLITICS.split())
_BARE = [(host, clitic) for clitic, hosts in BARE_CLITICS.items() for host in hosts.split()]
_CONTRACTIONS = (set(_BARE) - {("a", "lot")}) | {("it", "s")}  # `alot` is two words without a space


def _any(words: str) -> str:
    return f"(?i:{'|'.join(sorted(map(re.escape, words.split()), key=len, reverse=True))})"  # longest first


@cache
def _word_pattern() -> re.Pattern[str]:
    word_char = rf"[^\W{IDEOGRAPH}{UNSPACED}]"
    letter = rf"[^\W\d_{IDEOGRAPH}{UNSPACED}]"
    begin, end = f"(?<!{word_char})", f"(?!{word_char})"
    not_last = r"(?![\s)\]\"'”]*+\Z)"  # the last period of a text does not belong to an abbreviation
    marked_clitic = f"{_any(CLITICS)}{end}"
    number = r"\d++(?:[.,:]\d++)*+"
    bare_clitic_hosts = [
        *(f"{_any(hosts)}(?={_any(clitic)}{end})" for clitic, hosts in BARE_CLITICS.items()),
        rf"(?i:it)(?=(?i:s)\s++{_any(AFTER_ITS)}{end})",
    ]
    contracted = [host + clitic for host, clitic in _BARE] + ["its"]
    cased = "|".join(case(word) for word in contracted for case in (str.lower, str.capitalize, str.upper))
    plain = rf"{begin}(?!(?:{cased}){end})[A-Za-z]++(?=\s|\Z)"  # most words
    extension = rf"\.(?:{_any(EXTENSIONS)}|{_any(DOMAINS)}){end}"
    letter_rules = [
        # URLs, e-mail addresses and files
        r"(?i:(?:https?|ftp|file)://|mailto:|www\.)\S*[^\s.,;:!?'\"”)\]}>]",
        r"(?<![\w.+%-])\w[\w.+%-]*+@[\w-]++(?:\.[\w-]++)*+",
        rf"(?<![\w.#&~/-])\w[\w.#&~-]*{extension}(?:/[\w./?&=%#~-]*[\w/])?",
        rf"(?<![\w.])[a-z]++(?:\.[a-z]++){{2,}}+{end}",
        # abbreviations
        rf"(?<!{letter})(?:(?:{letter}\.){{2,}}+{not_last}(?:{letter}{end})?|{letter}(?:\.{letter})+{end})",
        rf"{begin}(?:{_any(ABBREVIATIONS)}|[A-HJ-Z])\.(?!\.){not_last}",
        rf"{begin}{_any(BEFORE_NUMBERS)}\.(?=\s?\d)",
        # telephone numbers, dates, postal codes
        rf"{begin}(?:1-)?(?:\d{{3}}[-/.])?\d{{3}}[-.]\d{{4}}{end}|{begin}\d{{5}}-\d{{4}}{end}",
        rf"{begin}\d{{1,2}}(?P<sep>[-/])\d{{1,2}}(?P=sep)\d{{2,4}}{end}|{begin}\d{{1,2}}/\d\d{end}",
        # numbers without units, currencies
        rf"{begin}{number}(?={_any(UNITS)}{end})|{begin}{number}(?:st|nd|rd|th|s|'s)?{end}",
        rf"{begin}(?:A|AU|C|HK|NZ|R|S|US|U)\$",
        # words before clitics, and n't
        rf"{begin}(?:{'|'.join(bare_clitic_hosts)})",
        rf"{letter}+?(?=(?i:n't){end})|(?i:n't){end}",
        # words that contain symbols, and all other words
        rf"{begin}{_any(PREFIXES)}-{word_char}{{2,}}+(?:-{letter}++)*+",
        rf"{begin}(?:(?i:w/o(?:ut)?|w/|[il]/c|b/[ct])|[A-Z]{{1,4}}&[A-Z]{{1,3}}){end}",
        rf"{word_char}++(?:(?:'(?!{marked_clitic})|[·‧״]|\"(?<=[א-ת].)(?=[א-ת])){letter}++)*+",
    ]
    symbol_rules = [
        # emoticons, the ambiguous ones only after white space; tags
        rf"[:;]['`]?[-^o]?[)(]++{end}|[:;=](?<!\S.)['`]?[-^o]?[][)(|*DPpOo3/\\]{end}|\([:;=]{end}|<3{end}",
        r"\^_*+\^|</?[A-Za-z]++>",
        # files, numbers
        rf"[#&~-](?<![\w.#&~/-].)[\w.#&~-]*{extension}|[.,+](?<!{word_char}.)\d++{end}|'\d\ds?{end}",
        # clitics
        rf"['`](?<={word_char}.)(?:(?i:m)(?=(?i:a){end})|{marked_clitic})|'(?<!\S.){marked_clitic}(?!\S)",
        rf"'(?i:em|n|til|cause|tis|twas|bout){end}",
        # runs of symbols, and single symbols
        r"[-=+*~|<>_]{4,}+|<-++|[-=]++>|(?P<symbol>[-*=+#~<>$'`])(?P=symbol)++|`'",
        r"\.{2,}+|…\.*+|\.?[!?]++(?:\.(?!\.))?",
        rf"[\U0001f1e6-\U0001f1ff]{{2}}|\S{MARK}*+(?:{JOINER}[^\w\s]{MARK}*+)*+",
    ]
    other_rules = [IDEOGRAPH, rf"{UNSPACED}[{UNSPACED}{MARK}{JOINER}]*+"]
    rules = [plain, *other_rules, rf"(?=\w)(?:{'|'.join(letter_rules)})", *symbol_rules]
    return re.compile(rf"(?:{'|'.join(rules)})[{MARK}{JOINER}]*+")
