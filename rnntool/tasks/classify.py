"""Text classification: one or several labels for each text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from rnntool import tokenize
from rnntool.data.arrays import IGNORE, Arrays, by_length, pad, softmax
from rnntool.data.formats import OnUnlabeled, read_texts, reject
from rnntool.data.formats.results import label_results
from rnntool.data.labels import Labels
from rnntool.data.reading import USUAL_LAYOUT, Layout
from rnntool.data.records import Text
from rnntool.data.streams import Lines
from rnntool.errors import DataError, setting
from rnntool.evaluation import metrics
from rnntool.evaluation.calibration import Calibration, equal_weight, fit_temperature, fit_weight
from rnntool.models.config import ClassifierHeadConfig, EncoderConfig, NetworkConfig, ObjectiveConfig
from rnntool.tasks.base import Baseline, Criterion, Engine, Evaluation, Mistake, RowNames, Task, listed
from rnntool.tasks.network_config import balanced_weights, encoder_config, from_settings, word_config
from rnntool.tasks.ngrams import NGrams
from rnntool.tasks.specs.classify import SPEC, ClassifySettings
from rnntool.tasks.word_features import WordFeatures, reads_spelling
from rnntool.tokenize import PAD, Tokenizer, WordTokenizer

MULTI_LABEL_THRESHOLD = 0.5
MOST_REFITTED = 10_000  # texts; with more of them, a tenth more changes nothing
PIECE = 1 << 14  # tokens of a text that a network reads at once; a longer text is read in pieces


@dataclass(slots=True)
class ClassifyExample:
    """A text as words, or as token ids if the network has no word features, and the ids of its labels."""

    tokens: Sequence[str] | NDArray[np.int32]
    labels: tuple[int, ...] | None


@dataclass(slots=True)
class Classified:
    """The labels of a text."""

    ranked: list[tuple[str, float]]  # all labels or the requested number, the most probable first
    chosen: list[str]  # the predicted labels


class ClassifyTask(Task[Text, ClassifyExample, ClassifySettings]):
    """Classifies texts. If training texts have several labels or none, each label is decided separately."""

    spec = SPEC
    criterion = Criterion("accuracy", higher_is_better=True, metric=metrics.accuracy, per_record=True)

    def __init__(
        self, tokenizer: Tokenizer, features: WordFeatures | None, labels: Labels, *, multi_label: bool,
        settings: ClassifySettings, ngrams: NGrams | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.features = features
        self.ngrams = ngrams
        self.labels = labels
        self._names = np.array(labels.names, object)
        self.multi_label = multi_label
        self.settings = settings

    # --- Records, and what is learned from them ------------------------------------------------------------

    @classmethod
    def read(
        cls, lines: Lines, format: str, settings: ClassifySettings, *, targets: bool,
        on_unlabeled: OnUnlabeled = reject, layout: Layout = USUAL_LAYOUT,
    ) -> Iterator[Text]:
        label_column = settings.label_column or "label"
        return read_texts(
            lines, format=format, text_column=settings.text_column if targets else None,
            default_text_column=settings.text_column,
            label_column=label_column if targets else None, default_label_column=label_column,
            need_labels=targets, on_unlabeled=on_unlabeled, layout=layout)

    @classmethod
    def header(cls, settings: ClassifySettings, text_column: str | None) -> Collection[str]:
        return super().header(settings.replace(label_column=settings.label_column or "label"), text_column)

    @classmethod
    def labels_of(cls, record: Text, settings: ClassifySettings) -> Collection[tuple[int, str]]:
        return {(0, label) for label in record.labels}

    @classmethod
    def learn(
        cls, records: Sequence[Text], settings: ClassifySettings, *, raw: Sequence[Text] = (),
        vectors: Sequence[str] = (), base: Tokenizer | None = None, characters: Tokenizer | None = None,
        target_base: Tokenizer | None = None,
    ) -> Self:
        """Learn labels from training texts, and a vocabulary from these and `raw` texts."""
        labels = _label_counts(records)
        if not records:
            raise DataError(place="training data", expected=SPEC.learns_from, found="none",
                            advice="give files that have some")
        if len(labels) < 2:
            raise DataError(
                place="training data", expected="at least 2 different labels",
                found=f"only {next(iter(labels))!r}" if labels else "none",
                advice=f"check {setting('label_column')}")
        texts = [record.text for record in (*records, *raw)]
        tokenizer = tokenize.train(
            settings.tokenizer, texts, vocab_size=settings.vocab_size, lower=settings.lower,
            min_count=settings.min_count if settings.tokenizer == "word" else 1,
            split="words", allow_empty=reads_spelling(settings), base=base,
        )
        features = None
        if isinstance(tokenizer, WordTokenizer):
            counts = Counter(word for text in texts for word in tokenizer.surface_forms(text))
            features = WordFeatures.learn(counts, settings, tokenizer, vectors=vectors)
        task = cls(tokenizer, features, Labels.from_counts(labels),
                   multi_label=any(len(record.labels) != 1 for record in records), settings=settings)
        if features and settings.ngrams:
            task.fit_ngrams([task.example(record, targets=True) for record in records])
        return task

    def fit_ngrams(self, examples: Sequence[ClassifyExample]) -> None:
        """Fit the classifier of n-grams to training texts."""
        targets = np.zeros((len(examples), len(self.labels)), np.float32)
        for target, example in zip(targets, examples, strict=True):
            target[list(example.labels or ())] = 1
        self.ngrams = NGrams.fit(
            [list(map(str, example.tokens)) for example in examples], targets, multi_label=self.multi_label,
            label_weights=np.array(self.objective(examples).label_weights, np.float32))

    def refit(self, examples: Sequence[ClassifyExample], records: Sequence[Text]) -> None:
        if self.ngrams and len(examples) + len(records) <= MOST_REFITTED:
            factor = self.ngrams.factor
            self.fit_ngrams([*examples, *(self.example(record, targets=True) for record in records)])
            self.ngrams.multiply(factor)

    def learned(self) -> str:
        return f"{listed(self.labels.names, 'labels')}; {super().learned()}"

    def unseen_labels(self, records: Sequence[Text]) -> dict[str, int]:
        return metrics.unseen_labels(_label_counts(records), self.labels)

    # --- In a model folder ---------------------------------------------------------------------------------

    def config(self) -> dict[str, Any]:
        return {"tokenizer": self.tokenizer.config(), "multi_label": self.multi_label,
                "features": self.features.config() if self.features else None,
                **({"ngrams": True} if self.ngrams else {})}

    def save(self, folder: Path) -> None:
        self.tokenizer.save(folder)
        self.labels.save(folder)
        if self.features:
            self.features.save(folder)
        if self.ngrams:
            self.ngrams.save(folder)

    @classmethod
    def load(cls, folder: Path, config: Mapping[str, Any], settings: ClassifySettings) -> Self:
        tokenizer = tokenize.load(folder, config["tokenizer"])
        features = None
        if isinstance(tokenizer, WordTokenizer):
            features = WordFeatures.load(folder, config["features"], tokenizer)
        labels = Labels.load(folder)
        ngrams = NGrams.load(folder, labels=len(labels)) if config.get("ngrams") else None
        return cls(tokenizer, features, labels, multi_label=config["multi_label"], settings=settings,
                   ngrams=ngrams)

    @classmethod
    def label_names(cls, folder: Path, settings: ClassifySettings) -> Sequence[str]:
        return Labels.load(folder).names

    # --- The network ---------------------------------------------------------------------------------------

    def sizes(self) -> dict[str, int]:
        inputs = self.features.sizes() if self.features else {"vocabulary": self.tokenizer.size}
        return inputs | {"outputs": len(self.labels)}

    def network_config(
        self, *, vector_size: int = 0, context: tuple[EncoderConfig, bool] | None = None
    ) -> NetworkConfig:
        settings, sizes = self.settings, self.sizes()
        return NetworkConfig(
            encoder=encoder_config(
                settings, sizes, word=word_config(settings, sizes, vector_size) if self.features else None,
                # a bag of words has no direction
                bidirectional=settings.bidirectional and settings.encoder != "bag"),
            head=from_settings(ClassifierHeadConfig, settings, outputs=sizes["outputs"],
                               multi_label=self.multi_label))

    def objective(self, examples: Sequence[ClassifyExample]) -> ObjectiveConfig:
        settings = self.settings
        weights: tuple[float, ...] = ()
        if settings.class_weights == "balanced":
            counts = np.zeros(len(self.labels))
            for example in examples:
                counts[list(example.labels or ())] += 1
            weights = balanced_weights([counts])
        reads_words = settings.encoder == "rnn" and self.features is not None
        return from_settings(ObjectiveConfig, settings, label_weights=weights,
                             auxiliary_lm=settings.neighbours if reads_words else 0.0)

    def row_names(self) -> RowNames:
        return self.features.row_names() if self.features else super().row_names()

    # --- Arrays --------------------------------------------------------------------------------------------

    def example(self, record: Text, *, targets: bool = False) -> ClassifyExample:
        tokens: Sequence[str] | NDArray[np.int32]
        if self.features:
            tokens = self.features.tokenizer.surface_forms(record.text)
        else:
            tokens = np.array(self.tokenizer.encode(record.text), np.int32)
        labels = tuple(self.labels.get(label, IGNORE) for label in record.labels) if targets else None
        return ClassifyExample(tokens, labels)

    def parts(self, example: ClassifyExample) -> list[ClassifyExample]:
        return [ClassifyExample(example.tokens[start:end], example.labels)
                for start, end in _pieces(len(example.tokens))]

    def unlabeled_examples(self, records: Iterable[Text]) -> list[ClassifyExample]:
        examples = map(self.example, (record for record in records if record.text.strip()))
        return [part for example in examples for part in self.parts(example)]

    def length(self, example: ClassifyExample) -> int:
        return len(example.tokens)

    def collate(self, examples: Sequence[ClassifyExample]) -> Arrays:
        rows: list[Any] = [example.tokens for example in examples]
        if self.features:
            arrays = self.features.collate(rows)
        else:
            tokens, lengths = pad(rows, PAD)
            arrays = {"tokens": tokens, "lengths": lengths}
        targets = self._all_labels(examples) if self.multi_label else self._first_labels(examples)
        return arrays | {"targets": targets}

    def encode(self, records: Sequence[Text], *, targets: bool = False) -> Arrays:
        examples = [self.example(record, targets=targets) for record in records]
        arrays = self.collate(examples)
        return arrays | {"ngram_scores": self._ngram_scores(examples)} if self.ngrams else arrays

    def batches(self, engine: Engine, batches: Sequence[Sequence[ClassifyExample]]) -> list[Arrays]:
        if not self.features:
            return super().batches(engine, batches)
        rows: list[list[Any]] = [[example.tokens for example in batch] for batch in batches]
        batched = self.features.batches(engine, rows, {})
        if self.ngrams:
            scores = self._ngram_scores([example for batch in batches for example in batch])
            ends = np.cumsum([len(batch) for batch in rows[:-1]])
            for arrays, of_batch in zip(batched, np.split(scores, ends), strict=True):
                arrays["ngram_scores"] = of_batch
        return batched

    def _ngram_scores(self, examples: Sequence[ClassifyExample]) -> NDArray[np.float32]:
        """Return the scores (B, L) of the n-grams, which training steps do not need."""
        assert self.ngrams
        texts: list[Any] = [example.tokens for example in examples]
        return self.ngrams.scores(texts)

    def _first_labels(self, examples: Sequence[ClassifyExample]) -> NDArray[np.int64]:
        """Return the first label of each example, (B,); `IGNORE` for an example without labels."""
        return np.array([example.labels[0] if example.labels else IGNORE for example in examples], np.int64)

    def _all_labels(self, examples: Sequence[ClassifyExample]) -> NDArray[np.int64]:
        """Return 1 for each label that an example has and 0 for the others, (B, L).

        The row of an example without targets is `IGNORE`.
        """
        targets = np.zeros((len(examples), len(self.labels)), np.int64)
        for target, example in zip(targets, examples, strict=True):
            if example.labels is None:
                target[:] = IGNORE
            else:
                target[[label for label in example.labels if label != IGNORE]] = 1
        return targets

    def run(self, engine: Engine, arrays: Arrays) -> Arrays:
        """Compute the logits of a batch: those of the network, plus the scores of the n-grams."""
        logits = self._network_logits(engine, arrays)
        return {"logits": logits + arrays["ngram_scores"] if self.ngrams else logits}

    def _network_logits(self, engine: Engine, arrays: Arrays) -> NDArray[Any]:
        """Compute the logits of the network; for a very long text, the weighted mean over its pieces."""
        name = "words" if self.features else "tokens"
        if len(arrays[name]) <= PIECE:
            return engine.run(arrays)["logits"]
        total = np.zeros((len(arrays["lengths"]), len(self.labels)), np.float32)
        for start, end in _pieces(len(arrays[name])):
            lengths = np.clip(arrays["lengths"] - start, 0, end - start).astype(np.int32)
            outputs = engine.run({**arrays, name: arrays[name][start:end], "lengths": lengths})
            total += outputs["logits"] * lengths[:, None]
        return total / np.maximum(1, arrays["lengths"])[:, None]

    def spans(self, record: Text) -> tuple[str, list[tuple[int, int]]]:
        return record.text, [(token.start, token.end) for token in self.tokenizer.tokens(record.text)]

    # --- Results -------------------------------------------------------------------------------------------

    def probabilities(self, outputs: Arrays) -> NDArray[Any]:
        """Return the probabilities (B, L) of the labels of a batch."""
        logits = outputs["logits"]
        return 1 / (1 + np.exp(-logits)) if self.multi_label else softmax(logits)

    def decode(self, records: Sequence[Text], outputs: Arrays, *, top: int | None = None) -> list[Classified]:
        """Rank the `top` most probable labels of each record of a batch; by default all labels."""
        return self.rank(self.probabilities(outputs), top=top)

    def rank(self, probs: NDArray[Any], *, top: int | None = None) -> list[Classified]:
        """Rank the `top` most probable labels of each row of `probs` (B, L); by default all labels."""
        if top == 1 and not self.multi_label:
            best = probs.argmax(axis=1)
            pairs = zip(self._names[best].tolist(), probs[np.arange(len(best)), best].tolist(), strict=True)
            return [Classified([pair], [pair[0]]) for pair in pairs]
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

    # --- How good a network is -----------------------------------------------------------------------------

    def score(self, engine: Engine, records: Sequence[Text]) -> dict[str, float]:
        """Compute only the accuracy, which is faster than the whole report.

        The n-grams have the weight that is expected before it is fitted in `calibrate`.
        """
        logits, ngrams = self._logits_apart(engine, [self.example(record) for record in records])
        if self.ngrams:
            logits += self.ngrams.expected_weight * equal_weight(logits, ngrams) * ngrams
        return {self.criterion.key: self._accuracy(records, logits)}

    def evaluate(self, engine: Engine, records: Sequence[Text], *, mistakes: int = 0) -> Evaluation:
        """Compute accuracy, macro F1, scores per label, a confusion matrix, and the calibration error."""
        examples = [self.example(record) for record in records]
        top = None if self.multi_label else 1
        results = self.decode(records, {"logits": self._logits(engine, examples)}, top=top)
        gold = [list(record.labels) for record in records]
        correct = [set(labels) == set(result.chosen) for labels, result in zip(gold, results, strict=True)]
        label_counts = _label_counts(records)
        report = {
            "records": len(records),
            "tokens": sum(len(example.tokens) for example in examples),
            **metrics.classification_report(gold, [result.chosen for result in results]),
            "ece": self._calibration_error(gold, results),
            "unseen_labels": metrics.unseen_labels(label_counts, self.labels),
        }
        wrong = [_mistake(i, records[i], results[i], multi_label=self.multi_label)
                 for i, right in enumerate(correct) if mistakes and not right]
        return Evaluation(
            report=report, counts=np.array([(right, 1) for right in correct], np.float64).reshape(-1, 2),
            mistakes=sorted(wrong, key=lambda mistake: -mistake["prob"])[:mistakes],
            gold=label_counts, trained_labels=self.labels.names)

    def predictions(self, engine: Engine, records: Sequence[Text]) -> list[dict[str, Any]]:
        logits = self._logits(engine, [self.example(record) for record in records])
        answers = []
        for record, result in zip(records, self.decode(records, {"logits": logits}), strict=True):
            one = not self.multi_label and len(record.labels) == 1
            answers.append({
                "gold": record.labels[0] if one else list(record.labels),
                **({"predicted": result.chosen} if self.multi_label else {}),
                **label_results(result.ranked, None, several=self.multi_label)})
        return answers

    def baseline(self, examples: Sequence[ClassifyExample], records: Sequence[Text]) -> Baseline:
        """Give each text the labels that are most frequent in the training data."""
        ((labels, _),) = Counter(frozenset(example.labels or ()) for example in examples).most_common(1)
        names = {self.labels.names[i] for i in labels}
        correct = [names == set(record.labels) for record in records]
        answer = " and ".join(map(repr, sorted(names))) or "no label"
        return Baseline(f"always {answer}", float(np.mean(correct)))

    def linear_baseline(self, records: Sequence[Text]) -> Baseline | None:
        if not self.ngrams or not records:
            return None
        scores = self._ngram_scores([self.example(record) for record in records])
        return Baseline("the n-gram classifier alone", self._accuracy(records, scores))

    def _accuracy(self, records: Sequence[Text], logits: NDArray[Any]) -> float:
        """Return the share of records whose labels are all right."""
        results = self.decode(records, {"logits": logits}, top=1)
        correct = [set(result.chosen) == set(record.labels)
                   for record, result in zip(records, results, strict=True)]
        return float(np.mean(correct)) if correct else 0.0

    def _calibration_error(self, gold: Sequence[Sequence[str]], results: Sequence[Classified]) -> float:
        """Compute the calibration error of the predicted labels; with several labels, of each decision."""
        confidence, correct = [], []
        for labels, result in zip(gold, results, strict=True):
            for name, p in result.ranked if self.multi_label else result.ranked[:1]:
                is_chosen = name in result.chosen
                confidence.append(p if is_chosen else 1 - p)
                correct.append(is_chosen == (name in labels))
        return metrics.calibration_error(confidence, correct)

    def weigh(self, engine: Engine, records: Sequence[Text]) -> None:
        """Fit the weight of the n-grams; with several labels per text, to the binary decisions."""
        if self.ngrams:
            examples = [self.example(record, targets=True) for record in records]
            logits, ngrams = self._logits_apart(engine, examples)
            self.ngrams.multiply(fit_weight(
                self._decisions(logits, examples)[0], *self._decisions(ngrams, examples),
                expected=self.ngrams.expected_weight * equal_weight(logits, ngrams)))

    def calibrate(self, engine: Engine, records: Sequence[Text]) -> Calibration:
        """Fit one temperature for all labels; with several labels per text, to the binary decisions."""
        examples = [self.example(record, targets=True) for record in records]
        logits = self._logits(engine, examples)
        gold = [list(record.labels) for record in records]
        top = None if self.multi_label else 1
        error = self._calibration_error(gold, self.decode(records, {"logits": logits}, top=top))
        return Calibration((fit_temperature(*self._decisions(logits, examples)),), error)

    def _decisions(
        self, logits: NDArray[Any], examples: Sequence[ClassifyExample]
    ) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Return the scores (D, C) and the targets (D,) of each decision between C labels, or no and yes."""
        if self.multi_label:
            return np.stack([np.zeros(logits.size), logits.ravel()], 1), self._all_labels(examples).ravel()
        targets = self._first_labels(examples)
        return logits[targets != IGNORE], targets[targets != IGNORE]

    def apply_temperatures(self, *temperatures: float) -> None:
        if self.ngrams:
            self.ngrams.multiply(1 / temperatures[0])

    def _logits(self, engine: Engine, examples: Sequence[ClassifyExample]) -> NDArray[Any]:
        """Compute the logits (N, L) of all examples."""
        logits, ngrams = self._logits_apart(engine, examples)
        total: NDArray[Any] = logits + ngrams
        return total

    def _logits_apart(
        self, engine: Engine, examples: Sequence[ClassifyExample]
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Compute the network's logits of all examples, and the scores of their n-grams; both are (N, L)."""
        logits, ngrams = np.zeros((2, len(examples), len(self.labels)), np.float32)
        for batch in by_length([len(example.tokens) for example in examples], self.budget):
            chosen = [examples[i] for i in batch]
            logits[batch] = self._network_logits(engine, self.collate(chosen))
            if self.ngrams:
                ngrams[batch] = self._ngram_scores(chosen)
        return logits, ngrams


def _label_counts(records: Sequence[Text]) -> Counter[str]:
    """Count how many records have each label."""
    return Counter(label for record in records for label in record.labels)


def _pieces(length: int) -> list[tuple[int, int]]:
    """Cut a text of this length into as few pieces of similar size as possible: their starts and ends."""
    count = -(-length // PIECE) or 1  # rounded up
    size, longer = divmod(length, count)
    return list(pairwise(accumulate([size + (i < longer) for i in range(count)], initial=0)))


def _mistake(i: int, record: Text, result: Classified, *, multi_label: bool) -> Mistake:
    """Describe a wrong answer, with the probability of its most confident wrong decision."""
    wrong = set(result.chosen) ^ set(record.labels) if multi_label else set(result.chosen)
    confidence = (p if name in result.chosen else 1 - p for name, p in result.ranked if name in wrong)
    return Mistake(prob=max(confidence, default=0.0), gold=",".join(record.labels),
                   predicted=",".join(result.chosen), context=" ".join(record.text.split()),
                   place=record.place, record=i)
