"""The table of cells, custom cells against their papers, weight dropout and activation penalties."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from numpy.typing import NDArray
from torch import Tensor

import rnntool
from rnntool.errors import UsageError
from rnntool.inference.onnx_engine import OnnxEngine
from rnntool.models.cells import CELLS
from rnntool.models.cells.cell import Cell, drop
from rnntool.models.cells.kernel import RECURRENT_MATRIX
from rnntool.models.cells.mingru import MinGRU, differentiable_recurrence, linear_recurrence
from rnntool.models.cells.mogrifier import Mogrifier
from rnntool.models.config import (
    EncoderConfig,
    LMHeadConfig,
    NetworkConfig,
    ObjectiveConfig,
    TaggerHeadConfig,
    WordConfig,
)
from rnntool.models.network import Network, activation_penalties
from rnntool.tasks import TASKS
from rnntool.tasks.specs.resolve import resolve

Array = NDArray[Any]
CUSTOM_CELLS = ("mogrifier", "mingru")


def made(name: str, input_size: int = 3, hidden: int = 4, *, seed: int = 1, **choices: Any) -> Cell:
    """Make a cell whose weights, biases included, are far from their initial values."""
    torch.manual_seed(seed)
    cell = Cell(name, input_size, hidden, **choices)
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return cell


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def parameters_of(cell: Cell) -> dict[str, Array]:
    return {name: p.detach().numpy().astype(float) for name, p in cell.kernel.named_parameters()}


@pytest.mark.parametrize("name", CELLS)
def test_uniform_weights_have_the_bounds_of_torch(name: str) -> None:
    torch.manual_seed(1)
    cell = Cell(name, 7, 25)
    cell.initialize_uniformly()
    values = torch.cat([weight.detach().flatten() for weight in cell.kernel.parameters()])
    assert values.abs().max() <= 0.2
    assert values.std() == pytest.approx(0.2 / 3**0.5, rel=0.1)  # of a uniform distribution


@pytest.mark.parametrize("name", [name for name, row in CELLS.items() if row.keep_gate])
def test_a_new_gated_cell_keeps_most_of_its_state(name: str) -> None:
    """Without input, each step multiplies the state by sigmoid(1), and adds nothing to it."""
    cell = Cell(name, 3, 4)
    with torch.no_grad():
        for parameter in cell.kernel.parameters():
            if parameter.dim() > 1:
                parameter.zero_()
    state = tuple(torch.rand(1, 2, 4) for _ in CELLS[name].state_names)
    _, end = cell(torch.zeros(5, 2, 3), state)
    torch.testing.assert_close(end[-1], state[-1] * torch.tensor(1.0).sigmoid() ** 5)  # c, if there is one


@pytest.mark.parametrize("name", CELLS)
def test_single_steps_are_those_of_a_sequence(name: str) -> None:
    cell, x = made(name), torch.randn(6, 2, 3)
    expected, end = cell(x)
    (expected.square().sum() + end[-1].sum()).backward()
    gradients = {name: parameter.grad for name, parameter in cell.named_parameters()}
    cell.zero_grad()
    state, states = None, []
    for row in x.split(1):
        y, state = cell(row, state)
        states.append(y)
    torch.testing.assert_close(torch.cat(states), expected)
    assert state is not None
    torch.testing.assert_close(state, end)
    (torch.cat(states).square().sum() + state[-1].sum()).backward()
    torch.testing.assert_close({name: p.grad for name, p in cell.named_parameters()}, gradients)


@pytest.mark.parametrize("name", CELLS)
def test_each_row_of_the_table_is_complete(name: str, tmp_path: Path) -> None:
    """A row is all that a cell needs: its values are right, and layers over tokens and words run."""
    row = CELLS[name]
    assert re.match(r"An? [A-Z]?\w+", row.description) and re.search(r"\(\d{4}\)", row.source)
    cell = Cell(name, 3, 4)
    y, state = cell(torch.randn(5, 2, 3))
    assert y.shape == (5, 2, 4) and [part.shape for part in state] == [(1, 2, 4)] * len(row.state_names)
    assert row.state_names[0] == "h" and torch.equal(state[0][0], y[-1])
    parameters = dict(cell.kernel.named_parameters())
    assert (RECURRENT_MATRIX in parameters) == row.has_recurrent_matrix
    wider = dict(Cell(name, 5, 4).kernel.named_parameters())
    reading = {key for key, parameter in parameters.items() if parameter.shape != wider[key].shape}
    assert reading == {"weight_ih_l0", *row.other_input_weights}
    if row.keep_gate:
        gate, bias = row.keep_gate
        assert (parameters["bias_ih_l0"].view(-1, 4)[gate] == bias).all()
    for word in (None, WordConfig()):
        config = NetworkConfig(
            encoder=EncoderConfig(vocabulary=9, embed=4, hidden=4, layers=2, cell=name, word=word,
                                  bidirectional=True),
            head=TaggerHeadConfig(outputs=3))
        assert config.encoder.description == row.description
        for int8 in (False, True):
            tiny.write_graph(Network(config).eval(), tmp_path / "m.onnx", int8=int8)
            arrays = tiny.network_arrays(np.random.default_rng(0), [5, 3], vocabulary=9)
            assert OnnxEngine(tmp_path / "m.onnx").run(arrays)["emissions"].shape == (5, 2, 3)


# --- Mogrifier ---------------------------------------------------------------------------------------------


def mogrifier_by_hand(cell: Cell, x: Array, h: Array, c: Array) -> tuple[Array, Array, Array]:
    """Melis et al. (2020), section 2, in NumPy, one row and one step at a time."""
    w, ys = parameters_of(cell), []
    for row in x:
        for i in range(1, Mogrifier.ROUNDS + 1):
            if i % 2:
                row = 2 * sigmoid(w["mogrify_x"][i // 2] @ h) * row
            else:
                h = 2 * sigmoid(w["mogrify_h"][i // 2 - 1] @ row) * h
        gates = w["weight_ih_l0"] @ row + w["weight_hh_l0"] @ h + w["bias_ih_l0"]
        i_gate, f_gate, new, o_gate = np.split(gates, 4)
        c = sigmoid(f_gate) * c + sigmoid(i_gate) * np.tanh(new)
        h = sigmoid(o_gate) * np.tanh(c)
        ys.append(h)
    return np.array(ys), h, c


def test_the_mogrifier_follows_the_paper() -> None:
    cell = made("mogrifier", 3, 4)
    x, h, c = torch.randn(6, 2, 3), torch.randn(1, 2, 4), torch.randn(1, 2, 4)
    lengths = torch.tensor([6, 4])
    y, (h_end, c_end) = cell(x, (h, c), lengths)
    for row, length in enumerate(lengths):
        expected = mogrifier_by_hand(cell, *(part[:, row].numpy() for part in (x[:length],)),
                                 h[0, row].numpy(), c[0, row].numpy())
        for actual, by_hand in zip((y[:length, row], h_end[0, row], c_end[0, row]), expected, strict=True):
            np.testing.assert_allclose(actual.detach().numpy(), by_hand, rtol=0, atol=1e-5)


def test_a_mogrifier_with_zero_matrices_is_an_lstm() -> None:
    cell, lstm = made("mogrifier"), made("lstm")
    with torch.no_grad():
        for name in ("mogrify_x", "mogrify_h"):
            cell.kernel.get_parameter(name).zero_()
        for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0"):
            lstm.kernel.get_parameter(name).copy_(cell.kernel.get_parameter(name))
        lstm.kernel.get_parameter("bias_hh_l0").zero_()
    x = torch.randn(7, 2, 3)
    (y, final_state), (expected, expected_state) = cell(x), lstm(x)
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(final_state, expected_state)


def plain_mogrifier(cell: Cell, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """The same computation in plain torch, so that autograd differentiates each step."""
    w, ys = dict(cell.kernel.named_parameters()), []
    for row in x:
        for i in range(Mogrifier.ROUNDS):
            if i % 2:
                h = 2 * (row @ w["mogrify_h"][i // 2].T).sigmoid() * h
            else:
                row = 2 * (h @ w["mogrify_x"][i // 2].T).sigmoid() * row
        h, c = torch.lstm_cell(row, (h, c), w["weight_ih_l0"], w["weight_hh_l0"], w["bias_ih_l0"],
                               torch.zeros_like(w["bias_ih_l0"]))
        ys.append(h)
    return torch.stack(ys), c


@pytest.mark.parametrize("read", ["all", "one step", "the last cell state"])
def test_gradients_summed_after_the_loop_equal_those_of_each_step(read: str) -> None:
    cell = made("mogrifier")
    x, h, c = torch.randn(6, 2, 3, requires_grad=True), torch.randn(1, 2, 4), torch.randn(1, 2, 4)
    y, (_, c_end) = cell(x, (h, c))
    expected_y, expected_c = plain_mogrifier(cell, x, h[0], c[0])
    leaves = [x, *cell.parameters()]
    pairs = {"all": (y, expected_y), "one step": (y[3], expected_y[3]),
             "the last cell state": (c_end[0], expected_c)}
    gradients = [torch.autograd.grad(side.square().sum(), leaves) for side in pairs[read]]
    for actual, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


# --- minGRU ------------------------------------------------------------------------------------------------


def test_the_min_gru_follows_the_paper() -> None:
    cell = made("mingru")
    w = parameters_of(cell)
    x, h = torch.randn(9, 2, 3), torch.randn(1, 2, 4)
    y, (end,) = cell(x, (h,), torch.tensor([9, 5]))
    for row, length in ((0, 9), (1, 5)):
        state = h[0, row].numpy().astype(float)
        for t in range(length):
            z, v = np.split(w["weight_ih_l0"] @ x[t, row].numpy() + w["bias_ih_l0"], 2)
            state = (1 - sigmoid(z)) * state + sigmoid(z) * v
            np.testing.assert_allclose(y[t, row].detach().numpy(), state, rtol=0, atol=1e-5)
        np.testing.assert_allclose(end[0, row].detach().numpy(), state, rtol=0, atol=1e-5)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("chunks", [1, 2, 5, 37, 40])
def test_the_scan_is_the_recurrence_in_any_number_of_chunks(chunks: int, reverse: bool) -> None:
    rng = torch.Generator().manual_seed(1)
    a = torch.rand(37, 2, 3, generator=rng, dtype=torch.double)
    a[torch.rand(37, 2, 3, generator=rng) < 0.2] = 0.0  # forgets everything: a logarithm of -inf
    a[torch.rand(37, 2, 3, generator=rng) < 0.2] = 1.0
    b, h = (torch.randn(n, 2, 3, generator=rng, dtype=torch.double) for n in (37, 1))
    y = linear_recurrence(a, b, h, chunks=chunks, reverse=reverse)
    state = h[0]
    for t in reversed(range(37)) if reverse else range(37):
        state = a[t] * state + b[t]
        torch.testing.assert_close(y[t], state)


def test_the_gradient_of_the_scan() -> None:
    torch.manual_seed(1)
    a, b, h = torch.rand(6, 2, 3), torch.randn(6, 2, 3), torch.randn(1, 2, 3)
    arguments = [part.double().requires_grad_() for part in (a, b, h)]
    assert torch.autograd.gradcheck(differentiable_recurrence, arguments)


@pytest.mark.parametrize(("name", "scale"), [("mogrifier", 1.0), ("mingru", 1.0), ("mingru", 100.0)])
def test_gradients_over_five_thousand_steps_are_finite(name: str, scale: float) -> None:
    cell = Cell(name, 3, 4)
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.mul_(scale)  # gates that are wide open, or shut
    x = torch.randn(5000, 1, 3, requires_grad=True)
    y, _ = cell(x)
    assert y.isfinite().all()
    y.square().mean().backward()
    for leaf in (x, *cell.parameters()):
        assert leaf.grad is not None
        assert leaf.grad.isfinite().all()
        assert leaf.grad.any()


# --- Custom cells ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CUSTOM_CELLS)
def test_in_bfloat16_products_are_rounded_and_states_are_not(name: str) -> None:
    cell, x = made(name, 16, 16), torch.randn(30, 2, 16)
    expected, _ = cell(x)
    with torch.autocast("cpu", torch.bfloat16):
        y, final_state = cell(x)
    y.sum().backward()
    assert y.dtype == torch.float32
    assert all(part.dtype == torch.float32 for part in final_state)
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in cell.parameters())
    assert 0 < (y - expected).abs().max() < 0.1


@pytest.mark.parametrize("name", CUSTOM_CELLS)
def test_an_empty_row_keeps_its_state(name: str) -> None:
    cell = made(name)
    state = tuple(torch.randn(1, 2, 4) for _ in CELLS[name].state_names)
    _, final_state = cell(torch.randn(3, 2, 3), state, torch.tensor([0, 3]))
    for start, end in zip(state, final_state, strict=True):
        assert torch.equal(end[:, 0], start[:, 0])


@pytest.mark.parametrize("name", CUSTOM_CELLS)
def test_models_of_all_tasks(name: str, tmp_path: Path) -> None:
    choices: dict[str, Any] = {"cell": name, "layers": 2, "epochs": 2}
    text = tmp_path / "train.txt"
    text.write_text("".join(f"{line}\n" for line in tiny.lines_of_text(40)), "utf-8")
    tiny.train("lm", tmp_path / "lm", [text], context="stream", bptt=20, **choices)
    lm = rnntool.load(tmp_path / "lm")
    assert len(list(lm.generate(n=2, seed=1))) == 2
    tags = tmp_path / "train.conll"
    tags.write_text(tiny.conll(tiny.ner_sentences(30)), "utf-8")
    tiny.train("tag", tmp_path / "tag", [tags], **choices)
    topics = tmp_path / "train.tsv"
    topics.write_text(tiny.tsv(tiny.questions(30)), "utf-8")
    tiny.train("classify", tmp_path / "classify", [topics], pooling="last", int8=True, **choices)


# --- Weight-drop -------------------------------------------------------------------------------------------


def test_dropped_weights_are_a_share_and_the_mean_stays() -> None:
    torch.manual_seed(1)
    for p in (0.1, 0.5, 0.95):
        dropped = drop(torch.ones(301, 101), p)
        assert abs((dropped == 0).float().mean().item() - p) < 0.01
        assert dropped.unique().tolist() == pytest.approx([0, 1 / (1 - p)], rel=1e-3)


@pytest.mark.parametrize("lengths", [None, [9, 4]])
@pytest.mark.parametrize("name", [name for name, row in CELLS.items() if row.has_recurrent_matrix])
def test_a_pass_drops_the_same_recurrent_weights_at_all_steps(name: str, lengths: list[int] | None) -> None:
    p = 0.5
    cell, plain = (made(name, weight_dropout=p) for _ in range(2))
    x, row_lengths = torch.randn(9, 2, 3), None if lengths is None else torch.tensor(lengths)
    torch.manual_seed(7)
    with torch.no_grad():
        weight = plain.kernel.get_parameter(RECURRENT_MATRIX)
        weight.copy_(drop(weight, p))
    torch.manual_seed(7)
    (y, state), (expected, expected_state) = cell(x, None, row_lengths), plain.eval()(x, None, row_lengths)
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(state, expected_state)
    torch.manual_seed(8)
    assert not torch.equal(cell(x)[0], y), "another pass drops other weights"
    y.sum().backward()
    grad = cell.kernel.get_parameter(RECURRENT_MATRIX).grad
    assert grad is not None
    assert not grad[weight == 0].any()
    assert grad.any()


@pytest.mark.parametrize("name", CELLS)
def test_nothing_is_dropped_at_evaluation(name: str) -> None:
    dropping, plain = made(name, weight_dropout=0.5).eval(), made(name)
    x = torch.randn(9, 2, 3)
    torch.testing.assert_close(dropping(x), plain(x), rtol=0, atol=0)


def test_weight_dropout_needs_recurrent_weights() -> None:
    with pytest.raises(UsageError, match=r"weight_dropout: needs cell=.*, found cell=mingru"):
        resolve(TASKS["tag"], {"cell": "mingru", "weight_dropout": 0.2})
    assert made("mingru", weight_dropout=0.2)(torch.randn(9, 2, 3))[0].shape == (9, 2, 4), "as a preset's"
    assert RECURRENT_MATRIX not in dict(MinGRU(2, 3).named_parameters())


# --- Activation penalties ----------------------------------------------------------------------------------


def test_activation_penalties_by_hand() -> None:
    dropped = torch.tensor([[[2.0, 0.0], [9.0, 9.0]], [[4.0, 0.0], [9.0, 9.0]], [[0.0, 6.0], [7.0, 7.0]]])
    states = torch.tensor([[[1.0, 1.0], [0.0, 0.0]], [[2.0, 1.0], [3.0, 1.0]], [[2.0, 4.0], [5.0, 5.0]]])
    large, abrupt = activation_penalties(dropped, states, torch.tensor([3, 2]))
    assert large.item() == pytest.approx((4 + 16 + 36 + 4 * 81) / 10)
    assert abrupt.item() == pytest.approx((1 + 9 + 9 + 1) / 6)
    alone = activation_penalties(dropped[:1], states[:1], torch.tensor([1, 0]))
    assert [value.item() for value in alone] == [2.0, 0.0]


def test_activation_penalties_are_part_of_the_loss_and_of_nothing_else() -> None:
    torch.manual_seed(1)
    encoder = EncoderConfig(vocabulary=9, embed=4, hidden=4, layers=2)
    net = Network(NetworkConfig(encoder=encoder, head=LMHeadConfig(outputs=9))).eval()
    batch = {name: torch.from_numpy(array)
             for name, array in tiny.network_arrays(np.random.default_rng(0), [5, 3], targets=9).items()}
    batch["tokens"] %= 9
    states, _ = net.encoder(batch)
    plain, _ = net.loss(batch)
    large, abrupt = activation_penalties(states, states, batch["lengths"])  # nothing is dropped here
    net.set_objective(ObjectiveConfig(activation=2.0, temporal_activation=1.0))
    torch.testing.assert_close(net.loss(batch)[0], plain + 2 * large + abrupt)
