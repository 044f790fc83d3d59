"""The model card: what a model is, how it was made and how good it is, with the header that the Hub reads."""

from __future__ import annotations

import json
import re
import shlex
from typing import Any

from rnntool import __version__
from rnntool.evaluation.metrics import figures
from rnntool.models.cells import CELLS
from rnntool.models.config import ENCODERS

PIPELINES = {"lm": "text-generation", "classify": "text-classification", "tag": "token-classification"}
EXAMPLES = {
    "lm": "rnntool generate -m {name} -n 3\n    echo 'A line of text.' | rnntool score -m {name}",
    "lm given a label": "rnntool generate -m {name} --label {label} -n 3\n"
                        "    echo 'A line of text.' | rnntool score -m {name} --label {label}",
    "classify": "echo 'A line of text.' | rnntool classify -m {name}",
    "tag": "echo 'A line of text.' | rnntool tag -m {name}",
}
_YAML_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}  # that are no strings
ABOUT = ("license", "language", "about")  # settings that the card shows at its top
FIGURES = ("perplexity", "bits_per_char", "bits_per_byte", "accuracy", "macro_f1", "precision", "recall",
           "f1", "f1_conlleval")


def model_card(name: str, config: dict[str, Any], *, label: str | None = None) -> str:
    """A card in Markdown from what `config.json` holds; `label` is one that text is written given."""
    task, report, settings = config["task"], config.get("report") or {}, config["settings"]
    network = config["network"]["encoder"]
    kind = network["cell"] if network["kind"] == "rnn" else network["kind"]
    words = CELLS[kind].words if kind in CELLS else ENCODERS[kind]
    direction = " in both directions" if network["bidirectional"] else ""
    layers = f"{network['layers']} layer{'s' if network['layers'] > 1 else ''}"
    rows = "".join(f"| {name} | {value:.4f} |\n" for name, value in figures(report).items()
                   if isinstance(value, float) and name.split()[-1] in FIGURES)
    table = f"## On the development data\n\n| figure | value |\n|---|---|\n{rows}\n" if rows else ""
    chosen = "".join(f"    {key} = {_toml(value)}\n" for key, value in settings.items()
                     if value is not None and key not in ABOUT)
    header = {"library_name": "rnntool", "pipeline_tag": PIPELINES[task],
              "tags": f"[rnntool, {', '.join(dict.fromkeys((network['kind'], kind)))}]",
              "license": settings["license"], "language": settings["language"]}
    lines = "".join(f"{key}: {_yaml(value)}\n" for key, value in header.items() if value)
    example = EXAMPLES[task if label is None else f"{task} given a label"]
    example = example.format(name=shlex.quote(name), label=shlex.quote(label or ""))
    about = f"{settings['about']}\n\n" if settings["about"] else ""
    return (
        f"---\n{lines}---\n"
        f"# {name}\n\n"
        f"{about}"
        f"{words}{direction}, {layers} of {network['hidden']}, "
        f"{config['parameters']:,} parameters, made by rnntool {__version__} (`rnntool train {task}`).\n\n"
        f"    {example}\n\n"
        f"{table}## Settings\n\n{chosen}"
    )


def _yaml(value: str) -> str:
    """A value as it is, or quoted where YAML could take it for something else, as `no` for false."""
    if value.startswith("[") and value.endswith("]"):
        return f"[{', '.join(_yaml(part.strip()) for part in value[1:-1].split(','))}]"
    plain = re.fullmatch(r"[A-Za-z][\w.-]*", value) and value.lower() not in _YAML_WORDS
    return value if plain else json.dumps(value, ensure_ascii=False)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else str(value)
