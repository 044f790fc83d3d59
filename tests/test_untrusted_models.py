"""Model folders from strangers: nothing outside the folder is read, loading ends, and changes are noticed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import tiny
from conftest import Run, failed, invoke, ok
from onnx import TensorProto, helper, numpy_helper

from rnntool import model_folder
from rnntool.errors import ModelError
from rnntool.inference import model
from rnntool.inference.onnx_engine import OnnxEngine
from rnntool.models import graph_check

GRAPH_COMMANDS = (["tag", "-m"], ["inspect", "states", "-m"], ["inspect", "neighbors", "the", "-m"],
                  ["export", "-o", "x.onnx"])
pipes = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with a name")


@pytest.fixture
def copy(tagger: Path, tmp_path: Path) -> Path:
    """A model folder without digests, so that its files can be replaced."""
    folder = Path(shutil.copytree(tagger, tmp_path / "copy"))
    tiny.forget_digests(folder)
    return folder


def refused(folder: Path, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        model.load(folder)
    assert "\n" not in str(caught.value)


# --- Graphs ------------------------------------------------------------------------------------------------


def externally(tensor: TensorProto, location: str) -> TensorProto:
    """Move the content of a tensor to a file, as onnx does for models larger than 2 GiB."""
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return tensor


def branch(*nodes: onnx.NodeProto) -> onnx.GraphProto:
    return helper.make_graph(list(nodes), "branch", [], [helper.make_tensor_value_info("y", 1, None)])


def with_loop(graph: onnx.GraphProto) -> None:
    body = helper.make_graph(
        [helper.make_node("Identity", ["on"], ["still on"])], "body",
        [helper.make_tensor_value_info("turn", TensorProto.INT64, []),
         helper.make_tensor_value_info("on", TensorProto.BOOL, [])],
        [helper.make_tensor_value_info("still on", TensorProto.BOOL, [])])
    graph.initializer.append(numpy_helper.from_array(np.array(2**62), "turns"))
    graph.node.insert(0, helper.make_node("Loop", ["turns", ""], [], body=body))


def with_nested_scan(graph: onnx.GraphProto) -> None:
    inner = branch(helper.make_node("Scan", ["x"], ["y"], body=branch(), num_scan_inputs=1))
    graph.node.insert(0, helper.make_node("If", ["c"], ["z"], then_branch=inner, else_branch=inner))


def with_external_attribute(graph: onnx.GraphProto) -> None:
    value = externally(numpy_helper.from_array(np.zeros(1, np.float32)), "/etc/passwd")
    graph.node.append(helper.make_node("ConstantOfShape", ["s"], ["z"], value=value))


def with_sparse_weight(graph: onnx.GraphProto) -> None:
    values = numpy_helper.from_array(np.ones(1, np.float32), "sparse")
    graph.sparse_initializer.append(
        helper.make_sparse_tensor(values, numpy_helper.from_array(np.array([1])), [9]))


@pytest.mark.parametrize(("change", "message"), [
    *((lambda graph, place=place: externally(graph.initializer[0], place), "weights from another file")
      for place in ("weights.bin", "/etc/passwd", "../secret", "*/_ORT_MEM_ADDR_/*")),
    (with_external_attribute, "weights from another file"),
    (with_loop, "the operator 'Loop'"),
    (with_nested_scan, "the operator Scan is inside another one"),
    (with_sparse_weight, "field 15 of a graph is unknown"),
    (lambda graph: graph.node.append(helper.make_node("TfIdfVectorizer", ["a"], ["b"])), "'TfIdfVectorizer'"),
    (lambda graph: graph.node.append(helper.make_node("LSTM", ["a"], ["b"], domain="ai.example")), "'LSTM'"),
    (lambda graph: graph.node.append(onnx.NodeProto(name="no operator")), "the operator ''"),
])
def test_a_graph_that_rnntool_does_not_write_is_refused(
    change: Callable[[onnx.GraphProto], None], message: str, copy: Path
) -> None:
    graph = onnx.load(copy / "model.onnx")
    change(graph.graph)
    (copy / "model.onnx").write_bytes(graph.SerializeToString())
    refused(copy, f"model.onnx: isn't a graph that rnntool wrote .*{message}")
    with pytest.raises(ModelError, match=message):
        OnnxEngine(copy / "model.onnx")


def test_a_model_with_functions_is_refused(copy: Path) -> None:
    graph = onnx.load(copy / "model.onnx")
    graph.functions.append(helper.make_function("ai.example", "F", ["a"], ["b"], [], []))
    (copy / "model.onnx").write_bytes(graph.SerializeToString())
    refused(copy, "field 25 of a model is unknown")


@pytest.mark.parametrize("command", GRAPH_COMMANDS, ids=" ".join)
def test_no_command_reads_weights_from_another_file(
    command: list[str], copy: Path, run: Run, tmp_path: Path
) -> None:
    graph = onnx.load(copy / "model.onnx", load_external_data=False)
    (tmp_path / "secret").write_bytes(b"\0" * 4096)
    for weight in graph.graph.initializer:
        externally(weight, "secret")
    (copy / "model.onnx").write_bytes(graph.SerializeToString())
    failed(run(*command, copy, input="the baker sings .\n"), 4, str(copy / "model.onnx"), "another file")


def test_the_format_of_the_runtime_is_refused(copy: Path) -> None:
    """It could have other operators; a file could even be read as both formats."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(copy / "model.ort")
    onnxruntime.InferenceSession(str(copy / "model.onnx"), options, providers=["CPUExecutionProvider"])
    (copy / "model.ort").replace(copy / "model.onnx")
    refused(copy, "isn't a graph that rnntool wrote")
    with pytest.raises(ModelError, match="can't load this graph"):
        OnnxEngine(copy / "model.onnx", graph=(copy / "model.onnx").read_bytes())


