"""A model that several threads share, or that a forked process uses, gives the answers of one thread."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

import rnntool
from rnntool.errors import ModelError
from rnntool.inference.model import Model

THREADS = 8
QUESTIONS = ("who wrote", "where is", "how many people saw", "what does", "when did", "why is")


def texts(n: int, seed: int) -> list[str]:
    """Generate texts of which each has words that no other has."""
    rng = random.Random(seed)
    known = "The king of France saw New York in March with 3 men .".split()

    def word() -> str:
        return rng.choice(known) if rng.random() < 0.5 else "".join(rng.choices("aeioubcdlmnrst", k=7))

    def words() -> str:
        return " ".join(word() for _ in range(rng.randint(1, 12)))

    return [f"{rng.choice(QUESTIONS)} {words()} ?" for _ in range(n)]


def tag(model: Model, seed: int) -> Any:
    return [(result.tags, result.probs) for result in model.tag(texts(30, seed), probs=True)]


def classify(model: Model, seed: int) -> Any:
    ranked = [result.ranked for result in model.classify(texts(30, seed), top=6)]
    explained = [weights for _, weights in model.explain(texts(3, seed))]
    return ranked, explained


def transduce(model: Model, seed: int) -> Any:
    words = " ".join(texts(5, seed)).split()
    best = [[(one.text, one.score) for one in results] for results in model.transduce(words, n_best=2)]
    return best, [results[0].text for results in model.transduce(words, sample=True, seed=seed)]


def write(model: Model, seed: int) -> Any:
    scores = [result.log_probs for result in model.score(texts(10, seed))]
    stream = [result.log_probs for result in model.score(texts(3, seed), context="stream")]
    samples = [sample.text for sample in model.generate(["The king"], seed=seed, n=3, max_tokens=20)]
    return scores, stream, samples


OPERATIONS: dict[str, Callable[[Model, int], Any]] = {
    "en-ner": tag, "en-pos": tag, "en-question": classify, "shakespeare": write,
    "en-g2p": transduce}


@pytest.fixture
def switching() -> Iterator[None]:
    """Let Python switch between threads as often as it can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.parametrize("name", OPERATIONS)
def test_threads_share_a_model(name: str, switching: None) -> None:
    operation, folder = OPERATIONS[name], ROOT / "models" / name
    alone = rnntool.load(folder)
    expected = [operation(alone, seed) for seed in range(THREADS)]
    shared, answers = rnntool.load(folder), {}

    def work(seed: int) -> None:
        answers[seed] = operation(shared, seed), operation(shared, (seed + 1) % THREADS)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answers.get(seed) for seed in range(THREADS)] == [
        (expected[seed], expected[(seed + 1) % THREADS]) for seed in range(THREADS)]
    assert [operation(shared, seed) for seed in range(THREADS)] == expected, "afterwards, on one thread"


# --- After a fork ------------------------------------------------------------------------------------------


def forked(work: Callable[[], object]) -> int | None:
    """Run a function in a fork of this process: its exit code, or None if it doesn't end.

    0 stands for a true value, 1 for a false one, and 4 for a `ModelError`.
    """
    child = os.fork()
    if not child:
        try:
            os._exit(0 if work() else 1)
        except ModelError:
            os._exit(4)
        finally:
            os._exit(9)
    for _ in range(1500):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork")


@needs_fork
@pytest.mark.parametrize("name", OPERATIONS)
def test_a_forked_process_uses_the_model_of_its_parent(name: str) -> None:
    operation, model = OPERATIONS[name], rnntool.load(ROOT / "models" / name, threads=2)
    expected = operation(model, 1)
    assert forked(lambda: operation(model, 1) == expected and operation(model, 2)) == 0
    assert operation(model, 1) == expected


@needs_fork
def test_a_fork_while_another_thread_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    model = rnntool.load(ROOT / "models" / "en-ner")
    expected = tag(model, 1)
    computing, forking_is_over, engine_run = threading.Event(), threading.Event(), model.engine.run

    def wait(*arguments: Any) -> Any:
        computing.set()
        forking_is_over.wait()
        return engine_run(*arguments)

    monkeypatch.setattr(model.engine, "run", wait)
    thread = threading.Thread(target=tag, args=(model, 2))
    thread.start()
    computing.wait()
    model.engine.run = engine_run  # type: ignore[method-assign]
    code = forked(lambda: tag(model, 1) == expected)
    forking_is_over.set()
    thread.join()
    assert code == 0
    assert tag(model, 1) == expected


@needs_fork
def test_a_forked_process_does_not_mix_two_models(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(ROOT / "models" / "en-question", tmp_path / "copy"))
    model = rnntool.load(folder)
    (folder / "model.onnx").write_bytes((ROOT / "models" / "en-ner" / "model.onnx").read_bytes())
    assert forked(lambda: classify(model, 1)) == 4
