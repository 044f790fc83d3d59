"""A trained model that another training uses, as a starting point or as a character language model."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from rnntool import model_folder
from rnntool.data import model_file
from rnntool.errors import UsageError, setting
from rnntool.inference import model
from rnntool.inference.weights import load_network
from rnntool.model_folder import ModelConfig
from rnntool.models.network import Network
from rnntool.tasks.base import AnyTask
from rnntool.tasks.specs.settings import Settings
from rnntool.tokenize import Tokenizer, split_words

FOREIGN_SHARE = 0.05  # of a vocabulary that another way to split text would never produce
CONTENT = (model_folder.WEIGHTS, "vocab.txt", "tokenizer.model", "vectors.txt")


@dataclass(frozen=True, kw_only=True)
class PretrainedModel:
    """A model folder, its config.json and its task; `name` is what the user called it."""

    name: str
    folder: Path
    config: ModelConfig
    task: AnyTask

    @classmethod
    def read(
        cls, name: str, folder: str, *, used_as: str, tokenizer: str, task: str | None = None
    ) -> Self:
        """Read a model that the setting `used_as` names.

        `UsageError` unless its tokenizer is of kind `tokenizer` and its task is `task`, if that is given;
        `ModelError` if the folder is damaged.
        """
        pretrained = model.read(folder)
        if task not in (None, pretrained.config.task):
            raise UsageError(setting=used_as, expected=f"a model of `rnntool train {task}`",
                             found=f"{name}, of `rnntool train {pretrained.config.task}`")
        kind = pretrained.task.tokenizer.kind
        if kind != tokenizer:
            raise UsageError(setting=used_as, expected=f"a model with {setting('tokenizer', tokenizer)}",
                             found=f"{name}, whose tokenizer is {kind}")
        return cls(name=name, folder=pretrained.folder, config=pretrained.config, task=pretrained.task)

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the task."""
        return self.task.tokenizer

    def split_difference(self, settings: Settings) -> str:
        """Describe how the model split words differently from a training with `settings`; "" if it didn't."""
        here, there = (getattr(each, "split", "words") for each in (settings, self.task.settings))
        if here == there or self.tokenizer.kind != "word":
            return ""
        effect = f"{self.name} was trained with {setting('split', there)}"
        if here == "space":
            return f"{effect}, so this training finds fewer of its words; give {setting('split', there)}"
        pieces = {word: [word[start:end] for start, end in split_words(word)]
                  for word in self.tokenizer.entries}
        unusable = [word for word, parts in pieces.items() if len(parts) > 1]
        if len(unusable) < FOREIGN_SHARE * len(pieces):
            return ""  # it read text whose words were separated already
        example = " ".join(pieces[unusable[0]])
        return (f"{effect}: {len(unusable) / len(pieces):.0%} of its words never occur here, such as "
                f"{unusable[0]!r}, which is now {example!r}; train it again: `rnntool train lm … "
                "--tokenizer word --split words`")

    def network(self) -> Network:
        """Load the network with its weights."""
        return load_network(self.folder, self.config)

    def digest(self) -> bytes:
        """Hash everything that a training uses: weights, vocabularies and configuration.

        `ModelError` if a file can't be read.
        """
        digest = hashlib.blake2b(json.dumps([dict(self.config.data), self.config.network.to_json()]).encode())
        for name in CONTENT:
            if (self.folder / name).exists():
                digest.update(model_file.read(self.folder / name, largest=sys.maxsize))
        return digest.digest()
