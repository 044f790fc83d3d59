"""Segmentation: running text becomes sentences, words and multiword tokens, by a tag for each character."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from rnntool import tokenize
from rnntool.data.arrays import IGNORE, Arrays, by_length, pad, softmax
from rnntool.data.formats import OnUnlabeled, read_sentences, reject
from rnntool.data.formats.conllu import CONLLU, with_tokens
from rnntool.data.multiword import MultiwordSplitter
from rnntool.data.progress import Log, Stage
from rnntool.data.reading import USUAL_LAYOUT, Layout
from rnntool.data.records import Sentence
from rnntool.data.streams import Lines
from rnntool.errors import DataError, setting
from rnntool.evaluation import metrics
from rnntool.evaluation.significance import Counts
from rnntool.models.config import EncoderConfig, NetworkConfig, ObjectiveConfig, TaggerHeadConfig
from rnntool.tasks.base import (
    Criterion,
    Engine,
    Evaluation,
    Mistake,
    Ready,
    RowNames,
    Task,
    always,
    excerpt,
)
from rnntool.tasks.network_config import encoder_config, from_settings
from rnntool.tasks.paragraphs import (
    GoldParagraph,
    gold_paragraphs,
    gold_tags,
    random_paragraphs,
    text_of,
    with_random_spaces,
)
from rnntool.tasks.running_text import (
    CONTEXT,
    CORE,
    INSIDE,
    MULTIWORD,
    MULTIWORD_SENTENCE,
    SENTENCE,
    TAGS,
    WORD,
    Window,
    sentence_spans,
    tokens,
    windows,
)
from rnntool.tasks.specs.segment import SPEC, SegmentSettings
from rnntool.tokenize import PAD, Tokenizer, split_words

COPIES = 4  # of the training text, each with other line breaks and windows
HIDDEN_SHARE = 0.03  # of the characters of a window that are read as their category
CATEGORIES = (
    "Cc", "Cf", "Cn", "Co", "Cs", "Ll", "Lm", "Lo", "Lt", "Lu", "Mc", "Me", "Mn", "Nd", "Nl", "No", "Pc",
    "Pd", "Pe", "Pf", "Pi", "Po", "Ps", "Sc", "Sk", "Sm", "So", "Zl", "Zp", "Zs")
MEANINGS = {INSIDE: "no end", WORD: "end of a word", MULTIWORD: "end of a multiword token",
            SENTENCE: "end of a sentence", MULTIWORD_SENTENCE: "end of a sentence and a multiword token"}
JOINER = "\u200d"  # joins two emojis
# later parts of what is one character to readers: of Hangul syllables, and the skin tones of emojis
LATER_PARTS = frozenset(map(chr, (*range(0x1160, 0x1200), *range(0x1F3FB, 0x1F400), ord(JOINER))))
UNITS = ("word", "sentence", "token")  # that are evaluated
WORDS_IN_SENTENCE = 15  # on average, in many treebanks
_CODES = np.frombuffer(TAGS.encode(), np.uint8)


@dataclass(slots=True)
class SegmentExample:
    """The ids of characters, and of their tags if they are known."""

    tokens: NDArray[np.int32]
    tags: NDArray[np.int32] | None = None


class SegmentTask(Task[Sentence | Window, SegmentExample, SegmentSettings]):
    """Tags characters. A record is a sentence of CoNLL-U, a line of text, or a window of running text."""

    spec = SPEC
    criterion = Criterion("word_f1", higher_is_better=True, metric=metrics.f1)

    def __init__(
        self, tokenizer: Tokenizer, splitter: MultiwordSplitter, *, spaced: bool, settings: SegmentSettings
    ) -> None:
        """`spaced` says whether tokens may contain spaces."""
        self.tokenizer = tokenizer
        self.splitter = splitter
        self.spaced = spaced
        self.settings = settings
        self._ids = _CharacterIds(tokenizer)

    # --- Records, and what is learned from them ------------------------------------------------------------

    @classmethod
    def read(
        cls, lines: Lines, format: str, settings: SegmentSettings, *, targets: bool,
        on_unlabeled: OnUnlabeled = reject, layout: Layout = USUAL_LAYOUT,
    ) -> Iterator[Sentence]:
        """Read sentences with their tokens from CoNLL-U. Without `targets`, read texts from any format."""
        if targets and format != CONLLU.name:
            raise DataError(place=lines.name, expected="CoNLL-U", found=format,
                            advice=f"if it is CoNLL-U, say so with {setting('format', 'conllu')}")
        records = read_sentences(lines, format=format, split=split_words, layout=layout)
        return with_tokens(records) if format == CONLLU.name else records

    @classmethod
    def is_running_text(cls, settings: SegmentSettings) -> bool:
        return True

    @classmethod
    def labels_of(
        cls, record: Sentence | Window, settings: SegmentSettings
    ) -> Collection[tuple[int, str]]:
        return ()

    @classmethod
    def learn(
        cls, records: Sequence[Sentence | Window], settings: SegmentSettings, *,
        raw: Sequence[Sentence | Window] = (), vectors: Sequence[str] = (), base: Tokenizer | None = None,
        characters: Tokenizer | None = None, target_base: Tokenizer | None = None,
    ) -> Self:
        """Learn the characters, how multiword tokens are split, and whether tokens have spaces inside."""
        sentences = _sentences(records)
        texts = list(map(text_of, sentences))
        tokenizer = tokenize.train("char", [*texts, " \n" * settings.min_count],
                                   min_count=settings.min_count, base=base)
        splitter = MultiwordSplitter.learn(chain.from_iterable(map(_token_words, sentences)))
        spaced = any(any(map(str.isspace, text[slice(*offsets)]))
                     for sentence, text in zip(sentences, texts, strict=True)
                     for offsets in sentence.offsets or ())
        return cls(tokenizer, splitter, spaced=spaced, settings=settings)

    @classmethod
    def doubts(
        cls, records: Sequence[Sentence | Window], settings: SegmentSettings
    ) -> Iterator[str]:
        sentences = _sentences(records)
        if sentences and all(end == len(text) or text[end].isspace()
                             for text, sentence in zip(map(text_of, sentences), sentences, strict=True)
                             for _, end in sentence.offsets or ()):
            yield "no token has SpaceAfter=No, so the segmenter learns that spaces surround every token"

    def learned(self) -> str:
        forms = f"; {len(self.splitter.forms):,} multiword tokens" if self.splitter.forms else ""
        return super().learned() + forms

    # --- In a model folder ---------------------------------------------------------------------------------

    def config(self) -> dict[str, Any]:
        return {"tokenizer": self.tokenizer.config(), "multiword": self.splitter.size,
                "spaced": self.spaced}

    def save(self, folder: Path) -> None:
        self.tokenizer.save(folder)
        self.splitter.save(folder)

    @classmethod
    def load(cls, folder: Path, config: Mapping[str, Any], settings: SegmentSettings) -> Self:
        return cls(tokenize.load(folder, config["tokenizer"]),
                   MultiwordSplitter.load(folder, int(config["multiword"])),
                   spaced=bool(config["spaced"]), settings=settings)

    # --- The network ---------------------------------------------------------------------------------------

    def sizes(self) -> dict[str, int]:
        return {"vocabulary": self.tokenizer.size + len(CATEGORIES), "outputs": len(TAGS)}

    def network_config(
        self, *, vector_size: int = 0, context: tuple[EncoderConfig, bool] | None = None
    ) -> NetworkConfig:
        return NetworkConfig(
            encoder=encoder_config(self.settings, self.sizes(), bidirectional=self.settings.bidirectional),
            head=TaggerHeadConfig(outputs=len(TAGS)))

    def objective(self, examples: Sequence[SegmentExample]) -> ObjectiveConfig:
        return from_settings(ObjectiveConfig, self.settings)

    def row_names(self) -> RowNames:
        return RowNames(tokens=[*self.tokenizer.entries, *CATEGORIES])

    # --- Arrays --------------------------------------------------------------------------------------------

    def example(self, record: Sentence | Window, *, targets: bool = False) -> SegmentExample:
        text = _text(record)
        tags = _targets(text, gold_tags(record)) if targets and isinstance(record, Sentence) else None
        return SegmentExample(self._encoded(text), tags)

    def _encoded(self, text: str) -> NDArray[np.int32]:
        """Return the ids of characters."""
        return np.fromiter(map(self._ids.__getitem__, text), np.int32, len(text))

    def groups(
        self, records: Iterable[Sentence | Window], ready: Ready = always
    ) -> Iterator[list[Sentence | Window]]:
        """Cut lines of text into windows; see `windows`."""
        lines = (record for record in records if isinstance(record, Sentence))
        return ([window] for window in windows(lines, ready))

    def training_examples(
        self, records: Sequence[Sentence | Window], *, watch: Callable[[Stage], None], log: Log
    ) -> Sequence[SegmentExample]:
        """Copy the text several times with random breaks, and cut it into random windows."""
        rng = random.Random(self.settings.seed)
        examples: list[SegmentExample] = []
        for _ in range(COPIES):
            for paragraph in random_paragraphs(_sentences(records), rng):
                examples += self._window_examples(*with_random_spaces(paragraph, rng), rng)
        return examples

    def _window_examples(self, text: str, tags: str, rng: random.Random) -> Iterator[SegmentExample]:
        """Cut a paragraph into windows; their context has no targets."""
        start = 0
        while start < len(text):
            end = start + rng.randint(CORE // 2, CORE)
            first, last = max(0, start - CONTEXT), min(len(text), end + CONTEXT)
            ids, targets = self._encoded(text[first:last]), _targets(text[first:last], tags[first:last])
            targets[: start - first] = targets[end - first :] = IGNORE
            hidden = [i for i in range(len(ids)) if rng.random() < HIDDEN_SHARE]
            ids[hidden] = [self._ids.category(text[first + i]) for i in hidden]
            yield SegmentExample(ids, targets)
            start = end

    def length(self, example: SegmentExample) -> int:
        return len(example.tokens)

    def collate(self, examples: Sequence[SegmentExample]) -> Arrays:
        """Make `tokens` (T, B) and `lengths`, and `targets` (1, T, B)."""
        tokens, lengths = pad([example.tokens for example in examples], PAD)
        arrays: Arrays = {"tokens": tokens, "lengths": lengths}
        tags = [example.tags for example in examples if example.tags is not None]
        if tags:
            arrays["targets"] = pad(tags, IGNORE)[0][None]
        return arrays

    def spans(self, record: Sentence | Window) -> tuple[str, list[tuple[int, int]]]:
        text = _text(record)
        return text, [(i, i + 1) for i in range(len(text))]

    # --- Results -------------------------------------------------------------------------------------------

    def decode(self, records: Sequence[Sentence | Window], outputs: Arrays) -> list[str]:
        """Return the tags of the characters of each window, without those of its context."""
        tags = _best_tags(softmax(outputs["emissions"])).T  # (B, T)
        rows = zip(records, tags, strict=True)
        return [_letters(record, row) for record, row in rows]

    # --- How good a network is -----------------------------------------------------------------------------

    def sample(
        self, records: Sequence[Sentence | Window], share: float
    ) -> tuple[Sequence[Sentence | Window], float]:
        return self.stretch(records, share)

    def score(self, engine: Engine, records: Sequence[Sentence | Window]) -> dict[str, float]:
        paragraphs = gold_paragraphs(_sentences(records))
        counts = self._counts(paragraphs, self._results(engine, paragraphs)).sum(axis=0)
        return {f"{unit}_f1": float(metrics.f1(counts[3 * i : 3 * i + 3])) for i, unit in enumerate(UNITS)}

    def selection_score(self, scores: Mapping[str, float]) -> float:
        """Return the mean F1 of words and sentences, weighted by how many there are of both."""
        return (WORDS_IN_SENTENCE * scores["word_f1"] + scores["sentence_f1"]) / (WORDS_IN_SENTENCE + 1)

    def evaluate(
        self, engine: Engine, records: Sequence[Sentence | Window], *, mistakes: int = 0
    ) -> Evaluation:
        """Compute precision, recall and F1 of words, sentences and tokens, compared by their characters.

        The sentences of a paragraph are read as running text. The words of a multiword token also have to be
        the same. A mistake is a wrong tag of a character.
        """
        paragraphs = gold_paragraphs(_sentences(records))
        results = self._results(engine, paragraphs)
        counts = self._counts(paragraphs, results)
        sums = counts.sum(axis=0)
        report: dict[str, Any] = {"records": len(records)}
        for i, unit in enumerate(UNITS):
            correct, predicted, gold = sums[3 * i : 3 * i + 3]
            report |= {f"{unit}_f1": float(metrics.f1(sums[3 * i : 3 * i + 3])),
                       f"{unit}_precision": metrics.ratio(correct, predicted),
                       f"{unit}_recall": metrics.ratio(correct, gold)}
        return Evaluation(report=report, counts=counts,
                          mistakes=_mistakes(paragraphs, results)[:mistakes] if mistakes else [])

    def predictions(
        self, engine: Engine, records: Sequence[Sentence | Window]
    ) -> list[dict[str, Any]]:
        sentences = _sentences(records)
        answers: list[dict[str, Any]] = [{"gold": sentence.words, "words": []} for sentence in sentences]
        paragraphs = gold_paragraphs(sentences)
        for paragraph, (tags, _) in zip(paragraphs, self._results(engine, paragraphs), strict=True):
            for start, end, is_multiword in tokens(paragraph.text, tags, spaced=self.spaced):
                answers[paragraph.record_at(start)]["words"] += self.splitter.words(
                    paragraph.text[start:end], is_multiword=is_multiword)
        return answers

    def _results(
        self, engine: Engine, paragraphs: Iterable[GoldParagraph]
    ) -> list[tuple[str, NDArray[np.float32]]]:
        """Tag paragraphs; return the tags of each, and the probabilities of all tags."""
        lines = (Sentence([], text=text) for paragraph in paragraphs for text in (paragraph.text, ""))
        each = list(windows(lines, always))
        examples = list(map(self.example, each))
        parts: dict[int, tuple[str, NDArray[np.float32]]] = {}
        for batch in by_length([len(example.tokens) for example in examples], self.budget):
            outputs = self.run(engine, self.collate([examples[i] for i in batch]))
            probs = softmax(outputs["emissions"]).transpose(1, 0, 2)  # (B, T, tags)
            for i, row in zip(batch, probs, strict=True):
                parts[i] = _letters(each[i], _best_tags(row)), row[slice(*_core(each[i]))]
        results: list[tuple[str, NDArray[np.float32]]] = []
        paragraph: list[tuple[str, NDArray[np.float32]]] = []
        for i, window in enumerate(each):
            paragraph.append(parts[i])
            if window.ends_paragraph:
                tags, tag_probs = zip(*paragraph, strict=True)
                results.append(("".join(tags), np.concatenate(tag_probs)))
                paragraph = []
            elif not window.text:
                paragraph = []
        return results

    def _counts(
        self, paragraphs: Sequence[GoldParagraph], results: Sequence[tuple[str, NDArray[np.float32]]]
    ) -> Counts:
        """Count for each record the correct, predicted and gold words, and the same of sentences and tokens.

        A predicted unit belongs to the record in which it starts.
        """
        counts = np.zeros((sum(len(paragraph.starts) for paragraph in paragraphs), 3 * len(UNITS)))
        for paragraph, (tags, _) in zip(paragraphs, results, strict=True):
            predicted_units = self._units(paragraph.text, tags)
            gold_units = paragraph.units(self.spaced)
            for i, (predicted, gold) in enumerate(zip(predicted_units, gold_units, strict=True)):
                for column, units in enumerate((predicted & gold, predicted, gold)):
                    for start, *_ in units:
                        counts[paragraph.record_at(start), 3 * i + column] += 1
        return counts

    def _units(self, text: str, tags: str) -> tuple[set[Any], ...]:
        """Return the words, sentences and tokens of a tagged text."""
        spans = tokens(text, tags, spaced=self.spaced)
        words: set[Any] = set()
        for start, end, is_multiword in spans:
            parts = self.splitter.words(text[start:end], is_multiword=is_multiword)
            words.update((start, end, i, part if len(parts) > 1 else "") for i, part in enumerate(parts))
        return words, sentence_spans(spans, tags), {(start, end) for start, end, _ in spans}


class _CharacterIds(dict[str, int]):
    """The id of each character; one that is not in the vocabulary has the id of its category."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__((entry, id) for id, entry in enumerate(tokenizer.entries, len(tokenize.SPECIALS)))
        self._first = tokenizer.size

    def category(self, character: str) -> int:
        """Return the id of the category of a character."""
        return self._first + CATEGORIES.index(unicodedata.category(character))

    def __missing__(self, character: str) -> int:
        is_space = character != " " and character.isspace() and " " in self
        self[character] = self[" "] if is_space else self.category(character)
        return self[character]


