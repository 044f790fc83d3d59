"""Options of evaluation, including dynamic evaluation and the neural cache.

Only the standard library is imported here, so that `--help` starts at once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial

from rnntool.data.options import Options, option
from rnntool.errors import UsageError, no_effect_without

ADAPTATIONS = {  # the options of each way to adapt, by their names in a report
    "dynamic": {"lr": "dynamic_lr", "decay": "dynamic_decay"},
    "cache": {"theta": "cache_theta", "weight": "cache_lambda", "window": "cache_window"},
}

def _pattern(text: str) -> str:
    """Return a regular expression; `UsageError` if it isn't one."""
    try:
        re.compile(text)
    except re.error as error:
        raise UsageError(setting="ignore", expected="a regular expression",
                         found=f"{text!r} ({error})") from None
    return text


adaptation = partial(option, panel="Language models that adapt to the text")


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(Options):
    """What an evaluation reports besides the metrics of the task."""

    errors: int = option(0, "Also list the K most confident mistakes.", low=0, metavar="K")
    beam: int | None = option(
        None, "Number of hypotheses that the beam search of a sequence-to-sequence model keeps.", low=1,
        metavar="K", shown_default="5")
    length_penalty: float | None = option(
        None, "Exponent of the length by which the log-probability of a hypothesis is divided.", low=0,
        high=10, metavar="X", shown_default="1")
    ignore: str | None = option(
        None, "Remove matches of this regular expression from outputs and targets before they are compared, "
              "for example '[0-9]' to ignore stress marks. It applies to each symbol if symbols are "
              "separated by spaces, otherwise to the whole text.",
        metavar="REGEX", check=_pattern)
    dynamic: bool = adaptation(
        False, "Also report the perplexity under dynamic evaluation: the model learns from the text as it "
               "reads it.")
    dynamic_lr: float = adaptation(0.1, "Learning rate of dynamic evaluation.", low=0)
    dynamic_decay: float = adaptation(
        0.005, "Share of the distance to the trained weights that each step goes back.", low=0, high=1)
    cache: bool = adaptation(
        False, "Also report the perplexity with a neural cache, which makes recent words more likely.")
    cache_theta: float = adaptation(0.3, "Weight of the similarity of contexts. 0 only counts words.", low=0)
    cache_lambda: float = adaptation(
        0.1, "Weight of the cache in the mixture of probabilities.", low=0, high=0.999)
    cache_window: int = adaptation(500, "Number of tokens in the cache.", low=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        for switch, parameters in ADAPTATIONS.items():
            for name in parameters.values():
                if not getattr(self, switch) and getattr(self, name) != getattr(EvaluateOptions, name):
                    raise no_effect_without(name, switch)

    def of_sequences(self) -> dict[str, float | str]:
        """Return the chosen options that only sequence-to-sequence models have."""
        chosen = {"beam": self.beam, "length_penalty": self.length_penalty, "ignore": self.ignore}
        return {name: value for name, value in chosen.items() if value is not None}

    def adaptations(self) -> dict[str, dict[str, float]]:
        """Return the requested ways to adapt to the text, each with its parameters."""
        return {switch: {key: getattr(self, name) for key, name in parameters.items()}
                for switch, parameters in ADAPTATIONS.items() if getattr(self, switch)}
