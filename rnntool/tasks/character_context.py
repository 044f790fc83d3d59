"""Sentences as a character language model reads them, and where in that text each word stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnntool.data.arrays import Arrays, pad
from rnntool.tokenize import BOS, PAD, Tokenizer


@dataclass(slots=True)
class Spelled:
    """A sentence's characters, BOS at both ends, and the steps of its words' first and last ones."""

    chars: NDArray[np.int32]
    starts: NDArray[np.int32]
    ends: NDArray[np.int32]


class CharacterText:
    """Words joined by spaces, as the characters of a language model."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        (self.space,) = tokenizer.encode(" ")

    def config(self) -> dict[str, Any]:
        """What `tokenize.from_characters` wants."""
        return {"characters": "".join(self.tokenizer.entries), "lower": self.tokenizer.lower}

    def example(self, words: Sequence[str]) -> Spelled:
        """A sentence as numbers."""
        spelled = self.tokenizer.encode_batch(words)
        sizes = np.fromiter(map(len, spelled), np.int32, len(spelled))
        starts = np.cumsum(sizes + 1) - sizes  # behind BOS, or behind the space that follows the word before
        chars = [BOS]
        for ids in spelled:
            chars += ids
            chars.append(self.space)
        chars[len(chars) - 1 if words else len(chars) :] = [BOS]
        ends = starts + sizes - 1
        return Spelled(np.array(chars, np.int32), starts.astype(np.int32), ends.astype(np.int32))

    def collate(self, examples: Sequence[Spelled]) -> Arrays:
        """`chars` (C, B) and their lengths; `word_starts` and `word_ends` (T, B)."""
        chars, lengths = pad([example.chars for example in examples], PAD)
        return {
            "chars": chars, "char_lengths": lengths,
            "word_starts": pad([example.starts for example in examples], 0)[0],
            "word_ends": pad([example.ends for example in examples], 0)[0],
        }

    def piece(self, arrays: Arrays, first: int, last: int) -> Arrays:
        """Those of the words from `first` to before `last`, of a batch of one sentence.

        They begin and end with what stands beside these words.
        """
        starts, ends = (arrays[name][first:last] for name in ("word_starts", "word_ends"))
        begin, end = int(starts[0, 0]) - 1, int(ends[-1, 0]) + 2
        chars = arrays["chars"][begin:end]
        return {"chars": chars, "char_lengths": np.full(1, len(chars), np.int32),
                "word_starts": starts - begin, "word_ends": ends - begin}
