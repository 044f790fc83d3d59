#!/usr/bin/env python3
"""How near a tagger comes to what the processor can do: operations and bytes a word, roofs, what is reached.

Roofs are measured here, on as many threads as the tagger has: products of the network's own shapes, in int8
and float32 (ONNX Runtime) and as training multiplies (torch), and copies of memory. One operation is a
multiplication with its addition. Training is a bare loop with random tags, and with the objectives that the
model was trained for.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from timing import show

from rnntool.data.arrays import Arrays
from rnntool.data.records import Sentence
from rnntool.data.threads import cores
from rnntool.inference import model
from rnntool.inference.pipeline import BUDGET
from rnntool.tasks.tag import TagTask
from rnntool.tasks.word_features import MAX_CHARACTERS, TYPES_AT_ONCE
from rnntool.training.batching import Shuffled

LONG_ENOUGH_S = 0.3  # that a roof is measured for
AT_ONCE = 16  # products in one call of ONNX Runtime, which costs some microseconds
COPIED = 1 << 26  # bytes of a copy: more than caches hold
CELL_GATES = {"lstm": 4, "gru": 3, "elman": 1, "elman-relu": 1}
CHARACTERS_WIDTH = 3  # of the convolution
# Of a parameter in a step: its gradient is written, clipping reads it twice and writes it once, and the
# optimizer reads four numbers and writes three.
OPTIMIZER_BYTES = 4 * (1 + 3 + 7)


@dataclass(frozen=True)
class Product:
    """A matrix product, (rows, inputs) with (inputs, outputs), that a word goes through so many times."""

    part: str
    rows: int
    inputs: int
    outputs: int
    times: float

    @property
    def operations(self) -> float:
        """Operations a word."""
        return self.times * self.inputs * self.outputs

    def roof(self, threads: int, once: Callable[[], object], *, at_once: int = 1) -> float:
        """Operations a second, where `once` computes so many of it and each thread does that."""
        return rate(once, threads) * at_once * self.rows * self.inputs * self.outputs


def products(
    network: Mapping[str, Any], *, words: int, rows: int, types: float, characters: float,
    table: int = 0, neighbours: bool = False,
) -> list[Product]:
    """Those of a batch of `words` in `rows` sentences, with `types` of so many `characters` for each word.

    With a `table` what the first layer's gates get of a word is computed once a type, so many at once.
    """
    encoder, word = network["encoder"], network["encoder"]["word"]
    directions, hidden = 1 + encoder["bidirectional"], encoder["hidden"]
    gates = CELL_GATES[encoder["cell"]] * hidden
    found, size = [], word_size(network)
    if word["chars"] == "cnn":
        found.append(Product("characters", table or words, CHARACTERS_WIDTH * word["char_embed"],
                             word["char_hidden"], types * characters))
    if neighbours:  # see rnntool/models/auxiliary_lm.py
        found += [Product("neighbours, types", round(types * words), size, hidden, directions * types),
                  Product("neighbours, scores", words, hidden, round(types * words), directions)]
    for layer in range(1, encoder["layers"] + 1):
        inputs = Product(f"layer {layer}, inputs", words, size, gates, directions)
        if table and layer == 1:
            inputs = Product("layer 1, inputs", table, size, directions * gates, types)
        found += [inputs, Product(f"layer {layer}, recurrence", rows, hidden, gates, directions)]
        size = directions * hidden
    return [*found, Product("tags", words, size, network["head"]["outputs"], 1)]


def word_size(network: Mapping[str, Any]) -> int:
    """Numbers in the vector of a word."""
    word = network["encoder"]["word"]
    characters = word["char_hidden"] if word["chars"] != "none" else 0
    return int(network["encoder"]["embed"] + characters + word["affix_embed"] + word["vector_size"])


def bytes_moved(network: Mapping[str, Any], *, table: bool) -> float:
    """Bytes a word that layers write and read: inputs and states, in float and in 8 bits, and gates.

    With a `table` what the first layer's gates get is found there, and written and read once more.
    """
    encoder = network["encoder"]
    directions, hidden = 1 + encoder["bidirectional"], encoder["hidden"]
    gates = CELL_GATES[encoder["cell"]] * hidden
    total, size = 0, word_size(network)
    for layer in range(encoder["layers"]):
        if table and not layer:
            total += directions * (3 * 4 * gates + 2 * (4 * hidden + hidden))
        else:
            total += directions * 2 * (4 * (size + gates + hidden) + size + hidden)
        size = directions * hidden
    return total


def rate(once: Callable[[], object], threads: int) -> float:
    """How often a second `once` runs, all threads together."""
    def repeat(_: int) -> float:
        once()
        count, began = 0, time.perf_counter()
        while time.perf_counter() - began < LONG_ENOUGH_S:
            once()
            count += 1
        return count / (time.perf_counter() - began)

    with ThreadPoolExecutor(threads) as pool:
        return sum(pool.map(repeat, range(threads)))


def onnx_product(product: Product, *, int8: bool) -> Callable[[], object]:
    """AT_ONCE of it in ONNX Runtime, on one thread, with constant weights as in the tagger's graph."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 255, (product.rows, product.inputs)).astype(np.uint8 if int8 else np.float32)
    w = rng.integers(-127, 127, (product.inputs, product.outputs)).astype(np.int8 if int8 else np.float32)
    operator, kind = ("MatMulInteger", TensorProto.INT32) if int8 else ("MatMul", TensorProto.FLOAT)
    numbers = range(AT_ONCE)
    graph = helper.make_graph(
        [helper.make_node(operator, ["x", f"w{i}"], [f"y{i}"]) for i in numbers], "products",
        [helper.make_tensor_value_info("x", helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)],
        [helper.make_tensor_value_info(f"y{i}", kind, None) for i in numbers],
        [numpy_helper.from_array(w, f"w{i}") for i in numbers])
    built = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        built.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(["y0"], {"x": x})


