"""Tasks: encoding, decoding and evaluation of records, independently of the batch they are in."""

from __future__ import annotations

import dataclasses
import io
import itertools
import math
import random
import re
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st

import rnntool
from rnntool.cli import COMMANDS
from rnntool.data.arrays import Arrays, by_length, pad
from rnntool.data.labels import SCHEMES, convert, spans
from rnntool.data.records import Kind, Sentence, Text, Transduction
from rnntool.data.streams import Lines
from rnntool.errors import DataError, ModelError
from rnntool.evaluation import metrics
from rnntool.inference import model
from rnntool.models.config import HEAD_CONFIGS, EncoderConfig, ObjectiveConfig, WordConfig
from rnntool.tasks import TASKS
from rnntool.tasks.base import Criterion, excerpt, task_class
from rnntool.tasks.classify import ClassifyTask
from rnntool.tasks.lm import LMTask, ScoredText
from rnntool.tasks.specs.classify import ClassifySettings
from rnntool.tasks.specs.lm import LMSettings
from rnntool.tasks.specs.tag import TagSettings
from rnntool.tasks.tag import TagTask
from rnntool.tasks.word_features import (
    AFFIXES,
    MAX_CHARACTERS,
    WordFeatures,
    affixes,
    read_vector_words,
    shape,
)
from rnntool.tokenize import EOS, UNK, Token, WordTokenizer


def sentence(words: str, tags: str | None = None) -> Sentence:
    return Sentence(words.split(), tags.split() if tags is not None else None)


def tag_task(records: Sequence[Sentence], **settings: Any) -> TagTask:
    usual = {"min_count": 1, "affix_buckets": 64, "window_scores": False}
    return TagTask.learn(records, TagSettings(**usual | settings))


NER = [sentence("Anna met Bob in New York .", "B-PER O B-PER O B-LOC I-LOC O"), sentence("", ""),
       sentence("New York", "B-LOC I-LOC")]


class Canned:
    """An engine that always returns the same outputs."""

    def __init__(self, outputs: Arrays) -> None:
        self.outputs = outputs

    def run(self, arrays: Any, outputs: list[str] | None = None) -> Arrays:
        return self.outputs

    def initial_state(self, batch: int) -> Arrays:
        return {}


# --- Shared ------------------------------------------------------------------------------------------------


def test_pad_fills_rows_to_the_longest() -> None:
    padded, lengths = pad([np.array([1, 2, 3]), np.array([], int), np.array([4])], -1)
    assert padded.T.tolist() == [[1, 2, 3], [-1, -1, -1], [4, -1, -1]]
    assert lengths.tolist() == [3, 0, 1]
    assert pad([np.array([], int)], 0)[0].shape == (1, 1), "a batch of empty records has one step"
    assert pad([], 0)[0].shape == (1, 0)


@given(st.lists(st.integers(0, 40), max_size=40), st.integers(1, 60))
def test_batches_by_length_hold_every_record_once_within_the_budget(lengths: list[int], budget: int) -> None:
    batches = list(by_length(lengths, budget))
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        longest = max(1, *(lengths[i] for i in batch)) if len(batch) > 1 else 0
        assert longest * len(batch) <= budget


def test_a_criterion_compares_in_its_direction_and_rejects_nan() -> None:
    up = Criterion("f1", higher_is_better=True, metric=metrics.f1)
    down = Criterion("perplexity", higher_is_better=False, metric=metrics.perplexity)
    assert up.is_better(0.0, None)
    assert not up.is_better(math.nan, None)
    assert up.is_better(0.5, 0.4)
    assert not up.is_better(0.4, 0.4)
    assert down.is_better(3.0, 4.0)
    assert not down.is_better(math.nan, 4.0)


def test_among_equals_a_criterion_allows_for_chance_if_it_is_a_share_of_the_records() -> None:
    accuracy = Criterion("accuracy", higher_is_better=True, metric=metrics.accuracy, per_record=True)
    assert accuracy.is_as_good(0.72, 0.8, records=20)  # a standard error of 0.089
    assert not accuracy.is_as_good(0.7, 0.8, records=20)
    assert not accuracy.is_as_good(0.78, 0.8, records=2000)
    f1 = Criterion("f1", higher_is_better=True, metric=metrics.f1)
    assert f1.is_as_good(0.8, 0.8, records=20)
    assert not f1.is_as_good(0.79, 0.8, records=20)


def test_an_excerpt_is_one_line() -> None:
    assert excerpt("a\nb  word c", 5, 9) == "a b [word] c"
    assert excerpt("x" * 100, 50, 51, width=3) == "xxx[x]xxx"


@pytest.mark.parametrize("name", TASKS)
def test_the_spec_of_a_task_is_complete(name: str) -> None:
    spec, task = TASKS[name], task_class(name)
    assert spec.name == name and task.spec is spec and not task.__abstractmethods__
    assert spec.title.startswith(("a ", "an ")) and spec.summary.endswith(".")
    assert spec.reads in get_args(Kind) and spec.learns_from and spec.pipeline_tag
    fields = {field.name: field for field in dataclasses.fields(spec.settings)}
    assert set(spec.needs_labels) <= fields.keys()
    assert all(field.metadata["help"] and field.metadata["panel"] for field in fields.values())
    assert spec.preset_uses.keys() == spec.presets.keys()
    for preset in spec.presets.values():
        spec.settings(**preset)
    assert spec.commands and set(spec.commands) <= {row.name for row in COMMANDS}
    assert all(line.startswith(f"rnntool train {name} ") for line in spec.examples) and spec.examples
    for line in spec.command_lines("my model", label="my label"):
        assert re.search(rf"rnntool ({'|'.join(spec.commands)}) -m 'my model'", line)


