"""Damage model folders: bits, lengths, types in config.json, swapped and special files, hostile graphs.

A command then answers as before, or ends with exit code 4 and one sentence, in bounded time and memory. Where
config.json has a digest that fits the damaged file, another answer is right as well.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import stat
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import harness
from harness import GIB, MODELS, Case, answer, flags, numbered, rnntool, train_models, write_data

LIMIT_S = 30.0
KNOWN_TOKENS = {"lm": "t", "ner": "met", "transduce": "a", "segment": "a"}  # that a model knows
VALUES: list[object] = [None, True, False, -1, 0, 1, 3, 0.5, 1e308, 10**12, 2**63, -2**31, "", "x", "lstm",
                        "../x", "/dev/zero", [], {}, [0], ["a"], {"kind": "x"}]
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
    kind = rng.choice(["nothing", "pipe", "folder", "socket", "huge", "link"])
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "folder":
        file.mkdir()
    elif kind == "socket":
        os.mknod(file, stat.S_IFSOCK | 0o600)
    elif kind == "huge":
        with file.open("w") as out:
            out.truncate(100 * GIB)
    elif kind == "link":
        targets: list[str | Path] = ["/dev/zero", "/dev/stdin", file, moved, other / file.name]
        file.symlink_to(rng.choice(targets))


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
        location = rng.choice(["model.safetensors", "../tag/model.onnx", "/etc/passwd", "/dev/zero"])
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
        value = helper.make_tensor_value_info
        body = helper.make_graph(
            [helper.make_node("Identity", ["c"], ["d"]), helper.make_node("Add", ["v", "v"], ["w"])], "body",
            [value("i", TensorProto.INT64, []), value("c", TensorProto.BOOL, []), value("v", kind, None)],
            [value("d", TensorProto.BOOL, []), value("w", kind, None)])
        for before in graph.node:
            before.output[:] = ["looped" if name == output.name else name for name in before.output]
        graph.initializer.extend([helper.make_tensor("turns", TensorProto.INT64, [], [2**62]),
                                  helper.make_tensor("go", TensorProto.BOOL, [], [True])])
        graph.node.append(helper.make_node("Loop", ["turns", "go", "looped"], [output.name], body=body))
    file.write_bytes(model.SerializeToString())


def damage(rng: random.Random, model: Path, other: Path) -> tuple[str, bool]:
    """Damage a file. Return what was done, and whether the digest in config.json was made to fit."""
    file, config = rng.choice(sorted(model.iterdir())), model / "config.json"
    changes: list[Damage] = [flip_bits, flip_bits, cut, extend, replace, make_special]
    if file == config:
        changes += [change_json] * 20
    elif file.suffix == ".onnx":
        changes += [change_graph] * 8
    elif file.suffix == ".txt":
        changes += [change_lines] * 3
    change = rng.choice(changes)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    change(rng, file, other)
    if change in (replace, change_graph, change_lines) and file != config and rng.random() < 0.5:
        content = config.read_text("utf-8")
        fitting = content.replace(digest, hashlib.sha256(file.read_bytes()).hexdigest())
        config.write_text(fitting, "utf-8")
        return f"{change.__name__} {file.name}, with its digest", fitting != content
    return f"{change.__name__} {file.name}", False


def other_command(rng: random.Random, name: str, model: Path) -> list[object]:
    """Draw a command that reads a model."""
    task, data, _ = MODELS[name]
    commands: list[list[object]] = [
        ["info", model, "--json"], ["report", model, "-o", "x.html"], ["export", model, "-o", "x.onnx"],
        ["export", model, "-o", "x.onnx", "--int8"], ["inspect", "states", "-m", model, data],
        ["inspect", "neighbors", "-m", model, KNOWN_TOKENS.get(name, "the")],
        ["evaluate", "-m", model, data], ["tokenize", "-m", model, data],
        ["train", task, data, "-q", "-o", "new", "--init", model, *flags(task, epochs=1)]]
    return rng.choice(commands)


def check(number: int, seed: int, models: dict[str, Path], at: Path) -> str | None:
    """Damage a copy of a model, run its filter and another command, and return what is wrong."""
    rng, name = numbered(seed, number), list(models)[number % len(models)]
    model = at / name
    shutil.copytree(models[name], model)
    write_data(at)
    expected = answer(name, model, at).out
    title, fits = damage(rng, model, rng.choice(list(models.values())))
    limits: dict[str, Any] = {"folder": at, "limit_s": LIMIT_S, "memory": 2 * GIB}
    ran = answer(name, model, **limits)
    if fault := ran.fault(0, 4):
        return f"{title}: {fault}"
    if ran.code == 0 and ran.out != expected and not fits:
        return f"{title}: another answer: {ran.out[:200]!r} instead of {expected[:200]!r}"
    if b"NaN" in ran.out or b"Infinity" in ran.out:
        return f"{title}: not a number: {ran.out[:300]!r}"
    arguments = other_command(rng, name, model)
    codes = (0, 2, 4) if arguments[0] in ("inspect", "train") else (0, 4)  # 2: not with every kind of model
    ran = rnntool(*arguments, **limits)
    fault = None if "not enough memory" in ran.err else ran.fault(*codes)  # for a file that is huge
    return f"{title}: rnntool {' '.join(map(str, arguments[:8]))}: {fault}" if fault else None


def cases(shared: Path, count: int, seed: int) -> Sequence[Case]:
    """Damage the tiny models in turn."""
    models = train_models(shared)
    names = list(models)
    return [Case(names[number % len(names)], f"folder {number}", partial(check, number, seed, models))
            for number in range(count)]


if __name__ == "__main__":
    harness.main(__doc__, cases, count=2000)
