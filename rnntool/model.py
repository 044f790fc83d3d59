"""A trained model, ready to run: iterators in, iterators out. The commands and `rnntool.load` are made of it.

Records are taken in windows, sorted by length into batches, run, and given back in their order, so memory
stays flat over any stream. Where the input says that reading on would block, what is there is answered first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from rnntool import config, decoding, modeldir
from rnntool.config import cores
from rnntool.decoding import Sampling
from rnntool.errors import DataError, ModelError, RnntoolError, UsageError
from rnntool.formats import Pair, Sentence, Tagged, Text, Weighed
from rnntool.labels import SCHEMES
from rnntool.tasks import TASKS, ClassifyTask, LMTask, TagTask, Task
from rnntool.tasks.base import Engine, by_length
from rnntool.tasks.classify import Classified
from rnntool.tasks.lm import EngineStep, Scored
from rnntool.tokenize import BOS, EOS, PAD, UNK, split_words

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

AHEAD = 1  # windows under way beside the one that is read
WINDOW = 4096  # records sorted into batches together, at most
WINDOW_TOKENS = 1 << 16  # and their tokens, about
BUDGET = 1024  # padded tokens in a batch: small enough for the caches, and for memory to stay flat
BANNED = (PAD, BOS, UNK)  # never sampled
ANSWERS = {"lm": ("logits", "log_probs"), "classify": ("logits",), "tag": ("emissions",)}  # of the graph
COMMANDS = {"lm": "generate or score", "classify": "classify", "tag": "tag"}

Record = TypeVar("Record")
Result = TypeVar("Result")
SomeTask = TypeVar("SomeTask", bound=Task[Any, Any, Any])
Ready = Callable[[], bool]  # whether another record can be had without waiting
Flush = Callable[[], None]  # sends what was written on


@dataclass(frozen=True, kw_only=True)
class Generated:
    """One sample: its number, its prompt, and the text behind it with the log-probabilities of its tokens."""

    index: int
    prompt: str
    text: str
    tokens: list[str]
    log_probs: list[float]  # nats; the last one is EOS's where `finished`
    finished: bool


def _always() -> bool:
    return True


def _never() -> None:
    pass


class _Workers:
    """Threads that run batches side by side; they are started when there is more than one batch to run."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._pool: ThreadPoolExecutor | None = None

    def map(self, run: Callable[[Record], Result], batches: list[Record]) -> Iterable[Result]:
        """The results of `run`, in order."""
        if self.count == 1 or (len(batches) == 1 and self._pool is None):
            return [run(batch) for batch in batches]
        if self._pool is None:
            from concurrent.futures import ThreadPoolExecutor

            self._pool = ThreadPoolExecutor(self.count)
        return self._pool.map(run, batches)

    def __enter__(self) -> Self:
        """Leave by ending the threads."""
        return self

    def __exit__(self, *exc: object) -> None:
        """End the threads; what was not begun is dropped."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


class Model:
    """A model folder with the engine that runs it; `workers` batches run side by side."""

    def __init__(
        self, folder: Path, settings: dict[str, Any], task: Task[Any, Any, Any], engine: Engine, *,
        workers: int = 1,
    ) -> None:
        self.folder = folder
        self.workers = workers
        self.config = settings
        self.task = task
        self.engine = engine
        self._reading = 0  # windows being read: more than one where a stream's records come from this model

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.resolve().name

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
        ready: Ready = _always,
        flush: Flush = _never,
    ) -> Iterator[tuple[Sentence, Tagged]]:
        """Each sentence with its tags; see `tag`."""
        task = self.require(TagTask)
        if scheme is not None and scheme not in SCHEMES:
            raise UsageError(f"scheme: want one of {', '.join(SCHEMES)}, found {scheme!r}")

        def decode(batch: Sequence[Sentence], outputs: Any) -> list[Tagged]:
            return task.decode(batch, outputs, probs=probs, nbest=nbest, scheme=scheme, threshold=threshold)

        return self._run(records, decode, ready=ready, flush=flush)

    def classify(self, texts: Iterable[str | Text]) -> Iterator[Classified]:
        """Labels of each text, ranked by probability."""
        return (result for _, result in self.classified(map(_text, _several(texts))))

    def classified(
        self, records: Iterable[Text], *, top: int | None = None, ready: Ready = _always,
        flush: Flush = _never,
    ) -> Iterator[tuple[Text, Classified]]:
        """Each text with its labels, of which `top` are ranked, all by default."""
        task = self.require(ClassifyTask)
        return self._run(records, partial(task.decode, top=top), ready=ready, flush=flush)

    def explain(self, texts: Iterable[str | Text]) -> Iterator[tuple[Classified, list[Weighed]]]:
        """Labels of each text, and its words with what each does for the most probable label."""
        return ((result, words) for _, result, words in self.explained(map(_text, _several(texts))))

    def explained(
        self, records: Iterable[Text], *, ready: Ready = _always, flush: Flush = _never
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

        read = self._run(readings(), probabilities, ready=lambda: to_come > 0 or ready(), flush=flush)
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
        ready: Ready = _always, flush: Flush = _never,
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
        return self._run(records, task.decode, ready=ready, flush=flush)

    def compare(
        self, pairs: Iterable[Pair], *, label: str | None = None, ready: Ready = _always,
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
        ready: Ready = _always,
    ) -> Iterator[Generated]:
        """`n` samples for each prompt, or with `beam` the `n` best that beam search finds.

        `label` is what all are written given, where the model learned text given labels; it has to have one.
        Sample i of a run depends on `seed` and i alone. A text ends at EOS, after `max_tokens` tokens, or
        before `stop`. With `no_repeat_ngram` no run of that many tokens comes twice in a text, its prompt
        included. `watch` is told of the prompt and of each piece of text as it comes, with `batch_size`
        1. `ready` says whether another prompt can be had without waiting. `DataError` names a prompt's
        characters or words that the model does not know.
        """
        task = self.require(LMTask)
        writer = _Writer(task, EngineStep(self.engine, budget=task.budget), bos=task.begin(label),
                         seed=seed, max_tokens=max_tokens, min_tokens=min_tokens,
                         sampling=sampling or Sampling(), no_repeat_ngram=no_repeat_ngram, stop=stop,
                         watch=watch)
        wanted = ((prompt, writer.ids(prompt, allow_unknown)) for prompt in _several(prompts))
        if beam:
            for i, (prompt, ids) in enumerate(wanted):
                yield from writer.search(prompt, ids, beam=beam, n=n, first=i * n)
            return
        samples = ((prompt, ids) for prompt, ids in wanted for _ in range(n))
        first = 0
        for batch in _chunks(samples, batch_size, ready):
            yield from writer.sample(batch, first)
            first += len(batch)

    def _run(
        self,
        records: Iterable[Record],
        decode: Callable[[Sequence[Record], Any], list[Result]],
        *,
        ready: Ready,
        flush: Flush,
    ) -> Iterator[tuple[Record, Result]]:
        """Each record with its result, in order.

        While one window is computed the next is read, and the one before is decoded and handed out. Where the
        input would make us wait, everything that is there is answered first.
        """
        pending: deque[Iterator[tuple[Record, Result]]] = deque()
        with _Workers(self.workers) as workers:
            windows = self._windows(records, ready)
            while True:
                self._reading += 1
                try:
                    window = next(windows, None)
                except RnntoolError:
                    for answers in pending:  # what came before a bad record is answered
                        yield from answers
                    raise
                finally:
                    self._reading -= 1
                if window is None:
                    break
                pending.append(self._answers(window, decode, workers))
                if not self._reading:
                    self.task.forget()
                waiting = not ready()
                while len(pending) > (0 if waiting else AHEAD):
                    yield from pending.popleft()
                if waiting:
                    flush()  # whoever waits at the other end gets the answers before more is asked for
            for answers in pending:
                yield from answers

    def _answers(
        self, window: list[tuple[Record, Any]], decode: Callable[[Sequence[Record], Any], list[Result]],
        workers: _Workers,
    ) -> Iterator[tuple[Record, Result]]:
        """Begin to compute a window; the records and their results come when they are asked for."""
        budget = min(BUDGET, getattr(self.task, "budget", BUDGET))
        self.task.prepare(self.engine)
        batches = list(by_length([self.task.length(example) for _, example in window], budget))
        arrays = [self.task.collate([window[i][1] for i in batch]) for batch in batches]
        outputs = workers.map(lambda batch: self.task.run(self.engine, batch), arrays)

        def answers() -> Iterator[tuple[Record, Result]]:
            results: list[Any] = [None] * len(window)
            for batch, output in zip(batches, outputs, strict=True):
                for i, result in zip(batch, decode([window[i][0] for i in batch], output), strict=True):
                    results[i] = result
            yield from ((record, result) for (record, _), result in zip(window, results, strict=True))

        return answers()

    def _windows(self, records: Iterable[Record], ready: Ready) -> Iterator[list[tuple[Record, Any]]]:
        """Records and their examples, as many as are worth sorting, or as can be had without waiting."""
        window: list[tuple[Record, Any]] = []
        size = 0
        source = iter(records)
        while True:
            try:
                record = next(source)
                example = self.task.example(record)
            except StopIteration:
                break
            except RnntoolError:
                yield window  # what came before a bad record is answered
                raise
            window.append((record, example))
            size += self.task.length(window[-1][1])
            if len(window) >= WINDOW or size >= WINDOW_TOKENS or not ready():
                yield window
                window, size = [], 0
        if window:
            yield window

    @property
    def tokenizer_name(self) -> str:
        """The kind of its tokenizer."""
        return str(self.config["data"]["tokenizer"]["kind"])

    def require(self, kind: type[SomeTask]) -> SomeTask:
        """The task, where it is of this kind; `ModelError` otherwise."""
        if not isinstance(self.task, kind):
            raise ModelError(f"{self.folder}: is a model for `{COMMANDS[self.task.name]}` "
                             f"({self.task.name}), want one for `{COMMANDS[kind.name]}`; see rnntool models")
        return self.task


class _Writer:
    """Writes text after prompts."""

    def __init__(
        self, task: LMTask, step: EngineStep, *, bos: int, seed: int, max_tokens: int, min_tokens: int,
        sampling: Sampling, no_repeat_ngram: int, stop: str | None, watch: Callable[[str], None] | None,
    ) -> None:
        self.task = task
        self.step = step
        self.bos = bos  # the token before every prompt: BOS or a label's
        self.seed = seed
        self.max_tokens = max_tokens
        self.min_tokens = min_tokens
        self.sampling = sampling
        self.no_repeat_ngram = no_repeat_ngram
        self.stop = stop
        self.watch = watch
        self.held = ""

    def ids(self, prompt: str, allow_unknown: bool) -> list[int]:
        """A prompt's ids; `DataError` where it has something the model never saw."""
        tokenizer = self.task.tokenizer
        unknown = [] if allow_unknown else tokenizer.unknown(prompt)
        if unknown:
            surface, start = unknown[0]
            raise DataError(f"prompt {prompt!r}: the model does not know {surface!r} "
                            f"(character {start + 1}); leave it out or give --allow-unknown")
        return tokenizer.encode(prompt)

    def sample(self, batch: list[tuple[str, list[int]]], first: int) -> Iterator[Generated]:
        """One sample for each (prompt, ids) of a batch, the first of which is number `first` of the run."""
        tokenizer = self.task.tokenizer
        ids: list[list[int]] = [[] for _ in batch]
        log_probs: list[list[float]] = [[] for _ in batch]
        finished = [False] * len(batch)
        streams = []
        if self.watch:
            streams = [tokenizer.stream_decoder(prompt) for _, prompt in batch]
            self.watch(batch[0][0])
        events = decoding.generate(
            self.step, [prompt for _, prompt in batch], first_index=first, seed=self.seed, bos=self.bos,
            eos=EOS, max_tokens=self.max_tokens, min_tokens=self.min_tokens, banned=BANNED,
            sampling=self.sampling,
            no_repeat_ngram=self.no_repeat_ngram, stop=self._stops(batch) if self.stop else None,
        )
        for event in events:
            log_probs[event.row].append(event.log_prob)
            if event.token == EOS:
                finished[event.row] = True
            else:
                ids[event.row].append(event.token)
            if self.watch:
                stream = streams[event.row]
                text = "" if event.token == EOS else stream.push(event.token)
                self._show(text + (stream.flush() if event.last else ""), last=event.last)
        for row, (prompt, prompt_ids) in enumerate(batch):
            text, kept = self._cut(prompt_ids, ids[row])
            if kept < len(ids[row]):
                del log_probs[row][kept:]
            yield self._generated(first + row, prompt, text, ids[row][:kept], log_probs[row], finished[row])

    def search(self, prompt: str, ids: list[int], *, beam: int, n: int, first: int) -> Iterator[Generated]:
        """The `n` best texts after a prompt; their log-probability is one number for the whole text."""
        found = decoding.beam_search(
            self.step, ids, beam=max(beam, n), bos=self.bos, eos=EOS, max_tokens=self.max_tokens,
            min_tokens=self.min_tokens, banned=BANNED, no_repeat_ngram=self.no_repeat_ngram,
        )
        for i, hypothesis in enumerate(found[:n]):
            text, kept = self._cut(ids, hypothesis.ids)
            yield self._generated(first + i, prompt, text, hypothesis.ids[:kept], [hypothesis.log_prob],
                                  hypothesis.finished)

    def _show(self, text: str, *, last: bool) -> None:
        """Pass a piece of text on, but hold back what may be the beginning of `stop`."""
        assert self.watch is not None
        if not self.stop:
            self.watch(text)
            return
        self.held += text
        if self.stop in self.held:
            self.watch(self.held[: self.held.index(self.stop)])
            self.held = ""
            return
        keep = 0 if last else len(self.stop) - 1
        sent = len(self.held) - min(keep, len(self.held))
        self.watch(self.held[:sent])
        self.held = self.held[sent:]

    def _cut(self, prompt: list[int], ids: list[int]) -> tuple[str, int]:
        """What `ids` add to the text of the prompt, up to `stop`, and how many of them begin in that."""
        decoder = self.task.tokenizer.stream_decoder(prompt)
        parts = list(map(decoder.push, ids))
        text = "".join(parts) + decoder.flush()
        end = text.find(self.stop) if self.stop else -1
        if end < 0:
            return text, len(ids)
        starts = accumulate(map(len, parts[:-1]), initial=0)
        return text[:end], sum(start < end for start in starts)

    def _generated(
        self, index: int, prompt: str, text: str, ids: list[int], log_probs: list[float], finished: bool
    ) -> Generated:
        tokens = [self.task.tokenizer.piece(i) for i in ids]
        return Generated(index=index, prompt=prompt, text=text, tokens=tokens, log_probs=log_probs,
                         finished=finished)

    def _stops(self, batch: list[tuple[str, list[int]]]) -> Callable[[int, list[int]], bool]:
        assert self.stop is not None
        wanted, room = self.stop, len(self.stop) - 1
        decoders = [self.task.tokenizer.stream_decoder(prompt) for _, prompt in batch]
        ends = [""] * len(batch)  # what is there of each text and may be the beginning of `stop`

        def stops(row: int, ids: list[int]) -> bool:
            text = ends[row] + decoders[row].push(ids[-1])
            ends[row] = text[-room:] if room else ""
            return wanted in text

        return stops


