"""The decoder: its loss, its steps in both engines, attention against plain Python, and its options."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from rnntool.data.arrays import IGNORE, Arrays
from rnntool.inference.onnx_engine import OnnxEngine
from rnntool.inference.torch_engine import TorchEngine, to_tensors
from rnntool.models.attention import Attention, Memory
from rnntool.models.cells import CELLS
from rnntool.models.config import (
    ATTENTIONS,
    DecoderHeadConfig,
    EncoderConfig,
    NetworkConfig,
    ObjectiveConfig,
)
from rnntool.models.export.network_graph import write_graphs
from rnntool.models.heads.decoder import DecoderHead
from rnntool.models.linear_cross_entropy import linear_cross_entropy
from rnntool.models.network import Network
from rnntool.tasks.base import Engine
from rnntool.tokenize import BOS, EOS

VOCABULARY, OUTPUTS = 20, 15
LENGTHS, TARGET_LENGTHS = [3, 1, 7, 5], [4, 2, 5, 6]


def network(**changes: Any) -> Network:
    """Make a network whose weights, biases included, are far from their initial values."""
    decoder = DecoderHeadConfig(**{"outputs": OUTPUTS, "embed": 12, "hidden": 10} | changes)
    encoder = EncoderConfig(vocabulary=VOCABULARY, embed=12, hidden=8, bidirectional=True, cell=decoder.cell,
                            layers=decoder.layers)
    torch.manual_seed(1)
    made = Network(NetworkConfig(encoder=encoder, head=decoder)).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return made


def batch(lengths: list[int] = LENGTHS, target_lengths: list[int] = TARGET_LENGTHS) -> Arrays:
    """Make random sources and targets; padding has random tokens, which must not matter."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, VOCABULARY, (max(lengths), len(lengths)))
    targets = rng.integers(4, OUTPUTS, (max(target_lengths), len(lengths)))
    previous = np.concatenate([np.full((1, len(lengths)), BOS), targets[:-1]])
    for row, length in enumerate(target_lengths):
        targets[length - 1, row] = EOS
        targets[length:, row] = IGNORE
    return {"tokens": tokens, "lengths": np.array(lengths, np.int32), "previous": previous,
            "targets": targets}


def steps(engine: Engine, arrays: Arrays) -> tuple[NDArray[Any], list[Arrays]]:
    """Run the decoder step by step over the targets: log-probabilities (U, B, V), and all outputs."""
    encoded = engine.run({name: arrays[name] for name in ("tokens", "lengths")})
    state = {name.replace("start", "state"): value for name, value in encoded.items()
             if name.startswith("start")}
    outputs = []
    for previous in arrays["previous"]:
        outputs.append(engine.part("decoder").run(
            {**encoded, "lengths": arrays["lengths"], "previous": previous, **state}))
        state = {name: outputs[-1][name.replace("state", "next")] for name in state}
    return np.array([output["log_probs"] for output in outputs]), outputs


def loss_of(log_probs: NDArray[Any], targets: NDArray[Any]) -> float:
    real = targets != IGNORE
    return -float(np.take_along_axis(log_probs, targets.clip(0)[..., None], -1)[..., 0][real].mean())


@pytest.mark.parametrize("input_feeding", [False, True])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("cell", CELLS)
def test_the_loss_of_a_whole_target_is_that_of_its_steps_in_both_engines(
    cell: str, attention: str, layers: int, input_feeding: bool, tmp_path: Path
) -> None:
    net, arrays = network(cell=cell, attention=attention, layers=layers, input_feeding=input_feeding), batch()
    loss = net.loss(to_tensors(arrays, torch.device("cpu")))[0].item()
    write_graphs(net, tmp_path)
    onnx, in_torch = OnnxEngine(tmp_path / "model.onnx", threads=1), TorchEngine(net, torch.device("cpu"))
    by_step, outputs = steps(in_torch, arrays)
    assert loss_of(by_step, arrays["targets"]) == pytest.approx(loss, abs=1e-5)
    in_onnx, onnx_outputs = steps(onnx, arrays)
    np.testing.assert_allclose(in_onnx, by_step, rtol=0, atol=1e-5)
    for expected, actual in zip(outputs, onnx_outputs, strict=True):
        assert actual.keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_allclose(actual[name], value, rtol=0, atol=1e-5, err_msg=name)
    assert ("attention" in outputs[0]) == (attention != "none")
    if attention != "none":
        weights = np.array([output["attention"] for output in outputs])  # (U, B, T)
        np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-5)
        assert not weights[:, np.arange(7)[None] >= arrays["lengths"][:, None]].any(), "padding has no weight"


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("input_feeding", [False, True])
def test_eight_bits_stay_near(cell: str, input_feeding: bool, tmp_path: Path) -> None:
    net, arrays = network(cell=cell, input_feeding=input_feeding), batch()
    sizes = []
    results = []
    for int8 in (False, True):
        write_graphs(net, tmp_path, int8=int8)
        sizes.append((tmp_path / "decoder.onnx").stat().st_size)
        results.append(steps(OnnxEngine(tmp_path / "model.onnx", threads=1), arrays)[0])
    assert abs(results[0] - results[1]).max() < 0.15


