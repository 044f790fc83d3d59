"""The segmentation task: settings and names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rnntool.data.options import data, with_default
from rnntool.tasks.specs.settings import Settings, WordSettings
from rnntool.tasks.specs.spec import TaskSpec


@dataclass(frozen=True, kw_only=True)
class SegmentSettings(Settings):
    """Settings of `train segment`."""

    usual_epochs = 5
    min_steps = 1500
    tokenizer: ClassVar[str] = "char"

    bidirectional: bool = with_default(WordSettings, "bidirectional", True)
    min_count: int = data(
        3, "Replace characters that occur less often than this by their Unicode category.", low=1)
    label_smoothing: float = with_default(WordSettings, "label_smoothing", 0.0)
    layers: int = with_default(Settings, "layers", 1)
    hidden: int = with_default(Settings, "hidden", 100)
    embed: int = with_default(Settings, "embed", 48)
    dropout: float = with_default(Settings, "dropout", 0.3)
    batch_size: int = with_default(Settings, "batch_size", 16)
    lr: float = with_default(Settings, "lr", 0.004)
    warmup: float = with_default(Settings, "warmup", 0.02)
    ema: float = with_default(Settings, "ema", 0.995)


SPEC = TaskSpec(
    name="segment",
    title="a segmenter",
    summary="Train a segmenter on CoNLL-U: it splits running text into sentences, words and multiword "
            "tokens.",
    examples=("rnntool train segment train.conllu --dev dev.conllu -o segmenter",),
    settings=SegmentSettings,
    presets={"best": {"layers": 2, "hidden": 200, "epochs": 12}},
    preset_uses={"best": "The highest accuracy; training takes several times as long."},
    search={"hidden": "0.5x,1x,2x", "layers": "1,2", "dropout": "0.1:0.5", "lr": "0.3x:3x:log"},
    reads="sentences",
    learns_from="sentences of CoNLL-U",
    commands=("segment",),
    usage=("echo 'This is a text. It has two sentences.' | rnntool segment -m {model}",),
    pipeline_tag="token-classification",
    higher_is_better=True,
    metrics=("word_f1", "sentence_f1", "token_f1"),
    implementation="rnntool.tasks.segment:SegmentTask",
)
