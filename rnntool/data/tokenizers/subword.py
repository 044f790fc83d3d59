"""Subwords, which SentencePiece finds, and bytes, which spell what is none: both lose nothing of a text."""

from __future__ import annotations

import io
import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, Self

from rnntool.data.threads import thread_count
from rnntool.data.tokenizers.base import (
    BOS,
    EOS,
    PAD,
    REPLACEMENT,
    SPECIALS,
    UNK,
    Tokenizer,
    TokenizerSettings,
    by_frequency,
    count_characters,
    damaged,
    read_file,
    writable,
)
from rnntool.errors import DataError, UsageError

BYTES = 256
SUBWORD_SIZE = 8000  # vocab_size where none is given
SUBWORD_SAMPLE = 1 << 24  # characters that subwords are learned from, at most
SUBWORD_COVERAGE = 0.9995  # of the characters of a corpus become pieces; the rest is spelled in bytes


class ByteTokenizer(Tokenizer):
    """The bytes of UTF-8."""

    kind = "byte"

    def __init__(self, *, lower: bool) -> None:
        surfaces = [b"", REPLACEMENT, b"", b"", *(bytes([byte]) for byte in range(BYTES))]
        super().__init__(surfaces, lower=lower)

    @classmethod
    def learn(cls, texts: Iterable[str], settings: TokenizerSettings) -> Self:
        return cls(lower=settings.lower)

    @classmethod
    def load(cls, folder: Path, config: dict[str, Any]) -> Self:
        return cls(lower=config["lower"])

    def encode(self, text: str) -> list[int]:
        return [byte + len(SPECIALS) for byte in writable(self._seen(text)).encode()]

    def save(self, folder: Path) -> None:
        pass  # nothing was learned

    def piece(self, id: int) -> str:
        return SPECIALS[id] if id < len(SPECIALS) else f"<0x{id - len(SPECIALS):02X}>"


