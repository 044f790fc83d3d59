"""The sequence tagging task: settings, presets and names."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from rnntool.data.options import data, network, with_default
from rnntool.errors import UsageError
from rnntool.tasks.specs.settings import Settings, WordSettings
from rnntool.tasks.specs.spec import Preset, TaskSpec


def check_columns(text: str) -> str:
    """Check that no column but the first, which may be that of the format, lacks a name."""
    _, *more = text.split(",")
    if not all(map(str.strip, more)):
        raise UsageError(setting="column", expected="different names or numbers separated by commas",
                         found=repr(text))
    return text


TRAINED = "train"  # a segmenter that is trained with the tagger
UD_COLUMNS = ("upos", "xpos", "feats", "lemma", "head", "deprel")  # of CoNLL-U, the main one first


@dataclass(frozen=True, kw_only=True)
class TagSettings(WordSettings):
    """Settings of `train tag`."""

    min_tree_steps: ClassVar[int] = 1600  # training steps, if `epochs` is not set and there are trees

    column: str | None = data(
        None, "Column of the tags: a number from 1, or a name (lemma, upos, xpos, feats, head, deprel, a "
              "key of MISC). Several columns, separated by commas, are learned together; the first is the "
              "main one.",
        metavar="COLUMN[,COLUMN…]", check=check_columns)
    word_column: str | None = data(
        None, "Column of the words: a number from 1 in CoNLL, a name in CoNLL-U Plus.", metavar="COLUMN",
        shown_default="the first, or FORM")
    segmenter: str | None = data(
        None, "Segmenter that becomes part of the tagger, so that `rnntool tag` splits raw text with it: a "
              f"model of `rnntool train segment`. The word {TRAINED} trains one first, on the same CoNLL-U.",
        metavar="MODEL")
    features: str | None = network(
        None, "Character language model whose states at both ends of each word are an additional input "
              "(Akbik et al. 2018). It is not trained further and becomes part of the tagger.",
        metavar="MODEL")
    passage: int = network(
        0, "Read adjacent sentences of a document together, up to this many words, so that they are context "
           "for each other. 0 reads each sentence alone.", low=0, high=1000, metavar="WORDS",
        requires={"features": False})
    head: str = network(
        "softmax", "Choose each tag by itself (softmax), or the best sequence of tags with a linear-chain "
                   "CRF (crf, Lafferty et al. 2001).", choices=("softmax", "crf"))
    window_scores: bool = network(
        True, "Add the scores of a linear classifier of words, affixes and shapes in a window, which is "
              "strong on few sentences. It is left out if the training data has more than 100,000 words.")
    token_dropout: float = with_default(Settings, "token_dropout", 0.4)
    word_dropout: float = with_default(WordSettings, "word_dropout", 0.2)
    embed: int = with_default(Settings, "embed", 160)
    char_hidden: int = with_default(WordSettings, "char_hidden", 160)
    affix_embed: int = with_default(WordSettings, "affix_embed", 120)
    label_smoothing: float = with_default(WordSettings, "label_smoothing", 0.1)
    lower: bool = with_default(WordSettings, "lower", True)
    lr: float = with_default(Settings, "lr", 0.003)
    ema: float = with_default(Settings, "ema", 0.998)

    @property
    def learns_trees(self) -> bool:
        """Whether one of the columns holds the heads of dependency trees."""
        return "head" in map(str.strip, (self.column or "").lower().split(","))

    def epochs_for(self, batches: int) -> int:
        """See `Settings.epochs_for`; trees take more steps than tags."""
        epochs = super().epochs_for(batches)
        if self.epochs is None and self.learns_trees:
            return max(epochs, -(-self.min_tree_steps // max(1, batches)))
        return epochs

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """See `Settings.from_json`; models from before there was the setting `window_scores` have none."""
        return super().from_json({"window_scores": False, **values})


# Chosen on a part of the training data of a Wolof treebank.
TREES: Preset = {"dropout": 0.33, "token_dropout": 0.2, "word_dropout": 0.1}


def recipe(settings: TagSettings, chosen: Collection[str]) -> Preset:
    """Return less dropout for taggers that learn trees, which take longer to learn than tags."""
    return TREES if settings.learns_trees else {}


SPEC = TaskSpec(
    name="tag",
    title="a tagger",
    summary="Train a tagger on sentences with a tag for each word: CoNLL columns, CoNLL-U or JSONL.",
    examples=(
        "rnntool train tag train.conllu --dev dev.conllu -o pos",
        "rnntool train tag ner.conll -o ner --head crf --column 4",
        "rnntool train tag few.conllu -o tagger --raw newspaper.txt",
    ),
    settings=TagSettings,
    presets={
        "fast": {"epochs": 9, "word_dropout": 0.1, "passage": 100},
        "ner": {"head": "crf", "lower": False, "token_dropout": 0.3, "word_dropout": 0.1, "passage": 100},
        "best": {"hidden": 400, "embed": 300, "dropout": 0.6, "affix_embed": 200, "char_hidden": 256,
                 "word_dropout": 0.25, "passage": 100, "epochs": 32},
    },
    preset_uses={
        "fast": "A first look.",
        "ner": "Named entities and other spans.",
        "best": "The highest accuracy, in several times the time.",
    },
    search={"hidden": "0.5x,1x,2x", "layers": "1,2", "dropout": "0.3:0.7", "token_dropout": "0.1:0.5",
            "word_dropout": "0.0:0.3", "label_smoothing": "0.0:0.2", "lr": "0.3x:3x:log"},
    reads="sentences",
    learns_from="tagged sentences",
    commands=("tag",),
    usage=("echo 'A line of text.' | rnntool tag -m {model}",),
    pipeline_tag="token-classification",
    higher_is_better=True,
    metrics=("f1", "accuracy", "precision", "recall", "f1_conlleval", "temperature", "ece_uncalibrated",
             "ece"),
    implementation="rnntool.tasks.tag:TagTask",
    recipe=recipe,
)

# The tagger of `train ud`, which chooses the columns that the treebank has.
UD_SPEC = replace(
    SPEC,
    summary="Train on a treebank in CoNLL-U: a segmenter, and a tagger of all its columns. The model turns "
            "raw text into CoNLL-U.",
    examples=(
        "rnntool train ud train.conllu --dev dev.conllu -o pipeline",
        "rnntool train ud train.conllu -o pipeline --column upos,lemma --max-time 15m",
    ),
    presets={name: {**preset, "segmenter": TRAINED, "passage": 0} for name, preset in SPEC.presets.items()
             if name != "ner"},
    preset_uses={name: use for name, use in SPEC.preset_uses.items() if name != "ner"},
    usage=("echo 'This is a text. It has two sentences.' | rnntool tag -m {model}",),
    recipe=lambda settings, chosen: {**recipe(settings, chosen), "segmenter": TRAINED},
)
