"""Laws of the encoder: padding changes nothing, sizes are as declared, dropout is variational."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from torch import Tensor

from rnntool.errors import UsageError
from rnntool.models.cells import CELLS
from rnntool.models.cells.cell import Cell
from rnntool.models.config import EncoderConfig, WordConfig
from rnntool.models.encoder import CharacterCNN, Encoder, drop_tokens
from rnntool.models.layers import VariationalDropout, last_states, reverse, time_mask
from rnntool.tokenize import UNK

WORD = WordConfig(chars="cnn", char_vocabulary=20, char_embed=5, char_hidden=8, affix_buckets=32,
                  affix_embed=6, vector_rows=7, vector_size=3)
LSTM_WORD = WordConfig(chars="lstm", char_vocabulary=20, char_embed=5, char_hidden=8)
LENGTHS = (7, 1, 3, 0, 5)


def encoder(**changes: Any) -> Encoder:
    torch.manual_seed(1)
    config: dict[str, Any] = {"vocabulary": 30, "embed": 12, "hidden": 10} | changes
    return Encoder(EncoderConfig(**config)).eval()


def arrays(lengths: Sequence[int] = LENGTHS) -> dict[str, Tensor]:
    made = tiny.network_arrays(np.random.default_rng(0), lengths)
    return {name: torch.from_numpy(array) for name, array in made.items()}


def one_row(batch: dict[str, Tensor], row: int, length: int) -> dict[str, Tensor]:
    """Return the arrays of one record alone, without padding."""
    steps = max(1, length)
    rows = {name: batch[name][:steps, row : row + 1] for name in ("tokens", "words", "targets")}
    return batch | rows | {"lengths": batch["lengths"][row : row + 1]}


@pytest.mark.parametrize("word", [None, WORD])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("cell", CELLS)
def test_a_batch_of_one_equals_a_batch_of_many(
    cell: str, layers: int, bidirectional: bool, word: WordConfig | None
) -> None:
    net = encoder(cell=cell, layers=layers, bidirectional=bidirectional, word=word)
    batch = arrays()
    states, _ = net(batch, states_at_lengths=False)
    for row, length in enumerate(LENGTHS):
        alone, _ = net(one_row(batch, row, length))
        torch.testing.assert_close(alone[:length, 0], states[:length, row])


@pytest.mark.parametrize("word", [None, WORD])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("kind", [
    {"kind": "bag"}, {"kind": "window", "window": 2}, {"kind": "window", "window": 9, "bidirectional": True}])
def test_encoders_without_recurrence_see_no_padding(
    kind: dict[str, Any], layers: int, word: WordConfig | None
) -> None:
    net = encoder(layers=layers, word=word, **kind)
    batch = arrays()
    states, _ = net(batch)
    for row, length in enumerate(LENGTHS):
        alone, _ = net(one_row(batch, row, length))
        torch.testing.assert_close(alone[:length, 0], states[:length, row])


def test_a_window_by_hand() -> None:
    net = encoder(kind="window", window=1, bidirectional=True)
    batch = arrays((3, 2))
    vectors, zeros = net.input(batch), torch.zeros(12)
    states, _ = net(batch)
    for row, length in ((0, 3), (1, 2)):
        text = [zeros, *vectors[:length, row], zeros]
        for t in range(length):
            expected = net.layers[0].linear(torch.cat(text[t : t + 3])).tanh()
            torch.testing.assert_close(states[t, row], expected)


def test_a_bag_by_hand() -> None:
    net = encoder(kind="bag", layers=2)
    batch = arrays((3, 0, 2))
    vectors, (states, _) = net.input(batch), net(batch)
    for row, length in ((0, 3), (1, 0), (2, 2)):
        mean = vectors[:length, row].mean(0) if length else torch.zeros(12)
        expected = net.layers[1].linear(net.layers[0].linear(mean).tanh()).tanh()
        torch.testing.assert_close(states[:length, row], expected.expand(length, -1))


def test_an_unknown_encoder_raises_and_lists_the_choices() -> None:
    with pytest.raises(UsageError, match="kind: expected one of rnn, bag, window, ngram, found 'tree'"):
        encoder(kind="tree")


@pytest.mark.parametrize("window", [0, 1, 2, 6])
def test_a_window_read_in_two_pieces_gives_the_states_of_the_whole(window: int) -> None:
    net = encoder(kind="window", window=window, layers=2)
    batch = arrays((6, 6))
    whole, final_states = net(batch)
    first, between = net(batch | {"tokens": batch["tokens"][:4], "lengths": torch.tensor([4, 4])})
    second, after = net(batch | {"tokens": batch["tokens"][4:], "lengths": torch.tensor([2, 2])}, between)
    torch.testing.assert_close(torch.cat([first, second]), whole)
    torch.testing.assert_close(after, final_states)
    at_lengths = net(batch, states_at_lengths=True)[1]
    torch.testing.assert_close(at_lengths, final_states)


@pytest.mark.parametrize("cell", CELLS)
def test_states_at_lengths_are_those_after_each_rows_own_last_step(cell: str) -> None:
    net = encoder(cell=cell, layers=2)
    batch = arrays((7, 1, 3, 2, 5))
    states, final_states = net(batch, states_at_lengths=True)
    assert len(final_states) == 2
    for row, length in enumerate((7, 1, 3, 2, 5)):
        _, alone = net(one_row(batch, row, length), states_at_lengths=True)
        for whole, part in zip(final_states, alone, strict=True):
            assert len(whole) == len(CELLS[cell].state_names)
            for a, b in zip(whole, part, strict=True):
                torch.testing.assert_close(a[:, row], b[:, 0])
        torch.testing.assert_close(final_states[-1][0][0, row], states[length - 1, row])


@pytest.mark.parametrize("cell", CELLS)
def test_a_text_read_in_two_pieces_gives_the_states_of_the_whole(cell: str) -> None:
    net = encoder(cell=cell, layers=2)
    batch = arrays((6, 6))
    whole, final_states = net(batch)
    first, between = net(batch | {"tokens": batch["tokens"][:4], "lengths": torch.tensor([4, 4])})
    second, after = net(batch | {"tokens": batch["tokens"][4:], "lengths": torch.tensor([2, 2])}, between)
    torch.testing.assert_close(torch.cat([first, second]), whole)
    torch.testing.assert_close(after, final_states)


def test_the_content_of_padding_does_not_matter() -> None:
    net = encoder(bidirectional=True, layers=2)
    batch = arrays()
    other = batch | {"tokens": batch["tokens"].where(time_mask(batch["lengths"], 7), 29)}
    mask = time_mask(batch["lengths"], 7)
    torch.testing.assert_close(net(batch)[0][mask], net(other)[0][mask], rtol=0, atol=0)


@pytest.mark.parametrize("word", [None, WORD, LSTM_WORD])
def test_output_size_is_the_size_of_the_output(word: WordConfig | None) -> None:
    for cell, layers, bidirectional in itertools.product(CELLS, (1, 3), (False, True)):
        net = encoder(cell=cell, layers=layers, bidirectional=bidirectional, word=word)
        batch = arrays()
        assert net(batch)[0].shape == (7, 5, net.output_size)
        assert net.input(batch).shape == (7, 5, net.input.output_size)


def test_an_unknown_cell_raises_and_lists_the_choices() -> None:
    with pytest.raises(ValueError, match="unknown cell 'ltsm'; choose from elman, elman-relu, gru, lstm, "
                                         "mogrifier, mingru"):
        Cell("ltsm", 3, 4)


def test_reverse_is_its_own_inverse_and_leaves_padding_alone() -> None:
    x = torch.randn(7, 5, 3)
    lengths = torch.tensor(LENGTHS)
    reversed_x = reverse(x, lengths)
    torch.testing.assert_close(reverse(reversed_x, lengths), x, rtol=0, atol=0)
    for row, length in enumerate(LENGTHS):
        torch.testing.assert_close(reversed_x[:length, row], x[:length, row].flip(0), rtol=0, atol=0)
        torch.testing.assert_close(reversed_x[length:, row], x[length:, row], rtol=0, atol=0)


def test_last_states_of_ragged_rows() -> None:
    states = torch.arange(7 * 5 * 4, dtype=torch.float32).reshape(7, 5, 4)
    both = last_states(states, torch.tensor(LENGTHS), 2)
    for row, length in enumerate(LENGTHS):
        # the forward direction final_states at the last word, the backward direction at the first
        last = [*states[length - 1, row, :2].tolist(), *states[0, row, 2:].tolist()]
        expected = last if length else [0.0] * 4
        assert both[row].tolist() == expected
    forward_only = last_states(states, torch.tensor(LENGTHS), 4)
    assert forward_only[2].tolist() == states[2, 2].tolist()


def test_time_mask() -> None:
    assert time_mask(torch.tensor([0, 2]), 3).tolist() == [[False, True], [False, True], [False, False]]


def test_variational_dropout_has_one_mask_for_all_steps() -> None:
    torch.manual_seed(1)
    dropout = VariationalDropout(0.5)
    x = torch.ones(9, 4, 50)
    y = dropout(x)
    assert set(y.unique().tolist()) == {0.0, 2.0}
    assert (y == y[:1]).all(), "a feature is dropped at every step or at none"
    assert (y[0, 0] != y[0, 1]).any(), "rows have masks of their own"
    assert abs(y.mean().item() - 1) < 0.2
    assert dropout.eval()(x) is x
    assert VariationalDropout(0.0)(x) is x


def test_token_dropout_takes_a_type_everywhere_or_nowhere() -> None:
    torch.manual_seed(1)
    tokens = torch.arange(4, 30).repeat(3, 1)
    dropped = drop_tokens(tokens, 30, 0.5)
    assert (dropped == dropped[:1]).all()
    is_dropped = dropped[0] == UNK
    assert 0 < is_dropped.sum() < 26
    assert (dropped[0][~is_dropped] == tokens[0][~is_dropped]).all()


def test_pretrained_vectors_are_not_learned() -> None:
    net = encoder(word=WORD)
    frozen = [name for name, p in net.named_parameters() if not p.requires_grad]
    assert frozen == ["input.vectors.weight"]


def test_equal_maxima_share_the_gradient_of_characters() -> None:
    torch.manual_seed(1)
    network = CharacterCNN(WORD)
    chars = torch.tensor([[5, 5, 5, 5, 5, 5], [5, 6, 7, 5, 6, 7], [8, 0, 0, 0, 0, 0]])  # repeated characters
    lengths = torch.tensor([6, 6, 1], dtype=torch.int32)
    upstream = torch.randn(3, WORD.char_hidden)  # positive and negative
    parameters = list(network.parameters())
    actual = torch.autograd.grad(network(chars, lengths), parameters, upstream)
    embedded = network.embedding(chars) * (chars > 0)[..., None]
    y = network.convolution(embedded.transpose(1, 2)).relu() * (chars > 0)[:, None]
    expected = torch.autograd.grad(y.amax(2), parameters, upstream)
    for gradient, expected_gradient in zip(actual, expected, strict=True):
        torch.testing.assert_close(gradient, expected_gradient)