def _targets(text: str, tags: str) -> NDArray[np.int32]:
    """Return the ids of tags; white space has none."""
    ids = [IGNORE if character.isspace() else TAGS.index(tag)
           for character, tag in zip(text, tags, strict=True)]
    return np.array(ids, np.int32)


def _sentences(records: Iterable[Sentence | Window]) -> list[Sentence]:
    return [record for record in records if isinstance(record, Sentence)]


def _token_words(sentence: Sentence) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield each token and its words."""
    ends = dict(sentence.multiword or ())
    text, offsets, first = text_of(sentence), sentence.offsets or [], 0
    while first < len(offsets):
        end = ends.get(first, first + 1)
        yield text[slice(*offsets[first])], tuple(sentence.words[first:end])
        first = end


def _text(record: Sentence | Window) -> str:
    return record.text if isinstance(record, Window) else text_of(record)


def _core(record: Sentence | Window) -> tuple[int, int]:
    """Return the range of characters of a record that are to be tagged."""
    return (record.start, record.end) if isinstance(record, Window) else (0, len(text_of(record)))


def _letters(record: Sentence | Window, tags: NDArray[np.intp]) -> str:
    """Return the letters of a record's tags (T,). Nothing ends inside what a reader sees as a character."""
    text = _text(record)
    letters = _CODES[tags[: len(text)]].tobytes().decode()
    if not text.isascii():
        letters = "".join(INSIDE if _continues(*pair) else letter for letter, pair in zip(
            letters, pairwise(text + " "), strict=True))
    return letters[slice(*_core(record))]


