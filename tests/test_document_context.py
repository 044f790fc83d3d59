"""Document context: sentences of one document that a tagger reads together."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tiny
from conftest import Run, invoke
from hypothesis import given
from hypothesis import strategies as st
from test_pipes import live

from rnntool.data.arrays import Arrays
from rnntool.data.formats import read_sentences
from rnntool.data.records import Sentence
from rnntool.data.streams import open_lines
from rnntool.errors import DataError
from rnntool.inference import model
from rnntool.inference.model import Model
from rnntool.tasks import tag as tagging
from rnntool.tasks.document_context import SEPARATOR, document_groups
from rnntool.tasks.specs.tag import TagSettings
from rnntool.tasks.tag import TagTask
from rnntool.tokenize import split_words
from rnntool.training.training_data import split

WORDS = 12  # read together
SMALL = ("--epochs", "1", "--hidden", "8", "--char-hidden", "8", "--affix-buckets", "64")


def documents(n: int, seed: int) -> list[list[tiny.Tags]]:
    """Generate documents: nouns are towns if the document starts with `abroad`, and teams otherwise."""
    rng = random.Random(seed)
    generated = []
    for _ in range(n):
        place, tag = rng.choice([("abroad", "TOWN"), ("afield", "TEAM")])
        others = [[("then", "ADV"), (rng.choice(tiny.STEMS), tag), ("wins", "VERB")] for _ in range(3)]
        generated.append([[(place, "ADV"), (".", "PUNCT")], *others])
    return generated


def columns(texts: list[list[tiny.Tags]]) -> str:
    """Write CoNLL columns with a -DOCSTART- line before each document."""
    return "".join("-DOCSTART- O\n\n" + tiny.conll(document) for document in texts)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train a tagger with document context (`together`) and one without (`alone`), both with a CRF."""
    path = tmp_path_factory.mktemp("document-context")
    for name, n, seed in (("train.conll", 150, 0), ("dev.conll", 40, 1)):
        (path / name).write_text(columns(documents(n, seed)), "utf-8")
    for name, words in (("together", WORDS), ("alone", 0)):
        tiny.train("tag", path / name, [path / "train.conll"], dev=[path / "dev.conll"], epochs=8,
                   head="crf", passage=words)
    return path


@pytest.fixture(scope="module")
def together(folder: Path) -> Model:
    """Load the tagger with document context."""
    return model.load(folder / "together", threads=1)


def read(path: Path) -> list[Sentence]:
    """Read the sentences of a CoNLL file."""
    with open_lines(str(path)) as lines:
        return list(read_sentences(lines, format="conll", split=split_words))


def test_tags_depend_on_an_earlier_sentence_of_the_document(folder: Path) -> None:
    accuracy = {name: model.load(folder / name, threads=1).config.report["accuracy"]
                for name in ("together", "alone")}
    assert accuracy["together"] > 0.99
    assert accuracy["alone"] < 0.93  # 3 of 11 words are guesses


def test_the_emissions_of_a_sentence_are_those_of_its_words_in_the_row(together: Model) -> None:
    task = together.require(TagTask)
    sentences = [Sentence(words) for words in (["abroad", "."], [], ["then", "bak", "wins"], ["x"])]
    one = task.join(list(map(task.example, sentences)))
    other = task.join([task.example(Sentence(["afield"]))])
    emissions = task._run_network(together.engine, task.collate([one, other]))["emissions"]
    words = [word for sentence in sentences if sentence.words for word in (*sentence.words, SEPARATOR)][:-1]
    row = task.join([task.example(Sentence(words))])
    whole = task._run_network(together.engine, task.collate([row]))["emissions"]
    for i, (start, size) in enumerate(((0, 2), (3, 0), (3, 3), (7, 1))):  # an empty sentence has no separator
        np.testing.assert_allclose(emissions[:size, i], whole[start : start + size, 0], atol=1e-5)
    alone = task._run_network(together.engine, task.collate([other]))["emissions"]
    np.testing.assert_allclose(emissions[:1, 4], alone[:1, 0], atol=1e-5)


def test_evaluating_and_tagging_a_file_or_a_slow_pipe_agree(folder: Path, run: Run) -> None:
    text = (folder / "dev.conll").read_text("utf-8")
    tagged = run("tag", folder / "dev.conll", "-m", folder / "together", "--to", "tokens").out.splitlines()
    gold = [[tag for _, tag in sentence] for document in documents(40, 1) for sentence in document]
    correct = [a == b for line, tags in zip(filter(None, tagged), gold, strict=True)
               for a, b in zip(line.split(), tags, strict=True)]
    report = run("evaluate", folder / "dev.conll", "-m", folder / "together", "--json")
    assert f'"accuracy": {sum(correct) / len(correct)}' in report.out
    with live("tag", "--from", "conll", "--to", "tokens", "-m", str(folder / "together")) as process:
        assert process.stdin is not None
        for start in range(0, len(text), 97):
            process.stdin.write(text[start : start + 97])
            process.stdin.flush()
        assert process.communicate(timeout=20)[0].splitlines() == tagged


