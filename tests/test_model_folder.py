"""Model folders: finding, writing and loading them, and one clear sentence for whatever is wrong with one."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from rnntool import model_folder
from rnntool.data.records import Sentence
from rnntool.errors import ModelError, RnntoolError
from rnntool.inference import model


@pytest.fixture
def copy(tagger: Path, tmp_path: Path) -> Path:
    """A model folder to damage."""
    return Path(shutil.copytree(tagger, tmp_path / "copy"))


def rewrite(folder: Path, **changes: Any) -> None:
    """Change keys of config.json; None removes a key."""
    config = json.loads((folder / "config.json").read_text("utf-8")) | changes
    kept = {key: value for key, value in config.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(kept), "utf-8")


def test_a_model_is_found_by_its_path_and_by_its_name(
    tagger: Path, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert model_folder.find(tagger) == tagger
    assert model_folder.find(str(tagger)) == tagger
    with pytest.raises(ModelError, match="tiny-pos: no such folder, and no model has this name"):
        model_folder.find("tiny-pos")
    monkeypatch.setenv("RNNTOOL_MODELS", str(models))
    assert model_folder.find("tiny-pos") == tagger
    assert tagger in model_folder.available()
    mine = Path(shutil.copytree(tagger, tmp_path / "data" / "rnntool" / "models" / "mine"))
    assert model_folder.find("mine") == mine
    shutil.copytree(tagger, tmp_path / "models" / "tiny-pos")
    assert model_folder.find("tiny-pos") == Path("models/tiny-pos"), "the nearest comes first"
    assert [folder.name for folder in model_folder.available()].count("tiny-pos") == 1


def test_the_message_about_an_unknown_name_lists_the_models(
    models: Path, tagger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RNNTOOL_MODELS", str(models))
    problem = "^tiny-poss: no such folder, and no model has this name; choose one of .*tiny-pos"
    with pytest.raises(ModelError, match=problem):
        model_folder.find("tiny-poss")
    with pytest.raises(ModelError, match="no such folder"):
        model_folder.find("no/such/folder")
    for name in ("a" * 300, "a\0b"):
        with pytest.raises(ModelError, match="no such folder"):
            model_folder.find(name)


def test_files_and_folders_that_are_not_models(tmp_path: Path) -> None:
    file = tmp_path / "file.onnx"
    file.write_text("x")
    with pytest.raises(ModelError, match="expected a folder that `rnntool train` wrote, found a file"):
        model_folder.find(file)
    with pytest.raises(ModelError, match=r"is not a model folder \(it has no config\.json\)"):
        model_folder.read_config(tmp_path)
    (tmp_path / "config.json").mkdir()
    with pytest.raises(ModelError, match="can't be read"):
        model_folder.read_config(tmp_path)


@pytest.mark.parametrize(("content", "message"), [
    ("", "is damaged"),
    ('{"format": 1', "is damaged"),
    ("\x00" * 50, "is damaged"),
    ("[1]", "wasn't written by rnntool"),
    ('{"model_type": "bert", "hidden_size": 768}', "wasn't written by rnntool"),
    ('{"format": 99}', "expected format 1, found 99; use the rnntool that wrote it, or a newer one"),
    ('{"format": "1"}', "expected format 1, found '1'"),
    ('{"format": 1, "task": "tag"}', "is damaged"),
])
def test_foreign_and_damaged_configs_give_one_sentence(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ModelError) as caught:
        model_folder.read_config(tmp_path)
    assert message in str(caught.value)
    assert "config.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_config_with_invalid_utf8_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(b'{"format": 1, "task": "\xff"}')
    with pytest.raises(ModelError, match="is damaged"):
        model_folder.read_config(tmp_path)


@pytest.mark.parametrize("changes", [
    {"task": "translate"}, {"task": None}, {"data": None}, {"data": {}}, {"data": {"tokenizer": "word"}},
    {"settings": {"cell": "perceptron"}}, {"settings": {"pooling": "foo", "layers": 0}},
    {"settings": {"layers": "two"}},
    {"network": []}, {"format": 2}, {"version": None}, {"graph": None}, {"network": {}},
])
def test_a_config_with_wrong_values_gives_one_sentence(changes: dict[str, Any], copy: Path) -> None:
    rewrite(copy, **changes)
    with pytest.raises(ModelError) as caught:
        model.load(copy)
    assert "config.json" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["model.onnx", "labels.txt", "vocab.txt"])
@pytest.mark.parametrize("damage", ["gone", "empty", "cut", "garbage"])
def test_a_damaged_file_gives_one_sentence(name: str, damage: str, copy: Path) -> None:
    path = copy / name
    data = path.read_bytes()
    path.unlink()
    if damage != "gone":
        left = {"empty": b"", "cut": data[: len(data) // 2], "garbage": b"\xff\x00\xfe" * 99}
        path.write_bytes(left[damage])
    with pytest.raises(ModelError) as caught:
        model.load(copy)
    assert str(copy) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["labels.txt", "vocab.txt"])
def test_labels_and_vocabulary_must_have_the_right_size(name: str, copy: Path) -> None:
    lines = (copy / name).read_bytes().split(b"\n")
    (copy / name).write_bytes(b"\n".join(lines[:-2]) + b"\n")  # one line is missing
    with pytest.raises(ModelError):
        model.load(copy)


def test_the_graph_of_another_model_is_refused(copy: Path, ner: Path, writer: Path, classifier: Path) -> None:
    for other in (ner, writer, classifier):
        shutil.copy(other / "model.onnx", copy)
        rewrite(copy, sha256=None)
        with pytest.raises(ModelError, match=r"model\.onnx: doesn't fit config\.json"):
            model.load(copy)


def test_a_graph_that_fails_is_a_model_error(tagger: Path) -> None:
    loaded = model.load(tagger, threads=1)
    arrays = loaded.task.encode([Sentence(["the"])])
    arrays["type_tokens"][:] = 10_000  # outside the vocabulary
    with pytest.raises(ModelError, match=r"model\.onnx: the graph can't be run on this input"):
        loaded.engine.run(arrays)


def test_a_model_without_weights_runs_but_its_weights_cannot_be_loaded(copy: Path) -> None:
    (copy / "model.safetensors").unlink()
    assert next(model.load(copy).tag(["the baker sings ."])).tags == ["DET", "NOUN", "VERB", "PUNCT"]
    from rnntool.inference.weights import load_weights

    with pytest.raises(ModelError, match=r"has no model\.safetensors, only an ONNX graph"):
        load_weights(copy)
    (copy / "model.safetensors").write_bytes(b"\x10\x00")
    with pytest.raises(ModelError, match=r"model\.safetensors: is damaged"):
        load_weights(copy)


def test_the_weights_of_another_network_are_refused(copy: Path, ner: Path) -> None:
    from rnntool.inference.weights import load_network

    shutil.copy(ner / "model.safetensors", copy)
    with pytest.raises(ModelError, match=r"doesn't fit config\.json"):
        load_network(copy, model_folder.read_config(copy))


def test_torch_gives_the_results_of_onnx(tagger: Path) -> None:
    from rnntool.inference.torch_engine import TorchEngine, pick_device
    from rnntool.inference.weights import load_network

    loaded = model.load(tagger, threads=1)
    network = load_network(tagger, model_folder.read_config(tagger))
    other = model.Model(tagger, loaded.config, loaded.task, TorchEngine(network, pick_device("cpu")))
    sentences = ["the workful baker sings .", "", "unheard of words"]
    results, expected = list(other.tag(sentences, probs=True)), list(loaded.tag(sentences, probs=True))
    assert [t.tags for t in results] == [t.tags for t in expected]
    for a, b in zip(results, expected, strict=True):
        assert a.probs == pytest.approx(b.probs, abs=1e-5)


@pytest.mark.parametrize(("name", "files", "tag", "epochs", "figures"), [
    ("tagger", {"labels.txt", "window.safetensors"}, "token-classification", 4, ["accuracy"]),
    ("transducer", {"decoder.onnx", "target.vocab.txt"}, "text2text-generation", 12,
     ["exact_match", "symbol_error_rate"]),
])
def test_the_files_and_the_card_of_a_trained_model(
    name: str, files: set[str], tag: str, epochs: int, figures: list[str], request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(name)
    assert {path.name for path in folder.iterdir()} == files | {
        "README.md", "config.json", "metrics.jsonl", "model.onnx", "model.safetensors", "vocab.txt"}
    card = (folder / "README.md").read_text("utf-8")
    assert card.startswith(f"---\nlibrary_name: rnntool\npipeline_tag: {tag}\n")
    assert f"| {figures[0]} | 1.0000 |" in card
    entries = [json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]
    assert [entry["epoch"] for entry in entries] == [*range(1, epochs + 1)]
    keys = {"step", "loss", "lr", "seconds", "tokens", "dev_loss", *figures}
    assert all(entry.keys() >= keys for entry in entries)


def test_staged_files_move_only_if_all_are_written(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    with pytest.raises(ZeroDivisionError), model_folder.new_model(out) as stage:
        (stage / "config.json").write_text("{}")
        raise ZeroDivisionError
    assert list(out.iterdir()) == []
    with model_folder.new_model(out) as stage:
        (stage / "config.json").write_text("{}")
        (stage / "model.onnx").write_text("x")
        assert not (out / "config.json").exists()
    assert sorted(path.name for path in out.rglob("*")) == ["config.json", "model.onnx"]
    (tmp_path / "file").write_text("")
    with pytest.raises(RnntoolError, match=r"can't be written to .* choose another folder"), \
            model_folder.new_model(tmp_path / "file" / "out"):
        pass


@pytest.mark.parametrize(("number", "advice"), [
    (errno.ENOSPC, "free some disk space, or choose another folder"), (errno.EIO, "choose another folder"),
    (errno.EROFS, "choose another folder"),
])
def test_a_disk_error_names_the_folder_and_the_cause(number: int, advice: str, tmp_path: Path) -> None:
    out, cause = tmp_path / "out", os.strerror(number)
    with pytest.raises(RnntoolError) as caught, model_folder.new_model(out):
        raise OSError(number, cause)
    assert str(caught.value) == f"{out}: can't be written to ({cause}); {advice}"
    assert list(out.iterdir()) == []


def test_another_error_while_files_are_staged_is_not_changed(tmp_path: Path) -> None:
    with pytest.raises(ConnectionResetError), model_folder.new_model(tmp_path / "out"):
        raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")
    assert not list((tmp_path / "out").iterdir())
