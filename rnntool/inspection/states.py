"""The states of a network at each token of a text: which units vary, and the mean states of each word.

They come from the model's ONNX graph. So every model has them, and torch is not needed.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnntool import model_folder
from rnntool.data.arrays import Arrays, by_length
from rnntool.errors import UsageError
from rnntool.inference.model import ModelFolder
from rnntool.inference.onnx_engine import OnnxEngine
from rnntool.inspection import onnx_internals
from rnntool.tasks.base import AnyTask, next_name

WINDOW = 512  # records read at a time
BUDGET = 8192  # padded tokens in a batch

Floats = NDArray[np.float32]
Span = tuple[int, int]


@dataclass(frozen=True)
class TextStates:
    """A text, the (start, end) characters of its tokens, and the states (T, D) after each token."""

    text: str
    spans: list[Span]
    states: Floats

    def head(self, count: int) -> TextStates:
        """Return the first `count` tokens and the text up to their end."""
        spans = self.spans[:count]
        return TextStates(self.text[: spans[-1][1] if spans else 0], spans, self.states[:count])


class StateReader:
    """Reads records and yields the states of one recurrent layer.

    In a bidirectional layer the second half of the D units reads from right to left. If the task carries its
    state from record to record, the reader carries it as well.
    """

    def __init__(self, model: ModelFolder, *, layer: int | None = None, threads: int = 0) -> None:
        """Read the states of the last layer, or of `layer`, counted from 1.

        `UsageError` if the network has no states or no such layer, `ModelError` if its graph is damaged.
        """
        encoder = model.config.network.encoder
        layers = encoder.layers
        if encoder.kind != "rnn":
            raise UsageError(place=model.name, expected="a recurrent network",
                             found=f"the encoder {encoder.kind}", advice="give another model")
        if layer is not None and not 1 <= layer <= layers:
            raise UsageError(place=model.name, setting="layer", expected=f"a number from 1 to {layers}",
                             found=layer)
        graph, self._names = onnx_internals.states_graph(
            model.folder, model.config, layer=(layer or layers) - 1)
        self._hidden = encoder.hidden
        self._engine = OnnxEngine(model.folder / model_folder.GRAPH, threads=threads, graph=graph)
        self._task = model.task
        self._carried: Arrays = {}

    def read(self, records: Iterable[Any]) -> Iterator[TextStates]:
        """Yield the states of each record, in order."""
        source = iter(records)
        while window := list(islice(source, WINDOW)):
            examples = [self._task.example(record) for record in window]
            for record, states in zip(window, self._states(examples), strict=True):
                text, spans = self._task.spans(record)
                yield TextStates(text, spans, states[len(states) - len(spans) :])  # without BOS or a label

    def _states(self, examples: list[Any]) -> list[Floats]:
        lengths = [self._task.length(example) for example in examples]
        if self._task.carries_state:
            states = self._run([np.concatenate(examples)], self._carried)[:, 0]
            return np.split(states, np.cumsum(lengths)[:-1])
        results: list[Any] = [None] * len(examples)
        for batch in by_length(lengths, BUDGET):
            states = self._run([examples[i] for i in batch], {})
            for column, i in enumerate(batch):
                results[i] = states[: lengths[i], column]
        return results

    def _run(self, examples: list[Any], carried: Arrays) -> Floats:
        """Return the states (T, B, D) of a batch that starts from `carried`, and update `carried`."""
        zeros = self._engine.initial_state(len(examples))
        outputs = self._engine.run(self._task.collate(examples) | zeros | carried)
        carried.update((name, outputs[next_name(name)]) for name in zeros)
        directions = [outputs[name] for name in self._names]
        if directions[0].ndim == 4:  # (T, directions, B, H)
            directions = list(directions[0].swapaxes(0, 1))
        return np.concatenate([states[..., : self._hidden] for states in directions], axis=-1)


def word_states(text: TextStates, *, tokens_are_words: bool) -> Iterator[tuple[str, Floats]]:
    """Yield each word with the state (D,) after it, which is the state after its last token."""
    if tokens_are_words:
        for (start, end), state in zip(text.spans, text.states, strict=True):
            yield text.text[start:end], state
        return
    ends = [end for _, end in text.spans]
    for match in re.finditer(r"\S+", text.text):
        # the last token that ends where the word ends, or the first that ends after it
        last = max(bisect_left(ends, match.end()), bisect_right(ends, match.end()) - 1)
        yield match[0], text.states[last]


def mean_states(texts: Iterable[TextStates], task: AnyTask) -> dict[str, tuple[int, NDArray[np.float64]]]:
    """Return the count and the mean state (D,) of each word, the most frequent first (Elman 1990)."""
    tokenizer = task.tokenizer
    sums: dict[str, NDArray[np.float64]] = {}
    counts: dict[str, int] = {}
    for text in texts:
        for word, state in word_states(text, tokens_are_words=tokenizer.kind == "word"):
            word = word.lower() if tokenizer.lower else word
            counts[word] = counts.get(word, 0) + 1
            sums[word] = sums.get(word, 0.0) + state.astype(np.float64)
    order = sorted(counts, key=lambda word: (-counts[word], word))
    return {word: (counts[word], sums[word] / counts[word]) for word in order}


def concatenated(texts: Sequence[TextStates]) -> TextStates:
    """Join texts with line breaks between them."""
    spans: list[Span] = []
    start = 0
    for text in texts:
        spans += [(start + a, start + b) for a, b in text.spans]
        start += len(text.text) + 1
    return TextStates("\n".join(text.text for text in texts), spans,
                      np.concatenate([text.states for text in texts]))


def most_varying(states: Floats, count: int) -> list[int]:
    """Return the units of states (T, D) with the largest standard deviations, in descending order."""
    units: list[int] = np.argsort(-states.std(axis=0), kind="stable")[:count].tolist()
    return units
