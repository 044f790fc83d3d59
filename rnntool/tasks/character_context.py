"""Sentences as input of a character language model, and the position of each word in the characters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnntool.data.arrays import Arrays, pad
from rnntool.tokenize import BOS, PAD, Tokenizer


@dataclass(slots=True)
class CharacterSentence:
    """The characters of a sentence, with BOS at both ends, and the steps where each word starts and ends."""

    chars: NDArray[np.int32]
    starts: NDArray[np.int32]
    ends: NDArray[np.int32]


class CharacterContext:
    """Encodes words as the characters of a language model, with spaces between the words."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        (self.space,) = tokenizer.encode(" ")

    def config(self) -> dict[str, Any]:
        """Return the arguments of `tokenize.from_characters`, as JSON types."""
        return {"characters": "".join(self.tokenizer.entries), "lower": self.tokenizer.lower}

    def example(self, words: Sequence[str]) -> CharacterSentence:
        """Encode the words of a sentence."""
        encoded = self.tokenizer.encode_batch(words)
        sizes = np.fromiter(map(len, encoded), np.int32, len(encoded))
        starts = np.cumsum(sizes + 1) - sizes  # after BOS or a space
        chars = [BOS]
        for ids in encoded:
            chars += ids
            chars.append(self.space)
        chars[len(chars) - 1 if words else len(chars) :] = [BOS]
        ends = starts + sizes - 1
        return CharacterSentence(np.array(chars, np.int32), starts.astype(np.int32), ends.astype(np.int32))

    def collate(self, examples: Sequence[CharacterSentence]) -> Arrays:
        """Make `chars` (C, B), their lengths (B,), `word_starts` and `word_ends` (T, B)."""
        chars, lengths = pad([example.chars for example in examples], PAD)
        return {
            "chars": chars, "char_lengths": lengths,
            "word_starts": pad([example.starts for example in examples], 0)[0],
            "word_ends": pad([example.ends for example in examples], 0)[0],
        }

    def piece(self, arrays: Arrays, first: int, last: int) -> Arrays:
        """Cut the words `first` to `last`, exclusive, out of a batch of one sentence.

        The piece includes the character before its first word and the one after its last word.
        """
        starts, ends = (arrays[name][first:last] for name in ("word_starts", "word_ends"))
        first_char, end_char = int(starts[0, 0]) - 1, int(ends[-1, 0]) + 2
        chars = arrays["chars"][first_char:end_char]
        return {"chars": chars, "char_lengths": np.full(1, len(chars), np.int32),
                "word_starts": starts - first_char, "word_ends": ends - first_char}
