"""Raw text to words with character offsets, by rule: English as its treebanks cut it, other scripts too.

Knows no vocabulary and no labels. The rules read a copy of the text, as long as the text, in which what
they don't tell apart looks alike (marks, ideographs, apostrophes, digits); the spans found there hold for
the text. A rule that reads far begins only where a run of its characters begins, so no text takes more than
linear time. The conventions are those of the Penn Treebank as the English Web Treebank applies them (Bies
et al., 2012; Silveira et al., 2014).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import cache
from itertools import chain, pairwise
from typing import cast

# these stand for their like; to `re`, all are letters
MARK, JOINER, IDEOGRAPH, UNSPACED = "\u02d0", "\u02d1", "\u4e00", "\u30a2"
IDEOGRAPHS = ("CJK UNIFIED", "CJK COMPATIBILITY IDEOGRAPH", "IDEOGRAPHIC ITERATION", "HIRAGANA LETTER")
UNSPACEDS = ("KATAKANA", "HALFWIDTH KATAKANA", "THAI CHARACTER", "LAO", "KHMER", "MYANMAR")


def split_words(text: str) -> list[tuple[int, int]]:
    """Spans (start, end) of the words of `text`, in characters of the untouched text.

    The spans are in order, don't overlap, and hold every character but white space. `don't` is `do` and
    `n't`, a final period stands alone, `Mr.` keeps its own, an ideograph is a word.
    """
    shape = text if text.isascii() else text.translate(_SHAPES)
    return [found.span() for found in _words().finditer(shape)]


def surfaces(text: str) -> list[str]:
    """The words of `text`, those that `split_words` finds, faster where its pieces come again.

    What stands between white space is cut the same whatever stands around it, unless it ends in a letter and
    a period, which may end an abbreviation or the text, or has `its` in it; so each such piece is cut once.
    """
    found = list(map(_PIECES.__getitem__, text.split()))
    if None in found:
        return [text[start:end] for start, end in split_words(text)]
    return list(chain.from_iterable(cast("list[tuple[str, ...]]", found)))


class _Pieces(dict[str, "tuple[str, ...] | None"]):
    """The words of what stands between white space, None where they depend on more; filled as it is met."""

    KEPT = 1 << 16  # then it starts anew: memory stays flat over any stream

    def __missing__(self, piece: str) -> tuple[str, ...] | None:
        if len(self) >= self.KEPT:
            self.clear()
        shape = piece.translate(_SHAPES)
        words = None if _OPEN.search(shape) else tuple(piece[start:end] for start, end in split_words(piece))
        self[piece] = words
        return words


_PIECES = _Pieces()
# A piece to be cut with an eye to what follows: the rules that look beyond white space begin so.
_OPEN = re.compile(r"[^\W\d_]\.[)\]\"'”]*+\Z|(?i:its)")


def contractions(text: str, words: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Which of the words are one token where a treebank counts tokens: (first, after the last) of each group.

    `do` and `n't` are, as are `he` and `'s`; `5` and `pm` aren't, though no space is between them.
    """
    found: list[tuple[int, int]] = []
    for i, ((begin, middle), (start, end)) in enumerate(pairwise(words)):
        if middle == start and _contracted(text[begin:middle], text[start:end]):
            first = found.pop()[0] if found and found[-1][1] == i + 1 else i
            found.append((first, i + 2))
    return found


def _contracted(word: str, tail: str) -> bool:
    """Whether two words that touch are a contraction."""
    word, tail = word.lower(), tail.lower().translate(_APOSTROPHES)
    if tail[:1] == "'":
        return tail[1:] in _MARKED and word[-1:].isalpha()
    return tail == "n't" or (word, tail) in _UNMARKED


class _Shapes(dict[int, str]):
    """Code point to the character that the rules see in its place; filled as characters are met."""

    def __missing__(self, code: int) -> str:
        shape = self[code] = _shape(chr(code))
        return shape