@pytest.mark.parametrize("name", TASKS)
def test_each_setting_of_a_task_is_used(name: str) -> None:
    """A setting is read by its name, or it is a field of a part of the network's configuration."""
    parts = (EncoderConfig, WordConfig, ObjectiveConfig, *HEAD_CONFIGS.values())
    configured = {field.name for part in parts for field in dataclasses.fields(part)}
    package = Path(rnntool.__file__).parent
    code = "".join(path.read_text("utf-8") for path in package.rglob("*.py")
                   if path.parent != package / "tasks" / "specs")
    names = {field.name for field in dataclasses.fields(TASKS[name].settings)} - configured
    assert not [name for name in names if not re.search(rf"\w\.{name}\b|\"{name}\"", code)]


@pytest.mark.parametrize("name", TASKS)
def test_a_task_survives_saving_and_loading(
    name: str, tagger: Path, classifier: Path, writer: Path, transducer: Path, segmenter: Path,
    tmp_path: Path,
) -> None:
    models = {"lm": writer, "classify": classifier, "tag": tagger, "transduce": transducer,
              "segment": segmenter}
    task = model.load(models[name], threads=1).task
    task.save(tmp_path)
    again = type(task).load(tmp_path, task.config(), task.settings)
    assert again.criterion == task.criterion and task.criterion.key in task.spec.metrics
    assert task.criterion.higher_is_better == task.spec.higher_is_better
    record: Any = Text("who is it?")
    if name == "tag":
        record = sentence("the unseen baker sings", "DET ADJ NOUN VERB")
    if name == "segment":
        record = Sentence([], text="Sing hunt dont. Ω")
    if name == "transduce":
        record = Transduction("fade", ("e d a f",))
    assert again.sizes() == task.sizes()
    for key, array in task.encode([record]).items():
        np.testing.assert_array_equal(again.encode([record])[key], array, err_msg=key)


# --- A record alone and in a batch -------------------------------------------------------------------------


def word_arrays(arrays: Arrays, row: int) -> Arrays:
    """Return the features of each word of one row, without padding."""
    length = int(arrays["lengths"][row])
    types = arrays["words"][:length, row]
    names = ("type_tokens", "type_affixes", "type_vectors", "type_char_lengths")
    features = {name: arrays[name][types] for name in names}
    counts = [Counter(chars[chars != 0].tolist()) for chars in arrays["type_chars"][types]]
    features["chars"] = np.array(counts)
    return features


def test_tag_encodes_a_sentence_alone_as_in_a_batch() -> None:
    task = tag_task(NER)
    records = [*NER, sentence("Unheard-of zebras met", "O O O")]
    together = task.encode(records, targets=True)
    assert together["words"].shape == together["targets"][0].shape == (7, 4)
    for row, record in enumerate(records):
        alone = task.encode([record], targets=True)
        length = len(record.words)
        assert together["lengths"][row] == length
        for name, expected in word_arrays(alone, 0).items():
            np.testing.assert_array_equal(word_arrays(together, row)[name], expected, err_msg=name)
        assert together["targets"][0, :length, row].tolist() == alone["targets"][0, :length, 0].tolist()
        assert (together["targets"][0, length:, row] == -1).all()


@pytest.mark.parametrize("tokenizer", ["word", "char", "byte"])
def test_classify_encodes_a_text_alone_as_in_a_batch(tokenizer: str) -> None:
    records = [Text(text, (label,)) for text, label in tiny.questions(12)]
    task = ClassifyTask.learn(records, ClassifySettings(tokenizer=tokenizer, min_count=1))
    records += [Text("", ("time",)), Text("ünheard of", ("place",))]
    together = task.encode(records, targets=True)
    for row, record in enumerate(records):
        alone = task.encode([record], targets=True)
        length = int(alone["lengths"][0])
        assert together["lengths"][row] == length
        assert together["targets"][row] == alone["targets"][0] == task.labels.id(record.labels[0])
        if tokenizer == "word":
            for name, expected in word_arrays(alone, 0).items():
                np.testing.assert_array_equal(word_arrays(together, row)[name], expected, err_msg=name)
        else:
            assert together["tokens"][:length, row].tolist() == alone["tokens"][:length, 0].tolist()


def test_lm_encodes_bos_first_and_predicts_eos_last() -> None:
    task = LMTask.learn([Text("ab"), Text("b")], LMSettings(tokenizer="char"))
    a, b = task.tokenizer.encode("ab")
    arrays = task.encode([Text("ab"), Text(""), Text("b")])
    assert arrays["tokens"].T.tolist() == [[2, a, b], [2, 0, 0], [2, b, 0]]
    assert arrays["targets"].T.tolist() == [[a, b, 3], [3, -1, -1], [b, 3, -1]]
    assert arrays["lengths"].tolist() == [3, 1, 2]


