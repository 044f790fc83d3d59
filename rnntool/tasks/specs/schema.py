"""Settings: every choice a user has when training, each with its name, default, range and help, in one place.

Command-line options, `RNNTOOL_…` variables, keys of `--config FILE.toml`, presets and the `config.json` of a
model are all made from these dataclasses. Knows nothing of how a setting is used.
"""

from __future__ import annotations

import dataclasses
import math
import os
import re
import tomllib
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from rnntool.errors import UsageError, suggestion

CELL_NAMES = ("elman", "elman-relu", "gru", "lstm", "mogrifier", "mingru")
TOKENIZER_NAMES = ("unigram", "bpe", "char", "byte", "word")
ENCODER_NAMES = ("rnn", "bag", "window")
ADAPTIVE_FROM = 50_000  # entries of a vocabulary
MOST_SEED = 2**32 - 1  # torch takes 64 bits, of which 32 number the steps
POOLING_NAMES = ("last", "mean", "max", "attention")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhd]?)")
_UNIT_S = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}

# What a setting wants another one to be, or it has no effect: one of some values, anything (True), nothing
# (False). `dev` are the files of --dev. Where a task has no such setting, nothing is wanted.
Condition = tuple[str, ...] | range | bool
_RECURRENT: dict[str, Condition] = {"encoder": ("rnn",)}
_DIRECTED: dict[str, Condition] = {"encoder": ("rnn", "window")}
_LEARNED: dict[str, Condition] = {"tokenizer": tuple(name for name in TOKENIZER_NAMES if name != "byte")}
_OF_WORDS: dict[str, Condition] = {"tokenizer": ("word",)}
_OF_CHARACTERS: dict[str, Condition] = {**_OF_WORDS, "chars": ("lstm", "cnn")}
_OF_NEIGHBOURS: dict[str, Condition] = {**_RECURRENT, **_OF_WORDS, "features": False}
CONDITIONS: dict[str, dict[str, Condition]] = {
    "cell": _RECURRENT,
    "weight_dropout": {**_RECURRENT, "cell": tuple(name for name in CELL_NAMES if name != "mingru")},
    "direction": _RECURRENT,
    "window": {"encoder": ("window",)},
    "bidirectional": _DIRECTED,
    "pooling": _DIRECTED,
    "dropout_between": {"layers": range(2, 2**31)},
    "vectors": _OF_WORDS,
    "vectors_limit": {"vectors": True},
    "freeze": {"init": True},
    "unfreeze_every": {"init": True},
    "chars": _OF_WORDS,
    "char_embed": _OF_CHARACTERS,
    "char_hidden": _OF_CHARACTERS,
    "affix_embed": _OF_WORDS,
    "affix_buckets": {**_OF_WORDS, "affix_embed": True},
    "word_dropout": _OF_WORDS,
    "neighbours": _OF_NEIGHBOURS,
    "raw": {**_OF_NEIGHBOURS, "neighbours": True},
    "momentum": {"optimizer": ("sgd",)},
    "warmup": {"schedule": ("constant", "linear", "cosine", "plateau")},
    "bptt": {"context": ("stream",)},
    "dev_fraction": {"dev": False},
    "min_count": _LEARNED,
    "vocab_size": _LEARNED,
    "split": _OF_WORDS,
    "passage": {"features": False},
}


def duration_s(text: str) -> float:
    """Seconds in a duration such as `90`, `90s`, `10m`, `1.5h`; `UsageError` for anything else."""
    match = _DURATION.fullmatch(text.strip())
    if not match or not float(match[1]):
        raise UsageError(f"--max-time: expected a duration such as 90s, 10m or 1.5h, found {text!r}")
    return float(match[1]) * _UNIT_S[match[2]]


def pooling_names(text: str) -> str:
    """Check a pooling such as `last` or `mean+max`; `UsageError` names the choices."""
    names = text.split("+")
    for name in names:
        if name not in POOLING_NAMES:
            raise UsageError(f"--pooling: expected {', '.join(POOLING_NAMES)}, or several joined by +, found "
                             f"{text!r}")
    if len(set(names)) < len(names):
        raise UsageError(f"--pooling: expected each name once, found {text!r}; leave one out")
    return text


