"""Segmentation: gold tags and tokens, windows of running text, and sentences put together again."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from conftest import Run, failed, invoke, ok
from hypothesis import given
from hypothesis import strategies as st

from rnntool.data.formats import read_sentences, sentence_writer
from rnntool.data.formats.conllu import with_tokens
from rnntool.data.multiword import MultiwordSplitter, Rule
from rnntool.data.records import Sentence, Tagged
from rnntool.data.streams import open_lines
from rnntool.data.treebank import read_treebank
from rnntool.errors import DataError
from rnntool.inference import model
from rnntool.tasks.base import always
from rnntool.tasks.running_text import CONTEXT, CORE, LONGEST, TAGS, Window, sentences, tokens, windows
from rnntool.tasks.segment import SegmentTask, gold_tags
from rnntool.tasks.specs.segment import SegmentSettings

ROWS = """# newdoc
# newpar
# text = I can't go. No!
1\tI\t_\t_\t_\t_\t_\t_\t_\t_
2-3\tcan't\t_\t_\t_\t_\t_\t_\t_\t_
2\tca\t_\t_\t_\t_\t_\t_\t_\t_
3\tn't\t_\t_\t_\t_\t_\t_\t_\t_
3.1\twant\t_\t_\t_\t_\t_\t_\t_\t_
4\tgo\t_\t_\t_\t_\t_\t_\t_\tSpaceAfter=No
5\t.\t_\t_\t_\t_\t_\t_\t_\t_

1-2\tDon't\t_\t_\t_\t_\t_\t_\t_\tSpaceAfter=No
1\tDo\t_\t_\t_\t_\t_\t_\t_\tSpaceAfter=No
2\tn't\t_\t_\t_\t_\t_\t_\t_\t_

