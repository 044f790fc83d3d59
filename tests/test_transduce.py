"""Sequence to sequence: encoding, searching and evaluating, independently of the batch."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny

import rnntool
from rnntool import model_folder
from rnntool.data.records import Transduction
from rnntool.errors import ModelError, UsageError
from rnntool.inference import model
from rnntool.inference.model import Model
from rnntool.inference.options import TransduceOptions
from rnntool.tasks.hallucination import LONGEST_END, hallucinated, vowels_of
from rnntool.tasks.specs.transduce import TransduceSettings
from rnntool.tasks.transduce import Search, TransduceTask
from rnntool.tokenize import BOS, EOS, UNK

FORMS = [Transduction("gehen", ("geht",), ("V;3;SG",)), Transduction("ab", ("a", "b"), ("N|X SG",))]


def task_of(model: Model) -> TransduceTask:
    return model.require(TransduceTask)


def test_features_are_tokens_of_their_own_and_every_source_ends() -> None:
    task = TransduceTask.learn(FORMS, TransduceSettings())
    assert task.features == ["3", "N", "SG", "V", "X"]
    arrays = task.encode([*FORMS, Transduction("", (), ())], targets=False)
    first = task.tokenizer.size
    row = arrays["tokens"][: arrays["lengths"][1], 1].tolist()
    assert row == [first + 1, first + 4, first + 2, *task.tokenizer.encode("ab"), EOS]
    assert arrays["tokens"][0, 2] == EOS and arrays["lengths"][2] == 1, "an empty source is not empty"
    assert UNK in task.example(Transduction("ab", (), ("W",))).source
    assert task.source_pieces(FORMS[1]) == ["N", "X", "SG", "a", "b", "</s>"]


def test_the_decoder_reads_the_previous_target() -> None:
    task = TransduceTask.learn(FORMS, TransduceSettings())
    geht = task.target.encode("geht")
    arrays = task.encode(FORMS, targets=True)
    assert arrays["previous"][:, 0].tolist() == [BOS, *geht]
    assert arrays["targets"][:, 0].tolist() == [*geht, EOS]
    assert arrays["targets"][:, 1].tolist() == [*task.target.encode("a"), EOS, -1, -1, -1]


def test_each_target_of_a_record_is_learned() -> None:
    task = TransduceTask.learn(FORMS, TransduceSettings())
    examples = task.training_examples(FORMS, watch=lambda stage: None, log=print)
    assert [task.target.decode(example.target.tolist()) for example in examples if example.target is not None
            ] == ["geht", "a", "b"]


def test_hallucinated_records_keep_what_is_not_copied() -> None:
    record, generator = Transduction("verlachen", ("geverlacht",), ("V",)), random.Random(1)
    others = [Transduction(word, (word,)) for word in ("bananen", "kaputte", "hase", "rebe", "gelade")]
    made = [other for other in hallucinated([record, *others], 1200, generator) if other.extra]
    assert len({other.source for other in made}) > 100
    for other in made:
        stem = other.source.removesuffix("en")
        assert len(stem) == 7 and set(stem) <= set("verlachenbkputsgd")
        assert other.targets == (f"ge{stem}t",) and other.extra == ("V",)
    ends = {next((n for n in range(7) if other.source[6 - n] != "verlach"[6 - n]), 7) for other in made}
    assert set(range(LONGEST_END + 1)) <= ends, "the end of a stem may decide about an affix"
    same_vowels = [other for other in made if other.source[1] == "e" and other.source[4] == "a"]
    assert 0.5 < len(same_vowels) / len(made) < 0.9, "so may its vowels"
    for empty in (Transduction("12", ("123",)), Transduction("ab", ("abc",))):
        made = hallucinated([empty], 3, generator)
        assert {other.source for other in made} <= {empty.source}, "two letters may be chance"
    task = TransduceTask.learn([record], TransduceSettings(hallucinate=30))
    assert len(task.invented_examples([record])) == 29
    assert [e.source.tolist() for e in task.invented_examples([record])] == [
        e.source.tolist() for e in task.invented_examples([record])], "by the seed"


def test_hallucinated_stems_have_rare_letters() -> None:
    pairs = [Transduction(word, (f"{word}s",)) for word in ("kabana",) * 40 + ("Zabana",)]
    stems = "".join(pair.source for pair in hallucinated(pairs, 500, random.Random(1)))
    assert stems.count("Z") > 0.05 * len(stems), "the network learns to copy only what it often sees"


def test_vowels_are_found_by_their_neighbors() -> None:
    words = [word for sentence in tiny.made_up_sentences("latin", 50) for word, _ in sentence]
    assert vowels_of(words) == vowels_of(map(str.upper, words)) == set("aoueiö")
    assert vowels_of(["", "a", "1 2"]) == set()


def test_one_vocabulary_for_both_sides() -> None:
    task = TransduceTask.learn(FORMS, TransduceSettings(shared_vocabulary=True))
    assert task.target is task.tokenizer
    assert set(task.tokenizer.entries) == set("gehentab")
    sizes = task.sizes()
    assert sizes["vocabulary"] == sizes["outputs"] + len(task.features)
    with pytest.raises(UsageError, match="tied"):
        TransduceSettings(shared_vocabulary=True, tied=False)


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("search", [Search(beam=1), Search(beam=4, n_best=3)])
def test_results_have_the_same_bits_alone_and_in_a_batch(
    search: Search, int8: bool, transducer: Path, tmp_path: Path
) -> None:
    loaded = _in_eight_bits(transducer, tmp_path) if int8 else model.load(transducer, threads=1)
    task = task_of(loaded).searching(search)
    records = [Transduction(source) for source, _ in tiny.reversals(60, seed=5)] + [
        Transduction("a" * 30), Transduction("zz"), Transduction("")]

    def results(some: list[Transduction]) -> list[Any]:
        found: dict[int, Any] = {}
        examples = list(map(task.example, some))
        for batch in task.batched(examples, 2048):
            outputs = task.run(loaded.engine, task.collate([examples[i] for i in batch]))
            found |= dict(zip(batch, task.decode([some[i] for i in batch], outputs), strict=True))
        return [found[i] for i in range(len(some))]

    together = results(records)
    for record, expected in zip(records, together, strict=True):
        (alone,) = results([record])
        for one, other in zip(alone, expected, strict=True):
            assert (one.text, one.log_prob, one.score) == (other.text, other.log_prob, other.score)
            if one.alignment is not None:
                np.testing.assert_array_equal(one.alignment, other.alignment)
                steps = len(one.tokens) + (not one.truncated)
                assert one.alignment.shape == (steps, len(task.source_pieces(record)))


def _in_eight_bits(folder: Path, out: Path) -> Model:
    """Copy a model with graphs in 8 bits."""
    from rnntool.models.export.network_graph import write_graphs

    for path in folder.iterdir():
        if path.is_file():
            (out / path.name).write_bytes(path.read_bytes())
    write_graphs(tiny.network_of(folder), out, int8=True)
    tiny.forget_digests(out)
    return model.load(out, threads=1)


def test_the_score_of_a_target_is_the_log_probability_that_the_search_reports(transducer: Path) -> None:
    loaded = model.load(transducer, threads=1)
    sources = ["abc", "f", "edcba"]
    found = [best for best, *_ in loaded.transduce(sources)]
    records = [Transduction(source, (best.text,)) for source, best in zip(sources, found, strict=True)]
    for (_, scored), best in zip(loaded.score_targets(records), found, strict=True):
        assert scored.total_nats == pytest.approx(best.log_prob, abs=1e-4)
        assert len(scored.log_probs) == len(best.tokens) + 1
        assert scored.perplexity == pytest.approx(math.exp(-scored.total_nats / len(scored.log_probs)))


def test_it_learns_to_reverse_words(transducer: Path) -> None:
    report = model_folder.read_config(transducer).report
    assert report["exact_match"] == 1 and report["symbol_error_rate"] == 0 and report["truncated"] == 0
    reversing = rnntool.load(transducer, threads=1)
    assert [best.text for best, *_ in reversing.transduce(["fade", ("cab",)])] == ["e d a f", "b a c"]


def test_a_beam_of_one_and_sampling_at_temperature_zero_are_greedy(transducer: Path) -> None:
    loaded = model.load(transducer, threads=1)
    sources = [source * 2 for source, _ in tiny.reversals(30, seed=3)]
    greedy = [best.text for best, *_ in loaded.transduce(sources, beam=1)]
    assert greedy == [best.text for best, *_ in loaded.transduce(sources, sample=True, temperature=0.0)]
    n_best = list(loaded.transduce(sources, n_best=3))
    for results in n_best:
        assert [result.score for result in results] == sorted((r.score for r in results), reverse=True)


def test_samples_depend_on_the_seed_and_the_source_alone(transducer: Path) -> None:
    loaded = model.load(transducer, threads=1)

    def samples(sources: list[str], seed: int) -> list[list[str]]:
        options = TransduceOptions(sample=True, temperature=3.0, seed=seed, n_best=2)
        return [[result.text for result in results] for results in loaded.transduce(sources, options)]

    assert samples(["abc", "fed", "abc"], 1) == samples(["abc"], 1) + samples(["fed", "abc"], 1)
    assert samples(["abc", "fed", "abc"], 1) != samples(["abc", "fed", "abc"], 2)


def test_evaluation_takes_the_nearest_of_several_targets(transducer: Path) -> None:
    loaded = model.load(transducer, threads=1)
    records = [Transduction("abc", ("x y", "c b a"), place="f:1"), Transduction("de", ("d d",), place="f:2")]
    evaluation = loaded.task.evaluate(loaded.engine, records, mistakes=5)
    report = evaluation.report
    assert (report["records"], report["exact_match"], report["word_error_rate"]) == (2, 0.5, 0.5)
    assert report["symbol_error_rate"] == pytest.approx(1 / 5), "e d instead of d d"
    assert "sacrebleu" in report["bleu_signature"] or "version" in report["bleu_signature"]
    (mistake,) = evaluation.mistakes
    assert (mistake["gold"], mistake["predicted"], mistake["place"]) == ("d d", "e d", "f:2")
    np.testing.assert_array_equal(evaluation.counts.sum(axis=0)[:2], [1, 2])


@pytest.mark.parametrize("settings", [
    {"attention": "dot"}, {"attention": "none", "layers": 2}, {"input_feeding": True},
    {"scheduled_sampling": 0.3, "cell": "gru"}, {"shared_vocabulary": True},
    {"tokenizer": "byte"}, {"int8": True, "bidirectional": False, "tied": False}])
def test_every_setting_trains_and_loads(settings: dict[str, Any], tmp_path: Path) -> None:
    data = tmp_path / "pairs.tsv"
    data.write_text(tiny.pairs(tiny.reversals(40)), "utf-8")
    report = tiny.train("transduce", tmp_path / "m", [data], epochs=1, **settings)
    assert report["symbol_error_rate"] >= 0
    loaded = model.load(tmp_path / "m", threads=1)
    (results,) = loaded.transduce(["abc"], beam=2)
    assert (results[0].alignment is None) == (settings.get("attention") == "none")


def test_a_damaged_model_is_an_error(transducer: Path, tmp_path: Path) -> None:
    for path in transducer.iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text("utf-8"))
    for ratio in (1e9, "x", None, float("nan")):
        content = config | {"data": config["data"] | {"length_ratio": ratio}}
        (tmp_path / "config.json").write_text(json.dumps(content), "utf-8")
        with pytest.raises(ModelError, match="is damaged"):
            model.read(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config), "utf-8")
    (tmp_path / "decoder.onnx").write_bytes((tmp_path / "model.onnx").read_bytes())
    with pytest.raises(ModelError, match=r"decoder\.onnx: differs from its SHA-256"):
        list(model.load(tmp_path, threads=1).transduce(["abc"]))
    tiny.forget_digests(tmp_path)
    with pytest.raises(ModelError, match=r"decoder\.onnx: doesn't fit config\.json"):
        list(model.load(tmp_path, threads=1).transduce(["abc"]))
    (tmp_path / "decoder.onnx").unlink()
    with pytest.raises(ModelError, match=r"decoder\.onnx"):
        list(model.load(tmp_path, threads=1).transduce(["abc"]))
