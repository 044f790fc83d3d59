"""Subword tokenizers by SentencePiece, which spell unknown characters in bytes, and the byte tokenizer.

Both are lossless: decoding the ids of a text gives the text.
"""

from __future__ import annotations

import io
import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, Self

from rnntool.data.model_file import damaged, read
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
    no_text,
    replace_surrogates,
)
from rnntool.errors import UsageError, setting

BYTES = 256
SUBWORD_SIZE = 8000  # default of `vocab_size`
SUBWORD_SAMPLE = 1 << 24  # most characters that subwords are trained on
SUBWORD_COVERAGE = 0.9995  # share of the characters in a corpus that pieces cover; bytes spell the rest


class ByteTokenizer(Tokenizer):
    """Splits text into UTF-8 bytes."""

    kind = "byte"

    def __init__(self, *, lower: bool) -> None:
        texts = [b"", REPLACEMENT, b"", b"", *(bytes([byte]) for byte in range(BYTES))]
        super().__init__(texts, lower=lower)

    @classmethod
    def learn(cls, texts: Iterable[str], settings: TokenizerSettings) -> Self:
        return cls(lower=settings.lower)

    @classmethod
    def load(cls, folder: Path, config: dict[str, Any], prefix: str = "") -> Self:
        return cls(lower=config["lower"])

    def encode(self, text: str) -> list[int]:
        return [byte + len(SPECIALS) for byte in replace_surrogates(self._normalize(text)).encode()]

    def save(self, folder: Path, prefix: str = "") -> None:
        pass  # the vocabulary is fixed

    def piece(self, id: int) -> str:
        return SPECIALS[id] if id < len(SPECIALS) else f"<0x{id - len(SPECIALS):02X}>"


