"""The Python interface: `rnntool.load`, iterators in, iterators out."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tiny

import rnntool
from rnntool.data.records import Pair
from rnntool.errors import DataError, ModelError, RnntoolError, UsageError
from rnntool.inference.pipeline import WINDOW, WINDOWS_IN_PROGRESS


class Endless:
    """An endless stream of texts that counts how many were taken."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.taken = 0

    def __iter__(self) -> Iterator[str]:
        while True:
            self.taken += 1
            yield self.text


def test_tag(tagger: Path) -> None:
    loaded = rnntool.load(tagger, threads=1)
    assert loaded.name == "tiny-pos"
    results = list(loaded.tag(["the baker sings.", "", ["the", "workful", "baker"]], probs=True))
    assert [r.tags for r in results] == [["DET", "NOUN", "VERB", "PUNCT"], [], ["DET", "ADJ", "NOUN"]]
    assert results[0].probs is not None
    assert min(results[0].probs) > 0.5
    assert results[1].probs == []


def test_tag_spans_in_any_scheme(ner: Path) -> None:
    loaded = rnntool.load(str(ner), threads=1)
    words = ["Anna met Emil Frey Bob in Oslo ."]
    assert next(loaded.tag(words)).tags == ["B-PER", "O", "B-PER", "I-PER", "B-PER", "O", "B-LOC", "O"]
    (iob1,) = loaded.tag(words, scheme="iob1")
    assert iob1.tags == ["I-PER", "O", "I-PER", "I-PER", "B-PER", "O", "I-LOC", "O"]
    assert iob1.entities() == [(0, 1, "PER"), (2, 4, "PER"), (4, 5, "PER"), (6, 7, "LOC")]


def test_invalid_values(ner: Path, writer: Path) -> None:
    tagger, other = rnntool.load(ner, threads=1), rnntool.load(writer, threads=1)
    for call in (lambda: tagger.tag(["a"], nbest=-1), lambda: tagger.tag(["a"], threshold=5.0),
                 lambda: other.generate(stop=""), lambda: other.generate(seed=-1),
                 lambda: rnntool.load(ner, threads=-1)):
        with pytest.raises(RnntoolError, match="expected"):
            call()


