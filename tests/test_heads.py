"""Heads against plain Python: poolings, losses, tied weights, log-probabilities and perplexity."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from safetensors.torch import load_file
from torch import Tensor

from rnntool.data.records import Text
from rnntool.inference.torch_engine import TorchEngine
from rnntool.models import config
from rnntool.models.config import (
    ClassifierHeadConfig,
    EncoderConfig,
    LMHeadConfig,
    NetworkConfig,
    ObjectiveConfig,
    TaggerHeadConfig,
    WordConfig,
)
from rnntool.models.export.network_graph import MAIN, build_graphs
from rnntool.models.heads.base import Head
from rnntool.models.heads.classifier import ClassifierHead
from rnntool.models.heads.tagger import TaggerHead
from rnntool.models.network import Network, count_parameters
from rnntool.tasks.lm import LMTask
from rnntool.tasks.specs.lm import LMSettings
from rnntool.tokenize import BOS, EOS
from rnntool.training.optimizers import make_optimizer

LENGTHS = (4, 1, 0, 3)
HIDDEN = 3


def pooled(name: str, rows: list[list[float]], head: ClassifierHead) -> list[float]:
    """Pool one row of states (n, 2 * HIDDEN) into a vector."""
    if not rows:
        return [0.0] * (2 * HIDDEN)
    columns = list(zip(*rows, strict=True))
    if name == "last":
        return rows[-1][:HIDDEN] + rows[0][HIDDEN:]
    if name == "mean":
        return [sum(column) / len(column) for column in columns]
    if name == "max":
        return [max(column) for column in columns]
    assert head.attention is not None
    weight, bias = head.attention.weight[0].tolist(), head.attention.bias[0].item()
    scores = [math.exp(sum(w * x for w, x in zip(weight, row, strict=True)) + bias) for row in rows]
    return [sum(s * x for s, x in zip(scores, column, strict=True)) / sum(scores) for column in columns]


@pytest.mark.parametrize("kind", config.HEAD_CONFIGS)
def test_each_kind_of_head_has_a_module_and_an_exporter(kind: str) -> None:
    """No other table lists heads, and the graph has the same outputs as the torch module."""
    word = None if kind == "lm" else WordConfig()
    net = Network(NetworkConfig(
        encoder=EncoderConfig(vocabulary=9, embed=4, hidden=4, word=word),
        head=config.HEAD_CONFIGS[kind](outputs=5)))
    assert isinstance(net.head, Head) and net.head.objectives <= {
        field.name for field in dataclasses.fields(ObjectiveConfig)}
    arrays = {name: torch.from_numpy(array) for name, array in tiny.network_arrays(
        np.random.default_rng(0), [5, 3], vocabulary=9, targets=2).items()}
    arrays |= {name: torch.zeros(1, 2, 4) for row in net.state_sizes() for name in row}
    graphs = build_graphs(net)
    dims = {output.name: output.type.tensor_type.shape.dim for output in graphs[MAIN].graph.output}
    shapes = {name: tuple(size.dim_param or size.dim_value for size in dim) for name, dim in dims.items()}
    assert shapes.keys() - {"word_vectors"} == net(arrays).keys()
    required = net.config.head.graph_outputs()
    assert required and required.items() <= shapes.items()


def test_an_objective_without_effect_on_the_network_is_an_error() -> None:
    net = network()
    with pytest.raises(ValueError, match="label_smoothing has no effect on SoftmaxHead"):
        net.set_objective(ObjectiveConfig(label_smoothing=0.1))
    with pytest.raises(ValueError, match="auxiliary_lm needs a recurrent network over words"):
        net.set_objective(ObjectiveConfig(auxiliary_lm=0.1))


@pytest.mark.parametrize("pooling", ["last", "mean", "max", "attention", "max+last+attention+mean"])
@pytest.mark.parametrize("sign", [1, -1])  # if all states are negative, zeros at padding would be the maximum
def test_poolings_see_no_padding(pooling: str, sign: int) -> None:
    torch.manual_seed(1)
    head = ClassifierHead(ClassifierHeadConfig(outputs=2, pooling=pooling), 2 * HIDDEN, HIDDEN, 0.0)
    states = sign * torch.rand(4, len(LENGTHS), 2 * HIDDEN)
    actual = head.pool(states, torch.tensor(LENGTHS))
    for row, length in enumerate(LENGTHS):
        rows = states[:length, row].tolist()
        expected = [x for name in pooling.split("+") for x in pooled(name, rows, head)]
        assert actual[row].tolist() == pytest.approx(expected, abs=1e-6)


def test_multi_label_loss_counts_each_label_of_each_text() -> None:
    torch.manual_seed(1)
    head = ClassifierHead(ClassifierHeadConfig(outputs=2, multi_label=True), 4, 4, 0.0).eval()
    states, lengths = torch.rand(2, 2, 4), torch.tensor([2, 1])
    targets = torch.tensor([[1, 0], [1, 1]])
    logits = head(states, {"lengths": lengths})["logits"].tolist()
    expected = sum(math.log(1 + math.exp(-x if t else x))
               for row, target in zip(logits, targets.tolist(), strict=True)
               for x, t in zip(row, target, strict=True)) / 2
    assert head.loss(states, {"lengths": lengths, "targets": targets}).item() == pytest.approx(expected)


@pytest.mark.parametrize("crf", [False, True])
def test_a_batch_of_empty_sentences_costs_nothing(crf: bool) -> None:
    head = TaggerHead(TaggerHeadConfig(outputs=3, crf=crf), 4)
    loss = head.loss(torch.rand(1, 2, 4), {"targets": torch.full((1, 1, 2), -1), "lengths": torch.zeros(2)})
    assert loss.item() == 0
    loss.backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in head.parameters())


def test_columns_of_tags_have_a_loss_each_and_words_the_weight_of_their_tag() -> None:
    torch.manual_seed(1)
    head = TaggerHead(TaggerHeadConfig(outputs=7, columns=(2, 3, 2)), 4)
    head.set_objective(ObjectiveConfig(
        label_smoothing=0.3, label_weights=(0.5, 2.0, 1.0, 1.0, 3.0, 1.5, 1.0)))
    states = torch.rand(2, 2, 4)
    targets = torch.tensor([[[0, 1], [1, -1]], [[2, 0], [-1, -1]], [[1, -1], [0, 0]]])
    emissions = head(states, {})["emissions"]
    expected = 0.0
    for first, after, column in zip((0, 2, 5), (2, 5, 7), targets, strict=True):
        size, losses = after - first, []
        for t, b in (column >= 0).nonzero().tolist():
            gold = int(column[t, b])
            log_probs = emissions[t, b, first:after].log_softmax(0).tolist()
            nll = -sum(((0.7 if i == gold else 0.0) + 0.3 / size) * p for i, p in enumerate(log_probs))
            losses.append(nll * head.label_weights[first + gold].item())
        expected += sum(losses) / len(losses) / 3
    assert head.loss(states, {"targets": targets}).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_the_auxiliary_lm_predicts_words_among_the_types_of_the_batch(bidirectional: bool) -> None:
    torch.manual_seed(1)
    config = EncoderConfig(vocabulary=9, embed=5, hidden=3, bidirectional=bidirectional, word=WordConfig())
    net = Network(NetworkConfig(encoder=config, head=TaggerHeadConfig(outputs=2)))
    net.set_objective(ObjectiveConfig(auxiliary_lm=0.5))
    net.eval()
    words, lengths = torch.tensor([[0, 2], [1, 0], [2, 0]]), torch.tensor([3, 1])
    arrays = {"words": words, "lengths": lengths, "type_tokens": torch.tensor([5, 6, 7]),
              "targets": torch.tensor([[[0, 1], [1, -1], [0, -1]]])}
    both, _ = net.loss(arrays)
    types = net.encoder.input.types(arrays)
    first, _ = net.encoder.layers[0](types[words], lengths)
    assert net.auxiliary_lm is not None
    pairs = [(net.auxiliary_lm.forward_output(first[t, 0, :3]), words[t + 1, 0]) for t in (0, 1)]
    nlls = [-torch.log_softmax(types @ vector, 0)[word] for vector, word in pairs]
    expected = sum(nlls) / 2
    if net.auxiliary_lm.backward_output is not None:
        pairs = [(net.auxiliary_lm.backward_output(first[t, 0, 3:]), words[t - 1, 0]) for t in (1, 2)]
        expected = expected + sum(-torch.log_softmax(types @ vector, 0)[word] for vector, word in pairs) / 2
    net.set_objective(ObjectiveConfig())
    tags, _ = net.loss(arrays)
    assert both.item() == pytest.approx((tags + 0.5 * expected).item(), rel=1e-5)
    assert not any("auxiliary" in name for name in net.state_dict())
    alone = {name: values[:1, :, 1:] if name == "targets" else values for name, values in arrays.items()}
    alone |= {"words": words[:1, 1:], "lengths": lengths[1:], "targets": arrays["targets"][:, :1, 1:]}
    before, _ = net.loss(alone)
    net.set_objective(ObjectiveConfig(auxiliary_lm=0.5))
    assert net.loss(alone)[0].item() == pytest.approx(before.item()), "a single word has no neighbors"


# --- Language models ---------------------------------------------------------------------------------------


def network(
    vocabulary: int = 20, *, embed: int = 6, hidden: int = 6, tied: bool = True, **encoder: Any
) -> Network:
    torch.manual_seed(2)
    made = Network(NetworkConfig(
        encoder=EncoderConfig(vocabulary=vocabulary, embed=embed, hidden=hidden, **encoder),
        head=LMHeadConfig(outputs=vocabulary, tied=tied),
    )).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return made


@pytest.mark.parametrize(("embed", "hidden"), [(6, 6), (6, 8)])
def test_tied_weights_are_one_parameter(embed: int, hidden: int) -> None:
    net = network(embed=embed, hidden=hidden, dropout=0.1)
    names = [name for name, _ in net.named_parameters()]
    assert "encoder.input.embedding.weight" in names
    assert "head.output.weight" not in names
    optimizer = make_optimizer(net, LMSettings())
    learned = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert len(learned) == len(set(learned)) == len(names)
    untied = network(embed=embed, hidden=hidden, tied=False)
    projection = hidden * embed if embed != hidden else 0
    assert count_parameters(untied) - 20 * hidden == count_parameters(net) - projection


def test_tied_weights_are_one_tensor_on_disk(writer: Path) -> None:
    weights = load_file(writer / "model.safetensors")
    assert "encoder.input.embedding.weight" in weights
    assert "head.output.weight" not in weights
    graph = (writer / "model.onnx").stat().st_size
    assert graph < 1.5 * (writer / "model.safetensors").stat().st_size + 16_384


def log_probs_by_hand(
    net: Network, tokens: Sequence[int], targets: Sequence[int], state: Any
) -> tuple[list[float], Any]:
    """Return each target's log-probability, computed token by token in plain Python, and the final state."""
    log_probs = []
    for token, target in zip(tokens, targets, strict=True):
        arrays = {"tokens": torch.tensor([[token]]), "lengths": torch.tensor([1])}
        states, state = net.encoder(arrays, state)
        logits = net.head.logits(states)[0, 0].tolist()  # type: ignore[operator]
        top = max(logits)
        log_probs.append(logits[target] - top - math.log(sum(math.exp(x - top) for x in logits)))
    return log_probs, state


