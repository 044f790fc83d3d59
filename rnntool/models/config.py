"""The configuration of a network, as `config.json` holds it under `network`. Knows neither torch nor NumPy.

Each part checks its values when it is created. `NetworkConfig.from_json` reads what this or an older version
wrote: missing keys take their defaults, keys in `removed` are ignored, and any other unknown key is an error,
because a newer version must have written it.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Collection, Mapping
from dataclasses import MISSING, dataclass
from itertools import pairwise
from typing import Any, ClassVar, Self

from rnntool.data.options import Options, option, value_types
from rnntool.errors import ModelError, UsageError
from rnntool.models.cells import CELL_NAMES, CELLS

Shape = tuple[str | int, ...]  # the sizes of a graph's input or output; a size that varies has a name
ENCODERS = {  # each kind, and how the model card describes it
    "rnn": "A recurrent network",
    "bag": "A feed-forward network over the mean of the words",
    "window": "A feed-forward network over a window",
    "ngram": "A count-based n-gram model",
}
ENCODER_NAMES = tuple(ENCODERS)
WITHOUT_NETWORK = ("ngram",)  # kinds that are tables, and have neither a graph nor a torch network
CHARACTER_NETWORK_NAMES = ("lstm", "cnn", "none")
POOLINGS = ("last", "mean", "max", "attention")
DIRECTIONS = ("forward", "both")
ATTENTIONS = ("additive", "dot", "none")
_COPY = "copy or train the model again"
_UPGRADE = "upgrade rnntool, or copy the model again"


def check_pooling(text: str) -> str:
    """Check a pooling such as `last` or `mean+max`; `UsageError` lists the choices."""
    names = text.split("+")
    if not set(names) <= set(POOLINGS):
        raise UsageError(setting="pooling", expected=f"{', '.join(POOLINGS)}, or several joined by +",
                         found=repr(text))
    if len(set(names)) < len(names):
        raise UsageError(
            setting="pooling", expected="each name once", found=repr(text), advice="leave one out")
    return text


@dataclass(frozen=True, kw_only=True)
class Config(Options):
    """A part of a network's configuration."""

    removed: ClassVar[frozenset[str]] = frozenset()  # keys that older versions wrote and that are ignored

    @classmethod
    def from_json(cls, data: object, *, place: object = "config.json", key: str = "network") -> Self:
        """Read what `to_json` wrote; `ModelError` names the `place` and the key that is wrong."""
        if not isinstance(data, Mapping):
            raise _damaged(f"{place}: {key}", "an object", data)
        fields = {field.name: field for field in dataclasses.fields(cls)}
        _refuse_unknown(data, {*fields, *cls.removed}, f"{place}: {key}")
        values: dict[str, Any] = {}
        for name, kind in value_types(cls).items():
            if name in data:
                values[name] = _value(kind, data[name], place=place, key=f"{key}.{name}")
            elif fields[name].default is MISSING:
                raise ModelError("is missing", place=f"{place}: {key}.{name}", advice=_COPY)
        try:
            return cls(**values)
        except UsageError as error:
            raise ModelError(
                error.problem, place=f"{place}: {key}.{error.setting}", expected=error.expected,
                found=error.found, advice=_COPY) from None


def _value(kind: Any, value: object, *, place: object, key: str) -> Any:
    """Convert a JSON value to a field's type, `kind`; the field itself checks plain values."""
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, list) or not all(type(item) is int for item in value):
            raise _damaged(f"{place}: {key}", "a list of whole numbers", value)
        return tuple(value)
    if value is not None and isinstance(kind, type) and issubclass(kind, Config):
        return kind.from_json(value, place=place, key=key)
    return value


def _refuse_unknown(data: Mapping[str, Any], keys: Collection[str], place: str) -> None:
    for name in data:
        if name not in keys:
            raise ModelError(f"the key {name!r} is unknown, so a newer rnntool must have written this model",
                             place=place, advice=_UPGRADE)


def _damaged(place: str, expected: str, found: object) -> ModelError:
    return ModelError(place=place, expected=expected, found=repr(found), advice=_COPY)


