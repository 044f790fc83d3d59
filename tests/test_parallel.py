"""That parts run side by side give what they give in turn: outputs, gradients, and both again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from rnntool.models.encoder import Layer
from rnntool.models.parallel import side_by_side

LENGTHS = torch.tensor([7, 2, 5])


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def learned(layer: Layer, *, threads: int, dtype: torch.dtype) -> list[Tensor]:
    """The states of a layer, and the gradients of its input and its weights."""
    torch.set_num_threads(threads)
    torch.manual_seed(2)
    x = torch.randn(7, 3, 6, requires_grad=True)
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        y, _ = layer(x, LENGTHS)
    return [y, *torch.autograd.grad(y.float().square().sum(), [x, *layer.parameters()])]


@pytest.mark.parametrize("weight_dropout", [0.0, 0.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("cell", ["lstm", "gru", "mogrifier", "mingru"])
def test_directions_learn_side_by_side_what_they_learn_in_turn(
    cell: str, dtype: torch.dtype, weight_dropout: float
) -> None:
    if cell == "mingru" and weight_dropout:
        pytest.skip("it has no recurrent matrix")
    torch.manual_seed(1)
    layer = Layer(cell, 6, 8, bidirectional=True, weight_dropout=weight_dropout)
    in_turn = learned(layer, threads=1, dtype=dtype)
    apart = 0.05 if dtype == torch.bfloat16 else 1e-5  # sums of rounded numbers are rounded here or there
    for have, want in zip(learned(layer, threads=2, dtype=dtype), in_turn, strict=True):
        torch.testing.assert_close(have, want, rtol=apart, atol=apart)


def test_a_part_gives_gradients_where_they_are_wanted() -> None:
    torch.set_num_threads(2)
    a, b, c = torch.tensor(2.0, requires_grad=True), torch.tensor(3.0), torch.tensor(5.0, requires_grad=True)
    product, double = side_by_side((torch.mul, (a, b)), (lambda x: 2 * x, (c,)))
    (product * double).backward()
    assert (product.item(), double.item()) == (6, 10)
    assert a.grad is not None and c.grad is not None
    assert (a.grad.item(), c.grad.item()) == (3 * 10, 6 * 2)
    assert b.grad is None
    assert torch.get_num_threads() == 2


def test_what_goes_wrong_in_a_part_is_told() -> None:
    def fail(x: Tensor) -> Tensor:
        raise ArithmeticError("no")

    torch.set_num_threads(2)
    x = torch.ones((), requires_grad=True)
    for parts in ((torch.neg, fail), (fail, torch.neg)):
        with pytest.raises(ArithmeticError, match="no"):
            side_by_side(*((function, (x,)) for function in parts))
        assert torch.get_num_threads() == 2
