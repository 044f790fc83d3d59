"""The shared encoder: inputs → dropout → stacked layers → states (T, B, output_size).

Every task learns on this module. It knows no task, label or text. Padding is handled here, once: states
at real positions never depend on how far a batch was padded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from rnntool.models.adaptive_embedding import BandedEmbedding
from rnntool.models.cells.cell import CELLS, Cell, State
from rnntool.models.config import EncoderConfig, WordConfig
from rnntool.models.row_padding import padding
from rnntool.tokenize import UNK

Tensors = Mapping[str, Tensor]  # by name, as the arrays of a task


class VariationalDropout(nn.Module):
    """Dropout with one mask for all time steps (Gal and Ghahramani 2016)."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Drop features of `x` (T, B, D), the same at each step."""
        if not self.training or self.p == 0:
            return x
        mask = torch.empty_like(x[:1]).bernoulli_(1 - self.p) / (1 - self.p)  # (1, B, D)
        return x * mask


def time_mask(lengths: Tensor, steps: int) -> Tensor:
    """(T, B) bool, True = a real token."""
    return torch.arange(steps, device=lengths.device)[:, None] < lengths[None, :]


def reversed_steps(lengths: Tensor, steps: int) -> Tensor:
    """(T, B): which step stands at each one when rows are turned round within their lengths."""
    t = torch.arange(steps, device=lengths.device)[:, None]  # (T, 1)
    return torch.where(t < lengths, lengths - 1 - t, t)


def reverse(x: Tensor, lengths: Tensor) -> Tensor:
    """Turn each row of `x` (T, B, D) round within its length; padding stays behind it."""
    steps, batch, size = x.shape
    flat = reversed_steps(lengths, steps) * batch + torch.arange(batch, device=x.device)  # rows of (T * B, D)
    return functional.embedding(flat, x.reshape(steps * batch, size))


def last_states(states: Tensor, lengths: Tensor, hidden: int) -> Tensor:
    """(B, D): what each direction knows when it has read its whole row; zeros for an empty row.

    `states` (T, B, D) with D = hidden or 2 * hidden; the backward direction ends at position 0, not the last.
    """
    rows = torch.arange(states.shape[1], device=states.device)
    ends = states[(lengths - 1).clamp(min=0), rows]  # (B, D)
    last = torch.cat([ends[:, :hidden], states[0, :, hidden:]], dim=1)
    return last * (lengths > 0)[:, None]


