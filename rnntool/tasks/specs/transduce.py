"""The sequence-to-sequence task: settings, presets and names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rnntool.data.options import Condition, data, network, training, with_default
from rnntool.errors import UsageError, setting
from rnntool.models.config import ATTENTIONS
from rnntool.tasks.specs.settings import Settings
from rnntool.tasks.specs.spec import TaskSpec

UNITS = ("char", "space", "unigram", "bpe", "byte")
SEPARATE: Mapping[str, Condition] = {"shared_vocabulary": False}


@dataclass(frozen=True, kw_only=True)
class TransduceSettings(Settings):
    """Settings of `train transduce`."""

    min_steps = 3000

    tokenizer: str = data(
        "char", "What a token of the source is: a character, a symbol between spaces (space), a subword "
                "(unigram, bpe) or a byte.", choices=UNITS)
    target_tokenizer: str | None = data(
        None, "What a token of the target is.", choices=UNITS, shown_default="as in the source",
        requires=SEPARATE)
    shared_vocabulary: bool = data(
        False, "Learn one vocabulary from both sides; a token has the same vector in the source and in the "
               "target.")
    vocab_size: int | None = data(
        None, "Largest size of each vocabulary. The default is 8000 for unigram and bpe, and no limit for "
              "the others.", low=5)
    min_count: int = data(1, "Leave out tokens that occur less often than this.", low=1)
    lower: bool = data(False, "Lowercase the source.")
    source_columns: str | None = data(
        None, "Columns or keys of the source, separated by commas. The first is text. The values of the "
              "others, such as features, are split at spaces and at ; and |, and each part is one token.",
        metavar="COLUMN[,COLUMN…]", shown_default="the first, or `source`")
    target_column: str | None = data(
        None, "Column or key of the target.", metavar="COLUMN", shown_default="the second, or `target`")
    source: str | None = data(
        None, f"File with a source on each line; {setting('target')} has their targets.", metavar="FILE",
        requires={"target": True})
    target: str | None = data(
        None, "File with a target on each line, for the source on the same line of the training file.",
        metavar="FILE")
    dev_target: str | None = data(
        None, f"File with a target on each line, for the sources in {setting('dev')}.", metavar="FILE",
        requires={"target": True, "dev": True})
    max_length: int = data(
        1000, "Longest source or target, in characters, or in symbols if these are separated by spaces. A "
              "longer one is an error.", low=1)
    bidirectional: bool = network(True, "Read the source in both directions.")
    hallucinate: int = data(
        0, "Make up training pairs until there are N, with random letters in place of most of what source "
           "and target have in common (Anastasopoulos and Neubig 2019). Useful if targets copy most of the "
           "source, as in inflection.", low=0,
        requires={"tokenizer": ("char",), "target_tokenizer": False, "shared_vocabulary": False})
    init_target: str | None = network(
        None, "Language model of targets that the decoder starts from: its vocabulary, its layers and its "
              "softmax are used.", metavar="MODEL", requires=SEPARATE)
    attention: str = network(
        "additive", "How the decoder looks at the source: additive (Bahdanau et al. 2015), dot (Luong et al. "
                    "2015), or only through its first state (none, Sutskever et al. 2014).",
        choices=ATTENTIONS)
    input_feeding: bool = network(
        False, "Each step of the decoder also reads the vector from which the step before predicted its "
               "token (Luong et al. 2015). It makes the training slower.", requires={"weight_dropout": False})
    tied: bool = network(True, "Tie the softmax to the embedding of the target (Inan et al. 2017).")
    vectors: str | None = with_default(Settings, "vectors", None, requires={"tokenizer": ("space",)})
    label_smoothing: float = training(
        0.1, "Share of the target probability that goes to the wrong tokens (Szegedy et al. 2016).", low=0,
        high=0.9)
    scheduled_sampling: float = training(
        0.0, "Largest share of the target tokens that the decoder reads from its own predictions instead of "
             "the training data (Bengio et al. 2015). It rises linearly from 0 over the training. It makes "
             "the training slower.", low=0, high=1, requires={"weight_dropout": False})
    weight_dropout: float = with_default(Settings, "weight_dropout", 0.0)
    layers: int = with_default(Settings, "layers", 2)
    hidden: int = with_default(Settings, "hidden", 240)  # rows of 256 floats share few lines of a cache
    embed: int = with_default(Settings, "embed", 128)
    dropout: float = with_default(Settings, "dropout", 0.3)
    batch_size: int = with_default(Settings, "batch_size", 64)
    warmup: float = with_default(Settings, "warmup", 0.02)
    ema: float = with_default(Settings, "ema", 0.998)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shared_vocabulary and self.tied is False:
            raise UsageError(f"{setting('shared_vocabulary')} ties the vectors of all tokens",
                             setting="tied", advice="leave one out")

    def inherited(self, name: str, initial: Settings) -> dict[str, Any]:
        """See `Settings.inherited`; an initial model of targets sets the decoder's tokenizer and sizes."""
        values = super().inherited(name, initial)
        units = getattr(initial, "tokenizer", "word")  # taggers read words
        values["tokenizer"] = "space" if units == "word" else units
        if name != "init_target":
            return values
        return {"target_tokenizer": values["tokenizer"],
                **{each: values[each] for each in ("embed", "hidden", "cell") if each in values}}


SPEC = TaskSpec(
    name="transduce",
    title="a sequence-to-sequence model",
    summary="Train a model that turns one sequence into another: pronunciations, inflection, "
            "transliteration, translation.",
    examples=(
        "rnntool train transduce lexicon.tsv -o g2p --preset g2p",
        "rnntool train transduce forms.tsv -o inflector --preset inflection "
        "--source-columns lemma,features --target-column form",
        "rnntool train transduce train.tsv -o de-en --preset translation",
    ),
    settings=TransduceSettings,
    presets={
        "g2p": {"tokenizer": "char", "target_tokenizer": "space", "lower": True},
        "inflection": {"tokenizer": "char", "layers": 1, "hidden": 100, "embed": 64, "lr": 0.005,
                       "batch_size": 32, "hallucinate": 5000, "epochs": 40},
        "translation": {"tokenizer": "unigram", "attention": "dot", "embed": 300, "hidden": 400,
                        "dropout": 0.4, "epochs": 15},
    },
    preset_uses={
        "g2p": "Pronunciations: characters to symbols between spaces.",
        "inflection": "Forms of a word: characters, with features in further columns.",
        "translation": "Sentences: subwords.",
    },
    search={"attention": "additive,dot", "hidden": "0.5x,1x,2x", "layers": "1,2,3", "dropout": "0.1:0.6",
            "label_smoothing": "0.0:0.2", "lr": "0.3x:3x:log"},
    reads="sequences",
    learns_from="pairs of a source and a target",
    commands=("transduce",),
    usage=("echo 'a source' | rnntool transduce -m {model}",),
    pipeline_tag="text2text-generation",
    higher_is_better=True,
    metrics=("exact_match", "word_error_rate", "symbol_error_rate", "bleu", "chrf"),
    implementation="rnntool.tasks.transduce:TransduceTask",
)
