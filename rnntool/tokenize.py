"""Text to ids and back: subwords (SentencePiece unigram and BPE), characters, bytes, words.

Knows no records, no models and no files but its own. Every kind has ids 0 to 3 for PAD, UNK, BOS and EOS,
gives offsets into the text as it was handed in, and decodes only to text that can be written. Subwords and
bytes lose nothing: `decode(encode(text)) == text` for every text but lone surrogates, which no file can
hold and which are read as U+FFFD. The kinds themselves are in `rnntool.data.tokenizers`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rnntool.data.pretokenizer import split_words
from rnntool.data.tokenizers.base import (
    BOS,
    EOS,
    PAD,
    SPECIALS,
    SPLITS,
    UNK,
    StreamDecoder,
    Token,
    Tokenizer,
    TokenizerSettings,
    damaged,
)
from rnntool.data.tokenizers.listed import CharTokenizer, WordTokenizer, entries_of
from rnntool.data.tokenizers.subword import ByteTokenizer, SubwordTokenizer
from rnntool.errors import UsageError

__all__ = [
    "BOS",
    "EOS",
    "KINDS",
    "PAD",
    "SPECIALS",
    "SPLITS",
    "UNK",
    "StreamDecoder",
    "Token",
    "Tokenizer",
    "WordTokenizer",
    "load",
    "from_characters",
    "split_words",
    "train",
]

KINDS: dict[str, type[Tokenizer]] = {
    "unigram": SubwordTokenizer,
    "bpe": SubwordTokenizer,
    "char": CharTokenizer,
    "byte": ByteTokenizer,
    "word": WordTokenizer,
}


def train(
    kind: str,
    texts: Iterable[str],
    *,
    vocab_size: int | None = None,
    lower: bool = False,
    min_count: int = 1,
    split: str = "space",
    bare: bool = False,
    base: Tokenizer | None = None,
) -> Tokenizer:
    """Learn a tokenizer of one of `KINDS` from `texts` alone.

    `vocab_size` is the most ids there may be, the special ones included: by default 8000 for subwords and no
    limit for characters and words. Subwords are learned from a random sample where there is much text, and
    take 261 at least, since 256 are bytes; a small corpus gives fewer than asked. `min_count` is how often a
    word or character must be seen to have an id. `split`, for words, is one of `SPLITS`: at white space, or
    as `split_words` does. With `bare` the special ids will do where no word is seen often enough. Equal texts
    give equal tokenizers. Raises UsageError for a setting out of range, DataError where the texts hold
    nothing to learn from.

    With a `base` of the same kind its subwords are taken as they are; its words or characters come behind
    those learned, whatever `vocab_size` and `min_count`.
    """
    if kind not in KINDS:
        raise UsageError(f"tokenizer: expected one of {', '.join(KINDS)}, found {kind!r}")
    settings = TokenizerSettings(
        kind=kind, vocab_size=vocab_size, lower=lower, min_count=min_count, split=split, bare=bare,
        more=entries_of(base, kind))
    if isinstance(base, SubwordTokenizer) and (base.kind, base.lower) == (kind, lower):
        for option, value, usual in (("--vocab-size", vocab_size, None), ("--min-count", min_count, 1)):
            if value != usual:
                raise UsageError(f"{option}: expected none, as the {base.size:,} subwords of --init are taken as "
                                 f"they are, found {value}; leave it out")
        return base
    return KINDS[kind].learn(texts, settings)


def from_characters(characters: Sequence[str], *, lower: bool) -> Tokenizer:
    """A tokenizer of these characters, in the order of their ids."""
    return CharTokenizer(list(characters), lower=lower)


def load(folder: Path, config: dict[str, Any]) -> Tokenizer:
    """The tokenizer that `save` wrote into `folder` and whose `config()` is `config`.

    Raises ModelError where the file is missing, damaged, foreign, or of another size than `config` says.
    """
    try:
        tokenizer = KINDS[config["kind"]].load(folder, config)
        size = config["size"]
    except KeyError as error:
        raise damaged(folder / "config.json", f"the tokenizer's settings lack or misname {error}") from None
    if tokenizer.size != size:
        raise damaged(folder, f"expected a tokenizer with {size} ids, found {tokenizer.size}")
    return tokenizer