@pytest.mark.parametrize(("make", "message"), [
    (lambda: rnntool.GenerateOptions(max_tokens=0),
     "max_tokens: expected a whole number of at least 1, found 0"),
    (lambda: rnntool.GenerateOptions(temperature=0, top_p=0.5),
     "temperature=0 always takes the most likely token; leave out top_p"),
    (lambda: rnntool.TagOptions(threshold=1.5), "threshold: expected a number from 0 to 1, found 1.5"),
    (lambda: rnntool.ClassifyOptions(top=0), "top: expected a whole number of at least 1, found 0"),
    (lambda: rnntool.ScoreOptions(context="page"), "context: expected one of line, stream, found 'page'"),
])
def test_options_check_themselves_and_name_the_field(make: Callable[[], object], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        make()
    assert str(caught.value) == message


def test_options_come_as_an_object_or_by_keyword(tagger: Path, classifier: Path, writer: Path) -> None:
    tag = rnntool.load(tagger, threads=1).tag
    options = rnntool.TagOptions(probs=True, threshold=1.0)
    assert next(tag(["the baker"], options)) == next(tag(["the baker"], probs=True, threshold=1.0))
    assert next(tag(["the baker"], options)).tags == ["_", "_"]
    assert next(tag(["the baker"], options, threshold=0.0)).tags == ["DET", "NOUN"], "keywords win"
    model = rnntool.load(writer, threads=1)
    few = rnntool.GenerateOptions(max_tokens=5, seed=3)
    assert list(model.generate(["the"], few, n=2)) == list(model.generate(["the"], max_tokens=5, seed=3, n=2))
    stream = rnntool.ScoreOptions(context="stream")
    assert list(model.score(["the", "a"], stream)) == list(model.score(["the", "a"], context="stream"))
    assert list(model.score(["the", "a"], stream)) != list(model.score(["the", "a"]))
    with pytest.raises(UsageError, match=r"^context: expected line, because pairs are .*, found stream$"):
        model.compare([Pair("the", "a")], stream)
    both = rnntool.load(classifier, threads=1)
    for classify in (both.classify, lambda *args, **more: (r for r, _ in both.explain(*args, **more))):
        (two,) = classify(["who sang ?"], rnntool.ClassifyOptions(top=2))
        assert len(two.ranked) == len(two.chosen) == 2
        (unsure,) = classify(["who sang ?"], threshold=1.0)
        assert (len(unsure.ranked), unsure.chosen) == (3, [])
        (unsure,) = classify(["who sang ?"], threshold=1.0, none_label="unsure")
        assert (len(unsure.ranked), unsure.chosen) == (3, ["unsure"])


def test_an_option_that_does_not_exist(tagger: Path, classifier: Path, writer: Path) -> None:
    lm, pos = rnntool.load(writer, threads=1), rnntool.load(tagger, threads=1)
    questions = rnntool.load(classifier, threads=1)
    for method in (pos.tag, questions.classify, questions.explain, lm.score, lm.compare, lm.generate):
        with pytest.raises(UsageError, match=r"^unknown option .max_token.; (did you mean|choose) "):
            method(["the"], max_token=5)
    with pytest.raises(UsageError, match=r"^unknown option .max_token.; did you mean max_tokens\?$"):
        lm.generate(["the"], max_token=5)
    with pytest.raises(UsageError, match=r"^options: expected GenerateOptions, found TagOptions\("):
        lm.generate(["the"], rnntool.TagOptions())


def test_generated_text_can_be_watched(writer: Path) -> None:
    model = rnntool.load(writer, threads=1)
    pieces: list[str] = []
    watched = list(model.generate(["the ", "a "], n=2, seed=7, max_tokens=20, stop="e ", watch=pieces.append))
    assert watched == list(model.generate(["the ", "a "], n=2, seed=7, max_tokens=20, stop="e "))
    assert "".join(pieces) == "".join(sample.prompt + sample.text for sample in watched)
    for name, value in (("beam", 2), ("batch_size", 8)):
        with pytest.raises(UsageError, match=f"^{name}: texts can only be watched .*; leave out {name}$"):
            model.generate(["the"], watch=pieces.append, **{name: value})


def test_the_package_imports_instantly_and_lists_its_names() -> None:
    code = ("import sys, rnntool; assert 'numpy' not in sys.modules and 'onnxruntime' not in sys.modules; "
            "rnntool.GenerateOptions(n=2); assert 'numpy' not in sys.modules; print(*dir(rnntool))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    offered = {"load", "GenerateOptions", "TagOptions", "ClassifyOptions", "ScoreOptions"}
    assert offered < set(done.stdout.split())
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = rnntool.nothing


def test_classify(classifier: Path) -> None:
    loaded = rnntool.load(classifier, threads=1)
    results = list(loaded.classify(["who did the baker sing ?", "when did the baker sing ?", ""]))
    assert [r.chosen for r in results[:2]] == [["person"], ["time"]]
    assert results[0].ranked[0][1] > 0.5
    assert len(results[2].ranked) == 3


def test_score(writer: Path) -> None:
    loaded = rnntool.load(writer, threads=1)
    good, bad = loaded.score(["the baker sings .", "eht rekab sgnis ."])
    assert good.total_nats > bad.total_nats
    assert len(good.log_probs) == len("the baker sings .") + 1
    ((pair, first, second),) = loaded.compare([Pair("the baker sings .", "baker the sings .")])
    assert pair.good == "the baker sings ."
    assert first.total_nats == pytest.approx(good.total_nats, abs=1e-4)
    assert second.total_nats < first.total_nats


def test_generate(writer: Path) -> None:
    loaded = rnntool.load(writer, threads=1)
    samples = list(loaded.generate(["the "], n=5, seed=7, max_tokens=40))
    assert [s.index for s in samples] == [0, 1, 2, 3, 4]
    assert all(len(s.tokens) + s.finished == len(s.log_probs) <= 40 for s in samples)
    assert all("".join(s.tokens) == s.text for s in samples)
    assert len({s.text for s in samples}) > 1
    for batch_size in (1, 2, 5):
        again = list(loaded.generate(["the "], n=5, seed=7, max_tokens=40, batch_size=batch_size))
        assert [s.text for s in again] == [s.text for s in samples]
    for sample in samples[:2]:  # scoring includes the share of tokens that are never sampled
        (scored,) = loaded.score([sample.prompt + sample.text])
        pairs = zip(sample.log_probs, scored.log_probs[4:], strict=False)
        assert all(-1e-4 < sampled - read < 0.1 for sampled, read in pairs)


def test_beam_search_generates_the_most_likely_texts(writer: Path) -> None:
    loaded = rnntool.load(writer, threads=1)
    (greedy,) = loaded.generate(temperature=0, max_tokens=60)
    (again,) = loaded.generate(temperature=0, max_tokens=60, seed=99)
    assert greedy.text == again.text
    best = list(loaded.generate(beam=4, n=3, max_tokens=60))
    scores = [sample.log_probs[0] for sample in best]
    assert len(best) == 3
    assert scores == sorted(scores, reverse=True)
    assert len({sample.text for sample in best}) == 3


def test_generate_stops_before_a_text(writer: Path) -> None:
    loaded = rnntool.load(writer, threads=1)
    free = list(loaded.generate(n=4, seed=3, max_tokens=50))
    for sample, whole in zip(loaded.generate(n=4, seed=3, max_tokens=50, stop="e "), free, strict=True):
        assert sample.text == whole.text.split("e ")[0]
        # characters are tokens here
        assert sample.tokens == whole.tokens[: len(sample.text)]
        assert sample.log_probs[: len(sample.text)] == whole.log_probs[: len(sample.text)]
        assert len(sample.log_probs) == len(sample.tokens) + sample.finished
    for sample in loaded.generate(beam=3, n=2, min_tokens=20, max_tokens=30, stop=" "):
        assert (len(sample.tokens), len(sample.log_probs)) == (len(sample.text), 1)
        assert " " not in sample.text
        assert not sample.finished, "it was cut"
    with pytest.raises(UsageError, match="n: expected a whole number of at least 1, found 0"):
        list(loaded.generate(n=0))


def test_an_unknown_character_is_named(writer: Path) -> None:
    loaded = rnntool.load(writer, threads=1)
    with pytest.raises(DataError, match=r"the model does not know 'Q' \(character 5\)"):
        next(loaded.generate(["the Q"]))
    (sample,) = loaded.generate(["the Q"], allow_unknown=True, max_tokens=5)
    assert sample.prompt == "the Q"


@pytest.mark.parametrize("name", ["tag", "classify", "score", "transduce"])
def test_iterators_are_lazy(name: str, request: pytest.FixtureRequest) -> None:
    models = {"tag": "tagger", "classify": "classifier", "score": "writer", "transduce": "transducer"}
    folder = request.getfixturevalue(models[name])
    endless = Endless("the")
    results = getattr(rnntool.load(folder, threads=1), name)(endless)
    assert endless.taken == 0
    next(results)
    assert 0 < endless.taken <= (WINDOWS_IN_PROGRESS + 1) * WINDOW
    list(itertools.islice(results, WINDOW))
    assert endless.taken <= (WINDOWS_IN_PROGRESS + 2) * WINDOW


def test_generate_is_lazy(writer: Path) -> None:
    endless = Endless("the")
    results = rnntool.load(writer, threads=1).generate(endless, max_tokens=2, batch_size=8)
    next(results)
    assert endless.taken <= 8


def test_a_stream_is_scored_text_by_text(writer: Path) -> None:
    endless = Endless("the")
    results = rnntool.load(writer, threads=1).score(endless, context="stream")
    next(results)
    assert endless.taken == 1


def test_errors_are_typed(tagger: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        rnntool.load(tmp_path)
    with pytest.raises(ModelError, match="expected a model for `classify`, found one for `tag`;"):
        list(rnntool.load(tagger).classify(["x"]))
    assert issubclass(ModelError, rnntool.errors.RnntoolError)


def test_a_single_text_is_an_error(
    tagger: Path, classifier: Path, writer: Path, transducer: Path
) -> None:
    for folder, name in ((tagger, "tag"), (classifier, "classify"), (writer, "score"), (writer, "generate"),
                         (transducer, "transduce")):
        with pytest.raises(UsageError, match="found one text, 'the baker'; put it into a list"):
            list(getattr(rnntool.load(folder, threads=1), name)("the baker"))
    with pytest.raises(UsageError, match=r"scheme: expected one of iob1, .*, found 'iob3'"):
        list(rnntool.load(tagger, threads=1).tag(["the baker"], scheme="iob3"))


def test_a_stream_whose_records_come_from_the_same_model(
    tagger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rnntool.tasks.word_features.MAX_TYPES", 20)
    model = rnntool.load(tagger, threads=1)
    sentences = [[word for word, _ in sentence] for sentence in tiny.pos_sentences(40, seed=5)]

    def read() -> Iterator[list[str]]:
        for i, sentence in enumerate(sentences):
            list(model.tag([[f"{i}-{k}er" for k in range(30)]]))  # more words than the table keeps
            yield sentence

    expected = [result.tags for sentence in sentences for result in model.tag([sentence])]
    assert [result.tags for result in model.tag(read())] == expected
    assert len(model.task.features._table) < 100, "the table is emptied from time to time"
