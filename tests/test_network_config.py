"""The configuration of a network: older files are read, and errors name the damaged key."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rnntool.errors import ModelError, UsageError
from rnntool.models.cells import CELLS
from rnntool.models.config import (
    HEAD_CONFIGS,
    ClassifierHeadConfig,
    EncoderConfig,
    LMHeadConfig,
    NetworkConfig,
    ObjectiveConfig,
    TaggerHeadConfig,
    WordConfig,
)

ROOT = Path(__file__).parent.parent
WRITTEN = sorted([*ROOT.glob("models/*/config.json"), *ROOT.glob("tests/fixtures/models_*/*/config.json")])
WORD = WordConfig(chars="cnn", char_vocabulary=20, char_embed=5, char_hidden=8)
CONFIGS = [
    NetworkConfig(
        encoder=EncoderConfig(vocabulary=30, embed=12, cell="gru", cutoffs=(6, 15)),
        head=LMHeadConfig(outputs=28, tied=True, direction="both")),
    NetworkConfig(
        encoder=EncoderConfig(
            vocabulary=30, embed=12, word=WORD, context=EncoderConfig(vocabulary=9, embed=4),
            context_both=True, bidirectional=True, dropout=0.5),
        head=TaggerHeadConfig(outputs=5, columns=(2, 3), crf=True)),
    NetworkConfig(
        encoder=EncoderConfig(vocabulary=30, embed=12, kind="window", window=2),
        head=ClassifierHeadConfig(outputs=4, pooling="max+mean", multi_label=True)),
]


def written(**changes: Any) -> dict[str, Any]:
    """Return a tagger's JSON with keys changed, added, or removed (`...`), such as `head.crf`."""
    data = json.loads(json.dumps(CONFIGS[1].to_json()))
    for key, value in changes.items():
        part, _, name = key.rpartition(".")
        place = data
        for step in part.split("."):
            place = place[step]
        if value is ...:
            del place[name]
        else:
            place[name] = value
    return data  # type: ignore[no-any-return]


@pytest.mark.parametrize("config", CONFIGS)
def test_what_was_written_is_read_back(config: NetworkConfig) -> None:
    data = json.loads(json.dumps(config.to_json()))
    assert NetworkConfig.from_json(data) == config
    assert data["head"]["kind"] == config.head.kind


@pytest.mark.parametrize("path", WRITTEN, ids=[path.parent.name for path in WRITTEN])
def test_older_configs_keep_their_meaning(path: Path) -> None:
    """Every key that still exists keeps its value, and only removed keys are dropped."""
    data = json.loads(path.read_text("utf-8"))["network"]
    config = NetworkConfig.from_json(data, place=path)
    again = json.loads(json.dumps(config.to_json()))
    for part in ("encoder", "head"):
        for key, value in again[part].items():
            if key != "word" and key in data[part]:
                assert value == data[part][key], key
        removed = data[part].keys() - again[part].keys()
        assert removed <= type(config.head).removed
    assert len(WRITTEN) >= 8


@pytest.mark.parametrize(("changes", "message"), [
    ({"encoder.wings": 2}, "m/config.json: network.encoder: the key 'wings' is unknown, so a newer rnntool "
                           "must have written this model; upgrade rnntool, or copy the model again"),
    ({"head.wings": 2}, "m/config.json: network.head: the key 'wings' is unknown"),
    ({"encoder.word.wings": 2}, "m/config.json: network.encoder.word: the key 'wings' is unknown"),
    ({"encoder.embed": ...}, "m/config.json: network.encoder.embed: is missing; copy or train the model"),
    ({"encoder.embed": "12"}, "network.encoder.embed: expected a whole number, found '12'; copy"),
    ({"encoder.embed": 0}, "network.encoder.embed: expected a whole number of at least 1, found 0"),
    ({"encoder.layers": True}, "network.encoder.layers: expected a whole number, found True"),
    ({"encoder.cell": "ltsm"}, "network.encoder.cell: expected one of elman, elman-relu, gru, lstm"),
    ({"encoder.kind": None}, "network.encoder.kind: expected text, found None"),
    ({"encoder.dropout": 2}, "network.encoder.dropout: expected a number from 0 to 1, found 2"),
    ({"encoder.cutoffs": [9, 3]}, "network.encoder.cutoffs: expected rising numbers between 0 and 30, "),
    ({"encoder.cutoffs": "9"}, "network.encoder.cutoffs: expected a list of whole numbers, found '9'"),
    ({"encoder.word": 3}, "network.encoder.word: expected an object, found 3"),
    ({"encoder.word.char_hidden": 0}, "network.encoder.word.char_hidden: expected a whole number of at"),
    ({"encoder.context.embed": -1}, "network.encoder.context.embed: expected a whole number of at least 1"),
    ({"encoder.word": None}, "network.encoder.context: needs an encoder of words"),
    ({"head.columns": [2, 2]}, "network.head.columns: expected sizes that add up to 5, found [2, 2]"),
    ({"head.kind": "translate"},
     "network.head.kind: expected one of lm, classify, tag, transduce, found 'translate'"),
])
def test_an_error_names_the_damaged_key(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError) as caught:
        NetworkConfig.from_json(written(**changes), place="m/config.json")
    assert message in str(caught.value)
    assert str(caught.value).startswith("m/config.json: network.")


@pytest.mark.parametrize("data", [None, [], 3, {}, {"encoder": {}}, {"encoder": [], "head": {}}])
def test_anything_but_a_network_is_damage(data: object) -> None:
    with pytest.raises(ModelError, match=r"config\.json: network\.(encoder|head): expected an object, found"):
        NetworkConfig.from_json(data)


def test_a_configuration_checks_itself() -> None:
    with pytest.raises(UsageError, match=r"pooling: expected last, mean, .*, or several joined by \+"):
        ClassifierHeadConfig(outputs=2, pooling="foo")
    with pytest.raises(UsageError, match=r"pooling: expected each name once, found 'max\+max'"):
        ClassifierHeadConfig(outputs=2, pooling="max+max")
    with pytest.raises(UsageError, match="cell: expected one of "):
        EncoderConfig(vocabulary=3, embed=2, cell="ltsm")
    with pytest.raises(UsageError, match="label_smoothing: expected a number from 0 to 1, found 2"):
        ObjectiveConfig(label_smoothing=2.0)


def test_descriptions_for_the_model_card() -> None:
    for cell, row in CELLS.items():
        assert EncoderConfig(vocabulary=3, embed=2, cell=cell).description == row.description
    assert "window" in EncoderConfig(vocabulary=3, embed=2, kind="window").description


def test_each_head_has_its_own_keys() -> None:
    """No key of a kind is ignored when it is read."""
    for kind, config in HEAD_CONFIGS.items():
        assert config.kind == kind
        assert not config.removed & set(config.__dataclass_fields__)


def test_the_module_imports_neither_torch_nor_numpy() -> None:
    code = ("import sys, rnntool.models.config as config; config.EncoderConfig(vocabulary=3, embed=2);"
            "print({'torch', 'numpy', 'onnx'} & set(sys.modules))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
