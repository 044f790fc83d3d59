"""Sequence tagging: a tag for each word of a sentence (parts of speech, named entities)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, chain, pairwise
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from rnntool import tokenize
from rnntool.data.arrays import IGNORE, Arrays, by_length, pad
from rnntool.data.formats import OnUnlabeled, read_sentences, reject, split_columns
from rnntool.data.formats.results import tag_results
from rnntool.data.labels import SCHEMES, Labels, load_labels, save_labels, span_advice
from rnntool.data.reading import USUAL_LAYOUT, Layout
from rnntool.data.records import Sentence, Tagged
from rnntool.data.streams import Lines
from rnntool.errors import DataError, UsageError, setting
from rnntool.evaluation import metrics
from rnntool.evaluation.calibration import Calibration, fit_weight
from rnntool.models.config import EncoderConfig, NetworkConfig, ObjectiveConfig, TaggerHeadConfig
from rnntool.tasks.base import (
    Baseline,
    Engine,
    Evaluation,
    Mistake,
    Ready,
    RowNames,
    Task,
    always,
    excerpt,
    listed,
)
from rnntool.tasks.character_context import CharacterContext, CharacterSentence
from rnntool.tasks.document_context import (
    SEPARATOR,
    document_groups,
    sentence_places,
    sentence_starts,
    with_separators,
)
from rnntool.tasks.feats_column import FeatsColumn
from rnntool.tasks.head_column import HeadColumn, RelationColumn
from rnntool.tasks.lemma_column import LemmaColumn
from rnntool.tasks.network_config import balanced_weights, encoder_config, from_settings, word_config
from rnntool.tasks.specs.tag import SPEC, TagSettings
from rnntool.tasks.tag_column import EVALUATED_SCHEME, ChainScores, Comparison, ScoredBatch, TagColumn
from rnntool.tasks.window_scores import MOST_LABELS, MOST_WORDS, WindowScores
from rnntool.tasks.word_features import WordFeatures, reads_spelling
from rnntool.tokenize import UNK, Tokenizer, WordTokenizer, split_words

PIECE = 1 << 14  # words of a row that a network reads at once; a longer row is read in pieces
CONTEXT = 1 << 9  # words on each side of a piece that are read with it; more would change nothing
COLUMN_KINDS: dict[str | None, type[TagColumn]] = {
    kind.kind: kind for kind in (  # by column name; None for others
        TagColumn, FeatsColumn, LemmaColumn, HeadColumn, RelationColumn)}
RAW_PIECE = 128  # words of raw text in a training example; a longer line is cut into several


@dataclass(slots=True)
class TagExample:
    """A sentence, or several with document context: `words` has separators between them, `tags` has none."""

    words: Sequence[str]
    tags: list[NDArray[np.int32]] | None  # ids, by column
    characters: CharacterSentence | None = None
    sizes: tuple[int, ...] = ()  # words of each sentence; only with document context


class TagTask(Task[Sentence, TagExample, TagSettings]):
    """Tags words, in one column or in several; the first is the main one."""

    spec = SPEC

    def __init__(
        self, features: WordFeatures, columns: Sequence[TagColumn], *, settings: TagSettings,
        characters: Tokenizer | None = None, window: WindowScores | None = None,
    ) -> None:
        """`characters` is the tokenizer of a character language model."""
        self.features = features
        self.window = window
        self.tokenizer = features.tokenizer
        self.context = CharacterContext(characters) if characters is not None else None
        self.columns = tuple(columns)
        self.settings = settings
        self.crf = settings.head == "crf"
        self.columns[0].crf = self.crf
        # without documents in the training data, the network has not learned the separator
        has_separator = self.tokenizer.lookup([SEPARATOR]) != [UNK]
        self.group_words = settings.passage if has_separator and self.context is None else 0
        self.criterion = self.columns[0].criterion

    @property
    def labels(self) -> Labels:
        """The labels of the first column."""
        return self.columns[0].labels

    @property
    def scheme(self) -> str | None:
        """The scheme of the first column; None for plain tags."""
        return self.columns[0].scheme

    # --- Records, and what is learned from them ------------------------------------------------------------

    @classmethod
    def read(
        cls, lines: Lines, format: str, settings: TagSettings, *, targets: bool,
        on_unlabeled: OnUnlabeled = reject, layout: Layout = USUAL_LAYOUT,
    ) -> Iterator[Sentence]:
        return read_sentences(
            lines, format=format, column=settings.column, word_column=settings.word_column, split=split_words,
            need_tags=targets, on_unlabeled=on_unlabeled, layout=layout)

    @classmethod
    def inseparable_groups(
        cls, records: Sequence[Sentence], settings: TagSettings
    ) -> list[Sequence[int]] | None:
        """Group the sentences that are read together."""
        if not settings.passage:
            return None
        starts = accumulate((len(group) for group in document_groups(records, settings.passage)), initial=0)
        return [range(start, end) for start, end in pairwise(starts)]

    @classmethod
    def isolated(cls, group: Sequence[Sentence]) -> Sequence[Sentence]:
        """Make the group a document of its own, because its neighbors may be held out."""
        document = object()
        return [sentence if sentence.document is None else replace(sentence, document=document)
                for sentence in group]

    @classmethod
    def labels_of(cls, record: Sentence, settings: TagSettings) -> Collection[tuple[int, str]]:
        kinds = _column_kinds(split_columns(settings.column))
        return {(i, tag) for i, (kind, column) in enumerate(zip(kinds, _columns(record), strict=False))
                if kind not in (LemmaColumn, HeadColumn) for tag in column}

    @classmethod
    def learn(
        cls, records: Sequence[Sentence], settings: TagSettings, *, raw: Sequence[Sentence] = (),
        vectors: Sequence[str] = (), base: Tokenizer | None = None, characters: Tokenizer | None = None,
        target_base: Tokenizer | None = None,
    ) -> Self:
        """Learn labels from training sentences, and words and characters from these and `raw` ones."""
        counts = Counter(word for sentence in records for word in sentence.words)
        if not counts:
            raise DataError(place="training data", expected=SPEC.learns_from, found="none",
                            advice="give files that have some")
        counts.update(word for sentence in raw for word in sentence.words)
        if settings.passage and not settings.features:
            counts[SEPARATOR] += sum(record.document is not None for record in records)
        names = split_columns(settings.column)
        words = [record.words for record in records]
        kinds = _column_kinds(names)
        for kind, noun in ((LemmaColumn, "lemmas"), (HeadColumn, "heads"), (RelationColumn, "relations")):
            if kinds.count(kind) > 1:  # lemmas would write the same file, and a sentence has one tree
                raise UsageError(setting="column", expected=f"at most one column of {noun}",
                                 found=repr(settings.column), advice="leave one out")
        if settings.head == "crf" and kinds[0] is HeadColumn:
            raise UsageError(f"{setting('head', 'crf')} can't score heads", setting="column",
                             advice="name another column first")
        columns = [
            kind.learn(words, sequences, f" in column {name}" if name else "")
            for kind, name, sequences in
            zip(kinds, names, zip(*map(_columns, records), strict=True), strict=True)]
        tokenizer = WordTokenizer.from_counts(
            counts, vocab_size=settings.vocab_size, min_count=settings.min_count, lower=settings.lower,
            allow_empty=reads_spelling(settings), base=base)
        features = WordFeatures.learn(counts, settings, tokenizer, vectors=vectors)
        task = cls(features, columns, settings=settings, characters=characters)
        task.check(records)
        if settings.window_scores:
            task.fit_window([task.example(record, targets=True) for record in records])
        return task

    def check(self, records: Iterable[Sentence]) -> None:
        for i, column in enumerate(self.columns):
            if isinstance(column, HeadColumn):
                for record in records:
                    if i <= len(record.more_tags):
                        column.check(record, _columns(record)[i])

    def fit_window(self, examples: Sequence[TagExample]) -> None:
        """Fit the linear classifier to training sentences, unless they are too many for it to help."""
        sentences = list(chain.from_iterable(map(_sentences, examples)))
        sizes = self.distribution_sizes
        useful = any(1 < size <= MOST_LABELS for size in sizes)
        if useful and 0 < sum(map(len, sentences)) <= MOST_WORDS:
            tags = [np.concatenate(column)
                    for column in zip(*(example.tags for example in examples if example.tags), strict=True)]
            label_weights = np.array(self.objective(examples).label_weights, np.float32)
            self.window = WindowScores.fit(sentences, tags, sizes, label_weights=label_weights)

    def refit(self, examples: Sequence[TagExample], records: Sequence[Sentence]) -> None:
        if self.window:
            factors = self.window.factors
            self.fit_window([*examples, *(self.example(record, targets=True) for record in records)])
            self.window.multiply(factors)

    def notices(self) -> Iterator[str]:
        if self.settings.passage and not (self.group_words or self.settings.features):
            yield f"{setting('passage')} has no effect, because no training file has documents"
        for name, column in zip(split_columns(self.settings.column), self.columns, strict=True):
            place = f" in column {name}" if name else ""
            if column.non_span_tags:
                examples = ", ".join(map(repr, column.non_span_tags[:3]))
                yield (f"the tags{place} are learned as plain tags and not as spans, because of {examples}; "
                       "correct these if they are mistakes")
            elif column.scheme is None and (advice := span_advice(column.labels.names)):
                yield f"the tags{place} are learned as plain tags; if they are spans, {advice}"
            if column.scheme:
                yield f"the tags{place} are spans in {column.scheme.upper()}; they are learned as IOBES"

    def learned(self) -> str:
        tags = "; ".join(listed(column.trained_labels(), column.noun) for column in self.columns
                         if not isinstance(column, HeadColumn))
        return f"{tags}; {super().learned()}"

    def unseen_labels(self, records: Sequence[Sentence]) -> dict[str, int]:
        counts = Counter[str]()
        words = [record.words for record in records]
        for i, column in enumerate(self.columns):
            counts.update(column.unseen_labels(words, [_columns(record)[i] for record in records]))
        return dict(counts)

    # --- In a model folder ---------------------------------------------------------------------------------

    def config(self) -> dict[str, Any]:
        columns = [{"labels": len(column.labels), "scheme": column.scheme,
                    **({"kind": column.kind} if column.kind else {})} for column in self.columns]
        return {"tokenizer": self.tokenizer.config(), "features": self.features.config(),
                "columns": columns, "context": self.context.config() if self.context else None,
                **({"window": True} if self.window else {})}

    def save(self, folder: Path) -> None:
        self.tokenizer.save(folder)
        self.features.save(folder)
        save_labels([column.labels for column in self.columns], folder)
        for column in self.columns:
            column.save(folder)
        if self.window:
            self.window.save(folder)

    @classmethod
    def load(cls, folder: Path, config: Mapping[str, Any], settings: TagSettings) -> Self:
        tokenizer = WordTokenizer.load(folder, config["tokenizer"])
        features = WordFeatures.load(folder, config["features"], tokenizer)
        labels = load_labels(folder, [column["labels"] for column in config["columns"]])
        schemes = [column["scheme"] for column in config["columns"]]
        if not set(schemes) <= {None, *SCHEMES}:
            raise ValueError(f"the schemes {schemes}")
        context = config.get("context")
        characters = tokenize.from_characters(**context) if context else None
        kinds = [COLUMN_KINDS[column.get("kind")] for column in config["columns"]]
        if len(kinds) != len(split_columns(settings.column)):
            raise ValueError(f"{len(kinds)} columns, but the setting column is {settings.column!r}")
        columns = [kind.load(folder, *each) for kind, *each in zip(kinds, labels, schemes, strict=True)]
        outputs = sum(sum(column.sizes) for column in columns)
        window = WindowScores.load(folder, outputs=outputs) if config.get("window") else None
        return cls(features, columns, settings=settings, characters=characters, window=window)

    # --- The network ---------------------------------------------------------------------------------------

    def sizes(self) -> dict[str, int]:
        return self.features.sizes() | {"outputs": sum(self.distribution_sizes)}

    @property
    def distribution_sizes(self) -> list[int]:
        """The sizes of all distributions that the network predicts, column by column."""
        return [size for column in self.columns for size in column.sizes]

    def network_config(
        self, *, vector_size: int = 0, context: tuple[EncoderConfig, bool] | None = None
    ) -> NetworkConfig:
        settings, sizes, heads = self.settings, self.sizes(), self._distribution_of(HeadColumn)
        return NetworkConfig(
            encoder=encoder_config(settings, sizes, word=word_config(settings, sizes, vector_size),
                                   bidirectional=settings.bidirectional, context=context),
            head=from_settings(
                TaggerHeadConfig, settings, outputs=sizes["outputs"], crf=self.crf,
                columns=tuple(self.distribution_sizes), heads=heads,
                relations=self._distribution_of(RelationColumn),
                layer=2 * settings.hidden if heads >= 0 else 0))

    def _distribution_of(self, kind: type[TagColumn]) -> int:
        """Return the index of the first distribution of the first column of a kind; -1 if there is none."""
        sizes = [len(column.sizes) for column in self.columns]
        return next((sum(sizes[:i]) for i, column in enumerate(self.columns) if isinstance(column, kind)), -1)

    def objective(self, examples: Sequence[TagExample]) -> ObjectiveConfig:
        settings = self.settings
        weights: tuple[float, ...] = ()
        if settings.class_weights == "balanced":
            columns = zip(*(example.tags or () for example in examples), strict=True)
            heads = self._distribution_of(HeadColumn)  # which have no labels, so all their weights are 1
            weights = balanced_weights([
                np.ones(size) if i == heads else _counts(ids, size)
                for i, (size, ids) in enumerate(zip(self.distribution_sizes, columns, strict=True))])
        # a backward character model would reveal the next word
        predicts_words = settings.encoder == "rnn" and self.context is None
        distribution_weights = tuple(
            weight / len(self.columns) for column in self.columns for weight in column.weights)
        if all(column.weights == (1.0,) for column in self.columns):
            distribution_weights = ()  # the loss is the mean of the columns
        return from_settings(
            ObjectiveConfig, settings, label_weights=weights, distribution_weights=distribution_weights,
            auxiliary_lm=settings.neighbours if predicts_words else 0.0)

    def row_names(self) -> RowNames:
        return replace(self.features.row_names(), context=self.context.config() if self.context else None)

    # --- Arrays --------------------------------------------------------------------------------------------

    def example(self, record: Sentence, *, targets: bool = False) -> TagExample:
        tags = None
        if targets:
            pairs = zip(self.columns, _columns(record), strict=True)
            tags = [ids for column, gold in pairs
                    for ids in column.targets(record.words, gold, column.scheme)]
        characters = self.context.example(record.words) if self.context else None
        return TagExample(record.words, tags, characters)

    def groups(self, records: Iterable[Sentence], ready: Ready = always) -> Iterator[list[Sentence]]:
        return document_groups(records, self.group_words, ready)

    def join(self, examples: Sequence[TagExample]) -> TagExample:
        if not self.group_words:
            return super().join(examples)
        tags = [example.tags for example in examples if example.tags is not None]
        joined = [np.concatenate(column) for column in zip(*tags, strict=True)] if tags else None
        return TagExample(with_separators(example.words for example in examples), joined,
                          sizes=tuple(len(example.words) for example in examples))

    def record_count(self, example: TagExample) -> int:
        return max(1, len(example.sizes))

    def unlabeled_examples(self, records: Iterable[Sentence]) -> list[TagExample]:
        """Encode sentences whose tags are ignored, in pieces because a line of raw text may be long."""
        pieces = [record.words[start : start + RAW_PIECE]
                  for record in records for start in range(0, len(record.words), RAW_PIECE)]
        columns = len(self.distribution_sizes)
        return [self.join([TagExample(words, [np.full(len(words), IGNORE, np.int32)] * columns)])
                for words in pieces]

    def length(self, example: TagExample) -> int:
        return len(example.words)

    def collate(self, examples: Sequence[TagExample]) -> Arrays:
        arrays = self.features.collate([example.words for example in examples]) | self._more_arrays(examples)
        tags = [tags for example in examples for tags in _tags_by_sentence(example)]
        if tags:
            arrays["targets"] = np.stack([pad(column, IGNORE)[0] for column in zip(*tags, strict=True)])
        return arrays

    def encode(self, records: Sequence[Sentence], *, targets: bool = False) -> Arrays:
        examples = [self.example(record, targets=targets) for record in records]
        return self.collate(examples) | self._window_scores(examples)

    def batches(self, engine: Engine, batches: Sequence[Sequence[TagExample]]) -> list[Arrays]:
        others = self.context.collate([self.context.example([""])]) if self.context else {}
        words = [[example.words for example in batch] for batch in batches]
        return [arrays | self._more_arrays(batch) | self._window_scores(batch)
                for arrays, batch in zip(self.features.batches(engine, words, others), batches, strict=True)]

    def _more_arrays(self, examples: Sequence[TagExample]) -> Arrays:
        """Make the arrays of the character language model and of document context."""
        arrays: Arrays = {}
        if self.context:
            arrays = self.context.collate([e.characters for e in examples if e.characters is not None])
        if self.group_words:
            arrays["sentences"] = sentence_places(
                [example.sizes or (len(example.words),) for example in examples])
        return arrays

    def _window_scores(self, examples: Sequence[TagExample]) -> Arrays:
        """Make the scores (T, N, L) of the linear classifier, which training steps do not need."""
        if not self.window:
            return {}
        return {"window_scores": self.window.scores(list(chain.from_iterable(map(_sentences, examples))))}

    def run(self, engine: Engine, arrays: Arrays) -> Arrays:
        """Compute the emissions of a batch's sentences: the network's and those of the linear classifier."""
        outputs = self._run_network(engine, arrays)
        if self.window:
            emissions = outputs["emissions"]
            outputs["emissions"] = emissions + arrays["window_scores"][: len(emissions)]
        return outputs

    def _run_network(self, engine: Engine, arrays: Arrays) -> Arrays:
        """Compute the network's emissions of a batch's sentences."""
        outputs = self._run_rows(engine, arrays)
        if "sentences" in arrays:
            outputs["emissions"] = outputs["emissions"][tuple(arrays["sentences"])]
        return outputs

    def _run_rows(self, engine: Engine, arrays: Arrays) -> Arrays:
        """Compute the emissions of a batch's rows; a very long row is read in pieces to limit memory."""
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

    def spans(self, record: Sentence) -> tuple[str, list[tuple[int, int]]]:
        """Return the words in their text, or joined by spaces if the record has no text."""
        if record.text is not None and record.offsets is not None:
            return record.text, list(record.offsets)
        ends = np.cumsum([len(word) + 1 for word in record.words]).tolist()
        return " ".join(record.words), [(end - len(word) - 1, end - 1)
                                        for word, end in zip(record.words, ends, strict=True)]

    # --- Results -------------------------------------------------------------------------------------------

    def decode(
        self, records: Sequence[Sentence], outputs: Arrays, *, probs: bool = False, nbest: int = 0,
        scheme: str | None = None, threshold: float = 0.0,
    ) -> list[Tagged]:
        """Return the tags of a batch; span tags are written in `scheme`, IOB2 by default.

        `probs` adds the probability of each word's tag in the first column, as it is written in `scheme`.
        `nbest` adds that many best sequences with their log-probabilities. The model abstains if the tag of a
        word, or of any word of a span, is less probable than `threshold`: a plain tag becomes `_`, a span
        `O`. Their probabilities stay those of the original tags.
        """
        lengths = _lengths(records)
        scheme = scheme or "iob2"
        words = [record.words for record in records]
        columns: list[list[list[str]]] = []  # tags by column and sentence
        first_probs: list[list[float]] | None = None
        for column, emissions, learned in self._scores(outputs, lengths):
            tags = column.decode(words, emissions, lengths, learned, scheme)
            if threshold or (probs and not columns):
                tag_probs = column.probs(words, tags, emissions, lengths, learned, scheme)
                if threshold:
                    tags = [column.abstain(*pair, scheme, threshold)
                            for pair in zip(tags, tag_probs, strict=True)]
                first_probs = first_probs or tag_probs
            columns.append(tags)
        results = [Tagged(first, more_tags=more) for first, *more in zip(*columns, strict=True)]
        if probs and first_probs:
            for result, values in zip(results, first_probs, strict=True):
                result.probs = values
        if nbest:
            column, emissions, learned = self._scores(outputs, lengths)[0]
            best = column.nbest(words, emissions, lengths, learned, scheme, nbest)
            for result, sequences in zip(results, best, strict=True):
                result.nbest = sequences
        return results

    def _scores(
        self, outputs: Arrays, lengths: NDArray[np.int32]
    ) -> list[tuple[TagColumn, NDArray[Any], ChainScores | None]]:
        """Return each column with its emissions (T, B, sizes), and the first with the scores of the CRF.

        The emissions of relations are those to the predicted heads.
        """
        cuts = np.cumsum([sum(column.sizes) for column in self.columns])[:-1]
        emissions = np.split(outputs["emissions"], cuts, axis=-1)
        heads = np.zeros(emissions[0].shape[:2], int)  # (T, B)
        for i, column in enumerate(self.columns):
            if isinstance(column, HeadColumn):
                emissions[i] = column.with_heads(emissions[i], lengths)
                heads = emissions[i][..., -1].astype(int)
        emissions = [column.given_heads(scores, heads) if isinstance(column, RelationColumn) else scores
                     for column, scores in zip(self.columns, emissions, strict=True)]
        learned = (outputs["start"], outputs["transitions"], outputs["end"]) if self.crf else None
        return list(zip(self.columns, emissions, [learned, *[None] * len(cuts)], strict=True))

    # --- How good a network is -----------------------------------------------------------------------------

    def score(self, engine: Engine, records: Sequence[Sentence]) -> dict[str, float]:
        """Compute only the criterion; with several columns, the mean of their criteria and each of them."""
        results = self._results(engine, records)
        scores = [float(column.criterion.metric(self._compared(i, records, results).counts().sum(axis=0)))
                  for i, column in enumerate(self.columns)]
        if len(scores) == 1:
            return {self.criterion.key: scores[0]}
        names = (name or self.criterion.key for name in split_columns(self.settings.column))
        return {"mean": sum(scores) / len(scores), **dict(zip(names, scores, strict=True))}

    def evaluate(self, engine: Engine, records: Sequence[Sentence], *, mistakes: int = 0) -> Evaluation:
        """Compute the accuracy of words, precision, recall and F1 of spans, and the calibration error.

        With several columns, the report has the metrics of the others under `columns`, by name, and
        `accuracy_all`, the share of words whose tags are all correct. Columns that the records lack are left
        out.
        """
        self.check(records)
        results = self._results(engine, records, probs=True)
        available = min((1 + len(record.more_tags) for record in records), default=1)
        compared = [self._compared(i, records, results) for i in range(min(available, len(self.columns)))]
        words = (word for sentence in records for word in sentence.words)
        in_vocabulary = np.array(self.features.tokenizer.lookup(words), np.int64) != UNK  # (words,)
        reports = [column.report(in_vocabulary) for column in compared]
        report = {"records": len(records), **reports[0], "ece": _calibration_error(compared[0], results)}
        if len(compared) > 1:
            correct = [column.correct() for column in compared]
            report["accuracy_all"] = float(np.all(correct, axis=0).mean()) if len(in_vocabulary) else 0.0
            names = map(str, split_columns(self.settings.column)[1:])
            report["columns"] = dict(zip(names, reports[1:], strict=False))
        if official := self._official_metrics(compared):
            report["conll18"] = official
        first = compared[0]
        return Evaluation(
            report=report, counts=first.counts(), gold=first.labels, trained_labels=first.trained_labels,
            mistakes=_mistakes(records, first.gold, results, mistakes) if mistakes else [])

    def _official_metrics(self, compared: Sequence[Comparison]) -> dict[str, float]:
        """Return the metrics of the CoNLL 2018 shared task for columns whose names CoNLL-U has as well.

        Numbered columns are left out, because nothing says what is in them.
        """
        from rnntool.evaluation import conll18

        names = split_columns(self.settings.column)
        named = [(name.lower(), comparison) for name, column, comparison in
                 zip(names, self.columns, compared, strict=False)
                 if name and (isinstance(column, HeadColumn) or name.lower() != "head")]
        gold, predicted = ({name: getattr(column, side) for name, column in named}
                           for side in ("gold", "predicted"))
        return conll18.tag_scores(gold, predicted)

    def predictions(self, engine: Engine, records: Sequence[Sentence]) -> list[dict[str, Any]]:
        results = self._results(engine, records, probs=True)
        names = split_columns(self.settings.column)
        suffixes = ["", *(f"_{name or i}" for i, name in enumerate(names[1:], 2))]
        compared = [self._compared(i, records, results) for i in range(len(self.columns))]
        answers = []
        for i, (record, result) in enumerate(zip(records, results, strict=True)):
            gold = {f"gold{suffix}": column.gold[i]
                    for suffix, column in zip(suffixes, compared, strict=True)}
            keys = [f"tags{suffix}" for suffix in suffixes]
            tagged = tag_results(record, result, keys, probs=True, spans=self.scheme is not None)
            if isinstance(record.source, dict) and record.source.get("tokens") == record.words:
                del tagged["tokens"]  # which the record has as well
            answers.append({**gold, **tagged})
        return answers

    def baseline(self, examples: Sequence[TagExample], records: Sequence[Sentence]) -> Baseline | None:
        """Give each word its most frequent tag in the training data, and others the most frequent of all.

        Heads have no baseline.
        """
        if isinstance(self.columns[0], HeadColumn):
            return None
        counts: defaultdict[str, Counter[int]] = defaultdict(Counter)
        for example in examples:
            words = [word for word in example.words if word != SEPARATOR]
            for word, tag in zip(words, example.tags[0].tolist() if example.tags else (), strict=False):
                counts[word][tag] += 1
        usual = sum(counts.values(), Counter[int]()).most_common(1)[0][0]
        names, column = self.labels.names, self.columns[0]
        tag_of = {word: names[tags.most_common(1)[0][0]] for word, tags in counts.items()}
        predicted = [
            column.outer(record.words, [tag_of.get(word, names[usual]) for word in record.words],
                         EVALUATED_SCHEME) for record in records]
        return Baseline("the most frequent tag of each word", self._score_of(predicted, records))

    def linear_baseline(self, records: Sequence[Sentence]) -> Baseline | None:
        column = self.columns[0]
        size = sum(column.sizes)
        if not self.window or not records or not any(1 < each <= MOST_LABELS for each in column.sizes):
            return None
        predicted: dict[int, list[str]] = {}
        for places, sentences, examples in self._batches_of(records):
            scores = self._window_scores(examples)["window_scores"][..., :size]
            words = [sentence.words for sentence in sentences]
            tags = column.decode(words, scores, _lengths(sentences), None, EVALUATED_SCHEME)
            predicted |= zip(places, tags, strict=True)
        score = self._score_of([predicted[i] for i in range(len(records))], records)
        return Baseline("the window classifier alone", score)

    def _score_of(self, predicted: Sequence[Sequence[str]], records: Sequence[Sentence]) -> float:
        """Return the criterion of tags in IOB2 that were predicted for the first column."""
        compared = self.columns[0].compare(
            [record.words for record in records], [record.tags or [] for record in records], predicted)
        return float(self.criterion.metric(compared.counts().sum(axis=0)))

    def evaluation_settings(self, reading: Mapping[str, Any], model: str) -> TagSettings:
        settings = super().evaluation_settings(reading, model)
        if "column" not in reading:
            return settings
        requested, trained = split_columns(settings.column), split_columns(self.settings.column)
        if len(requested) > len(self.columns):
            raise UsageError(
                setting="column", expected=f"at most {len(self.columns)}, as many as the model {model} tags",
                found=repr(settings.column))
        if any(name and name in trained and trained.index(name) != i for i, name in enumerate(requested)):
            raise UsageError(
                setting="column", found=repr(settings.column),
                expected=f"columns in the order of the model {model} ({self.settings.column})")
        return settings

    def describe_gold(self, records: Sequence[Sentence]) -> tuple[str, bool] | None:
        if not self.scheme:
            return None
        scheme = self.columns[0].gold_scheme(record.tags or () for record in records) or self.scheme
        return f"the tags are spans in {scheme.upper()}", scheme == self.scheme

    def calibrate(self, engine: Engine, records: Sequence[Sentence]) -> Calibration:
        """Fit a temperature for each column; with a CRF, it applies to the scores of the whole chain."""
        batches: list[list[ScoredBatch]] = [[] for _ in self.columns]
        learned: list[ChainScores | None] = [None for _ in self.columns]
        results: dict[int, Tagged] = {}
        schemes = [column.gold_scheme(_columns(record)[k] for record in records)
                   for k, column in enumerate(self.columns)]
        for places, sentences, outputs in self._outputs(engine, records):
            for k, (column, emissions, scores) in enumerate(self._scores(outputs, _lengths(sentences))):
                gold = [column.ids(sentence.words, _columns(sentence)[k], schemes[k])
                        for sentence in sentences]
                targets, lengths = pad(gold, IGNORE)
                batches[k].append((emissions, lengths, targets))
                learned[k] = scores
            decoded = self.decode(sentences, outputs, probs=True, scheme=EVALUATED_SCHEME)
            results |= zip(places, decoded, strict=True)
        temperatures = [column.temperature(scored, scores) for column, scored, scores in
                        zip(self.columns, batches, learned, strict=True)]
        in_order = [results[i] for i in range(len(records))]
        error = _calibration_error(self._compared(0, records, in_order), in_order)
        return Calibration(tuple(
            temperature for column, temperature in zip(self.columns, temperatures, strict=True)
            for _ in column.sizes), error)

    def apply_temperatures(self, *temperatures: float) -> None:
        if self.window:
            self.window.multiply(np.repeat(1 / np.array(temperatures, np.float32), self.distribution_sizes))

    def weigh(self, engine: Engine, records: Sequence[Sentence]) -> None:
        """Fit the weight of the linear classifier to the words of the first column, or of the second.

        Heads have no scores of the classifier.
        """
        if not self.window or not records:
            return
        k = 1 if isinstance(self.columns[0], HeadColumn) else 0
        column = self.columns[k]
        start = sum(self.columns[0].sizes) if k else 0
        part = slice(start, start + sum(column.sizes))
        scheme = column.gold_scheme(_columns(record)[k] for record in records)
        parts: list[tuple[NDArray[Any], ...]] = []
        for _, sentences, examples in self._batches_of(records):
            arrays = self.collate(examples) | self._window_scores(examples)
            gold = [column.ids(sentence.words, _columns(sentence)[k], scheme) for sentence in sentences]
            targets, _ = pad(gold, IGNORE)
            has_tag = targets != IGNORE
            emissions = self._run_network(engine, arrays)["emissions"][: len(targets)]
            scores = arrays["window_scores"][: len(targets)] / self.window.factors
            parts.append((*(column.label_scores(values[has_tag][:, part]) for values in (emissions, scores)),
                          targets[has_tag]))
        emissions, scores, targets = map(np.concatenate, zip(*parts, strict=True))
        weight = fit_weight(emissions, scores, targets, expected=self.window.expected_weight)
        self.window.multiply(weight / self.window.factors)

    def _results(self, engine: Engine, records: Sequence[Sentence], *, probs: bool = False) -> list[Tagged]:
        """Tag all records, in IOB2."""
        results: dict[int, Tagged] = {}
        for places, sentences, outputs in self._outputs(engine, records):
            decoded = self.decode(sentences, outputs, probs=probs, scheme=EVALUATED_SCHEME)
            results |= zip(places, decoded, strict=True)
        return [results[i] for i in range(len(records))]

    def _outputs(
        self, engine: Engine, records: Sequence[Sentence]
    ) -> Iterator[tuple[list[int], list[Sentence], Arrays]]:
        """Yield batches of similar length: the indices of their records, the records, and the outputs."""
        for places, sentences, examples in self._batches_of(records):
            arrays = self.collate(examples) | self._window_scores(examples)
            yield places, sentences, self.run(engine, arrays)

    def _batches_of(
        self, records: Sequence[Sentence]
    ) -> Iterator[tuple[list[int], list[Sentence], list[TagExample]]]:
        """Yield batches of similar length: the indices of their records, the records, and the examples."""
        groups = list(self.groups(records))
        ends = np.cumsum([len(group) for group in groups])
        lengths = [sentence_starts([len(sentence.words) for sentence in group])[-1] for group in groups]
        for batch in by_length(lengths, self.budget):
            places = [i for k in batch for i in range(ends[k] - len(groups[k]), ends[k])]
            examples = [self.join(list(map(self.example, groups[k]))) for k in batch]
            yield places, [records[i] for i in places], examples

    def _compared(self, i: int, records: Sequence[Sentence], results: Sequence[Tagged]) -> Comparison:
        """Compare column `i` of records and results."""
        return self.columns[i].compare(
            [record.words for record in records], [_columns(record)[i] for record in records],
            [(result.tags, *result.more_tags)[i] for result in results])


