"""Segmentation: running text becomes sentences, words and multiword tokens, by a tag for each character."""

from __future__ import annotations

import random
import unicodedata
from bisect import bisect
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
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
    tokens,
    windows,
)
from rnntool.tasks.specs.segment import SPEC, SegmentSettings
from rnntool.tokenize import PAD, Tokenizer, split_words

LAYOUTS = 4  # of the training text, each with other line breaks and windows
BREAK_SHARE = 0.1  # of the sentence ends, after which a layout ends a paragraph
DOUBLE_SPACE_SHARE = 0.01  # of the spaces, which a layout doubles
HIDDEN_SHARE = 0.03  # of the characters of a window that are read as their category
CATEGORIES = (
    "Cc", "Cf", "Cn", "Co", "Cs", "Ll", "Lm", "Lo", "Lt", "Lu", "Mc", "Me", "Mn", "Nd", "Nl", "No", "Pc",
    "Pd", "Pe", "Pf", "Pi", "Po", "Ps", "Sc", "Sk", "Sm", "So", "Zl", "Zp", "Zs")
MEANINGS = {INSIDE: "no end", WORD: "end of a word", MULTIWORD: "end of a multiword token",
            SENTENCE: "end of a sentence", MULTIWORD_SENTENCE: "end of a sentence and a multiword token"}
