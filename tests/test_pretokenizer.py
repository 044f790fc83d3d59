"""Raw text to words and to valid CoNLL-U, which loses nothing and follows the rules of the official scripts.

The rules are those of the validation of Universal Dependencies at level 1, those of level 2 on comments and
spaces, and those of the evaluation of the CoNLL 2018 shared task.
"""

# ruff: noqa: RUF001 (the texts are in many scripts)

from __future__ import annotations

import io
import re
import time
import unicodedata
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rnntool.data.formats import read_sentences, sentence_writer
from rnntool.data.pretokenizer import contractions, split_words, surface_forms
from rnntool.data.records import Tagged
from rnntool.data.streams import Lines

PIECES = [
    "don't", "it's", "cannot", "its just", "'s", "\u2019ve", "U.S.", "Mr.", "...", "->", "====", "!", "_",
    "#", "|", " ", "  ", "\t", "\r", "\u00a0", "\u2028", "\u0085", "\u200b", "\u3000", "\0", "\ufeff",
    "1.1", "1-2", "e\u0301", "\u0338", "か\u3099", "\u1100\u1161", "\u212b", "ก็", "中", "👨\u200d👩",
    "\u200d", "🇩🇪",
]
# U+FFFD replaces what could not be decoded, and is never valid
LETTERS = st.characters(exclude_characters="\n\ufffd", exclude_categories=["Cs", "Cn"])
PARTS = ["a", "A.", "Mr.", "n't", "'s", "-", ".", "..", "!", "1", "12/", ",", "http://", "www.", "@", "x@y.z"]
PARTS += [":)", "<3", "_", " ", "中", "\u0301", "\u200d", "\U0001f600"]
NASTY = " \t\n\r\0ab.'-\\<>s▁▅İıΣé\u0301\u200d👨中\u2028\x85\ufeff\ud800\udfff"
RAW_TEXTS = st.text(max_size=40) | st.text(NASTY, max_size=40) | st.sampled_from(
    ["Ein Bär saß da: \\ 中文\n", "the dog\tsat", "a <unk> b <s> <0x41>", "<pad>", "</s>"])
TEXTS = st.lists(st.sampled_from(PIECES) | LETTERS, max_size=12).map("".join)


def conllu(texts: list[str], **options: bool) -> str:
    """The words of some lines as CoNLL-U, all with the same tag."""
    lines = Lines(io.BytesIO("".join(f"{text}\n" for text in texts).encode()), name="x")
    write = sentence_writer("conllu", **options)
    return "".join(
        write(sentence, Tagged(["X"] * len(sentence.words), [0.5] * len(sentence.words)))
        for sentence in read_sentences(lines, format="text", split=split_words)
    )


def check(block: str) -> tuple[str, list[str]]:
    """Check all rules for a sentence, and return its `# text` and its tokens."""
    lines = block.split("\n")
    comments = [line for line in lines if line.startswith("#")]
    rows = [line.split("\t") for line in lines[len(comments) :]]
    assert rows
    assert not any(row[0].startswith("#") for row in rows), "comments come first"
    text = comments[-1].removeprefix("# text = ")
    assert [comment.split(" ")[1] for comment in comments if comment != "# newpar"] == ["sent_id", "text"]
    assert text
    assert text == text.strip()
    for row in rows:
        assert len(row) == 10
        assert re.fullmatch(r"[1-9]\d*(-[1-9]\d*)?", row[0])
        assert not any(re.search(r"\s", cell) for cell in row[2:9]), "only forms and MISC may hold spaces"
        assert all(cell and cell == cell.strip() and not re.search(r"\s\s", cell) for cell in row)
    words = [row for row in rows if "-" not in row[0]]
    assert [row[0] for row in words] == [str(i) for i in range(1, len(words) + 1)]
    assert [row[6:8] for row in words] == [["0", "root"]] + [["1", "dep"]] * (len(words) - 1), "a tree"
    tokens, left, after = [], text, 0
    for i, row in enumerate(rows):
        first, _, last = row[0].partition("-")
        if last:
            after = int(last)
            assert int(first) < after <= len(words)
            assert row[2:9] == ["_"] * 7
            inside = rows[i + 1 : i + 2 + after - int(first)]
            assert [int(each[0]) for each in inside] == list(range(int(first), after + 1))
            assert "".join(each[1] for each in inside) == row[1]
        elif int(first) <= after:
            assert "SpaceAfter" not in row[9], "the range says it"
            continue
        assert left.startswith(row[1])
        left, tight = left[len(row[1]) :], "SpaceAfter=No" in row[9].split("|")
        assert tight == bool(left and not left[0].isspace())
        left = left.lstrip()
        tokens.append(row[1])
    assert not left
    return text, tokens


@given(st.lists(TEXTS, max_size=4))
@example(["", "a  b ", "  ", "\u00a0c\td", "e\u0301t\u00e9\r"])
@example(["\u2adc\u200d\u1100\u1161"])
@example(["====\u0338 !\u0301 'tis <b>\u0301"])
def test_raw_text_becomes_valid_conllu(texts: list[str]) -> None:
    output = conllu(texts)
    assert not output or output.endswith("\n\n")
    assert "\r" not in output
    assert output == unicodedata.normalize("NFC", output)
    blocks = output.split("\n\n")[:-1]
    records = [(i, text) for i, text in enumerate(texts, 1) if text.split()]
    assert [re.search("sent_id = (.*)", block)[1] for block in blocks] == [str(i) for i, _ in records]  # type: ignore[index]
    for block, (i, text) in zip(blocks, records, strict=True):
        shown, tokens = check(block)
        assert shown.split() == unicodedata.normalize("NFC", text).split()
        assert "".join(tokens) == "".join(shown.split()), "what the evaluation compares"
        assert block.startswith("# newpar\n") == (i > 1 and not texts[i - 2].split())