def option(
    default: Any,
    help: str,
    *,
    panel: str,
    choices: tuple[str, ...] = (),
    low: float | None = None,
    high: float | None = None,
    parse: Callable[[str], Any] | None = None,
    metavar: str | None = None,
    flags: Mapping[str, str] | None = None,
) -> Any:
    """A dataclass field that carries what the command line shows and checks.

    `flags` are switches that stand for one of the choices each.
    """
    metadata = {"help": help, "panel": panel, "choices": choices, "low": low, "high": high, "parse": parse,
                "metavar": metavar, "flags": flags or {}}
    return dataclasses.field(default=default, metadata=metadata)


def with_default(kind: type[Settings], name: str, default: Any) -> Any:
    """The dataclass field that `kind` has under this name, with another default."""
    field = next(field for field in dataclasses.fields(kind) if field.name == name)
    return dataclasses.field(default=default, metadata=field.metadata)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What all training commands share. Sizes in units, rates per step, times in seconds."""

    usual_epochs: ClassVar[int] = 20
    least_steps: ClassVar[int] = 800  # where nobody says how many epochs
    conditions: ClassVar[Mapping[str, Mapping[str, Condition]]] = CONDITIONS

    encoder: str = option(
        "rnn", "What reads a text: a recurrent network, or a feed-forward one over a window of tokens "
               "(Bengio et al. 2003).", panel="Network", choices=("rnn", "window"))
    cell: str = option("lstm", "Recurrent cell.", panel="Network", choices=CELL_NAMES)
    window: int = option(
        2, "Tokens on each side that --encoder window sees beside the one it stands at; only those before in "
           "language models and with --no-bidirectional.", panel="Network", low=0)
    layers: int = option(2, "Layers.", panel="Network", low=1)
    hidden: int = option(200, "Units of a layer, per direction.", panel="Network", low=1)
    embed: int = option(100, "Size of the token embedding.", panel="Network", low=1)
    dropout: float = option(
        0.5, "Dropout on the network's input and output.", panel="Network", low=0, high=0.95)
    dropout_between: float = option(
        0.3, "Variational dropout between layers: one mask for all time steps.", panel="Network",
        low=0, high=0.95)
    token_dropout: float = option(
        0.0, "Share of token types a step replaces by the unknown token.", panel="Network", low=0, high=0.95)
    weight_dropout: float = option(
        0.0, "Share of each recurrent matrix that a step does without: DropConnect, one mask for all time "
             "steps (Merity et al. 2018).", panel="Network", low=0, high=0.95)
    vectors: str | None = option(
        None, "Pretrained word vectors, GloVe or word2vec text format.", panel="Network", metavar="FILE")
    vectors_limit: int = option(
        200_000, "Read at most this many vectors, from the top of the file.", panel="Network", low=1)
    init: str | None = option(
        None, "Start from the vocabulary and the encoder of this trained model.", panel="Network",
        metavar="MODEL")
    freeze: bool = option(False, "Keep what --init carried over as it is.", panel="Network")
    unfreeze_every: int = option(
        0, "Keep it so at first, and free it layer by layer from the top, one after so many epochs each "
           "(Howard and Ruder 2018); 0 learns all from the start.", panel="Network", low=0)

    epochs: int | None = option(
        None, "Passes over the training data. Where left out: 20 for lm and tag, 8 for classify, and "
              "more where the data is so small that this makes few steps.", panel="Training", low=1)
    max_time: float | None = option(
        None, "Stop in time: 90s, 10m, 1.5h. The schedule then ends when the time does.", panel="Training",
        low=1, parse=duration_s, metavar="TIME")
    patience: int = option(
        0, "Stop after this many evaluations without a better dev score; 0 never.", panel="Training", low=0)
    batch_size: int = option(32, "Records (or columns of a stream) in a batch.", panel="Training", low=1)
    lr: float = option(0.002, "Highest learning rate.", panel="Training", low=0)
    lr_decay_by_layer: float = option(
        1.0, "Divide the rate by this for each layer down from the output (Howard and Ruder 2018 take 2.6).",
        panel="Training", low=1)
    optimizer: str = option("adamw", "Optimizer.", panel="Training", choices=("adamw", "sgd"))
    schedule: str = option(
        "linear", "Learning rate over time.", panel="Training",
        choices=("constant", "linear", "cosine", "plateau", "one-cycle"))
    warmup: float = option(
        0.0, "Share of training in which the rate rises to its height.", panel="Training", low=0, high=0.9)
    weight_decay: float = option(
        0.01, "Weight decay of matrices; embeddings have none.", panel="Training", low=0)
    momentum: float = option(0.0, "Momentum of SGD.", panel="Training", low=0, high=0.999)
    clip: float = option(1.0, "Clip the gradient to this norm; 0 never.", panel="Training", low=0)
    precision: str = option(
        "auto", "Arithmetic; auto takes bf16 where the processor has it.", panel="Training",
        choices=("auto", "fp32", "bf16"))
    ema: float = option(0.0, "Evaluate and keep a moving average of the weights with this decay; 0 is off.",
                        panel="Training", low=0, high=0.99999)
    evaluations: int = option(1, "Evaluations on the dev data in each epoch.", panel="Training", low=1)
    dev_fraction: float = option(
        0.1, "Share of the training records kept for development where --dev is not given; 0 trains on all, "
             "without evaluation.", panel="Data", low=0, high=0.9)
    int8: bool = option(
        False, "Write the graph that runs with 8-bit weights: smaller and faster.", panel="Output")
    license: str | None = option(
        None, "Licence that the model card names, as the Hub writes it.", panel="Output", metavar="NAME")
    language: str | None = option(
        None, "Language that the model card names, such as en.", panel="Output", metavar="CODE")
    about: str | None = option(
        None, "What the model card says first: what the model is and learned from.", panel="Output",
        metavar="TEXT")
    seed: int = option(1, "Seed of every random choice.", panel="Training", low=0, high=MOST_SEED)

    def __post_init__(self) -> None:
        kinds = value_types(type(self))
        for field in dataclasses.fields(self):
            value = _check(field, kinds[field.name], getattr(self, field.name))
            object.__setattr__(self, field.name, value)
        if self.freeze and self.unfreeze_every:
            raise UsageError("--freeze holds for the whole training, --unfreeze-every ends it layer by "
                             "layer; leave one out")

    def epochs_for(self, batches: int) -> int:
        """Passes over data of so many batches: those asked for, or the usual ones and more on small data."""
        if self.epochs is not None:
            return self.epochs
        return max(self.usual_epochs, -(-self.least_steps // max(1, batches)))

    def replace(self, **changes: Any) -> Self:
        """A copy with some settings changed, checked again."""
        return dataclasses.replace(self, **changes)

    def to_json(self) -> dict[str, Any]:
        """All settings as JSON types."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, kw_only=True)
