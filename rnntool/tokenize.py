"""Text to ids and back: subwords (SentencePiece unigram and BPE), characters, bytes, words.

Knows no records, no models and no files but its own. Every kind has ids 0 to 3 for PAD, UNK, BOS and EOS,
gives offsets into the text as it was handed in, and decodes only to text that can be written. Subwords and
bytes lose nothing: `decode(encode(text)) == text` for every text but lone surrogates, which no file can
hold and which are read as U+FFFD. sentencepiece is imported by the two kinds that need it, when they need
it.
"""

from __future__ import annotations

import codecs
import io
import random
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, repeat
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from rnntool.config import cores
from rnntool.errors import DataError, ModelError, UsageError
from rnntool.words import split_words, surfaces

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
    "split_words",
    "train",
]

PAD, UNK, BOS, EOS = range(4)
SPECIALS = ("<pad>", "<unk>", "<s>", "</s>")
SPLITS = ("space", "words")
BYTES = 256
REPLACEMENT = "\ufffd".encode()
SUBWORD_SIZE = 8000  # vocab_size of unigram and bpe where none is given
SUBWORD_SAMPLE = 1 << 24  # characters that subwords are learned from, at most
SUBWORD_COVERAGE = 0.9995  # of the characters of a corpus become pieces; the rest is spelled in bytes
_LONE_SURROGATE = re.compile(r"[\ud800-\udfff]")
_WORD = re.compile(r"\S+")


class Token(NamedTuple):
    """One token: its id, and its span in characters of the untouched text."""

    id: int
    start: int
    end: int


@dataclass(frozen=True, kw_only=True)
class _Settings:
    kind: str
    vocab_size: int | None
    lower: bool
    min_count: int
    split: str
    bare: bool = False
    more: Sequence[str] = ()  # entries that come behind those learned

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UsageError(f"tokenizer: want one of {', '.join(KINDS)}, found {self.kind!r}")
        if self.split not in SPLITS:
            raise UsageError(f"split: want one of {', '.join(SPLITS)}, found {self.split!r}")
        if self.vocab_size is not None and self.vocab_size <= len(SPECIALS):
            raise UsageError(f"vocab_size: want {len(SPECIALS) + 1} or more, found {self.vocab_size}")


class StreamDecoder:
    """Turns ids into text one at a time, and holds back what is not a whole character yet."""

    def __init__(self, surfaces: Sequence[bytes], *, spaced: bool) -> None:
        """`surfaces` and `spaced` are the tokenizer's."""
        self._surfaces = surfaces
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._spaced = spaced

    def push(self, id: int) -> str:
        """The text that `id` completes; often, but not always, its own."""
        return self._text(self._utf8.decode(self._surfaces[id]))

    def flush(self) -> str:
        """What was held back: bytes that never became a character come out as U+FFFD."""
        return self._text(self._utf8.decode(b"", final=True))

    def _text(self, text: str) -> str:
        if self._spaced and text:
            self._spaced = False
            return text.removeprefix(" ")
        return text


