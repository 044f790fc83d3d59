"""The engine of n-gram models: looks probabilities up in tables. Needs neither torch nor ONNX Runtime."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Self

import numpy as np

from rnntool import model_folder
from rnntool.data import model_file
from rnntool.data.arrays import Arrays
from rnntool.errors import ModelError
from rnntool.model_folder import ModelConfig
from rnntool.models.backoff import NONE, BackoffModel
from rnntool.tokenize import BOS, EOS

HISTORY = "state.history"  # (1, B, order - 1): the last tokens of each row, `NONE` before its first one


class BackoffEngine:
    """Runs a back-off n-gram model. A `rnntool.tasks.base.Engine`, whose state is the last tokens."""

    word_vectors = 0

    def __init__(self, model: BackoffModel, *, stream: bool) -> None:
        """With `stream`, a record follows the one before, so BOS is read as the EOS that was predicted."""
        self.model = model
        self.stream = stream

    @classmethod
    def load(cls, folder: Path, config: ModelConfig) -> Self:
        """Read the tables of a model folder; `ModelError` if they are missing or damaged."""
        path, encoder = folder / model_folder.WEIGHTS, config.network.encoder
        content = model_file.read(path, largest=sys.maxsize)
        model_folder.check_digest(path, content, config)
        names = BackoffModel.names(encoder.window + 1)
        model = BackoffModel.from_tables(model_file.tensors_of(content, path, names))
        if not model.fits() or model.vocabulary != encoder.vocabulary:
            raise ModelError(f"doesn't fit {model_folder.CONFIG}", place=path, advice=model_folder.AGAIN)
        return cls(model, stream=getattr(config.settings, "context", "line") == "stream")

    def run(self, arrays: Arrays, outputs: list[str] | None = None) -> Arrays:
        """Return the named outputs of a batch, by default all."""
        names = outputs or ["log_probs", "logits", "probs", "next.history"]
        model, history = self.model, self.model.order - 1
        tokens = arrays["tokens"]  # (T, B)
        if self.stream:
            tokens = np.where(tokens == BOS, EOS, tokens)
        read = np.concatenate([arrays[HISTORY][0].T, tokens])  # (order - 1 + T, B)
        contexts = [numbers[history:] for numbers in model.contexts(read)]
        results: Arrays = {}
        if "log_probs" in names:
            # padding has a target of -1, whose score nobody reads
            results["log_probs"] = model.score(contexts, np.maximum(arrays["targets"], 0))
        if "logits" in names or "probs" in names:
            scores = model.distributions([numbers.ravel() for numbers in contexts], count=tokens.size)
            results["logits"] = scores.reshape(*tokens.shape, -1)
            results["probs"] = np.exp(results["logits"])
        places = arrays["lengths"] + np.arange(history)[:, None]  # (order - 1, B)
        results["next.history"] = np.take_along_axis(read, places, axis=0).T[None]
        return {name: results[name] for name in names}

    def initial_state(self, batch: int) -> Arrays:
        """Return a history without tokens."""
        return {HISTORY: np.full((1, batch, self.model.order - 1), NONE, np.int64)}

    def part(self, name: str) -> BackoffEngine:
        """Raise `KeyError`: an n-gram model has no parts."""
        raise KeyError(name)