class LMSettings(Settings):
    """Settings of `train lm`."""

    tokenizer: str = option("unigram", "What a token is.", panel="Data", choices=TOKENIZER_NAMES)
    vocab_size: int | None = option(
        None, "Largest vocabulary; 8000 for unigram and bpe, no limit for the others.", panel="Data", low=5)
    min_count: int = option(1, "Leave out words or characters seen less often.", panel="Data", low=1)
    lower: bool = option(False, "Lower-case the text.", panel="Data")
    text_column: str | None = option(
        None, "Column or key of the text in tables and JSONL.", panel="Data", metavar="COLUMN")
    label_column: str | None = option(
        None, "Learn text given its label, which is in this column or key.", panel="Data", metavar="COLUMN")
    unit: str = option(
        "line", "What a record is.", panel="Data", choices=("line", "paragraph", "document"),
        flags={"--paragraphs": "paragraph", "--documents": "document"})
    context: str = option(
        "line", "Each record from its own start, or state carried over records in order.", panel="Data",
        choices=("line", "stream"))
    direction: str = option(
        "forward", "Learn to predict the next token, or the one before too, from the same embedding: both "
                   "directions can be carried over.", panel="Network", choices=("forward", "both"))
    split: str = option(
        "space", "Where the words of --tokenizer word end: at white space, or where classifiers and taggers "
                 "split raw text, so that they read the same words.", panel="Data",
        choices=("space", "words"))
    bptt: int = option(
        70, "Steps of truncated backpropagation through time over a stream.", panel="Training", low=1)
    window: int = option(
        4, "Tokens before the one it stands at that --encoder window sees.", panel="Network", low=0)
    tied: bool = option(True, "Tie the softmax to the embedding.", panel="Network")
    softmax: str = option(
        "auto", "Score all tokens alike, or rarer ones in bands, by shorter vectors (Grave et al. 2017, "
                f"Baevski and Auli 2019); auto does so where there are more than {ADAPTIVE_FROM:,} entries.",
        panel="Network", choices=("auto", "full", "adaptive"))
    hidden: int = with_default(Settings, "hidden", 400)
    embed: int = with_default(Settings, "embed", 400)
    dropout: float = with_default(Settings, "dropout", 0.3)
    ar: float = option(
        0.0, "Weight of a penalty on large states of the last layer: their mean square, after dropout "
             "(activation regularisation, Merity et al. 2017).", panel="Training", low=0)
    tar: float = option(
        0.0, "Weight of a penalty on states that change much from a token to the next: the mean square of "
             "the difference (temporal activation regularisation).", panel="Training", low=0)
    lr: float = with_default(Settings, "lr", 0.003)
    warmup: float = with_default(Settings, "warmup", 0.02)
    ema: float = with_default(Settings, "ema", 0.998)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.label_column and self.context == "stream":
            raise UsageError("--label-column: expected --context line, as each text begins with its own label, "
                             "found --context stream")
        if self.softmax == "adaptive" and self.tokenizer == "bpe":
            raise UsageError("--softmax adaptive: expected a vocabulary in order of frequency, found --tokenizer "
                             "bpe, whose entries are in the order of merges; take unigram or word")
        if self.softmax == "adaptive" and self.vectors:
            raise UsageError("--softmax adaptive: has vectors of several sizes, found --vectors, which have "
                             "one; give --softmax full")


