"""The linear cross-entropy that keeps no logits, compared with torch's cross-entropy."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from rnntool.models import linear_cross_entropy as softmax
from rnntool.models.linear_cross_entropy import linear_cross_entropy

WORDS = 301


def layer(rows: int = 50, size: int = 12) -> tuple[list[Tensor], Tensor]:
    """Return learnable inputs, weight and bias, and targets; the layer is certain of half of them."""
    torch.manual_seed(1)
    learned = [torch.randn(rows, size), 2 * torch.randn(WORDS, size), torch.randn(WORDS)]
    targets = torch.randint(WORDS, (rows,))
    targets[: rows // 2] = functional.linear(*learned).argmax(-1)[: rows // 2]
    return [tensor.requires_grad_() for tensor in learned], targets


def reference(learned: list[Tensor], targets: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    loss = functional.cross_entropy(functional.linear(*learned), targets)
    return loss, torch.autograd.grad(3 * loss, learned)


@pytest.mark.parametrize("rows_at_once", [50, 49, 7, 0.5])
def test_loss_and_gradients_are_those_of_cross_entropy(
    rows_at_once: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(softmax, "LOGITS_BUDGET", int(WORDS * rows_at_once))
    monkeypatch.setattr(softmax, "MIN_ROWS", 1)
    learned, targets = layer()
    expected, gradients = reference(learned, targets)
    actual = linear_cross_entropy(*learned, targets)
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)
    for gradient, expected in zip(torch.autograd.grad(3 * actual, learned), gradients, strict=True):
        torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-6)


def test_in_bfloat16_errors_are_as_small_as_those_of_autocast() -> None:
    learned, targets = layer()
    expected, gradients = reference(learned, targets)

    def errors(loss: Tensor) -> list[float]:
        actual = torch.autograd.grad(3 * loss, learned)
        assert loss.dtype == torch.float32 and all(gradient.dtype == torch.float32 for gradient in actual)
        pairs = zip(actual, gradients, strict=True)
        return [(loss - expected).abs().item(), *(((a - b).norm() / b.norm()).item() for a, b in pairs)]

    with torch.autocast("cpu", torch.bfloat16):
        actual = errors(linear_cross_entropy(*learned, targets))
        plain = errors(functional.cross_entropy(functional.linear(*learned).float(), targets))
    assert actual[0] < 0.01
    assert all(error < 1.1 * limit < 0.03 for error, limit in zip(actual[1:], plain[1:], strict=True))


def test_a_nearly_certain_prediction_still_learns() -> None:
    """bfloat16 has no number between 0.996 and 1, so a probability there minus 1 would be 0 or too large."""
    lack = 1e-3
    inputs, weight = torch.ones(1, 1, requires_grad=True), torch.zeros(2, 1)
    bias = torch.tensor([0.0, torch.logit(torch.tensor(lack)).item()], requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        loss = linear_cross_entropy(inputs, weight, bias, torch.tensor([0]))
    (gradient,) = torch.autograd.grad(loss, [bias])
    assert gradient.tolist() == pytest.approx([-lack, lack], rel=0.05)


def test_a_nearly_impossible_target_has_a_finite_loss() -> None:
    bias = torch.tensor([0.0, -1000.0], requires_grad=True)
    loss = linear_cross_entropy(torch.ones(1, 1), torch.zeros(2, 1), bias, torch.tensor([1]))
    assert 80 < loss.item() < 100
    (gradient,) = torch.autograd.grad(loss, [bias])
    assert gradient.tolist() == [1, -1]


def test_logits_are_never_kept() -> None:
    """2,000 rows of 50,000 logits would be 400 MB. The saved tensors are as large as the layer and inputs."""
    inputs, weight = torch.randn(2000, 4, requires_grad=True), torch.randn(50_000, 4, requires_grad=True)
    bias, targets = torch.zeros(50_000, requires_grad=True), torch.randint(50_000, (2000,))
    saved_sizes = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved_sizes.append(t.numel()) or t, lambda t: t):
        linear_cross_entropy(inputs, weight, bias, targets)
    assert sum(saved_sizes) <= 5 * (2000 + 50_000)