class Tokenizer(ABC):
    """Text to ids and back. `train` and `load` make one."""

    kind: str
    threads = 0  # that `encode_batch` may use; 0 for all cores

    def __init__(self, surfaces: Sequence[bytes], *, lower: bool, spaced: bool = False) -> None:
        """`surfaces[id]` is what `id` stands for in a text, in UTF-8.

        `spaced`: a text opens with one space that is not its own, so that its first word looks like every
        other.
        """
        self.lower = lower
        self._surfaces = surfaces
        self._spaced = spaced

    @property
    def size(self) -> int:
        """How many ids there are, the four special ones included."""
        return len(self._surfaces)

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Ids of `text`, without BOS and EOS."""

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, without BOS and EOS; subwords are found by as many `threads`."""
        return [self.encode(text) for text in texts]

    def decode(self, ids: Iterable[int]) -> str:
        """Text of `ids`. PAD, BOS and EOS are passed over; UNK is `<unk>` among words, U+FFFD elsewhere."""
        text = b"".join(map(self._surfaces.__getitem__, ids)).decode("utf-8", "replace")
        return text.removeprefix(" ") if self._spaced else text

    def stream_decoder(self, after: Iterable[int] = ()) -> StreamDecoder:
        """A decoder for ids that come one by one, going on where the text of the ids in `after` ends."""
        decoder = StreamDecoder(self._surfaces, spaced=self._spaced)
        for id in after:
            decoder.push(id)
        return decoder

    def tokens(self, text: str) -> list[Token]:
        """The ids of `encode(text)`, each with its span.

        Each span begins where the last one ended, and together they cover the text; only words leave out
        the space between. Where several tokens spell one character, the first has its span and the others
        an empty one behind it.
        """
        ends, starts = self._ends(text), self._starts
        tokens, seen, start = [], 0, 0
        for id in self.encode(text):
            seen += starts[id]
            tokens.append(Token(id, start, ends[seen]))
            start = ends[seen]
        return tokens

    def unknown(self, text: str) -> list[tuple[str, int]]:
        """Surface and offset of what maps to UNK without being written `<unk>`: words and characters only."""
        return []

    @abstractmethod
    def piece(self, id: int) -> str:
        """How the vocabulary writes `id`, for people to read."""

    @property
    def entries(self) -> list[str]:
        """The pieces behind the special ones, in the order of their ids, from 4 up."""
        return list(map(self.piece, range(len(SPECIALS), self.size)))

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write this kind's vocabulary file, where it has one, into `folder`."""

    def config(self) -> dict[str, Any]:
        """What `load` wants besides the file, in plain JSON values."""
        return {"kind": self.kind, "size": self.size, "lower": self.lower}

    def _seen(self, text: str) -> str:
        """What the model sees of `text`."""
        return text.lower() if self.lower else text

    def _ends(self, text: str) -> Sequence[int]:
        """ends[k]: where, in the untouched text, the first k characters of what the model sees end."""
        ends: Sequence[int] = range(len(text) + 1)
        if len(self._seen(text)) != len(text):  # "İ".lower() is two characters
            ends = [0, *(end for end, char in enumerate(text, 1) for _ in char.lower())]
        return [0, *ends] if self._spaced else ends

    @cached_property
    def openers(self) -> list[int]:
        """The ids whose text begins with white space: after a word, one of them (or EOS) ends it.

        White space of several bytes is no opener where each byte is an id, for its first byte doesn't tell.
        """
        heads = (surface.decode("utf-8", "ignore")[:1] for surface in self._surfaces)
        return [id for id, head in enumerate(heads) if head.isspace()]

    @cached_property
    def _starts(self) -> list[int]:
        """How many characters begin in each id: its bytes that don't continue one."""
        return [sum(byte & 0xC0 != 0x80 for byte in surface) for surface in self._surfaces]


class _Listed(Tokenizer):
    """What characters and words share: a vocab.txt with one entry a line, in the order of the ids."""

    unit: ClassVar[str]

    def __init__(self, entries: list[str], surfaces: list[bytes], *, lower: bool, spaced: bool) -> None:
        super().__init__(surfaces, lower=lower, spaced=spaced)
        self._entries = [*SPECIALS, *entries]
        self._ids = {entry: id for id, entry in enumerate(entries, len(SPECIALS))}

    def piece(self, id: int) -> str:
        return self._entries[id]

    def save(self, folder: Path) -> None:
        lines = (_escape(entry) + "\n" for entry in self.entries)
        _write(folder / "vocab.txt", "".join(lines).encode())

    @classmethod
    def _frequent(cls, counts: Counter[str], settings: _Settings) -> list[str]:
        if not counts:
            raise DataError(f"training data: want text to learn {cls.unit}s from, found none")
        entries = _by_frequency(counts, settings.min_count)
        if not entries and not settings.bare:
            least = settings.min_count
            raise DataError(f"training data: no {cls.unit} is seen {least} times or more; lower --min-count")
        kept = dict.fromkeys(entries[: settings.vocab_size and settings.vocab_size - len(SPECIALS)])
        found = (entry for entry in settings.more if not settings.lower or entry == entry.lower())
        return list(kept | dict.fromkeys(found))

    @classmethod
    def _listed(cls, folder: Path) -> list[str]:
        path = folder / "vocab.txt"
        try:
            lines = _read(path).decode().split("\n")
        except UnicodeDecodeError as error:
            raise _damaged(path, f"want UTF-8, found something else at byte {error.start}") from None
        if lines.pop():
            raise _damaged(path, "want a newline at the end, found the file cut short")
        entries = [_unescape(line) for line in lines]
        if len(set(entries)) != len(entries):
            raise _damaged(path, f"want each {cls.unit} once, found one twice")
        return entries