def _continues(character: str, following: str) -> bool:
    """Return whether a character goes on in the following one; that may be a combining mark."""
    return (following in LATER_PARTS or unicodedata.category(following).startswith("M")
            or (character == JOINER and not following.isspace()))


def _best_tags(probs: NDArray[Any]) -> NDArray[np.intp]:
    """Return the ids of the best tags, given the probabilities of all.

    Decide first whether a sentence or a token ends, and then whether that is a multiword token, whose tag
    follows that of other tokens in `TAGS`.
    """
    inside, word, multiword, sentence, both = np.moveaxis(probs, -1, 0)
    is_multiword = (multiword + both > word + sentence).astype(np.intp)
    ends = np.where(sentence + both > 0.5, TAGS.index(SENTENCE), TAGS.index(WORD)) + is_multiword
    return np.where((inside > 0.5) & (sentence + both <= 0.5), TAGS.index(INSIDE), ends)


def _mistakes(
    paragraphs: Sequence[GoldParagraph], results: Sequence[tuple[str, NDArray[np.float32]]]
) -> list[Mistake]:
    """Return the wrong tags, the most probable ones first."""
    mistakes = []
    for paragraph, (tags, probs) in zip(paragraphs, results, strict=True):
        for i, (gold, tag) in enumerate(zip(paragraph.tags, tags, strict=True)):
            if gold != tag and not paragraph.text[i].isspace():
                record = paragraph.record_at(i)
                place = paragraph.places[record - paragraph.first]
                mistakes.append(Mistake(
                    prob=float(probs[i, TAGS.index(tag)]), gold=MEANINGS[gold], predicted=MEANINGS[tag],
                    context=excerpt(paragraph.text, i, i + 1), place=place, record=record))
    mistakes.sort(key=lambda mistake: -mistake["prob"])
    return mistakes