def test_no_damage_of_a_graph_makes_its_check_fail(tagger: Path) -> None:
    graph = (tagger / "model.onnx").read_bytes()
    rng = np.random.default_rng(1)
    for _ in range(300):
        damaged = bytearray(graph[: rng.integers(len(graph))])
        for at in rng.integers(0, max(1, len(damaged)), 5):
            damaged[at : at + 1] = rng.bytes(1)
        try:
            graph_check.check(bytes(damaged))
        except ValueError as error:
            assert str(error) and "\n" not in str(error)
    graph_check.check(graph)


def test_an_output_that_is_not_a_number_is_an_error(copy: Path, run: Run) -> None:
    graph = onnx.load(copy / "model.onnx")
    weight = next(tensor for tensor in graph.graph.initializer if tensor.name == "embedding")
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32("nan"), weight.name))
    (copy / "model.onnx").write_bytes(graph.SerializeToString())
    failed(run("tag", "-m", copy, input="the\n"), 4, "model.onnx: the graph is damaged", "contains NaN)")


def set_size(values: list[onnx.ValueInfoProto], name: str, axis: int, size: int | str) -> None:
    """Declare another size of an input or an output."""
    (value,) = (value for value in values if value.name == name)
    dim = value.type.tensor_type.shape.dim[axis]
    dim.Clear()
    setattr(dim, "dim_value" if isinstance(size, int) else "dim_param", size)


def without_rows(graph: onnx.GraphProto) -> None:
    """Return word vectors of no words."""
    (node,) = (node for node in graph.node if "word_vectors" in node.output)
    graph.initializer.append(numpy_helper.from_array(np.array([0]), "none"))
    node.CopyFrom(helper.make_node("Gather", [node.input[0], "none"], ["rows"]))
    graph.initializer.append(numpy_helper.from_array(np.zeros(0, np.int64), "no rows"))
    graph.node.append(helper.make_node("Gather", ["rows", "no rows"], ["word_vectors"]))


@pytest.mark.parametrize("change", [
    lambda graph: set_size(graph.output, "emissions", 0, 7),
    lambda graph: set_size(graph.output, "emissions", 1, "rows"),
    lambda graph: graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1])),
    without_rows,
])
def test_a_graph_of_other_shapes_is_an_error(
    change: Callable[[onnx.GraphProto], None], copy: Path, run: Run
) -> None:
    graph = onnx.load(copy / "model.onnx")
    change(graph.graph)
    (copy / "model.onnx").write_bytes(graph.SerializeToString())
    failed(run("tag", "-m", copy, input="the baker\n"), 4, "model.onnx: ")