class _Char(_Listed):
    kind = "char"
    unit = "character"

    def __init__(self, entries: list[str], *, lower: bool) -> None:
        surfaces = [b"", REPLACEMENT, b"", b"", *(entry.encode() for entry in entries)]
        super().__init__(entries, surfaces, lower=lower, spaced=False)

    @classmethod
    def learn(cls, texts: Iterable[str], settings: _Settings) -> _Char:
        return cls(cls._frequent(_count(texts, settings), settings), lower=settings.lower)

    @classmethod
    def load(cls, folder: Path, config: dict[str, Any]) -> _Char:
        entries = cls._listed(folder)
        if any(len(entry) != 1 for entry in entries):
            raise _damaged(folder / "vocab.txt", "want one character a line, found more or none")
        return cls(entries, lower=config["lower"])

    def encode(self, text: str) -> list[int]:
        return list(map(self._ids.get, self._seen(text), repeat(UNK)))

    def unknown(self, text: str) -> list[tuple[str, int]]:
        ends, seen = self._ends(text), self._seen(text)
        return [(char, ends[k]) for k, char in enumerate(seen) if char not in self._ids]


class WordTokenizer(_Listed):
    """Words: between white space, or as `split_words` finds them in raw text."""

    kind = "word"
    unit = "word"

    def __init__(self, entries: list[str], *, lower: bool, split: str) -> None:
        """`entries` are the words from id 4 up; `split` is one of `SPLITS`."""
        surfaces = [b"", b" <unk>", b"", b"", *(b" " + entry.encode() for entry in entries)]
        super().__init__(entries, surfaces, lower=lower, spaced=True)
        self.split = split

    @classmethod
    def learn(cls, texts: Iterable[str], settings: _Settings) -> WordTokenizer:
        """As `train` does."""
        empty = cls([], lower=settings.lower, split=settings.split)
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(empty.words(text))
        return cls._from(counts, settings)

    @classmethod
    def from_counts(
        cls,
        counts: Mapping[str, int],
        *,
        vocab_size: int | None = None,
        min_count: int = 1,
        lower: bool = False,
        bare: bool = False,
        base: Tokenizer | None = None,
    ) -> WordTokenizer:
        """A tokenizer for words that come split already, from how often each was seen; see `train`."""
        settings = _Settings(
            kind=cls.kind, vocab_size=vocab_size, lower=lower, min_count=min_count, split="space", bare=bare,
            more=_entries(base, cls.kind),
        )
        seen: Counter[str] = Counter()
        for word, count in counts.items():
            seen[word.lower() if lower else word] += count
        return cls._from(seen, settings)

    @classmethod
    def _from(cls, counts: Counter[str], settings: _Settings) -> WordTokenizer:
        del counts[SPECIALS[UNK]]
        return cls(cls._frequent(counts, settings), lower=settings.lower, split=settings.split)

    @classmethod
    def load(cls, folder: Path, config: dict[str, Any]) -> WordTokenizer:
        """As the function of that name, without its checks of `config`."""
        bare = config["size"] == len(SPECIALS)  # its file is empty
        return cls([] if bare else cls._listed(folder), lower=config["lower"], split=config["split"])

    def config(self) -> dict[str, Any]:
        """What `load` wants besides the file, in plain JSON values."""
        return {**super().config(), "split": self.split}

    def encode(self, text: str) -> list[int]:
        """Ids of the words of `text`."""
        return list(map(self._ids.get, self.words(text), repeat(UNK)))

    def tokens(self, text: str) -> list[Token]:
        """The ids of `encode(text)`, each with its word's span."""
        return [Token(id, *span) for id, span in zip(self.encode(text), self._spans(text), strict=True)]

    def unknown(self, text: str) -> list[tuple[str, int]]:
        """Surface and offset of each word that maps to UNK without being `<unk>`."""
        found = zip(self.words(text), self._spans(text), strict=True)
        return [
            (text[start:end], start)
            for word, (start, end) in found
            if word not in self._ids and word != SPECIALS[UNK]
        ]

    def lookup(self, words: Iterable[str]) -> list[int]:
        """Ids of words that come split already."""
        seen = map(str.lower, words) if self.lower else words
        return list(map(self._ids.get, seen, repeat(UNK)))

    def words(self, text: str) -> list[str]:
        """The words of `text` as this tokenizer looks them up."""
        words = self.surfaces(text)
        return list(map(str.lower, words)) if self.lower else words

    def surfaces(self, text: str) -> list[str]:
        """The words of `text` as they stand there."""
        if self.split == "space":
            return text.split()
        return surfaces(text)

    def _spans(self, text: str) -> Iterable[tuple[int, int]]:
        return map(re.Match.span, _WORD.finditer(text)) if self.split == "space" else split_words(text)