@dataclass(frozen=True, kw_only=True)
class WordSettings(Settings):
    """Settings of networks that read words: how a word becomes a vector."""

    chars: str = option(
        "cnn", "Character network over each word.", panel="Network", choices=("lstm", "cnn", "none"))
    char_embed: int = option(32, "Size of the character embedding.", panel="Network", low=1)
    char_hidden: int = option(64, "Output of the character network.", panel="Network", low=2)
    affix_embed: int = option(
        64, "Size of the hashed affix and shape embedding; 0 for none.", panel="Network", low=0)
    affix_buckets: int = option(
        8192, "Buckets that affixes and shapes are hashed into.", panel="Network", low=16)
    word_dropout: float = option(
        0.0, "Share of the words that a step hides whole, so that their neighbours must tell what they are.",
        panel="Network", low=0, high=0.95)
    bidirectional: bool = option(True, "Read in both directions.", panel="Network")
    vocab_size: int | None = option(None, "Largest vocabulary; no limit by default.", panel="Data", low=5)
    min_count: int = option(2, "Words seen less often have no embedding of their own.", panel="Data", low=1)
    lower: bool = option(False, "Lower-case words before the look-up of their embedding.", panel="Data")
    label_smoothing: float = option(
        0.0, "Share of the probability that the right label leaves to the others (Szegedy et al. 2016).",
        panel="Training", low=0, high=0.9)
    neighbours: float = option(
        0.1, "Weight of a second objective of networks that read words: each direction of the first layer "
             "tells the word that it reads next (Rei 2017).", panel="Training", low=0)
    raw: str | None = option(
        None, "Raw text, or records whose labels don't count, to learn --neighbours from as well: what few "
              "labelled records want most.", panel="Data", metavar="FILE")
    class_weights: str = option(
        "none", "Weigh rare labels up.", panel="Training", choices=("none", "balanced"))


