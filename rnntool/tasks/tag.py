"""Sequence tagging, many to many: one tag for each word of a sentence (parts of speech, named entities)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from rnntool import decoding, metrics
from rnntool.config import TagSettings
from rnntool.errors import DataError
from rnntool.formats import Sentence, Tagged, read_sentences
from rnntool.labels import Labels, convert, detect_scheme, spans, tags_from_spans, transition_mask
from rnntool.streams import Lines
from rnntool.tasks.base import (
    EVALUATION_BUDGET,
    IGNORE,
    Arrays,
    Criterion,
    Engine,
    Mistake,
    Task,
    by_length,
    excerpt,
    pad,
)
from rnntool.tasks.words import WordFeatures, spelled
from rnntool.tokenize import WordTokenizer, split_words

INNER_SCHEME = "iobes"  # what networks learn, whatever the file has: ends and single words are told apart


@dataclass(slots=True)
class TagExample:
    """A sentence as rows of the word table, and its tags' ids where it has tags."""

    rows: NDArray[np.int32]
    tags: NDArray[np.int32] | None


class TagTask(Task[Sentence, TagExample, Tagged]):
    """Tags words. With span labels (IOB1, IOB2, IOBES) no invalid sequence leaves."""

    name = "tag"

    def __init__(
        self, features: WordFeatures, labels: Labels, *, scheme: str | None, settings: TagSettings
    ) -> None:
        self.features = features
        self.labels = labels
        self.scheme = scheme
        self.settings = settings
        self.crf = settings.head == "crf"
        self.criterion = Criterion("f1" if scheme else "accuracy", higher_is_better=True)
        masks = transition_mask(labels.names, INNER_SCHEME if scheme else None)
        self._start, self._transitions, self._end = (
            np.where(mask, 0.0, -np.inf).astype(np.float32) for mask in masks)

    @classmethod
    def read(cls, lines: Lines, format: str, settings: Any, *, targets: bool) -> Iterator[Sentence]:
        return read_sentences(
            lines, format=format, column=settings.column, split=split_words, need_tags=targets)

    @classmethod
    def learn(cls, records: Sequence[Sentence], settings: Any, **extras: Any) -> Self:
        """Words, characters and labels of training sentences."""
        assert isinstance(settings, TagSettings)
        counts = Counter(word for sentence in records for word in sentence.words)
        if not counts:
            raise DataError("training data: want tagged sentences, found none")
        scheme = detect_scheme(sentence.tags or () for sentence in records)
        tags = Counter[str]()
        for sentence in records:
            tags.update(_inner(sentence, scheme))
        if len(tags) < 2:
            raise DataError("training data: want at least 2 different tags, found only "
                            f"{next(iter(tags))!r}; see --column")
        tokenizer = WordTokenizer.from_counts(
            counts, vocab_size=settings.vocab_size, min_count=settings.min_count, lower=settings.lower,
            bare=spelled(settings))
        features = WordFeatures.learn(counts, settings, tokenizer, vectors=extras.get("vectors", ()))
        names = _completed(tags) if scheme else tags
        return cls(features, Labels.from_counts(names), scheme=scheme, settings=settings)

    def config(self) -> dict[str, Any]:
        return {"tokenizer": self.features.tokenizer.config(), "features": self.features.config(),
                "scheme": self.scheme}

    def save(self, folder: Path) -> None:
        self.features.tokenizer.save(folder)
        self.features.save(folder)
        self.labels.save(folder)

    @classmethod
    def load(cls, folder: Path, config: Mapping[str, Any], settings: Any) -> Self:
        tokenizer = WordTokenizer.load(folder, config["tokenizer"])
        features = WordFeatures.load(folder, config["features"], tokenizer)
        return cls(features, Labels.load(folder), scheme=config["scheme"], settings=settings)

    def sizes(self) -> dict[str, int]:
        return self.features.sizes() | {"outputs": len(self.labels)}

    def example(self, record: Sentence, *, targets: bool = False) -> TagExample:
        tags = None
        if targets:
            tags = np.array([self.labels.get(tag, IGNORE) for tag in _inner(record, self.scheme)], np.int32)
        return TagExample(self.features.rows(record.words), tags)

    def forget(self) -> None:
        self.features.trim()

    def length(self, example: TagExample) -> int:
        return len(example.rows)

    def collate(self, examples: Sequence[TagExample]) -> Arrays:
        arrays = self.features.collate([example.rows for example in examples])
        tags = [example.tags for example in examples if example.tags is not None]
        if len(tags) == len(examples):
            arrays["targets"] = pad(tags, IGNORE)[0]
        return arrays

    def decode(
        self, records: Sequence[Sentence], outputs: Arrays, *, probs: bool = False, nbest: int = 0,
        scheme: str | None = None, threshold: float = 0.0,
    ) -> list[Tagged]:
        """The tags of a batch, in `scheme` (IOB2 where spans are tagged and nothing else is asked).

        With `probs`, the probability of each word's tag (of its place in the chain with a CRF); with `nbest`,
        that many best sequences and their log-probabilities. Where the tag of a word, or of any word of a
        span, is less probable than `threshold`, the model abstains: `O` for spans, `_` for other tags.
        """
        emissions = outputs["emissions"]  # (T, B, L)
        lengths = np.fromiter((len(record.words) for record in records), np.int32, len(records))
        chain = self._chain(outputs)
        if self.scheme or self.crf:
            ids, _ = decoding.viterbi(emissions, lengths, *chain)
        else:
            ids = emissions.argmax(-1)
        names = np.array(self.labels.names, object)[ids.T]  # (B, T)
        inner = [row[:n].tolist() for row, n in zip(names, lengths, strict=True)]
        certain: list[list[float]] | None = None
        if probs or threshold:
            log_probs = decoding.marginals(emissions, lengths, *chain)
            best = np.exp(np.take_along_axis(log_probs, ids[..., None], -1)[..., 0]).T  # (B, T)
            certain = [row[:n].tolist() for row, n in zip(best, lengths, strict=True)]
            if threshold:
                inner = [self._abstain(*pair, threshold) for pair in zip(inner, certain, strict=True)]
        scheme = scheme or "iob2"
        tagged = [Tagged(self._outer(tags, scheme)) for tags in inner]
        if probs and certain:
            for result, values in zip(tagged, certain, strict=True):
                result.probs = values
        if nbest:
            found = decoding.nbest(emissions, lengths, *chain, k=nbest)
            for result, paths in zip(tagged, found, strict=True):
                result.nbest = [(self._outer([self.labels.names[i] for i in path], scheme), score)
                                for path, score in paths]
        return tagged

    def report(self, engine: Engine, records: Iterable[Sentence]) -> dict[str, Any]:
        """Accuracy of words; of spans precision, recall and F1, strict and as conlleval counts."""
        gold, predicted = self._answers(engine, records)
        report = metrics.tagging_report(gold, predicted, "iob2" if self.scheme else None)
        return {"records": len(gold)} | report

    def score(self, engine: Engine, records: Sequence[Sentence]) -> float:
        """The criterion alone, faster than the whole report: strict F1 of spans, or the accuracy of words."""
        gold, predicted = self._answers(engine, records)
        if self.scheme:
            return metrics.span_f1(gold, predicted, "iob2")
        pairs = [(a, b) for g, p in zip(gold, predicted, strict=True) for a, b in zip(g, p, strict=True)]
        return sum(a == b for a, b in pairs) / max(1, len(pairs))

    def mistakes(self, engine: Engine, records: Sequence[Sentence], k: int) -> list[Mistake]:
        found = []
        for sentence, gold, result in self._judged(engine, records, probs=True):
            assert result.probs is not None
            for i, (want, have, p) in enumerate(zip(gold, result.tags, result.probs, strict=True)):
                if want != have:
                    text = " ".join(sentence.words)
                    start = sum(len(word) + 1 for word in sentence.words[:i])
                    found.append(Mistake(prob=p, gold=want, predicted=have,
                                         context=excerpt(text, start, start + len(sentence.words[i]))))
        return sorted(found, key=lambda mistake: -mistake["prob"])[:k]

    def _answers(
        self, engine: Engine, records: Iterable[Sentence]
    ) -> tuple[list[list[str]], list[list[str]]]:
        """Gold tags and predicted ones, in the same order."""
        judged = [(gold, result.tags) for _, gold, result in self._judged(engine, records)]
        return [gold for gold, _ in judged], [predicted for _, predicted in judged]

    def _judged(
        self, engine: Engine, records: Iterable[Sentence], *, probs: bool = False
    ) -> Iterator[tuple[Sentence, list[str], Tagged]]:
        """Each record of a file that fits in memory, its gold tags and its tags in IOB2; in any order."""
        kept = list(records)
        # The file may be in another scheme than the training data was.
        scheme = self.scheme and (detect_scheme(sentence.tags or () for sentence in kept) or self.scheme)
        for batch in by_length([len(sentence.words) for sentence in kept], EVALUATION_BUDGET):
            sentences = [kept[i] for i in batch]
            outputs = engine.run(self.encode(sentences))
            for sentence, result in zip(sentences, self.decode(sentences, outputs, probs=probs), strict=True):
                yield sentence, self._outer(_inner(sentence, scheme), "iob2"), result

    def _chain(self, outputs: Arrays) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Scores of first tags, transitions and last tags: learned by a CRF, else 0; -inf where forbidden."""
        if not self.crf:
            return self._start, self._transitions, self._end
        return (outputs["start"] + self._start, outputs["transitions"] + self._transitions,
                outputs["end"] + self._end)

    def _abstain(self, tags: list[str], probs: list[float], threshold: float) -> list[str]:
        if not self.scheme:
            return [tag if p >= threshold else "_" for tag, p in zip(tags, probs, strict=True)]
        sure = (s for s in spans(tags, INNER_SCHEME) if min(probs[s.start : s.end]) >= threshold)
        return tags_from_spans(sure, len(tags), INNER_SCHEME)

    def _outer(self, tags: list[str], scheme: str) -> list[str]:
        return convert(tags, INNER_SCHEME, scheme) if self.scheme else tags


def _inner(sentence: Sentence, scheme: str | None) -> list[str]:
    """The sentence's gold tags as the network learns them."""
    tags = sentence.tags or []
    return convert(tags, scheme, INNER_SCHEME) if scheme else tags


def _completed(tags: Counter[str]) -> Counter[str]:
    """All IOBES tags of the types seen, so that every span of a known type can be written."""
    types = {tag[2:] for tag in tags if tag != "O"}
    return Counter({"O": tags["O"]} | {f"{p}-{t}": tags[f"{p}-{t}"] for t in types for p in "BIES"})