def load(
    model: str | Path, *, device: str = "cpu", threads: int = 0, side_by_side: bool = True
) -> Model:
    """Load a model by its folder or by its name; it runs on the processor, or with torch on `device`.

    Taggers and classifiers run batches side by side, a thread each; without `side_by_side` one batch after
    the other has all threads, as whoever calls the engine itself wants it.
    Raises `ModelError` where there is no such model or it is damaged. Runs no code from the folder.
    """
    folder = modeldir.find(model)
    content = modeldir.read_config(folder)
    try:
        settings = config.from_json(content["task"], content["settings"])
        task = TASKS[content["task"]].load(folder, content["data"], settings)
        outputs = content["network"]["head"]["outputs"]
        vocabulary = content["network"]["encoder"]["vocabulary"]
    except (KeyError, TypeError, UsageError, OSError) as error:
        raise ModelError(
            f"{folder / modeldir.CONFIG}: is damaged ({error}); copy or train the model again") from None
    sizes = task.sizes()
    if (sizes["vocabulary"], sizes["outputs"]) != (vocabulary, outputs):
        raise ModelError(f"{folder}: its files don't belong together (vocabulary {sizes['vocabulary']} and "
                         f"{sizes['outputs']} outputs, {modeldir.CONFIG} has {vocabulary} and {outputs}); "
                         "copy the model again")
    if isinstance(task, LMTask):
        task.tokenizer.threads = threads
    workers = threads or cores()
    # Sentences and short texts are many small batches, which run best side by side, a thread each. A language
    # model has large products to share among its threads.
    side_by_side &= task.name != "lm"
    return Model(folder, content, task, _engine(folder, content, device, 1 if side_by_side else workers),
                 workers=workers if side_by_side and device in ("auto", "cpu") else 1)


