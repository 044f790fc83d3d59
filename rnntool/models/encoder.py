"""The encoder that all tasks share: inputs → dropout → stacked layers → states (T, B, output_size).

It knows no task, label or text. Each part also adds itself to an ONNX graph.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest

import torch
from torch import Tensor, nn
from torch.nn import functional

from rnntool.models.adaptive_embedding import AdaptiveEmbedding
from rnntool.models.cells.kernel import State
from rnntool.models.cells.torch_kernels import TorchKernel
from rnntool.models.config import EncoderConfig, WordConfig
from rnntool.models.export.builder import Graph
from rnntool.models.layers import (
    Layer,
    RecurrentLayer,
    VariationalDropout,
    last_states,
    make_layer,
    reverse,
    reversed_steps,
    rows_to_add,
    time_mask,
)
from rnntool.tokenize import UNK

Tensors = Mapping[str, Tensor]  # a batch by name, as the NumPy `Arrays` of a task


@dataclass
class Trace:
    """Intermediate values of an encoder that a training objective reads."""

    word_types: Tensor | None = None  # (U, D), the vectors of the batch's word types
    first_layer: Tensor | None = None  # (T, B, D), the states of the first layer
    last_layer: Tensor | None = None  # (T, B, D), the states of the last layer, before dropout


class Input(nn.Module, ABC):
    """The first part of an encoder, which turns the arrays of a batch into vectors."""

    embedding: nn.Embedding | AdaptiveEmbedding
    output_size: int

    @abstractmethod
    def forward(self, arrays: Tensors, trace: Trace | None = None) -> Tensor:
        """Return vectors (T, B, output_size) of a batch."""

    @abstractmethod
    def add_to(self, g: Graph, first_layer: Layer) -> tuple[str, str, int]:
        """Add the input to a graph; return (T, B, ·), the lengths, and the number of layers that it includes.

        An input of words may include the first layer, because most of its work is the same for each word
        type.
        """


def drop_tokens(tokens: Tensor, vocabulary: int, p: float) -> Tensor:
    """Replace a share `p` of the token types by the unknown token, wherever they occur in the batch."""
    dropped = torch.rand(vocabulary, device=tokens.device) < p
    return tokens.masked_fill(dropped[tokens], UNK)


class TokenInput(Input):
    """Embeds `tokens` (T, B)."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        if config.cutoffs:
            self.embedding = AdaptiveEmbedding(config.vocabulary, config.embed, config.cutoffs)
        else:
            self.embedding = nn.Embedding(config.vocabulary, config.embed)
            nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        self.token_dropout = config.token_dropout
        self.output_size = config.embed

    def forward(self, arrays: Tensors, trace: Trace | None = None) -> Tensor:
        """See `Input`."""
        tokens = arrays["tokens"]
        if self.training and self.token_dropout:
            tokens = drop_tokens(tokens, self.embedding.num_embeddings, self.token_dropout)
        embedded: Tensor = self.embedding(tokens)
        return embedded

    def add_to(self, g: Graph, first_layer: Layer) -> tuple[str, str, int]:
        """See `Input`."""
        tokens = g.input("tokens", "int64", ["time", "batch"])
        x = self.add_vectors_to(g, tokens, "embedding")
        return x, g.input("lengths", "int32", ["batch"]), 0

    def add_vectors_to(self, g: Graph, tokens: str, name: str) -> str:
        """Add the vectors (T, B, output_size) of `tokens` (T, B)."""
        if isinstance(self.embedding, AdaptiveEmbedding):
            return self.embedding.add_to(g, tokens, name)
        return g.add("Gather", g.weight(self.embedding.weight, name), tokens)