# --- config.json and the training log ----------------------------------------------------------------------


@pytest.mark.parametrize(("keys", "value"), [
    (("report", "per_label"), [1]), (("report", "per_label", "NOUN"), 3),
    (("report", "per_label", "NOUN"), {}), (("report", "confusion"), "x"),
    (("report", "confusion", "NOUN"), 3),
    (("report", "confusion", "NOUN", "NOUN"), "x"), (("report", "columns"), 1.5),
    (("report", "columns"), {"xpos": {"confusion": {"a": 1}}}), (("sha256",), [1]),
    (("network", "encoder", "layers"), 10**9), (("network", "encoder", "embed"), 10**20),
    (("network", "encoder", "hidden"), 10**12), (("network", "head", "columns"), [-3, 8]),
    (("network", "head", "kind"), [1]), (("data", "features", "vectors"), "1"),
    (("data", "columns"), [{"labels": 4, "scheme": True}]), (("settings", "column"), "upos,xpos"),
    (("data", "features", "affix_buckets"), 17), (("data", "features", "affix_buckets"), 10**30),
])
def test_a_wrong_value_in_a_config_gives_one_sentence(
    keys: tuple[str, ...], value: object, copy: Path
) -> None:
    content = json.loads((copy / "config.json").read_text("utf-8"))
    part = content
    for key in keys[:-1]:
        part = part.setdefault(key, {})
    part[keys[-1]] = value
    (copy / "config.json").write_text(json.dumps(content), "utf-8")
    commands = (["info", copy], ["report", copy]) if keys[0] == "report" else (
        ["export", copy, "-o", copy.parent / "x.onnx", "--int8"], ["inspect", "gradients", "-m", copy])
    if keys[0] in ("data", "settings"):
        commands = (["tag", "-m", copy], ["inspect", "states", "-m", copy])
    for command in commands:
        failed(invoke(*command, input="the\n"), 4, str(copy))


def test_a_figure_of_another_type_is_left_out(copy: Path) -> None:
    content = json.loads((copy / "config.json").read_text("utf-8"))
    content["report"]["accuracy"] = {"a": 1}
    (copy / "config.json").write_text(json.dumps(content), "utf-8")
    for command in (["models"], ["info", copy], ["report", copy]):
        assert ok(invoke(*command, RNNTOOL_MODELS=str(copy.parent)))


@pytest.mark.parametrize(("line", "code"), [
    ('{"epoch": "1", "seconds": 2}', 4), ('{"epoch": 1, "seconds": [2]}', 4), ("[]", 4), ("{", 4),
    ('{"epoch": 1, "seconds": 1e999}', 4), ('{"epoch": 5, "seconds": 2, "accuracy": "x", "loss": {}}', 0),
])
def test_a_damaged_training_log_is_an_error(line: str, code: int, copy: Path) -> None:
    with (copy / "metrics.jsonl").open("a", encoding="utf-8") as log:
        log.write(line + "\n")
    ran = invoke("report", copy)
    assert ok(ran) if code == 0 else failed(ran, code, "metrics.jsonl: is damaged") is None


# --- Files -------------------------------------------------------------------------------------------------


@pipes
@pytest.mark.parametrize("name", ["config.json", "model.onnx", "vocab.txt", "labels.txt"])
def test_a_pipe_in_a_folder_is_not_waited_for(name: str, copy: Path, run: Run) -> None:
    (copy / name).unlink()
    os.mkfifo(copy / name)
    failed(run("tag", "-m", copy, input="the\n"), 4, f"{copy / name}: expected a file, found a pipe")


@pipes
def test_a_pipe_instead_of_a_training_log_or_weights_is_not_waited_for(copy: Path, run: Run) -> None:
    export = ["export", "-o", "x", "--int8"]
    for name, command in (("metrics.jsonl", ["report"]), ("model.safetensors", export)):
        (copy / name).unlink()
        os.mkfifo(copy / name)
        failed(run(*command, copy), 4, f"{copy / name}: expected a file, found a pipe")