class _Byte(Tokenizer):
    kind = "byte"

    def __init__(self, *, lower: bool) -> None:
        surfaces = [b"", REPLACEMENT, b"", b"", *(bytes([byte]) for byte in range(BYTES))]
        super().__init__(surfaces, lower=lower)

    @classmethod
    def learn(cls, texts: Iterable[str], settings: _Settings) -> _Byte:
        return cls(lower=settings.lower)

    @classmethod
    def load(cls, folder: Path, config: dict[str, Any]) -> _Byte:
        return cls(lower=config["lower"])

    def encode(self, text: str) -> list[int]:
        return [byte + len(SPECIALS) for byte in _writable(self._seen(text)).encode()]

    def save(self, folder: Path) -> None:
        pass  # nothing was learned

    def piece(self, id: int) -> str:
        return SPECIALS[id] if id < len(SPECIALS) else f"<0x{id - len(SPECIALS):02X}>"


class _Subword(Tokenizer):
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
    def learn(cls, texts: Iterable[str], settings: _Settings) -> _Subword:
        from sentencepiece import SentencePieceTrainer

        texts = _sample(texts)
        counts = _count(texts, settings)
        if not counts:
            raise DataError("training data: want text to learn subwords from, found none")
        least = len(SPECIALS) + BYTES + 1
        size = max(settings.vocab_size or SUBWORD_SIZE, least)
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
    def load(cls, folder: Path, config: dict[str, Any]) -> _Subword:
        path = folder / "tokenizer.model"
        try:
            tokenizer = cls(_read(path), kind=config["kind"], lower=config["lower"])
        except RuntimeError:
            raise _damaged(path, "want a SentencePiece model, found something else") from None
        pieces = tokenizer._pieces
        if pieces[: len(SPECIALS)] != list(SPECIALS) or UNK in tokenizer._byte_ids(bytes(range(BYTES))):
            raise _damaged(path, f"want {' '.join(SPECIALS)} first and {BYTES} byte pieces, found others")
        return tokenizer

    def save(self, folder: Path) -> None:
        _write(folder / "tokenizer.model", self._proto)

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
        ids = iter(self._model.encode(plain, num_threads=self.threads or cores()))
        return [self.encode(text) if self.BAR in seen else next(ids)
                for text, seen in zip(texts, opened, strict=True)]

    def piece(self, id: int) -> str:
        return self._pieces[id]

    def _opened(self, text: str) -> str:
        """What the model sees of `text`, with the space that opens it."""
        return " " + _writable(self._seen(text)) if text else ""

    def _byte_ids(self, data: bytes) -> list[int]:
        return self._model.piece_to_id([f"<0x{byte:02X}>" for byte in data])

    @classmethod
    def _taught(cls, counts: Counter[str], min_count: int, *, most: int) -> list[str]:
        """The characters that pieces are made of: the most frequent ones, as far as coverage and room go."""
        chars = [char for char in _by_frequency(counts, min_count) if char not in cls.UNTAUGHT]
        covered = accumulate((counts[char] for char in chars), initial=0)
        enough = SUBWORD_COVERAGE * sum(counts[char] for char in chars)
        return [char for char, before in zip(chars, covered, strict=False) if before < enough][:most]