@pytest.mark.parametrize("tied", [True, False])
@torch.no_grad()
def test_log_probs_of_a_padded_batch(tied: bool) -> None:
    net = network(tied=tied, layers=2, cell="gru")
    rows = [([2, 5, 7], [5, 7, 3]), ([2], [3])]
    tokens = torch.tensor([[2, 2], [5, 0], [7, 0]])
    targets = torch.tensor([[5, 3], [7, -1], [3, -1]])
    states, _ = net.encoder({"tokens": tokens, "lengths": torch.tensor([3, 1])})
    actual = net.head(states, {"targets": targets})["log_probs"]
    expected = [log_probs_by_hand(net, *row, None)[0] for row in rows]
    assert actual[:, 0].tolist() == pytest.approx(expected[0], abs=1e-5)
    assert actual[:, 1].tolist() == pytest.approx([expected[1][0], 0, 0], abs=1e-5)
    loss = net.head.loss(states, {"targets": targets})
    assert loss.item() == pytest.approx(-(sum(expected[0]) + sum(expected[1])) / 4, abs=1e-5)


TEXTS = ["the cat sat", "", "a dog", "the end of the long line of words that was cut in pieces", "odd zebra"]


@pytest.mark.parametrize("context", ["line", "stream"])
@pytest.mark.parametrize("budget", [8192, 7])  # a small one reads long lines in pieces
@torch.no_grad()
def test_perplexity_is_the_sum_over_tokens_with_eos_and_without_bos(context: str, budget: int) -> None:
    settings = LMSettings(tokenizer="word", context=context)
    task = LMTask.learn([Text(text) for text in TEXTS[:4]], settings)
    task.budget = budget
    net = network(task.tokenizer.size, layers=2)
    nats: list[float] = []
    state = None
    for text in TEXTS:
        ids = task.tokenizer.encode(text)
        if context == "line":
            state = None
        log_probs, state = log_probs_by_hand(net, [BOS, *ids], [*ids, EOS], state)
        nats += log_probs
    records = [Text(text) for text in TEXTS]
    report = task.report(TorchEngine(net, torch.device("cpu")), records)
    words = sum(len(text.split()) for text in TEXTS)
    assert report["tokens"] == len(nats) == words + len(TEXTS)
    assert report["records"] == len(TEXTS)
    assert report["oov"] == 2
    assert report["nll_nats"] == pytest.approx(-sum(nats) / len(nats), rel=1e-5)
    assert report["perplexity"] == pytest.approx(math.exp(-sum(nats) / len(nats)), rel=1e-4)
    characters = sum(len(text) + 1 for text in TEXTS)
    assert report["bits_per_char"] == pytest.approx(-sum(nats) / math.log(2) / characters, rel=1e-5)
    assert task.score(TorchEngine(net, torch.device("cpu")), records) == {"perplexity": report["perplexity"]}


