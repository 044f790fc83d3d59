"""Text classification, many to one: a label, or several, for each text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from rnntool import tokenize
from rnntool.data.arrays import IGNORE, Arrays, by_length, pad, softmax
from rnntool.data.formats import read_texts
from rnntool.data.labels import Labels
from rnntool.data.records import Text
from rnntool.data.streams import Lines
from rnntool.errors import DataError
from rnntool.evaluation import metrics
from rnntool.evaluation.calibration import Calibration, fit_temperature
from rnntool.tasks.base import (
    Criterion,
    Engine,
    Evaluation,
    Mistake,
    RowNames,
    Task,
)
from rnntool.tasks.specs.classify import SPEC, ClassifySettings
from rnntool.tasks.word_features import WordFeatures, spelled
from rnntool.tokenize import PAD, Tokenizer, WordTokenizer

MULTI_LABEL_THRESHOLD = 0.5
PIECE = 1 << 14  # tokens of a text that a network reads at once: more than of any batch of several


@dataclass(slots=True)
class ClassifyExample:
    """A text as token ids (or rows of the word table), and its labels' ids; None where it came without."""

    tokens: NDArray[np.int32]
    labels: tuple[int, ...] | None


@dataclass(slots=True)
class Classified:
    """Labels with their probabilities, most probable first: all, or as many as were asked for.

    `chosen` are the ones the model settles on.
    """

    ranked: list[tuple[str, float]]
    chosen: list[str]


