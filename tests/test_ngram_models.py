"""Count-based n-gram language models: smoothing, model folders, ARPA files, baselines, mixtures."""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from conftest import Run, failed

from rnntool import model_folder
from rnntool.errors import DataError, ModelError, UsageError
from rnntool.evaluation import metrics
from rnntool.inference import model as models
from rnntool.inference.backoff_engine import BackoffEngine
from rnntool.models import arpa
from rnntool.models.backoff import BackoffModel
from rnntool.models.kneser_ney import FALLBACK, discounts, estimate
from rnntool.tasks import TASKS
from rnntool.tasks.specs.resolve import resolve
from rnntool.tokenize import BOS, EOS, PAD, UNK
from rnntool.training import advice

Ngram = tuple[int, ...]


def lines(n: int, seed: int = 0) -> list[str]:
    """Return lines of text, some of them empty or of a single word."""
    return [line if i % 7 else line.split()[0] if i % 2 else ""
            for i, line in enumerate(tiny.lines_of_text(n, seed))]


def kneser_ney(sentences: Sequence[Sequence[int]], order: int, words: Sequence[int], start: int) -> Callable[
        [Ngram, int], float]:
    """Return p(word | context) by the definition of Chen and Goodman (1999), without arrays.

    `words` are the tokens that can be predicted.
    """
    raw = [Counter(tuple(s[i : i + k]) for s in sentences for i in range(len(s) - k + 1))
           for k in range(order + 1)]
    before = [Counter({gram: len({longer[0] for longer in raw[k + 1] if longer[1:] == gram})
                       for gram in raw[k]}) for k in range(order)]
    for k in range(1, order):
        for sentence in sentences:  # one more token is assumed before the text
            if len(sentence) >= k and sentence[0] != start:
                before[k][tuple(sentence[:k])] += 1
        before[k].update({gram: count for gram, count in raw[k].items() if gram[0] == start})
    counts = [*before, raw[order]]
    del counts[1][(start,)]
    steps = [FALLBACK] * (order + 1)
    for k in range(1, order + 1):
        of = Counter(counts[k].values())
        if of[1] and of[2] and of[3]:
            y = of[1] / (of[1] + 2 * of[2])
            values = tuple(c - (c + 1) * y * of[c + 1] / of[c] for c in (1, 2, 3))
            steps[k] = values if all(0 < v <= c for c, v in enumerate(values, 1)) else FALLBACK  # type: ignore[call-overload]

    def probability(context: Ngram, word: int) -> float:
        k = len(context) + 1
        shorter = probability(context[1:], word) if context else 1 / len(words)
        seen = {gram[-1]: count for gram, count in counts[k].items() if gram[:-1] == context and count}
        if not seen:
            return shorter
        total, discount = sum(seen.values()), (0.0, *steps[k])
        kept = sum(discount[min(count, 3)] for count in seen.values())
        count = seen.get(word, 0)
        return (count - discount[min(count, 3)]) / total + kept / total * shorter

    return probability


def distributions(model: BackoffModel, history: Sequence[int]) -> np.ndarray[Any, Any]:
    """Return the probabilities of all tokens after a history."""
    contexts = model.contexts(np.array(history, np.int64))
    return np.exp(model.distributions([numbers[-1:] for numbers in contexts], count=1)[0])