# newpar
1\tYes\t_\t_\t_\t_\t_\t_\t_\t_
"""


def treebank(folder: Path, rows: str) -> list[Sentence]:
    path = folder / "gold.conllu"
    path.write_text(rows, "utf-8")
    with open_lines(path) as lines:
        return list(with_tokens(read_sentences(lines, format="conllu", split=lambda text: [])))


def segment_lines(
    lines: Iterable[str], tag: Any, *, ready: Any = always
) -> Iterator[Sentence | None]:
    """Segment lines by a function that returns the tag of each character."""
    records = (Sentence([], text=line, place=f"f:{i}") for i, line in enumerate(lines, 1))
    results = ((w, "".join(map(tag, w.text[w.start : w.end]))) for w in windows(records, ready))
    return sentences(results, MultiwordSplitter({}, {}), spaced=False)


def by_periods(character: str) -> str:
    return "S" if character == "." else "I"


# --- Treebanks ---------------------------------------------------------------------------------------------


def test_tokens_come_from_forms_ranges_and_spaces(tmp_path: Path) -> None:
    first, second, third = treebank(tmp_path, ROWS)
    assert first.text == "I can't go." and first.words == ["I", "ca", "n't", "go", "."]
    assert first.offsets == [(0, 1), (2, 7), (2, 7), (8, 10), (10, 11)]
    assert first.multiword == [(1, 3)] and first.space_after
    assert gold_tags(first) == "WIIIIIMIIWS"
    assert (second.text, gold_tags(second), second.space_after) == ("Don't", "IIIIX", False)
    assert first.document is second.document and second.document is not third.document
    assert [tokens(s.text or "", gold_tags(s), spaced=False) for s in (second, third)] == [
        [(0, 5, True)], [(0, 3, False)]]


@pytest.mark.parametrize(("ids", "place"), [
    (["1", "3"], 2), (["1-2", "1"], 2), (["2-3", "2", "3"], 1), (["1-2", "1", "2-3", "2", "3"], 3)])
def test_ids_out_of_order_are_an_error(ids: list[str], place: int, tmp_path: Path) -> None:
    rows = "".join(f"{number}\ta" + "\t_" * 8 + "\n" for number in ids)
    with pytest.raises(DataError, match=rf"gold.conllu:{place}: expected "):
        treebank(tmp_path, rows)


@pytest.mark.parametrize("form", ["", " ", "\u3000"])
def test_a_form_without_characters_is_an_error(form: str, tmp_path: Path) -> None:
    rows = "".join(f"{i}\t{text}" + "\t_" * 8 + "\n" for i, text in enumerate(("a", form), 1))
    with pytest.raises(DataError, match=r"gold\.conllu:2: expected a form"):
        treebank(tmp_path, rows)


def test_a_treebank_survives_its_tags(tmp_path: Path) -> None:
    """Gold tags, tokens and the splitter give back forms, ranges and SpaceAfter."""
    path = tmp_path / "train.conllu"
    path.write_text(tiny.segmented_conllu(40), "utf-8")
    with open_lines(path) as lines:
        records = list(SegmentTask.read(lines, "conllu", SegmentSettings(), targets=True))
    task = SegmentTask.learn(records, SegmentSettings(min_count=1))
    text, tags = "", ""
    for record in records:
        assert isinstance(record, Sentence)
        text += f"{record.text} "
        tags += gold_tags(record) + "I"
    window = Window(text, 0, len(text), ends_paragraph=True)
    found = [one for one in sentences([(window, tags)], task.splitter, spaced=False) if one]
    write = sentence_writer("conllu")
    output = "".join(write(one, Tagged([""] * len(one.words))) for one in found)
    (tmp_path / "again").mkdir()
    again = treebank(tmp_path / "again", output)
    assert [(s.words, s.text, s.offsets, s.multiword) for s in again] == [
        (s.words, s.text, s.offsets, s.multiword) for s in records if isinstance(s, Sentence)]
    assert "\t_\tSpaceAfter=No\n" in output and "\tdont\t" in output


# --- Multiword tokens --------------------------------------------------------------------------------------


def test_unseen_tokens_are_split_like_similar_ones(tmp_path: Path) -> None:
    pairs = [("evdeki", ("evde", "ki")), ("yoldaki", ("yolda", "ki")), ("dunno", ("do", "n't", "know")),
             ("can't", ("ca", "n't"))]
    splitter = MultiwordSplitter.learn(pairs)
    assert [splitter.split(token) for token, _ in pairs] == [words for _, words in pairs]
    assert splitter.split("Okuldaki") == ["Okulda", "ki"]
    assert splitter.split("WON'T") == ["WO", "N'T"] and splitter.split("Dunno") == ["Do", "n't", "know"]
    assert splitter.split("xyz") == ["xyz"]
    splitter.save(tmp_path)
    assert MultiwordSplitter.load(tmp_path, 4).forms == splitter.forms


def test_a_known_token_is_what_it_always_was(tmp_path: Path) -> None:
    tokens: list[tuple[str, tuple[str, ...]]] = [
        ("evdeki", ("evde", "ki")), ("belki", ("belki",)), ("Peki", ("Pe", "ki")), ("Peki", ("Peki",)),
        ("xyz", ("xyz",))]
    learned = MultiwordSplitter.learn(tokens)
    learned.save(tmp_path)
    for splitter in (learned, MultiwordSplitter.load(tmp_path, learned.size)):
        for is_multiword in (False, True):
            assert splitter.words("Evdeki", is_multiword=is_multiword) == ["Evde", "ki"]
            assert splitter.words("belki", is_multiword=is_multiword) == ["belki"]
            for token in ("Peki", "peki", "yoldaki"):
                words = list(splitter.words(token, is_multiword=is_multiword))
                assert words == ([token[:-2], "ki"] if is_multiword else [token])
    assert learned.single == {"belki": 1, "Peki": 1}, "what can't be split needs no memory"


words = st.text("abcA\u0130\u0131ß'", min_size=1, max_size=5)


@given(st.dictionaries(words, st.tuples(words, words), max_size=5))
def test_every_pair_of_the_training_data_is_reproduced(pairs: dict[str, tuple[str, str]]) -> None:
    splitter = MultiwordSplitter.learn(pairs.items())
    for token, parts in pairs.items():
        assert splitter.split(token) == parts
        assert all(rule.apply(token) == parts for rule in Rule.all_of(token, parts))
    assert all(splitter.split("cAb"))


# --- Running text ------------------------------------------------------------------------------------------

texts = st.lists(st.text("ab. \t\u00a0é", max_size=700), max_size=6)


@given(texts, st.integers(0, 99))
def test_nothing_is_lost_or_invented(lines: list[str], seed: int) -> None:
    """Tokens hold all characters but white space, in order, whatever the tags are."""
    rng = random.Random(seed)
    found = [s for s in segment_lines(lines, lambda _: rng.choice(TAGS)) if s is not None]
    text = "".join("".join(s.text[slice(*o)] for o in s.offsets or ()) for s in found if s.text)
    assert text == "".join("".join(lines).split())
    for sentence in found:
        assert sentence.words == [(sentence.text or "")[slice(*o)] for o in sentence.offsets or ()]
    assert sum(not s.words for s in found) == sum(not line.strip() for line in lines), "a blank line is one"


def test_windows_have_their_context() -> None:
    line = "".join(random.Random(1).choices("abc ", k=3 * CORE))
    lines = [line, line[:20], "", line[:9]]
    each = list(windows((Sentence([], text=text) for text in lines), always))
    text = f"{line}\n{line[:20]}"
    start = 0
    for window in each[:4]:
        end = start + window.end - window.start
        assert window.text == text[max(0, start - CONTEXT) : end + CONTEXT]
        assert window.text[window.start : window.end] == text[start:end]
        start = end
    assert start == len(text)
    assert [window.ends_paragraph for window in each] == [False, False, False, True, False, True]


def test_a_sentence_goes_over_lines_but_not_over_a_blank_one_or_a_file() -> None:
    found = [s.text for s in segment_lines(["One", "two. Three", "", "four"], by_periods) if s]
    assert found == ["One\ntwo.", "Three", "", "four"]
    records = [Sentence([], text="a", place="f:1"), Sentence([], text="b", place="g:1")]
    assert [window.ends_paragraph for window in windows(records, always)] == [True, True]


def test_a_text_without_ends_is_cut_after_a_word() -> None:
    found = [s for s in segment_lines(["abc " * LONGEST], lambda c: "W" if c == "c" else "I") if s]
    assert len(found) > 2 and all(set(s.words) == {"abc"} for s in found)
    assert max(len(s.text or "") for s in found) <= LONGEST
    (first, *_) = (s for s in segment_lines(["a" * (LONGEST + 9)], lambda _: "I") if s)
    assert len(first.text or "") == LONGEST and not first.space_after


def test_a_sentence_is_answered_as_soon_as_its_context_is_there() -> None:
    """None, the sign that a line has to be waited for, comes after the sentences that are certain."""
    ready = iter([False, False, False, True, True])
    lines = ["A b.", "c" * CONTEXT, "d"]
    found = [s and s.text for s in segment_lines(lines, by_periods, ready=lambda: next(ready))]
    assert found == [None, None, "A b.", None, f"{'c' * CONTEXT}\nd"]


def test_a_sample_of_development_data_is_a_stretch_of_text(tmp_path: Path) -> None:
    """Sentences that were not next to each other would be read as one paragraph."""
    records = treebank(tmp_path, tiny.segmented_conllu(200))
    task = SegmentTask.learn(records, SegmentSettings())
    drawn, share = task.sample(records, 0.1)
    first = records.index(drawn[0])  # type: ignore[arg-type]
    assert (drawn, share) == (records[first : first + 20], 0.1) and first > 0
    assert task.sample(records, 1.0) == (records, 1.0)


# --- Trained -----------------------------------------------------------------------------------------------


def test_a_small_segmenter_learns_its_language(segmenter: Path, segmented_file: Path) -> None:
    report = model.load(segmenter).config.report
    assert report["sentence_f1"] > 0.95 and report["word_f1"] > 0.95
    evaluated = ok(invoke("evaluate", "-m", segmenter, segmented_file))
    assert "word_f1" in evaluated


def test_segment_writes_conllu(segmenter: Path) -> None:
    out = ok(invoke("segment", "-m", segmenter, input="Hunt dont sing.\nJump\nbak. \n\nWork."))
    sentences = out.rstrip().split("\n\n")
    assert [block.split("\n")[1 if block[2] == "s" else 2] for block in sentences] == [
        "# text = Hunt dont sing.", "# text = Jump bak.", "# text = Work."]
    assert [line.split("\t")[:2] for line in sentences[0].split("\n")[2:]] == [
        ["1", "Hunt"], ["2-3", "dont"], ["2", "do"], ["3", "nt"], ["4", "sing"], ["5", "."]]
    assert "4\tsing\t_\t_\t_\t_\t1\tdep\t_\tSpaceAfter=No" in sentences[0]
    assert sentences[2].startswith("# newpar\n")


@pytest.mark.parametrize("to", ["conllu", "conll", "jsonl"])
def test_tag_takes_the_sentences_of_a_segmenter(to: str, tagger: Path, segmenter: Path) -> None:
    text = "Hunt sing. Jump bak.\n\nWork."
    out = ok(invoke("tag", "-m", tagger, "--segmenter", segmenter, "--to", to, input=text))
    alone = ok(invoke("segment", "-m", segmenter, input=text))
    if to == "conllu":
        assert [line.split("\t")[:2] for line in out.split("\n")] == [
            line.split("\t")[:2] for line in alone.split("\n")]
        assert "\tPUNCT\t" in out
    else:
        assert out.count(".") >= 3


def test_the_end_of_a_file_ends_a_paragraph() -> None:
    lines = [Sentence([], text="a", place=place) for place in ("f:1", "f:2", "f:1", "g:1")]
    assert [(w.text, w.ends_paragraph) for w in windows(lines, always)] == [
        ("a\na", False), ("a\na", True), ("a", True), ("a", True)]


def test_the_output_is_conllu_whatever_its_name(segmenter: Path, tmp_path: Path) -> None:
    done = invoke("segment", "-m", segmenter, "-o", tmp_path / "s.jsonl", input="Hunt.")
    assert done.code == 0
    assert "s.jsonl: not written as jsonl, which this command can't write" in done.err
    assert (tmp_path / "s.jsonl").read_text("utf-8") == ok(invoke("segment", "-m", segmenter, input="Hunt."))


@pytest.mark.parametrize("command", [["segment"], ["tag", "--to", "conllu", "--segmenter"]])
def test_a_live_pipe_gets_its_sentences_and_the_same_answer(
    command: list[str], tagger: Path, segmenter: Path
) -> None:
    """A paragraph is answered when the blank line after it arrives."""
    import subprocess
    import sys

    from conftest import environment

    words = [*command, "-m", segmenter] if command == ["segment"] else [*command, segmenter, "-m", tagger]
    text = "Hunt sing. Jump bak.\n\nWork dont.\n"
    with subprocess.Popen([sys.executable, "-m", "rnntool", *map(str, words)], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True, env=environment()) as process:
        assert process.stdin and process.stdout
        process.stdin.write("Hunt sing. Jump bak.\n\n")
        process.stdin.flush()
        answered = ""
        while answered.count("\n\n") < 2:
            answered += process.stdout.readline()
        process.stdin.write("Work dont.\n")
        process.stdin.close()
        rest = process.stdout.read()
        assert process.wait() == 0
    assert answered + rest == ok(invoke(*words, input=text))


def test_bad_input_gets_one_sentence(
    run: Run, tagger: Path, segmenter: Path, pos_file: Path, ner_file: Path, tmp_path: Path
) -> None:
    failed(invoke("segment", "-m", tagger, input="a"), 4, "expected a model for `segment`")
    failed(invoke("tag", "-m", tagger, "--segmenter", tagger, input="a"), 4, "expected a model for `segment`")
    failed(invoke("tag", "-m", tagger, "--segmenter", segmenter, pos_file), 3, "expected raw text")
    failed(invoke("tag", "-m", tagger, "--segmenter", segmenter, "--no-header", input="a"), 2, "--no-header")
    failed(invoke("segment", "-m", segmenter, "-f", "jsonl", input="a"), 3, "expected raw text")
    (tmp_path / "gold.conllu").write_text(ROWS, "utf-8")
    failed(invoke("segment", "-m", segmenter, tmp_path / "gold.conllu"), 3,
           "gold.conllu: expected raw text to split into sentences, found conllu; if it is raw text, set "
           "--from text")
    assert ok(invoke("segment", "-m", segmenter, "-f", "text", tmp_path / "gold.conllu"))
    failed(invoke("train", "segment", ner_file, "-o", tmp_path / "m"), 3, "expected CoNLL-U", "found conll")
    failed(invoke("tag", "-m", tagger, "--segmenter", segmenter, "--word-column", "form", input="a"), 2,
           "--segmenter", "--word-column")


# --- Texts in the wild -------------------------------------------------------------------------------------

WILD = {
    "combining marks": "cafe\u0301 noe\u0308l. q\u0323\u0307\u0323 \u0301 x\u0301\u0301\u0301!",
    "emoji": "\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f44d\U0001f3fd\u2764\ufe0f \u200d. ok "
             "\U0001f1e9\U0001f1ea",
    "spaces": "a\u00a0b\u2003c\u3000d\u200be\u202ff\u1680g \u00a0 . h\u2028i\x85j\x0bk\x1cl",
    "line ends": "a b.\r\nc d.\r\n\r\ne f.\rg h.",
    "Japanese": "私は猫が好きです。犬も好きです!本当に?はい。",
    "Thai": "ฉันรักแมว แมวรักปลา ที่นี่น้ำเย็น",
    "Arabic": "مرحبا\u200cبكم، كيف الحال؟ \u202bنص\u202c",
    "Devanagari": "क्‍ष नमस्ते। आप कैसे हैं?",
    "controls": "a\0b\x1bc\ufeffd\ufffde\U0010ffff",
    "comments": "# text = x\n1\ta\n\n#newpar\n_ _\t_\n1-2",
}


def check_output(text: str, out: str, folder: Path) -> None:
    """Check that CoNLL-U holds the characters of a text. Forms and `SpaceAfter` have to make `# text`."""
    text = "".join(unicodedata.normalize("NFC", text).split())
    written = treebank(folder, out)
    forms = "".join((s.text or "")[a:b] for s in written for a, b in dict.fromkeys(s.offsets or ()))
    assert "".join(forms.split()) == text
    comments = [line.removeprefix("# text = ") for line in out.split("\n") if line.startswith("# text = ")]
    assert [" ".join(line.split()) for line in comments] == [s.text for s in written]
    with open_lines(folder / "gold.conllu") as lines:
        assert read_treebank([lines]).text == text


@pytest.mark.parametrize("name", WILD)
def test_no_character_is_lost_or_invented(name: str, segmenter: Path, run: Run, tmp_path: Path) -> None:
    ran = run("segment", "-m", segmenter, "--from", "text", input=WILD[name])
    assert (ran.code, ran.err) == (0, "")
    check_output(WILD[name], ran.out, tmp_path)


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> SegmentTask:
    records = treebank(tmp_path_factory.mktemp("task"), tiny.segmented_conllu(9))
    return SegmentTask.learn(records, SegmentSettings())


wild = st.one_of(st.text(st.characters(exclude_characters="\r\n"), max_size=400),
                 st.text("ae. \u0301\u0323\u200d\u1100\u1161\u11a8\U0001f3fd", max_size=400))


@given(st.lists(wild, max_size=3), st.integers(0, 99))
def test_any_text_comes_back_whatever_the_network_says(
    task: SegmentTask, tmp_path_factory: pytest.TempPathFactory, lines: list[str], seed: int
) -> None:
    def tagged() -> Iterator[tuple[Window, str]]:
        for window in windows(records, always):
            emissions = rng.normal(size=(len(window.text), 1, len(TAGS)))
            yield window, *task.decode([window], {"emissions": emissions})

    rng = np.random.default_rng(seed)
    records = (Sentence([], text=line, place=f"f:{i}") for i, line in enumerate(lines, 1))
    write = sentence_writer("conllu")
    found = [s for s in sentences(tagged(), MultiwordSplitter({}, {}), spaced=False) if s]
    out = "".join(write(s, Tagged([""] * len(s.words))) for s in found)
    check_output("\n".join(lines), out, tmp_path_factory.mktemp("out"))


def test_a_megabyte_without_spaces_and_ends(segmenter: Path, run: Run) -> None:
    text = "私は猫が好き" * 60_000
    ran = run("segment", "-m", segmenter, input=text)
    assert (ran.code, ran.err) == (0, "")
    forms = [line.split("\t")[1] for line in ran.out.split("\n") if line[:1].isdigit()]
    assert "".join(forms) == text


def test_bytes_that_are_no_text_are_named(segmenter: Path, run: Run) -> None:
    ran = run("segment", "-m", segmenter, input=b"Hunt sing.\n\nJump \xed\xa0\x80.\n")
    assert ran.code == 3 and ran.err.startswith("rnntool: <stdin>:3: expected UTF-8")
    assert "\tHunt\t" in ran.out, "what came before is answered"