@pytest.mark.parametrize("kind", ["additive", "dot"])
def test_attention_is_a_weighted_mean_of_the_values(kind: str) -> None:
    torch.manual_seed(0)
    attention = Attention(kind, 3, 5, 4)
    states, queries = torch.randn(6, 2, 5), torch.randn(2, 1, 3)
    memory = attention.read(states, torch.tensor([6, 2]))
    context, weights = attention(queries, memory)
    for row, length in enumerate((6, 2)):
        scores = [score(attention, queries[row, 0], memory, row, t) for t in range(length)]
        shares = [math.exp(s) / sum(map(math.exp, scores)) for s in scores]
        assert weights[row, 0, :length].tolist() == pytest.approx(shares, abs=1e-5)
        expected = sum(share * memory.values[row, t] for t, share in enumerate(shares))
        assert torch.allclose(context[row, 0], expected, atol=1e-5)


def score(attention: Attention, query: Tensor, memory: Memory, row: int, t: int) -> float:
    key = memory.keys[row, t]
    if attention.query is None or attention.energy is None:
        return float(query @ key)
    return float((attention.energy @ torch.tanh(attention.query.weight @ query + key)).detach())


def test_a_source_of_length_zero_has_no_nan(tmp_path: Path) -> None:
    net, arrays = network(), batch([0, 3], [2, 2])
    write_graphs(net, tmp_path)
    for engine in (OnnxEngine(tmp_path / "model.onnx", threads=1), TorchEngine(net, torch.device("cpu"))):
        assert np.isfinite(steps(engine, arrays)[0]).all()


def test_tied_and_shared_vectors_are_one_parameter() -> None:
    separate, tied = network(tied=False), network(tied=True)
    shared = network(tied=True, shared=True)
    head, input = shared.head, shared.encoder.input
    assert isinstance(head, DecoderHead)
    assert head.embedding.weight is head.output.weight is input.embedding.weight
    names = [[name for name, _ in net.named_parameters() if "embedding" in name or "output.weight" in name]
             for net in (separate, tied, shared)]
    assert [len(of_net) for of_net in names] == [3, 2, 1]


def test_label_smoothing_adds_the_mean_over_all_classes() -> None:
    torch.manual_seed(0)
    x, weight, bias = torch.randn(7, 5), torch.randn(9, 5), torch.randn(9)
    targets = torch.tensor([0, 3, -1, 8, 2, -1, 4])
    for parameter in (x, weight, bias):
        parameter.requires_grad_()
    expected = torch.nn.functional.cross_entropy(
        x @ weight.T + bias, targets, ignore_index=-1, label_smoothing=0.3)
    gradients = torch.autograd.grad(expected, (x, weight, bias))
    loss = linear_cross_entropy(x, weight, bias, targets, ignore=-1, smoothing=0.3)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    for actual, gradient in zip(torch.autograd.grad(loss, (x, weight, bias)), gradients, strict=True):
        assert torch.allclose(actual, gradient, atol=1e-5)


def test_scheduled_sampling_grows_with_the_progress_and_is_off_in_evaluation() -> None:
    net, arrays = network(), to_tensors(batch(), torch.device("cpu"))

    def loss(training: bool, progress: float) -> float:
        net.train(training)
        net.head.progress = progress
        torch.manual_seed(5)
        return net.loss(arrays)[0].item()

    plain = loss(True, 1.0)
    net.set_objective(ObjectiveConfig(scheduled_sampling=1.0))
    assert loss(True, 0.0) == loss(False, 1.0) == pytest.approx(plain, abs=1e-6)
    assert loss(True, 1.0) != pytest.approx(plain, abs=1e-4), "all inputs are predictions"


def test_scheduled_sampling_draws_for_each_token(monkeypatch: pytest.MonkeyPatch) -> None:
    net, arrays = network(), batch([4] * 400, [6] * 400)
    net.set_objective(ObjectiveConfig(scheduled_sampling=0.5))
    net.train()
    net.head.progress = 0.5
    read: list[Tensor] = []
    head = net.head
    assert isinstance(head, DecoderHead)
    embed = head.embedding.forward
    monkeypatch.setattr(head.embedding, "forward", lambda ids: read.append(ids) or embed(ids))
    net.loss(to_tensors(arrays, torch.device("cpu")))
    rows = torch.stack(read[1:])  # without the call that draws the dropout mask
    changed = (rows != torch.from_numpy(arrays["previous"])).float()  # (U, B)
    assert not changed[0].any(), "the first input is always the start"
    assert changed[1:].mean() == pytest.approx(0.25, abs=0.06)
    assert 0 < changed[1:].mean(0).unique().numel() > 2, "rows differ"


def test_step_by_step_training_has_the_gradient_of_the_whole_target() -> None:
    arrays = to_tensors(batch(), torch.device("cpu"))
    gradients = []
    for share in (0.0, 1e-12):  # the second is computed step by step, but no token is ever replaced
        net = network(layers=2)
        net.set_objective(ObjectiveConfig(scheduled_sampling=share))
        net.train()
        net.head.progress = 1.0
        net.loss(arrays)[0].backward()
        gradients.append({name: p.grad for name, p in net.named_parameters()})
    for name, gradient in gradients[0].items():
        other = gradients[1][name]
        assert gradient is not None and other is not None
        assert torch.allclose(gradient, other, atol=1e-5), name
