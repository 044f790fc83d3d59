"""Text classification, many to one: a label, or several, for each text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from rnntool import decoding, metrics, tokenize
from rnntool.config import ClassifySettings
from rnntool.errors import DataError
from rnntool.formats import Text, read_texts
from rnntool.labels import Labels
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
    pad,
)
from rnntool.tasks.words import WordFeatures, spelled
from rnntool.tokenize import PAD, Tokenizer, WordTokenizer

MULTI_LABEL_THRESHOLD = 0.5


@dataclass(slots=True)
class ClassifyExample:
    """A text as token ids (or rows of the word table), and its labels' ids; None where it came without."""

    tokens: NDArray[np.int32]
    labels: tuple[int, ...] | None


@dataclass(slots=True)
class Classified:
    """Labels with their probabilities, most probable first. `chosen` are the ones the model settles on."""

    ranked: list[tuple[str, float]]
    chosen: list[str]


class ClassifyTask(Task[Text, ClassifyExample, Classified]):
    """Labels texts. Where training texts carry several labels each label is a decision of its own."""

    name = "classify"
    criterion = Criterion("accuracy", higher_is_better=True)

    def __init__(
        self, tokenizer: Tokenizer, features: WordFeatures | None, labels: Labels, *, multi_label: bool,
        settings: ClassifySettings,
    ) -> None:
        self.tokenizer = tokenizer
        self.features = features
        self.labels = labels
        self.multi_label = multi_label
        self.settings = settings

    @classmethod
    def read(cls, lines: Lines, format: str, settings: Any, *, targets: bool) -> Iterator[Text]:
        label_column = settings.label_column or "label" if targets else None
        records = read_texts(
            lines, format=format, text_column=settings.text_column, label_column=label_column)
        return map(_labelled, records) if targets else records

    @classmethod
    def learn(cls, records: Sequence[Text], settings: Any, **extras: Any) -> Self:
        """Vocabulary and labels of training texts."""
        assert isinstance(settings, ClassifySettings)
        labels = Counter(label for record in records for label in record.labels)
        if not records:
            raise DataError("training data: want labelled texts, found none")
        if len(labels) < 2:
            found = f"only {next(iter(labels))!r}" if labels else "none"
            raise DataError(f"training data: want at least 2 different labels, found {found}; "
                            "see --label-column")
        texts = [record.text for record in records]
        tokenizer = tokenize.train(
            settings.tokenizer, texts, vocab_size=settings.vocab_size, lower=settings.lower,
            min_count=settings.min_count if settings.tokenizer == "word" else 1,
            split="words", bare=spelled(settings),
        )
        features = None
        if isinstance(tokenizer, WordTokenizer):
            counts = Counter(word for text in texts for word in tokenizer.surfaces(text))
            features = WordFeatures.learn(counts, settings, tokenizer, vectors=extras.get("vectors", ()))
        return cls(tokenizer, features, Labels.from_counts(labels),
                   multi_label=any(len(record.labels) > 1 for record in records), settings=settings)

    def config(self) -> dict[str, Any]:
        return {"tokenizer": self.tokenizer.config(), "multi_label": self.multi_label,
                "features": self.features.config() if self.features else None}

    def save(self, folder: Path) -> None:
        self.tokenizer.save(folder)
        self.labels.save(folder)
        if self.features:
            self.features.save(folder)

    @classmethod
    def load(cls, folder: Path, config: Mapping[str, Any], settings: Any) -> Self:
        tokenizer = tokenize.load(folder, config["tokenizer"])
        features = None
        if isinstance(tokenizer, WordTokenizer):
            features = WordFeatures.load(folder, config["features"], tokenizer)
        labels = Labels.load(folder)
        return cls(tokenizer, features, labels, multi_label=config["multi_label"], settings=settings)

    def sizes(self) -> dict[str, int]:
        inputs = self.features.sizes() if self.features else {"vocabulary": self.tokenizer.size}
        return inputs | {"outputs": len(self.labels)}

    def example(self, record: Text, *, targets: bool = False) -> ClassifyExample:
        if self.features:
            assert isinstance(self.tokenizer, WordTokenizer)
            tokens = self.features.rows(self.tokenizer.surfaces(record.text))
        else:
            tokens = np.array(self.tokenizer.encode(record.text), np.int32)
        labels = None
        if targets:
            labels = tuple(self.labels.get(label, IGNORE) for label in record.labels)
        return ClassifyExample(tokens, labels)

    def forget(self) -> None:
        if self.features:
            self.features.trim()

    def length(self, example: ClassifyExample) -> int:
        return len(example.tokens)

    def collate(self, examples: Sequence[ClassifyExample]) -> Arrays:
        rows = [example.tokens for example in examples]
        if self.features:
            arrays = self.features.collate(rows)
        else:
            tokens, lengths = pad(rows, PAD)
            arrays = {"tokens": tokens, "lengths": lengths}
        if self.multi_label:
            arrays["targets"] = np.zeros((len(examples), len(self.labels)), np.int64)
            for target, example in zip(arrays["targets"], examples, strict=True):
                target[[label for label in example.labels or () if label != IGNORE]] = 1
        elif all(example.labels for example in examples):
            firsts = [example.labels[0] for example in examples if example.labels]
            arrays["targets"] = np.array(firsts, np.int64)
        return arrays

    def decode(self, records: Sequence[Text], outputs: Arrays) -> list[Classified]:
        """Ranked labels of a batch."""
        logits = outputs["logits"]  # (B, L)
        probs = 1 / (1 + np.exp(-logits)) if self.multi_label else decoding.softmax(logits)
        order = np.argsort(-probs, axis=1, kind="stable")
        names = np.array(self.labels.names, object)[order].tolist()
        values = np.take_along_axis(probs, order, 1).tolist()
        results = []
        for row, p in zip(names, values, strict=True):
            ranked = list(zip(row, p, strict=True))
            chosen = row[:1]
            if self.multi_label:
                chosen = [name for name, prob in ranked if prob >= MULTI_LABEL_THRESHOLD]
            results.append(Classified(ranked, chosen))
        return results

    def report(self, engine: Engine, records: Iterable[Text]) -> dict[str, Any]:
        """Accuracy, macro F1, per label figures and the confusion of labels."""
        gold, predicted = [], []
        tokens = 0
        for record, example, result in self._predict(engine, list(records)):
            gold.append(list(record.labels))
            predicted.append(result.chosen)
            tokens += len(example.tokens)
        report = metrics.classification_report(gold, predicted)
        return {"records": len(gold), "tokens": tokens} | report

    def mistakes(self, engine: Engine, records: Sequence[Text], k: int) -> list[Mistake]:
        found = []
        for record, _, result in self._predict(engine, records):
            if set(result.chosen) != set(record.labels):
                prob = max((p for name, p in result.ranked if name not in record.labels), default=0.0)
                found.append(Mistake(
                    prob=prob, gold=",".join(record.labels), predicted=",".join(result.chosen),
                    context=" ".join(record.text.split())))
        return sorted(found, key=lambda mistake: -mistake["prob"])[:k]

    def _predict(
        self, engine: Engine, records: Sequence[Text]
    ) -> Iterator[tuple[Text, ClassifyExample, Classified]]:
        """Each record of a file that fits in memory with its labels, in any order."""
        examples = [self.example(record) for record in records]
        for batch in by_length([len(example.tokens) for example in examples], EVALUATION_BUDGET):
            outputs = engine.run(self.collate([examples[i] for i in batch]))
            results = self.decode([records[i] for i in batch], outputs)
            for i, result in zip(batch, results, strict=True):
                yield records[i], examples[i], result

    def score(self, engine: Engine, records: Sequence[Text]) -> float:
        """The criterion alone."""
        return float(self.report(engine, records)[self.criterion.key])


def _labelled(record: Text) -> Text:
    if not record.labels:
        raise DataError(f"{record.place}: want a label, found none; see --label-column and --from")
    return record
