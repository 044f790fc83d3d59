"""The CRF against an explicit sum over all tag sequences."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from rnntool.models.crf import CRF

TAGS = 3
LENGTHS = (4, 1, 0, 2)


def crf(scale: float = 1.0) -> CRF:
    torch.manual_seed(3)
    made = CRF(TAGS).double()
    for parameter in made.parameters():
        parameter.data = scale * torch.randn_like(parameter)
    return made


def batch(scale: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    """Return emissions (T, B, L), tags (T, B) with -1 at padding, and the mask (T, B)."""
    torch.manual_seed(4)
    emissions = scale * torch.randn(4, len(LENGTHS), TAGS, dtype=torch.float64)
    mask = torch.arange(4)[:, None] < torch.tensor(LENGTHS)
    tags = torch.randint(0, TAGS, (4, len(LENGTHS))).where(mask, -1)
    return emissions, tags, mask


def sequence_score(model: CRF, emissions: Tensor, sequence: tuple[int, ...]) -> float:
    """Return the score of one sequence of tags under emissions (T, L)."""
    if not sequence:
        return 0.0
    total = (model.start[sequence[0]] + model.end[sequence[-1]]).item()
    total += sum(emissions[t, tag].item() for t, tag in enumerate(sequence))
    return total + sum(model.transitions[a, b].item() for a, b in itertools.pairwise(sequence))


def brute_force_log_z(model: CRF, emissions: Tensor, length: int) -> float:
    scores = [sequence_score(model, emissions, tags)
              for tags in itertools.product(range(TAGS), repeat=length)]
    top = max(scores)
    return top + math.log(sum(math.exp(score - top) for score in scores))


@pytest.mark.parametrize("scale", [1.0, 10.0])
def test_log_z_score_and_nll_against_every_chain(scale: float) -> None:
    model, (emissions, tags, mask) = crf(scale), batch(scale)
    log_z, score = model.log_z(emissions, mask), model.score(emissions, tags, mask)
    for row, length in enumerate(LENGTHS):
        sequence = tuple(tags[:length, row].tolist())
        assert log_z[row].item() == pytest.approx(brute_force_log_z(model, emissions[:, row], length))
        assert score[row].item() == pytest.approx(sequence_score(model, emissions[:, row], sequence))
    nll = model.float().nll(emissions, tags, mask)
    torch.testing.assert_close(nll.double(), log_z - score, rtol=1e-4, atol=1e-4)
    assert (nll >= -1e-4).all()


def test_the_probabilities_of_all_chains_sum_to_one() -> None:
    model, (emissions, _, _) = crf(), batch()
    sequences = torch.tensor(list(itertools.product(range(TAGS), repeat=4))).T  # (4, 81)
    spread = emissions[:, :1].expand(-1, sequences.shape[1], -1)
    nll = model.float().nll(spread, sequences, torch.ones_like(sequences, dtype=torch.bool))
    assert torch.exp(-nll).sum().item() == pytest.approx(1, abs=1e-4)


def test_smoothing_is_the_mean_over_chains_with_redrawn_tags() -> None:
    model, (emissions, tags, mask) = crf(), batch()
    share = {True: 1 - 0.3 + 0.3 / TAGS, False: 0.3 / TAGS}  # of a tag that is, or is not, the given one
    actual = model.score(emissions, tags, mask, smoothing=0.3)
    for row, length in enumerate(LENGTHS):
        gold = tags[:length, row].tolist()
        expected = sum(
            math.prod(share[a == b] for a, b in zip(sequence, gold, strict=True))
            * sequence_score(model, emissions[:, row], sequence)
            for sequence in itertools.product(range(TAGS), repeat=length))
        assert actual[row].item() == pytest.approx(expected)


def test_costs_raise_the_score_of_each_wrong_tag() -> None:
    model, (emissions, tags, mask) = crf().float(), batch()
    costs = torch.rand(tags.shape)
    actual = model.nll(emissions.float(), tags, mask, costs=costs)
    for row, length in enumerate(LENGTHS):
        gold = tuple(tags[:length, row].tolist())
        scores = torch.tensor([
            sequence_score(model, emissions[:, row], sequence)
            + sum(costs[t, row].item() for t in range(length) if sequence[t] != gold[t])
            for sequence in itertools.product(range(TAGS), repeat=length)])
        expected = torch.logsumexp(scores, 0).item() - sequence_score(model, emissions[:, row], gold)
        assert actual[row].item() == pytest.approx(expected, abs=1e-4)


def test_padding_changes_nothing() -> None:
    model, (emissions, tags, mask) = crf(), batch()
    expected = model.nll(emissions, tags, mask)
    other = emissions.where(mask[..., None], 1e4)
    torch.testing.assert_close(model.nll(other, tags, mask), expected, rtol=0, atol=0)
    for row, length in enumerate(LENGTHS):
        steps = slice(0, max(1, length))
        alone = model.nll(*(part[steps, row : row + 1] for part in (emissions, tags, mask)))
        torch.testing.assert_close(alone[0], expected[row])
    assert expected[LENGTHS.index(0)] == 0


def test_autocast_changes_nothing() -> None:
    model, (emissions, tags, mask) = crf().float(), batch()
    expected = model.nll(emissions, tags, mask)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(model.nll(emissions, tags, mask), expected, rtol=0, atol=0)


@pytest.mark.parametrize("scale", [1e3, 1e5])
def test_gradients_are_finite_with_extreme_scores(scale: float) -> None:
    model, (emissions, tags, mask) = crf(scale).float(), batch(scale)
    emissions.requires_grad_()
    loss = model.nll(emissions, tags, mask).sum()
    loss.backward()
    assert torch.isfinite(loss)
    for gradient in (emissions.grad, *(p.grad for p in model.parameters())):
        assert gradient is not None
        assert torch.isfinite(gradient).all()


def test_the_gradient_is_the_expected_count_minus_the_count() -> None:
    """d nll / d emission = the tag's marginal probability, less 1 for the gold tag (Lafferty et al. 2001)."""
    model, (emissions, tags, mask) = crf().float(), batch()
    emissions.requires_grad_()
    model.nll(emissions, tags, mask).sum().backward()
    assert emissions.grad is not None
    sums = emissions.grad.sum(-1)
    torch.testing.assert_close(sums, torch.zeros_like(sums), rtol=0, atol=1e-5)
    assert (emissions.grad[~mask] == 0).all()