def _shape(char: str) -> str:
    category, name = unicodedata.category(char), unicodedata.name(char, "")
    if category == "Nd":
        return str(unicodedata.decimal(char))
    if name.startswith(IDEOGRAPHS):
        return IDEOGRAPH
    if category[0] == "M" or name.startswith("EMOJI MODIFIER") or (category == "Cf" and char != "\u200b"):
        return MARK
    return UNSPACED if category[0] == "L" and name.startswith(UNSPACEDS) else char


# curly quotes, the Arabic decimal point and thousands' comma, the joiner of emoji
_SHAPES = _Shapes({0x2018: "`", 0x2019: "'", 0x066B: ".", 0x066C: ",", 0x200D: JOINER})

ABBREVIATIONS = """adm al approx apr arrv asst attn aug ave bldg blvd bros capt cf cmdr co col conf corp
    ct dec dept det dr eg esp esq est etc ext feb fig figs fri ft gen gov hon hrs ie inc jan jr jul jun lt
    ltd maj messrs mr mrs ms mt mts mx nov oct oz para ph pl prof pvt rd reps rev sec sen sens sept sgt sr
    st ste tel thur thurs tue tues univ viz vol vols vs wed yr yrs"""
BEFORE_NUMBERS = "art ch eq ex mar mon no nos p pg pp sat sun"  # abbreviations where a number follows
PREFIXES = """anti co counter cyber e ex extra infra inter intra macro mega meta micro mid mini mis mono
    multi neo non over para post pre pro proto pseudo psycho quasi re semi socio sub super trans tri ultra
    un under uni"""
DOMAINS = "com org net edu gov mil info biz int eu uk us ca de fr au nz ie jp cn ru br es nl ch se io tv"
EXTENSIONS = "doc docx xls xlsx ppt pptx pdf txt rtf csv html htm xml jpg jpeg gif png zip exe mp3 py url"
UNITS = """a.m am b bn cc cm day days fps ft g gb ghz hh hr hrs hz inch inches k kb kg khz km kw kwh lb
    lbs m mb mg mhz mi mile miles min mins minute minutes ml mm mph mw mwh oz p.m percent persons pm sec
    secs sqft t tb v watt watts x yr yrs years"""
CLITICS = "d ll m ma re s ve"  # behind an apostrophe; `I'ma` has two
UNMARKED = {
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
}  # clitics written without one: what they are, and what they follow
AFTER_ITS = "a all also an been definitely just like not really simply so still the very"  # then `it is`

_APOSTROPHES = {ord("`"): "'", ord("\u2019"): "'"}
_MARKED = frozenset(CLITICS.split())
_UNMARKED = {(host, tail) for tail, hosts in UNMARKED.items() for host in hosts.split()}
_UNMARKED = (_UNMARKED - {("a", "lot")}) | {("it", "s")}  # `alot` is two words that lack a space


def _any(words: str) -> str:
    return f"(?i:{'|'.join(sorted(map(re.escape, words.split()), key=len, reverse=True))})"  # longest first


