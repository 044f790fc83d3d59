"""The text classification task: settings, presets and names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from rnntool.data.options import data, network, training, with_default
from rnntool.errors import UsageError, setting
from rnntool.models.config import check_pooling
from rnntool.tasks.specs.settings import DIRECTED, TOKENIZER_NAMES, WORDS, Settings, WordSettings
from rnntool.tasks.specs.spec import TaskSpec


@dataclass(frozen=True, kw_only=True)
class ClassifySettings(WordSettings):
    """Settings of `train classify`."""

    usual_epochs = 8

    tokenizer: str = data("word", "What a token is.", choices=TOKENIZER_NAMES)
    text_column: str | None = data(
        None, "Column or key of the text: a name, or a number from 1.", metavar="COLUMN")
    label_column: str | None = data(None, "Column or key of the label.", metavar="COLUMN")
    pooling: str = network(
        "max", "How the states of a text become one vector: last, mean, max, attention, or several of these "
               "joined by +.", check=check_pooling, metavar="NAME[+NAME…]", requires=DIRECTED)
    ngrams: bool = network(
        True, "Add the scores of a linear classifier of words, pairs of words and parts of words, which is "
              "strong on few texts.", requires=WORDS)
    consistency: float = training(
        1.0, "Weight of the agreement between two predictions for a text under different dropout masks "
             "(R-Drop, Wu et al. 2021). It doubles the training time. 0 turns it off.", low=0)
    encoder: str = network(
        "rnn", "Network that reads the text: recurrent, or feed-forward over the mean of all words (bag, "
               "Iyyer et al. 2015) or over a window of words (window, Bengio et al. 2003).",
        choices=("rnn", "bag", "window"))
    layers: int = with_default(Settings, "layers", 1)
    embed: int = with_default(Settings, "embed", 300)
    affix_embed: int = with_default(WordSettings, "affix_embed", 120)
    token_dropout: float = with_default(Settings, "token_dropout", 0.2)
    min_count: int = with_default(WordSettings, "min_count", 2, requires=WORDS)
    lower: bool = with_default(WordSettings, "lower", True)
    ema: float = with_default(Settings, "ema", 0.99)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """See `Settings.from_json`; models from before there was the setting `ngrams` have none."""
        return super().from_json({"ngrams": False, **values})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.text_column is not None and self.text_column == self.label_column:
            raise UsageError(setting="text_column", expected=f"a column other than {setting('label_column')}",
                             found=f"{self.text_column!r} in both", advice="leave one out")


SPEC = TaskSpec(
    name="classify",
    title="a classifier",
    summary="Train a classifier on labeled texts: TSV or CSV with a header, JSONL, or fastText lines.",
    examples=(
        "rnntool train classify train.tsv -o topics --text-column text --label-column label",
        "rnntool train classify reviews.jsonl -o reviews --pooling mean+max --class-weights balanced",
        "rnntool train classify few.tsv -o topics --raw questions.txt",
    ),
    settings=ClassifySettings,
    presets={"fast": {"epochs": 5, "consistency": 0.0}},
    preset_uses={"fast": "A first look: fewer epochs, half the work per step."},
    search={"encoder": "rnn,bag", "hidden": "0.5x,1x,2x", "layers": "1,2", "dropout": "0.2:0.7",
            "token_dropout": "0.0:0.4", "label_smoothing": "0.0:0.2", "lr": "0.3x:3x:log"},
    reads="texts",
    learns_from="labeled texts",
    commands=("classify",),
    usage=("echo 'A line of text.' | rnntool classify -m {model}",),
    pipeline_tag="text-classification",
    higher_is_better=True,
    metrics=("f1", "accuracy", "macro_f1", "precision", "recall", "temperature", "ece_uncalibrated", "ece"),
    implementation="rnntool.tasks.classify:ClassifyTask",
)
