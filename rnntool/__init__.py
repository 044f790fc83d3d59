"""rnntool: text generation and sequence tagging with recurrent networks. `load(model)` is the way in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rnntool.inference.model import Model

__version__ = "0.1.0"


def load(model: str | Path, *, device: str = "cpu", threads: int = 0) -> Model:
    """Load a trained model, by the path of its folder or by a name that `rnntool models` lists.

    The model tags, classifies, scores or generates, as it was trained to: each method takes an iterable and
    gives an iterator, so that streams without end can be read.

        tagger = rnntool.load("en-pos")
        for result in tagger.tag(["The keys on the table are mine."]):
            print(result.tags)

    It runs on the processor with `threads` threads (0 takes all cores), or with torch on the `device` `cuda`
    or `mps`. Raises `rnntool.errors.ModelError` where there is no such model or it is damaged; no code from
    its folder is run.
    """
    from rnntool.inference import model as models

    return models.load(model, device=device, threads=threads)