@cache
def _words() -> re.Pattern[str]:
    of_word = rf"[^\W{IDEOGRAPH}{UNSPACED}]"
    letter = rf"[^\W\d_{IDEOGRAPH}{UNSPACED}]"
    begin, end = f"(?<!{of_word})", f"(?!{of_word})"
    more = r"(?![\s)\]\"'”]*+\Z)"  # a period that ends the text is no abbreviation's
    clitic = f"{_any(CLITICS)}{end}"
    number = r"\d++(?:[.,:]\d++)*+"
    unmarked = [
        *(f"{_any(hosts)}(?={_any(tail)}{end})" for tail, hosts in UNMARKED.items()),
        rf"(?i:it)(?=(?i:s)\s++{_any(AFTER_ITS)}{end})",
    ]
    whole = [host + tail for tail, hosts in UNMARKED.items() for host in hosts.split()] + ["its"]
    cased = "|".join(case(word) for word in whole for case in (str.lower, str.capitalize, str.upper))
    plain = rf"{begin}(?!(?:{cased}){end})[A-Za-z]++(?=\s|\Z)"  # as most words are
    extension = rf"\.(?:{_any(EXTENSIONS)}|{_any(DOMAINS)}){end}"
    letters_first = [
        # addresses and files
        r"(?i:(?:https?|ftp|file)://|mailto:|www\.)\S*[^\s.,;:!?'\"”)\]}>]",
        r"(?<![\w.+%-])\w[\w.+%-]*+@[\w-]++(?:\.[\w-]++)*+",
        rf"(?<![\w.#&~/-])\w[\w.#&~-]*{extension}(?:/[\w./?&=%#~-]*[\w/])?",
        rf"(?<![\w.])[a-z]++(?:\.[a-z]++){{2,}}+{end}",
        # abbreviations
        rf"(?<!{letter})(?:(?:{letter}\.){{2,}}+{more}(?:{letter}{end})?|{letter}(?:\.{letter})+{end})",
        rf"{begin}(?:{_any(ABBREVIATIONS)}|[A-HJ-Z])\.(?!\.){more}|{begin}{_any(BEFORE_NUMBERS)}\.(?=\s?\d)",
        # telephones, dates, post codes
        rf"{begin}(?:1-)?(?:\d{{3}}[-/.])?\d{{3}}[-.]\d{{4}}{end}|{begin}\d{{5}}-\d{{4}}{end}",
        rf"{begin}\d{{1,2}}(?P<sep>[-/])\d{{1,2}}(?P=sep)\d{{2,4}}{end}|{begin}\d{{1,2}}/\d\d{end}",
        # numbers, without their units and currencies
        rf"{begin}{number}(?={_any(UNITS)}{end})|{begin}{number}(?:st|nd|rd|th|s|'s)?{end}",
        rf"{begin}(?:A|AU|C|HK|NZ|R|S|US|U)\$",
        # clitics and what they follow
        rf"{begin}(?:{'|'.join(unmarked)})",
        rf"{letter}+?(?=(?i:n't){end})|(?i:n't){end}",
        # words with signs in them, and any other
        rf"{begin}{_any(PREFIXES)}-{of_word}{{2,}}+(?:-{letter}++)*+",
        rf"{begin}(?:(?i:w/o(?:ut)?|w/|[il]/c|b/[ct])|[A-Z]{{1,4}}&[A-Z]{{1,3}}){end}",
        rf"{of_word}++(?:(?:'(?!{clitic})|[·‧״]|\"(?<=[א-ת].)(?=[א-ת])){letter}++)*+",
    ]
    signs_first = [
        # emoticons, those that a text could hold otherwise only behind white space; tags
        rf"[:;]['`]?[-^o]?[)(]++{end}|[:;=](?<!\S.)['`]?[-^o]?[][)(|*DPpOo3/\\]{end}|\([:;=]{end}|<3{end}",
        r"\^_*+\^|</?[A-Za-z]++>",
        # files, numbers
        rf"[#&~-](?<![\w.#&~/-].)[\w.#&~-]*{extension}|[.,+](?<!{of_word}.)\d++{end}|'\d\ds?{end}",
        # clitics
        rf"['`](?<={of_word}.)(?:(?i:m)(?=(?i:a){end})|{clitic})|'(?<!\S.){clitic}(?!\S)",
        rf"'(?i:em|n|til|cause|tis|twas|bout){end}",
        # runs of signs, and any sign
        r"[-=+*~|<>_]{4,}+|<-++|[-=]++>|(?P<sign>[-*=+#~<>$'`])(?P=sign)++|`'",
        r"\.{2,}+|…\.*+|\.?[!?]++(?:\.(?!\.))?",
        rf"[\U0001f1e6-\U0001f1ff]{{2}}|\S{MARK}*+(?:{JOINER}[^\w\s]{MARK}*+)*+",
    ]
    others = [IDEOGRAPH, rf"{UNSPACED}[{UNSPACED}{MARK}{JOINER}]*+"]
    rules = [plain, *others, rf"(?=\w)(?:{'|'.join(letters_first)})", *signs_first]
    return re.compile(rf"(?:{'|'.join(rules)})[{MARK}{JOINER}]*+")