@pytest.mark.parametrize("name", ["tagger", "ner", "classifier", "writer"])
def test_results_do_not_depend_on_the_batch(name: str, request: pytest.FixtureRequest) -> None:
    loaded = model.load(request.getfixturevalue(name), threads=1)
    task: Any = loaded.task
    texts = [
        "who did the baker sing ?", "", "Anna met Bob in New York .", "the", "the " * 40, "ünseen Zebra\t!"]
    records: list[Any] = [sentence(t) if isinstance(task, TagTask) else Text(t) for t in texts]
    options = {"probs": True, "nbest": 2} if isinstance(task, TagTask) else {}
    together = task.decode(records, task.run(loaded.engine, task.encode(records)), **options)
    for record, expected in zip(records, together, strict=True):
        (alone,) = task.decode([record], task.run(loaded.engine, task.encode([record])), **options)
        if isinstance(task, TagTask):
            assert alone.tags == expected.tags
            assert alone.probs == pytest.approx(expected.probs, abs=1e-5)
            assert len(alone.tags) == len(record.words)
        elif isinstance(task, ClassifyTask):
            assert alone.chosen == expected.chosen
            assert dict(alone.ranked) == pytest.approx(dict(expected.ranked), abs=1e-5)
            assert sum(p for _, p in alone.ranked) == pytest.approx(1)
        else:
            assert alone.log_probs == pytest.approx(expected.log_probs, abs=1e-4)


# --- Word features -----------------------------------------------------------------------------------------


def features(words: str, **changes: Any) -> WordFeatures:
    counts = Counter(words.split())
    settings = TagSettings(**{"min_count": 1, "affix_buckets": 64} | changes)
    return WordFeatures.learn(counts, settings, WordTokenizer.from_counts(counts), vectors=("bob", "York"))


def test_the_shape_of_a_word() -> None:
    assert [shape(w) for w in ("McDonald's", "1999", "U.S.", "日本語本", "", "a-B")] == [
        "XxXxx'x", "dd", "X.X.", "aa", "", "x-X"]


def test_short_words_have_as_many_affixes_as_long_ones() -> None:
    assert len(affixes("")) == len(affixes("a")) == len(affixes("internationally")) == AFFIXES
    assert "<3int" in affixes("International")
    assert ">4ally" in affixes("internationally")


