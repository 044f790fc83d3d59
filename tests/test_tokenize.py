"""Tokenizers: round trips, offsets, files, and the registry."""



from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import tiny
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sentencepiece import SentencePieceProcessor

from rnntool.errors import DataError, ModelError, UsageError
from rnntool.inference import model
from rnntool.tasks.specs.classify import ClassifySettings
from rnntool.tasks.specs.lm import LMSettings
from rnntool.tokenize import BOS, EOS, KINDS, PAD, SPECIALS, UNK, Tokenizer, WordTokenizer, load, train

CORPUS = ["The cat sat on the mat.", "the dog\tsat", "Ein Bär saß da: \\ 中文\n", "a <unk> b <s> <0x41>"]
LOSSLESS = ("unigram", "bpe", "byte")
NASTY = " \t\n\r\0ab.'-\\<>s▁▅İıΣé\u0301\u200d👨中\u2028\x85\ufeff\ud800\udfff"
TEXTS = st.text(max_size=40) | st.text(NASTY, max_size=40) | st.sampled_from([*CORPUS, *SPECIALS, "<0x41>"])


@cache
def trained(kind: str, lower: bool = False) -> Tokenizer:
    return train(kind, CORPUS, lower=lower)


def readable(text: str) -> str:
    """`text` as UTF-8 can hold it."""
    return "".join("\ufffd" if "\ud800" <= char <= "\udfff" else char for char in text)


def pieces(tokenizer: Tokenizer) -> list[str]:
    return [tokenizer.piece(id) for id in range(tokenizer.size)]


# --- what every kind promises ---


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_can_be_trained_saved_loaded_and_chosen(kind: str, tmp_path: Path) -> None:
    tokenizer = train(kind, CORPUS)
    assert tokenizer.kind == kind
    tokenizer.save(tmp_path)
    loaded = load(tmp_path, json.loads(json.dumps(tokenizer.config())))
    assert type(loaded) is KINDS[kind] and loaded.kind == kind
    text = "the cat sat"
    assert loaded.decode(loaded.encode(text)) == text == tokenizer.decode(loaded.encode(text))
    for settings_of_task in (LMSettings, ClassifySettings):
        field = settings_of_task.__dataclass_fields__["tokenizer"]
        assert field.metadata["choices"] == tuple(KINDS)
        assert settings_of_task(tokenizer=kind).tokenizer == kind