@dataclass(frozen=True, kw_only=True)
class ClassifySettings(WordSettings):
    """Settings of `train classify`."""

    usual_epochs = 8
    conditions = CONDITIONS | {"min_count": _OF_WORDS}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.text_column is not None and self.text_column == self.label_column:
            raise UsageError("--text-column: expected another column than --label-column, found "
                             f"{self.text_column!r} in both; leave one out")

    tokenizer: str = option("word", "What a token is.", panel="Data", choices=TOKENIZER_NAMES)
    text_column: str | None = option(
        None, "Column or key of the text: a name, or a number from 1.", panel="Data", metavar="COLUMN")
    label_column: str | None = option(
        None, "Column or key of the label.", panel="Data", metavar="COLUMN")
    pooling: str = option(
        "max", "How states become one vector: last, mean, max, attention, or several joined by +.",
        panel="Network", parse=pooling_names, metavar="NAME[+NAME…]")
    consistency: float = option(
        1.0, "Weight of the agreement between two readings of a text under different dropout "
             "(R-Drop, Wu et al. 2021); takes twice the time.", panel="Training", low=0)
    encoder: str = option(
        "rnn", "What reads a text: a recurrent network, or a feed-forward one over the mean of the words "
               "(Iyyer et al. 2015) or over a window of them (Bengio et al. 2003).", panel="Network",
        choices=ENCODER_NAMES)
    layers: int = with_default(Settings, "layers", 1)
    embed: int = with_default(Settings, "embed", 300)
    affix_embed: int = with_default(WordSettings, "affix_embed", 120)
    token_dropout: float = with_default(Settings, "token_dropout", 0.2)
    lower: bool = with_default(WordSettings, "lower", True)
    ema: float = with_default(Settings, "ema", 0.99)


@dataclass(frozen=True, kw_only=True)
class TagSettings(WordSettings):
    """Settings of `train tag`."""

    column: str | None = option(
        None, "Column that holds the tag: a number from 1 or a name (upos, xpos, feats, deprel, a MISC key); "
              "several with commas between are tagged side by side, the first being the main one.",
        panel="Data", metavar="COLUMN[,COLUMN…]")
    features: str | None = option(
        None, "Character language model whose states at the ends of each word are read beside it (Akbik et "
              "al. 2018); it stays as it is and becomes a part of the tagger.", panel="Network",
        metavar="MODEL")
    passage: int = option(
        0, "Read sentences of a document together, up to so many words: what is said in one helps with the "
           "next. 0 reads each alone.", panel="Network", low=0, high=1000, metavar="WORDS")
    head: str = option("softmax", "Tag each word for itself, or the sentence as a chain.", panel="Network",
                       choices=("softmax", "crf"))
    token_dropout: float = with_default(Settings, "token_dropout", 0.4)
    word_dropout: float = with_default(WordSettings, "word_dropout", 0.2)
    embed: int = with_default(Settings, "embed", 160)
    char_hidden: int = with_default(WordSettings, "char_hidden", 160)
    affix_embed: int = with_default(WordSettings, "affix_embed", 120)
    label_smoothing: float = with_default(WordSettings, "label_smoothing", 0.1)
    lower: bool = with_default(WordSettings, "lower", True)
    lr: float = with_default(Settings, "lr", 0.003)
    ema: float = with_default(Settings, "ema", 0.998)


SETTINGS: dict[str, type[Settings]] = {"lm": LMSettings, "classify": ClassifySettings, "tag": TagSettings}

PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "lm": {
        "char": {
            "tokenizer": "char", "context": "stream", "embed": 128, "hidden": 512, "dropout": 0.4,
            "dropout_between": 0.3, "batch_size": 32, "bptt": 128, "epochs": 20,
        },
        # Plain SGD with a high rate does better on words than AdamW (Merity et al. 2018), and the average of
        # weights at a rate that stays better than a rate that falls.
        "word": {
            "tokenizer": "word", "context": "stream", "embed": 352, "hidden": 352, "dropout": 0.3,
            "dropout_between": 0.3, "weight_dropout": 0.2, "optimizer": "sgd", "lr": 20.0,
            "schedule": "constant", "weight_decay": 0.0, "clip": 0.25, "warmup": 0.0, "ema": 0.9995,
            "batch_size": 20, "bptt": 35, "epochs": 9,
        },
        # For hours: a network that could learn its text by heart, what keeps it from that, and a rate that
        # stays, whose noise is averaged away (as AWD-LSTM's is, Merity et al. 2018).
        "best": {
            "tokenizer": "word", "context": "stream", "embed": 650, "hidden": 650, "dropout": 0.5,
            "dropout_between": 0.3, "weight_dropout": 0.4, "optimizer": "sgd", "lr": 20.0,
            "schedule": "constant", "weight_decay": 1e-6, "clip": 0.25, "warmup": 0.0, "ema": 0.9998,
            "batch_size": 20, "bptt": 35, "epochs": 55,
        },
    },
    "classify": {
        "fast": {"epochs": 5, "consistency": 0.0},
    },
    "tag": {
        "fast": {"epochs": 9, "word_dropout": 0.1, "passage": 100},
        "ner": {"head": "crf", "lower": False, "token_dropout": 0.3, "word_dropout": 0.1, "passage": 100},
        "best": {"hidden": 400, "embed": 300, "dropout": 0.6, "affix_embed": 200, "char_hidden": 256,
                 "word_dropout": 0.25, "passage": 100, "epochs": 32},
    },
}


def preset(task: str, name: str) -> dict[str, Any]:
    """Settings of a named preset; `UsageError` lists the names."""
    try:
        return PRESETS[task][name]
    except KeyError:
        known = ", ".join(PRESETS[task])
        raise UsageError(f"--preset: expected one of {known} for {task}, found {name!r}") from None


def resolve(
    task: str, given: Mapping[str, Any], *, preset_name: str | None = None, file: Path | None = None,
    inherit: Callable[[Settings], Mapping[str, Any]] | None = None, dev: Sequence[str] = (),
) -> Settings:
    """Settings of a task: given on the command line or in the environment > file > preset > base > default.

    In `given` a value of None means that the user did not choose. The base is what `inherit` makes of the
    settings without it. `UsageError` where one that the user chose has no effect beside the others and the
    files of --dev; what a preset or a default has may have none.
    """
    kind = SETTINGS[task]
    values = preset(task, preset_name) if preset_name else {}
    chosen = _from_file(kind, file) if file else {}
    chosen |= {key: value for key, value in given.items() if value is not None}
    settings = kind(**{**values, **chosen})
    if inherit is not None:
        settings = kind(**{**inherit(settings), **values, **chosen})
    _check_effects(settings, chosen, {**settings.to_json(), "dev": dev})
    return settings


def _check_effects(settings: Settings, chosen: Iterable[str], values: Mapping[str, Any]) -> None:
    """`UsageError` for the first setting of those `chosen` that has no effect where others are `values`."""
    for name in chosen:
        for other, wanted in settings.conditions.get(name, {}).items():
            if not _asks(settings, name, values[name]) or other not in values:
                continue
            value, flags = values[other], (flag(name), flag(other))
            asks = _asks(settings, other, value)
            if isinstance(wanted, bool) and asks != wanted:
                remedy = "goes with {1}, found none; leave it out, or give {1}" if wanted else (
                    "has no effect beside {1}; leave one out")
                raise UsageError(f"{flags[0]}: {remedy.format(*flags)}")
            if not isinstance(wanted, bool) and value not in wanted:
                either = f"{wanted[0]} or more" if isinstance(wanted, range) else " or ".join(wanted)
                raise UsageError(f"{flags[0]}: goes with {flags[1]} {either}, found {flags[1]} {value}; "
                                 "leave it out")


