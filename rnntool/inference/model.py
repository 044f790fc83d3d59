"""Trained models, ready to run: iterators in, iterators out. Commands and `rnntool.load` use them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from rnntool import model_folder
from rnntool.data.arrays import Arrays
from rnntool.data.model_file import LARGEST_TEXT, check_plain
from rnntool.data.options import Options
from rnntool.data.records import Pair, Sentence, Tagged, Text, Transduction, WordWeight
from rnntool.data.threads import thread_count
from rnntool.errors import ModelError, RnntoolError, UsageError
from rnntool.inference.options import (
    ClassifyOptions,
    GenerateOptions,
    ScoreOptions,
    TagOptions,
    TransduceOptions,
)
from rnntool.inference.pipeline import Flush, Pipeline, flush_when_waiting, no_flush
from rnntool.model_folder import ModelConfig
from rnntool.models.config import WITHOUT_NETWORK
from rnntool.tasks.base import AnyTask, Engine, Ready, always, task_class
from rnntool.tasks.specs.spec import TaskSpec
from rnntool.tokenize import split_words

if TYPE_CHECKING:  # a model needs only its own task, so that it starts fast
    from rnntool.inference.generation import Generated, Watch
    from rnntool.tasks.classify import Classified, ClassifyTask
    from rnntool.tasks.lm import ScoredText
    from rnntool.tasks.transduce import ScoredTarget, Transduced

Item = TypeVar("Item")
Result = TypeVar("Result")
SomeOptions = TypeVar("SomeOptions", bound=Options)
SomeTask = TypeVar("SomeTask", bound=AnyTask)


@dataclass(eq=False)
class ModelFolder:
    """A loaded model folder: its configuration and its task, without an engine."""

    folder: Path
    config: ModelConfig
    task: AnyTask

    @property
    def name(self) -> str:
        """The folder's name."""
        return model_folder.name_of(self.folder)

    @property
    def segmenter(self) -> Path | None:
        """The folder of the segmenter that is part of a tagger; None if there is none."""
        has_segmenter = getattr(self.config.settings, "segmenter", None)
        return self.folder / model_folder.SEGMENTER if has_segmenter else None

    def require(self, kind: type[SomeTask]) -> SomeTask:
        """Return the task if it is of this kind; `ModelError` otherwise."""
        if not isinstance(self.task, kind):
            raise ModelError(place=self.folder, expected=f"a model for {_commands(kind.spec)}",
                             found=f"one for {_commands(self.task.spec)}",
                             advice="`rnntool models` lists the models by task")
        return self.task