def test_long_words_keep_characters_of_both_ends() -> None:
    word_features = features("abcdefghij abcdefghij2 klmnopqrst klmnopqrst2")
    word = "a" * 100 + "k" * 100
    arrays = word_features.collate([[word, "ak"]])
    a, k = word_features.collate([["ak"]])["type_chars"][-1].tolist()
    chars = arrays["type_chars"][arrays["words"][0, 0]].tolist()
    assert chars == [a] * (MAX_CHARACTERS // 2) + [k] * (MAX_CHARACTERS // 2)
    assert arrays["type_char_lengths"].max() == MAX_CHARACTERS


def test_unknown_characters_have_their_own_id() -> None:
    word_features = features("ab abc abd")
    arrays = word_features.collate([["日本", "", "abc"]])
    rows = arrays["words"][:, 0]
    assert arrays["type_chars"][rows[0]].tolist() == [UNK, UNK, 0]
    assert arrays["type_char_lengths"][rows].tolist() == [2, 1, 3], "the empty word has a character as well"
    assert arrays["type_tokens"][rows[0]] == UNK
    assert arrays["type_chars"][rows[2]][2] == UNK, "only one word type has `c`, so it is unknown"
    assert arrays["type_chars"].max() < word_features.sizes()["char_vocabulary"]


def test_vectors_are_found_by_the_word_or_its_lower_case_form() -> None:
    word_features = features("Bob York")
    arrays = word_features.collate([["Bob", "York", "bob", "york", "YORK", "x"]])
    assert arrays["type_vectors"][arrays["words"][:, 0]].tolist() == [1, 2, 1, 0, 0, 0]
    assert word_features.sizes()["vector_rows"] == 3


def test_words_with_vectors_are_saved_exactly(tmp_path: Path) -> None:
    words = ["fi\rlm", "a\u2028b", "\u00a0", "film"]
    counts = Counter("film")
    tokenizer = WordTokenizer.from_counts(counts)
    WordFeatures(tokenizer, characters="", affix_buckets=0, vectors=words).save(tmp_path)
    assert read_vector_words(tmp_path, 4) == words
    with pytest.raises(ModelError, match=r"vectors\.txt: expected 5 words, found 4"):
        read_vector_words(tmp_path, 5)


def test_a_batch_does_not_depend_on_the_words_before_it() -> None:
    fresh, used = features("ab abc bob"), features("ab abc bob")
    used.collate([["zebra", "bob", "abc"]])
    rows = [["ab", "bob"], ["abc", "ab", "zebra"]]
    expected, actual = fresh.collate(rows), used.collate(rows)
    assert expected.keys() == actual.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(actual[name], array, err_msg=name)


def test_the_table_of_word_types_grows_and_is_cleared(monkeypatch: pytest.MonkeyPatch) -> None:
    word_features, engine = features("ab abc"), Counting()
    words = [f"w{i}" for i in range(3000)]  # more than the table begins with
    before = word_features.collate([["ab", "w7"]])
    many = word_features.collate([words])
    assert len(np.unique(many["type_affixes"], axis=0)) > 1000
    assert len(word_features.batches(engine, [[["w2999"]]], {})[0]["known_vectors"]) > 3000
    monkeypatch.setattr("rnntool.tasks.word_features.MAX_TYPES", 100)
    assert word_features.batches(engine, [[["w5"]]], {})[0]["words"].max() < 100, "the table was cleared"
    after = word_features.collate([["ab", "w7"]])
    for name in ("type_tokens", "type_chars", "type_affixes"):
        np.testing.assert_array_equal(
            after[name][after["words"]], before[name][before["words"]], err_msg=name)


class Counting:
    """An engine that returns token ids as word vectors, and counts the types that it computes."""

    word_vectors = 1

    def __init__(self) -> None:
        self.types = 0

    def run(self, arrays: dict[str, Any], outputs: list[str] | None = None) -> dict[str, Any]:
        assert outputs == ["word_vectors"]
        self.types += len(arrays["type_tokens"])
        return {"word_vectors": arrays["type_tokens"][:, None].astype(np.float32)}


def test_the_vector_of_a_word_is_computed_once_in_a_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rnntool.tasks.word_features.TYPES_AT_ONCE", 7)
    word_features, engine = features("the cat sat on mats"), Counting()
    for i in range(3):
        sentence = ["cat", "the", *(f"w{i}{k}" for k in range(800)), "mats"]  # the table has to grow
        (arrays,) = word_features.batches(engine, [[sentence]], {})
        vectors = arrays["known_vectors"][arrays["words"][:, 0], 0]
        assert vectors.tolist() == word_features.tokenizer.lookup(sentence)
        assert len(arrays["type_tokens"]) == 1, "only the placeholder has features"
    assert engine.types == len({"", "cat", "the", "mats"}) + 3 * 800
    assert "known_vectors" not in word_features.collate([["the", "new"]]), "as in training"


def test_memory_stays_flat_over_a_stream_of_new_words(tagger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rnntool.tasks.word_features.MAX_TYPES", 50)
    monkeypatch.setattr("rnntool.inference.pipeline.WINDOW", 10)
    loaded = model.load(tagger, threads=1)
    sentences = [[f"w{i}", f"x{i}"] for i in range(200)]
    expected = [tagged.tags for tagged in model.load(tagger, threads=1).tag(sentences)]
    assert [tagged.tags for tagged in loaded.tag(sentences)] == expected
    (arrays,) = loaded.task.batches(loaded.engine, [[loaded.task.example(Sentence(["newest"]))]])
    assert arrays["words"].max() < 100


@pytest.mark.parametrize("kind", ["tagger", "classifier"])
def test_threads_that_share_a_model_get_the_same_results_as_one_thread(
    kind: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setattr("rnntool.tasks.word_features.MAX_TYPES", 60)
    loaded = model.load(request.getfixturevalue(kind), threads=1)
    texts = [[" ".join(f"w{i}{k}{j}" for j in range(5)) for i in range(40)] for k in range(8)]

    def answers(part: list[str]) -> list[Any]:
        if kind == "tagger":
            return [tagged.probs for tagged in loaded.tag(part, probs=True)]
        return [result.ranked for result in loaded.classify(part)]

    alone = list(map(answers, texts))
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(answers, texts * 3)) == alone * 3


# --- Tagging -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["iob1", "iob2", "iobes"])
@pytest.mark.parametrize("head", ["softmax", "crf"])
def test_random_scores_never_give_an_invalid_sequence(head: str, scheme: str) -> None:
    task = tag_task(NER, head=head)
    rng = np.random.default_rng(1)
    size = len(task.labels)
    lengths = [0, 1, 2, 3, 9, 9, 9, 9]
    records = [Sentence(["w"] * n) for n in lengths]
    outputs: Arrays = {"emissions": rng.normal(size=(9, 8, size)).astype(np.float32) * 3}
    if head == "crf":
        outputs |= {name: rng.normal(size=shape).astype(np.float32) * 3
                    for name, shape in (("start", size), ("transitions", (size, size)), ("end", size))}
    for tagged in task.decode(records, outputs, probs=True, nbest=3, scheme=scheme, threshold=0.2):
        for tags in [tagged.tags, *(tags for tags, _ in tagged.nbest or [])]:
            assert convert(tags, scheme, scheme) == tags
            assert metrics.strict_spans(tags, scheme) == set(spans(tags, scheme))
        assert tagged.probs is not None
        assert all(0 <= p <= 1 for p in tagged.probs)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_abstaining_does_not_change_the_other_spans(scheme: str) -> None:
    task = tag_task(NER, head="softmax")
    emissions = np.random.default_rng(5).normal(size=(6, 200, len(task.labels))).astype(np.float32) * 2
    records = [Sentence(["w"] * 6)] * 200
    all_found = task.decode(records, {"emissions": emissions}, probs=True, scheme=scheme)
    kept = task.decode(records, {"emissions": emissions}, probs=True, scheme=scheme, threshold=0.5)
    respelt = 0
    for before, after in zip(all_found, kept, strict=True):
        assert before.probs == after.probs
        assert before.probs is not None
        assert metrics.strict_spans(after.tags, scheme) == {
            span for span in spans(before.tags, scheme) if min(before.probs[span.start : span.end]) >= 0.5}
        pairs = zip(before.tags, after.tags, strict=True)
        changed = [(was, now) for was, now in pairs if now not in (was, "O")]
        assert all((was[0], now[0]) == ("B", "I") for was, now in changed)
        respelt += bool(changed)
    assert (respelt > 0) == (scheme == "iob1")  # which writes B only behind a span of the label


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("head", ["softmax", "crf"])
def test_the_probability_of_a_tag_is_the_sum_over_all_sequences_with_it(head: str, scheme: str) -> None:
    """Compare with a sum over all sequences; in IOB1, a tag depends on the previous one."""
    task = tag_task(NER, head=head)
    rng = np.random.default_rng(3)
    names, steps, rows = task.labels.names, 4, 6
    size = len(names)
    outputs: Arrays = {"emissions": rng.normal(size=(steps, rows, size)).astype(np.float32)}
    shapes = {"start": size, "transitions": (size, size), "end": size}
    chain = {name: rng.normal(size=shape).astype(np.float32) * (head == "crf")
             for name, shape in shapes.items()}
    if head == "crf":
        outputs |= chain
    ways = [way for way in itertools.product(range(size), repeat=steps)
            if convert(tags := [names[i] for i in way], "iobes", "iobes") == tags]
    paths = np.array(ways)  # (N, T)
    written = np.array([convert([names[i] for i in way], "iobes", scheme) for way in ways])  # (N, T)
    results = task.decode([Sentence(["w"] * steps)] * rows, outputs, probs=True, scheme=scheme)
    abstained = task.decode([Sentence(["w"] * steps)] * rows, outputs, scheme=scheme, threshold=0.5)
    for row, (tagged, kept) in enumerate(zip(results, abstained, strict=True)):
        scores = outputs["emissions"][np.arange(steps), row, paths].sum(1)
        scores += chain["start"][paths[:, 0]] + chain["end"][paths[:, -1]]
        scores += chain["transitions"][paths[:, :-1], paths[:, 1:]].sum(1)
        weights = np.exp(scores) / np.exp(scores).sum()
        expected = [weights[written[:, t] == tag].sum() for t, tag in enumerate(tagged.tags)]
        assert tagged.probs == pytest.approx(expected, rel=1e-4)
        assert tagged.probs is not None
        for start, end, label in tagged.entities() or []:
            stays = min(tagged.probs[start:end]) >= 0.5
            assert ((start, end, label) in (kept.entities() or [])) == stays


def test_the_best_valid_sequence_is_found_without_a_crf() -> None:
    task = tag_task(NER)
    names = task.labels.names
    rng = np.random.default_rng(5)
    for _ in range(20):
        scores = rng.normal(size=(3, 1, len(names))).astype(np.float32)
        valid = (ids for ids in itertools.product(range(len(names)), repeat=3)
                 if convert(tags := [names[i] for i in ids], "iobes", "iobes") == tags)
        best = max(valid, key=lambda ids: sum(scores[t, 0, i] for t, i in enumerate(ids)))
        (tagged,) = task.decode([Sentence(["w"] * 3)], {"emissions": scores})
        assert tagged.tags == convert([names[i] for i in best], "iobes", "iob2")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_is_learned_as_iobes_and_written_as_iob2(scheme: str) -> None:
    written = [Sentence(s.words, convert(s.tags or [], "iob2", scheme)) for s in NER * 3]
    task, other = tag_task(written), tag_task(NER * 3)
    assert task.labels == other.labels
    assert {f"{letter}-PER" for letter in "BIES"} <= set(task.labels), "spans of any length can be predicted"
    (gold,) = task.encode(written[:1], targets=True)["targets"]
    np.testing.assert_array_equal(gold, other.encode(NER[:1], targets=True)["targets"][0])
    scores = np.full((7, 1, len(task.labels)), -9, np.float32)
    np.put_along_axis(scores, gold[..., None], 9, -1)
    assert task.decode(NER[:1], {"emissions": scores})[0].tags == NER[0].tags


def test_iob1_and_iob2_reports_agree(ner: Path) -> None:
    loaded = model.load(ner, threads=1)
    task = loaded.require(TagTask)
    data = [Sentence([w for w, _ in s], [t for _, t in s]) for s in tiny.ner_sentences(10, seed=3)]
    iob1 = [Sentence(s.words, tiny.iob1(s.tags or [])) for s in data]
    assert task.scheme == "iob1"
    report = task.report(loaded.engine, iob1)
    assert report["f1"] == report["f1_conlleval"] == report["accuracy"] == 1.0
    assert report["records"] == 10
    assert report["tokens"] == sum(len(s.words) for s in data)
    assert task.score(loaded.engine, iob1) == {"f1": 1.0}


def test_unseen_tags_count_as_errors(tagger: Path, ner: Path) -> None:
    loaded = model.load(tagger, threads=1)
    task = loaded.require(TagTask)
    gold = [sentence("the baker sings .", "DET NOUN VERB XYZ"), sentence("", "")]
    assert task.encode(gold, targets=True)["targets"][0, :, 0].tolist()[-1] == -1
    report = task.report(loaded.engine, gold)
    assert report["accuracy"] == 0.75
    assert report["per_label"]["XYZ"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 1}
    span_model = model.load(ner, threads=1)
    span_gold = [sentence("Anna met Bob .", "I-PER O I-XYZ O")]
    span_report = span_model.require(TagTask).report(span_model.engine, span_gold)
    assert span_report["per_label"]["XYZ"]["recall"] == 0
    assert span_report["recall"] == 0.5


def test_a_model_abstains_below_the_threshold(tagger: Path, ner: Path) -> None:
    for name, sentence, none in ((tagger, "the baker sings .", "_"), (ner, "Zorba met Bob in Qix .", "O")):
        loaded, words = model.load(name, threads=1), [sentence.split()]
        (tagged,) = loaded.tag(words, probs=True)
        assert tagged.probs is not None
        for threshold in (0.0, sorted(tagged.probs)[1], 1.0):
            (abstained,) = loaded.tag(words, threshold=threshold)
            expected = [none if p < threshold else tag
                        for tag, p in zip(tagged.tags, tagged.probs, strict=True)]
            assert abstained.tags == expected, "all spans here have one word"


def test_probabilities_and_nbest_of_a_chain(ner: Path) -> None:
    (tagged,) = model.load(ner, threads=1).tag(["Anna met Bob in New York .".split()], probs=True, nbest=4)
    assert tagged.tags == ["B-PER", "O", "B-PER", "O", "B-LOC", "I-LOC", "O"]
    assert tagged.probs is not None
    assert tagged.nbest is not None
    assert min(tagged.probs) > 0.5
    assert tagged.nbest[0][0] == tagged.tags
    scores = [score for _, score in tagged.nbest]
    assert scores == sorted(scores, reverse=True)
    assert sum(map(math.exp, scores)) <= 1 + 1e-6
    assert math.exp(scores[0]) <= min(tagged.probs) + 1e-6


def test_the_mistakes_of_a_tagger_are_sorted_by_confidence(tagger: Path) -> None:
    loaded = model.load(tagger, threads=1)
    gold = [
        sentence("the baker sings .", "DET VERB VERB ."),
        sentence("the workful teacher .", "DET ADJ ADJ PUNCT"),
    ]
    wrong = loaded.task.evaluate(loaded.engine, gold, mistakes=10).mistakes
    assert {(m["gold"], m["predicted"], m["context"]) for m in wrong} == {
        ("VERB", "NOUN", "the [baker] sings ."), (".", "PUNCT", "the baker sings [.]"),
        ("ADJ", "NOUN", "the workful [teacher] ."),
    }
    probs = [m["prob"] for m in wrong]
    assert probs == sorted(probs, reverse=True)
    assert loaded.task.evaluate(loaded.engine, gold, mistakes=1).mistakes == wrong[:1]


def test_a_tagger_needs_tagged_words() -> None:
    with pytest.raises(DataError, match="expected tagged sentences, found none"):
        tag_task([sentence("", "")])
    with pytest.raises(DataError, match="at least 2 different tags, found only 'X'"):
        tag_task([sentence("a b", "X X")])


def test_known_words_have_their_own_embedding() -> None:
    records = [sentence("a a b c", "X X Y Y"), sentence("a b d", "X Y Y")]
    task = tag_task(records, min_count=2)
    assert [task.features.tokenizer.lookup([word]) != [UNK] for word in "abcd"] == [True, True, False, False]
    x, y = (task.labels.get(name, -1) for name in "XY")
    scores = np.full((4, 1, 2), -1, np.float32)
    scores[[0, 1, 2, 3], 0, [x, y, y, x]] = 1
    report = task.report(Canned({"emissions": scores}), records[:1])  # a and b right, a and c wrong
    assert (report["accuracy_known"], report["accuracy_unknown"], report["unknown"]) == (2 / 3, 0.0, 0.25)
    p = 1 / (1 + math.exp(-2))
    assert report["ece"] == pytest.approx(p - 0.5), "the same probability, half correct"
    assert report["confusion"] == {"X": {"X": 1, "Y": 1}, "Y": {"X": 1, "Y": 1}}


@pytest.mark.parametrize("name", ["tagger", "ner", "classifier", "writer"])
def test_evaluation_runs_each_record_once_and_computes_the_criterion_from_counts(
    name: str, request: pytest.FixtureRequest
) -> None:
    loaded = model.load(request.getfixturevalue(name), threads=1)
    records: list[Any] = [sentence(" ".join(w for w, _ in s), " ".join(t for _, t in s)) for s in
                          (tiny.pos_sentences if name == "tagger" else tiny.ner_sentences)(30, seed=3)]
    records[::7] = [sentence("the baker baker sings .", "XYZ B-ABC O NOUN I-ABC")] * len(records[::7])
    if name == "classifier":
        records = [Text(text, (label,)) for text, label in [*tiny.questions(30, seed=3), ("who ?", "robot")]]
    elif name == "writer":
        records = [Text(text) for text in [*tiny.lines_of_text(30, seed=3), "", "xyz"]]
    seen: list[int] = []

    class Watched:
        initial_state = loaded.engine.initial_state

        def run(self, arrays: Any, outputs: Any = None) -> Any:
            seen.append(len(arrays["lengths"]))
            return loaded.engine.run(arrays, outputs)

    evaluation = loaded.task.evaluate(Watched(), records, mistakes=3)
    assert sum(seen) == len(evaluation.counts) == len(records)
    criterion = loaded.task.criterion
    whole = evaluation.report[criterion.key]
    assert criterion.metric(evaluation.counts.sum(axis=0)) == pytest.approx(whole, rel=1e-6)
    assert loaded.task.score(loaded.engine, records) == {criterion.key: pytest.approx(whole, rel=1e-6)}
    for i in (0, 7, len(records) - 1):
        alone = loaded.task.evaluate(loaded.engine, records[i : i + 1])
        np.testing.assert_allclose(alone.counts, evaluation.counts[i : i + 1], rtol=1e-4, err_msg="in order")
    assert len(evaluation.mistakes) == 3 or name == "classifier"
    assert loaded.task.evaluate(loaded.engine, []).counts.shape == (0, evaluation.counts.shape[1])


def test_spans_with_unseen_labels_are_counted(ner: Path) -> None:
    loaded = model.load(ner, threads=1)
    gold = [sentence("Anna met Bob Bob .", "I-PER O I-XYZ I-XYZ O"), sentence("Bob met Bob", "I-XYZ O I-ABC")]
    evaluation = loaded.task.evaluate(loaded.engine, gold)
    assert evaluation.report["unseen_labels"] == {"XYZ": 2, "ABC": 1}, "spans are counted, not words"
    assert evaluation.gold == {"PER": 1, "XYZ": 2, "ABC": 1}
    assert set(evaluation.trained_labels) == {"PER", "LOC"}
    plain_tags = loaded.task.evaluate(loaded.engine, [sentence("the baker sings", "DET O NOUN")])
    assert plain_tags.report["unseen_labels"] == {"DET": 1, "NOUN": 1}


# --- Classification ----------------------------------------------------------------------------------------


def test_unseen_labels_count_as_errors(classifier: Path) -> None:
    loaded = model.load(classifier, threads=1)
    gold = [Text("who did the baker sing ?", ("person",)), Text("who did the baker paint ?", ("robot",))]
    report = loaded.task.report(loaded.engine, gold)
    assert report["accuracy"] == 0.5
    assert report["confusion"] == {"person": {"person": 1}, "robot": {"person": 1}}
    assert report["per_label"]["robot"]["support"] == 1
    (mistake,) = loaded.task.evaluate(loaded.engine, gold, mistakes=5).mistakes
    assert (mistake["gold"], mistake["predicted"]) == ("robot", "person")
    assert mistake["context"] == "who did the baker paint ?"


def test_classification_with_several_labels_per_text() -> None:
    records = [Text("a b", ("x", "y")), Text("a c", ("x",)), Text("c c", ())]
    task = ClassifyTask.learn(records, ClassifySettings(min_count=1, ngrams=False))
    assert task.multi_label
    assert task.encode(records, targets=True)["targets"].tolist() == [[1, 1], [1, 0], [0, 0]]
    assert task.encode([Text("a", ("new", "y"))], targets=True)["targets"].tolist() == [[0, 1]]
    engine = Canned({"logits": np.array([[2.0, 1.0], [3.0, -1.0], [-1.0, -2.0]], np.float32)})
    results = task.decode(records, engine.outputs)
    assert [result.chosen for result in results] == [["x", "y"], ["x"], []]
    assert dict(results[0].ranked)["x"] == pytest.approx(1 / (1 + math.exp(-2)))
    report = task.report(engine, records)
    assert report["accuracy"] == 1.0
    confidences = [1 / (1 + math.exp(-z)) for z in (2, 1, 3, 1, 1, 2)]  # of each decision; all are correct
    assert report["ece"] == pytest.approx(1 - sum(confidences) / 6)
    assert report["unseen_labels"] == {}


def test_a_classifier_needs_two_labels() -> None:
    with pytest.raises(DataError, match="expected labeled texts, found none"):
        ClassifyTask.learn([], ClassifySettings())
    with pytest.raises(DataError, match="at least 2 different labels, found only 'x'"):
        ClassifyTask.learn([Text("a", ("x",)), Text("b", ("x",))], ClassifySettings())


def test_class_weights_have_a_mean_of_one() -> None:
    settings = ClassifySettings(min_count=1, class_weights="balanced")
    records = [Text("a", ("x",))] * 3 + [Text("b", ("y",))]
    task = ClassifyTask.learn(records, settings)
    weights = task.objective([task.example(record, targets=True) for record in records]).label_weights
    assert weights == pytest.approx([4 / 6, 2.0])
    assert (3 * weights[0] + weights[1]) / 4 == pytest.approx(1)


# --- Language models ---------------------------------------------------------------------------------------


def test_units_and_words_of_a_scored_text() -> None:
    text = " to  be!"
    tokens = [Token(4, 0, 3), Token(5, 3, 5), Token(6, 5, 7), Token(7, 7, 8)]
    scored = ScoredText(tokens, [-1.0, -2.0, -3.0, -4.0, -5.0], 0)
    units = scored.units(text)
    assert [(u.text, u.start, u.end) for u in units] == [
        (" to", 0, 3), ("  ", 3, 5), ("be", 5, 7), ("!", 7, 8), ("</s>", 8, 8)]
    words = scored.words(text)
    assert [(w.text, w.start, w.end) for w in words] == [("to", 1, 3), ("be!", 5, 8), ("</s>", 8, 8)]
    assert [w.surprisal_bits * math.log(2) for w in words] == pytest.approx([1, 9, 5])
    assert sum(u.surprisal_bits for u in units) == pytest.approx(-scored.total_nats / math.log(2))
    assert [w.text for w in ScoredText([], [-1.0], 0).words("")] == ["</s>"]


def test_word_surprisals_sum_to_the_text(writer: Path) -> None:
    loaded = model.load(writer, threads=1)
    texts = ["the baker sings .", "", " a  b ", "\u2028"]
    for text, scored in zip(texts, loaded.score(texts), strict=True):
        total = sum(word.surprisal_bits for word in scored.words(text)) * math.log(2)
        if text.strip():
            assert total == pytest.approx(-scored.total_nats, abs=1e-4)


def test_the_mistakes_of_a_language_model_are_the_most_surprising_tokens(writer: Path) -> None:
    loaded = model.load(writer, threads=1)
    texts = [Text("the baker sings ."), Text("the bqker sings .")]
    (first, *_) = loaded.task.evaluate(loaded.engine, texts, mistakes=3).mistakes
    assert first["gold"] == "q"
    assert first["context"] == "the b[q]ker sings ."


def test_the_scores_of_a_stream_are_those_of_its_records(writer: Path) -> None:
    loaded = model.load(writer, threads=1)
    task = loaded.require(LMTask)
    stream = LMTask(task.tokenizer, settings=task.settings.replace(context="stream"))
    texts = [Text(text) for text in [*tiny.lines_of_text(8, seed=3), "", "the baker"]]
    evaluation = stream.evaluate(loaded.engine, texts, mistakes=1)
    scored_texts = [scored for _, scored in stream.score_stream(loaded.engine, texts)]
    np.testing.assert_allclose(evaluation.counts[:, 0], [-s.total_nats for s in scored_texts], rtol=1e-4)
    assert evaluation.counts[:, 1:].tolist() == [[len(t.text) + 1, len(t.text) + 1] for t in texts]
    assert evaluation.mistakes[0]["prob"] == pytest.approx(
        math.exp(min(p for s in scored_texts for p in s.log_probs[:-1])), rel=1e-4)
    bits = -sum(s.total_nats for s in scored_texts) / math.log(2) / sum(len(t.text) + 1 for t in texts)
    assert evaluation.report["bits_per_char"] == pytest.approx(bits, rel=1e-4)


def test_all_tokens_of_a_stream_in_columns_are_scored(writer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stateless(Canned):
        def run(self, arrays: Any, outputs: Any = None) -> Arrays:
            return {"log_probs": np.where(arrays["targets"] < 0, -99, -arrays["targets"] / 10)}

    task = model.load(writer, threads=1).require(LMTask)
    stream = LMTask(task.tokenizer, settings=task.settings.replace(context="stream"))
    texts = [Text(text) for text in tiny.lines_of_text(9, seed=3)]
    monkeypatch.setattr("rnntool.tasks.lm.SCORE_STEPS", 20)
    tokens = [id for text in texts for id in [*task.tokenizer.encode(text.text), EOS]]
    assert len(tokens) // 20 > 3, "there are several columns"
    expected = math.exp(sum(tokens) / 10 / len(tokens))
    assert stream.score(Stateless({}), texts)["perplexity"] == pytest.approx(expected)
    assert stream.report(Stateless({}), texts)["perplexity"] == pytest.approx(expected)



def test_words_unseen_in_training_are_out_of_vocabulary() -> None:
    task = LMTask.learn([Text("a b <unk>")], LMSettings(tokenizer="word"))
    records = [Text("a zebra <unk>"), Text("Zebra")]
    engine = Canned({"log_probs": np.zeros((4, 2), np.float32)})
    report = task.report(engine, records)
    assert (report["oov"], report["tokens"]) == (2, 6)
    assert report["perplexity"] == 1.0


def test_a_language_model_needs_text() -> None:
    with pytest.raises(DataError, match="expected text, found none"):
        LMTask.learn([Text(""), Text("")], LMSettings())


@pytest.mark.parametrize(("unit", "texts"), [("paragraph", ["a\nb", "c"]), ("document", ["a\nb\n\nc"])])
def test_a_record_is_a_paragraph_or_a_document(unit: str, texts: list[str]) -> None:
    lines = Lines(io.BytesIO(b"a\nb\n\nc\n"), name="x")
    records = LMTask.read(lines, "text", LMSettings(unit=unit), targets=True)
    assert [record.text for record in records] == texts


def test_a_stream_of_texts_carries_its_state(writer: Path) -> None:
    loaded = model.load(writer, threads=1)
    texts = ["the baker sings .", "the teacher works ."]
    apart, together = list(loaded.score(texts)), list(loaded.score(texts, context="stream"))
    assert together[0].log_probs == pytest.approx(apart[0].log_probs, abs=1e-5)
    assert together[1].log_probs != pytest.approx(apart[1].log_probs, abs=1e-3)


def test_the_windows_of_a_stream_contain_each_token_once() -> None:
    rng = random.Random(1)
    task = LMTask.learn([Text("abcdefg")], LMSettings(tokenizer="char"))
    examples = [task.example(Text("".join(rng.choices("abcdefg", k=rng.randrange(6))))) for _ in range(20)]
    for columns, steps in [(1, 1000), (1, 7), (3, 5), (4, 1)]:
        read: list[list[int]] = [[] for _ in range(columns)]
        predicted: list[list[int]] = [[] for _ in range(columns)]
        for window in task.windows(np.concatenate(examples), columns=columns, steps=steps):
            assert window["tokens"].shape[0] == window["lengths"][0] <= steps
            for column in range(columns):
                real = window["targets"][:, column] >= 0
                read[column] += window["tokens"][real, column].tolist()
                predicted[column] += window["targets"][real, column].tolist()
        assert list(chain(*read)) == [i for ids in examples for i in ids.tolist()]
        assert list(chain(*predicted)) == [i for ids in examples for i in (*ids.tolist()[1:], 3)]
    assert list(task.windows(np.array([], np.int32), columns=2, steps=5)) == []
