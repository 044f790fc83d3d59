"""Options of evaluation, including dynamic evaluation and the neural cache.

Only the standard library is imported here, so that `--help` starts at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rnntool.data.options import Options, option
from rnntool.errors import no_effect_without

ADAPTATION = "Language models that adapt to the text"


@dataclass(frozen=True, kw_only=True)
class DynamicEvaluation(Options):
    """Dynamic evaluation (Krause et al., 2018): a gradient step after each segment is scored."""

    name: ClassVar[str] = "dynamic"
    lr: float = option(0.1, "Learning rate of dynamic evaluation.", low=0)
    decay: float = option(
        0.005, "Share of the distance to the trained weights that each step goes back.", low=0, high=1)


@dataclass(frozen=True, kw_only=True)
class NeuralCache(Options):
    """Continuous cache (Grave et al., 2017): recent words in similar contexts become more likely."""

    name: ClassVar[str] = "cache"
    theta: float = option(0.3, "Weight of the similarity of contexts. 0 only counts words.", low=0)
    weight: float = option(
        0.1, "Weight of the cache in the mixture of probabilities (lambda in the paper).", low=0, high=0.999)
    window: int = option(500, "Number of tokens in the cache.", low=1)


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(Options):
    """What an evaluation reports besides the metrics of the task."""

    errors: int = option(0, "Also list the K most confident mistakes.", low=0, metavar="K")
    dynamic: bool = option(
        False, "Also report the perplexity under dynamic evaluation: the model learns from the text as it "
               "reads it.", panel=ADAPTATION)
    dynamic_lr: float | None = option(
        None, "Learning rate of dynamic evaluation.", panel=ADAPTATION, low=0, metavar="X",
        shown_default=str(DynamicEvaluation.lr))
    dynamic_decay: float | None = option(
        None, "Share of the distance to the trained weights that each step goes back.", panel=ADAPTATION,
        low=0, high=1, metavar="X", shown_default=str(DynamicEvaluation.decay))
    cache: bool = option(
        False, "Also report the perplexity with a neural cache, which makes recent words more likely.",
        panel=ADAPTATION)
    cache_theta: float | None = option(
        None, "Weight of the similarity of contexts. 0 only counts words.", panel=ADAPTATION, low=0,
        metavar="X", shown_default=str(NeuralCache.theta))
    cache_lambda: float | None = option(
        None, "Weight of the cache in the mixture of probabilities.", panel=ADAPTATION, low=0, high=0.999,
        metavar="X", shown_default=str(NeuralCache.weight))
    cache_window: int | None = option(
        None, "Number of tokens in the cache.", panel=ADAPTATION, low=1, metavar="N",
        shown_default=str(NeuralCache.window))

    def __post_init__(self) -> None:
        super().__post_init__()
        for switch in ("dynamic", "cache"):
            name = next((name for name, value in self.to_json().items()
                         if name.startswith(f"{switch}_") and value is not None), None)
            if name and not getattr(self, switch):
                raise no_effect_without(name, switch)

    def adaptations(self) -> list[DynamicEvaluation | NeuralCache]:
        """Return the requested ways of adapting to the text, each with its settings."""
        requested: list[DynamicEvaluation | NeuralCache] = []
        if self.dynamic:
            rates = {"lr": self.dynamic_lr, "decay": self.dynamic_decay}
            requested.append(DynamicEvaluation(**{k: v for k, v in rates.items() if v is not None}))
        if self.cache:
            weights = {"theta": self.cache_theta, "weight": self.cache_lambda, "window": self.cache_window}
            requested.append(NeuralCache(**{k: v for k, v in weights.items() if v is not None}))  # type: ignore[arg-type]
        return requested