class Model(ModelFolder):
    """A model folder with the engine that runs it.

    Each method takes an iterable and returns an iterator, so that endless streams can be processed. Options
    are an object of the method's options class, or its fields by keyword, or both; keywords take precedence.
    An unknown keyword raises `UsageError`.

    The methods with a past participle (`tagged`) are for streams: they take records instead of texts and
    return each record with its result. `ready` says whether another record can be read without waiting.
    Before the method waits for input, it returns all results and calls `flush`.
    """

    def __init__(
        self, folder: Path, config: ModelConfig, task: AnyTask, engine: Engine, *, workers: int = 1
    ) -> None:
        """Run `workers` batches in parallel."""
        super().__init__(folder, config, task)
        self.engine = engine
        self.pipeline = Pipeline(task, engine, workers=workers)

    def tag(
        self, sentences: Iterable[str | Sequence[str] | Sentence], options: TagOptions | None = None,
        **changes: Any,
    ) -> Iterator[Tagged]:
        """Tag sentences: texts, which are split into words, or sequences of words."""
        options = _resolve(TagOptions, options, changes)
        return (result for _, result in self.tagged(map(_sentence, _not_one_text(sentences)), options))

    def tagged(
        self, records: Iterable[Sentence], options: TagOptions | None = None, *, ready: Ready = always,
        flush: Flush = no_flush,
    ) -> Iterator[tuple[Sentence, Tagged]]:
        """Tag a stream of sentences."""
        from rnntool.tasks.tag import TagTask

        options = options or TagOptions()
        decode = partial(self.require(TagTask).decode, probs=options.probs, nbest=options.nbest,
                         scheme=options.scheme, threshold=options.threshold)
        return self.pipeline.run(records, decode, ready=ready, flush=flush)

    def segment(self, lines: Iterable[str]) -> Iterator[Sentence]:
        """Split running text into sentences, whose words have offsets into the text of their sentence.

        An empty line ends a paragraph, and comes back as a sentence without words.
        """
        return iter(self.segmented(Sentence([], text=line) for line in _not_one_text(lines)))

    def segmented(
        self, lines: Iterable[Sentence], *, ready: Ready = always, flush: Flush = no_flush
    ) -> SegmentedText:
        """Split a stream of lines, the texts of sentences without words, into sentences."""
        from rnntool.tasks.running_text import sentences
        from rnntool.tasks.segment import SegmentTask

        task = self.require(SegmentTask)
        tagged: Iterator[tuple[Any, str]] = self.pipeline.run(lines, task.decode, ready=ready, flush=flush)
        return SegmentedText(sentences(tagged, task.splitter, spaced=task.spaced))

    def classify(
        self, texts: Iterable[str | Text], options: ClassifyOptions | None = None, **changes: Any
    ) -> Iterator[Classified]:
        """Rank the labels of each text by probability, and choose among them."""
        options = _resolve(ClassifyOptions, options, changes)
        return (result for _, result in self.classified(map(_text, _not_one_text(texts)), options))

    def classified(
        self, records: Iterable[Text], options: ClassifyOptions | None = None, *, ready: Ready = always,
        flush: Flush = no_flush,
    ) -> Iterator[tuple[Text, Classified]]:
        """Classify a stream of texts."""
        from rnntool.tasks.classify import ClassifyTask

        options = options or ClassifyOptions()
        task = self.require(ClassifyTask)

        def decode(batch: Sequence[Text], outputs: Arrays) -> list[Classified]:
            return _chosen(task, task.decode(batch, outputs, top=options.top), options)

        return self.pipeline.run(records, decode, ready=ready, flush=flush)

    def explain(
        self, texts: Iterable[str | Text], options: ClassifyOptions | None = None, **changes: Any
    ) -> Iterator[tuple[Classified, list[WordWeight]]]:
        """Classify texts and weigh their words by what each contributes to the most probable label."""
        options = _resolve(ClassifyOptions, options, changes)
        explained = self.explained(map(_text, _not_one_text(texts)), options)
        return ((result, words) for _, result, words in explained)

    def explained(
        self, records: Iterable[Text], options: ClassifyOptions | None = None, *, ready: Ready = always,
        flush: Flush = no_flush,
    ) -> Iterator[tuple[Text, Classified, list[WordWeight]]]:
        """Classify and explain a stream of texts.

        Each text is classified whole, and once without each of its words. The weight of a word is the
        probability that the most probable label loses without it (leave-one-out; Li et al., 2016).
        """
        from rnntool.tasks.classify import ClassifyTask

        task = self.require(ClassifyTask)
        chosen = options or ClassifyOptions()
        read: deque[tuple[Text, list[tuple[int, int]]]] = deque()  # texts with the spans of their words
        variants_left = 0  # of the last text that was read

        def variants() -> Iterator[Text]:
            nonlocal variants_left
            for record in records:
                spans = split_words(record.text)
                read.append((record, spans))
                variants_left = len(spans)
                yield Text(record.text, place=record.place)
                for start, end in spans:
                    variants_left -= 1
                    yield Text(_without_word(record.text, start, end), place=record.place)

        def probabilities(batch: Sequence[Text], outputs: Arrays) -> list[Any]:
            return list(task.probabilities(outputs))

        classified = self.pipeline.run(variants(), probabilities, flush=flush,
                                       ready=lambda: variants_left > 0 or ready())

        def results() -> Iterator[tuple[Text, Classified, list[WordWeight]]]:
            for _, probs in classified:
                record, spans = read.popleft()
                label = probs.argmax()
                words = [WordWeight(record.text[start:end], start, end,
                                    float(probs[label] - next(classified)[1][label])) for start, end in spans]
                (result,) = _chosen(task, task.rank(probs[None], top=chosen.top), chosen)
                yield record, result, words

        return results()

    def score(
        self, texts: Iterable[str | Text], options: ScoreOptions | None = None, **changes: Any
    ) -> Iterator[ScoredText]:
        """Compute the log-probabilities of the tokens of each text, in nats.

        With the `context` `stream` the state is carried from one text to the next. A model that was trained
        on labeled text needs the label of each text, or the option `label` for all.
        """
        options = _resolve(ScoreOptions, options, changes)
        return (result for _, result in self.scored(map(_text, _not_one_text(texts)), options))

    def scored(
        self, records: Iterable[Text], options: ScoreOptions | None = None, *, ready: Ready = always,
        flush: Flush = no_flush,
    ) -> Iterator[tuple[Text, ScoredText]]:
        """Score a stream of texts."""
        from rnntool.tasks.lm import LMTask

        options = options or ScoreOptions()
        task = self.require(LMTask)
        stream = options.context == "stream"
        if stream and task.labels is not None:
            raise UsageError(setting="context", found="stream",
                             expected=f"line, because {self.name} reads each text after its label")
        if options.label is not None:
            task.first_token(options.label)  # checks the label
            labels = (options.label,)
            records = (replace(record, labels=labels) for record in records)
        if stream:
            return flush_when_waiting(task.score_stream(self.engine, records), ready, flush)
        return self.pipeline.run(records, task.decode, ready=ready, flush=flush)

    def compare(
        self, pairs: Iterable[Pair], options: ScoreOptions | None = None, *, ready: Ready = always,
        flush: Flush = no_flush, **changes: Any,
    ) -> Iterator[tuple[Pair, ScoredText, ScoredText]]:
        """Score the two sentences of each minimal pair; return the pair with both scores."""
        from rnntool.tasks.lm import LMTask

        options = _resolve(ScoreOptions, options, changes)
        self.require(LMTask).first_token(options.label)  # checks the label
        if options.context != "line":
            raise UsageError(setting="context", expected="line, because pairs are scored one by one",
                             found=options.context)
        read: deque[Pair] = deque()

        def sentences() -> Iterator[Text]:
            for pair in pairs:
                read.append(pair)
                yield from map(Text, pair.texts())

        scored = self.scored(sentences(), options, ready=ready, flush=flush)
        return ((read.popleft(), good, next(scored)[1]) for _, good in scored)

    def transduce(
        self, sources: Iterable[str | Sequence[str] | Transduction], options: TransduceOptions | None = None,
        **changes: Any,
    ) -> Iterator[list[Transduced]]:
        """Turn each source into its `n_best` best targets, the best one first.

        A source is a text, or a text followed by the values of the further columns of the training data.
        Without a seed, the seed of sampling is 0.
        """
        options = _resolve(TransduceOptions, options, changes)
        records = map(_transduction, _not_one_text(sources))
        return (results for _, results in self.transduced(records, options))

    def transduced(
        self, records: Iterable[Transduction], options: TransduceOptions | None = None, *,
        ready: Ready = always, flush: Flush = no_flush,
    ) -> Iterator[tuple[Transduction, list[Transduced]]]:
        """Turn a stream of sources into targets."""
        from rnntool.tasks.transduce import Search, TransduceTask

        options = options or TransduceOptions()
        search = Search(
            beam=options.beam, n_best=options.n_best, length_penalty=options.length_penalty,
            length_limit=options.length_limit, seed=options.seed or 0,
            sampling=GenerateOptions(temperature=options.temperature) if options.sample else None)
        task = self.require(TransduceTask).searching(search)
        pipeline = Pipeline(task, self.engine, workers=self.pipeline.workers)
        return pipeline.run(records, task.decode, ready=ready, flush=flush)

    def score_targets(
        self, records: Iterable[Transduction], *, ready: Ready = always, flush: Flush = no_flush
    ) -> Iterator[tuple[Transduction, ScoredTarget]]:
        """Compute the log-probability of the first target of each record, given its source."""
        from rnntool.tasks.transduce import TransduceTask

        task = self.require(TransduceTask).for_scoring()
        pipeline = Pipeline(task, self.engine, workers=self.pipeline.workers)
        return pipeline.run(records, task.decode_scores, ready=ready, flush=flush)

    def generate(
        self, prompts: Iterable[str] = ("",), options: GenerateOptions | None = None, *,
        watch: Watch | None = None, ready: Ready = always, **changes: Any,
    ) -> Iterator[Generated]:
        """Continue each prompt with `n` samples, or with the `n` best texts that beam search finds.

        Sample i of a run depends on `seed` and i alone; without a seed, the seed is 0. `watch` receives each
        prompt and then its text piece by piece as it is sampled, one text after the other. `ready` says
        whether another prompt can be read without waiting. `DataError` names the part of a prompt that the
        model does not know.
        """
        from rnntool.inference.generation import generate
        from rnntool.tasks.lm import LMTask

        options = _resolve(GenerateOptions, options, changes)
        return generate(self.require(LMTask), self.engine, _not_one_text(prompts), options, watch=watch,
                        ready=ready)