def _asks(settings: Settings, name: str, value: Any) -> bool:
    """Whether a value asks for something: 0, none, and off where that is the default, do not."""
    if isinstance(value, bool):
        return value or bool(getattr(type(settings), name))
    return bool(value) and value != "none"


def from_json(task: str, values: Mapping[str, Any]) -> Settings:
    """Settings as `to_json` wrote them."""
    return SETTINGS[task](**values)


def flag(name: str) -> str:
    """The command-line spelling of a setting."""
    return "--" + name.replace("_", "-")


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return f"RNNTOOL_{name.upper()}"


def idle_variables() -> Iterator[str]:
    """A sentence for each variable of the environment that is called like a setting's, and is none's."""
    names = {field.name for kind in SETTINGS.values() for field in dataclasses.fields(kind)}
    known = {"RNNTOOL_MODELS", "RNNTOOL_MODEL", "RNNTOOL_DEVICE", "RNNTOOL_THREADS", *map(variable, names)}
    for name in sorted(name for name in os.environ if name.startswith("RNNTOOL_") and name not in known):
        yield f"{name}: stands for no setting and is passed over; {suggestion(name, known)}"


def value_types(kind: type[Settings]) -> dict[str, type]:
    """The plain type of each setting: `int` for `int | None`."""
    hints = typing.get_type_hints(kind)
    return {name: _without_none(hint) for name, hint in hints.items()}


def _without_none(hint: Any) -> type:
    parts = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    return typing.cast(type, next(part for part in parts if part is not type(None)))


def _from_file(kind: type[Settings], path: Path) -> dict[str, Any]:
    try:
        values = tomllib.loads(path.read_text("utf-8-sig"))
    except OSError as error:
        raise UsageError(f"{path}: can't be read ({error.strerror}); give --config a TOML file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: is no TOML file ({error})") from None
    fields, kinds = {field.name: field for field in dataclasses.fields(kind)}, value_types(kind)
    settings: dict[str, Any] = {}
    for key, value in values.items():
        name = key.replace("-", "_")
        if isinstance(value, dict):
            raise UsageError(f"{path}: expected all settings at the top level, found the table [{key}]; take its "
                             "heading away")
        if name not in fields:
            raise UsageError(f"{path}: unknown setting {key!r}; {suggestion(name, fields).replace('_', '-')}")
        if name in settings:
            raise UsageError(f"{path}: expected {key!r} once, found it with - and with _; leave one out")
        parse = fields[name].metadata["parse"]
        try:
            value = parse(value) if parse and isinstance(value, str) else value
            settings[name] = _check(fields[name], kinds[name], value)
        except UsageError as error:
            raise UsageError(f"{path}: {error}") from None
    return settings


def _check(field: dataclasses.Field[Any], want: type, value: Any) -> Any:
    """The value in its setting's own type; `UsageError` says what was wanted."""
    if value is None and field.default is None:
        return None
    if want is float and type(value) is int:
        value = float(value)
    if type(value) is not want:
        raise UsageError(f"{flag(field.name)}: expected {_TYPE_NAMES[want]}, found {value!r}")
    choices, low, high = (field.metadata[key] for key in ("choices", "low", "high"))
    if choices and value not in choices:
        raise UsageError(f"{flag(field.name)}: expected one of {', '.join(choices)}, found {value!r}")
    beyond = isinstance(value, float) and not math.isfinite(value)
    if (low is not None and value < low) or (high is not None and value > high) or beyond:
        span = f"from {low} to {high}" if high is not None else f"of at least {low}"
        raise UsageError(f"{flag(field.name)}: expected a number {span}, found {value}")
    return value


_TYPE_NAMES = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