@torch.no_grad()
def test_score_and_report_agree() -> None:
    for context in ("line", "stream"):
        task = LMTask.learn([Text(text) for text in TEXTS], LMSettings(tokenizer="char", context=context))
        engine = TorchEngine(network(task.tokenizer.size), torch.device("cpu"))
        records = [Text(text) for text in TEXTS]
        if context == "stream":
            scored = [result for _, result in task.score_stream(engine, records)]
        else:
            scored = task.decode(records, task.run(engine, task.encode(records)))
        report = task.report(engine, records)
        assert sum(len(result.log_probs) for result in scored) == report["tokens"]
        nats = -sum(result.total_nats for result in scored)
        assert nats / report["tokens"] == pytest.approx(report["nll_nats"])


def test_gradients_reach_every_weight() -> None:
    net = network(embed=6, hidden=8, layers=2, cell="elman").train()
    arrays: dict[str, Tensor] = {"tokens": torch.randint(4, 20, (5, 2)), "lengths": torch.tensor([5, 3]),
                                 "targets": torch.randint(4, 20, (5, 2))}
    net.loss(arrays)[0].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())


@pytest.mark.parametrize("multi_label", [False, True])
def test_consistency_pulls_two_readings_together(multi_label: bool) -> None:
    torch.manual_seed(1)
    config = ClassifierHeadConfig(outputs=3, pooling="mean", multi_label=multi_label)
    head = ClassifierHead(config, 4, 2, 0.0)
    states = torch.randn(5, 2, 4)
    target = torch.tensor([[1, 0, 1], [0, 1, 0]]) if multi_label else torch.tensor([2, 0])

    def loss(states: Tensor, weight: float) -> float:
        head.set_objective(ObjectiveConfig(consistency=weight))
        arrays = {"lengths": torch.tensor([5, 5, 5, 5]), "targets": torch.cat([target, target])}
        return head.loss(states, arrays).item()

    same = torch.cat([states, states], dim=1)
    assert loss(same, 7.0) == pytest.approx(loss(same, 0.0)), "two equal readings agree already"
    other = torch.cat([states, -states], dim=1)
    logits = head(other, {"lengths": torch.tensor([5, 5, 5, 5])})["logits"].tolist()
    gaps = []
    for a, b in zip(logits[:2], logits[2:], strict=True):
        pairs = [([x, 0.0], [y, 0.0]) for x, y in zip(a, b, strict=True)] if multi_label else [(a, b)]
        gaps.append(sum(divergence(x, y) + divergence(y, x) for x, y in pairs) / 2)
    assert loss(other, 0.5) == pytest.approx(loss(other, 0.0) + 0.5 * sum(gaps) / 2, rel=1e-5)


def divergence(a: list[float], b: list[float]) -> float:
    """Kullback-Leibler divergence of the softmax of `b` from that of `a`, in nats."""
    p, q = ([math.exp(x) / sum(map(math.exp, row)) for x in row] for row in (a, b))
    return sum(x * math.log(x / y) for x, y in zip(p, q, strict=True))


def test_label_smoothing_leaves_a_share_to_the_others() -> None:
    head = ClassifierHead(ClassifierHeadConfig(outputs=4, pooling="max"), 4, 2, 0.0)
    head.set_objective(ObjectiveConfig(label_smoothing=0.2))
    states = torch.randn(3, 1, 4)
    arrays = {"lengths": torch.tensor([3]), "targets": torch.tensor([1])}
    log_probs = head(states, arrays)["logits"][0].log_softmax(0).tolist()
    expected = [0.05, 0.85, 0.05, 0.05]
    assert head.loss(states, arrays).item() == pytest.approx(
        -sum(w * x for w, x in zip(expected, log_probs, strict=True)), rel=1e-5)