class SegmentedText:
    """The sentences of running text, to be read once."""

    def __init__(self, events: Iterator[Sentence | None]) -> None:
        """`events` are sentences, and None before the next line has to be waited for."""
        self._events = events
        self._waits = False

    def ready(self) -> bool:
        """Whether another sentence can be read without waiting for more text."""
        return not self._waits

    def __iter__(self) -> Iterator[Sentence]:
        """Return each sentence when it is known whether another one is there.

        So `ready` is right when a reader asks for it after a sentence.
        """
        sentence: Sentence | None = None
        try:
            for event in self._events:
                self._waits = event is None
                if sentence is not None:
                    yield sentence
                sentence = event
        except RnntoolError:
            if sentence is not None:
                yield sentence
            raise
        if sentence is not None:
            yield sentence


def read(model: str | Path) -> ModelFolder:
    """Read a model by its folder or by its name, without its graph and its weights.

    Raises `ModelError` if the model does not exist, is damaged, or has files of different models.
    """
    return _unless_replaced(model, _read)


def _read(folder: Path) -> ModelFolder:
    config = model_folder.read_config(folder)
    model_folder.check_vocabularies(folder, config)
    try:
        task = task_class(config.task).load(folder, config.data, config.settings)
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError, UsageError, OSError) as error:
        raise ModelError(f"is damaged ({error})", place=folder / model_folder.CONFIG,
                         advice="copy or train the model again") from None
    sizes, word = task.sizes(), config.network.encoder.word
    expected = {"vocabulary": config.network.encoder.vocabulary, "outputs": config.network.head.outputs}
    if word:
        expected |= {"char_vocabulary": word.char_vocabulary, "affix_buckets": word.affix_buckets,
                     "vector_rows": word.vector_rows}
    for name, size in expected.items():
        if sizes[name] != size:
            raise ModelError("its files don't belong together", place=folder, advice="copy the model again",
                             expected=f"{name} {size}, as in the network of {model_folder.CONFIG}",
                             found=sizes[name])
    model = ModelFolder(folder, config, task)
    if model.segmenter:
        if not (model.segmenter / model_folder.CONFIG).is_file():
            raise ModelError(f"has no {model_folder.SEGMENTER}/{model_folder.CONFIG}", place=folder,
                             advice=model_folder.AGAIN)
        check_plain(model.segmenter, largest=LARGEST_TEXT)  # or else a link could lead out of the folder
    return model


