"""`rnntool evaluate --system`: the metrics of the CoNLL 2018 shared task."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from conftest import failed, invoke, ok
from hypothesis import given
from hypothesis import strategies as st

from rnntool.data.streams import Lines
from rnntool.data.treebank import Treebank, read_treebank
from rnntool.errors import DataError
from rnntool.evaluation import conll18

# Columns: ID FORM LEMMA UPOS XPOS FEATS HEAD DEPREL DEPS MISC. The sentences have multiword tokens, an empty
# node, subtypes, features that are not universal, a word without lemma, and a form with a space.
GOLD = """\
# text = Vámonos al mar, dijo.
1-2 Vámonos _ _ _ _ _ _ _ SpaceAfter=No
1 Vamos ir VERB V Mood=Imp|Number=Plur|Typo=No 0 root _ _
2 nos nosotros PRON P Case=Acc|Person=1 1 expl:pv _ _
3-4 al _ _ _ _ _ _ _ _
3 a a ADP S _ 5 case _ _
4 el el DET D Definite=Def 5 det _ _
5 mar mar NOUN N Gender=Masc|Number=Sing 1 obl:arg _ SpaceAfter=No
6 , , PUNCT F _ 7 punct _ _
7 dijo decir VERB V Mood=Ind|Person=3 1 parataxis _ SpaceAfter=No
7.1 ella ella PRON P _ _ _ _ _
8 . . PUNCT F _ 1 punct _ _

1 El el DET D Definite=Def 2 det _ _
2 tren tren NOUN N Number=Sing 5 nsubj _ _
3 no no ADV R Polarity=Neg 5 advmod _ _
4 ha haber AUX V Mood=Ind 5 aux:tense _ _
5 llegado _ VERB V VerbForm=Part 0 root _ _
6 10 000 _ NUM Z NumType=Card 5 obl _ SpaceAfter=No
7 ! ! PUNCT F _ 5 punct _ _

"""
SYSTEM = """\
1 Vámonos vámonos VERB V Mood=Imp|Number=Plur|Style=X 0 root _ _
2-3 al _ _ _ _ _ _ _ _
2 A a ADP S _ 4 case _ _
3 el el DET T _ 4 det _ _
4 mar mar NOUN N Number=Sing|Gender=Masc 1 obl _ _
5 , , PUNCT F _ 1 punct _ _

1 dijo decir VERB V Mood=Ind|Person=3 0 root _ _
2 . . PUNCT F _ 1 punct _ _

1 El el DET D Definite=Def 2 det:def _ _
2 tren tren NOUN N Number=Sing 5 obj _ _
3 no No PART R Polarity=Neg 5 advmod _ _
4 ha haber AUX V Mood=Ind 5 aux _ _
5 llegado llegar VERB V VerbForm=Part 0 root _ _
6 10 10 NUM Z NumType=Card 5 obl _ _
7 000! 000! NUM Z NumType=Card 6 flat _ _

