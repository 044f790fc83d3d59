"""The adaptive softmax: its probabilities, its graph, and models that use it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from conftest import Run
from torch import Tensor, nn

from rnntool import model_folder
from rnntool.data.arrays import IGNORE
from rnntool.data.records import Text
from rnntool.errors import UsageError
from rnntool.evaluation.options import EvaluateOptions
from rnntool.inference import model
from rnntool.inference.onnx_engine import OnnxEngine
from rnntool.inference.torch_engine import TorchEngine
from rnntool.models.adaptive_embedding import DIV_VALUE, AdaptiveEmbedding
from rnntool.models.config import EncoderConfig, LMHeadConfig, NetworkConfig
from rnntool.models.heads.language_model import AdaptiveSoftmaxHead, SoftmaxHead
from rnntool.models.network import Network
from rnntool.tasks import lm
from rnntool.tasks.lm import LMTask
from rnntool.tasks.specs.lm import LMSettings
from rnntool.training.dynamic_evaluation import cache_nats, dynamic_nats
from rnntool.training.loop import Interrupted

CPU = torch.device("cpu")
VOCABULARY, CUTOFFS = 30, (6, 15)


def perturb(module: nn.Module) -> None:
    """Move weights and biases far from their initial values."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))


def head(*, tied: bool = True, outputs: int = VOCABULARY, size: int = 16) -> AdaptiveSoftmaxHead:
    torch.manual_seed(1)
    made = AdaptiveSoftmaxHead(LMHeadConfig(outputs=outputs, tied=tied), size,
                        AdaptiveEmbedding(VOCABULARY, 16, CUTOFFS))
    perturb(made)
    return made


def batch(outputs: int = VOCABULARY, size: int = 16) -> tuple[Tensor, Tensor]:
    """Return states (T, B, D) and targets of every cluster, some of them padding."""
    torch.manual_seed(2)
    targets = torch.randint(outputs, (9, 5))
    targets[5:, 2] = IGNORE
    return torch.randn(9, 5, size, requires_grad=True), targets


# --- The softmax -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("tied", "outputs", "size"), [(True, 30, 16), (True, 27, 12), (False, 27, 12)])
def test_probabilities_sum_to_one_and_are_the_logits(tied: bool, outputs: int, size: int) -> None:
    softmax = head(tied=tied, outputs=outputs, size=size)
    states, targets = batch(outputs, size)
    actual = softmax(states, {"targets": targets})
    assert actual["logits"].shape == (9, 5, outputs)
    torch.testing.assert_close(actual["logits"].logsumexp(-1), torch.zeros(9, 5))
    each = actual["logits"].gather(-1, targets.clamp(min=0)[..., None]).squeeze(-1) * (targets != IGNORE)
    torch.testing.assert_close(actual["log_probs"], each)
    alone = softmax(states, {"targets": targets}, ["log_probs"])
    assert alone.keys() == {"log_probs"} and torch.equal(alone["log_probs"], actual["log_probs"])


def test_it_equals_torchs_own_given_the_same_weights() -> None:
    softmax = head()
    reference = nn.AdaptiveLogSoftmaxWithLoss(
        16, VOCABULARY, list(CUTOFFS), div_value=DIV_VALUE, head_bias=True)
    with torch.no_grad():
        softmax.bias[CUTOFFS[0] :] = 0  # torch's clusters have no bias
        weight, bias = softmax.layer(0)
        reference.head.weight.copy_(weight)
        reference.head.bias.copy_(bias)
        for cluster, (project, score) in enumerate(reference.tail, 1):
            project.weight.copy_(softmax.output_embedding.projection(cluster).weight.T)
            score.weight.copy_(softmax.output_embedding.table(cluster))
    states, targets = batch()
    actual = softmax(states, {"targets": targets})
    torch.testing.assert_close(actual["logits"].flatten(0, 1), reference.log_prob(states.flatten(0, 1)))
    real = targets != IGNORE
    expected = reference(states[real], targets[real])
    torch.testing.assert_close(actual["log_probs"][real], expected.output)
    torch.testing.assert_close(softmax.loss(states, {"targets": targets}), expected.loss)