@pytest.mark.parametrize("lower", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@given(text=TEXTS)
@settings(max_examples=60, deadline=None)
def test_tokens_are_the_encoded_ids_and_cover_the_text(kind: str, lower: bool, text: str) -> None:
    tokenizer = trained(kind, lower)
    ids, tokens = tokenizer.encode(text), tokenizer.tokens(text)
    assert [token.id for token in tokens] == ids
    assert all(UNK <= id < tokenizer.size and id not in (BOS, EOS) for id in ids)
    assert all(0 <= token.start <= token.end <= len(text) for token in tokens)
    assert all(a.end <= b.start for a, b in pairwise(tokens))
    if kind == "word":
        assert [text[token.start : token.end] for token in tokens] == text.split()
    else:
        assert "".join(text[token.start : token.end] for token in tokens) == text


@pytest.mark.parametrize("kind", LOSSLESS)
@given(text=TEXTS)
@example(text=" ▁ \u2581\u2581")
@example(text="  two  spaces \t and\nlines\r\n ")
@settings(max_examples=150, deadline=None)
def test_subwords_and_bytes_lose_nothing(kind: str, text: str) -> None:
    tokenizer = trained(kind)
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == readable(text)
    assert UNK not in ids and tokenizer.unknown(text) == []
    assert trained(kind, True).decode(trained(kind, True).encode(text)) == readable(text.lower())


@pytest.mark.parametrize("kind", KINDS)
@given(texts=st.lists(TEXTS, max_size=4))
@settings(max_examples=40, deadline=None)
def test_a_batch_equals_its_texts_one_by_one(kind: str, texts: list[str]) -> None:
    tokenizer = trained(kind)
    assert tokenizer.encode_batch(texts) == [tokenizer.encode(text) for text in texts]


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@settings(max_examples=80, deadline=None)
def test_decoding_one_by_one_gives_the_same_text(kind: str, data: st.DataObject) -> None:
    tokenizer = trained(kind)
    ids = data.draw(st.lists(st.integers(0, tokenizer.size - 1), max_size=20) | TEXTS.map(tokenizer.encode))
    decoder = tokenizer.stream_decoder()
    text = "".join(map(decoder.push, ids)) + decoder.flush()
    assert text == tokenizer.decode(ids)
    text.encode()  # it can be written

    prompt = tokenizer.encode("the mat")
    decoder = tokenizer.stream_decoder(after=prompt)
    continuation = "".join(map(decoder.push, ids)) + decoder.flush()
    assert tokenizer.decode(prompt) + continuation == tokenizer.decode(prompt + ids)


@pytest.mark.parametrize("kind", KINDS)
def test_specials_have_fixed_ids_and_no_text(kind: str) -> None:
    tokenizer = trained(kind)
    assert [tokenizer.piece(id) for id in range(4)] == list(SPECIALS)
    ids = tokenizer.encode("the cat")
    assert tokenizer.decode([BOS, *ids, EOS, PAD, PAD]) == tokenizer.decode(ids)
    assert tokenizer.decode([UNK]) == ("<unk>" if kind == "word" else "\ufffd")
    assert tokenizer.decode([]) == tokenizer.decode([PAD, BOS, EOS]) == ""
    assert tokenizer.encode("") == [] and tokenizer.tokens("") == []


def test_no_text_is_encoded_as_a_control_id() -> None:
    for kind in KINDS:
        ids = trained(kind).encode("<pad> <s> </s> <0x0A>")
        assert not {PAD, BOS, EOS} & set(ids)


# --- training ---


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
@pytest.mark.parametrize(
    "corpus",
    [["a"], [" "], ["\n"], ["▁"], ["a\0b"], ["中"], ["]^-\\"], ["x"] * 3, ["one", "2 words"], ["a" * 10_000]],
)
def test_learning_from_tiny_corpora(kind: str, corpus: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    tokenizer = train(kind, corpus)
    for text in [*corpus, "else ▁\n"]:
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
@pytest.mark.parametrize("vocab_size", [261, 262, 270, 300])
def test_a_small_vocabulary_has_all_bytes(kind: str, vocab_size: int) -> None:
    tokenizer = train(kind, CORPUS, vocab_size=vocab_size)
    assert 261 <= tokenizer.size <= vocab_size
    assert all(tokenizer.decode(tokenizer.encode(text)) == text for text in CORPUS)
    message = f"^vocab_size: expected 261 or more, .* {kind} tokens .*, found 260; .* tokenizer=char$"
    with pytest.raises(UsageError, match=message):
        train(kind, CORPUS, vocab_size=260)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_texts_give_the_same_tokenizer(kind: str, tmp_path: Path) -> None:
    files = []
    for name in "ab":
        folder = tmp_path / name
        folder.mkdir()
        train(kind, iter(CORPUS)).save(folder)
        files.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert files[0] == files[1]


def test_the_vocabulary_is_sorted_and_truncated_by_frequency() -> None:
    corpus = ["b b b a a c c d", "<unk> <unk> <unk> <unk>"]
    words = train("word", corpus)
    assert pieces(words) == [*SPECIALS, "b", "a", "c", "d"]
    assert train("word", corpus, vocab_size=6).encode("a b c d") == [5, 4, UNK, UNK]
    assert train("word", corpus, min_count=3).encode("a b c d") == [UNK, 4, UNK, UNK]
    chars = train("char", ["zzyyx\n"], vocab_size=7)
    assert pieces(chars)[4:] == ["y", "z", "\n"]


def test_errors_of_training() -> None:
    with pytest.raises(UsageError, match="expected one of unigram, bpe, char, byte, word, found 'wordpiece'"):
        train("wordpiece", CORPUS)
    with pytest.raises(UsageError, match="split: expected one of space, words"):
        train("word", CORPUS, split="lines")
    with pytest.raises(UsageError, match="found 4"):
        train("char", CORPUS, vocab_size=4)
    with pytest.raises(UsageError, match="vocab_size: expected 5 or more, found 3"):
        WordTokenizer.from_counts({"a": 1}, vocab_size=3)
    for kind in ("unigram", "bpe", "char", "word"):
        with pytest.raises(DataError, match="found none"):
            train(kind, [""])
    with pytest.raises(DataError, match="no word occurs 9 times or more; lower min_count"):
        train("word", CORPUS, min_count=9)
    with pytest.raises(DataError, match="found none"):
        train("word", [""], allow_empty=True)


def test_a_vocabulary_of_special_tokens_alone(tmp_path: Path) -> None:
    tokenizer = train("word", CORPUS, min_count=9, allow_empty=True)
    assert tokenizer.size == 4
    assert WordTokenizer.from_counts({"a": 1}, min_count=2, allow_empty=True).size == 4
    tokenizer.save(tmp_path)
    assert load(tmp_path, tokenizer.config()).encode("a b") == [UNK, UNK]


# --- characters and words ---


def test_unknown_lists_what_is_not_in_the_vocabulary() -> None:
    chars = train("char", ["abc\n"])
    assert chars.encode("a?\nü") == [chars.encode("a")[0], UNK, chars.encode("\n")[0], UNK]
    assert chars.unknown("a?\nü") == [("?", 1), ("ü", 3)]
    assert chars.decode(chars.encode("a?b")) == "a\ufffdb"
    words = train("word", ["the cat sat"])
    assert words.unknown("the <unk>  dog sat") == [("dog", 11)]
    assert words.encode("the <unk> dog") == [words.encode("the")[0], UNK, UNK]
    assert words.decode(words.encode("the  dog\tsat")) == "the <unk> sat"


def test_offsets_index_the_original_text_if_lowercasing_makes_it_longer() -> None:
    chars = train("char", ["i\u0307x"], lower=True)
    assert [(token.start, token.end) for token in chars.tokens("İX")] == [(0, 1), (1, 1), (1, 2)]
    words = train("word", ["istanbul"], lower=True)
    assert words.unknown("İstanbul ISTANBUL Ankara") == [("İstanbul", 0), ("Ankara", 18)]


def test_a_character_of_several_bytes_has_one_span_and_empty_ones() -> None:
    spans = [(token.start, token.end) for token in trained("byte").tokens("aé\n")]
    assert spans == [(0, 1), (1, 2), (2, 2), (2, 3)]
    for kind in ("unigram", "bpe"):
        tokens = trained(kind).tokens("\U0001f600")[-4:]
        assert [(token.start, token.end) for token in tokens] == [(0, 1), (1, 1), (1, 1), (1, 1)]


def test_a_stream_holds_back_broken_characters_and_puts_spaces_between_words() -> None:
    byte = trained("byte")
    decoder = byte.stream_decoder()
    assert [decoder.push(id) for id in byte.encode("é!")] == ["", "é", "!"]
    assert decoder.push(byte.encode("é")[0]) == "" and decoder.flush() == "\ufffd"
    words = train("word", ["the cat sat"])
    decoder = words.stream_decoder()
    assert [decoder.push(id) for id in [BOS, *words.encode("the cat"), EOS]] == ["", "the", " cat", ""]
    decoder = words.stream_decoder(after=words.encode("the"))
    assert decoder.push(words.encode("cat")[0]) == " cat"


def test_words_split_by_rule() -> None:
    words = train("word", ["I don't."], split="words")
    assert words.encode("I  don't.") == words.encode("I do n't .")
    assert words.decode(words.encode("I don't <unk>.")) == "I do n't <unk> ."
    assert words.unknown("Do <unk>") == [("Do", 0)]


def test_words_that_are_already_split() -> None:
    words = WordTokenizer.from_counts({"The": 1, "the": 2, "10 000": 1, "<unk>": 9, "cat": 1}, lower=True)
    assert pieces(words)[4:] == ["the", "10 000", "cat"]
    assert words.lookup(["THE", "10 000", "dog", "<unk>"]) == [4, 5, UNK, UNK]


# --- files ---


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lower", [False, True])
def test_a_loaded_tokenizer_equals_the_saved_one(kind: str, lower: bool, tmp_path: Path) -> None:
    tokenizer = trained(kind, lower)
    tokenizer.save(tmp_path)
    loaded = load(tmp_path, json.loads(json.dumps(tokenizer.config())))
    assert loaded.config() == tokenizer.config()
    assert pieces(loaded) == pieces(tokenizer)
    assert all(loaded.tokens(text) == tokenizer.tokens(text) for text in [*CORPUS, NASTY])


@given(corpus=st.lists(TEXTS, min_size=1))
@settings(max_examples=60, deadline=None)
def test_any_character_survives_the_vocabulary_file(
    corpus: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("vocabulary")
    tokenizer = train("char", ["x", *corpus])
    tokenizer.save(folder)
    assert pieces(load(folder, tokenizer.config())) == pieces(tokenizer)


def test_the_vocabulary_file_can_be_read_and_diffed(tmp_path: Path) -> None:
    train("char", ["aaaa\n\n\n  \\\x85é"]).save(tmp_path)
    assert (tmp_path / "vocab.txt").read_text("utf-8") == "a\n\\n\n\\u0020\n\\\\\n\\u0085\né\n"


@pytest.mark.parametrize("kind", ["unigram", "bpe", "char", "word"])
def test_a_damaged_file_is_one_clear_sentence(
    kind: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tokenizer = trained(kind)
    config = tokenizer.config()
    with pytest.raises(ModelError, match="No such file"):
        load(tmp_path, config)
    tokenizer.save(tmp_path)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    for data in (b"", whole[: len(whole) // 2], whole[:-1], b"\xff\xfe" + whole, b"a\n" * 9, bytes(999)):
        path.write_bytes(data)
        with pytest.raises(ModelError, match=r"copy the model again$") as raised:
            load(tmp_path, config)
        assert "\n" not in str(raised.value) and str(tmp_path) in str(raised.value)
    path.write_bytes(whole)
    for wrong in ({}, {**config, "kind": "morse"}, {**config, "size": 7}, {"kind": kind, "size": 9}):
        with pytest.raises(ModelError):
            load(tmp_path, wrong)
    assert capfd.readouterr().err == ""


def test_sentencepiece_is_imported_only_for_subwords() -> None:
    code = (
        "import sys; from rnntool.tokenize import train; train('char', ['a']); train('word', ['a']);"
        "sys.exit(bool({'sentencepiece', 'torch', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_subwords_use_the_requested_number_of_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text.txt").write_text("".join(f"{line}\n" for line in tiny.lines_of_text(40)), "utf-8")
    thread_counts: list[int] = []
    encode = SentencePieceProcessor.encode

    def record(self: Any, *texts: Any, num_threads: int | None = None) -> Any:
        if num_threads is not None:
            thread_counts.append(num_threads)
        return encode(self, *texts, num_threads=num_threads)

    monkeypatch.setattr(SentencePieceProcessor, "encode", record)
    tiny.train("lm", tmp_path / "m", [tmp_path / "text.txt"], tokenizer="bpe", vocab_size=300, epochs=1)
    assert set(thread_counts) == {1}
    monkeypatch.setattr("rnntool.data.threads.cores", lambda: 3)
    loaded = model.load(tmp_path / "m", threads=3)
    loaded.task.evaluate(loaded.engine, [model.Text("the baker sings")])
    assert thread_counts[-1] == 3