KINDS: dict[str, type[_Char | WordTokenizer | _Byte | _Subword]] = {
    "unigram": _Subword,
    "bpe": _Subword,
    "char": _Char,
    "byte": _Byte,
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
    settings = _Settings(kind=kind, vocab_size=vocab_size, lower=lower, min_count=min_count, split=split,
                         bare=bare, more=_entries(base, kind))
    if isinstance(base, _Subword) and (base.kind, base.lower) == (kind, lower):
        if vocab_size is not None:
            raise UsageError(f"--vocab-size: want none, as the {base.size:,} subwords of --init are taken as "
                             f"they are, found {vocab_size}; leave it out")
        return base
    return KINDS[kind].learn(texts, settings)


def _entries(base: Tokenizer | None, kind: str) -> Sequence[str]:
    """The words or characters of `base`, where it is of this kind."""
    return base.entries if isinstance(base, _Listed) and base.kind == kind else ()


def of_characters(characters: Sequence[str], *, lower: bool) -> Tokenizer:
    """A tokenizer of these characters, in the order of their ids."""
    return _Char(list(characters), lower=lower)


def load(folder: Path, config: dict[str, Any]) -> Tokenizer:
    """The tokenizer that `save` wrote into `folder` and whose `config()` is `config`.

    Raises ModelError where the file is missing, damaged, foreign, or of another size than `config` says.
    """
    try:
        tokenizer = KINDS[config["kind"]].load(folder, config)
        size = config["size"]
    except KeyError as error:
        raise _damaged(folder / "config.json", f"the tokenizer's settings lack or misname {error}") from None
    if tokenizer.size != size:
        raise _damaged(folder, f"want a tokenizer with {size} ids, found {tokenizer.size}")
    return tokenizer


def _count(texts: Iterable[str], settings: _Settings) -> Counter[str]:
    """How often each character is seen."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text.lower() if settings.lower else text)
    return counts


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
    stretch = _Subword.STRETCH
    return [text[i : i + stretch] for i in range(0, len(text), stretch) if rng.random() < share]


def _by_frequency(counts: Counter[str], min_count: int) -> list[str]:
    """The most frequent first, ties by code point; nothing that no file can hold."""
    kept = [entry for entry, n in counts.items() if n >= min_count and not _LONE_SURROGATE.search(entry)]
    return sorted(kept, key=lambda entry: (-counts[entry], entry))


def _writable(text: str) -> str:
    """`text` with each lone surrogate replaced by U+FFFD."""
    return text if text.isascii() else _LONE_SURROGATE.sub("\ufffd", text)


_UNSAFE = re.compile(r"[\\\s\x00-\x1f\x7f-\x9f\ufeff]")  # what an editor or a diff would not leave or show
_SHORT = {"\n": r"\n", "\r": r"\r", "\t": r"\t", "\\": r"\\"}
_LONG = {short: char for char, short in _SHORT.items()}
_ESCAPED = re.compile(r"\\(?:[nrt\\]|u[0-9a-f]{4})")


def _escape(entry: str) -> str:
    return _UNSAFE.sub(lambda found: _SHORT.get(found[0]) or f"\\u{ord(found[0]):04x}", entry)


def _unescape(line: str) -> str:
    return _ESCAPED.sub(lambda found: _LONG.get(found[0]) or chr(int(found[0][2:], 16)), line)


def _read(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _damaged(path, f"want the tokenizer's vocabulary, found: {error.strerror}") from None
    if not data:
        raise _damaged(path, "want the tokenizer's vocabulary, found an empty file")
    return data


def _write(path: Path, data: bytes) -> None:
    """Beside its place first: a file with this name is whole."""
    part = path.with_name(path.name + ".part")
    part.write_bytes(data)
    part.replace(path)


def _damaged(path: Path, found: str) -> ModelError:
    return ModelError(f"{path}: {found}; copy the model again")
