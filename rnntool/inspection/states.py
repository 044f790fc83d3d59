"""The states of a network at each token of a text: which units vary, and what a word's states are on average.

They come from the graph that runs, so that every model has them, without torch.
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
from rnntool.data.arrays import by_length
from rnntool.data.formats import Sentence, Text
from rnntool.errors import UsageError
from rnntool.inference.model import ModelFolder
from rnntool.inference.onnx_engine import OnnxEngine
from rnntool.inspection import onnx_internals
from rnntool.tasks.lm import LMTask, next_name

WINDOW = 512  # records read at a time
BUDGET = 8192  # padded tokens that are run at once

Floats = NDArray[np.float32]
Span = tuple[int, int]


@dataclass(frozen=True)
class Read:
    """A text, the (start, end) characters of its tokens, and the states (n, D) behind each of them."""

    text: str
    spans: list[Span]
    states: Floats

    def head(self, count: int) -> Read:
        """The first `count` tokens, and the text up to their end."""
        spans = self.spans[:count]
        return Read(self.text[: spans[-1][1] if spans else 0], spans, self.states[:count])


class Reader:
    """Reads records and gives the states of one layer, the last one or `layer`, which counts from 1.

    Of a layer of two directions the second half of the D units reads from right to left. A language model
    that learned a stream carries its state from record to record, as it did then. `UsageError` for networks
    that have no states, and layers that there are not.
    """

    def __init__(self, model: ModelFolder, *, layer: int | None = None, threads: int = 0) -> None:
        encoder = model.config["network"]["encoder"]
        layers = encoder["layers"]
        if encoder.get("kind", "rnn") != "rnn":
            raise UsageError(f"{model.name}: expected a recurrent network, found --encoder {encoder['kind']}, "
                             "which has no states; give another model")
        if layer is not None and layer > layers:
            raise UsageError(f"--layer: expected 1 to {layers}, which {model.name} has, found {layer}")
        graph, self.names = onnx_internals.states_graph(
            model.folder, model.config, layer=(layer or layers) - 1)
        self.hidden = encoder["hidden"]
        self.engine = OnnxEngine(model.folder / model_folder.GRAPH, threads=threads, graph=graph)
        self.task: Any = model.task
        self.streams = isinstance(self.task, LMTask) and self.task.settings.context == "stream"
        self.carried: dict[str, NDArray[Any]] = {}

    def __call__(self, records: Iterable[Any]) -> Iterator[Read]:
        """Each record in order."""
        source = iter(records)
        while window := list(islice(source, WINDOW)):
            examples = [self.task.example(record) for record in window]
            for record, states in zip(window, self._states(examples), strict=True):
                text, spans = tokens(self.task, record)
                yield Read(text, spans, states[len(states) - len(spans) :])  # without BOS, if it begins so
            self.task.forget()

    def _states(self, examples: list[Any]) -> list[Floats]:
        lengths = [self.task.length(example) for example in examples]
        if self.streams:
            whole = self._run([np.concatenate(examples)], self.carried)[:, 0]
            return np.split(whole, np.cumsum(lengths)[:-1])
        found: list[Any] = [None] * len(examples)
        for batch in by_length(lengths, BUDGET):
            states = self._run([examples[i] for i in batch], {})
            for column, i in enumerate(batch):
                found[i] = states[: lengths[i], column]
        return found

    def _run(self, examples: list[Any], carried: dict[str, NDArray[Any]]) -> Floats:
        """States (T, B, D) of a batch; `carried` are those to begin with, and become those at the end."""
        zeros = self.engine.initial_state(len(examples))
        outputs = self.engine.run(self.task.collate(examples) | zeros | carried)
        carried.update((name, outputs[next_name(name)]) for name in zeros)
        parts = [outputs[name] for name in self.names]
        if parts[0].ndim == 4:  # (T, directions, B, H)
            parts = list(parts[0].swapaxes(0, 1))
        return np.concatenate([part[..., : self.hidden] for part in parts], axis=-1)


def tokens(task: Any, record: Text | Sentence) -> tuple[str, list[Span]]:
    """The text of a record and the spans of what its network reads of it, one token after the other."""
    if isinstance(record, Text):
        return record.text, [(token.start, token.end) for token in task.tokenizer.tokens(record.text)]
    if record.text is not None and record.offsets is not None:
        return record.text, list(record.offsets)
    ends = np.cumsum([len(word) + 1 for word in record.words]).tolist()
    return " ".join(record.words), [(end - len(word) - 1, end - 1)
                                    for word, end in zip(record.words, ends, strict=True)]


def words(read: Read, *, whole: bool) -> Iterator[tuple[str, Floats]]:
    """Each word with the state (D,) behind it: of its last token, unless tokens are `whole` words."""
    if whole:
        for (start, end), state in zip(read.spans, read.states, strict=True):
            yield read.text[start:end], state
        return
    ends = [end for _, end in read.spans]
    for match in re.finditer(r"\S+", read.text):
        # the last one that ends with the word, or else the first that ends behind it
        last = max(bisect_left(ends, match.end()), bisect_right(ends, match.end()) - 1)
        yield match[0], read.states[last]


def averages(reads: Iterable[Read], task: Any) -> dict[str, tuple[int, NDArray[np.float64]]]:
    """Of each word how often it is there and its mean state (D,), the most frequent first (Elman 1990)."""
    tokenizer = task.tokenizer
    sums: dict[str, NDArray[np.float64]] = {}
    counts: dict[str, int] = {}
    for read in reads:
        for word, state in words(read, whole=tokenizer.kind == "word"):
            word = word.lower() if tokenizer.lower else word
            counts[word] = counts.get(word, 0) + 1
            sums[word] = sums.get(word, 0.0) + state.astype(np.float64)
    order = sorted(counts, key=lambda word: (-counts[word], word))
    return {word: (counts[word], sums[word] / counts[word]) for word in order}


def joined(reads: Sequence[Read]) -> Read:
    """Several texts as one, a line break between them."""
    spans: list[Span] = []
    start = 0
    for read in reads:
        spans += [(start + a, start + b) for a, b in read.spans]
        start += len(read.text) + 1
    text = "\n".join(read.text for read in reads)
    return Read(text, spans, np.concatenate([read.states for read in reads]))


def most_varying(states: Floats, count: int) -> list[int]:
    """The units of states (n, D) with the largest standard deviation, that one first."""
    units: list[int] = np.argsort(-states.std(axis=0), kind="stable")[:count].tolist()
    return units
