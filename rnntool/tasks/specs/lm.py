"""The language modeling task: settings, presets and names."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass

from rnntool.data.options import data, network, training, with_default
from rnntool.errors import UsageError, setting
from rnntool.models.config import DIRECTIONS
from rnntool.tasks.specs.settings import LEARNED, RECURRENT, TOKENIZER_NAMES, WORDS, Settings, duration_s
from rnntool.tasks.specs.spec import Preset, TaskSpec

SIZES = ("layers", "hidden", "embed", "dropout", "dropout_between")  # what `auto_size` may change
# On words, plain SGD with a high rate does better than AdamW (Merity et al. 2018).
WORDS_IN_ORDER: Preset = {
    "optimizer": "sgd", "lr": 30.0, "weight_decay": 0.0, "clip": 0.25, "warmup": 0.0, "ema": 0.0,
    "batch_size": 20, "bptt": 35, "initial_weights": "uniform"}
CHARACTERS_IN_ORDER: Preset = {"embed": 128, "hidden": 512, "dropout": 0.4, "bptt": 64}
OF_NGRAMS = ("encoder", "order", "seed")  # settings of the network and the training that n-grams have
ADAPTIVE_FROM = 50_000  # vocabulary entries from which the adaptive softmax is the default


@dataclass(frozen=True, kw_only=True)
class LMSettings(Settings):
    """Settings of `train lm`."""

    tokenizer: str = data("unigram", "What a token is.", choices=TOKENIZER_NAMES)
    vocab_size: int | None = data(
        None, "Largest size of the vocabulary. The default is 8000 for unigram and bpe, and no limit for the "
              "others.", low=5, requires=LEARNED)
    min_count: int = data(
        1, "Leave out words or characters that occur less often than this.", low=1, requires=LEARNED)
    lower: bool = data(False, "Lowercase the text.")
    text_column: str | None = data(None, "Column or key of the text in tables and JSONL.", metavar="COLUMN")
    label_column: str | None = data(
        None, "Column or key of the label. The model then learns to write text for a given label.",
        metavar="COLUMN")
    skip_unlabelled: bool = with_default(
        Settings, "skip_unlabelled", False, requires={"label_column": True},
        help="Skip texts without a label, and report how many. By default, the first one is an error.")
    unit: str = data(
        "line", "What a record is.", choices=("line", "paragraph", "document"),
        switches={"--paragraphs": "paragraph", "--documents": "document"})
    context: str = data(
        "line", "Start each record from an empty state (line), or carry the state from record to record "
                "(stream).", choices=("line", "stream"))
    direction: str = network(
        "forward", "Predict the next token (forward), or also the previous one from the same embedding "
                   "(both), so that another training can start from both directions.", choices=DIRECTIONS,
        requires=RECURRENT)
    split: str = data(
        "space", f"How {setting('tokenizer', 'word')} splits text: at white space (space), or as classifiers "
                 "and taggers split raw text (words), so that they read the same words.",
        choices=("space", "words"), requires=WORDS)
    bptt: int = training(
        70, "Tokens of a stream through which gradients flow back (truncated backpropagation through time).",
        low=1, requires={"context": ("stream",)})
    encoder: str = with_default(
        Settings, "encoder", "rnn", choices=("rnn", "window", "ngram"),
        help="What reads the text: a recurrent network (rnn), a feed-forward one over a window of tokens "
             "(window, Bengio et al. 2003), or no network but counted n-grams (ngram, modified Kneser-Ney "
             "smoothing, Chen and Goodman 1999).")
    order: int = network(
        5, f"Length of the longest n-grams of {setting('encoder', 'ngram')}.", low=1, high=20,
        requires={"encoder": ("ngram",)})
    window: int = with_default(
        Settings, "window", 4,
        help=f"Number of tokens that {setting('encoder', 'window')} sees before the next one.")
    tied: bool = network(True, "Tie the softmax to the embedding (Inan et al. 2017).")
    softmax: str = network(
        "auto", "Give all tokens vectors of the same size (full), or give rarer tokens shorter ones "
                "(adaptive softmax and input, Grave et al. 2017, Baevski and Auli 2019). auto chooses "
                f"adaptive for vocabularies of more than {ADAPTIVE_FROM:,} entries.",
        choices=("auto", "full", "adaptive"))
    auto_size: bool = network(
        False, f"With {setting('max_time')}, measure the speed, and choose the number of units and the "
               "dropout so that the time is enough. It is on unless one of them, a preset or an initial "
               "model is given.", requires={"max_time": True})
    hidden: int = with_default(Settings, "hidden", 400)
    embed: int = with_default(Settings, "embed", 400)
    dropout: float = with_default(Settings, "dropout", 0.3)
    ar: float = training(
        0.0, "Weight of activation regularization: the mean square of the last layer's states after dropout "
             "(Merity et al. 2017).", low=0)
    tar: float = training(
        0.0, "Weight of temporal activation regularization: the mean square of the difference between the "
             "last layer's states at adjacent tokens (Merity et al. 2017).", low=0)
    lr: float = with_default(Settings, "lr", 0.003)
    warmup: float = with_default(Settings, "warmup", 0.02)
    ema: float = with_default(Settings, "ema", 0.998)
    sample_every: float | None = training(
        None, "Print a sample of the model's text after each TIME of training, such as 30s or 1m. The "
              "training itself stays the same.", low=1,
        parse=lambda text: duration_s(text, "sample_every"), metavar="TIME")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.label_column and self.context == "stream":
            raise UsageError(
                setting="label_column", found="a stream",
                expected=f"{setting('context', 'line')}, because each text starts from its own label")
        if self.softmax == "adaptive" and self.tokenizer == "bpe":
            raise UsageError(
                f"{setting('softmax', 'adaptive')} needs a vocabulary in order of frequency, but "
                f"{setting('tokenizer', 'bpe')} orders its entries by merges",
                advice=f"use {setting('tokenizer', 'unigram')} or {setting('tokenizer', 'word')}")
        if self.softmax == "adaptive" and self.vectors:
            raise UsageError(
                f"{setting('softmax', 'adaptive')} has vectors of several sizes, but those of "
                f"{setting('vectors')} have one", advice=f"give {setting('softmax', 'full')}")

    def unused(self) -> dict[str, str]:
        """Return the settings of networks and labels, if the model is made of n-grams."""
        if self.encoder != "ngram":
            return {}
        names = [field.name for field in dataclasses.fields(self)
                 if field.metadata["panel"] in ("Network", "Training") and field.name not in OF_NGRAMS]
        return dict.fromkeys([*names, "label_column", "int8"], setting("encoder", "ngram"))


def recipe(settings: LMSettings, chosen: Collection[str]) -> Preset:
    """Return better defaults for words or characters of a stream, and whether sizes can be chosen.

    An optimizer or a learning rate that the user chose goes with the usual settings of the training.
    """
    if settings.init or settings.vectors or settings.encoder != "rnn":
        return {}
    better: Preset = {}
    if settings.context == "stream" and settings.tokenizer == "word":
        better = WORDS_IN_ORDER if {"optimizer", "lr"}.isdisjoint(chosen) else {}
    elif settings.context == "stream" and settings.tokenizer in ("char", "byte"):
        better = CHARACTERS_IN_ORDER
    is_open = settings.max_time is not None and not any(name in chosen for name in SIZES)
    return {**better, "auto_size": True} if is_open else better


SPEC = TaskSpec(
    name="lm",
    title="a language model",
    summary="Train a language model on text: words, subwords, characters or bytes.",
    examples=(
        "rnntool train lm poems.txt -o poet --tokenizer char --context stream",
        "rnntool train lm train.txt --dev valid.txt -o words --tokenizer word --max-time 10m",
        "rnntool train lm reviews.tsv -o reviewer --label-column label",
    ),
    settings=LMSettings,
    presets={
        "char": {
            "tokenizer": "char", "context": "stream", "embed": 128, "hidden": 512, "dropout": 0.4,
            "dropout_between": 0.3, "batch_size": 32, "bptt": 128, "epochs": 20,
        },
        # Averaging the weights at a constant rate does better than a falling rate, if there is time for it.
        "word": {
            "tokenizer": "word", "context": "stream", "embed": 352, "hidden": 352, "dropout": 0.3,
            "dropout_between": 0.3, "weight_dropout": 0.2, "optimizer": "sgd", "lr": 20.0,
            "schedule": "constant", "weight_decay": 0.0, "clip": 0.25, "warmup": 0.0, "ema": 0.9995,
            "batch_size": 20, "bptt": 35, "epochs": 9,
        },
        # For hours of training: a network that is large enough to memorize its text, strong regularization,
        # and a constant rate whose noise is averaged away, as in AWD-LSTM (Merity et al. 2018).
        "best": {
            "tokenizer": "word", "context": "stream", "embed": 650, "hidden": 650, "dropout": 0.5,
            "dropout_between": 0.3, "weight_dropout": 0.4, "optimizer": "sgd", "lr": 20.0,
            "schedule": "constant", "weight_decay": 1e-6, "clip": 0.25, "warmup": 0.0, "ema": 0.9998,
            "batch_size": 20, "bptt": 35, "epochs": 55,
        },
    },
    preset_uses={
        "char": "Characters in order, such as plays.",
        "word": "Words in order, such as the Penn Treebank, in minutes.",
        "best": "Words, in hours: a larger network with more regularization.",
    },
    search={"hidden": "0.5x,1x,1.5x", "layers": "1,2,3", "dropout": "0.1:0.6", "dropout_between": "0.0:0.5",
            "lr": "0.3x:3x:log"},
    reads="texts",
    needs_labels=("label_column",),
    learns_from="text",
    commands=("generate", "score"),
    usage=("rnntool generate -m {model}{label} -n 3",
           "echo 'A line of text.' | rnntool score -m {model}{label}"),
    pipeline_tag="text-generation",
    higher_is_better=False,
    metrics=("perplexity", "bits_per_char", "bits_per_byte", "tokens", "oov"),
    implementation="rnntool.tasks.lm:LMTask",
    recipe=recipe,
)
