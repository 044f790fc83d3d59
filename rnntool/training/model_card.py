"""The model card: what a model is, how it was trained and how good it is, with a header for the Hub."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from rnntool import __version__
from rnntool.data.json_text import to_json
from rnntool.evaluation.metrics import numbers
from rnntool.model_folder import ModelConfig
from rnntool.models.config import WITHOUT_NETWORK
from rnntool.training.advice import cross_validated

_YAML_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}  # not text in YAML without quotes
HEADER_SETTINGS = ("license", "language", "about")  # settings at the top of the card
CALIBRATION = ("temperature", "ece", "ece_uncalibrated")  # metrics that the card leaves out


def model_card(name: str, config: ModelConfig, *, labels: Sequence[str] = ()) -> str:
    """Return a card in Markdown; an example command uses the first of the `labels`."""
    encoder, settings = config.network.encoder, config.settings
    cell = encoder.cell if encoder.kind == "rnn" else encoder.kind
    direction = " in both directions" if encoder.bidirectional else ""
    layers = f"{encoder.layers} layer{'s' if encoder.layers > 1 else ''}"
    size = f"{direction}, {layers} of {encoder.hidden}"
    if encoder.kind in WITHOUT_NETWORK:
        size = f" ({encoder.architecture})"
    shown = set(config.spec.metrics).difference(CALIBRATION)
    rows = "".join(f"| {name} | {value:.4f} |\n" for name, value in numbers(config.report).items()
                   if isinstance(value, float) and name.split()[-1] in shown)
    table = f"## On the development data\n\n| figure | value |\n|---|---|\n{rows}\n" if rows else ""
    if figures := config.report.get("cross_validation"):
        table += f"Cross-validation: {cross_validated(figures)}.\n\n"
    chosen = "".join(f"    {key} = {toml_value(value)}\n" for key, value in settings.to_json().items()
                     if value is not None and key not in HEADER_SETTINGS)
    header = {"library_name": "rnntool", "pipeline_tag": config.spec.pipeline_tag,
              "tags": f"[rnntool, {', '.join(dict.fromkeys((encoder.kind, cell)))}]",
              "license": settings.license, "language": settings.language}
    lines = "".join(f"{key}: {_yaml(value)}\n" for key, value in header.items() if value)
    examples = "\n    ".join(config.spec.command_lines(name, label=labels[0] if labels else None))
    about = f"{settings.about}\n\n" if settings.about else ""
    return (
        f"---\n{lines}---\n"
        f"# {name}\n\n"
        f"{about}"
        f"{encoder.description}{size}, {config.parameters:,} parameters, "
        f"made by rnntool {__version__} (`rnntool train {config.task}`).\n\n"
        f"    {examples}\n\n"
        f"{table}## Settings\n\n{chosen}"
    )


def _yaml(value: str) -> str:
    """Write a value, in quotes if YAML could read it as something else, such as `no` as false."""
    if value.startswith("[") and value.endswith("]"):
        return f"[{', '.join(_yaml(part.strip()) for part in value[1:-1].split(','))}]"
    plain = re.fullmatch(r"[A-Za-z][\w.-]*", value) and value.lower() not in _YAML_WORDS
    return value if plain else to_json(value)


def toml_value(value: Any) -> str:
    """Write a setting's value as TOML."""
    if isinstance(value, bool):
        return str(value).lower()
    return to_json(value) if isinstance(value, str) else str(value)