@dataclass(frozen=True, kw_only=True)
class WordConfig(Config):
    """The parts of a word type's vector besides its embedding. A size of 0 leaves a part out."""

    chars: str = option("none", "Network over the characters of a word.", choices=CHARACTER_NETWORK_NAMES)
    char_vocabulary: int = option(0, "Number of characters, with padding and the unknown character.", low=0)
    char_embed: int = option(0, "Size of a character's vector.", low=0)
    char_hidden: int = option(0, "Size of the vector that the character network computes.", low=0)
    affix_buckets: int = option(0, "Rows of the table that affixes are hashed into.", low=0)
    affix_embed: int = option(0, "Size of an affix's vector.", low=0)
    vector_rows: int = option(0, "Number of pretrained vectors; row 0 is for words without one.", low=0)
    vector_size: int = option(0, "Size of a pretrained vector.", low=0)
    dropout: float = option(0.0, "Share of words whose whole vector is dropped in training.", low=0, high=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        needed = {"char_vocabulary": self.chars != "none", "char_embed": self.chars != "none",
                  "char_hidden": self.chars != "none", "affix_buckets": self.affix_embed,
                  "vector_rows": self.vector_size}
        for name, is_needed in needed.items():
            if is_needed and not getattr(self, name):
                raise UsageError(setting=name, expected="a whole number of at least 1", found=0)


@dataclass(frozen=True, kw_only=True)
class EncoderConfig(Config):
    """The encoder. `word` is None if tokens have nothing but an embedding.

    With `cutoffs`, tokens are embedded in clusters by frequency; see `AdaptiveEmbedding`. `context` is the
    encoder of a character language model whose states are added to the words' vectors; with `context_both`,
    that model also reads from right to left.
    """

    vocabulary: int = option(MISSING, "Number of tokens that have an embedding.", low=1)
    embed: int = option(MISSING, "Size of a token's vector.", low=1)
    cell: str = option("lstm", "Recurrent cell, for the kind rnn.", choices=CELL_NAMES)
    layers: int = option(1, "Number of layers.", low=1, high=1000)
    hidden: int = option(200, "Units of a layer, per direction.", low=1)
    bidirectional: bool = option(False, "Whether the encoder also reads from right to left.")
    kind: str = option("rnn", "Kind of network.", choices=ENCODER_NAMES)
    window: int = option(0, "Tokens that a window or an n-gram reads on each side.", low=0)
    dropout: float = option(0.0, "Dropout of inputs and outputs.", low=0, high=1)
    dropout_between: float = option(0.0, "Dropout between layers.", low=0, high=1)
    token_dropout: float = option(0.0, "Share of token types replaced by the unknown token.", low=0, high=1)
    weight_dropout: float = option(0.0, "Share of recurrent weights dropped.", low=0, high=1)
    word: WordConfig | None = None
    context: EncoderConfig | None = None
    context_both: bool = option(False, "Whether the character model reads in both directions.")
    cutoffs: tuple[int, ...] = option((), "First token of each cluster except the first.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if any(start >= end for start, end in pairwise((0, *self.cutoffs, self.vocabulary))):
            raise UsageError(
                setting="cutoffs", expected=f"rising numbers between 0 and {self.vocabulary}",
                found=list(self.cutoffs))
        if self.context and (self.context.word or self.context.context):
            raise UsageError(
                setting="context", expected="a language model of characters", found="one of words")
        if self.context and not self.word:
            raise UsageError("needs an encoder of words", setting="context")

    @property
    def architecture(self) -> str:
        """The size and kind of the network: `2 x 200 lstm, bidirectional`, or `5-gram`."""
        if self.kind == "ngram":
            return f"{self.window + 1}-gram"
        directions = ", bidirectional" if self.bidirectional else ""
        return f"{self.layers} x {self.hidden} {self.cell if self.kind == 'rnn' else self.kind}{directions}"

    @property
    def description(self) -> str:
        """What kind of network this is, for the model card: `An LSTM network`."""
        return CELLS[self.cell].description if self.kind == "rnn" else ENCODERS[self.kind]


@dataclass(frozen=True, kw_only=True)
class HeadConfig(Config):
    """The base of all head configurations. `kind` is stored with the fields; see `HEAD_CONFIGS`."""

    kind: ClassVar[str]
    code: ClassVar[str]  # where the head is: a module of `rnntool.models.heads` and a class in it
    parts: ClassVar[tuple[str, ...]] = ()  # graphs that run on their own; see `Head.part`
    outputs: int = option(MISSING, "Number of scores that the head computes, over all columns.", low=1)

    def to_json(self) -> dict[str, Any]:
        """Return the kind and all fields as JSON types."""
        return {"kind": self.kind, **super().to_json()}

    def graph_outputs(self) -> dict[str, Shape]:
        """Return the outputs that the ONNX graph must have, with their shapes."""
        raise NotImplementedError

    def part_outputs(self, part: str) -> dict[str, Shape]:
        """Return the outputs that the graph of one of the `parts` must have, with their shapes."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class LMHeadConfig(HeadConfig):
    """A language model. With `direction` both, a backward model is trained beside the forward one."""

    kind = "lm"
    code = "language_model:LMHead"
    removed = frozenset({"pooling", "multi_label", "columns", "crf"})  # once written for heads of all kinds
    tied: bool = option(False, "Whether the output layer shares the embedding's weight.")
    direction: str = option("forward", "Directions that are learned.", choices=DIRECTIONS)

    def graph_outputs(self) -> dict[str, Shape]:
        """Return the outputs of a softmax over the vocabulary."""
        over_vocabulary = ("time", "batch", self.outputs)
        return {"logits": over_vocabulary, "probs": over_vocabulary, "log_probs": ("time", "batch")}


@dataclass(frozen=True, kw_only=True)
class ClassifierHeadConfig(HeadConfig):
    """A classifier of texts."""

    kind = "classify"
    code = "classifier:ClassifierHead"
    removed = frozenset({"tied", "columns", "crf", "direction"})
    pooling: str = option("max", "How the states become one vector.", check=check_pooling)
    multi_label: bool = option(False, "Whether a text may have several labels.")

    def graph_outputs(self) -> dict[str, Shape]:
        """Return the scores of all labels."""
        return {"logits": ("batch", self.outputs)}


@dataclass(frozen=True, kw_only=True)
class TaggerHeadConfig(HeadConfig):
    """A tagger of words. It predicts a distribution of tags, or several, for one or more columns.

    With `heads`, a distribution is that of the heads of a dependency tree, and its outputs are vectors, as
    `rnntool.data.trees.head_scores` describes. With `relations`, two distributions are scores of relations:
    of each word to any head, and of any word to this head.
    """

    kind = "tag"
    code = "tagger:TaggerHead"
    removed = frozenset({"tied", "pooling", "multi_label", "direction"})
    columns: tuple[int, ...] = option((), "Size of each distribution; empty for a single one.")
    crf: bool = option(False, "Whether a CRF scores the tags of the first distribution.")
    heads: int = option(-1, "Index of the distribution of heads; -1 without one.", low=-1)
    relations: int = option(-1, "Index of the first distribution of relations; -1 without one.", low=-1)
    layer: int = option(0, "Rectified units over the states, which scores depend on as well; 0 for none.",
                        low=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.columns and (sum(self.columns) != self.outputs or min(self.columns) < 1):
            raise UsageError(setting="columns", expected=f"sizes that add up to {self.outputs}",
                             found=list(self.columns))
        for name, index, last in (("heads", self.heads, self.heads),
                                  ("relations", self.relations, self.relations + 1)):
            if index >= 0 and last >= len(self.columns):
                raise UsageError(setting=name, expected="the index of a distribution", found=index)

    def graph_outputs(self) -> dict[str, Shape]:
        """Return the scores of tags, and those of transitions if there is a CRF."""
        outputs: dict[str, Shape] = {"emissions": ("time", "batch", self.outputs)}
        if self.crf:
            tags = self.columns[0] if self.columns else self.outputs
            outputs |= {"start": (tags,), "transitions": (tags, tags), "end": (tags,)}
        return outputs


@dataclass(frozen=True, kw_only=True)
class DecoderHeadConfig(HeadConfig):
    """A decoder: a language model of targets that reads the encoder's states by attention.

    With `shared`, a token has the same vector in the source and in the target.
    """

    kind = "transduce"
    code = "decoder:DecoderHead"
    parts = ("decoder",)
    cell: str = option("lstm", "Recurrent cell.", choices=CELL_NAMES)
    layers: int = option(1, "Number of layers.", low=1, high=1000)
    hidden: int = option(256, "Units of a layer.", low=1)
    embed: int = option(128, "Size of a token's vector.", low=1)
    attention: str = option("additive", "How the decoder reads the encoder's states.", choices=ATTENTIONS)
    input_feeding: bool = option(False, "Whether a step reads the output vector of the step before.")
    tied: bool = option(True, "Whether the output layer shares the weight of the target embedding.")
    shared: bool = option(False, "Whether source and target share their embedding.")
    dropout: float = option(0.0, "Dropout of inputs and outputs.", low=0, high=1)
    dropout_between: float = option(0.0, "Dropout between layers.", low=0, high=1)
    weight_dropout: float = option(0.0, "Share of recurrent weights dropped.", low=0, high=1)

    @property
    def states(self) -> dict[str, int]:
        """The name and size of each part of the decoder's state, without a prefix."""
        names = CELLS[self.cell].state_names
        states = {f"{layer}.{name}": self.hidden for layer in range(self.layers) for name in names}
        return {**states, "feed": self.output_size} if self.input_feeding else states

    @property
    def output_size(self) -> int:
        """The size of the vectors that the output layer reads."""
        return self.embed if self.tied else self.hidden

    def graph_outputs(self) -> dict[str, Shape]:
        """Return the start state, and what attention reads."""
        outputs: dict[str, Shape] = {
            f"start.{name}": (1, "batch", size) for name, size in self.states.items()}
        if self.attention != "none":
            outputs |= {"keys": ("batch", "time", self.hidden), "values": ("batch", "time", self.output_size)}
        return outputs

    def part_outputs(self, part: str) -> dict[str, Shape]:
        """Return the outputs of a step."""
        outputs: dict[str, Shape] = {
            f"next.{name}": (1, "batch", size) for name, size in self.states.items()}
        if self.attention != "none":
            outputs["attention"] = ("batch", "time")
        return {"log_probs": ("batch", self.outputs), **outputs}


HEAD_CONFIGS: dict[str, type[HeadConfig]] = {
    kind.kind: kind for kind in (LMHeadConfig, ClassifierHeadConfig, TaggerHeadConfig, DecoderHeadConfig)}


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """Everything needed to build a network: an encoder, and a head that reads its states."""

    encoder: EncoderConfig
    head: HeadConfig

    def to_json(self) -> dict[str, Any]:
        """Return both parts as JSON types."""
        return {"encoder": self.encoder.to_json(), "head": self.head.to_json()}

    @classmethod
    def from_json(cls, data: object, *, place: object = "config.json", key: str = "network") -> Self:
        """Read what `to_json` wrote, here or in an older version; `ModelError` names what is wrong."""
        parts = data if isinstance(data, Mapping) else {}
        _refuse_unknown(parts, {"encoder", "head"}, f"{place}: {key}")
        for name in ("encoder", "head"):
            if not isinstance(parts.get(name), Mapping):
                raise _damaged(f"{place}: {key}.{name}", "an object", parts.get(name))
        head = dict(parts["head"])
        kind = head.pop("kind", None)
        if not isinstance(kind, str) or kind not in HEAD_CONFIGS:
            raise ModelError(place=f"{place}: {key}.head.kind", expected=f"one of {', '.join(HEAD_CONFIGS)}",
                             found=repr(kind), advice=_UPGRADE)
        return cls(
            encoder=EncoderConfig.from_json(parts["encoder"], place=place, key=f"{key}.encoder"),
            head=HEAD_CONFIGS[kind].from_json(head, place=place, key=f"{key}.head"))


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig(Options):
    """What training minimizes besides the head's plain loss. It is not part of a trained model.

    A weight of 0 leaves a term out. `label_weights` has a weight for each output; if empty, all are equal.
    """

    label_smoothing: float = option(
        0.0, "Share of a target's probability that is spread over all labels.", low=0, high=1)
    label_weights: tuple[float, ...] = option((), "Weight of each label's loss.")
    distribution_weights: tuple[float, ...] = option(
        (), "Weight of each distribution's loss; if empty, their mean is the loss.")
    consistency: float = option(
        0.0, "Weight of the divergence of two readings of a text (R-Drop, Wu et al. 2021).", low=0)
    activation: float = option(0.0, "Weight of the squared activations (AR, Merity et al. 2017).", low=0)
    temporal_activation: float = option(
        0.0, "Weight of the squared change of activations from step to step (TAR, the same).", low=0)
    auxiliary_lm: float = option(
        0.0, "Weight of the loss of predicting the next and the previous word (Rei 2017).", low=0)
    scheduled_sampling: float = option(
        0.0, "Share of a decoder's inputs that are its own predictions at the end of the training.", low=0,
        high=1)
