"""Options of running a model: generating, tagging, classifying and scoring.

The command line and the Python interface share these classes. Only the standard library is imported here, so
that `--help` starts at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from rnntool.data.options import Options, option
from rnntool.errors import UsageError, contradiction, no_effect_without, setting

BATCH_SIZE = 64  # samples that are drawn in parallel by default
HIGHEST_TEMPERATURE = 1_000_000  # far beyond the point where the distribution is uniform
BEAM = 5  # hypotheses of a sequence-to-sequence model
SCHEMES = ("iob1", "iob2", "iobes")

sampling = partial(option, panel="Sampling")  # declares an option in this panel of the help


def _share(name: str, value: float) -> float:
    """Check a probability mass, which can't be 0."""
    if not 0 < value <= 1:
        raise UsageError(setting=name, expected="a number above 0 and up to 1", found=value)
    return value


@dataclass(frozen=True, kw_only=True)
class GenerateOptions(Options):
    """How a language model generates text.

    Truncations (`top_k`, `top_p`, `min_p`, `typical`) apply in this order, after the repetition penalty and
    the temperature.
    """

    label: str | None = option(
        None, "Label of the text to generate, for models that were trained on labeled text.", metavar="LABEL")
    n: int = option(1, "Number of samples per prompt.", low=1, flags=("-n", "--samples"))
    min_tokens: int = option(0, "Smallest number of tokens in a text.", low=0)
    max_tokens: int = option(500, "Largest number of tokens in a text.", low=1)
    stop: str | None = option(None, "End each text before the first occurrence of TEXT.", metavar="TEXT")
    batch_size: int | None = option(
        None, "Number of samples generated in parallel. Changes the speed, never the result.", low=1,
        shown_default=str(BATCH_SIZE))
    allow_unknown: bool = option(
        False, "Read characters or words that the model has never seen as the unknown token, instead of "
               "stopping with an error.")
    seed: int | None = option(
        None, "Seed of the random numbers. The same seed gives the same text.", low=0,
        variable="RNNTOOL_SEED", shown_default="a new one for each run")

    temperature: float = sampling(
        1.0, "Temperature of the sampling. Below 1 favors likely tokens, above 1 unlikely ones. 0 always "
             "takes the most likely token.", low=0, high=HIGHEST_TEMPERATURE, metavar="T")
    top_k: int = sampling(0, "Draw only from the K most likely tokens. 0 draws from all.", low=0, metavar="K")
    top_p: float = sampling(
        1.0, "Draw only from the smallest set of most likely tokens with a total probability of at least P "
             "(nucleus sampling).", check=lambda value: _share("top_p", value), metavar="P")
    min_p: float = sampling(
        0.0, "Draw only from tokens that are at least P times as likely as the most likely one.", low=0,
        high=1, metavar="P")
    typical: float = sampling(
        1.0, "Draw only from the tokens whose surprisal is closest to the entropy, with a total probability "
             "of at least P (locally typical sampling).", check=lambda value: _share("typical", value),
        metavar="P")
    repetition_penalty: float = sampling(
        1.0, "Make tokens that the text already contains less likely. Values above 1 penalize, 1 changes "
             "nothing.", low=0.01, high=100)
    no_repeat_ngram: int = sampling(
        0, "Never generate a sequence of N tokens that the prompt or the text already contains. 0 allows "
           "repetition.", low=0)
    beam: int = sampling(
        0, "Use beam search with K hypotheses instead of sampling. 0 samples.", low=0, metavar="K")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stop == "":
            raise UsageError(setting="stop", expected="at least one character", found="an empty text")
        if self.min_tokens > self.max_tokens:
            raise UsageError(setting="min_tokens", found=self.min_tokens, expected=(
                f"at most {self.max_tokens}, the value of {setting('max_tokens')}"))
        changed = [name for name in
                   ("temperature", "top_k", "top_p", "min_p", "typical", "repetition_penalty")
                   if getattr(self, name) != getattr(GenerateOptions, name)]
        if self.beam and changed:
            raise UsageError("beam search does not sample", setting="beam", advice=_leave_out(*changed))
        if self.beam and self.batch_size:
            raise UsageError("beam search processes one text at a time", setting="beam",
                             advice=_leave_out("batch_size"))
        truncations = [name for name in changed if name not in ("temperature", "repetition_penalty")]
        if self.temperature == 0 and truncations:
            raise UsageError(f"{setting('temperature', 0)} always takes the most likely token",
                             advice=_leave_out(*truncations))