UNITS = ("word", "sentence", "token")  # that are evaluated
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
        sentences = [record for record in records if isinstance(record, Sentence)]
        texts = [_text(record) for record in sentences]
        tokenizer = tokenize.train("char", [*texts, " \n" * settings.min_count],
                                   min_count=settings.min_count, base=base)
        splitter = MultiwordSplitter.learn(
            (text[slice(*(sentence.offsets or [])[first])], tuple(sentence.words[first:end]))
            for sentence, text in zip(sentences, texts, strict=True)
            for first, end in sentence.multiword or () if end - first > 1)
        spaced = any(any(map(str.isspace, text[slice(*offsets)]))
                     for sentence, text in zip(sentences, texts, strict=True)
                     for offsets in sentence.offsets or ())
        return cls(tokenizer, splitter, spaced=spaced, settings=settings)

    @classmethod
    def doubts(
        cls, records: Sequence[Sentence | Window], settings: SegmentSettings
    ) -> Iterator[str]:
        sentences = [record for record in records if isinstance(record, Sentence)]
        if sentences and all(end == len(text) or text[end].isspace()
                             for text, record in zip(map(_text, sentences), sentences, strict=True)
                             for _, end in record.offsets or ()):
            yield "no token has SpaceAfter=No, so the segmenter learns that spaces surround every token"

    def learned(self) -> str:
        forms = f"; {len(self.splitter.forms):,} multiword tokens" if self.splitter.forms else ""
        return super().learned() + forms

    # --- In a model folder ---------------------------------------------------------------------------------

    def config(self) -> dict[str, Any]:
        return {"tokenizer": self.tokenizer.config(), "multiword": len(self.splitter.forms),
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
        tags = None
        if targets and isinstance(record, Sentence):
            tags = _targets(text, gold_tags(record))
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
        """Lay out the text several times with random breaks, and cut it into random windows."""
        rng = random.Random(self.settings.seed)
        examples: list[SegmentExample] = []
        for _ in range(LAYOUTS):
            for paragraph in _paragraphs(records, rng):
                text, tags = _laid_out(paragraph, rng)
                examples += self._window_examples(text, tags, rng)
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
        return [_CODES[row[slice(*_core(record))]].tobytes().decode() for record, row in rows]

    # --- How good a network is -----------------------------------------------------------------------------

    def score(self, engine: Engine, records: Sequence[Sentence | Window]) -> dict[str, float]:
        counts = self._counts(_gold(records), self._results(engine, records)).sum(axis=0)
        return {f"{unit}_f1": float(metrics.f1(counts[3 * i : 3 * i + 3])) for i, unit in enumerate(UNITS)}

    def selection_score(self, scores: Mapping[str, float]) -> float:
        """Return the mean F1 of words and sentences."""
        return (scores["word_f1"] + scores["sentence_f1"]) / 2

    def evaluate(
        self, engine: Engine, records: Sequence[Sentence | Window], *, mistakes: int = 0
    ) -> Evaluation:
        """Compute precision, recall and F1 of words, sentences and tokens, compared by their characters.

        The sentences of a paragraph are read as running text. The words of a multiword token also have to be
        the same. A mistake is a wrong tag of a character.
        """
        gold, results = _gold(records), self._results(engine, records)
        counts = self._counts(gold, results)
        sums = counts.sum(axis=0)
        report: dict[str, Any] = {"records": len(records)}
        for i, unit in enumerate(UNITS):
            correct, predicted, real = sums[3 * i : 3 * i + 3]
            report |= {f"{unit}_f1": float(metrics.f1(sums[3 * i : 3 * i + 3])),
                       f"{unit}_precision": float(correct / predicted) if predicted else 0.0,
                       f"{unit}_recall": float(correct / real) if real else 0.0}
        return Evaluation(report=report, counts=counts,
                          mistakes=_mistakes(gold, results)[:mistakes] if mistakes else [])

    def predictions(
        self, engine: Engine, records: Sequence[Sentence | Window]
    ) -> list[dict[str, Any]]:
        answers: list[dict[str, Any]] = [
            {"gold": record.words, "words": []} for record in records if isinstance(record, Sentence)]
        for paragraph, (tags, _) in zip(_gold(records), self._results(engine, records), strict=True):
            for start, end, is_multiword in tokens(paragraph.text, tags, spaced=self.spaced):
                token = paragraph.text[start:end]
                record = paragraph.records[bisect(paragraph.starts, start) - 1]
                answers[record]["words"] += self.splitter.split(token) if is_multiword else [token]
        return answers

    def _results(
        self, engine: Engine, records: Sequence[Sentence | Window]
    ) -> list[tuple[str, NDArray[np.float32]]]:
        """Tag the paragraphs of records; return the tags of each, and the probabilities of all tags."""
        lines = (Sentence([], text=text) for paragraph in _gold(records) for text in (paragraph.text, ""))
        each = list(windows(lines, always))
        examples = list(map(self.example, each))
        parts: dict[int, NDArray[np.float32]] = {}
        for batch in by_length([len(example.tokens) for example in examples], self.budget):
            outputs = self.run(engine, self.collate([examples[i] for i in batch]))
            probs = softmax(outputs["emissions"]).transpose(1, 0, 2)  # (B, T, tags)
            parts |= {i: row[slice(*_core(each[i]))] for i, row in zip(batch, probs, strict=True)}
        results: list[tuple[str, NDArray[np.float32]]] = []
        paragraph: list[NDArray[np.float32]] = []
        for i, window in enumerate(each):
            paragraph.append(parts[i])
            if window.ends_paragraph:
                probs = np.concatenate(paragraph)
                results.append((_CODES[_best_tags(probs)].tobytes().decode(), probs))
                paragraph = []
            elif not window.text:
                paragraph = []
        return results

    def _counts(
        self, gold: Sequence[_Paragraph], results: Sequence[tuple[str, NDArray[np.float32]]]
    ) -> Counts:
        """Count for each record the correct, predicted and gold words, and the same of sentences and tokens.

        A predicted unit belongs to the record in which it starts.
        """
        rows: list[list[int]] = []
        for paragraph, (tags, _) in zip(gold, results, strict=True):
            counts = [[0] * (3 * len(UNITS)) for _ in paragraph.starts]
            predicted = self._units(paragraph.text, tags)
            for i, (found, real) in enumerate(zip(predicted, paragraph.units(self.spaced), strict=True)):
                for column, units in enumerate((found & real, found, real)):
                    for unit in units:
                        counts[bisect(paragraph.starts, unit[0]) - 1][3 * i + column] += 1
            rows += counts
        return np.array(rows, np.float64).reshape(-1, 3 * len(UNITS))

    def _units(self, text: str, tags: str) -> tuple[set[Any], ...]:
        """Return the words, sentences and tokens of a tagged text."""
        words: set[Any] = set()
        spans = tokens(text, tags, spaced=self.spaced)
        for start, end, is_multiword in spans:
            parts = self.splitter.split(text[start:end]) if is_multiword else ()
            words.update((start, end, i, part) for i, part in enumerate(parts) if len(parts) > 1)
            if len(parts) < 2:
                words.add((start, end, 0, ""))
        return words, _sentence_spans(spans, tags), {(start, end) for start, end, _ in spans}


class _CharacterIds(dict[str, int]):
    """The id of each character; one that is not in the vocabulary has the id of its category."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__((entry, id) for id, entry in enumerate(tokenizer.entries, len(tokenize.SPECIALS)))
        self._first = tokenizer.size

    def category(self, character: str) -> int:
        """Return the id of the category of a character."""
        return self._first + CATEGORIES.index(unicodedata.category(character))

    def __missing__(self, character: str) -> int:
        known = " " if character.isspace() and " " in self else character
        self[character] = self[known] if known != character else self.category(character)
        return self[character]


@dataclass(slots=True)
class _Paragraph:
    """Records that are read as one text, with its gold tags."""

    text: str
    tags: str
    starts: list[int]  # of the records
    records: list[int]  # their indexes
    places: list[str]
    words: set[Any]

    def units(self, spaced: bool) -> tuple[set[Any], ...]:
        """Return the gold words, sentences and tokens."""
        spans = tokens(self.text, self.tags, spaced=spaced)
        return self.words, _sentence_spans(spans, self.tags), {(start, end) for start, end, _ in spans}


def _sentence_spans(spans: Sequence[tuple[int, int, bool]], tags: str) -> set[Any]:
    """Return the start and end of each sentence, given the tokens of a text; the last token ends one."""
    sentences = set()
    first: int | None = None
    for i, (start, end, _) in enumerate(spans):
        first = start if first is None else first
        if tags[end - 1] in (SENTENCE, MULTIWORD_SENTENCE) or i == len(spans) - 1:
            sentences.add((first, end))
            first = None
    return sentences


def gold_tags(sentence: Sentence) -> str:
    """Return a tag for each character of a sentence that has tokens."""
    tags = [INSIDE] * len(_text(sentence))
    offsets = sentence.offsets or []
    for _, end in offsets:
        tags[end - 1] = WORD
    for first, _ in sentence.multiword or ():
        tags[offsets[first][1] - 1] = MULTIWORD
    if offsets:
        last = offsets[-1][1] - 1
        tags[last] = MULTIWORD_SENTENCE if tags[last] == MULTIWORD else SENTENCE
    return "".join(tags)


def _gold(records: Sequence[Sentence | Window]) -> list[_Paragraph]:
    """Join the sentences of each paragraph into a text with single spaces."""
    paragraphs: list[_Paragraph] = []
    sentences = [record for record in records if isinstance(record, Sentence)]
    numbered = enumerate(sentences)
    for _, group in groupby(numbered, lambda pair: id(pair[1].document)):
        paragraph = _Paragraph("", "", [], [], [], set())
        for i, sentence in group:
            start = len(paragraph.text)
            paragraph.starts.append(start)
            paragraph.records.append(i)
            paragraph.places.append(sentence.place)
            space = " " if sentence.space_after else ""
            paragraph.text += _text(sentence) + space
            paragraph.tags += gold_tags(sentence) + INSIDE * len(space)
            offsets = [(start + a, start + b) for a, b in sentence.offsets or ()]
            words: list[Any] = [(a, b, 0, "") for a, b in offsets]
            for first, end in sentence.multiword or ():
                if end - first > 1:
                    words[first:end] = [
                        (*offsets[j], j - first, sentence.words[j]) for j in range(first, end)]
            paragraph.words.update(words)
        paragraphs.append(paragraph)
    return paragraphs


def _paragraphs(
    records: Sequence[Sentence | Window], rng: random.Random
) -> Iterator[list[Sentence]]:
    """Yield the sentences in random paragraphs, none of which goes beyond one of the treebank's."""
    paragraph: list[Sentence] = []
    for record in records:
        if not isinstance(record, Sentence):
            continue
        if paragraph and (record.document is not paragraph[0].document or rng.random() < BREAK_SHARE):
            yield paragraph
            paragraph = []
        paragraph.append(record)
    if paragraph:
        yield paragraph


def _laid_out(sentences: Sequence[Sentence], rng: random.Random) -> tuple[str, str]:
    """Join sentences into a text with its tags: on one line, on lines of some width, or each on its own."""
    text = tags = ""
    width, line_each = rng.choice(((0, False), (0, False), (rng.randint(40, 120), False), (0, True)))
    for sentence in sentences:
        space = ("\n" if line_each else " ") if sentence.space_after else ""
        text += _text(sentence) + space
        tags += gold_tags(sentence) + INSIDE * len(space)
    characters, letters = [], []
    column = 0
    for character, tag in zip(text.rstrip(), tags, strict=False):
        if character == " " and width and column >= width:
            character = "\n"
        elif character == " " and rng.random() < DOUBLE_SPACE_SHARE:
            characters.append(" ")
            letters.append(INSIDE)
        column = 0 if character == "\n" else column + 1
        characters.append(character)
        letters.append(tag)
    return "".join(characters), "".join(letters)


def _targets(text: str, tags: str) -> NDArray[np.int32]:
    """Return the ids of tags; white space has none."""
    ids = [IGNORE if character.isspace() else TAGS.index(tag)
           for character, tag in zip(text, tags, strict=True)]
    return np.array(ids, np.int32)


def _text(record: Sentence | Window) -> str:
    if record.text is None:  # a sentence of words only
        return " ".join(record.words)
    return record.text


def _core(record: Sentence | Window) -> tuple[int, int]:
    """Return the range of characters of a record that are to be tagged."""
    return (record.start, record.end) if isinstance(record, Window) else (0, len(_text(record)))


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
    gold: Sequence[_Paragraph], results: Sequence[tuple[str, NDArray[np.float32]]]
) -> list[Mistake]:
    """Return the wrong tags, the most probable ones first."""
    mistakes = []
    for paragraph, (tags, probs) in zip(gold, results, strict=True):
        for i, (right, tag) in enumerate(zip(paragraph.tags, tags, strict=True)):
            if right != tag and not paragraph.text[i].isspace():
                record = bisect(paragraph.starts, i) - 1
                mistakes.append(Mistake(
                    prob=float(probs[i, TAGS.index(tag)]), gold=MEANINGS[right], predicted=MEANINGS[tag],
                    context=excerpt(paragraph.text, i, i + 1), place=paragraph.places[record],
                    record=paragraph.records[record]))
    mistakes.sort(key=lambda mistake: -mistake["prob"])
    return mistakes