"""
OFFICIAL = {  # precision, recall, F1 and aligned accuracy, as conll18_ud_eval.py 1.2 prints them
    "Tokens": (84.62, 84.62, 84.62, None),
    "Sentences": (33.33, 50.00, 40.00, None),
    "Words": (78.57, 73.33, 75.86, None),
    "UPOS": (71.43, 66.67, 68.97, 90.91),
    "XPOS": (71.43, 66.67, 68.97, 90.91),
    "UFeats": (71.43, 66.67, 68.97, 90.91),
    "AllTags": (64.29, 60.00, 62.07, 81.82),
    "Lemmas": (71.43, 66.67, 68.97, 90.91),
    "UAS": (50.00, 46.67, 48.28, 63.64),
    "LAS": (42.86, 40.00, 41.38, 54.55),
    "CLAS": (25.00, 25.00, 25.00, 40.00),
    "MLAS": (12.50, 12.50, 12.50, 20.00),
    "BLEX": (12.50, 12.50, 12.50, 20.00),
}
TREES = ("UAS", "LAS", "CLAS", "MLAS", "BLEX")


def conllu(text: str) -> str:
    """Put tabs between the columns of the sentences above."""
    lines = (line if line.startswith("#") else line.replace(" ", "\t") for line in text.split("\n"))
    return "\n".join(lines).replace("10\t000\t_", "10 000\t_")


def treebank(*texts: str) -> Treebank:
    return read_treebank(Lines(io.BytesIO(conllu(text).encode()), name=f"{i}.conllu")
                         for i, text in enumerate(texts))


def percentages(report: dict[str, float | None]) -> tuple[float | None, ...]:
    values = (report[name] for name in ("precision", "recall", "f1", "aligned_accuracy"))
    return tuple(None if value is None else round(100 * value, 2) for value in values)


def test_the_numbers_are_those_of_the_official_script() -> None:
    scores = conll18.scores(treebank(GOLD), treebank(SYSTEM))
    assert {name: percentages(score.report()) for name, score in scores.items()} == OFFICIAL
    assert list(scores) == list(OFFICIAL)


def test_a_treebank_equals_itself() -> None:
    for text in (GOLD, SYSTEM):
        for name, score in conll18.scores(treebank(text), treebank(text)).items():
            assert score.correct == score.gold == score.system > 0, name


def test_tags_of_gold_words() -> None:
    gold = {"upos": [["X", "Y"], ["Z"]], "feats": [["Case=Nom|Typo=Yes", "_"], ["Case=Acc"]],
            "NER": [["O"] * 2, ["O"]]}
    predicted = {"upos": [["X", "Y"], ["X"]], "feats": [["Case=Nom", "Mood=Ind"], ["Case=Acc"]],
                 "NER": [["B-X"] * 2, ["O"]]}
    assert conll18.tag_scores(gold, predicted) == {"UPOS": 2 / 3, "UFeats": 2 / 3}
    gold |= {"lemma": [["a", "_"], ["c"]], "xpos": [["p"] * 2, ["p"]]}
    predicted |= {"lemma": [["a", "b"], ["d"]], "xpos": [["p"] * 2, ["p"]]}
    assert conll18.tag_scores(gold, predicted) == {
        "UPOS": 2 / 3, "XPOS": 1, "UFeats": 2 / 3, "AllTags": 1 / 3, "Lemmas": 2 / 3}
    columns = {"NER": [["O"]], "Case": [["0"]], "form": [["a"]]}  # in JSONL, columns can have any name
    assert conll18.tag_scores(columns, columns) == {}


def words(text: str) -> str:
    """Make one sentence of tokens; `abc=a+bc` is a multiword token. All words depend on the first."""
    lines: list[str] = []
    last = 0
    for token in text.split():
        form, _, parts = token.partition("=")
        if parts:
            lines.append(f"{last + 1}-{last + len(parts.split('+'))} {form}" + " _" * 8)
        for word in parts.split("+") if parts else [form]:
            lines.append(f"{last + 1} {word} _ _ _ _ {min(last, 1)} dep _ _")
            last += 1
    return "\n".join(lines) + "\n\n"


@pytest.mark.parametrize(("gold", "system", "correct"), [
    ("ab cd", "ab cd", 2),
    ("ab cd", "abcd", 0),
    ("a bc d", "a b c d", 2),
    ("dont=do+not we", "do nt we", 2),
    ("dont=do+not we", "dont=DO+NOT we", 3),  # forms are compared in lower case
    ("x abcd=a+b+c+d y", "x ab=a+b cd=c+d y", 6),  # a region with two tokens of the system
    ("ab=a+b cd=c+d", "a bc=b+c d", 4),  # tokens that overlap across sides are one region
    ("ab=x+a+x+b", "ab=a+x+x+b", 3),  # a longest common subsequence
    ("ab=x+y", "ab=p+q", 0),
    ("abc def=d+e+f", "a b c d e f", 3),
])
def test_words_of_multiword_tokens_are_aligned_by_their_forms(gold: str, system: str, correct: int) -> None:
    pairs = conll18.aligned_words(treebank(words(gold)).words, treebank(words(system)).words)
    assert len(pairs) == correct
    assert pairs == sorted(pairs)


FORMS = st.lists(st.sampled_from("abcAB"), min_size=1, max_size=6)


@given(FORMS, FORMS)
def test_the_alignment_is_a_longest_common_subsequence(gold: list[str], system: list[str]) -> None:
    def longest(ones: Sequence[str], others: Sequence[str]) -> int:
        if not ones or not others:
            return 0
        if ones[0].lower() == others[0].lower():
            return 1 + longest(ones[1:], others[1:])
        return max(longest(ones[1:], others), longest(ones, others[1:]))

    banks = [treebank(words(f"xy={'+'.join(forms)}")).words for forms in (gold, system)]
    pairs = conll18.aligned_words(*banks)
    assert len(pairs) == longest(gold, system)
    assert all(banks[0][g].form.lower() == banks[1][s].form.lower() for g, s in pairs)


def test_a_sentence_of_empty_nodes_has_no_words() -> None:
    assert treebank("0.1 x _ X _ _ _ _ _ _\n\n1 a _ X _ _ 0 root _ _\n") == treebank(
        "\n\n1 a _ X _ _ 0 root _ _\n")


@pytest.mark.parametrize(("text", "message"), [
    ("1 a _ X _ _ 0 root _\n", "0.conllu:1: expected 10 columns separated by tabs, found 9; "
     "give a file of CoNLL-U"),
    ("1 a _ X _ _ 0 root _ _\n3 b _ X _ _ 1 dep _ _\n", "0.conllu:2: expected the ID 2, found '3'; "
     "correct it"),
    ("1 a _ X _ _ 2 root _ _\n", "0.conllu:1: expected a head from 0 to 1, found '2'; "
     "correct it"),
    ("1 a _ X _ _ 0 root _ _\n2 b _ X _ _ _ dep _ _\n",
     "0.conllu:2: expected a head from 0 to 2, found '_'; correct it"),
    ("1 a _ X _ _ _ root _ _\n2 b _ X _ _ 1 dep _ _\n",
     "0.conllu:2: expected the head _ as in all words before, found '1'; give heads to all words or to "
     "none"),
    ("1 a _ X _ _ 0 root _ _\n2 b _ X _ _ 0 root _ _\n",
     "0.conllu:1: expected a sentence with one root, found 2; give the head 0 to one word alone"),
    ("1 a _ X _ _ 0 root _ _\n2 b _ X _ _ 3 dep _ _\n3 c _ X _ _ 2 dep _ _\n",
     "0.conllu:2: expected a tree, found a cycle through word 2; correct its head"),
    ("1-2 ab _ _ _ _ _ _ _ _\n1 a _ X _ _ 0 root _ _\n",
     "0.conllu:2: expected words up to the ID 2, found 1 as the last ID; correct the range"),
    ("1-2 ab _ _ _ _ _ _ _ _\n1-2 a _ X _ _ 0 root _ _\n", "0.conllu:2: expected the ID 1, found '1-2'; "
     "correct it"),
    ("1  _ X _ _ 0 root _ _\n", "0.conllu:1: expected a form, found ''; correct it"),
])
def test_invalid_files(text: str, message: str) -> None:
    with pytest.raises(DataError) as error:
        treebank(text)
    assert str(error.value) == message


def test_different_texts_are_an_error() -> None:
    for gold, system, message in (
        ("a bc d", "a bd", "0.conllu:2: expected 'cd' as at 0.conllu:2, found 'd'"),
        ("a b", "a b cd", "0.conllu:3: expected the end of the text as at 0.conllu:2, found 'cd'"),
        ("a b cd", "a b", "0.conllu:2: expected 'cd' as at 0.conllu:3, found the end of the text"),
    ):
        with pytest.raises(DataError) as error:
            conll18.scores(treebank(words(gold)), treebank(words(system)))
        assert str(error.value) == f"{message}; give files with the same text"


# --- The command -------------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("gold.conllu").write_text(conllu(GOLD), "utf-8")
    Path("system.conllu").write_text(conllu(SYSTEM), "utf-8")


@pytest.mark.usefixtures("files")
def test_the_table() -> None:
    out = ok(invoke("evaluate", "gold.conllu", "--system", "system.conllu"))
    header, *rows = (line.split() for line in out.splitlines())
    assert header == ["metric", "precision", "recall", "f1", "aligned_accuracy"]
    assert rows == [[name, *(f"{value:.2f}" for value in values if value is not None)]
                    for name, values in OFFICIAL.items()]
    piped = invoke("evaluate", "gold.conllu", "--system", "-", input=conllu(SYSTEM))
    assert ok(piped) == out
    report = json.loads(ok(invoke("evaluate", "gold.conllu", "--system", "system.conllu", "--json")))
    assert (report["gold"], report["system"]) == ("gold.conllu", "system.conllu")
    assert {name: percentages(score) for name, score in report["metrics"].items()} == OFFICIAL
    assert report["metrics"]["UPOS"]["correct"] == 10
    assert report["signature"].endswith("|metric:conll18")


@pytest.mark.usefixtures("files")
def test_several_gold_files_are_read_one_after_the_other() -> None:
    first, second = conllu(GOLD).strip().split("\n\n")
    Path("one.conllu").write_text(first, "utf-8")  # a file may end without an empty line
    Path("two.conllu").write_text(second, "utf-8")
    both = ok(invoke("evaluate", "one.conllu", "two.conllu", "--system", "system.conllu"))
    assert both == ok(invoke("evaluate", "gold.conllu", "--system", "system.conllu"))


@pytest.mark.usefixtures("files")
def test_a_file_without_heads_has_no_metrics_of_trees() -> None:
    rows = (line.split("\t") for line in conllu(SYSTEM).split("\n"))
    text = "\n".join("\t".join([*row[:6], "_", "_", *row[8:]]) if row[1:] else "" for row in rows)
    Path("tags.conllu").write_text(text, "utf-8")
    done = invoke("evaluate", "gold.conllu", "--system", "tags.conllu")
    assert done.code == 0
    assert done.err == ("rnntool: tags.conllu: expected heads, found _ in every word; "
                        "UAS, LAS, CLAS, MLAS and BLEX are left out\n")
    assert {line.split()[0] for line in done.out.splitlines()[1:]} == OFFICIAL.keys() - set(TREES)


@pytest.mark.usefixtures("files")
def test_options_for_models_are_refused_with_a_system(monkeypatch: pytest.MonkeyPatch) -> None:
    command = ("evaluate", "gold.conllu", "--system", "system.conllu")
    failed(invoke(*command, "-m", "en-pos"), 2, "--system contradicts --model; leave one out")
    for option in (["--column", "upos"], ["--errors", "3"], ["--compare", "en-pos"], ["--dynamic"],
                   ["--from", "conllu"], ["--no-header"], ["--skip-unlabelled"]):
        failed(invoke(*command, *option), 2, f"{option[0]}: has no effect with --system; leave it out")
    failed(invoke("evaluate", "-", "--system", "-"), 2, "standard input can be read only once")
    failed(invoke("evaluate", "gold.conllu"), 2,
           "nothing to evaluate; name a model with --model, or a system's output with --system")
    Path("empty.conllu").write_text("")
    failed(invoke("evaluate", "gold.conllu", "--system", "empty.conllu"), 3, "empty.conllu: expected CoNLL-U")
    monkeypatch.setenv("RNNTOOL_MODEL", "en-pos")
    ok(invoke(*command))


def test_a_tagger_of_columns_of_conllu_has_the_official_metrics(joint: Path, models: Path) -> None:
    file = models / "data" / "joint-dev.conllu"
    report = json.loads(ok(invoke("evaluate", file, "-m", joint, "--json")))
    assert report["conll18"] == {"UPOS": report["accuracy"], "XPOS": report["columns"]["xpos"]["accuracy"]}
    text = ok(invoke("evaluate", file, "-m", joint))
    assert "shared task on gold words, in percent\nUPOS  100.00\nXPOS  100.00\n" in text