def torch_product(product: Product, precision: Any) -> Callable[[], object]:
    """It in torch, on one thread."""
    import torch

    x = torch.rand(product.rows, product.inputs).to(precision)
    w = torch.rand(product.inputs, product.outputs).to(precision)

    def once() -> object:
        torch.set_num_threads(1)  # this thread's
        return torch.mm(x, w)

    return once


def copied_s(threads: int) -> float:
    """Bytes a second that copies read and write."""
    def copy() -> Callable[[], object]:
        source, target = np.ones(COPIED, np.uint8), np.ones(COPIED, np.uint8)
        return lambda: np.copyto(target, source)

    with ThreadPoolExecutor(threads) as pool:
        return sum(pool.map(lambda once: rate(once, 1), [copy() for _ in range(threads)])) * 2 * COPIED


def tagged_s(tagger: model.Model, sentences: Sequence[Sentence]) -> float:
    """Words a second from words to tags, no start and no files counted."""
    began = time.perf_counter()
    words = sum(len(result.tags) for _, result in tagger.tagged(sentences))
    return words / (time.perf_counter() - began)


def trained_s(tagger: model.Model, batches: Sequence[Arrays], precision: Any) -> float:
    """Words a second of forward, backward, clipping and the optimizer's step."""
    import torch

    from rnntool.inference.torch_engine import to_tensors
    from rnntool.training.optimizers import clip_gradient, make_optimizer
    from rnntool.training.train import build_network

    network = build_network(tagger.config.network, tagger.task, []).train()
    optimizer = make_optimizer(network, tagger.task.settings)
    ready = [to_tensors(arrays, torch.device("cpu")) for arrays in batches]
    words = 0
    for i, tensors in enumerate(ready):
        if i == len(ready) // 5:  # what comes before warms up
            words, began = 0, time.perf_counter()
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            loss, _ = network.loss(tensors)
        optimizer.zero_grad()
        loss.backward()
        clip_gradient(network, tagger.task.settings.clip)
        optimizer.step()
        words += int(tensors["lengths"].sum())
    return words / (time.perf_counter() - began)


def training_batches(task: TagTask, sentences: Sequence[Sentence]) -> list[Arrays]:
    """Batches as training makes them, with random tags."""
    rng = np.random.default_rng(0)
    examples = [task.example(sentence) for sentence in sentences]
    batches = list(Shuffled(task, examples, batch_size=task.settings.batch_size, seed=1).epoch(0))
    for arrays in batches:
        tags = [rng.integers(0, len(column.labels), arrays["words"].shape) for column in task.columns]
        arrays["targets"] = np.stack(tags)
    return batches