def load(
    model: str | Path, *, device: str = "cpu", threads: int = 0, parallel: bool = True
) -> Model:
    """Load a model by its folder or by its name; it runs on the processor, or with torch on `device`.

    Tasks with many small batches run them in parallel, each in one thread. With `parallel=False`, batches run
    one after the other, each with all threads; choose this if you call the engine yourself. Raises
    `ModelError` if the model does not exist, is damaged, or has files of different models. Runs no code from
    the folder.
    """
    def read_with_engine(folder: Path) -> tuple[ModelFolder, Engine]:
        loaded = _read(folder)
        one_each = parallel and loaded.task.parallel_batches
        return loaded, _engine(loaded, device, 1 if one_each else workers)

    workers = thread_count(threads)
    loaded, engine = _unless_replaced(model, read_with_engine)
    loaded.task.tokenizer.threads = threads
    parallel = parallel and loaded.task.parallel_batches and device in ("auto", "cpu")
    return Model(loaded.folder, loaded.config, loaded.task, engine, workers=workers if parallel else 1)


def load_segmenter(model: str | Path, *, device: str = "cpu", threads: int = 0) -> Model:
    """Load a segmenter, or the one that is part of a tagger; see `load`. `ModelError` for other models."""
    from rnntool.tasks.segment import SegmentTask

    segmenter = load(read(model).segmenter or model, device=device, threads=threads)
    segmenter.require(SegmentTask)
    return segmenter