@pytest.mark.parametrize("order", [1, 2, 3, 5])
@pytest.mark.parametrize("is_stream", [False, True])
def test_probabilities_follow_the_definition_and_sum_to_one(order: int, is_stream: bool) -> None:
    rng = np.random.default_rng(order)
    size = 12
    sentences = [[*(3 + (rng.geometric(0.25, rng.integers(0, 7)) % (size - 3)))] for _ in range(60)]
    if is_stream:
        texts = [[EOS, *(word for sentence in sentences for word in (*sentence, EOS))]]
    else:
        texts = [[BOS, *sentence, EOS] for sentence in sentences]
    flat = np.array([word for text in texts for word in text], np.int32)
    model = estimate(flat, order=order, vocabulary=size, start=BOS, never=(PAD,))
    words = [word for word in range(size) if word not in (PAD, BOS)]
    oracle = kneser_ney(texts, order, words, BOS)
    histories: list[Ngram] = [(BOS,), (EOS,), (5, 5, 5, 5, 5, 5), (UNK,), (11, 10)]
    histories += [tuple(text[:end]) for text in texts[:20] for end in range(1, min(len(text), 25))]
    for history in histories:
        probs = distributions(model, history)
        assert probs.sum() == pytest.approx(1, abs=1e-5)
        context = history[max(0, len(history) - order + 1) :] if order > 1 else ()
        expected = np.zeros(size)
        expected[words] = [oracle(context, word) for word in words]
        np.testing.assert_allclose(probs, expected, rtol=2e-4, atol=1e-7)
        for next_word in words:
            scores = model.score(model.contexts(np.array(history)), np.array([*history[1:], next_word]))
            np.testing.assert_allclose(np.exp(scores[-1]), probs[next_word], rtol=1e-5)