def tagging(tagger: model.Model, sentences: Sequence[Sentence], threads: int, copies: float) -> None:
    """Measure and print what tagging does; `copies` in bytes a second."""
    words = [word for sentence in sentences for word in sentence.words]
    used = products(
        tagger.config.network.to_json(), words=BUDGET, rows=round(BUDGET * len(sentences) / len(words)),
        types=len(set(words)) / len(words), characters=mean_length(set(words)), table=TYPES_AT_ONCE)
    rows = [("tagging", "operations a word", "int8 G/s", "float32 G/s")]
    int8_s = float32_s = 0.0  # a word
    for product in used:
        int8, float32 = (product.roof(threads, onnx_product(product, int8=int8), at_once=AT_ONCE)
                         for int8 in (True, False))
        int8_s, float32_s = int8_s + product.operations / int8, float32_s + product.operations / float32
        roofs = (f"{roof / 1e9:,.0f}" for roof in (int8, float32))
        rows.append((product.part, f"{product.operations:,.0f}", *roofs))
    show(rows)
    reached = max(tagged_s(tagger, sentences) for _ in range(3))
    size = bytes_moved(tagger.config.network.to_json(), table=True)
    show([
        ("words/s", ""),
        ("roof of int8 products", f"{1 / int8_s:,.0f}"),
        ("roof of float32 products", f"{1 / float32_s:,.0f}"),
        (f"roof of memory, {size / 1e3:.0f} KB a word at {copies / 1e9:.0f} GB/s", f"{copies / size:,.0f}"),
        ("reached", f"{reached:,.0f}"),
        ("of the roof of int8", f"{reached * int8_s:.0%}"),
    ])


def training(tagger: model.Model, sentences: Sequence[Sentence], threads: int, copies: float) -> None:
    """Measure and print what training does: each product three times, for the outputs and two gradients."""
    import torch

    from rnntool.training.loop import pick_precision

    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    precision = pick_precision(tagger.task.settings, torch.device("cpu"))
    batches = training_batches(tagger.require(TagTask), sentences)
    words, types = (np.mean([arrays[name].size for arrays in batches]) for name in ("words", "type_tokens"))
    seen = {word for sentence in sentences for word in sentence.words}
    used = products(
        tagger.config.network.to_json(), words=round(words), rows=tagger.task.settings.batch_size,
        types=types / words, characters=mean_length(seen),
        neighbours=tagger.task.settings.neighbours > 0)
    rows = [("training", "operations a word", f"{str(precision).removeprefix('torch.')} G/s")]
    second = 0.0  # a word
    for product in used:
        roof = product.roof(threads, torch_product(product, precision))
        second += 3 * product.operations / roof
        rows.append((product.part, f"{3 * product.operations:,.0f}", f"{roof / 1e9:,.0f}"))
    show(rows)
    reached = trained_s(tagger, batches, precision)
    size = 3 * bytes_moved(tagger.config.network.to_json(), table=False)
    size += OPTIMIZER_BYTES * tagger.config.parameters / words
    show([
        ("words/s", ""),
        ("roof of products", f"{1 / second:,.0f}"),
        (f"roof of memory, {size / 1e3:.0f} KB a word at {copies / 1e9:.0f} GB/s", f"{copies / size:,.0f}"),
        ("reached", f"{reached:,.0f}"),
        ("of the roof of products", f"{reached * second:.0%}"),
    ])


def mean_length(words: Collection[str]) -> float:
    """Characters that the network sees of a word."""
    return sum(min(len(word), MAX_CHARACTERS) for word in words) / len(words)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, metavar="FILE", help="sentences, a line each, split by spaces")
    parser.add_argument("-m", "--model", default="en-pos", help="tagger; %(default)s by default")
    parser.add_argument("--sentences", type=int, default=12_000, help="tag so many; %(default)s by default")
    parser.add_argument("--trained", type=int, default=4_000, help="and train on; %(default)s by default")
    parser.add_argument("--threads", type=int, default=0, help="0, the default, is all cores")
    options = parser.parse_args()
    threads = options.threads or cores()
    with options.file.open(encoding="utf-8") as file:
        sentences = [Sentence(line.split()) for line in itertools.islice(file, options.sentences)]
    tagger = model.load(options.model, threads=threads)
    if tagger.config.network.encoder.kind != "rnn":
        raise SystemExit(f"{options.model}: want a tagger of recurrent layers")
    copies = copied_s(threads)
    tagging(tagger, sentences, threads, copies)
    print()
    training(model.load(options.model), sentences[: options.trained], threads, copies)


if __name__ == "__main__":
    main()
