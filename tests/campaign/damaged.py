"""Damage model folders: bits, lengths, types in config.json, other files and special files, hostile graphs.

A command then answers as before, or ends with exit code 4 and one sentence; in bounded time and memory. Where a
damaged file comes with the digest that fits it, another answer is right as well.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import harness
from harness import FILTERS, GIB, Case, answer, numbered, rnntool, train_models

LIMIT_S = 30.0
VALUES = [None, True, False, -1, 0, 1, 3, 0.5, 1e308, 10**12, 2**63, -2**31, "", "x", "lstm", "../x", "/dev/zero", [],
          {}, [0], ["a"], {"kind": "x"}]
Damage = Callable[[random.Random, Path, Path], None]  # (random numbers, file, another model)


def flip_bits(rng: random.Random, file: Path, other: Path) -> None:
    content = bytearray(file.read_bytes())
    for _ in range(rng.choice([1, 1, 1, 8])):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    file.write_bytes(content)


def cut(rng: random.Random, file: Path, other: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[:rng.choice([0, 1, len(content) // 2, len(content) - 1])])


def extend(rng: random.Random, file: Path, other: Path) -> None:
    with file.open("ab") as out:
        out.write(rng.choice([b"\0", b"\n", b"x\n", bytes(1000), b"{}"]))


def change_lines(rng: random.Random, file: Path, other: Path) -> None:
    lines = file.read_bytes().split(b"\n")
    i = rng.randrange(len(lines))
    lines[i:i + 1] = rng.choice([[], [lines[i]] * 2, [b""], [b"\xff"], [b"x" * 10**6], lines[i::-1]])
    file.write_bytes(b"\n".join(lines))


def replace(rng: random.Random, file: Path, other: Path) -> None:
    source = rng.choice([path for path in (*file.parent.iterdir(), *other.iterdir()) if path != file])
    shutil.copy(source, file)


def make_special(rng: random.Random, file: Path, other: Path) -> None:
    moved = file.with_name("moved")
    file.rename(moved)
    rng.choice([
        lambda: os.mkfifo(file), file.mkdir, lambda: None, lambda: file.symlink_to("/dev/zero"),
        lambda: file.symlink_to("/dev/stdin"), lambda: file.symlink_to(file), lambda: file.symlink_to(moved),
        lambda: file.symlink_to(other / file.name), lambda: os.mknod(file, 0o140600),
        lambda: (file.touch(), os.truncate(file, 100 * GIB))])()


def change_json(rng: random.Random, file: Path, other: Path) -> None:
    content = json.loads(file.read_text("utf-8"))
    place: Any = content
    while True:
        key = rng.choice(list(place) if isinstance(place, dict) else range(len(place)))
        if isinstance(place[key], dict | list) and place[key] and rng.random() < 0.8:
            place = place[key]
        else:
            break
    if rng.random() < 0.3:
        del place[key]
    else:
        place[key] = rng.choice(VALUES)
    file.write_text(json.dumps(content), "utf-8")


def change_graph(rng: random.Random, file: Path, other: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    model = onnx.load(file)
    graph = model.graph
    tensor, node, output = rng.choice(graph.initializer), rng.choice(graph.node), rng.choice(graph.output)
    change = rng.randrange(6)
    if change == 0:
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        location = rng.choice(["model.safetensors", "../tag/model.onnx", "/etc/passwd", "/dev/zero", "config.json"])
        tensor.external_data.add(key="location", value=location)
    elif change == 1:
        node.op_type = rng.choice(["Sin", "Loop", "If", "Scan", "Identity", "Expand", "Tile", "Unknown"])
    elif change == 2:
        node.domain = "elsewhere"
    elif change == 3:
        tensor.raw_data = b"\xff" * len(tensor.raw_data)  # NaN
    elif change == 4:
        del tensor.dims[:]
        tensor.dims.extend([10**6, 10**6])
    else:  # a loop that never ends, before an output
        kind = output.type.tensor_type.elem_type
        body = helper.make_graph(
            [helper.make_node("Identity", ["c"], ["d"]), helper.make_node("Add", ["v", "v"], ["w"])], "body",
            [helper.make_tensor_value_info("i", TensorProto.INT64, []),
             helper.make_tensor_value_info("c", TensorProto.BOOL, []),
             helper.make_tensor_value_info("v", kind, None)],
            [helper.make_tensor_value_info("d", TensorProto.BOOL, []), helper.make_tensor_value_info("w", kind, None)])
        for before in graph.node:
            before.output[:] = ["looped" if name == output.name else name for name in before.output]
        graph.initializer.extend([helper.make_tensor("turns", TensorProto.INT64, [], [2**62]),
                                  helper.make_tensor("go", TensorProto.BOOL, [], [True])])
        graph.node.append(helper.make_node("Loop", ["turns", "go", "looped"], [output.name], body=body))
    file.write_bytes(model.SerializeToString())


ANY: list[Damage] = [flip_bits, flip_bits, cut, extend, replace, make_special]


def damage(rng: random.Random, model: Path, other: Path) -> tuple[str, bool]:
    """Damage a file, return what was done, and whether the digests in config.json were made to fit."""
    file = rng.choice(sorted(path for path in model.iterdir()))
    special: list[Damage] = {"config.json": [change_json] * 20, "model.onnx": [change_graph] * 8}.get(
        file.name, [change_lines] * 3 if file.suffix == ".txt" else [])
    change = rng.choice([*ANY, *special])
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    change(rng, file, other)
    title = f"{change.__name__} {file.name}"
    config = model / "config.json"
    small = file.is_file() and not file.is_symlink() and file.stat().st_size < GIB
    if change not in (flip_bits, cut) and file != config and small and rng.random() < 0.5:
        content = config.read_text("utf-8")
        config.write_text(content.replace(digest, hashlib.sha256(file.read_bytes()).hexdigest()), "utf-8")
        return f"{title}, with its digest", digest in content
    return title, False


def other_command(rng: random.Random, name: str, model: Path) -> list[object]:
    """Draw a command that reads a model."""
    data = {"tag": "tag.conllu", "ner": "ner.conll", "classify": "classify.tsv", "lm": "lm.txt"}[name]
    return rng.choice([
        ["info", model, "--json"], ["report", model, "-o", "x.html"], ["export", model, "-o", "x.onnx"],
        ["export", model, "-o", "x.onnx", "--int8"], ["inspect", "states", "-m", model, data],
        ["inspect", "neighbors", "-m", model, "t" if name == "lm" else "the"], ["evaluate", "-m", model, data], ["tokenize", "-m", model, data],
        ["train", harness.MODELS[name][0], data, "-q", "-o", "new", "--init", model,
         *harness.flags(harness.MODELS[name][0], epochs=1)]])


def check(rng: random.Random, name: str, models: dict[str, Path], at: Path) -> str | None:
    """Damage a copy of a model, run its filter and another command, and return what is wrong."""
    model = at / name
    shutil.copytree(models[name], model)
    harness.write_data(at)
    expected = answer(name, models[name], at)
    title, fits = damage(rng, model, models[rng.choice(list(models))])
    ran = answer(name, model, at, limit_s=LIMIT_S, memory=2 * GIB)
    if fault := ran.fault(0, 4):
        return f"{title}: {FILTERS[name]}: {fault}"
    if ran.code == 0 and ran.out != expected.out and not fits:
        return f"{title}: another answer without a message: {ran.out[:200]!r} instead of {expected.out[:200]!r}"
    if ran.code == 0 and (b"NaN" in ran.out or b"Infinity" in ran.out):
        return f"{title}: not a number: {ran.out[:300]!r}"
    arguments = other_command(rng, name, model)
    codes = (0, 4, 2) if arguments[0] in ("inspect", "train") else (0, 4)  # not every model can do it
    ran = rnntool(*arguments, folder=at, limit_s=LIMIT_S, memory=2 * GIB)
    fault = ran.fault(*codes)
    return f"{title}: rnntool {' '.join(map(str, arguments[:8]))}: {fault}" if fault else None


def cases(shared: Path, count: int, seed: int) -> Sequence[Case]:
    """Damage the tiny models in turn."""
    models = train_models(shared)

    def case(number: int) -> Case:
        name = list(models)[number % len(models)]
        return Case(name, f"folder {number}", lambda at: check(numbered(seed, number), name, models, at))

    return [case(number) for number in range(count)]


if __name__ == "__main__":
    harness.main(__doc__, cases, count=2000)
