"""Tokenizers: text to ids and back, in subwords (SentencePiece unigram and BPE), characters, bytes or words.

Knows no records and no models. Every tokenizer reserves ids 0 to 3 for PAD, UNK, BOS and EOS, gives offsets
into the original text, and decodes to text that can be written as UTF-8. Subword and byte tokenizers are
lossless: `decode(encode(text)) == text`, except that lone surrogates become U+FFFD. The implementations are
in `rnntool.data.tokenizers`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rnntool.data.model_file import damaged
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
)
from rnntool.data.tokenizers.closed_vocabulary import CharTokenizer, WordTokenizer, entries_of
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
    "from_characters",
    "load",
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
    allow_empty: bool = False,
    base: Tokenizer | None = None,
) -> Tokenizer:
    """Train a tokenizer of one of the `KINDS`. The same texts give the same tokenizer.

    `vocab_size` is the largest number of ids, including the special ones. The default is 8000 for subwords,
    and no limit for characters and words. Subwords need at least 261, because they include all bytes; a small
    corpus gives fewer than requested, and a large one is sampled. A word or character has an id if it occurs
    at least `min_count` times; if none does, that is an error unless `allow_empty` is set. `split` is one of
    `SPLITS` and says where words end: at white space, or as `split_words` does.

    If `base` is of the same kind, its subwords are used unchanged. Its words or characters are added after
    the trained ones, and `vocab_size` and `min_count` do not limit them.

    Raises `UsageError` for a setting out of range, and `DataError` if there is nothing to learn from.
    """
    if kind not in KINDS:
        raise UsageError(setting="tokenizer", expected=f"one of {', '.join(KINDS)}", found=repr(kind))
    settings = TokenizerSettings(
        kind=kind, vocab_size=vocab_size, lower=lower, min_count=min_count, split=split,
        allow_empty=allow_empty, base_entries=entries_of(base, kind))
    if isinstance(base, SubwordTokenizer) and (base.kind, base.lower) == (kind, lower):
        for name, value, default in (("vocab_size", vocab_size, None), ("min_count", min_count, 1)):
            if value != default:
                raise UsageError(
                    setting=name, found=value, advice="leave it out",
                    expected=f"no value, because the {base.size:,} subwords of the initial model are used as "
                             "they are")
        return base
    return KINDS[kind].learn(texts, settings)


def from_characters(characters: Sequence[str], *, lower: bool) -> Tokenizer:
    """Return a character tokenizer; the ids follow the order of `characters`."""
    return CharTokenizer(list(characters), lower=lower)


def load(folder: Path, config: dict[str, Any], prefix: str = "") -> Tokenizer:
    """Load the tokenizer that `save` wrote into `folder`; `config` is what its `config()` returned.

    Raises `ModelError` if the file is missing or damaged, or if its size differs from `config`.
    """
    try:
        tokenizer = KINDS[config["kind"]].load(folder, config, prefix)
        size = config["size"]
    except KeyError as error:
        raise damaged(
            folder / "config.json", f"the settings of the tokenizer lack or misname {error}") from None
    if tokenizer.size != size:
        raise damaged(folder, expected=f"a tokenizer with {size} ids", found=tokenizer.size)
    return tokenizer