@dataclass(frozen=True, kw_only=True)
class TagOptions(Options):
    """How a tagger's predictions are written."""

    scheme: str | None = option(
        None, "Scheme of the span tags that are written.", choices=SCHEMES,
        shown_default="the scheme of the input's tags, or iob2")
    probs: bool = option(False, "Add the probability of each tag.")
    nbest: int = option(
        0, "Also write the K best tag sequences of each sentence. Needs the format jsonl.", low=0,
        metavar="K")
    threshold: float = option(
        0.0, "Leave out tags that are less probable than P; O is written instead for spans, and _ for other "
             "tags.", low=0, high=1, metavar="P")


@dataclass(frozen=True, kw_only=True)
class ClassifyOptions(Options):
    """Which labels a classifier gives to a text."""

    top: int | None = option(
        None, "Write the K most probable labels.", low=1, metavar="K",
        shown_default="1, or all above the threshold for models with several labels per text")
    threshold: float | None = option(
        None, "Leave out labels that are less probable than P.", low=0, high=1, metavar="P",
        shown_default="0.5 for models with several labels per text, otherwise 0")
    none_label: str | None = option(
        None, "Label to write if none is probable enough.", metavar="LABEL", shown_default="none")


@dataclass(frozen=True, kw_only=True)
class TransduceOptions(Options):
    """How a sequence-to-sequence model finds the target of a source."""

    beam: int = option(
        BEAM, "Number of hypotheses that the beam search keeps. 1 is greedy search, which is the fastest.",
        low=1, metavar="K")
    n_best: int = option(1, "Write the N best targets of each source.", low=1)
    length_penalty: float = option(
        1.0, "Exponent of the length by which the log-probability of a hypothesis is divided before "
             "hypotheses are compared. 0 favors short targets.", low=0, high=10, metavar="X")
    length_limit: int | None = option(
        None, "Largest number of tokens of a target. Targets that reach it are cut off and reported.", low=1,
        shown_default="by the length of the source, as in the training data")
    sample: bool = sampling(
        False, "Draw targets at random instead of searching the most probable ones.")
    temperature: float = sampling(
        1.0, "Temperature of the sampling. Below 1 favors likely tokens, above 1 unlikely ones. 0 always "
             "takes the most likely token.", low=0, high=HIGHEST_TEMPERATURE, metavar="T")
    seed: int | None = sampling(
        None, "Seed of the random numbers. The same seed gives the same targets.", low=0,
        variable="RNNTOOL_SEED", shown_default="a new one for each run")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.sample and self.temperature != TransduceOptions.temperature:
            raise no_effect_without("temperature", "sample")
        if self.sample and self.beam != BEAM:
            raise contradiction("sample", "beam")


@dataclass(frozen=True, kw_only=True)
class ScoreOptions(Options):
    """What a language model reads before the text that it scores."""

    label: str | None = option(
        None, "Label to score all texts with instead of their own labels, for models that were trained on "
              "labeled text.", metavar="LABEL")
    context: str = option(
        "line", "Context of each line: none (line), or the lines before it (stream).",
        choices=("line", "stream"))


def _leave_out(*names: str) -> str:
    """Advise to leave options out: `leave out a, b and c`."""
    *first, last = map(setting, names)
    return f"leave out {', '.join(first)} and {last}" if first else f"leave out {last}"