def _engine(folder: Path, content: dict[str, Any], device: str, threads: int) -> Engine:
    if device in ("auto", "cpu"):
        from rnntool.engines.onnx import OnnxEngine

        engine = OnnxEngine(folder / modeldir.GRAPH, threads=threads)
        head, encoder = content["network"]["head"], content["network"]["encoder"]
        answers = [*ANSWERS[content["task"]], *(["transitions"] if head.get("crf") else [])]
        if (not set(answers) <= engine.widths.keys() or engine.widths[answers[0]] != head["outputs"]
                or ("words" in engine.inputs) != bool(encoder.get("word"))):
            raise ModelError(f"{engine.path}: doesn't fit {modeldir.CONFIG}; copy or train the model again")
        return engine
    from rnntool.engines.torch import TorchEngine, pick_device
    from rnntool.models.weights import load_network

    return TorchEngine(load_network(folder, content), pick_device(device))


def _several(items: Iterable[Record]) -> Iterable[Record]:
    """The items, where they are not one text, whose characters would be taken for texts."""
    if isinstance(items, str):
        raise UsageError(f"want texts, found one text, {items!r}; put it into a list")
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


def _flushed(results: Iterable[Record], ready: Ready, flush: Flush) -> Iterator[Record]:
    for result in results:
        yield result
        if not ready():
            flush()


def _chunks(items: Iterable[Record], size: int, ready: Ready) -> Iterator[list[Record]]:
    chunk: list[Record] = []
    source = iter(items)
    while True:
        try:
            chunk.append(next(source))
        except StopIteration:
            break
        except RnntoolError:
            if chunk:
                yield chunk  # what came before a bad item is answered
            raise
        if len(chunk) == size or not ready():
            yield chunk
            chunk = []
    if chunk:
        yield chunk
