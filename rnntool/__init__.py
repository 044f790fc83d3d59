"""rnntool: language models, text classifiers and sequence taggers with recurrent networks.

`load` loads a trained model. Importing the package is instant: NumPy and ONNX Runtime are imported by `load`.
"""

from __future__ import annotations

TYPE_CHECKING = False  # importing `typing` would take time in which Ctrl-C shows a traceback
if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from rnntool.inference.model import Model
    from rnntool.inference.options import (
        ClassifyOptions,
        GenerateOptions,
        ScoreOptions,
        TagOptions,
        TransduceOptions,
    )

__all__ = ["ClassifyOptions", "GenerateOptions", "ScoreOptions", "TagOptions", "TransduceOptions", "load"]
__version__ = "0.1.0"


def load(model: str | Path, *, device: str = "cpu", threads: int = 0) -> Model:
    """Load a trained model by the path of its folder, or by a name that `rnntool models` lists.

    The model tags, classifies, transduces, scores or generates, depending on what it was trained for. Each
    method takes an iterable and returns an iterator, so that endless streams can be processed:

        tagger = rnntool.load("en-pos")
        for result in tagger.tag(["The keys on the table are mine."]):
            print(result.tags)

    It runs on the processor with `threads` threads (0 uses all cores), or with torch on the `device` `cuda`
    or `mps`. Raises `rnntool.errors.ModelError` if the model does not exist or is damaged. Runs no code from
    the folder.
    """
    from rnntool.inference import model as models

    return models.load(model, device=device, threads=threads)


def __getattr__(name: str) -> Any:
    """Import an options class when it is first used."""
    if name in __all__:
        from rnntool.inference import options

        return getattr(options, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the lazily imported classes as well."""
    return sorted({*globals(), *__all__})