class Layer(nn.Module):
    """One recurrent layer, in one direction or two."""

    def __init__(
        self, cell: str, input_size: int, hidden: int, *, bidirectional: bool, weight_dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.ahead = Cell(cell, input_size, hidden, weight_dropout=weight_dropout)
        self.back: Cell | None = None
        if bidirectional:
            self.back = Cell(cell, input_size, hidden, weight_dropout=weight_dropout)
        self.output_size = hidden * (2 if bidirectional else 1)
        self.states = dict.fromkeys(CELLS[cell].states, hidden)

    def forward(
        self, x: Tensor, lengths: Tensor, state: State | None = None, *, want_state: bool = False
    ) -> tuple[Tensor, State]:
        """States (T, B, output_size), and the forward direction's last state, that at `lengths` if wanted."""
        y, state = self.ahead(x, state, lengths if want_state else None)
        if self.back is not None:
            y_back, _ = self.back(reverse(x, lengths))
            y = torch.cat([y, reverse(y_back, lengths)], dim=-1)
        return y, state


class Window(nn.Module):
    """Feed-forward over a token and its neighbours (Bengio et al. 2003), zeros beyond the text.

    What it carries from batch to batch is the `before` vectors that it read last, (1, B, before * I).
    """

    def __init__(self, input_size: int, hidden: int, *, before: int = 0, after: int = 0) -> None:
        super().__init__()
        self.before = before
        self.after = after
        self.linear = _linear(input_size * (before + 1 + after), hidden)
        self.output_size = hidden
        self.states = {"x": before * input_size} if before else {}

    def forward(
        self, x: Tensor, lengths: Tensor, state: State | None = None, *, want_state: bool = False
    ) -> tuple[Tensor, State]:
        """States (T, B, output_size), and what it read last, before `lengths` if wanted."""
        steps, batch, size = x.shape
        if not self.before + self.after:
            return self.linear(x).tanh(), ()
        past = x.new_zeros(self.before, batch, size)
        if state:
            past = state[0].reshape(batch, self.before, size).transpose(0, 1)
        real = x * time_mask(lengths, steps)[..., None]  # a neighbour may be padding
        wide = torch.cat([past, real, x.new_zeros(self.after, batch, size)])  # (before + T + after, B, I)
        views = [wide[i : i + steps] for i in range(self.before + 1 + self.after)]
        y = self.linear(torch.cat(views, dim=-1)).tanh()
        if not self.before:
            return y, ()
        if want_state:
            t = lengths + torch.arange(self.before, device=x.device)[:, None]  # (before, B)
            last = wide[t, torch.arange(batch, device=x.device)]
        else:
            last = wide[steps : steps + self.before]
        return y, (last.transpose(0, 1).reshape(1, batch, -1),)


class Bag(nn.Module):
    """Feed-forward over the mean of a text's vectors, whatever their order (Iyyer et al. 2015).

    Each position has the same state: that of the text.
    """

    def __init__(self, input_size: int, hidden: int) -> None:
        super().__init__()
        self.linear = _linear(input_size, hidden)
        self.output_size = hidden
        self.states: dict[str, int] = {}

    def forward(
        self, x: Tensor, lengths: Tensor, state: State | None = None, *, want_state: bool = False
    ) -> tuple[Tensor, State]:
        """States (T, B, output_size); it carries nothing on."""
        total = (x * time_mask(lengths, len(x))[..., None]).sum(0)  # (B, I)
        y: Tensor = self.linear(total / lengths.clamp(min=1)[:, None]).tanh()
        return y.expand(len(x), -1, -1), ()


def _linear(input_size: int, hidden: int) -> nn.Linear:
    """Glorot weights, zero bias."""
    linear = nn.Linear(input_size, hidden)
    nn.init.xavier_uniform_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear


def _layer(config: EncoderConfig, index: int, input_size: int) -> Layer | Window | Bag:
    """Layer `index` of an encoder; of a window and a bag only the first one is more than feed-forward."""
    if config.kind == "rnn":
        return Layer(config.cell, input_size, config.hidden, bidirectional=config.bidirectional,
                     weight_dropout=config.weight_dropout)
    if config.kind not in ("window", "bag"):
        raise ValueError(f"unknown encoder {config.kind!r}; choose from rnn, window, bag")
    if index:
        return Window(input_size, config.hidden)
    if config.kind == "bag":
        return Bag(input_size, config.hidden)
    after = config.window if config.bidirectional else 0
    return Window(input_size, config.hidden, before=config.window, after=after)


@dataclass
class Trace:
    """What a pass through an encoder leaves for a second objective."""

    types: Tensor | None = None  # (U, D), the vectors of the batch's word types
    first: Tensor | None = None  # (T, B, D), the states of the first layer
    last: Tensor | None = None  # (T, B, D), those of the last one, before dropout


class Input(Protocol):
    """What the encoder reads: named arrays in, vectors (T, B, output_size) out."""

    output_size: int

    def __call__(self, arrays: Tensors, trace: Trace | None = None) -> Tensor:
        """Vectors of a batch."""
        ...


def drop_tokens(tokens: Tensor, vocabulary: int, p: float) -> Tensor:
    """Replace a share `p` of the token types by the unknown token, wherever they stand in the batch."""
    dropped = torch.rand(vocabulary, device=tokens.device) < p
    return tokens.masked_fill(dropped[tokens], UNK)


class TokenInput(nn.Module):
    """Embeds `tokens` (T, B)."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.embedding: nn.Embedding | BandedEmbedding
        if config.cutoffs:
            self.embedding = BandedEmbedding(config.vocabulary, config.embed, config.cutoffs)
        else:
            self.embedding = nn.Embedding(config.vocabulary, config.embed)
            nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        self.token_dropout = config.token_dropout
        self.output_size = config.embed

    def forward(self, arrays: Tensors, trace: Trace | None = None) -> Tensor:
        """(T, B, embed)."""
        tokens = arrays["tokens"]
        if self.training and self.token_dropout:
            tokens = drop_tokens(tokens, self.embedding.num_embeddings, self.token_dropout)
        embedded: Tensor = self.embedding(tokens)
        return embedded


class CharacterCNN(nn.Module):
    """Convolution over the characters of a word, then the maximum (Ma and Hovy 2016)."""

    WIDTH = 3

    def __init__(self, config: WordConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.char_vocabulary, config.char_embed, padding_idx=0)
        nn.init.uniform_(self.embedding.weight, -0.3, 0.3)
        self.convolution = nn.Conv1d(
            config.char_embed, config.char_hidden, self.WIDTH, padding=self.WIDTH // 2)
        self.output_size = config.char_hidden

    def forward(self, chars: Tensor, lengths: Tensor) -> Tensor:
        """(U, output_size) of `chars` (U, C) with `lengths` (U,).

        Most of a batch of words is padding, up to the longest one, so the convolution is a product of the N
        characters that are real, each with those beside it.
        """
        real = time_mask(lengths, chars.shape[1]).T  # (U, C)
        side = self.WIDTH // 2
        seen = (functional.pad(x, (side, side)).unfold(1, self.WIDTH, 1)[real] for x in (chars, real))
        around, there = seen  # (N, WIDTH)
        embedded = self.embedding(around) * there[..., None]  # padding embeds to zero, whatever row 0 became
        weight = self.convolution.weight.transpose(1, 2).flatten(1)  # (H, WIDTH * E)
        rows = functional.pad(embedded.flatten(1), (0, 0, 0, padding(len(embedded))))
        y = functional.linear(rows, weight, self.convolution.bias)[: len(embedded)].float()  # (N, H)
        # Not by `segment_reduce`, which gives each of several equal maxima the whole of a negative gradient
        # (torch 2.13), and in bfloat16 many are equal.
        word = torch.repeat_interleave(lengths.long())[:, None].expand_as(y)
        return y.new_zeros(len(chars), self.output_size).scatter_reduce(0, word, y, "amax")  # from 0: a ReLU


class CharacterLSTM(nn.Module):
    """Last states of a two-way LSTM over the characters of a word (Lample et al. 2016)."""

    def __init__(self, config: WordConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.char_vocabulary, config.char_embed)
        nn.init.uniform_(self.embedding.weight, -0.3, 0.3)
        self.layer = Layer("lstm", config.char_embed, config.char_hidden // 2, bidirectional=True)
        self.output_size = self.layer.output_size

    def forward(self, chars: Tensor, lengths: Tensor) -> Tensor:
        """(U, output_size) of `chars` (U, C) with `lengths` (U,)."""
        states, _ = self.layer(self.embedding(chars).transpose(0, 1), lengths)
        return last_states(states, lengths, self.output_size // 2)


CHARACTER_NETWORKS: dict[str, type[CharacterCNN] | type[CharacterLSTM]] = {
    "cnn": CharacterCNN, "lstm": CharacterLSTM}


class CharacterContext(nn.Module):
    """States of a character language model at the ends of words (Akbik et al. 2018), which never learns.

    Forward that is the state behind a word's last character, backward the one before its first.
    """

    def __init__(self, config: EncoderConfig, *, both: bool) -> None:
        super().__init__()
        self.ahead = Encoder(config)
        self.back = Encoder(config, self.ahead.input) if both else None
        self.output_size = self.ahead.output_size * (2 if both else 1)
        self.requires_grad_(False)

    def train(self, mode: bool = True) -> CharacterContext:
        """Stay as in evaluation: nothing is dropped."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, arrays: Tensors) -> Tensor:
        """(T, B, output_size) of `chars` (C, B); `word_starts` and `word_ends` (T, B) are steps of these."""
        chars, lengths = arrays["chars"], arrays["char_lengths"]
        states, _ = self.ahead({"tokens": chars, "lengths": lengths})
        found = [_at(states, arrays["word_ends"])]
        if self.back is not None:
            turned = chars.gather(0, reversed_steps(lengths, len(chars)))
            states, _ = self.back({"tokens": turned, "lengths": lengths})
            found.append(_at(reverse(states, lengths), arrays["word_starts"]))
        return torch.cat(found, dim=-1).float()


def _at(x: Tensor, steps: Tensor) -> Tensor:
    """(T, B, D): what `x` (C, B, D) has at `steps` (T, B)."""
    return x.gather(0, steps[..., None].expand(-1, -1, x.shape[-1]))


class WordInput(nn.Module):
    """Vectors of words: embedding, characters, hashed affixes and shape, pretrained vectors, side by side.

    All that is computed depends on the word alone, so it is computed once for each of the U word types of a
    batch and then looked up by `words` (T, B). The context, the last part, is that of the word's place.
    """

    def __init__(self, config: EncoderConfig, word: WordConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.vocabulary, config.embed)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        self.token_dropout = config.token_dropout
        self.word_dropout = word.dropout
        self.output_size = config.embed
        self.characters = CHARACTER_NETWORKS[word.chars](word) if word.chars != "none" else None
        if self.characters is not None:
            self.output_size += self.characters.output_size
        self.affixes = nn.Embedding(word.affix_buckets, word.affix_embed) if word.affix_embed else None
        if self.affixes is not None:
            nn.init.uniform_(self.affixes.weight, -0.1, 0.1)
            self.output_size += word.affix_embed
        self.vectors: nn.Embedding | None = None
        if word.vector_size:
            self.vectors = nn.Embedding(word.vector_rows, word.vector_size)
            self.vectors.weight.requires_grad_(False)
            self.output_size += word.vector_size
        self.type_size = self.output_size
        self.context: CharacterContext | None = None
        if config.context is not None:
            self.context = CharacterContext(config.context, both=config.context_both)
            self.output_size += self.context.output_size

    def types(self, arrays: Tensors) -> Tensor:
        """(U, type_size): one vector for each word type of the batch."""
        tokens = arrays["type_tokens"]
        if self.training and self.token_dropout:
            tokens = drop_tokens(tokens, self.embedding.num_embeddings, self.token_dropout)
        parts = [self.embedding(tokens)]
        if self.characters is not None:
            parts.append(self.characters(arrays["type_chars"], arrays["type_char_lengths"]))
        if self.affixes is not None:
            parts.append(self.affixes(arrays["type_affixes"]).sum(dim=1))  # (U, K, A) → (U, A)
        if self.vectors is not None:
            parts.append(self.vectors(arrays["type_vectors"]))
        return torch.cat([part.float() for part in parts], dim=-1)

    def forward(self, arrays: Tensors, trace: Trace | None = None) -> Tensor:
        """(T, B, output_size)."""
        words, types = arrays["words"], self.types(arrays)
        if trace is not None:
            trace.types = types
        vectors = functional.embedding(words, types)
        if self.context is not None:
            vectors = torch.cat([vectors, self.context(arrays)], dim=-1)
        if self.training and self.word_dropout:
            shown = torch.rand(words.shape, device=words.device) >= self.word_dropout
            vectors = vectors * shown[..., None]  # what stands there must be told from its neighbours
        return vectors


class Encoder(nn.Module):
    """Inputs and stacked layers, each `y, state = layer(x, lengths, state)`.

    Where a `source` is given, it reads by that, which is another encoder's input.
    """

    def __init__(self, config: EncoderConfig, source: WordInput | TokenInput | None = None) -> None:
        super().__init__()
        self.config = config
        self.input = source or (WordInput(config, config.word) if config.word else TokenInput(config))
        self.dropout = VariationalDropout(config.dropout)
        self.dropout_between = VariationalDropout(config.dropout_between)
        layers: list[Layer | Window | Bag] = []
        size = self.input.output_size
        for i in range(config.layers):
            layers.append(_layer(config, i, size))
            size = layers[-1].output_size
        self.layers = nn.ModuleList(layers)
        self.states = [layer.states for layer in layers]  # names and sizes of what each carries on
        self.output_size = size

    def forward(
        self, arrays: Tensors, states: list[State] | None = None, *, want_states: bool = False,
        trace: Trace | None = None,
    ) -> tuple[Tensor, list[State]]:
        """States (T, B, output_size) of a batch, and each layer's last state.

        `arrays` holds what the input reads and `lengths` (B,). `states` continues from where an earlier batch
        ended. A `trace` is filled.
        """
        lengths = arrays["lengths"]
        x = self.dropout(self.input(arrays, trace))
        ends: list[State] = []
        for i, (layer, state) in enumerate(zip_longest(self.layers, states or ())):
            if i:
                x = self.dropout_between(x)
            x, end = layer(x, lengths, state, want_state=want_states)
            ends.append(end)
            if i == 0 and trace is not None:
                trace.first = x
        if trace is not None:
            trace.last = x
        return self.dropout(x), ends