class SubwordTokenizer(Tokenizer):
    """SentencePiece with identity normalisation and byte fallback.

    SentencePiece writes a space as U+2581 and makes both a space again. Here a U+2581 of the text is always
    spelled in bytes, so that what stands in a piece is a space and what stands in bytes is itself.
    """

    BAR = "\u2581"
    UNTAUGHT = frozenset("\0\t\n\r \u2581\u2585")  # the trainer's own signs; space is always taught
    STRETCH = 4000  # characters handed to the trainer in one go; it would leave out lines that are too long

    def __init__(self, proto: bytes, *, kind: str, lower: bool) -> None:
        from sentencepiece import SentencePieceProcessor

        self.kind = kind
        self._proto = proto
        self._model = SentencePieceProcessor(model_proto=proto)
        self._pieces = self._model.id_to_piece(list(range(self._model.get_piece_size())))
        self._bar = self._byte_ids(self.BAR.encode())
        surfaces = [piece.replace(self.BAR, " ").encode() for piece in self._pieces]
        surfaces[: len(SPECIALS)] = [b"", REPLACEMENT, b"", b""]
        for byte, id in enumerate(self._byte_ids(bytes(range(BYTES)))):
            surfaces[id] = bytes([byte])
        super().__init__(surfaces, lower=lower, spaced=True)

    @classmethod
    def learn(cls, texts: Iterable[str], settings: TokenizerSettings) -> Self:
        from sentencepiece import SentencePieceTrainer

        texts = _sample(texts)
        counts = count_characters(texts, settings)
        if not counts:
            raise DataError("training data: expected text to learn subwords from, found none")
        least = len(SPECIALS) + BYTES + 1
        size = settings.vocab_size or SUBWORD_SIZE
        if size < least:
            raise UsageError(f"--vocab-size: expected {least} or more, since all bytes are among {settings.kind} "
                             f"tokens, found {size}; give more, or --tokenizer char")
        taught = cls._taught(counts, settings.min_count, most=(size - least + 1) // 2)
        stretches = re.compile(f"[ {re.escape(''.join(taught))}]{{1,{cls.STRETCH}}}")
        seen = (" " + (text.lower() if settings.lower else text) for text in texts)
        proto = io.BytesIO()
        SentencePieceTrainer.train(
            sentence_iterator=(found[0] for text in seen for found in stretches.finditer(text)),
            model_writer=proto,
            model_type=settings.kind,
            vocab_size=size,
            hard_vocab_limit=False,  # a small corpus has fewer pieces in it
            normalization_rule_name="identity",
            add_dummy_prefix=False,  # _opened puts the space there
            remove_extra_whitespaces=False,
            byte_fallback=True,
            character_coverage=1.0,  # _taught has chosen
            max_sentence_length=4 * cls.STRETCH,  # bytes
            pad_id=PAD,
            unk_id=UNK,
            bos_id=BOS,
            eos_id=EOS,
            num_threads=1,  # the sums, and so the pieces, depend on it; more would hardly be faster
            minloglevel=2,  # errors only
        )
        return cls(proto.getvalue(), kind=settings.kind, lower=settings.lower)

    @classmethod
    def load(cls, folder: Path, config: dict[str, Any]) -> Self:
        path = folder / "tokenizer.model"
        try:
            tokenizer = cls(read_file(path), kind=config["kind"], lower=config["lower"])
        except RuntimeError:
            raise damaged(path, "expected a SentencePiece model, found something else") from None
        pieces = tokenizer._pieces
        if pieces[: len(SPECIALS)] != list(SPECIALS) or UNK in tokenizer._byte_ids(bytes(range(BYTES))):
            raise damaged(path, f"expected {' '.join(SPECIALS)} first and {BYTES} byte pieces, found others")
        return tokenizer

    def save(self, folder: Path) -> None:
        (folder / "tokenizer.model").write_bytes(self._proto)

    def encode(self, text: str) -> list[int]:
        opened = self._opened(text)
        if self.BAR not in opened:
            ids: list[int] = self._model.encode(opened)
            return ids
        ids, *rest = self._model.encode(opened.split(self.BAR))
        for part in rest:
            ids += self._bar + part
        return ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        opened = [self._opened(text) for text in texts]
        plain = [text for text in opened if self.BAR not in text]
        ids = iter(self._model.encode(plain, num_threads=thread_count(self.threads)))
        return [self.encode(text) if self.BAR in seen else next(ids)
                for text, seen in zip(texts, opened, strict=True)]

    def piece(self, id: int) -> str:
        return self._pieces[id]

    def _opened(self, text: str) -> str:
        """What the model sees of `text`, with the space that opens it."""
        return " " + writable(self._seen(text)) if text else ""

    def _byte_ids(self, data: bytes) -> list[int]:
        return self._model.piece_to_id([f"<0x{byte:02X}>" for byte in data])

    @classmethod
    def _taught(cls, counts: Counter[str], min_count: int, *, most: int) -> list[str]:
        """The characters that pieces are made of: the most frequent ones, as far as coverage and room go."""
        chars = [char for char in by_frequency(counts, min_count) if char not in cls.UNTAUGHT]
        covered = accumulate((counts[char] for char in chars), initial=0)
        enough = SUBWORD_COVERAGE * sum(counts[char] for char in chars)
        return [char for char, before in zip(chars, covered, strict=False) if before < enough][:most]


def _sample(texts: Iterable[str]) -> list[str]:
    """All texts, or random parts of them where they are too long together; always the same ones, in order."""
    rng, share, size = random.Random(0), 1.0, 0
    kept: list[str] = []
    for text in texts:
        parts = [text] if share == 1.0 else _parts(text, share, rng)
        kept += parts
        size += sum(map(len, parts))
        while size > SUBWORD_SAMPLE:
            kept = [part for long in kept for part in _parts(long, 0.5, rng)]
            share, size = share / 2, sum(map(len, kept))
    return kept


def _parts(text: str, share: float, rng: random.Random) -> list[str]:
    stretch = SubwordTokenizer.STRETCH
    return [text[i : i + stretch] for i in range(0, len(text), stretch) if rng.random() < share]