def test_probabilities_and_spaces_share_a_column() -> None:
    rows = [row.split("\t") for row in conllu(["I don't."], probs=True).split("\n")[2:-2]]
    assert [row[9] for row in rows] == [
        "Prob=0.5000", "SpaceAfter=No", "Prob=0.5000", "Prob=0.5000", "Prob=0.5000"]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("I don't think it's Ann's, cannot!", "I don't think it's Ann's , cannot !"),
        ("He\u2019d\u2019ve gone, DON\u2019T dont", "He\u2019d\u2019ve gone , DON\u2019T dont"),
        ("its just alot at 5pm (well-known)", "its just a lot at 5 pm ( well - known )"),
        ("the '90s 's 3's rock'n'roll", "the '90s 's 3's rock'n'roll"),
    ],
)
def test_a_contraction_is_one_token_of_several_words(text: str, tokens: str) -> None:
    assert check(conllu([text]).removesuffix("\n\n"))[1] == tokens.split()


@given(TEXTS)
def test_no_word_starts_with_a_combining_mark_of_the_word_before(text: str) -> None:
    spans = split_words(text)
    for (_, end), (start, _) in pairwise(spans):
        if start == end:
            assert not unicodedata.category(text[start]).startswith("M")
            assert text[start] != "\u200d"


# words whose split depends on what follows, and what may follow
CONTEXT_DEPENDENT = [
    "its", "(its", "It\u017f", "a", "Mr.", "no.", "U.S.", "etc.)", ".", "5", "\u0663", "'s", "\u00a0", "\x1c",
]


@given(st.lists(TEXTS | st.sampled_from(CONTEXT_DEPENDENT)))
def test_cached_words_equal_those_of_the_whole_text(parts: list[str]) -> None:
    text = " ".join(parts)
    assert surface_forms(text) == [text[start:end] for start, end in split_words(text)]


@given(TEXTS)
def test_contractions_are_groups_of_adjacent_words(text: str) -> None:
    words = split_words(text)
    groups = contractions(text, words)
    assert sorted(groups) == groups
    for first, after in groups:
        assert after - first > 1
        assert all(words[i][1] == words[i + 1][0] for i in range(first, after - 1))
    assert all(a[1] <= b[0] for a, b in pairwise(groups))


@pytest.mark.parametrize(
    "words",
    [
        "I do|n't think he|'s here|.",
        "They|'ll say I|'m wo|n't|,| you|'d|,| we|'ve|,| you|'re|.",
        "It is|n’t John|’s|.",
        "DO|N'T|!",
        "Can|not you see what I|'m gon|na do|?",
        "y'all at five o'clock in the '90s with O'Connell",
        "Mr. Smith of the U.S. met Dr. J. Doe at 5|p.m. e.g. on Jan. 3|.",
        "That is it|.",
        "at Acme Inc|.",
        "see p. 5|,| No. 7|;| no|.",
        "1,000.50 or 3.5|%| or $|5,000 or US$|20",
        "on 10/12/2004 at 5:30|pm in the 1990s and on the 21st",
        "(|713|)| 853-3989 or 713-853-3989",
        "see http://a.org/b?c=d,e|.",
        "(|www.example.com/x|)| or me@example.com|,| Example.com and notes.txt",
        "good :-) bad :( wink|;) love <3",
        "the following|:|(|a|)| and 3|:|b",
        "wait|...| what|?!| no|!!!",
        "well|-|known e-mail non-stop co-workers 2|-|3 yes|--|no",
        "and|/|or w/o R&D",
        "\"|Quoted|,|\"| he|(|she|)| [|said|]| “|so|”",
        "''|quoted|'' `|one|'",
        "a <unk> b|<br>",
        "@|user #|tag x_y 50|%",
        "中|文|字|，|a|中",
        "カタカナ|は|ひ iPhone|ケース 5|メートル",
        "5|บาท|iPhone|ครับ col·lecció צה\"ל צה״ל \"|שלום|\"",
        "สวัสดี हिन्दी e\u0301te\u0301 שָׁלוֹם می\u200cخواهم",
        "👨\u200d👩\u200d👧|❤\ufe0f|🇩🇪|🇫🇷|👍🏽|1\ufe0f\u20e3",
        "٣٫٥ ١٢",
        "",
        "a\u2028b\x85c\u3000d\xa0e",
    ],
)
def test_words_of_raw_text(words: str) -> None:
    """`|` marks a word boundary without a space."""
    text = words.replace("|", "")
    assert [text[start:end] for start, end in split_words(text)] == words.replace("|", " ").split()


@given(text=RAW_TEXTS | st.lists(st.sampled_from(PARTS)).map("".join))
@settings(max_examples=300, deadline=None)
def test_words_cover_everything_but_white_space(text: str) -> None:
    spans = split_words(text)
    assert "".join(text[start:end] for start, end in spans) == "".join(text.split())
    assert all(start < end for start, end in spans)
    assert not any(any(map(str.isspace, text[start:end])) for start, end in spans)


@pytest.mark.parametrize(
    "unit",
    ["a", ".", "!", "a.", "a-", "a'", "'", "a@", "http://", "www.", "1,", "1-", "non-", "n't", "Mr. ", "Mr.)",
     "its  ", "a.com/", "\u0301", "👨\u200d", "中", "\0", "((", "^_", "</a"],
)
def test_hostile_text_takes_linear_time(unit: str) -> None:
    text = unit * (200_000 // len(unit))
    start = time.process_time()
    split_words(text)
    assert time.process_time() - start < 3  # tenths if the time is linear, minutes if it is quadratic