def _sentences(example: TagExample) -> list[Sequence[str]]:
    """Return the words of each sentence of an example."""
    if not example.sizes:
        return [example.words]
    return [example.words[start : start + size]
            for start, size in zip(sentence_starts(example.sizes).tolist(), example.sizes, strict=False)]


def _tags_by_sentence(example: TagExample) -> list[list[NDArray[np.int32]]]:
    """Return the ids of each column's tags, for each sentence of an example; nothing if it has no tags."""
    if example.tags is None:
        return []
    if not example.sizes:
        return [example.tags]
    cuts = np.cumsum(example.sizes)[:-1]
    return [list(columns) for columns in zip(*(np.split(tags, cuts) for tags in example.tags), strict=True)]


def _mistakes(
    records: Sequence[Sentence], gold: Sequence[Sequence[str]], results: Sequence[Tagged], k: int
) -> list[Mistake]:
    """Return the `k` most probable wrong tags of the first column."""
    wrong = [(p, i, j) for i, (tags, result) in enumerate(zip(gold, results, strict=True))
             for j, p in enumerate(result.probs or ()) if tags[j] != result.tags[j]]
    mistakes = []
    for p, i, j in sorted(wrong, key=lambda place: -place[0])[:k]:
        words = records[i].words
        start = sum(len(word) + 1 for word in words[:j])
        mistakes.append(Mistake(prob=p, gold=gold[i][j], predicted=results[i].tags[j],
                                context=excerpt(" ".join(words), start, start + len(words[j])),
                                place=records[i].place_of(j), record=i))
    return mistakes