def test_blank_records_and_bad_lines_between_sentences(folder: Path, run: Run) -> None:
    lines = ["-DOCSTART- O\n\n", *(f"{word} {tag}\n" for word, tag in documents(1, 5)[0][0]), "\n"]
    sentence = "".join(f"{word} {tag}\n" for word, tag in documents(1, 5)[0][1]) + "\n"
    plain = run("tag", "--from", "conll", "-m", folder / "together", input="".join(lines) + sentence).out
    more = run("tag", "--from", "conll", "-m", folder / "together", input="".join(lines) + "\n\n" + sentence)
    assert more.out.replace("\n\n\n\n", "\n\n") == plain
    many = run("tag", "--from", "conll", "-m", folder / "together", input="\n" * 5000 + sentence)
    assert many.out.startswith("\n" * 5000 + "then ADV ADV\n")
    row = "1\tbak" + "\t_" * 8 + "\n\n"
    bad = run("tag", "--from", "conllu", "-m", folder / "together", "--to", "tokens",
              input=row + row + "x\n\n")
    assert bad.code == 3
    assert len(bad.out.splitlines()) == 2
    assert "<stdin>:5: expected 10 columns" in bad.err


def test_a_complete_group_is_tagged_at_once(folder: Path) -> None:
    first, second = (columns([document]) for document in documents(2, 3))
    with live("tag", "--from", "conll", "-m", str(folder / "together")) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        sentence = second.split("\n\n")[1]
        process.stdin.write(f"{first}-DOCSTART- O\n\n{sentence}\n\n")
        process.stdin.flush()
        for line in first.splitlines():
            assert process.stdout.readline().startswith(line)


@pytest.mark.parametrize("command", ["states", "clusters", "gradients"])
def test_inspect_reads_document_context(command: str, folder: Path, run: Run) -> None:
    out = ["-o", folder / f"{command}.svg"]
    ran = run("inspect", command, folder / "dev.conll", "-m", folder / "together", *out)
    assert (ran.code, ran.err) == (0, "")


def test_every_file_starts_a_document_even_the_same_file_again(folder: Path, run: Run) -> None:
    (folder / "x.conll").write_text(tiny.conll(documents(1, 6)[0][1:]), "utf-8")
    once = run("tag", folder / "x.conll", "-m", folder / "together").out
    assert run("tag", folder / "x.conll", folder / "x.conll", "-m", folder / "together").out == 2 * once


