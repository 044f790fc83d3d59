"""A trained model, ready to run: iterators in, iterators out. Commands and `rnntool.load` are made of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from rnntool import model_folder
from rnntool.data.formats import (
    Pair,
    Sentence,
    Tagged,
    Text,
    Weighed,
)
from rnntool.data.labels import SCHEMES
from rnntool.data.threads import thread_count
from rnntool.errors import ModelError, UsageError
from rnntool.inference.pipeline import Flush, Pipeline
from rnntool.tasks import TASKS
from rnntool.tasks.base import AnyTask, Engine, Ready, always, task_class
from rnntool.tasks.classify import Classified, ClassifyTask
from rnntool.tasks.lm import LMTask, Scored
from rnntool.tasks.tag import TagTask
from rnntool.tokenize import EOS, split_words

if TYPE_CHECKING:
    from rnntool.inference.generation import Generated
    from rnntool.inference.sampling import Sampling

COMMANDS = {"lm": "`generate` or `score`", "classify": "`classify`", "tag": "`tag`"}

Item = TypeVar("Item")
SomeTask = TypeVar("SomeTask", bound=AnyTask)


def _never() -> None:
    pass


class ModelFolder:
    """A model folder that was read: its configuration and its task, and nothing that runs it."""

    def __init__(self, folder: Path, config: dict[str, Any], task: AnyTask) -> None:
        """`config` is the checked content of config.json."""
        self.folder = folder
        self.config = config
        self.task = task

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.resolve().name

    @property
    def tokenizer_name(self) -> str:
        """The kind of its tokenizer."""
        return str(self.config["data"]["tokenizer"]["kind"])

    def require(self, kind: type[SomeTask]) -> SomeTask:
        """The task, where it is of this kind; `ModelError` otherwise."""
        if not isinstance(self.task, kind):
            raise ModelError(f"{self.folder}: is a model for {COMMANDS[self.task.name]}, expected one for "
                             f"{COMMANDS[kind.name]}; see rnntool models")
        return self.task


class Model(ModelFolder):
    """A model folder with the engine that runs it; `workers` batches of a pipeline run side by side."""

    def __init__(
        self, folder: Path, config: dict[str, Any], task: AnyTask, engine: Engine, *,
        workers: int = 1,
    ) -> None:
        super().__init__(folder, config, task)
        self.engine = engine
        self.pipeline = Pipeline(task, engine, workers=workers)

    def tag(
        self,
        sentences: Iterable[str | Sequence[str] | Sentence],
        *,
        probs: bool = False,
        nbest: int = 0,
        scheme: str | None = None,
        threshold: float = 0.0,
    ) -> Iterator[Tagged]:
        """Tags of each sentence: a text that is split into words, or a sequence of words.

        With `probs` each tag has its probability, with `nbest` the best sequences come along. `scheme` writes
        spans as `iob1`, `iob2` (the default) or `iobes`. Tags less probable than `threshold` are left out:
        `_` stands for them, `O` where spans are tagged.
        """
        records = map(_sentence, _several(sentences))
        for _, result in self.tagged(records, probs=probs, nbest=nbest, scheme=scheme, threshold=threshold):
            yield result

    def tagged(
        self,
        records: Iterable[Sentence],
        *,
        probs: bool = False,
        nbest: int = 0,
        scheme: str | None = None,
        threshold: float = 0.0,
        ready: Ready = always,
        flush: Flush = _never,
    ) -> Iterator[tuple[Sentence, Tagged]]:
        """Each sentence with its tags; see `tag`."""
        task = self.require(TagTask)
        if scheme is not None and scheme not in SCHEMES:
            raise UsageError(f"scheme: expected one of {', '.join(SCHEMES)}, found {scheme!r}")
        if nbest < 0 or not 0 <= threshold <= 1:
            raise UsageError("nbest and threshold: expected a number of at least 0 and one from 0 to 1, found "
                             f"{nbest} and {threshold}")
        decode = partial(task.decode, probs=probs, nbest=nbest, scheme=scheme, threshold=threshold)
        return self.pipeline.run(records, decode, ready=ready, flush=flush)

    def classify(self, texts: Iterable[str | Text]) -> Iterator[Classified]:
        """Labels of each text, ranked by probability."""
        return (result for _, result in self.classified(map(_text, _several(texts))))

    def classified(
        self, records: Iterable[Text], *, top: int | None = None, ready: Ready = always,
        flush: Flush = _never,
    ) -> Iterator[tuple[Text, Classified]]:
        """Each text with its labels, of which `top` are ranked, all by default."""
        task = self.require(ClassifyTask)
        return self.pipeline.run(records, partial(task.decode, top=top), ready=ready, flush=flush)

    def explain(self, texts: Iterable[str | Text]) -> Iterator[tuple[Classified, list[Weighed]]]:
        """Labels of each text, and its words with what each does for the most probable label."""
        return ((result, words) for _, result, words in self.explained(map(_text, _several(texts))))

    def explained(
        self, records: Iterable[Text], *, ready: Ready = always, flush: Flush = _never
    ) -> Iterator[tuple[Text, Classified, list[Weighed]]]:
        """Each text with its labels and its words; see `explain`.

        A text is read whole, and once without each of its words: the weight of a word is how far the label's
        probability falls without it (leave-one-out; Li et al. 2016).
        """
        task = self.require(ClassifyTask)
        kept: deque[tuple[Text, list[tuple[int, int]]]] = deque()
        to_come = 0  # readings of the last text that was taken

        def readings() -> Iterator[Text]:
            nonlocal to_come
            for record in records:
                spans = split_words(record.text)
                kept.append((record, spans))
                to_come = len(spans)
                yield Text(record.text, place=record.place)
                for start, end in spans:
                    to_come -= 1
                    yield Text(_without(record.text, start, end), place=record.place)

        def probabilities(batch: Sequence[Text], outputs: Any) -> list[Any]:
            return list(task.probabilities(outputs))

        read = self.pipeline.run(readings(), probabilities, ready=lambda: to_come > 0 or ready(), flush=flush)
        for _, probs in read:
            record, spans = kept.popleft()
            label = probs.argmax()
            words = [Weighed(record.text[start:end], start, end, float(probs[label] - next(read)[1][label]))
                     for start, end in spans]
            yield record, task.rank(probs[None])[0], words

    def score(
        self, texts: Iterable[str | Text], *, stream: bool = False, label: str | None = None
    ) -> Iterator[Scored]:
        """Log-probabilities of the tokens of each text, in nats.

        With `stream` the state is carried from one text to the next; otherwise each starts from BOS, or where
        the model learned text given a label from that of the text, or from `label` in its place.
        """
        return (result for _, result in self.scored(map(_text, _several(texts)), stream=stream, label=label))

    def scored(
        self, records: Iterable[Text], *, stream: bool = False, label: str | None = None,
        ready: Ready = always, flush: Flush = _never,
    ) -> Iterator[tuple[Text, Scored]]:
        """Each text with its log-probabilities; see `score`."""
        task = self.require(LMTask)
        if stream and task.labels is not None:
            raise UsageError(f"--context stream: {self.name} reads each text from its own label on; leave it "
                             "out")
        if label is not None:
            task.begin(label)  # an error, where it can't
            given = (label,)
            records = (replace(record, labels=given) for record in records)
        if stream:
            return _flushed(task.score_stream(self.engine, records), ready, flush)
        return self.pipeline.run(records, task.decode, ready=ready, flush=flush)

    def compare(
        self, pairs: Iterable[Pair], *, label: str | None = None, ready: Ready = always,
        flush: Flush = _never,
    ) -> Iterator[tuple[Pair, Scored, Scored]]:
        """Each minimal pair with the scores of its two sentences, given `label` if the model wants one."""
        self.require(LMTask).begin(label)  # an error, where it can't
        kept: deque[Pair] = deque()

        def sentences() -> Iterator[Text]:
            for pair in pairs:
                kept.append(pair)
                yield from map(Text, pair.texts())

        scored = self.scored(sentences(), label=label, ready=ready, flush=flush)
        for _, good in scored:
            _, bad = next(scored)
            yield kept.popleft(), good, bad

    def generate(
        self,
        prompts: Iterable[str] = ("",),
        *,
        label: str | None = None,
        n: int = 1,
        seed: int = 0,
        max_tokens: int = 500,
        min_tokens: int = 0,
        sampling: Sampling | None = None,
        no_repeat_ngram: int = 0,
        beam: int = 0,
        stop: str | None = None,
        batch_size: int = 64,
        allow_unknown: bool = False,
        watch: Callable[[str], None] | None = None,
        ready: Ready = always,
    ) -> Iterator[Generated]:
        """`n` samples for each prompt, or with `beam` the `n` best that beam search finds.

        `label` is what all are written given, where the model learned text given labels; it has to have one.
        Sample i of a run depends on `seed` and i alone. A text ends at EOS, after `max_tokens` tokens, or
        before `stop`. With `no_repeat_ngram` no run of that many tokens comes twice in a text, its prompt
        included. `watch` is told of the prompt and of each piece of text as it comes, with `batch_size`
        1. `ready` says whether another prompt can be had without waiting. `DataError` names a prompt's
        characters or words that the model does not know.
        """
        if n < 1 or batch_size < 1:
            raise UsageError(f"n and batch_size: expected numbers of at least 1, found {n} and {batch_size}")
        if seed < 0 or stop == "":
            raise UsageError("seed and stop: expected a number of at least 0 and a text, found "
                             f"{seed} and {stop!r}")
        from rnntool.inference.decoding import Rules
        from rnntool.inference.generation import BANNED, Writer
        from rnntool.inference.sampling import Sampling

        task = self.require(LMTask)
        rules = Rules(bos=task.begin(label), eos=EOS, banned=BANNED, max_tokens=max_tokens,
                      min_tokens=min_tokens, no_repeat_ngram=no_repeat_ngram)
        writer = Writer(task=task, engine=self.engine, rules=rules, seed=seed, stop=stop,
                        sampling=sampling or Sampling(), allow_unknown=allow_unknown, watch=watch)
        yield from writer.write(_several(prompts), n=n, beam=beam, batch_size=batch_size, ready=ready)


def read(model: str | Path) -> ModelFolder:
    """Read a model by its folder or by its name, to look into it.

    Raises `ModelError` where there is no such model, or its files are damaged or don't belong together. Its
    graph and its weights are not read.
    """
    folder = model_folder.find(model)
    content = model_folder.read_config(folder)
    try:
        settings = TASKS[content["task"]].settings.from_json(content["settings"])
        task = task_class(content["task"]).load(folder, content["data"], settings)
        outputs = content["network"]["head"]["outputs"]
        vocabulary = content["network"]["encoder"]["vocabulary"]
    except (KeyError, TypeError, UsageError, OSError) as error:
        raise ModelError(
            f"{folder / model_folder.CONFIG}: is damaged ({error}); copy or train the model again") from None
    sizes = task.sizes()
    if (sizes["vocabulary"], sizes["outputs"]) != (vocabulary, outputs):
        raise ModelError(f"{folder}: its files don't belong together (vocabulary {sizes['vocabulary']} and "
                         f"{sizes['outputs']} outputs, {model_folder.CONFIG} has {vocabulary} and "
                         f"{outputs}); copy the model again")
    return ModelFolder(folder, content, task)


def load(
    model: str | Path, *, device: str = "cpu", threads: int = 0, side_by_side: bool = True
) -> Model:
    """Load a model by its folder or by its name; it runs on the processor, or with torch on `device`.

    Taggers and classifiers run batches side by side, a thread each; without `side_by_side` one batch after
    the other has all threads, as whoever calls the engine itself wants it.
    Raises `ModelError` where there is no such model, or its files are damaged or don't belong together. Runs
    no code from the folder.
    """
    found = read(model)
    task = found.task
    if isinstance(task, LMTask):
        task.tokenizer.threads = threads
    workers = thread_count(threads)
    # Sentences and short texts are many small batches, which run best side by side, a thread each. A language
    # model has large products to share among its threads.
    side_by_side &= task.name != "lm"
    engine = _engine(found, device, 1 if side_by_side else workers)
    return Model(found.folder, found.config, task, engine,
                 workers=workers if side_by_side and device in ("auto", "cpu") else 1)


def _engine(found: ModelFolder, device: str, threads: int) -> Engine:
    if device in ("auto", "cpu"):
        from rnntool.inference.onnx_engine import OnnxEngine

        engine = OnnxEngine(found.folder / model_folder.GRAPH, threads=threads)
        model_folder.check_graph(found.folder, found.config, engine.inputs, engine.widths)
        return engine
    from rnntool.inference.torch_engine import TorchEngine, pick_device
    from rnntool.inference.weights import load_network

    there = pick_device(device)
    return TorchEngine(load_network(found.folder, found.config), there)


def _several(items: Iterable[Item]) -> Iterable[Item]:
    """The items, where they are not one text, whose characters would be taken for texts."""
    if isinstance(items, str):
        raise UsageError(f"expected texts, found one text, {items!r}; put it into a list")
    return items


def _sentence(sentence: str | Sequence[str] | Sentence) -> Sentence:
    if isinstance(sentence, Sentence):
        return sentence
    if isinstance(sentence, str):
        offsets = split_words(sentence)
        return Sentence([sentence[a:b] for a, b in offsets], text=sentence, offsets=offsets)
    return Sentence(list(sentence))


def _text(text: str | Text) -> Text:
    return text if isinstance(text, Text) else Text(text)


def _without(text: str, start: int, end: int) -> str:
    """The text without a word and the space before it, or where it is the first the space behind it."""
    before, after = text[:start], text[end:]
    space = len(before) - len(before.rstrip())
    if space and (not after or after[0].isspace()):
        before = before[: start - space]
    return before + after if before else after.lstrip()


def _flushed(results: Iterable[Item], ready: Ready, flush: Flush) -> Iterator[Item]:
    for result in results:
        yield result
        if not ready():
            flush()
