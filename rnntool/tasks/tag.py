"""Sequence tagging, many to many: one tag for each word of a sentence (parts of speech, named entities)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from rnntool import tokenize
from rnntool.data.arrays import IGNORE, Arrays, by_length, pad
from rnntool.data.formats import read_sentences, split_columns
from rnntool.data.labels import Labels, load_labels, save_labels
from rnntool.data.records import Sentence, Tagged
from rnntool.data.streams import Lines
from rnntool.errors import DataError
from rnntool.evaluation import metrics
from rnntool.evaluation.calibration import Calibration
from rnntool.models import linear_chain
from rnntool.tasks.base import (
    Engine,
    Evaluation,
    Mistake,
    Ready,
    RowNames,
    Task,
    always,
    excerpt,
)
from rnntool.tasks.character_context import CharacterText, Spelled
from rnntool.tasks.document_context import (
    BREAK,
    passages,
    starts,
    where,
)
from rnntool.tasks.specs.tag import SPEC, TagSettings
from rnntool.tasks.tag_column import (
    JUDGED_SCHEME,
    WORDS,
    Chain,
    Judged,
    ScoredBatch,
    TagColumn,
)
from rnntool.tasks.word_features import WordFeatures, spelled
from rnntool.tokenize import (
    UNK,
    Tokenizer,
    WordTokenizer,
    split_words,
)

PIECE = 1 << 14  # words of a sentence that a network reads at once: more than of any batch of several
CONTEXT = 1 << 9  # and those on either side that it reads besides; what is farther off tells it nothing
RAW_PIECE = 128  # words of raw text that are learned at once, where a line has more


@dataclass(slots=True)
class TagExample:
    """A sentence as rows of the word table, and the ids of each column's tags where it has tags.

    Or a passage: its sentences, of so many words each, with a row of BREAK between; tags are those of words.
    """

    rows: NDArray[np.int32]
    tags: list[NDArray[np.int32]] | None
    spelled: Spelled | None = None
    sizes: tuple[int, ...] = ()  # of a passage


class TagTask(Task[Sentence, TagExample, Tagged, TagSettings]):
    """Tags words, in one column or in several side by side, the first of which is the one that counts."""

    spec = SPEC
    name = SPEC.name
    criterion = WORDS  # of plain tags; where the first column has spans, that of spans

    def __init__(
        self, features: WordFeatures, columns: Sequence[TagColumn], *, settings: TagSettings,
        characters: Tokenizer | None = None,
    ) -> None:
        """`characters` are those of the language model that is read beside words."""
        self.features = features
        self.tokenizer = features.tokenizer
        self.context = CharacterText(characters) if characters is not None else None
        self.columns = tuple(columns)
        self.settings = settings
        self.crf = settings.head == "crf"
        # a network that never met a BREAK, having learned from no documents, reads each sentence alone, and
        # so does one that reads characters beside words
        known = self.tokenizer.lookup([BREAK]) != [UNK]
        self.passage = settings.passage if known and self.context is None else 0
        self.criterion = self.columns[0].criterion

    @property
    def labels(self) -> Labels:
        """The labels of the first column."""
        return self.columns[0].labels

    @property
    def scheme(self) -> str | None:
        """The scheme of the first column; None for plain tags."""
        return self.columns[0].scheme

    @classmethod
    def read(cls, lines: Lines, format: str, settings: TagSettings, *, targets: bool) -> Iterator[Sentence]:
        return read_sentences(
            lines, format=format, column=settings.column, split=split_words, need_tags=targets)

    @classmethod
    def learn(
        cls, records: Sequence[Sentence], settings: TagSettings, *, raw: Sequence[Sentence] = (),
        vectors: Sequence[str] = (), base: Tokenizer | None = None, characters: Tokenizer | None = None,
    ) -> Self:
        """Words, characters and labels of training sentences; of `raw` ones words and characters, too."""
        counts = Counter(word for sentence in records for word in sentence.words)
        if not counts:
            raise DataError("training data: expected tagged sentences, found none; give files that have some")
        counts.update(word for sentence in raw for word in sentence.words)
        if settings.passage and not settings.features:
            counts[BREAK] += sum(record.document is not None for record in records)
        names = split_columns(settings.column)
        columns = [
            TagColumn.learn(sequences, f" in column {name}" if name else "")
            for name, sequences in zip(names, zip(*map(_columns, records), strict=True), strict=True)]
        tokenizer = WordTokenizer.from_counts(
            counts, vocab_size=settings.vocab_size, min_count=settings.min_count, lower=settings.lower,
            allow_empty=spelled(settings), base=base)
        features = WordFeatures.learn(counts, settings, tokenizer, vectors=vectors)
        return cls(features, columns, settings=settings, characters=characters)

    def config(self) -> dict[str, Any]:
        columns = [{"labels": len(column.labels), "scheme": column.scheme} for column in self.columns]
        return {"tokenizer": self.tokenizer.config(), "features": self.features.config(),
                "columns": columns, "context": self.context.config() if self.context else None}

    def save(self, folder: Path) -> None:
        self.tokenizer.save(folder)
        self.features.save(folder)
        save_labels([column.labels for column in self.columns], folder)

    @classmethod
    def load(cls, folder: Path, config: Mapping[str, Any], settings: TagSettings) -> Self:
        tokenizer = WordTokenizer.load(folder, config["tokenizer"])
        features = WordFeatures.load(folder, config["features"], tokenizer)
        labels = load_labels(folder, [column["labels"] for column in config["columns"]])
        schemes = [column["scheme"] for column in config["columns"]]
        context = config.get("context")
        characters = tokenize.from_characters(**context) if context else None
        return cls(features, list(map(TagColumn, labels, schemes)), settings=settings, characters=characters)

    def sizes(self) -> dict[str, int]:
        return self.features.sizes() | {"outputs": sum(len(column.labels) for column in self.columns)}

    def row_names(self) -> RowNames:
        return replace(self.features.row_names(), context=self.context.config() if self.context else None)

    def example(self, record: Sentence, *, targets: bool = False) -> TagExample:
        tags = None
        if targets:
            pairs = zip(self.columns, _columns(record), strict=True)
            tags = [column.ids(gold, column.scheme, IGNORE) for column, gold in pairs]
        spelled = self.context.example(record.words) if self.context else None
        return TagExample(self.features.rows(record.words), tags, spelled)

    def passages(self, records: Iterable[Sentence], ready: Ready = always) -> Iterator[list[Sentence]]:
        return passages(records, self.passage, ready)

    def records(self, example: TagExample) -> int:
        return max(1, len(example.sizes))

    def join(self, examples: Sequence[TagExample]) -> TagExample:
        if not self.passage:
            return super().join(examples)
        mark = self.features.rows([BREAK])
        rows = [part for example in examples if len(example.rows) for part in (mark, example.rows)][1:]
        tags = [example.tags for example in examples if example.tags is not None]
        joined = [np.concatenate(column) for column in zip(*tags, strict=True)] if tags else None
        sizes = tuple(len(example.rows) for example in examples)
        return TagExample(np.concatenate(rows or [mark[:0]]), joined, sizes=sizes)

    def unlabelled(self, records: Iterable[Sentence]) -> list[TagExample]:
        """What is learned from sentences whose tags, if any, don't count: pieces, as a line may be long."""
        pieces = [self.features.rows(record.words[start : start + RAW_PIECE])
                  for record in records for start in range(0, len(record.words), RAW_PIECE)]
        return [self.join([TagExample(rows, [np.full(len(rows), IGNORE, np.int32)] * len(self.columns))])
                for rows in pieces]

    def forget(self) -> None:
        self.features.trim()

    def prepare(self, engine: Engine) -> None:
        others = self.context.collate([self.context.example([""])]) if self.context else {}
        self.features.compute(engine, others)

    def spans(self, record: Sentence) -> tuple[str, list[tuple[int, int]]]:
        """The words in their text, or joined by spaces where the text is not known."""
        if record.text is not None and record.offsets is not None:
            return record.text, list(record.offsets)
        ends = np.cumsum([len(word) + 1 for word in record.words]).tolist()
        return " ".join(record.words), [(end - len(word) - 1, end - 1)
                                        for word, end in zip(record.words, ends, strict=True)]

    def length(self, example: TagExample) -> int:
        return len(example.rows)

    def run(self, engine: Engine, arrays: Arrays) -> Arrays:
        """The emissions of a batch's sentences; a very long one is read in pieces: memory stays flat."""
        outputs = self._read(engine, arrays)
        if "sentences" in arrays:
            outputs["emissions"] = outputs["emissions"][tuple(arrays["sentences"])]
        return outputs

    def _read(self, engine: Engine, arrays: Arrays) -> Arrays:
        """The emissions of a batch's rows, BREAKs and all."""
        steps = len(arrays["words"])
        if steps <= PIECE:
            return engine.run(arrays)
        pieces = []
        for start in range(0, steps, PIECE):
            first = max(0, start - CONTEXT)
            words = arrays["words"][first : start + PIECE + CONTEXT]
            lengths = np.clip(arrays["lengths"] - first, 0, len(words)).astype(np.int32)
            piece = self.context.piece(arrays, first, first + len(words)) if self.context else {}
            outputs = engine.run({**arrays, **piece, "words": words, "lengths": lengths})
            pieces.append(outputs["emissions"][start - first :][:PIECE])
        return {**outputs, "emissions": np.concatenate(pieces)}

    def collate(self, examples: Sequence[TagExample]) -> Arrays:
        arrays = self.features.collate([example.rows for example in examples])
        if self.context:
            arrays |= self.context.collate([example.spelled for example in examples if example.spelled])
        if self.passage:
            arrays["sentences"] = where([example.sizes or (len(example.rows),) for example in examples])
        tags = [tags for example in examples for tags in _tags_by_sentence(example)]
        if tags:
            arrays["targets"] = np.stack([pad(column, IGNORE)[0] for column in zip(*tags, strict=True)])
        return arrays

    def decode(
        self, records: Sequence[Sentence], outputs: Arrays, *, probs: bool = False, nbest: int = 0,
        scheme: str | None = None, threshold: float = 0.0,
    ) -> list[Tagged]:
        """The tags of a batch, in `scheme` (IOB2 where spans are tagged and nothing else is asked).

        With `probs`, the probability of each word's first tag as it is written, or was before the model
        abstained; with `nbest`, that many best sequences and their log-probabilities. Where the tag of a
        word, or of any word of a span, is less probable than `threshold`, the model abstains: `O` for spans,
        `_` for other tags.
        """
        lengths = np.fromiter((len(record.words) for record in records), np.int32, len(records))
        scheme = scheme or "iob2"
        decoded: list[list[list[str]]] = []  # of each column, of each sentence
        certain: list[list[float]] | None = None
        for column, emissions, learned in self._scores(outputs):
            inner = column.tags(column.best(emissions, lengths, learned), lengths)
            written = [column.outer(tags, scheme) for tags in inner]
            if threshold or (probs and not decoded):
                sure = column.probs(written, emissions, lengths, learned, scheme)
                if threshold:
                    written = [column.abstain(*pair, scheme, threshold)
                               for pair in zip(written, sure, strict=True)]
                certain = certain or sure
            decoded.append(written)
        tagged = [Tagged(first, more_tags=more) for first, *more in zip(*decoded, strict=True)]
        if probs and certain:
            for result, values in zip(tagged, certain, strict=True):
                result.probs = values
        if nbest:
            self._add_nbest(tagged, outputs, lengths, nbest, scheme)
        return tagged

    def _add_nbest(
        self, tagged: list[Tagged], outputs: Arrays, lengths: NDArray[np.int32], k: int, scheme: str
    ) -> None:
        column, emissions, learned = self._scores(outputs)[0]
        found = linear_chain.nbest(emissions, lengths, *column.chain(learned), k=k)
        for result, paths in zip(tagged, found, strict=True):
            result.nbest = [(column.outer([column.labels.names[i] for i in path], scheme), score)
                            for path, score in paths]

    def evaluate(self, engine: Engine, records: Sequence[Sentence], *, mistakes: int = 0) -> Evaluation:
        """Accuracy of words, known ones and others; of spans precision, recall and F1; calibration.

        Of several columns, the report of each further one is under `columns`, by name; `accuracy_all` asks
        for all tags of a word. Columns that the records lack are left out.
        """
        results = self._answers(engine, records, probs=True)
        there = min((1 + len(record.more_tags) for record in records), default=1)
        judged = [self._judged(i, records, results) for i in range(min(there, len(self.columns)))]
        words = (word for sentence in records for word in sentence.words)
        known = np.array(self.features.tokenizer.lookup(words), np.int64) != UNK  # (words,)
        reports = [column.report(known) for column in judged]
        right = [column.right() for column in judged]
        report = {"records": len(records), **reports[0], "ece": _calibration_error(judged[0], results)}
        if len(judged) > 1:
            report["accuracy_all"] = float(np.all(right, axis=0).mean()) if len(known) else 0.0
            names = map(str, split_columns(self.settings.column)[1:])
            report["columns"] = dict(zip(names, reports[1:], strict=False))
        first = judged[0]
        return Evaluation(
            report=report, counts=first.counts(), gold=first.labels, known=first.known,
            mistakes=_mistakes(records, first.gold, results, mistakes) if mistakes else [])

    def unseen_labels(self, records: Sequence[Sentence]) -> dict[str, int]:
        found = Counter[str]()
        for i, column in enumerate(self.columns):
            found.update(column.unseen_labels([_columns(record)[i] for record in records]))
        return dict(found)

    def score(self, engine: Engine, records: Sequence[Sentence]) -> dict[str, float]:
        """The criterion alone, faster than the whole report; of several columns their mean, and each one."""
        results = self._answers(engine, records)
        figures = [float(column.criterion.figure(self._judged(i, records, results).counts().sum(axis=0)))
                   for i, column in enumerate(self.columns)]
        if len(figures) == 1:
            return {self.criterion.key: figures[0]}
        names = (name or self.criterion.key for name in split_columns(self.settings.column))
        return {"mean": sum(figures) / len(figures), **dict(zip(names, figures, strict=True))}

    def calibrate(self, engine: Engine, records: Sequence[Sentence]) -> Calibration:
        """A temperature for each column; with a CRF it is that of the whole chain's scores."""
        batches: list[list[ScoredBatch]] = [[] for _ in self.columns]
        learned: list[Chain | None] = [None for _ in self.columns]
        results: dict[int, Tagged] = {}
        schemes = [column.found_scheme(_columns(record)[k] for record in records)
                   for k, column in enumerate(self.columns)]
        for batch, sentences, outputs in self._outputs(engine, records):
            for k, (column, emissions, chain) in enumerate(self._scores(outputs)):
                gold = [column.ids(_columns(sentence)[k], schemes[k], IGNORE) for sentence in sentences]
                targets, lengths = pad(gold, IGNORE)
                batches[k].append((emissions, lengths, targets))
                learned[k] = chain
            decoded = self.decode(sentences, outputs, probs=True, scheme=JUDGED_SCHEME)
            results |= zip(batch, decoded, strict=True)
        temperatures = [column.temperature(scored, chain) for column, scored, chain in
                        zip(self.columns, batches, learned, strict=True)]
        answers = [results[i] for i in range(len(records))]
        error = _calibration_error(self._judged(0, records, answers), answers)
        return Calibration(tuple(temperatures), error)

    def _answers(
        self, engine: Engine, records: Sequence[Sentence], *, probs: bool = False
    ) -> list[Tagged]:
        """The tags, in IOB2, of each record of a file that fits in memory."""
        results: dict[int, Tagged] = {}
        for batch, sentences, outputs in self._outputs(engine, records):
            decoded = self.decode(sentences, outputs, probs=probs, scheme=JUDGED_SCHEME)
            results |= zip(batch, decoded, strict=True)
        return [results[i] for i in range(len(records))]

    def _outputs(
        self, engine: Engine, records: Sequence[Sentence]
    ) -> Iterator[tuple[list[int], list[Sentence], Arrays]]:
        """Batches of like length: the places of their records, these, and what the network gives for them."""
        together = list(self.passages(records))
        ends = np.cumsum([len(passage) for passage in together])
        lengths = [starts([len(sentence.words) for sentence in passage])[-1] for passage in together]
        for batch in by_length(lengths, self.budget):
            places = [i for k in batch for i in range(ends[k] - len(together[k]), ends[k])]
            examples = [self.join(list(map(self.example, together[k]))) for k in batch]
            yield places, [records[i] for i in places], self.run(engine, self.collate(examples))

    def _judged(self, i: int, records: Sequence[Sentence], results: Sequence[Tagged]) -> Judged:
        """Column `i` of records and answers."""
        return self.columns[i].judge([_columns(record)[i] for record in records],
                                     [(result.tags, *result.more_tags)[i] for result in results])

    def _scores(self, outputs: Arrays) -> list[tuple[TagColumn, NDArray[Any], Chain | None]]:
        """Each column with its emissions (T, B, L), and what the CRF, which only the first has, learned."""
        cuts = np.cumsum([len(column.labels) for column in self.columns])[:-1]
        emissions = np.split(outputs["emissions"], cuts, axis=-1)
        learned = (outputs["start"], outputs["transitions"], outputs["end"]) if self.crf else None
        return list(zip(self.columns, emissions, [learned, *[None] * len(cuts)], strict=True))