def _calibration_error(compared: Comparison, results: Sequence[Tagged]) -> float:
    """Compute the calibration error of the probabilities of the first column's tags."""
    probs = list(chain.from_iterable(result.probs or () for result in results))
    return metrics.calibration_error(probs, compared.correct())


def _column_kinds(names: Sequence[str | None]) -> list[type[TagColumn]]:
    """Return the kind of each column by its name; without a name, its tags are labels.

    Without a column of heads, so are relations.
    """
    kinds = [COLUMN_KINDS.get((name or "").lower(), TagColumn) for name in names]
    return kinds if HeadColumn in kinds else [TagColumn if kind is RelationColumn else kind for kind in kinds]


def _lengths(sentences: Sequence[Sentence]) -> NDArray[np.int32]:
    """Return the number of words of each sentence, (B,)."""
    return np.fromiter((len(sentence.words) for sentence in sentences), np.int32, len(sentences))


def _counts(ids: Iterable[NDArray[np.int32]], size: int) -> NDArray[np.float64]:
    """Count the labels of a distribution of this size; `ids` are those of each sentence."""
    all_ids = np.concatenate(list(ids))
    return np.bincount(all_ids[all_ids != IGNORE], minlength=size).astype(np.float64)


def _columns(sentence: Sentence) -> tuple[list[str], ...]:
    """Return a sentence's gold tags, column by column."""
    return (sentence.tags or [], *sentence.more_tags)