def _unless_replaced(model: str | Path, read: Callable[[Path], Result]) -> Result:
    """Find a model and read it. If a training replaces it meanwhile, read the new one."""
    while True:
        folder = model_folder.find(model)
        before = model_folder.identity(folder)
        try:
            return read(folder)
        except ModelError:
            if model_folder.identity(model_folder.find(model)) == before:
                raise


def _engine(loaded: ModelFolder, device: str, threads: int) -> Engine:
    if loaded.config.network.encoder.kind in WITHOUT_NETWORK:
        from rnntool.inference.backoff_engine import BackoffEngine

        return BackoffEngine.load(loaded.folder, loaded.config)  # on the processor, whatever the device
    if device in ("auto", "cpu"):
        from rnntool.inference.onnx_engine import OnnxEngine

        return OnnxEngine(loaded.folder / model_folder.GRAPH, config=loaded.config, threads=threads)
    from rnntool.inference.torch_engine import TorchEngine, pick_device
    from rnntool.inference.weights import load_network

    torch_device = pick_device(device)
    return TorchEngine(load_network(loaded.folder, loaded.config), torch_device)


def _commands(spec: TaskSpec) -> str:
    return " or ".join(f"`{name}`" for name in spec.commands)


def _resolve(kind: type[SomeOptions], options: SomeOptions | None, changes: dict[str, Any]) -> SomeOptions:
    """Return the options of a call: the object or the defaults, updated by the keywords."""
    if options is None:
        options = kind()
    elif not isinstance(options, kind):
        raise UsageError(setting="options", expected=f"{kind.__name__}", found=repr(options))
    return options.replace(**changes) if changes else options


def _not_one_text(items: Iterable[Item]) -> Iterable[Item]:
    """Return the items. `UsageError` for a single text, whose characters would count as texts."""
    if isinstance(items, str):
        raise UsageError(expected="a list or another iterable of texts", found=f"one text, {items!r}",
                         advice="put it into a list")
    return items


def _sentence(sentence: str | Sequence[str] | Sentence) -> Sentence:
    if isinstance(sentence, Sentence):
        return sentence
    if isinstance(sentence, str):
        offsets = split_words(sentence)
        return Sentence([sentence[start:end] for start, end in offsets], text=sentence, offsets=offsets)
    return Sentence(list(sentence))


def _transduction(source: str | Sequence[str] | Transduction) -> Transduction:
    if isinstance(source, Transduction):
        return source
    text, *extra = (source,) if isinstance(source, str) else source
    return Transduction(text, extra=tuple(extra))


def _text(text: str | Text) -> Text:
    return text if isinstance(text, Text) else Text(text)


def _chosen(task: ClassifyTask, results: list[Classified], options: ClassifyOptions) -> list[Classified]:
    """Apply the options to the choice of labels; see `choose`."""
    if options != ClassifyOptions():
        for result in results:
            chosen = choose(result.ranked, options, multi_label=task.multi_label)
            result.chosen = [label for label, _ in chosen]
    return results


def choose(
    ranked: list[tuple[str, float]], options: ClassifyOptions, *, multi_label: bool
) -> list[tuple[str, float]]:
    """Choose among labels that are ranked by probability.

    Without `top`, a model with several labels per text gives all labels that reach the threshold, by default
    0.5, and any other model gives the most probable label. If none is left, the result is `none_label` with
    probability 0, or empty without a `none_label`.
    """
    from rnntool.tasks.classify import MULTI_LABEL_THRESHOLD

    threshold = options.threshold
    if threshold is None:
        threshold = MULTI_LABEL_THRESHOLD if multi_label and options.top is None else 0.0
    top = options.top or (None if multi_label else 1)
    chosen = [(label, p) for label, p in ranked[:top] if p >= threshold]
    return chosen or ([] if options.none_label is None else [(options.none_label, 0.0)])


def _without_word(text: str, start: int, end: int) -> str:
    """Remove a word and the space before it, or the space after it if it is the first word."""
    before, after = text[:start], text[end:]
    space = len(before) - len(before.rstrip())
    if space and (not after or after[0].isspace()):
        before = before[: start - space]
    return before + after if before else after.lstrip()