def _tags_by_sentence(example: TagExample) -> list[list[NDArray[np.int32]]]:
    """The ids of each column's tags, of the sentence or of each one of the passage; none without tags."""
    if example.tags is None:
        return []
    if not example.sizes:
        return [example.tags]
    cuts = np.cumsum(example.sizes)[:-1]
    return [list(columns) for columns in zip(*(np.split(tags, cuts) for tags in example.tags), strict=True)]


def _mistakes(
    records: Sequence[Sentence], gold: Sequence[Sequence[str]], results: Sequence[Tagged], k: int
) -> list[Mistake]:
    """The `k` wrong tags of the first column that are the most probable."""
    wrong = [(p, i, j) for i, (tags, result) in enumerate(zip(gold, results, strict=True))
             for j, p in enumerate(result.probs or ()) if tags[j] != result.tags[j]]
    found = []
    for p, i, j in sorted(wrong, key=lambda place: -place[0])[:k]:
        words = records[i].words
        start = sum(len(word) + 1 for word in words[:j])
        found.append(Mistake(prob=p, gold=gold[i][j], predicted=results[i].tags[j],
                             context=excerpt(" ".join(words), start, start + len(words[j]))))
    return found


def _calibration_error(judged: Judged, results: Sequence[Tagged]) -> float:
    """How far the probabilities of the first column's tags are from how often they are right."""
    return metrics.calibration_error([p for result in results for p in result.probs or ()], judged.right())


def _columns(sentence: Sentence) -> tuple[list[str], ...]:
    """The sentence's gold tags, column by column."""
    return (sentence.tags or [], *sentence.more_tags)