class SubwordTokenizer(Tokenizer):
    """SentencePiece unigram or BPE, without normalization and with byte fallback.

    SentencePiece writes a space as U+2581 and decodes both to a space. Here a U+2581 in the text is always
    spelled in bytes, so that U+2581 in a piece means a space, and in bytes means itself.
    """

    SPACE_MARK = "\u2581"
    EXCLUDED = frozenset("\0\t\n\r \u2581\u2585")  # special for the trainer; it always knows the space
    CHUNK = 4000  # characters per sentence for the trainer, which would leave out longer lines

    def __init__(self, proto: bytes, *, kind: str, lower: bool) -> None:
        from sentencepiece import SentencePieceProcessor

        self.kind = kind
        self._proto = proto
        self._processor = SentencePieceProcessor(model_proto=proto)
        self._pieces = self._processor.id_to_piece(list(range(self._processor.get_piece_size())))
        self._space_mark_ids = self._byte_ids(self.SPACE_MARK.encode())
        texts = [piece.replace(self.SPACE_MARK, " ").encode() for piece in self._pieces]
        texts[: len(SPECIALS)] = [b"", REPLACEMENT, b"", b""]
        for byte, id in enumerate(self._byte_ids(bytes(range(BYTES)))):
            texts[id] = bytes([byte])
        super().__init__(texts, lower=lower, starts_with_space=True)

    @classmethod
    def learn(cls, texts: Iterable[str], settings: TokenizerSettings) -> Self:
        from sentencepiece import SentencePieceTrainer

        texts = _sample(texts)
        counts = count_characters(texts, settings)
        if not counts:
            raise no_text("subword")
        smallest = len(SPECIALS) + BYTES + 1
        size = settings.vocab_size or SUBWORD_SIZE
        if size < smallest:
            raise UsageError(
                setting="vocab_size", found=size,
                expected=f"{smallest} or more, because {settings.kind} tokens include all bytes",
                advice=f"increase it, or use {setting('tokenizer', 'char')}")
        alphabet = cls._alphabet(counts, settings.min_count, largest=(size - smallest + 1) // 2)
        chunks = re.compile(f"[ {re.escape(''.join(alphabet))}]{{1,{cls.CHUNK}}}")
        normalized = (" " + (text.lower() if settings.lower else text) for text in texts)
        proto = io.BytesIO()
        SentencePieceTrainer.train(
            sentence_iterator=(chunk[0] for text in normalized for chunk in chunks.finditer(text)),
            model_writer=proto,
            model_type=settings.kind,
            vocab_size=size,
            hard_vocab_limit=False,  # a small corpus has fewer pieces
            normalization_rule_name="identity",
            add_dummy_prefix=False,  # _prepare adds the space
            remove_extra_whitespaces=False,
            byte_fallback=True,
            character_coverage=1.0,  # _alphabet has chosen the characters
            max_sentence_length=4 * cls.CHUNK,  # bytes
            pad_id=PAD,
            unk_id=UNK,
            bos_id=BOS,
            eos_id=EOS,
            num_threads=1,  # rounding, and so the pieces, depend on it; more threads are hardly faster
            minloglevel=2,  # errors only
        )
        return cls(proto.getvalue(), kind=settings.kind, lower=settings.lower)

    @classmethod
    def load(cls, folder: Path, config: dict[str, Any], prefix: str = "") -> Self:
        path = folder / f"{prefix}tokenizer.model"
        proto = read(path)
        if not proto:
            raise damaged(path, expected="a SentencePiece model", found="an empty file")
        try:
            tokenizer = cls(proto, kind=config["kind"], lower=config["lower"])
        except RuntimeError:
            raise damaged(path, expected="a SentencePiece model", found="something else") from None
        pieces = tokenizer._pieces
        if pieces[: len(SPECIALS)] != list(SPECIALS) or UNK in tokenizer._byte_ids(bytes(range(BYTES))):
            raise damaged(
                path, expected=f"{' '.join(SPECIALS)} first and {BYTES} byte pieces", found="other pieces")
        return tokenizer

    def save(self, folder: Path, prefix: str = "") -> None:
        (folder / f"{prefix}tokenizer.model").write_bytes(self._proto)

    def encode(self, text: str) -> list[int]:
        prepared = self._prepare(text)
        if self.SPACE_MARK not in prepared:
            ids: list[int] = self._processor.encode(prepared)
            return ids
        ids, *rest = self._processor.encode(prepared.split(self.SPACE_MARK))
        for part in rest:
            ids += self._space_mark_ids + part
        return ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        prepared = [self._prepare(text) for text in texts]
        plain = [text for text in prepared if self.SPACE_MARK not in text]
        ids = iter(self._processor.encode(plain, num_threads=thread_count(self.threads)))
        return [self.encode(original) if self.SPACE_MARK in text else next(ids)
                for original, text in zip(texts, prepared, strict=True)]

    def piece(self, id: int) -> str:
        return self._pieces[id]

    def _prepare(self, text: str) -> str:
        """Return the text as SentencePiece gets it: normalized, with a space before it."""
        return " " + replace_surrogates(self._normalize(text)) if text else ""

    def _byte_ids(self, data: bytes) -> list[int]:
        return self._processor.piece_to_id([f"<0x{byte:02X}>" for byte in data])

    @classmethod
    def _alphabet(cls, counts: Counter[str], min_count: int, *, largest: int) -> list[str]:
        """Choose the characters that pieces consist of: the most frequent ones until `SUBWORD_COVERAGE`."""
        chars = [char for char in by_frequency(counts, min_count) if char not in cls.EXCLUDED]
        covered = accumulate((counts[char] for char in chars), initial=0)
        target = SUBWORD_COVERAGE * sum(counts[char] for char in chars)
        return [char for char, before in zip(chars, covered, strict=False) if before < target][:largest]


def _sample(texts: Iterable[str]) -> list[str]:
    """Return all texts, or random chunks of them if they are too long. The choice is deterministic."""
    rng, share, size = random.Random(0), 1.0, 0
    kept: list[str] = []
    for text in texts:
        chunks = [text] if share == 1.0 else _random_chunks(text, share, rng)
        kept += chunks
        size += sum(map(len, chunks))
        while size > SUBWORD_SAMPLE:
            kept = [chunk for longer in kept for chunk in _random_chunks(longer, 0.5, rng)]
            share, size = share / 2, sum(map(len, kept))
    return kept


def _random_chunks(text: str, share: float, rng: random.Random) -> list[str]:
    length = SubwordTokenizer.CHUNK
    return [text[i : i + length] for i in range(0, len(text), length) if rng.random() < share]