@pipes
@pytest.mark.parametrize("kind", ["mkfifo", "mkdir"])
def test_a_training_starts_from_weights_that_are_a_file(
    kind: str, copy: Path, pos_file: Path, tmp_path: Path
) -> None:
    weights = copy / "model.safetensors"
    weights.unlink()
    getattr(os, kind)(weights)
    with pytest.raises(ModelError, match=f"{weights}.*(found a pipe|Is a directory)"):
        tiny.train("tag", tmp_path / "new", [pos_file], init=str(copy))


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no /dev/zero")
@pytest.mark.parametrize("name", ["config.json", "model.onnx", "vocab.txt"])
def test_an_endless_device_is_not_read(name: str, copy: Path) -> None:
    (copy / name).unlink()
    (copy / name).symlink_to("/dev/zero")
    refused(copy, f"{name}: expected a file, found a pipe, a socket or a device")


@pytest.mark.parametrize("name", ["config.json", "model.onnx", "vocab.txt", "labels.txt"])
def test_a_link_out_of_the_folder_is_refused_and_one_within_is_not(
    name: str, copy: Path, tmp_path: Path
) -> None:
    (copy / name).replace(tmp_path / name)
    (copy / name).symlink_to(Path("..", name))
    refused(copy, f"{name}: expected a file in the model's folder, found a link that leaves it; if you")
    (copy / "files").mkdir()
    (tmp_path / name).replace(copy / "files" / name)
    (copy / name).unlink()
    (copy / name).symlink_to(Path("files", name))
    model.load(copy)
    (tmp_path / "link").symlink_to(copy)
    model.load(tmp_path / "link")


def test_a_file_of_absurd_size_is_not_read(copy: Path) -> None:
    os.truncate(copy / "vocab.txt", 1 << 40)  # takes no room on the disk
    refused(copy, "vocab.txt: expected at most 268,435,456 bytes, found 1,099,511,627,776")


# --- Digests -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["model.onnx", "vocab.txt", "labels.txt"])
def test_a_changed_bit_is_noticed(name: str, tagger: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tagger, tmp_path / "copy"))
    content = (folder / name).read_bytes()
    for at in np.random.default_rng(1).integers(0, len(content), 20):
        changed = bytearray(content)
        changed[at] ^= 1
        (folder / name).write_bytes(changed)
        refused(folder, rf"{name}: differs from its SHA-256 in config\.json")
    (folder / name).write_bytes(content)
    model.load(folder)


def test_changed_weights_are_noticed(tagger: Path, run: Run, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tagger, tmp_path / "copy"))
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    failed(run("export", folder, "-o", "x.onnx", "--int8"), 4, "model.safetensors: differs from its SHA-256")
    model.load(folder)


def test_files_that_do_not_change_an_answer_can_be_edited_or_removed(tagger: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tagger, tmp_path / "copy"))
    assert set(model_folder.read_config(folder).sha256) == {
        "model.onnx", "model.safetensors", "vocab.txt", "labels.txt", "window.safetensors"}
    (folder / "README.md").write_text("# My model\n")
    (folder / "metrics.jsonl").unlink()
    (folder / "model.safetensors").unlink()
    vocabulary = (folder / "vocab.txt").read_bytes()
    (folder / "vocab.txt").write_bytes(vocabulary.replace(b"\n", b"\r\n"))  # as Git can do on Windows
    model.load(folder)


def test_export_into_the_folder_renews_the_digest(tagger: Path, run: Run, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tagger, tmp_path / "copy"))
    old = model_folder.read_config(folder)
    for options, kind in ((["--int8"], "int8"), ([], "float32")):
        assert ok(run("export", folder, *options, "-o", folder / "model.onnx", "--force")) == ""
        answer = ok(run("tag", "-m", folder, "--to", "tokens", input="the baker sings .\n"))
        assert answer == "DET NOUN VERB PUNCT\n"
        assert model_folder.read_config(folder).graph == kind
    assert model_folder.read_config(folder) == old