class ClassifyTask(Task[Text, ClassifyExample, Classified, ClassifySettings]):
    """Labels texts. Where training texts carry several labels each label is a decision of its own."""

    spec = SPEC
    name = SPEC.name
    criterion = Criterion("accuracy", higher_is_better=True, figure=metrics.accuracy)

    def __init__(
        self, tokenizer: Tokenizer, features: WordFeatures | None, labels: Labels, *, multi_label: bool,
        settings: ClassifySettings,
    ) -> None:
        self.tokenizer = tokenizer
        self.features = features
        self.labels = labels
        self._names = np.array(labels.names, object)
        self.multi_label = multi_label
        self.settings = settings

    @classmethod
    def read(cls, lines: Lines, format: str, settings: ClassifySettings, *, targets: bool) -> Iterator[Text]:
        label_column = settings.label_column or "label" if targets else None
        records = read_texts(
            lines, format=format, text_column=settings.text_column, label_column=label_column,
            default_label_column=settings.label_column or "label")
        return (_labelled(record, label_column) for record in records) if label_column else records

    @classmethod
    def learn(
        cls, records: Sequence[Text], settings: ClassifySettings, *, raw: Sequence[Text] = (),
        vectors: Sequence[str] = (), base: Tokenizer | None = None, characters: Tokenizer | None = None,
    ) -> Self:
        """Vocabulary and labels of training texts; of `raw` ones the vocabulary, too."""
        labels = Counter(label for record in records for label in record.labels)
        if not records:
            raise DataError("training data: expected labelled texts, found none; give files that have some")
        if len(labels) < 2:
            found = f"only {next(iter(labels))!r}" if labels else "none"
            raise DataError(f"training data: expected at least 2 different labels, found {found}; "
                            "see --label-column")
        texts = [record.text for record in (*records, *raw)]
        tokenizer = tokenize.train(
            settings.tokenizer, texts, vocab_size=settings.vocab_size, lower=settings.lower,
            min_count=settings.min_count if settings.tokenizer == "word" else 1,
            split="words", allow_empty=spelled(settings), base=base,
        )
        features = None
        if isinstance(tokenizer, WordTokenizer):
            counts = Counter(word for text in texts for word in tokenizer.surface_forms(text))
            features = WordFeatures.learn(counts, settings, tokenizer, vectors=vectors)
        return cls(tokenizer, features, Labels.from_counts(labels),
                   multi_label=any(len(record.labels) != 1 for record in records), settings=settings)

    def config(self) -> dict[str, Any]:
        return {"tokenizer": self.tokenizer.config(), "multi_label": self.multi_label,
                "features": self.features.config() if self.features else None}

    def save(self, folder: Path) -> None:
        self.tokenizer.save(folder)
        self.labels.save(folder)
        if self.features:
            self.features.save(folder)

    @classmethod
    def load(cls, folder: Path, config: Mapping[str, Any], settings: ClassifySettings) -> Self:
        tokenizer = tokenize.load(folder, config["tokenizer"])
        features = None
        if isinstance(tokenizer, WordTokenizer):
            features = WordFeatures.load(folder, config["features"], tokenizer)
        labels = Labels.load(folder)
        return cls(tokenizer, features, labels, multi_label=config["multi_label"], settings=settings)

    def sizes(self) -> dict[str, int]:
        inputs = self.features.sizes() if self.features else {"vocabulary": self.tokenizer.size}
        return inputs | {"outputs": len(self.labels)}

    def row_names(self) -> RowNames:
        return self.features.row_names() if self.features else super().row_names()

    def example(self, record: Text, *, targets: bool = False) -> ClassifyExample:
        if self.features:
            assert isinstance(self.tokenizer, WordTokenizer)
            tokens = self.features.rows(self.tokenizer.surface_forms(record.text))
        else:
            tokens = np.array(self.tokenizer.encode(record.text), np.int32)
        labels = None
        if targets:
            labels = tuple(self.labels.get(label, IGNORE) for label in record.labels)
        return ClassifyExample(tokens, labels)

    def forget(self) -> None:
        if self.features:
            self.features.trim()

    def prepare(self, engine: Engine) -> None:
        if self.features:
            self.features.compute(engine, {})

    def spans(self, record: Text) -> tuple[str, list[tuple[int, int]]]:
        return record.text, [(token.start, token.end) for token in self.tokenizer.tokens(record.text)]

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
            arrays["targets"] = self._yes_or_no(examples)
        else:
            arrays["targets"] = self._firsts(examples)
        return arrays

    def _firsts(self, examples: Sequence[ClassifyExample]) -> NDArray[np.int64]:
        """The one label of each example, (B,); `IGNORE` where it has none."""
        return np.array([example.labels[0] if example.labels else IGNORE for example in examples], np.int64)

    def _yes_or_no(self, examples: Sequence[ClassifyExample]) -> NDArray[np.int64]:
        """1 for each label that an example has, 0 for the others, (B, L); `IGNORE` where it came without."""
        targets = np.zeros((len(examples), len(self.labels)), np.int64)
        for target, example in zip(targets, examples, strict=True):
            if example.labels is None:
                target[:] = IGNORE
            else:
                target[[label for label in example.labels if label != IGNORE]] = 1
        return targets

    def unlabelled(self, records: Iterable[Text]) -> list[ClassifyExample]:
        """What is learned from texts whose labels, if any, don't count."""
        examples = map(self.example, (record for record in records if record.text.strip()))
        return [part for example in examples for part in self.parts(example)]

    def parts(self, example: ClassifyExample) -> list[ClassifyExample]:
        return [ClassifyExample(tokens, example.labels) for tokens in _pieces(example.tokens)]

    def run(self, engine: Engine, arrays: Arrays) -> Arrays:
        """The logits of a batch; a very long text is read in pieces, whose mean counts by their lengths."""
        name = "words" if self.features else "tokens"
        if len(arrays[name]) <= PIECE:
            return engine.run(arrays)
        total, start = np.zeros((len(arrays["lengths"]), len(self.labels)), np.float32), 0
        for piece in _pieces(arrays[name]):
            lengths = np.clip(arrays["lengths"] - start, 0, len(piece)).astype(np.int32)
            outputs = engine.run({**arrays, name: piece, "lengths": lengths})
            total += outputs["logits"] * lengths[:, None]
            start += len(piece)
        return {"logits": total / np.maximum(1, arrays["lengths"])[:, None]}

    def probabilities(self, outputs: Arrays) -> NDArray[Any]:
        """Probabilities (B, L) of the labels of a batch."""
        logits = outputs["logits"]
        return 1 / (1 + np.exp(-logits)) if self.multi_label else softmax(logits)

    def decode(self, records: Sequence[Text], outputs: Arrays, *, top: int | None = None) -> list[Classified]:
        """Labels of a batch; `top` are ranked, all by default."""
        return self.rank(self.probabilities(outputs), top=top)

    def rank(self, probs: NDArray[Any], *, top: int | None = None) -> list[Classified]:
        """Labels by their probabilities (B, L); `top` are ranked, all by default."""
        if top == 1 and not self.multi_label:
            best = probs.argmax(axis=1)
            found = zip(self._names[best].tolist(), probs[np.arange(len(best)), best].tolist(), strict=True)
            return [Classified([pair], [pair[0]]) for pair in found]
        order = np.argsort(-probs, axis=1, kind="stable")
        names = self._names[order[:, :top]].tolist()
        values = np.take_along_axis(probs, order[:, :top], 1).tolist()
        ranked = [list(zip(row, p, strict=True)) for row, p in zip(names, values, strict=True)]
        if self.multi_label:
            counts = (probs >= MULTI_LABEL_THRESHOLD).sum(axis=1).tolist()
            chosen = [self._names[row[:n]].tolist() for row, n in zip(order, counts, strict=True)]
        else:
            chosen = [row[:1] for row in names]
        return list(map(Classified, ranked, chosen))

    def evaluate(self, engine: Engine, records: Sequence[Text], *, mistakes: int = 0) -> Evaluation:
        """Accuracy, macro F1, per label figures, the confusion of labels, and calibration."""
        examples = [self.example(record) for record in records]
        # the mistakes want the most probable label that a record has not
        top = None if self.multi_label else 1 + max((len(record.labels) for record in records), default=0)
        results = self.decode(records, {"logits": self._logits(engine, examples)}, top=top)
        gold = [list(record.labels) for record in records]
        right = [set(labels) == set(result.chosen) for labels, result in zip(gold, results, strict=True)]
        counted = _counted(records)
        report = {
            "records": len(records),
            "tokens": sum(len(example.tokens) for example in examples),
            **metrics.classification_report(gold, [result.chosen for result in results]),
            "ece": self._calibration_error(gold, results),
            "unseen_labels": metrics.unseen_labels(counted, self.labels),
        }
        wrong = [i for i in range(len(records)) if mistakes and not right[i]]
        found = [_mistake(records[i], results[i], multi_label=self.multi_label) for i in wrong]
        return Evaluation(
            report=report, counts=np.array([(hit, 1) for hit in right], np.float64).reshape(-1, 2),
            mistakes=sorted(found, key=lambda mistake: -mistake["prob"])[:mistakes],
            gold=counted, known=self.labels.names)

    def unseen_labels(self, records: Sequence[Text]) -> dict[str, int]:
        return metrics.unseen_labels(_counted(records), self.labels)

    def _calibration_error(self, gold: Sequence[Sequence[str]], results: Sequence[Classified]) -> float:
        """Of the label that is chosen; where there may be several, of each label's yes or no."""
        sure, right = [], []
        for labels, result in zip(gold, results, strict=True):
            for name, p in result.ranked if self.multi_label else result.ranked[:1]:
                yes = name in result.chosen
                sure.append(p if yes else 1 - p)
                right.append(yes == (name in labels))
        return metrics.calibration_error(sure, right)

    def calibrate(self, engine: Engine, records: Sequence[Text]) -> Calibration:
        """A temperature for all labels; where there may be several, for each label's yes and no."""
        examples = [self.example(record, targets=True) for record in records]
        logits = self._logits(engine, examples)
        gold = [list(record.labels) for record in records]
        top = None if self.multi_label else 1
        error = self._calibration_error(gold, self.decode(records, {"logits": logits}, top=top))
        if self.multi_label:
            scores = np.stack([np.zeros(logits.size), logits.ravel()], axis=1)  # of no and of yes, (N * L, 2)
            targets = self._yes_or_no(examples).ravel()
        else:
            firsts = self._firsts(examples)
            scores, targets = logits[firsts != IGNORE], firsts[firsts != IGNORE]
        return Calibration((fit_temperature(scores, targets),), error)

    def _logits(self, engine: Engine, examples: Sequence[ClassifyExample]) -> NDArray[Any]:
        """The logits (N, L) of the examples of a file that fits in memory."""
        logits = np.zeros((len(examples), len(self.labels)), np.float32)
        for batch in by_length([len(example.tokens) for example in examples], self.budget):
            logits[batch] = self.run(engine, self.collate([examples[i] for i in batch]))["logits"]
        return logits

    def score(self, engine: Engine, records: Sequence[Text]) -> dict[str, float]:
        """The criterion alone, faster than the whole report."""
        logits = self._logits(engine, [self.example(record) for record in records])
        results = self.decode(records, {"logits": logits}, top=1)
        right = [set(result.chosen) == set(record.labels)
                 for record, result in zip(records, results, strict=True)]
        return {self.criterion.key: float(np.mean(right)) if right else 0.0}


def _counted(records: Sequence[Text]) -> Counter[str]:
    """How often the records have each label."""
    return Counter(label for record in records for label in record.labels)


def _pieces(tokens: NDArray[Any]) -> list[NDArray[Any]]:
    """The tokens of a text, (T,) or (T, B), in as few pieces of like length as a network can read."""
    return np.array_split(tokens, -(-len(tokens) // PIECE) or 1)


def _mistake(record: Text, result: Classified, *, multi_label: bool) -> Mistake:
    """How sure the answer was: of a wrong label, or where there may be several of the lack of a right one."""
    wrong = set(result.chosen) ^ set(record.labels) if multi_label else set(result.chosen)
    sure = (p if name in result.chosen else 1 - p for name, p in result.ranked if name in wrong)
    return Mistake(prob=max(sure, default=0.0), gold=",".join(record.labels),
                   predicted=",".join(result.chosen), context=" ".join(record.text.split()))


def _labelled(record: Text, column: str) -> Text:
    # an empty list says that no label fits; anything else that is empty has lost its label
    if not record.labels and (record.fields or {}).get(column) != []:
        raise DataError(f"{record.place}: expected a label, found none; see --label-column and --from")
    return record