def test_the_first_window_uses_computed_word_vectors(
    together: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[bool] = []
    run = together.engine.run

    def watched(arrays: Arrays, outputs: list[str] | None = None) -> Arrays:
        if outputs is None:
            computed.append("known_vectors" in arrays)
        return run(arrays, outputs)

    monkeypatch.setattr(together.engine, "run", watched)
    list(together.tag([Sentence([word], document="d") for word in ("never", "seen")]))
    assert computed == [True]


def test_document_context_works_with_other_settings(folder: Path, tmp_path: Path) -> None:
    """Several columns, class weights and raw text."""
    generated = [[[(word, f"{tag}\tX{tag}") for word, tag in sentence] for sentence in document]
                 for document in documents(60, 0)]
    texts = (tiny.conll(document).replace(" ", "\t") for document in generated)
    (tmp_path / "t.conll").write_text("".join("-DOCSTART-\tO\tO\n\n" + text for text in texts), "utf-8")
    (tmp_path / "raw.txt").write_text("then bak wins\n" * 20)
    report = tiny.train("tag", tmp_path / "m", [tmp_path / "t.conll"], epochs=6, column="2,3", passage=WORDS,
                        class_weights="balanced", neighbours=0.1, raw=str(tmp_path / "raw.txt"))
    assert report["records"] % 4 == 0  # whole documents
    assert report["accuracy"] > 0.8
    assert report["columns"]["3"]["accuracy"] > 0.8


def test_a_long_row_is_read_in_pieces(together: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    task = together.require(TagTask)
    sentences = [Sentence([word for word, _ in tags]) for document in documents(9, 4) for tags in document]
    arrays = task.collate([task.join(list(map(task.example, sentences)))])
    whole = task._run_network(together.engine, arrays)["emissions"]
    monkeypatch.setattr(tagging, "PIECE", 20)
    monkeypatch.setattr(tagging, "CONTEXT", 200)
    np.testing.assert_allclose(task._run_network(together.engine, arrays)["emissions"], whole, atol=1e-3)


def test_document_context_has_no_effect_without_documents(folder: Path, run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"tokens": ["a", "b"], "tags": ["X", "Y"]}\n' * 9)
    ran = invoke("train", "tag", tmp_path / "a.jsonl", "-o", tmp_path / "m", "--preset", "fast", *SMALL)
    assert ran.code == 0
    assert "passage" in ran.err and "has no effect, because no training file has documents" in ran.err
    # this network has learned no document context, so it needn't wait for more sentences
    with live("tag", "--from", "conll", "-m", str(tmp_path / "m")) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("a\n\nb")
        process.stdin.flush()
        assert process.stdout.readline().startswith("a\t")


def test_lines_of_text_are_tagged_one_by_one(folder: Path) -> None:
    with live("tag", "--from", "text", "--to", "tokens", "-m", str(folder / "together")) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for _ in range(2):
            process.stdin.write("then bak wins\n")
            process.stdin.flush()
            assert process.stdout.readline().startswith("ADV T")


def test_the_formats_mark_where_documents_start(tmp_path: Path) -> None:
    conll = "-DOCSTART- O\n\na X\n\nb X\n\n-DOCSTART- O\n\nc X\n-DOCSTART- O\n\nd X\n\ne X\n"
    row = "1\t{}" + "\t_" * 8 + "\n\n"
    conllu = "# newdoc id = 1\n" + row + row + "# newpar\n" + row + "#newdoc\n# sent_id = 4\n" + row + row
    plain = "a X\n\nb X\n\n"
    for format, text, expected in (("conll", conll, "AABCC"), ("conllu", conllu.format(*"abcde"), "AAABB"),
                               ("conll", plain, "AA"), ("tokens", "a\nb\n", "")):
        (tmp_path / "f").write_text(text, "utf-8")
        with open_lines(str(tmp_path / "f")) as lines:
            sentences = read_sentences(lines, format=format, split=split_words)
            ids = [sentence.document for sentence in sentences]
        letters = dict(zip(dict.fromkeys(filter(None, ids)), "ABC", strict=False))
        assert "".join(letters[document] for document in ids if document) == expected


@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from([None, "a", "b"]))), st.integers(1, 15))
def test_groups_are_as_long_as_documents_and_the_limit_allow(
    sizes_and_documents: list[tuple[int, str | None]], words: int
) -> None:
    sentences = [Sentence(["w"] * size, document=document) for size, document in sizes_and_documents]
    grouped = list(document_groups(sentences, words))
    assert [sentence for group in grouped for sentence in group] == sentences
    sizes = [sum(len(sentence.words) for sentence in group) for group in grouped]
    for group, size in zip(grouped, sizes, strict=True):
        assert len({sentence.document for sentence in group}) == 1
        assert len(group) == 1 or (group[0].document and size <= words)
    for one, other, size in zip(grouped, grouped[1:], sizes, strict=False):
        first = other[0]
        assert (not first.document or first.document != one[-1].document or size + len(first.words) > words
                or len(one) == words)
    assert list(document_groups(sentences, 0)) == [[sentence] for sentence in sentences]


def test_sentences_before_an_error_are_still_read() -> None:
    def sentences() -> Iterator[Sentence]:
        yield Sentence(["a"], document="d")
        raise DataError("bad")

    grouped = document_groups(sentences(), 10)
    assert next(grouped) == [Sentence(["a"], document="d")]
    with pytest.raises(DataError):
        next(grouped)


def test_development_sentences_keep_their_context(folder: Path) -> None:
    settings = TagSettings(passage=WORDS, dev_fraction=0.3)
    sentences = read(folder / "dev.conll")
    before = [[s.words for s in group] for group in document_groups(sentences, WORDS)]
    parts = split(TagTask, sentences, settings)
    after = [[s.words for s in group] for part in parts for group in document_groups(part, WORDS)]
    assert sorted(after) == sorted(before)
    assert len(parts[1]) == pytest.approx(0.3 * len(sentences), abs=5)


def test_document_context_and_a_character_language_model_exclude_each_other(
    folder: Path, writer: Path, run: Run, tmp_path: Path
) -> None:
    ran = invoke("train", "tag", folder / "train.conll", "-o", tmp_path / "m", "--passage", "50",
                 "--features", writer)
    assert ran.code == 2
    assert "--passage: has no effect with --features; leave one out" in ran.err
    ran = invoke("train", "tag", folder / "train.conll", "-o", tmp_path / "m", "--preset", "fast", *SMALL,
                 "-q", "--features", writer, "--init", folder / "together")  # drops that of a preset
    assert (ran.code, ran.err) == (0, "")
    assert len(run("tag", folder / "dev.conll", "-m", tmp_path / "m").out.splitlines()) > 100
