r"""ARPA files of n-gram models, as SRILM, KenLM and other programs read and write them.

Their logarithms have the base 10. White space in a token, such as the space of a model of characters, is
written as `\u0020`.
"""

from __future__ import annotations

import math
import re
from array import array
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from rnntool.errors import DataError
from rnntool.models.backoff import BackoffModel

BLOCK = 100_000  # n-grams that are written at once
NEVER = -99.0  # the usual logarithm of a probability of zero
UNKNOWN = -100.0  # the logarithm for the unknown token if the file has none, as in KenLM
SPECIALS = ("<pad>", "<unk>", "<s>", "</s>")  # the first ids; padding is not in a file
_PAD, _UNK, _BOS, _ = range(len(SPECIALS))
_LN10 = math.log(10)


def write(model: BackoffModel, tokens: Sequence[str]) -> Iterator[str]:
    """Return an ARPA file in pieces; `tokens` are the names of the ids from 4 on."""
    names = [*SPECIALS, *map(_name, tokens)]
    counts = [len(table) for table in model.log_probs]
    counts[0] -= 1
    yield "\\data\\\n" + "".join(f"ngram {length}={count}\n" for length, count in enumerate(counts, 1))
    texts = np.array(names, dtype=object)  # of the n-grams of each length
    for length, table in enumerate(model.log_probs, 1):
        yield f"\n\\{length}-grams:\n"
        if length > 1:
            before, last = np.divmod(model.keys[length - 2], np.uint64(model.vocabulary))
            texts = texts[before.astype(np.intp)] + " " + np.array(names, dtype=object)[last.astype(np.intp)]
        probs = np.maximum(table / _LN10, NEVER)
        weights = model.backoffs[length - 1] / _LN10 if length < model.order else None
        for start in range(1 if length == 1 else 0, len(table), BLOCK):
            part = slice(start, start + BLOCK)
            rows = zip(probs[part].tolist(), texts[part], strict=True)
            if weights is None:
                yield "".join(f"{prob:.7g}\t{text}\n" for prob, text in rows)
            else:
                yield "".join(f"{prob:.7g}\t{text}\t{weight:.7g}\n"
                              for (prob, text), weight in zip(rows, weights[part].tolist(), strict=True))
    yield "\n\\end\\\n"


def read(lines: Iterable[str], *, place: str) -> tuple[list[str], BackoffModel]:
    """Read an ARPA file: the tokens with the ids from 4 on, and the model. `DataError` if it is not valid.

    The words before the last one of an n-gram must have a line as well. If `<unk>` is missing,
    unknown words get a tiny probability.
    """
    reader = _Reader(lines, place)
    sizes = reader.counts()
    ids = {name: id for id, name in enumerate(SPECIALS)}
    model = BackoffModel(keys=[], log_probs=[], backoffs=[])
    for length, size in enumerate(sizes, 1):
        ngrams, values = reader.ngrams(length, ids)
        if len(ngrams) != size:
            raise reader.error(f"{size:,} {length}-grams, as the beginning says", f"{len(ngrams):,}")
        if length == 1:
            keys = ngrams[:, 0].astype(np.uint64)
        else:
            numbers = ngrams[:, 0]
            for shorter in range(2, length):
                numbers = model.find(shorter, numbers, ngrams[:, shorter - 1])
            if (numbers < 0).any():
                raise reader.error_at(
                    int(np.argmax(numbers < 0)), "a line for the words before the last one", "none")
            keys = numbers.astype(np.uint64) * np.uint64(len(ids)) + ngrams[:, -1].astype(np.uint64)
        order = np.argsort(keys, kind="stable")
        keys, values = keys[order], values[order]
        if (repeated := keys[1:] == keys[:-1]).any():
            raise reader.error_at(int(order[1:][repeated][0]), "each n-gram once", "it twice")
        if length == 1:
            table = np.full((len(ids), 2), (-np.inf, 0.0))
            table[_UNK, 0] = UNKNOWN
            table[keys.astype(np.intp)] = values
            table[[_PAD, _BOS], 0] = -np.inf
            values = table
        else:
            model.keys.append(keys)
        model.log_probs.append((values[:, 0] * _LN10).astype(np.float32))
        model.backoffs.append((values[:, 1] * _LN10).astype(np.float32))
    reader.end()
    model.backoffs.pop()
    return list(ids)[len(SPECIALS) :], model


def _name(token: str) -> str:
    """Return a token as it is written: white space and the names of special tokens are escaped."""
    unsafe = "<" if token in SPECIALS else r"\s"
    return re.sub(unsafe, lambda match: f"\\u{ord(match[0]):04x}", token)


class _Reader:
    """Reads the lines of an ARPA file, and counts them for messages."""

    def __init__(self, lines: Iterable[str], place: str) -> None:
        self._lines = enumerate(lines, 1)
        self._place = place
        self._number = 0
        self._line = ""
        self._numbers = array("q")  # of the lines of the n-grams that were read last

    def error(self, expected: str, found: str) -> DataError:
        """Return the error for the current line."""
        return DataError(place=f"{self._place}:{self._number}", expected=expected, found=found)

    def error_at(self, ngram: int, expected: str, found: str) -> DataError:
        """Return the error for one of the n-grams that were read last."""
        return DataError(place=f"{self._place}:{self._numbers[ngram]}", expected=expected, found=found)

    def counts(self) -> list[int]:
        """Read the beginning: the number of n-grams of each length."""
        while self._advance() != "\\data\\":
            if not self._line:
                raise self.error("an ARPA file, with a line \\data\\", "none")
        counts: list[int] = []
        while match := re.fullmatch(r"ngram +(\d+) *= *(\d+)", self._advance()):
            if int(match[1]) != len(counts) + 1:
                raise self.error(f"the number of {len(counts) + 1}-grams", repr(self._line))
            counts.append(int(match[2]))
        if not counts:
            raise self.error("a line such as ngram 1=1000", repr(self._line))
        return counts

    def ngrams(
        self, length: int, ids: dict[str, int]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Read the n-grams of this length: ids (N, length), and logarithms of probability and weight (N, 2).

        The words of 1-grams are added to `ids`.
        """
        if self._line != f"\\{length}-grams:":
            raise self.error(f"\\{length}-grams:", repr(self._line))
        tokens, values = array("q"), array("d")
        self._numbers = array("q")
        while (line := self._advance()) and not line.startswith("\\"):
            prob, *words = line.split()
            weight = words.pop() if len(words) == length + 1 else "0"
            if length == 1 and words:
                ids.setdefault(words[0], len(ids))
            try:
                logs = float(prob), float(weight)
                tokens.extend([ids[word] for word in words])
            except ValueError:
                raise self.error("two numbers around the words", repr(line)) from None
            except KeyError as error:
                raise self.error("words that have a line among the 1-grams", repr(error.args[0])) from None
            if len(words) != length or math.isnan(sum(logs)) or logs[0] > 0:
                raise self.error(
                    f"the logarithm of a probability, words of a {length}-gram and perhaps that of a weight",
                    repr(line))
            values.extend(logs)
            self._numbers.append(self._number)
        return (np.array(tokens, np.int64).reshape(-1, length),
                np.array(values, np.float64).reshape(-1, 2))

    def end(self) -> None:
        """Check that the file is complete."""
        if self._line != "\\end\\":
            raise self.error("\\end\\", repr(self._line) if self._line else "the end of the file")

    def _advance(self) -> str:
        """Return the next line that isn't empty; an empty text at the end of the file."""
        self._line = ""
        for number, line in self._lines:
            self._number = number
            if text := line.strip():
                self._line = text
                break
        return self._line
