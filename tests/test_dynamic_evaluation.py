"""Dynamic evaluation and the neural cache, compared with plain loops over the tokens."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from conftest import Run

from rnntool.data.records import Text
from rnntool.errors import UsageError
from rnntool.evaluation.options import EvaluateOptions
from rnntool.inference import model
from rnntool.inference.weights import load_network
from rnntool.models.network import Network
from rnntool.tasks.lm import LMTask
from rnntool.training import dynamic_evaluation
from rnntool.training.dynamic_evaluation import cache_nats, dynamic_nats

CPU = torch.device("cpu")
TEXTS = [Text(line) for line in tiny.lines_of_text(12, seed=5)] + [Text("")]


def loaded(folder: Path, context: str) -> tuple[Network, LMTask, float]:
    """Load a model's network and task, and score `TEXTS` in nats without adaptation."""
    static = model.load(folder, threads=1)
    task = static.require(LMTask)
    task = LMTask(task.tokenizer, settings=task.settings.replace(context=context))
    nats = float(task.evaluate(static.engine, TEXTS).counts[:, 0].sum())
    return load_network(folder, static.config), task, nats


@pytest.mark.parametrize("context", ["line", "stream"])
def test_without_adaptation_the_perplexity_is_that_of_the_model(context: str, writer: Path) -> None:
    network, task, static = loaded(writer, context)
    options = EvaluateOptions(dynamic=True, dynamic_lr=0, dynamic_decay=0, cache=True, cache_lambda=0)
    assert dynamic_nats(network, task, TEXTS, options, CPU) == pytest.approx(static, rel=1e-4)
    assert cache_nats(network, task, TEXTS, options, CPU) == pytest.approx(static, rel=1e-4)


@pytest.mark.parametrize("context", ["line", "stream"])
@pytest.mark.parametrize(("theta", "window"), [(0.0, 7), (1.5, 7), (0.5, 500)])
def test_the_cache_agrees_with_a_loop_over_tokens(
    context: str, theta: float, window: int, writer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dynamic_evaluation, "CHUNK", 5)
    network, task, _ = loaded(writer, context)
    keys: list[np.ndarray] = []
    followers: list[int] = []
    expected = 0.0
    streams: Sequence[Sequence[Text]] = [TEXTS] if context == "stream" else [[text] for text in TEXTS]
    for texts in streams:
        stream = np.concatenate([task.example(text) for text in texts])
        (arrays,) = task.windows(stream, columns=1, steps=10**6)
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        with torch.inference_mode():
            encoded, _ = network.eval().encoder(tensors)
            log_probs = network.head(encoded, tensors)["log_probs"][:, 0].tolist()
        states, targets = encoded[:, 0].numpy(), arrays["targets"][:, 0]
        for h, target, log_prob in zip(states, targets, log_probs, strict=True):
            p = math.exp(log_prob)
            counts = [math.exp(theta * float(h @ key)) for key in keys[-window:]]
            if counts:
                pairs = zip(counts, followers[-window:], strict=True)
                same = sum(count for count, follower in pairs if follower == target)
                p = 0.7 * p + 0.3 * same / sum(counts)
            expected -= math.log(p)
            keys.append(h)
            followers.append(int(target))
    options = EvaluateOptions(cache=True, cache_theta=theta, cache_lambda=0.3, cache_window=window)
    nats = cache_nats(network, task, TEXTS, options, CPU)
    assert nats == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("context", ["line", "stream"])
def test_dynamic_evaluation_agrees_with_a_loop_over_segments(
    context: str, writer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dynamic_evaluation, "SEGMENT", 7)
    network, task, static = loaded(writer, context)
    other, _, _ = loaded(writer, context)
    trained = [p.detach().clone() for p in other.parameters()]
    optimizer = torch.optim.SGD(other.parameters(), lr=0.5)
    expected, states = 0.0, None
    streams: Sequence[Sequence[Text]] = [TEXTS] if context == "stream" else [[text] for text in TEXTS]
    for texts in streams:
        states = None
        stream = np.concatenate([task.example(text) for text in texts])
        for arrays in task.windows(stream, columns=1, steps=7):
            tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
            loss, ends = other.eval().loss(tensors, states)
            expected += loss.item() * len(arrays["targets"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                for weight, start in zip(other.parameters(), trained, strict=True):
                    weight += 0.01 * (start - weight)
            states = [tuple(part.detach() for part in state) for state in ends]
    options = EvaluateOptions(dynamic=True, dynamic_lr=0.5, dynamic_decay=0.01)
    nats = dynamic_nats(network, task, TEXTS, options, CPU)
    assert nats == pytest.approx(expected, rel=1e-4)
    assert nats != pytest.approx(static, rel=1e-3)


def test_dynamic_evaluation_that_diverges_is_an_error(writer: Path) -> None:
    network, task, _ = loaded(writer, "stream")
    with pytest.raises(UsageError, match=r"^dynamic: expected a finite loss, found \w+; lower dynamic_lr$"):
        dynamic_nats(network, task, TEXTS, EvaluateOptions(dynamic=True, dynamic_lr=3e38), CPU)


def test_dynamic_evaluation_that_is_worse_than_guessing_is_an_error(
    writer: Path, text_file: Path, run: Run
) -> None:
    done = run("evaluate", text_file, "-m", writer, "--dynamic", "--dynamic-lr", "20", "--dynamic-decay", "0")
    assert (done.code, done.out) == (2, "")
    assert "--dynamic: expected a perplexity that falls as the model learns from the text, found " in done.err
    assert done.err.endswith("; lower --dynamic-lr\n") and done.err.count("\n") == 1


def test_evaluate_reports_adapted_perplexities_under_their_own_keys(
    writer: Path, text_file: Path, run: Run
) -> None:
    base = ["evaluate", text_file, "-m", writer, "--json"]
    static = json.loads(run(*base).out)
    unchanged = ["--dynamic", "--dynamic-lr", "0", "--dynamic-decay", "0"]
    done = run(*base, *unchanged, "--cache", "--cache-lambda", "0.2", "--cache-window", "50",
               "--cache-theta", "0.5")  # fmt: skip
    assert done.code == 0, done.err
    report = json.loads(done.out)
    assert report["perplexity_dynamic"] == pytest.approx(static["perplexity"], rel=1e-4)
    assert report["perplexity_cache"] != pytest.approx(static["perplexity"], rel=1e-3)
    assert report["dynamic"] == {"lr": 0.0, "decay": 0.0}
    assert report["cache"] == {"theta": 0.5, "weight": 0.2, "window": 50}
    assert {key: report[key] for key in static} == static
    text = run(*base[:-1], "--cache").out
    assert "perplexity_cache" in text and "perplexity_dynamic" not in text


def test_only_language_models_with_weights_can_adapt(
    writer: Path, tagger: Path, text_file: Path, pos_file: Path, run: Run, tmp_path: Path
) -> None:
    done = run("evaluate", pos_file, "-m", tagger, "--dynamic")
    assert (done.code, done.out) == (2, "")
    assert "--dynamic: expected a language model, found tiny-pos (tag)" in done.err
    done = run("evaluate", text_file, "-m", writer, "--cache-window", "9")
    assert (done.code, done.out) == (2, "")
    assert "give --cache as well" in done.err
    bare = tmp_path / "bare"
    shutil.copytree(writer, bare, ignore=shutil.ignore_patterns("*.safetensors"))
    done = run("evaluate", text_file, "-m", bare, "--cache")
    assert (done.code, done.out) == (4, "")
    assert "model.safetensors" in done.err
