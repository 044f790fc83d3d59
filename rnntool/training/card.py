"""The model card: what a model is, how it was made and how good it is, with the header that the Hub reads."""

from __future__ import annotations

from typing import Any

from rnntool import __version__

PIPELINES = {"lm": "text-generation", "classify": "text-classification", "tag": "token-classification"}
NETWORKS = {"elman": "An Elman network", "elman-relu": "An Elman network with ReLU", "gru": "A GRU network",
            "lstm": "An LSTM network", "window": "A feed-forward network over a window",
            "bag": "A feed-forward network over the mean of the words"}
EXAMPLES = {
    "lm": "rnntool generate -m {name} -n 3\n    echo 'A line of text.' | rnntool score -m {name}",
    "classify": "echo 'A line of text.' | rnntool classify -m {name}",
    "tag": "echo 'A line of text.' | rnntool tag -m {name}",
}
ABOUT = ("license", "language", "about")  # settings that the card shows at its top
FIGURES = ("perplexity", "bits_per_char", "bits_per_byte", "accuracy", "macro_f1", "precision", "recall",
           "f1", "f1_conlleval")


def model_card(name: str, config: dict[str, Any]) -> str:
    """A card in Markdown from what `config.json` holds."""
    task, report, settings = config["task"], config.get("report") or {}, config["settings"]
    network = config["network"]["encoder"]
    kind = network["cell"] if network["kind"] == "rnn" else network["kind"]
    direction = " in both directions" if network["bidirectional"] else ""
    layers = f"{network['layers']} layer{'s' if network['layers'] > 1 else ''}"
    found = [key for key in FIGURES if isinstance(report.get(key), float)]
    figures = "".join(f"| {key} | {report[key]:.4f} |\n" for key in found)
    table = f"## On the development data\n\n| figure | value |\n|---|---|\n{figures}\n" if figures else ""
    chosen = "".join(f"    {key} = {_toml(value)}\n" for key, value in settings.items()
                     if value is not None and key not in ABOUT)
    header = {"library_name": "rnntool", "pipeline_tag": PIPELINES[task],
              "tags": f"[rnntool, {', '.join(dict.fromkeys((network['kind'], kind)))}]",
              "license": settings["license"], "language": settings["language"]}
    lines = "".join(f"{key}: {value}\n" for key, value in header.items() if value)
    about = f"{settings['about']}\n\n" if settings["about"] else ""
    return (
        f"---\n{lines}---\n"
        f"# {name}\n\n"
        f"{about}"
        f"{NETWORKS[kind]}{direction}, {layers} of {network['hidden']}, "
        f"{config['parameters']:,} parameters, made by rnntool {__version__} (`rnntool train {task}`).\n\n"
        f"    {EXAMPLES[task].format(name=name)}\n\n"
        f"{table}## Settings\n\n{chosen}"
    )


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)