class CharacterCNN(nn.Module):
    """A convolution over the characters of a word, then ReLU and the maximum (Ma and Hovy 2016)."""

    WIDTH = 3

    def __init__(self, config: WordConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.char_vocabulary, config.char_embed, padding_idx=0)
        nn.init.uniform_(self.embedding.weight, -0.3, 0.3)
        self.convolution = nn.Conv1d(
            config.char_embed, config.char_hidden, self.WIDTH, padding=self.WIDTH // 2)
        self.output_size = config.char_hidden

    def forward(self, chars: Tensor, lengths: Tensor) -> Tensor:
        """Return (U, output_size), given `chars` (U, C) with `lengths` (U,).

        Most of a batch is padding up to the longest word, so the convolution is computed as a product over
        the N real characters, each with its neighbors.
        """
        real = time_mask(lengths, chars.shape[1]).T  # (U, C)
        side = self.WIDTH // 2
        windows = (functional.pad(x, (side, side)).unfold(1, self.WIDTH, 1)[real] for x in (chars, real))
        chars_around, real_around = windows  # (N, WIDTH)
        # padding has to embed to zero, even if row 0 does not
        embedded = self.embedding(chars_around) * real_around[..., None]
        weight = self.convolution.weight.transpose(1, 2).flatten(1)  # (H, WIDTH * E)
        rows = functional.pad(embedded.flatten(1), (0, 0, 0, rows_to_add(len(embedded))))
        y = functional.linear(rows, weight, self.convolution.bias)[: len(embedded)].float()  # (N, H)
        # Not `segment_reduce`: in torch 2.13 it gives each of several equal maxima the whole of a negative
        # gradient, and in bfloat16 many are equal. The zeros that the maximum starts from are the ReLU.
        word = torch.repeat_interleave(lengths.long())[:, None].expand_as(y)
        return y.new_zeros(len(chars), self.output_size).scatter_reduce(0, word, y, "amax")

    def add_to(self, g: Graph, chars: str, lengths: str) -> str:
        """Add the network to a graph; return (U, output_size), given `chars` (U, C) and `lengths` (U,)."""
        mask = g.cast(g.time_mask(chars, 1, lengths), "float32")  # (C, U)
        mask = g.add("Unsqueeze", g.add("Transpose", mask, perm=[1, 0]), g.constant([1]))  # (U, 1, C)
        embedded = g.add("Gather", g.weight(self.embedding.weight, "char_embedding"), chars)  # (U, C, E)
        embedded = g.add("Mul", g.add("Transpose", embedded, perm=[0, 2, 1]), mask)  # (U, E, C)
        assert self.convolution.bias is not None
        y = g.add(
            "Conv", embedded, g.weight(self.convolution.weight, "char_convolution.weight"),
            g.weight(self.convolution.bias, "char_convolution.bias"), kernel_shape=[self.WIDTH],
            pads=[self.WIDTH // 2] * 2)
        y = g.add("Mul", g.add("Relu", y), mask)
        return g.add("ReduceMax", y, axes=[2], keepdims=0)


class CharacterLSTM(nn.Module):
    """The last states of a bidirectional LSTM over the characters of a word (Lample et al. 2016)."""

    def __init__(self, config: WordConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.char_vocabulary, config.char_embed)
        nn.init.uniform_(self.embedding.weight, -0.3, 0.3)
        self.layer = RecurrentLayer("lstm", config.char_embed, config.char_hidden // 2, bidirectional=True)
        self.output_size = self.layer.output_size

    def forward(self, chars: Tensor, lengths: Tensor) -> Tensor:
        """Return (U, output_size), given `chars` (U, C) with `lengths` (U,)."""
        states, _ = self.layer(self.embedding(chars).transpose(0, 1), lengths)
        return last_states(states, lengths, self.output_size // 2)

    def add_to(self, g: Graph, chars: str, lengths: str) -> str:
        """Add the network to a graph; return (U, output_size), given `chars` (U, C) and `lengths` (U,)."""
        embedded = g.add("Gather", g.weight(self.embedding.weight, "char_embedding"), chars)  # (U, C, E)
        x = g.add("Transpose", embedded, perm=[1, 0, 2])
        _, (last, _) = self.layer.add_to(g, x, lengths, "characters", [])  # (directions, U, H)
        return g.add("Reshape", g.add("Transpose", last, perm=[1, 0, 2]), g.constant([0, -1]))


CHARACTER_NETWORKS: dict[str, type[CharacterCNN] | type[CharacterLSTM]] = {
    "cnn": CharacterCNN, "lstm": CharacterLSTM}


class CharacterContext(nn.Module):
    """The states of a character language model at word boundaries (Akbik et al. 2018), with frozen weights.

    The forward model contributes its state after a word's last character, the backward model its state after
    the word's first character, which it reads last.
    """

    def __init__(self, config: EncoderConfig, *, both: bool) -> None:
        super().__init__()
        self.forward_encoder = Encoder(config)
        self.backward_encoder = Encoder(config, self.forward_encoder.input) if both else None
        self.output_size = self.forward_encoder.output_size * (2 if both else 1)
        self.requires_grad_(False)

    def train(self, mode: bool = True) -> CharacterContext:
        """Stay in evaluation mode, without dropout."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, arrays: Tensors) -> Tensor:
        """Return (T, B, output_size), given `chars` (C, B) and steps `word_starts`, `word_ends` (T, B)."""
        chars, lengths = arrays["chars"], arrays["char_lengths"]
        states, _ = self.forward_encoder({"tokens": chars, "lengths": lengths})
        parts = [_at_steps(states, arrays["word_ends"])]
        if self.backward_encoder is not None:
            reversed_chars = chars.gather(0, reversed_steps(lengths, len(chars)))
            states, _ = self.backward_encoder({"tokens": reversed_chars, "lengths": lengths})
            parts.append(_at_steps(reverse(states, lengths), arrays["word_starts"]))
        return torch.cat(parts, dim=-1).float()

    def add_to(self, g: Graph) -> list[str]:
        """Add the states (T, B, H) of each direction at the words to a graph."""
        chars = g.input("chars", "int64", ["chars", "batch"])
        lengths = g.input("char_lengths", "int32", ["batch"])
        source = self.forward_encoder.input
        assert isinstance(source, TokenInput)
        x = source.add_vectors_to(g, chars, "context.embedding")
        parts = []
        directions = (("forward", self.forward_encoder, "word_ends"),
                      ("backward", self.backward_encoder, "word_starts"))
        for direction, encoder, places in directions:
            if encoder is None:
                continue
            states = x
            for i, layer in enumerate(encoder.layers):
                assert isinstance(layer, RecurrentLayer)
                states, _ = layer.add_to(
                    g, states, lengths, f"context.{direction}.{i}", [], reverse=direction == "backward")
            steps = g.input(places, "int64", ["time", "batch"])
            parts.append(g.at_steps(states, steps, encoder.output_size))
        return parts


def _at_steps(x: Tensor, steps: Tensor) -> Tensor:
    """Return the rows (T, B, D) of `x` (C, B, D) at `steps` (T, B)."""
    return x.gather(0, steps[..., None].expand(-1, -1, x.shape[-1]))


class WordInput(Input):
    """Vectors of words: embedding, characters, hashed affixes and shape, pretrained vectors, side by side.

    These depend on the word alone, so they are computed once for each of the U word types of a batch and then
    looked up by `words` (T, B). The last part, the context, depends on the position in the text.
    """

    embedding: nn.Embedding

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
        """Return (U, type_size), one vector for each word type of the batch."""
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
        """See `Input`."""
        words, types = arrays["words"], self.types(arrays)
        if trace is not None:
            trace.word_types = types
        vectors = functional.embedding(words, types)
        if self.context is not None:
            vectors = torch.cat([vectors, self.context(arrays)], dim=-1)
        if self.training and self.word_dropout:
            shown = torch.rand(words.shape, device=words.device) >= self.word_dropout
            vectors = vectors * shown[..., None]  # so the network learns to use the context
        return vectors

    def add_to(self, g: Graph, first_layer: Layer) -> tuple[str, str, int]:
        """See `Input`."""
        lengths = g.input("lengths", "int32", ["batch"])
        types = self._add_types_to(g)
        context = self.context.add_to(g) if self.context is not None else []
        if isinstance(first_layer, RecurrentLayer):
            kernel = first_layer.forward_cell.cell_type.kernel()
            if isinstance(kernel, TorchKernel):
                return first_layer.add_words_to(
                    g, kernel, types, self.type_size, context, lengths, "layer.0"), lengths, 1
        x = g.look_up_words(types, self.type_size, 1)[0]
        return g.add("Concat", x, *context, axis=2) if context else x, lengths, 0

    def _add_types_to(self, g: Graph) -> str:
        """Add (U, D), a vector for each word type of the batch."""
        tokens = g.input("type_tokens", "int64", ["types"])
        parts = [g.add("Gather", g.weight(self.embedding.weight, "embedding"), tokens)]
        if self.characters is not None:
            chars = g.input("type_chars", "int64", ["types", "characters"])
            lengths = g.input("type_char_lengths", "int32", ["types"])
            parts.append(self.characters.add_to(g, chars, lengths))
        if self.affixes is not None:
            affixes = g.input("type_affixes", "int64", ["types", "affixes"])
            # The sum runs over the first axis so that a vector has the same bits alone and in a batch.
            affixes = g.add("Transpose", affixes, perm=[1, 0])
            rows = g.add("Gather", g.weight(self.affixes.weight, "affixes"), affixes)  # (K, U, A)
            parts.append(g.add("ReduceSum", rows, g.constant([0]), keepdims=0))
        if self.vectors is not None:
            vectors = g.input("type_vectors", "int64", ["types"])
            parts.append(g.add("Gather", g.weight(self.vectors.weight, "vectors"), vectors))
        return g.add("Concat", *parts, axis=1)


class Encoder(nn.Module):
    """Inputs and stacked layers, each `y, state = layer(x, lengths, state)`.

    `shared_input` is the input of another encoder, which this one uses instead of its own.
    """

    def __init__(self, config: EncoderConfig, shared_input: Input | None = None) -> None:
        super().__init__()
        self.config = config
        self.input = shared_input or (WordInput(config, config.word) if config.word else TokenInput(config))
        self.dropout = VariationalDropout(config.dropout)
        self.dropout_between = VariationalDropout(config.dropout_between)
        layers: list[Layer] = []
        size = self.input.output_size
        for i in range(config.layers):
            layers.append(make_layer(config, i, size))
            size = layers[-1].output_size
        self.layers = nn.ModuleList(layers)
        self.output_size = size
        self.state_sizes = [layer.state_sizes for layer in layers]

    def forward(
        self, arrays: Tensors, states: list[State] | None = None, *, states_at_lengths: bool = False,
        trace: Trace | None = None,
    ) -> tuple[Tensor, list[State]]:
        """Return the states (T, B, output_size) of a batch, and the final state of each layer.

        `arrays` has what the input reads, and `lengths` (B,). `states` are the final states of the batch to
        continue. `states_at_lengths` is explained in `Layer.forward`. A `trace` is filled in.
        """
        lengths = arrays["lengths"]
        x = self.dropout(self.input(arrays, trace))
        final_states: list[State] = []
        for i, (layer, state) in enumerate(zip_longest(self.layers, states or ())):
            if i:
                x = self.dropout_between(x)
            x, final_state = layer(x, lengths, state, state_at_lengths=states_at_lengths)
            final_states.append(final_state)
            if i == 0 and trace is not None:
                trace.first_layer = x
        if trace is not None:
            trace.last_layer = x
        return self.dropout(x), final_states

    def add_to(self, g: Graph, states: list[dict[str, int]]) -> tuple[str, list[list[str]]]:
        """Add the encoder to a graph; return its states (T, B, output_size), and each layer's final state.

        `states` are the names and sizes of each layer's state inputs; empty if the layer has none.
        """
        layers = [layer for layer in self.layers if isinstance(layer, Layer)]
        x, lengths, done = self.input.add_to(g, layers[0])
        final_states: list[list[str]] = [[] for _ in range(done)]
        for i, layer in enumerate(layers[done:], done):
            state = [g.input(name, "float32", [1, "batch", size]) for name, size in states[i].items()]
            x, final_state = layer.add_to(g, x, lengths, f"layer.{i}", state)
            final_states.append(final_state)
        return x, final_states