@pytest.mark.parametrize("tied", [True, False])
def test_a_single_cluster_is_the_full_softmax(tied: bool) -> None:
    torch.manual_seed(1)
    settings = LMHeadConfig(outputs=VOCABULARY - 3, tied=tied)
    one = AdaptiveSoftmaxHead(settings, 12, AdaptiveEmbedding(VOCABULARY, 16, ()))
    full = SoftmaxHead(settings, 12, nn.Embedding(VOCABULARY, 16))
    perturb(one)
    with torch.no_grad():
        full.output.weight[: VOCABULARY if tied else None].copy_(one.output_embedding.table(0))
        full.output.bias.copy_(one.bias)
        if full.projection is not None and one.projection is not None:
            full.projection.weight.copy_(one.projection.weight)
    states, targets = batch(VOCABULARY - 3, 12)
    arrays = {"targets": targets}
    torch.testing.assert_close(one(states, arrays)["log_probs"], full(states, arrays)["log_probs"])
    torch.testing.assert_close(one(states, arrays)["logits"], full(states, arrays)["logits"].log_softmax(-1))
    torch.testing.assert_close(one.loss(states, arrays), full.loss(states, arrays))


@pytest.mark.parametrize("only", [None, 0, 2])
def test_the_loss_and_its_gradients_are_those_of_the_log_probabilities(only: int | None) -> None:
    """With `only`, all targets are in one cluster."""
    softmax = head(size=12)
    states, targets = batch(size=12)
    if only is not None:
        start, end = softmax.spans[only]
        targets = torch.where(targets == IGNORE, targets, targets % (end - start) + start)
    loss = softmax.loss(states, {"targets": targets})
    plain = -softmax(states, {"targets": targets})["log_probs"].sum() / (targets != IGNORE).sum()
    torch.testing.assert_close(loss, plain)
    learned = [states, *softmax.parameters()]
    pairs = zip(*(torch.autograd.grad(value, learned, materialize_grads=True) for value in (loss, plain)),
                strict=True)
    for actual, expected in pairs:
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-6)


def test_vectors_of_clusters() -> None:
    torch.manual_seed(1)
    vectors = AdaptiveEmbedding(VOCABULARY, 16, CUTOFFS)
    tokens = torch.randint(VOCABULARY, (4, 7))
    torch.testing.assert_close(vectors(tokens), vectors.full_vectors()[tokens])
    assert [vectors.table(cluster).shape for cluster in range(3)] == [(6, 16), (9, 4), (15, 1)]
    full = vectors.full_vectors().detach()
    assert 0.3 < full[6:15].std() / full[:6].std() < 3


# --- The graph ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("outputs", [VOCABULARY, VOCABULARY - 4])
@pytest.mark.parametrize(("tied", "hidden"), [(True, 12), (True, 10), (False, 10)])
@pytest.mark.parametrize("kind", ["lstm", "mingru", "window"])
def test_the_graph_computes_what_torch_computes(
    kind: str, tied: bool, hidden: int, outputs: int, int8: bool, tmp_path: Path
) -> None:
    torch.manual_seed(1)
    what: dict[str, Any] = {"kind": "window", "window": 2} if kind == "window" else {"cell": kind}
    network = Network(NetworkConfig(
        encoder=EncoderConfig(vocabulary=VOCABULARY, embed=12, hidden=hidden, cutoffs=CUTOFFS, **what),
        head=LMHeadConfig(outputs=outputs, tied=tied))).eval()
    perturb(network)
    tiny.write_graph(network, tmp_path / "m.onnx", int8=int8)
    onnx, learns = OnnxEngine(tmp_path / "m.onnx", threads=1), TorchEngine(network, CPU)
    arrays = tiny.network_arrays(np.random.default_rng(0), [7, 1, 3, 2, 5], targets=outputs)
    arrays["tokens"][0] = VOCABULARY - 1  # a label, if there are fewer outputs than tokens
    real = np.arange(7)[:, None] < arrays["lengths"]
    for targets in (arrays["targets"], *(np.full_like(arrays["targets"], id) for id in (IGNORE, 2, 9, 20))):
        batch = arrays | onnx.initial_state(5) | {"targets": targets}
        actual, expected = onnx.run(batch), learns.run(batch)
        assert actual.keys() == expected.keys()
        np.testing.assert_allclose(np.exp(actual["logits"]).sum(-1), 1, rtol=1e-5)
        for name in expected:
            which = real if name in ("logits", "probs", "log_probs") else ...
            np.testing.assert_allclose(
                actual[name][which], expected[name][which], atol=0.2 if int8 else 1e-5, err_msg=name)
        assert onnx.run(batch, ["log_probs"]).keys() == {"log_probs"}
        np.testing.assert_array_equal(onnx.run(batch, ["log_probs"])["log_probs"], actual["log_probs"])