def test_discounts_that_the_counts_do_not_determine_have_usual_values() -> None:
    assert discounts(np.array([1, 1, 2, 5])) == FALLBACK, "nothing has a count of 3"
    assert discounts(np.repeat([1, 2, 3, 4], [8, 4, 1, 3])) == FALLBACK, "D3 would be below 0"
    # Y = 8 / (8 + 2 * 4) = 1/2
    assert discounts(np.repeat([1, 2, 3, 4], [8, 4, 2, 1])) == pytest.approx((1 - 0.5, 2 - 0.75, 3 - 1))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Training and development text."""
    folder = tmp_path_factory.mktemp("text")
    for name, n, seed in (("train.txt", 120, 0), ("dev.txt", 25, 9)):
        (folder / name).write_text("".join(f"{line}\n" for line in lines(n, seed)))
    return folder / "train.txt", folder / "dev.txt"


@pytest.fixture(scope="module")
def ngrams(files: tuple[Path, Path]) -> Path:
    """A 3-gram model of words."""
    train, dev = files
    tiny.train("lm", train.parent / "ngrams", [train], dev=[dev], encoder="ngram", order=3, tokenizer="word")
    return train.parent / "ngrams"


@pytest.mark.parametrize("context", ["line", "stream"])
@pytest.mark.parametrize("tokenizer", ["word", "char", "byte", "unigram", "bpe"])
def test_all_ways_to_run_a_model_agree(
    tokenizer: str, context: str, files: tuple[Path, Path], tmp_path: Path
) -> None:
    train, dev = files
    more = {"vocab_size": 270} if tokenizer in ("unigram", "bpe") else {}
    report = tiny.train("lm", tmp_path / "m", [train], dev=[dev], encoder="ngram", order=4,
                        tokenizer=tokenizer, context=context, **more)
    model = models.load(tmp_path / "m")
    texts = dev.read_text().split("\n")[:-1]
    scored = list(model.score(texts, context=context))
    nats = -sum(result.total_nats for result in scored)
    assert metrics.perplexity_of(nats / sum(len(r.log_probs) for r in scored)) == pytest.approx(
        report["perplexity"], rel=1e-5)
    for text, result in zip(texts, scored, strict=True):
        bits = sum(word.surprisal_bits for word in result.words(text))
        assert bits * math.log(2) == pytest.approx(-result.total_nats, rel=1e-4)
    lines_alone = [result.total_nats for result in model.score(texts)]
    assert [next(model.score([text])).total_nats for text in texts] == pytest.approx(lines_alone, rel=1e-5)
    prompt = texts[3][:12].rsplit(" ", 1)[0]
    for options in ({"n": 2, "seed": 3}, {"n": 1, "beam": 3}):
        for generated in model.generate([prompt], max_tokens=20, **options):
            whole = next(model.score([prompt + generated.text]))
            if generated.finished and len(whole.log_probs) == len(generated.tokens) + 1 + len(
                    model.require(type(model.task)).tokenizer.encode(prompt)):
                start = next(model.score([prompt])).log_probs[:-1]
                # unknown tokens are never generated, so the others are a little more probable
                assert sum(generated.log_probs) == pytest.approx(whole.total_nats - sum(start), abs=0.1)


def test_a_stream_sees_the_line_before(files: tuple[Path, Path], tmp_path: Path) -> None:
    text = tmp_path / "t.txt"
    text.write_text("ping\npong\n" * 40)
    perplexity = {context: tiny.train("lm", tmp_path / context, [text], dev=[text], encoder="ngram",
                                      tokenizer="word", context=context)["perplexity"]
                  for context in ("line", "stream")}
    assert perplexity["stream"] < 1.1, "the line before determines the next one"
    assert perplexity["line"] == pytest.approx(math.sqrt(2), abs=0.1), "two lines, equally likely"
    model = models.load(tmp_path / "stream")
    assert next(model.score(["ping"])).perplexity < 1.7, "it is scored as if a line came before"


def test_a_model_runs_without_torch_and_without_onnx_runtime(ngrams: Path) -> None:
    code = ("import sys, rnntool; m = rnntool.load(sys.argv[1]); list(m.score(['the baker'])); "
            "list(m.generate([''], max_tokens=3)); sys.exit(bool({'torch', 'onnxruntime'} & {*sys.modules}))")
    assert subprocess.run([sys.executable, "-c", code, str(ngrams)], check=False).returncode == 0
    assert not (ngrams / "model.onnx").exists()


def test_the_folder_describes_the_model(ngrams: Path, run: Run) -> None:
    shown = run("info", ngrams).out
    assert "3-gram" in shown and "none" in shown
    assert "A count-based n-gram model (3-gram)" in (ngrams / "README.md").read_text()


@pytest.mark.parametrize("name", ["lr", "hidden", "epochs", "max_time", "label_column", "tied", "int8"])
def test_settings_of_networks_are_refused(name: str) -> None:
    value = {"lr": 3.0, "label_column": "label", "tied": True, "int8": True, "max_time": 60.0}.get(name, 7)
    with pytest.raises(UsageError, match="has no effect with"):
        resolve(TASKS["lm"], {"encoder": "ngram", name: value})
    resolve(TASKS["lm"], {"encoder": "ngram"}, preset="word")  # a preset's settings are not the user's choice
    with pytest.raises(UsageError, match="needs"):
        resolve(TASKS["lm"], {"order": 3})


@pytest.mark.parametrize("arguments", [
    ("inspect", "neighbors", "the"), ("inspect", "gradients", "the baker"), ("evaluate", "--dynamic")])
def test_what_needs_a_network_says_so(
    arguments: tuple[str, ...], ngrams: Path, files: tuple[Path, Path], run: Run
) -> None:
    more = [files[1]] if arguments[0] == "evaluate" else []
    done = run(*arguments, *more, "-m", ngrams)
    assert done.code == 4
    assert "expected a neural network, found a 3-gram model" in done.err


def test_there_is_nothing_to_tune(files: tuple[Path, Path], run: Run) -> None:
    failed(run("tune", "lm", files[0], "-o", "m", "--encoder", "ngram", "--trials", "2"), 2, "--encoder",
           "expected a network, which has settings to search, found ngram")


def test_damaged_tables_are_refused(ngrams: Path, tmp_path: Path) -> None:
    tiny.forget_digests(ngrams)
    path = ngrams / "model.safetensors"
    content = path.read_bytes()
    try:
        path.write_bytes(content[:-9])
        with pytest.raises(ModelError, match="is damaged"):
            models.load(ngrams)
        path.unlink()
        with pytest.raises(ModelError, match="can't be read"):
            models.load(ngrams)
    finally:
        path.write_bytes(content)


# --- ARPA files --------------------------------------------------------------------------------------------


def test_an_arpa_file_gives_the_same_model(ngrams: Path, files: tuple[Path, Path], run: Run, tmp_path: Path
                                           ) -> None:
    assert run("export", ngrams, "-o", "m.arpa").code == 0
    header = (tmp_path / "m.arpa").read_text().split("\n")
    assert header[0] == "\\data\\" and "-99\t<s>\t" in "\n".join(header)
    assert run("export", ngrams, "-o", "m.arpa").code == 2, "it exists already"
    assert run("import-arpa", "m.arpa", "-o", "copy").code == 0
    outputs = [run("score", "-m", folder, "--per", "word", files[1]).out for folder in (ngrams, "copy")]
    assert outputs[0].count("\n") > 50
    rows = [[line.split("\t") for line in output.split("\n")[1:-1]] for output in outputs]
    assert [row[:-1] for row in rows[0]] == [row[:-1] for row in rows[1]]
    np.testing.assert_allclose(*([float(row[-1]) for row in each] for each in rows), atol=2e-4)
    assert run("generate", "-m", "copy", "--seed", "1").code == 0
    assert run("import-arpa", "m.arpa", "-o", "copy").code == 2


def test_tokens_with_white_space_are_escaped_in_arpa_files(files: tuple[Path, Path], tmp_path: Path) -> None:
    tiny.train("lm", tmp_path / "m", [files[0]], dev=[files[1]], encoder="ngram", order=2)
    model = models.load(tmp_path / "m")
    assert isinstance(model.engine, BackoffEngine)
    text = "".join(arpa.write(model.engine.model, model.task.tokenizer.entries))
    names, copy = arpa.read(text.split("\n"), place="x")
    assert "\\u0020" in names and copy.order == 2
    for old, new in zip(model.engine.model.log_probs, copy.log_probs, strict=True):
        np.testing.assert_allclose(np.exp(old), np.exp(new), atol=1e-6)


GOOD = r"""made by hand

