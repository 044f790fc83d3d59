"""A trained model that a training begins with: read here, whatever it is then used for."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from rnntool import model_folder, tokenize
from rnntool.errors import UsageError
from rnntool.inference.weights import load_network
from rnntool.models.network import Network
from rnntool.tokenize import Tokenizer


@dataclass(frozen=True, kw_only=True)
class Origin:
    """A model as it was given, where it lies, what its config.json says, and what it reads text by."""

    name: str
    folder: Path
    config: dict[str, Any]
    tokenizer: Tokenizer

    @classmethod
    def read(cls, name: str, folder: str, *, tokens: str, option: str) -> Self:
        """The model `name` of an `option`; `UsageError` where it has other than such `tokens`."""
        config = model_folder.read_config(Path(folder))
        tokenizer = tokenize.load(Path(folder), config["data"]["tokenizer"])
        if tokenizer.kind != tokens:
            raise UsageError(f"{option} {name}: expected a model of --tokenizer {tokens}, found one of "
                             f"{tokenizer.kind}; give one that reads what is read here")
        return cls(name=name, folder=Path(folder), config=config, tokenizer=tokenizer)

    def network(self) -> Network:
        """Its network, with its weights."""
        return load_network(self.folder, self.config)

    def content(self) -> bytes:
        """A digest of all that is read of it: weights, vocabulary, and what config.json says of both."""
        digest = hashlib.blake2b(json.dumps([self.config["data"], self.config["network"]]).encode())
        for name in (model_folder.WEIGHTS, "vocab.txt", "tokenizer.model", "vectors.txt"):
            if (self.folder / name).exists():
                digest.update((self.folder / name).read_bytes())
        return digest.digest()