# --- Models ------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True, scope="module")
def _short_clusters() -> Iterator[None]:
    """Set low cutoffs, so that the small text has words in each cluster."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lm, "CUTOFFS", (8, 16))
        yield


WORDS: dict[str, Any] = {"tokenizer": "word", "embed": 16, "hidden": 16, "softmax": "adaptive"}


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clusters") / "raw.txt"
    path.write_text("\n".join(tiny.lines_of_text(80)) + "\n", "utf-8")
    return path


@pytest.fixture(scope="module")
def adaptive(raw: Path) -> Path:
    """Train a language model of words in three clusters, in both directions."""
    tiny.train("lm", raw.parent / "lm", [raw], direction="both", epochs=6, **WORDS)
    return raw.parent / "lm"


def test_it_learns_as_well_as_the_full_softmax(raw: Path, adaptive: Path, tmp_path: Path) -> None:
    tiny.train("lm", tmp_path / "full", [raw], direction="both", epochs=6, **{**WORDS, "softmax": "full"})
    reports = [model_folder.read_config(folder).report for folder in (adaptive, tmp_path / "full")]
    assert reports[0]["perplexity"] < 1.1 * reports[1]["perplexity"]


def test_scores_are_those_of_the_training_network(adaptive: Path) -> None:
    loaded = model.load(adaptive, threads=1)
    records = list(map(Text, tiny.lines_of_text(6, seed=4)))
    arrays = loaded.task.encode(records)
    actual = TorchEngine(tiny.network_of(adaptive), CPU).run(
        arrays | TorchEngine(tiny.network_of(adaptive), CPU).initial_state(6))["log_probs"]
    for i, scored in enumerate(loaded.score(records)):
        np.testing.assert_allclose(scored.log_probs, actual[: len(scored.log_probs), i], atol=1e-5)


def test_a_sample_has_the_log_probabilities_that_score_gives_it(adaptive: Path) -> None:
    loaded = model.load(adaptive, threads=1)
    written = [sample for sample in loaded.generate(n=9, max_tokens=30) if sample.finished]
    assert written
    for sample, scored in zip(written, loaded.score(sample.text for sample in written), strict=True):
        more = np.subtract(sample.log_probs, scored.log_probs)  # tokens that are never sampled
        assert ((more >= -1e-4) & (more < 0.2)).all()
    assert next(loaded.generate(["the"], beam=3, min_tokens=1, max_tokens=5)).tokens


def test_surprisals_of_words_sum_to_that_of_their_record(raw: Path, tmp_path: Path) -> None:
    """If tokens can end a word, the probabilities of all such tokens are needed."""
    tiny.train("lm", tmp_path / "m", [raw], epochs=2, softmax="adaptive")  # of characters
    loaded = model.load(tmp_path / "m", threads=1)
    text = tiny.lines_of_text(1, seed=4)[0]
    (scored,) = loaded.score([text])
    bits = sum(word.surprisal_bits for word in scored.words(text))
    assert bits == pytest.approx(-scored.total_nats / np.log(2), rel=1e-5)
    assert all(word.surprisal_bits > -1e-4 for word in scored.words(text))


@pytest.mark.parametrize("context", ["line", "stream"])
def test_without_adaptation_it_is_the_model_itself(context: str, adaptive: Path) -> None:
    loaded = model.load(adaptive, threads=1)
    given = loaded.require(LMTask)
    task = LMTask(given.tokenizer, settings=given.settings.replace(context=context))
    records = [*map(Text, tiny.lines_of_text(5, seed=4)), Text("")]
    expected = float(task.evaluate(loaded.engine, records).counts[:, 0].sum())
    def forward() -> Network:
        network = tiny.network_of(adaptive)
        network.backward_encoder = None
        return network

    still = EvaluateOptions(dynamic=True, dynamic_lr=0, dynamic_decay=0, cache=True, cache_lambda=0)
    for nats in (dynamic_nats(forward(), task, records, still, CPU),
                 cache_nats(forward(), task, records, still, CPU)):
        assert nats == pytest.approx(expected, rel=1e-4)
    adapted = dynamic_nats(forward(), task, records, EvaluateOptions(dynamic=True), CPU)
    assert adapted != pytest.approx(expected, rel=1e-4)


def test_stopped_and_resumed_gives_the_same_bytes(raw: Path, adaptive: Path, tmp_path: Path) -> None:
    asked = iter(range(1000))
    with pytest.raises(Interrupted):
        tiny.train("lm", tmp_path / "lm", [raw], direction="both", epochs=6, **WORDS,
                   stopping=lambda: 15 if next(asked) == 7 else None)
    tiny.train("lm", tmp_path / "lm", resume=True)
    for name in ("model.safetensors", "model.onnx", "config.json"):
        assert (tmp_path / "lm" / name).read_bytes() == (adaptive / name).read_bytes()


def test_transferred_to_the_same_words_it_is_the_same_encoder(
    raw: Path, adaptive: Path, tmp_path: Path
) -> None:
    tiny.train("lm", tmp_path / "m", [raw], init=str(adaptive), lr=0.0, weight_decay=0.0, epochs=1,
               direction="both", **WORDS)
    carried = model_folder.read_config(tmp_path / "m").init
    assert carried["left"] == []
    assert "input.embedding.tables.0 (4 of 4 entries)" in carried["parts"]
    before, after = tiny.network_of(adaptive), tiny.network_of(tmp_path / "m")
    arrays = {"tokens": torch.randint(before.config.head.outputs, (9, 4)), "lengths": torch.full((4,), 9)}
    torch.testing.assert_close(after.encoder(arrays)[0], before.encoder(arrays)[0], rtol=1e-4, atol=1e-5)


def test_words_that_change_their_cluster_get_the_nearest_vectors(
    raw: Path, adaptive: Path, tmp_path: Path
) -> None:
    """In the other text, the words have other frequencies."""
    more = tmp_path / "more.txt"
    words = (adaptive / "vocab.txt").read_text("utf-8").split()
    more.write_text("\n".join(" ".join(words[i:]) for i in range(len(words))) + "\n", "utf-8")
    tiny.train("lm", tmp_path / "m", [more], init=str(adaptive), lr=0.0, weight_decay=0.0, epochs=1,
               dev_fraction=0.0, **WORDS)
    vectors = [(tiny.network_of(folder).encoder.input.embedding,
                (folder / "vocab.txt").read_text("utf-8").split()) for folder in (adaptive, tmp_path / "m")]
    (before, old), (after, new) = vectors
    assert old != new and set(old) == set(new)
    for id, word in enumerate(new, 4):
        was = before.full_vectors()[old.index(word) + 4]
        if id < 8:
            torch.testing.assert_close(after.full_vectors()[id], was)
        else:
            rest = was - after.full_vectors()[id]
            basis = after.projection(1 if id < 16 else 2).weight
            torch.testing.assert_close(rest @ basis, torch.zeros(basis.shape[1]), rtol=0, atol=1e-4)


def test_a_tagger_starts_from_the_full_vectors(
    adaptive: Path, raw: Path, tmp_path: Path
) -> None:
    tags = tmp_path / "few.conllu"
    tags.write_text(tiny.conllu(tiny.pos_sentences(6, seed=3)), "utf-8")
    still: dict[str, Any] = {"init": str(adaptive), "lr": 0.0, "weight_decay": 0.0, "epochs": 1}
    tiny.train("tag", tmp_path / "t", [tags], embed=16, hidden=16, layers=2, lower=False, **still)
    tiny.train("lm", tmp_path / "full", [raw], **{**WORDS, "softmax": "full"}, **still)
    old = (adaptive / "vocab.txt").read_text("utf-8").split()
    full = tiny.network_of(adaptive).encoder.input.embedding.full_vectors()
    for folder in ("t", "full"):
        new = (tmp_path / folder / "vocab.txt").read_text("utf-8").split()
        table = tiny.network_of(tmp_path / folder).encoder.input.embedding.weight
        for word in old:
            torch.testing.assert_close(table[new.index(word) + 4], full[old.index(word) + 4])
    tiny.train("lm", tmp_path / "again", [raw], **WORDS, **{**still, "init": str(tmp_path / "full")})
    carried = model_folder.read_config(tmp_path / "again").init
    assert "input.embedding.tables.0 (4 of 4 entries)" in carried["parts"]
    assert {"input.embedding.tables.1", "input.embedding.projections.0"} <= set(carried["left"])


def test_character_context_with_clusters(raw: Path, tmp_path: Path) -> None:
    tiny.train("lm", tmp_path / "chars", [raw], epochs=1, softmax="adaptive", direction="both")
    tags = tmp_path / "few.conllu"
    tags.write_text(tiny.conllu(tiny.pos_sentences(20, seed=3)), "utf-8")
    tiny.train("tag", tmp_path / "t", [tags], features=str(tmp_path / "chars"), epochs=1)
    loaded = model.load(tmp_path / "t", threads=1)
    arrays = loaded.task.encode([model.Sentence(line.split()) for line in tiny.lines_of_text(3, seed=1)])
    real = np.arange(len(arrays["words"]))[:, None] < arrays["lengths"]
    actual = TorchEngine(tiny.network_of(tmp_path / "t"), CPU).run(arrays)["emissions"]
    np.testing.assert_allclose(loaded.engine.run(arrays)["emissions"][real], actual[real], atol=1e-5)


def test_text_given_a_label(tmp_path: Path) -> None:
    table = tmp_path / "train.tsv"
    table.write_text(tiny.tsv(tiny.labeled_texts(120)), "utf-8")
    tiny.train("lm", tmp_path / "m", [table], label_column="label", epochs=15, lr=0.05,
               **{**WORDS, "hidden": 24})
    loaded = model.load(tmp_path / "m", threads=1)
    text, label = tiny.labeled_texts(1, seed=5)[0]
    other = {"food": "sky", "sky": "food"}[label]
    right, wrong = (next(loaded.score([text], label=given)).total_nats for given in (label, other))
    assert right > wrong
    assert all(word in tiny.WORDS_OF[label]
               for word in next(loaded.generate(label=label, seed=1)).text.split()[:1])


# --- Settings ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("settings", "entries", "clusters"), [
    ({}, 50_001, True), ({}, 50_000, False), ({"softmax": "full"}, 300_000, False),
    ({"softmax": "adaptive"}, 9_000, True),
    ({"tokenizer": "bpe"}, 60_000, False), ({"vectors": "glove.txt"}, 60_000, False)])
def test_auto_uses_clusters_for_a_large_vocabulary(
    settings: dict[str, Any], entries: int, clusters: bool
) -> None:
    actual = lm.cutoffs(LMSettings(**settings), entries)
    assert actual == ((8, 16) if clusters else ())


def test_a_vocabulary_without_rare_tokens_is_an_error() -> None:
    with pytest.raises(UsageError, match="needs a vocabulary of more than 8 entries, found 8"):
        lm.cutoffs(LMSettings(softmax="adaptive"), 8)


@pytest.mark.parametrize(("settings", "message"), [
    ({"tokenizer": "bpe"}, "softmax=adaptive needs a vocabulary in order of frequency, but "),
    ({"vectors": "glove.txt"}, "softmax=adaptive has vectors of several sizes, but those of vectors")])
def test_settings_that_exclude_an_adaptive_softmax(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        LMSettings(softmax="adaptive", **settings)


def test_info_names_the_clusters(adaptive: Path, run: Run) -> None:
    assert ", in clusters from 8 and 16 on\n" in run("info", adaptive).out
    content = json.loads(run("info", adaptive, "--json").out)
    assert content["network"]["encoder"]["cutoffs"] == [8, 16]