\data\
ngram 1=4
ngram 2=2

\1-grams:
-99	<s>	-0.5
-0.3	a	-0.2
-0.6	b
-0.9	</s>

\2-grams:
-0.1	<s> a
-0.4	a b

\end\
"""


def test_hand_written_probabilities_are_looked_up_and_backed_off() -> None:
    names, model = arpa.read(GOOD.split("\n"), place="x")
    assert names == ["a", "b"]
    log10 = {history: distributions(model, history) for history in ((BOS,), (BOS, 4), (4, 5), (UNK,))}
    a, b = 4, 5
    assert log10[BOS,][a] == pytest.approx(10**-0.1)
    assert log10[BOS,][b] == pytest.approx(10 ** (-0.5 - 0.6))
    assert log10[BOS, a][EOS] == pytest.approx(10 ** (-0.2 - 0.9))
    assert log10[a, b][a] == pytest.approx(10**-0.3)
    assert model.log_probs[0][UNK] == pytest.approx(-100 * math.log(10)), "the file has no unknown word"
    assert log10[a, b][PAD] == log10[a, b][BOS] == 0


@pytest.mark.parametrize(("old", "new", "problem"), [
    ("\\data\\", "", "expected an ARPA file"),
    ("ngram 2=2", "ngram 3=2", "expected the number of 2-grams"),
    ("ngram 1=4", "ngram 1=5", "expected 5 1-grams"),
    ("-0.4\ta b", "-0.4\ta c", "x:15: expected words that have a line among the 1-grams, found 'c'"),
    ("-0.4\ta b", "-0.1\t<s> a", "x:15: expected each n-gram once"),
    ("-0.4\ta b", "much\ta b", "x:15: expected two numbers"),
    ("-0.4\ta b", "nan\ta b", "x:15: expected the logarithm"),
    ("-0.4\ta b", "0.4\ta b", "x:15: expected the logarithm"),
    ("-0.4\ta b", "-0.4\ta", "x:15: expected the logarithm"),
    ("\\2-grams:", "\\3-grams:", "x:13: expected"),
    ("\\end\\", "", "found the end of the file"),
])
def test_damaged_arpa_files_are_named_with_the_line(old: str, new: str, problem: str) -> None:
    assert GOOD.count(old) == 1
    with pytest.raises(DataError) as error:
        arpa.read(GOOD.replace(old, new).split("\n"), place="x")
    assert problem in str(error.value)


def test_an_ngram_needs_its_beginning() -> None:
    longer = GOOD.replace("ngram 2=2", "ngram 2=2\nngram 3=1")
    longer = longer.replace("\\end\\", "\\3-grams:\n-0.1\tb a b\n\\end\\")
    with pytest.raises(DataError, match="x:19: expected a line for the words before"):
        arpa.read(longer.split("\n"), place="x")


# --- Beside networks ---------------------------------------------------------------------------------------


def test_a_training_reports_5_grams_of_the_same_tokens_and_their_mixture(
    files: tuple[Path, Path], tmp_path: Path, run: Run
) -> None:
    train, dev = files
    for context in ("line", "stream"):
        network, counted = tmp_path / f"network-{context}", tmp_path / f"ngrams-{context}"
        report = tiny.train("lm", network, [train], dev=[dev], epochs=1, tokenizer="word", context=context)
        alone = tiny.train("lm", counted, [train], dev=[dev], encoder="ngram", tokenizer="word",
                           context=context)
        assert report["ngram"]["perplexity"] == pytest.approx(alone["perplexity"], rel=1e-5)
        assert "ngram" not in alone
        config = model_folder.read_config(network)
        mixture = advice.shown_figure(report["perplexity_mixed"])
        assert advice.result(config).endswith(f"; the model and the 5-grams interpolated: {mixture}")
        worse = dataclasses.replace(
            config, report={**report, "ngram": {"method": "x", "perplexity": 1.0},
                            "baseline": {"method": "y", "perplexity": 1e9}})
        step = advice.next_step(worse, [{"epoch": 1.0, "step": 9, "perplexity": 9.0}])
        assert step.startswith("counted n-grams are better: give it more time")
        done = run("evaluate", dev, "-m", network, "--mix", counted, "--json")
        mixed = json.loads(done.out)
        assert mixed["perplexity_mixed"] == pytest.approx(report["perplexity_mixed"], rel=1e-4)
        assert mixed["mixed"] == {"model": counted.name, "weight": 0.5}
        assert mixed["perplexity_mixed"] < max(report["perplexity"], alone["perplexity"])
        for weight, expected in (("0", report), ("1", alone)):
            done = run("evaluate", dev, "-m", network, "--mix", counted, "--mix-weight", weight, "--json")
            assert json.loads(done.out)["perplexity_mixed"] == pytest.approx(
                expected["perplexity"], rel=1e-4)


def test_the_5_grams_are_left_out_if_they_cost_much(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rnntool.tasks.lm.MAX_BASELINE", 100)
    report = tiny.train("lm", tmp_path / "m", [files[0]], dev=[files[1]], epochs=1)
    assert "baseline" in report and "ngram" not in report and "perplexity_mixed" not in report


def test_only_models_of_the_same_tokens_are_mixed(
    ngrams: Path, writer: Path, classifier: Path, files: tuple[Path, Path], run: Run
) -> None:
    done = run("evaluate", files[1], "-m", ngrams, "--mix", writer)
    assert done.code == 2 and "--mix: expected a model with the same vocabulary" in done.err
    done = run("evaluate", files[1], "-m", ngrams, "--mix", classifier)
    assert done.code == 2 and "--mix: expected another language model" in done.err
    done = run("evaluate", files[1], "-m", ngrams, "--mix-weight", "0.3")
    assert done.code == 2 and "--mix-weight" in done.err


def test_a_text_shorter_than_the_order_is_enough(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("a\n")
    tiny.train("lm", tmp_path / "m", [tmp_path / "t.txt"], dev_fraction=0.0, encoder="ngram", order=9,
               tokenizer="word")
    config = model_folder.read_config(tmp_path / "m")
    assert config.report == {} and config.architecture == "9-gram"
    model = models.load(tmp_path / "m")
    assert next(model.score(["a a a"])).perplexity > 1
    assert list(model.generate([""], seed=1))
