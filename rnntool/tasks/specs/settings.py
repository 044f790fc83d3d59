"""Settings that the tasks share, each with its default, range and help.

Command-line options, `RNNTOOL_…` variables, keys of a TOML file, presets and the settings in a model's
config.json are all made from these dataclasses. Knows nothing of how a setting is used.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from rnntool.data.options import Condition, Options, data, network, output, training
from rnntool.errors import UsageError, contradiction, setting
from rnntool.models.cells import CELL_NAMES, CELLS
from rnntool.models.config import CHARACTER_NETWORK_NAMES

_CELLS_WITH_MATRIX = tuple(name for name, cell in CELLS.items() if cell.has_recurrent_matrix)
TOKENIZER_NAMES = ("unigram", "bpe", "char", "byte", "word")
MAX_SEED = 2**32 - 1  # torch's seeds have 64 bits; the lower 32 hold the training step
_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhd]?)")
_UNIT_S = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}

RECURRENT: dict[str, Condition] = {"encoder": ("rnn",)}
DIRECTED: dict[str, Condition] = {"encoder": ("rnn", "window")}
LEARNED: dict[str, Condition] = {"tokenizer": tuple(name for name in TOKENIZER_NAMES if name != "byte")}
WORDS: dict[str, Condition] = {"tokenizer": ("word",)}
CHARACTERS: dict[str, Condition] = {**WORDS, "chars": ("lstm", "cnn")}
AUXILIARY_LM: dict[str, Condition] = {**RECURRENT, **WORDS, "features": False}


def duration_s(text: str, name: str = "max_time") -> float:
    """Read a duration such as `90`, `90s`, `10m` or `1.5h` as seconds; `UsageError` for anything else.

    `name` is the setting that the duration is for.
    """
    match = _DURATION.fullmatch(text.strip())
    if not match or not float(match[1]):
        raise UsageError(
            setting=name, expected="a duration such as 90s, 10m or 1.5h", found=repr(text))
    return float(match[1]) * _UNIT_S[match[2]]


@dataclass(frozen=True, kw_only=True)
class Settings(Options):
    """Settings of every training. Sizes are in units, rates per training step, times in seconds."""

    usual_epochs: ClassVar[int] = 20
    min_steps: ClassVar[int] = 800  # training steps, if `epochs` is not set

    dev_fraction: float = data(
        0.1, f"Share of the training records to hold out as development data if {setting('dev')} is not "
             "given. 0 trains on all records, without evaluation.", low=0, high=0.9, requires={"dev": False})
    folds: int | None = data(
        None, "Before the training, cross-validate: divide the training records into K folds, train on all "
              "but one and evaluate on that one, for each in turn.", low=2, metavar="K",
        requires={"dev": False})
    skip_unlabelled: bool = data(
        False, "Skip records without a label and sentences in which a word has no tag, and report how "
               "many. By default, the first one is an error.")
    encoder: str = network(
        "rnn", "Network that reads the text: recurrent, or feed-forward over a window of tokens (window, "
               "Bengio et al. 2003).", choices=("rnn", "window"))
    cell: str = network("lstm", "Recurrent cell.", choices=CELL_NAMES, requires=RECURRENT)
    window: int = network(
        2, f"Number of tokens that {setting('encoder', 'window')} sees on each side of the current one, or "
           "only before it if the network reads in one direction.", low=0, requires={"encoder": ("window",)})
    layers: int = network(2, "Number of layers.", low=1)
    hidden: int = network(200, "Units of each layer, per direction.", low=1)
    embed: int = network(100, "Size of the token embedding.", low=1)
    dropout: float = network(0.5, "Dropout on the network's input and output.", low=0, high=0.95)
    dropout_between: float = network(
        0.3, "Variational dropout between layers: one mask for all time steps (Gal and Ghahramani 2016).",
        low=0, high=0.95, requires={"layers": range(2, 2**31)})
    token_dropout: float = network(
        0.0, "Share of token types that a training step replaces with the unknown token.", low=0, high=0.95)
    weight_dropout: float = network(
        0.0, "Share of each recurrent weight matrix that a training step leaves out: DropConnect, with one "
             "mask for all time steps (Merity et al. 2018).", low=0, high=0.95,
        requires={**RECURRENT, "cell": _CELLS_WITH_MATRIX})
    initial_weights: str = network(
        "orthogonal", "Start recurrent layers from orthogonal matrices and gates that keep the state "
                      "(orthogonal, Saxe et al. 2014), or from small random numbers (uniform).",
        choices=("orthogonal", "uniform"), requires=RECURRENT)
    vectors: str | None = network(
        None, "Pretrained word vectors: text of GloVe, word2vec or fastText, or binary word2vec.",
        metavar="FILE", requires=WORDS)
    vectors_limit: int = network(
        200_000, "Largest number of vectors to read, from the top of the file.", low=1,
        requires={"vectors": True})
    init: str | None = network(
        None, "Trained model to start from: its vocabulary and its encoder are used.", metavar="MODEL")
    freeze: bool = network(
        False, f"Keep the weights that come from {setting('init')} unchanged.", requires={"init": True})
    unfreeze_every: int = network(
        0, f"Freeze the weights that come from {setting('init')} at first, and unfreeze one more layer from "
           "the top every N epochs (gradual unfreezing, Howard and Ruder 2018). 0 trains all layers from the "
           "start.", low=0, requires={"init": True})

    epochs: int | None = training(
        None, "Passes over the training data. The default is 8 for classify, 5 for segment and 20 for the "
              "other tasks, or more if the data is small.", low=1)
    max_time: float | None = training(
        None, "Longest time for the whole training, such as 90s, 10m or 1.5h: to read the data, to train, to "
              "evaluate and to write the model. The learning rate schedule is fitted to it. If the "
              "development data is long, evaluations use a sample. "
              f"With {setting('folds')}, all trainings share it.", low=1, parse=duration_s, metavar="TIME")
    patience: int = training(
        0, "Stop after N evaluations without a better score on the development data. 0 never stops early.",
        low=0)
    batch_size: int = training(32, "Records in a batch, or parallel parts of a stream.", low=1)
    lr: float = training(0.002, "Highest learning rate.", low=0)
    lr_decay_by_layer: float = training(
        1.0, "Divide the learning rate by this factor for each layer down from the output (Howard and Ruder "
             "2018 use 2.6).", low=1)
    optimizer: str = training("adamw", "Optimizer.", choices=("adamw", "sgd"))
    schedule: str = training(
        "linear", "How the learning rate changes over time.",
        choices=("constant", "linear", "cosine", "plateau", "one-cycle"))
    warmup: float = training(
        0.0, "Share of the training in which the learning rate rises to its maximum.", low=0, high=0.9,
        requires={"schedule": ("constant", "linear", "cosine", "plateau")})
    weight_decay: float = training(
        0.01, "Weight decay of weight matrices. Embeddings and biases are not decayed.", low=0)
    momentum: float = training(0.0, "Momentum of SGD.", low=0, high=0.999, requires={"optimizer": ("sgd",)})
    clip: float = training(
        1.0, "Largest norm of the gradient; a larger gradient is scaled down. 0 turns clipping off.", low=0)
    precision: str = training(
        "auto", "Number format of the arithmetic. auto uses bf16 if the processor supports it.",
        choices=("auto", "fp32", "bf16"))
    ema: float = training(
        0.0, "Decay of the exponential moving average of the weights, which is evaluated and saved. 0 turns "
             "averaging off.", low=0, high=0.99999)
    evaluations: int = training(1, "Evaluations on the development data in each epoch.", low=1)
    int8: bool = output(False, "Write the model's graph with 8-bit weights: smaller and faster.")
    license: str | None = output(
        None, "License that the model card names, as the Hugging Face Hub spells it.", metavar="NAME")
    language: str | None = output(None, "Language that the model card names, such as en.", metavar="CODE")
    about: str | None = output(
        None, "First paragraph of the model card: what the model is and what it was trained on.",
        metavar="TEXT")
    seed: int = training(1, "Seed of every random choice.", low=0, high=MAX_SEED)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.freeze and self.unfreeze_every:
            raise contradiction("freeze", "unfreeze_every")

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_json` of any version wrote.

        A setting that no longer exists is ignored, and one that is missing takes its default. Raises
        `UsageError` for a value that is out of range.
        """
        names = {field.name for field in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in names})

    def unused(self) -> dict[str, str]:
        """Return the settings that have no effect, each with the setting that makes it so.

        Those that lack a setting that they require are not among them.
        """
        return {}

    def inherited(self, name: str, initial: Settings) -> dict[str, Any]:
        """Return the defaults that the settings of an initial model give: its tokenizer and layer sizes.

        `name` is the setting that names the model.
        """
        names = ["tokenizer", "split", "lower", "embed", "hidden"]
        if self.encoder == initial.encoder:
            names.append("window" if self.encoder == "window" else "cell")
        return {each: getattr(initial, each) for each in names
                if hasattr(initial, each) and hasattr(self, each)}

    @property
    def time_limit(self) -> float | None:
        """The longest time of each training in seconds, if the folds and the model share `max_time`."""
        return self.max_time and self.max_time / ((self.folds or 0) + 1)

    def epochs_for(self, batches: int) -> int:
        """Return `epochs` if it is set, or else the usual number, or more if there are few `batches`."""
        if self.epochs is not None:
            return self.epochs
        return max(self.usual_epochs, -(-self.min_steps // max(1, batches)))


def tokenizer_kind(units: str) -> str:
    """Return the kind of tokenizer for these units of a sequence: symbols between spaces are its words."""
    return "word" if units == "space" else units


@dataclass(frozen=True, kw_only=True)
class WordSettings(Settings):
    """Settings of networks that read words: how a word becomes a vector."""

    chars: str = network(
        "cnn", "Network over the characters of each word.", choices=CHARACTER_NETWORK_NAMES, requires=WORDS)
    char_embed: int = network(32, "Size of the character embedding.", low=1, requires=CHARACTERS)
    char_hidden: int = network(64, "Output size of the character network.", low=2, requires=CHARACTERS)
    affix_embed: int = network(
        64, "Size of the embedding of affixes and word shapes. 0 leaves it out.", low=0, requires=WORDS)
    affix_buckets: int = network(
        8192, "Number of hash buckets for affixes and word shapes.", low=16,
        requires={**WORDS, "affix_embed": True})
    word_dropout: float = network(
        0.0, "Share of the words that a training step hides completely, so that the network learns to rely "
             "on the context.", low=0, high=0.95, requires=WORDS)
    bidirectional: bool = network(True, "Read the text in both directions.", requires=DIRECTED)
    vocab_size: int | None = data(
        None, "Largest size of the vocabulary. It is unlimited by default.", low=5, requires=LEARNED)
    min_count: int = data(
        2, "Words that occur less often than this have no embedding of their own.", low=1, requires=LEARNED)
    lower: bool = data(False, "Lowercase words before their embedding is looked up.")
    label_smoothing: float = training(
        0.0, "Share of the target probability that goes to the wrong labels (Szegedy et al. 2016).", low=0,
        high=0.9)
    neighbours: float = training(
        0.1, "Weight of an auxiliary language-model loss: each direction of the first layer also predicts "
             "the word that it reads next (Rei 2017).", low=0, requires=AUXILIARY_LM)
    raw: str | None = data(
        None, f"Unlabeled text for the auxiliary loss of {setting('neighbours')}; labels in it are ignored. "
              "It helps most if there are few labeled records.", metavar="FILE",
        requires={**AUXILIARY_LM, "neighbours": True})
    class_weights: str = training(
        "none", "Weight of each label in the loss: the same for all (none), or more for rare labels "
                "(balanced).", choices=("none", "balanced"))
