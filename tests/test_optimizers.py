"""Optimizers, learning-rate schedules, frozen parameters, and the moving average of weights."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from safetensors.torch import load_file
from torch import nn

from rnntool.errors import RnntoolError
from rnntool.models.config import EncoderConfig, LMHeadConfig, NetworkConfig, TaggerHeadConfig, WordConfig
from rnntool.models.network import Network
from rnntool.tasks.specs.lm import LMSettings
from rnntool.tasks.specs.settings import Settings
from rnntool.tasks.specs.tag import TagSettings
from rnntool.training.checkpoint import Checkpoint, Progress
from rnntool.training.optimizers import (
    OPTIMIZERS,
    SCHEDULES,
    Frozen,
    MovingAverage,
    clip_gradient,
    depth_below_output,
    learning_rate_factor,
    make_optimizer,
    set_weights,
    weights_of,
)


def factors(at: list[float], **settings: Any) -> list[float]:
    return [learning_rate_factor(Settings(**settings), progress) for progress in at]


@pytest.mark.parametrize(("schedule", "expected"), [
    ("constant", [1, 1, 1, 1, 1]),
    ("plateau", [1, 1, 1, 1, 1]),
    ("linear", [1, 0.75, 0.5, 0.25, 0]),
    ("cosine", [1, 0.853553, 0.5, 0.146447, 0]),
])
def test_the_learning_rate_at_each_quarter_of_the_training(schedule: str, expected: list[float]) -> None:
    assert factors([0, 0.25, 0.5, 0.75, 1], schedule=schedule) == pytest.approx(expected, abs=1e-6)


def test_one_cycle_rises_to_the_highest_rate_and_falls_to_zero() -> None:
    expected = [0.04, 0.52, 1, 0.5, 0]
    assert factors([0, 0.15, 0.3, 0.65, 1], schedule="one-cycle") == pytest.approx(expected, abs=1e-6)
    warm = LMSettings(schedule="one-cycle")
    assert warm.warmup, "one-cycle ignores it, as it has its own warm-up"
    warmed_up = [learning_rate_factor(warm, progress) for progress in (0, 0.15, 0.3, 0.65, 1)]
    assert warmed_up == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_schedule_stays_between_0_and_1_and_is_constant_after_the_end(schedule: str) -> None:
    values = factors([i / 100 for i in range(101)], schedule=schedule)
    assert all(-1e-9 <= value <= 1 + 1e-9 for value in values)
    assert max(values) == pytest.approx(1, abs=1e-3)
    assert factors([1.7], schedule=schedule) == factors([1.0], schedule=schedule)


def test_the_schedule_starts_after_the_warmup() -> None:
    expected = [0, 0.5, 1, 0.5, 0]
    assert factors([0, 0.1, 0.2, 0.6, 1], schedule="linear", warmup=0.2) == pytest.approx(expected)


def network() -> Network:
    word = WordConfig(chars="cnn", char_vocabulary=9, char_embed=4, char_hidden=4, affix_buckets=16,
                      affix_embed=4, vector_rows=3, vector_size=2)
    torch.manual_seed(1)
    return Network(NetworkConfig(encoder=EncoderConfig(vocabulary=9, embed=4, hidden=4, word=word),
                                 head=TaggerHeadConfig(outputs=3, crf=True)))


def test_optimizers_and_schedules_are_the_choices_of_their_settings() -> None:
    choices = {field.name: field.metadata["choices"] for field in dataclasses.fields(Settings)}
    assert choices["optimizer"] == tuple(OPTIMIZERS)
    assert choices["schedule"] == tuple(SCHEDULES)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_weight_decay_applies_to_matrices_only(name: str) -> None:
    net = network()
    names = {id(p): key for key, p in net.named_parameters()}
    optimizer = make_optimizer(net, Settings(optimizer=name, weight_decay=0.3))
    groups = {g["weight_decay"]: {names[id(p)] for p in g["params"]} for g in optimizer.param_groups}
    assert groups.keys() == {0.3, 0.0}
    assert groups[0.3] == {
        "encoder.input.characters.convolution.weight", "encoder.layers.0.forward_cell.kernel.weight_ih_l0",
        "encoder.layers.0.forward_cell.kernel.weight_hh_l0", "head.output.weight", "head.crf.transitions",
    }
    assert {"encoder.input.embedding.weight", "head.output.bias", "head.crf.start"} <= groups[0.0]
    assert groups[0.3] | groups[0.0] == set(names.values()) - {"encoder.input.vectors.weight"}


def test_learning_rates_fall_from_the_head_to_the_input() -> None:
    net = network()
    head = [name for name, _ in net.named_parameters() if name.startswith("head.")]
    assert {depth_below_output(net, name) for name in head} == {0}
    assert depth_below_output(net, "encoder.layers.0.forward_cell.kernel.weight_ih_l0") == 1
    assert depth_below_output(net, "encoder.input.characters.convolution.weight") == 2
    optimizer = make_optimizer(net, TagSettings(lr_decay_by_layer=2.6))
    shares = {id(p): group["lr_share"] for group in optimizer.param_groups for p in group["params"]}
    assert shares == {id(p): pytest.approx(2.6 ** -depth_below_output(net, name))
                      for name, p in net.named_parameters() if p.requires_grad}
    assert [group["lr_share"] for group in make_optimizer(net, TagSettings()).param_groups] == [1, 1]


def test_both_directions_of_a_language_model_have_the_same_depths() -> None:
    net = Network(NetworkConfig(encoder=EncoderConfig(vocabulary=9, embed=4, hidden=4, layers=2),
                                head=LMHeadConfig(outputs=9, direction="both")))
    depths = Counter(depth_below_output(net, name) for name, _ in net.named_parameters())
    one_layer = len(list(net.encoder.layers[0].parameters()))
    assert depths == {0: len(list(net.head.parameters())), 1: 2 * one_layer, 2: 2 * one_layer, 3: 1}


def test_frozen_weights_get_no_gradient_until_they_are_unfrozen() -> None:
    net = network()
    embedding, cell = "encoder.input.embedding.weight", "encoder.layers.0.forward_cell.kernel.weight_hh_l0"
    parameters = dict(net.named_parameters())
    rows = torch.tensor([True, False, True] * 3)
    masks = {embedding: rows[:, None], cell: torch.ones(1, dtype=torch.bool)}
    frozen = Frozen(net, masks, TagSettings(init="m", unfreeze_every=2))
    for epoch in range(5):
        net.zero_grad()
        with frozen.without_gradient(epoch):
            sums = [parameters[name].sum() for name in (embedding, cell, "head.output.bias")]
            torch.stack(sums).sum().backward()
        gradient = parameters[embedding].grad
        assert gradient is not None
        assert gradient[rows].any() == (epoch >= 4)
        assert gradient[~rows].all()
        assert (parameters[cell].grad is None) == (epoch < 2)
        assert parameters["head.output.bias"].grad is not None
        assert all(p.requires_grad for name, p in parameters.items() if "vectors" not in name)
    for_good = Frozen(net, masks, TagSettings(init="m", freeze=True))
    net.zero_grad()
    with for_good.without_gradient(1000):
        (parameters[embedding].sum() + parameters[cell].sum()).backward()
    assert parameters[cell].grad is None


def test_sgd_has_the_momentum_of_the_settings() -> None:
    sgd = make_optimizer(network(), Settings(optimizer="sgd", momentum=0.9))
    assert sgd.param_groups[0]["momentum"] == 0.9


def set_weight(net: nn.Linear, value: float) -> None:
    with torch.no_grad():
        net.weight.fill_(value)


@pytest.mark.parametrize("norm", [0.5, 5.0, 50.0])
def test_a_gradient_with_a_larger_norm_is_clipped(norm: float) -> None:
    linear = nn.Linear(2, 1)
    linear.weight.grad, linear.bias.grad = torch.tensor([[3.0, 0.0]]), torch.tensor([4.0])  # norm 5
    clip_gradient(linear, norm)
    factor = min(1.0, norm / 5)
    torch.testing.assert_close(linear.weight.grad, torch.tensor([[3 * factor, 0.0]]))
    torch.testing.assert_close(linear.bias.grad, torch.tensor([4 * factor]))


def test_the_moving_average_follows_its_formula() -> None:
    net = nn.Linear(1, 1, bias=False)
    set_weight(net, 1.0)
    average = MovingAverage(net, decay=0.5)
    expected = 1.0
    for step, value in enumerate([2.0, -1.0, 4.0, 4.0], 1):
        set_weight(net, value)
        average.update(net, step)
        decay = min(0.5, step / (10 + step))  # low at first
        expected = decay * expected + (1 - decay) * value
        assert average.weights["weight"].item() == pytest.approx(expected)
    average.swap(net)
    assert net.weight.item() == pytest.approx(expected)
    average.swap(net)
    assert net.weight.item() == 4.0
    assert average.weights["weight"].item() == pytest.approx(expected)


def test_the_decay_of_the_moving_average_has_a_limit() -> None:
    net = nn.Linear(1, 1, bias=False)
    set_weight(net, 0.0)
    average = MovingAverage(net, decay=0.9)
    set_weight(net, 1.0)
    average.update(net, 10_000)
    assert average.weights["weight"].item() == pytest.approx(0.1)


def test_weights_of_a_network_are_copies() -> None:
    net = network()
    copied = weights_of(net)
    with torch.no_grad():
        net.head.output.bias.add_(1)
    assert not torch.equal(copied["head.output.bias"], net.head.output.bias)
    set_weights(net, copied)
    assert torch.equal(copied["head.output.bias"], net.head.output.bias)


def test_checkpoints_contain_pretrained_vectors_only_once(tmp_path: Path) -> None:
    vectors = "encoder.input.vectors.weight"
    net = network()
    assert vectors in dict(net.named_parameters())
    average = MovingAverage(net, decay=0.5)
    best = weights_of(net)
    assert vectors not in best
    assert vectors not in average.weights
    assert vectors in weights_of(net, frozen=True)
    average.update(net, 1)
    average.swap(net)
    set_weights(net, best)
    optimizer = make_optimizer(net, Settings())
    Checkpoint(Progress(), net, optimizer, average, best).save(tmp_path)
    (saved,) = tmp_path.glob("*.safetensors")
    assert [name for name in load_file(saved) if name.endswith(vectors)] == ["weights/" + vectors]
    expected = weights_of(net, frozen=True)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
    state = Checkpoint(Progress(), net, optimizer, average)
    state.load(tmp_path)
    assert all(torch.equal(expected[name], p) for name, p in net.named_parameters())
    assert state.best_weights is not None
    assert state.best_weights.keys() == best.keys()


def test_small_data_gets_more_epochs_by_default() -> None:
    assert TagSettings().epochs_for(1000) == 20
    assert TagSettings().epochs_for(4) == 200, "at least 800 steps"
    assert TagSettings(epochs=3).epochs_for(4) == 3


@pytest.mark.parametrize(("clip", "advice"), [
    (1.0, "lower lr or clip"), (0.0, "lower lr or clip gradients with clip=1")])
def test_the_advice_for_a_diverged_training_fits_its_settings(
    clip: float, advice: str, tmp_path: Path
) -> None:
    (tmp_path / "train.txt").write_text("".join(f"{line}\n" for line in tiny.lines_of_text(20)), "utf-8")
    with pytest.raises(RnntoolError, match=rf"^the (loss|weights) became \w+ at step \d+; {advice}$"):
        tiny.train("lm", tmp_path / "out", [tmp_path / "train.txt"], optimizer="sgd", lr=1e38, clip=clip)
