#!/usr/bin/env python3
"""Roofline of a tagger: its speed compared with the limits of the processor's arithmetic and memory.

The limits (roofs) are measured on as many threads as the tagger uses: matrix products of the network's
shapes, in int8 and float32 (ONNX Runtime) and in the precision of training (torch), and copies in memory. One
operation is a multiplication with its addition. Training is a minimal loop with random tags and the model's
objectives.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
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

DURATION_S = 0.3  # of measuring a roof
PRODUCTS_PER_CALL = 16  # of ONNX Runtime, because a call costs some microseconds
COPY_BYTES = 1 << 26  # of a copy: more than the caches hold
CELL_GATES = {"lstm": 4, "gru": 3, "elman": 1, "elman-relu": 1}
CHARACTER_WIDTH = 3  # of the convolution
# Bytes moved for each parameter in a training step: its gradient is written, clipping reads it twice and
# writes it once, and the optimizer reads four numbers and writes three.
OPTIMIZER_BYTES = 4 * (1 + 3 + 7)


@dataclass(frozen=True)
class Product:
    """A matrix product, (rows, inputs) with (inputs, outputs); `times` is how often each word needs it."""

    part: str
    rows: int
    inputs: int
    outputs: int
    times: float

    @property
    def operations(self) -> float:
        """Return the operations per word."""
        return self.times * self.inputs * self.outputs

    def roof(self, threads: int, run: Callable[[], object], *, count: int = 1) -> float:
        """Return the operations per second; `run` computes the product `count` times, in each thread."""
        return rate(run, threads) * count * self.rows * self.inputs * self.outputs


def products(
    network: Mapping[str, Any], *, words: int, rows: int, types: float, characters: float,
    table: int = 0, auxiliary_lm: bool = False,
) -> list[Product]:
    """Return the products for a batch of `words` in `rows` sentences.

    `types` are the word types per word, and `characters` the characters per type. With a `table`, the
    products of the first layer's inputs are computed once per type, for that many types at a time.
    """
    encoder, word = network["encoder"], network["encoder"]["word"]
    directions, hidden = 1 + encoder["bidirectional"], encoder["hidden"]
    gates = CELL_GATES[encoder["cell"]] * hidden
    result, size = [], word_size(network)
    if word["chars"] == "cnn":
        result.append(Product("characters", table or words, CHARACTER_WIDTH * word["char_embed"],
                             word["char_hidden"], types * characters))
    if auxiliary_lm:  # see rnntool/models/auxiliary_lm.py
        result += [Product("auxiliary LM, types", round(types * words), size, hidden, directions * types),
                  Product("auxiliary LM, scores", words, hidden, round(types * words), directions)]
    for layer in range(1, encoder["layers"] + 1):
        inputs = Product(f"layer {layer}, inputs", words, size, gates, directions)
        if table and layer == 1:
            inputs = Product("layer 1, inputs", table, size, directions * gates, types)
        result += [inputs, Product(f"layer {layer}, recurrence", rows, hidden, gates, directions)]
        size = directions * hidden
    return [*result, Product("tags", words, size, network["head"]["outputs"], 1)]


def word_size(network: Mapping[str, Any]) -> int:
    """Return the size of a word's vector."""
    word = network["encoder"]["word"]
    characters = word["char_hidden"] if word["chars"] != "none" else 0
    return int(network["encoder"]["embed"] + characters + word["affix_embed"] + word["vector_size"])


def bytes_moved(network: Mapping[str, Any], *, table: bool) -> float:
    """Return the bytes per word that layers read and write: gates, and inputs and states in 32 and 8 bits.

    With a `table`, the products of the first layer's inputs are looked up, and written and read once more.
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


def rate(run: Callable[[], object], threads: int) -> float:
    """Return how many times per second `run` completes, in all threads together."""
    def repeat(_: int) -> float:
        run()
        count, start = 0, time.perf_counter()
        while time.perf_counter() - start < DURATION_S:
            run()
            count += 1
        return count / (time.perf_counter() - start)

    with ThreadPoolExecutor(threads) as pool:
        return sum(pool.map(repeat, range(threads)))


def onnx_product(product: Product, *, int8: bool) -> Callable[[], object]:
    """Return a function that computes a product several times in ONNX Runtime, on one thread."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 255, (product.rows, product.inputs)).astype(np.uint8 if int8 else np.float32)
    w = rng.integers(-127, 127, (product.inputs, product.outputs)).astype(np.int8 if int8 else np.float32)
    operator, kind = ("MatMulInteger", TensorProto.INT32) if int8 else ("MatMul", TensorProto.FLOAT)
    numbers = range(PRODUCTS_PER_CALL)
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
    """Return a function that computes a product in torch, on one thread."""
    import torch

    x = torch.rand(product.rows, product.inputs).to(precision)
    w = torch.rand(product.inputs, product.outputs).to(precision)

    def run() -> object:
        torch.set_num_threads(1)  # of the calling thread
        return torch.mm(x, w)

    return run


def copy_speed(threads: int) -> float:
    """Return the bytes per second that copies read and write."""
    def copy() -> Callable[[], object]:
        source, target = np.ones(COPY_BYTES, np.uint8), np.ones(COPY_BYTES, np.uint8)
        return lambda: np.copyto(target, source)

    with ThreadPoolExecutor(threads) as pool:
        return 2 * COPY_BYTES * sum(pool.map(lambda run: rate(run, 1), [copy() for _ in range(threads)]))


def tagging_speed(tagger: model.Model, sentences: Sequence[Sentence]) -> float:
    """Return the words per second of tagging, without start-up and files."""
    start = time.perf_counter()
    words = sum(len(result.tags) for _, result in tagger.tagged(sentences))
    return words / (time.perf_counter() - start)


def training_speed(tagger: model.Model, batches: Sequence[Arrays], precision: Any) -> float:
    """Return the words per second of forward and backward passes, clipping and optimizer steps."""
    import torch

    from rnntool.inference.torch_engine import to_tensors
    from rnntool.training.optimizers import clip_gradient, make_optimizer
    from rnntool.training.train import build_network

    network = build_network(tagger.config.network, tagger.task, []).train()
    optimizer = make_optimizer(network, tagger.task.settings)
    ready = [to_tensors(arrays, torch.device("cpu")) for arrays in batches]
    words = 0
    for i, tensors in enumerate(ready):
        if i == len(ready) // 5:  # the batches before are a warm-up
            words, start = 0, time.perf_counter()
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            loss, _ = network.loss(tensors)
        optimizer.zero_grad()
        loss.backward()
        clip_gradient(network, tagger.task.settings.clip)
        optimizer.step()
        words += int(tensors["lengths"].sum())
    return words / (time.perf_counter() - start)


def training_batches(task: TagTask, sentences: Sequence[Sentence]) -> list[Arrays]:
    """Return batches as training makes them, with random tags."""
    rng = np.random.default_rng(0)
    examples = [task.example(sentence) for sentence in sentences]
    batches = list(Shuffled(task, examples, batch_size=task.settings.batch_size, seed=1).epoch(0))
    for arrays in batches:
        tags = [rng.integers(0, len(column.labels), arrays["words"].shape) for column in task.columns]
        arrays["targets"] = np.stack(tags)
    return batches


def tagging(tagger: model.Model, sentences: Sequence[Sentence], threads: int, copies: float) -> None:
    """Measure and print the roofline of tagging; `copies` are bytes per second."""
    words = [word for sentence in sentences for word in sentence.words]
    all_products = products(
        tagger.config.network.to_json(), words=BUDGET, rows=round(BUDGET * len(sentences) / len(words)),
        types=len(set(words)) / len(words), characters=mean_length(set(words)), table=TYPES_AT_ONCE)
    rows: list[tuple[str, ...]] = [("tagging", "operations per word", "int8 G/s", "float32 G/s")]
    int8_s = float32_s = 0.0  # per word
    for product in all_products:
        int8, float32 = (product.roof(threads, onnx_product(product, int8=int8), count=PRODUCTS_PER_CALL)
                         for int8 in (True, False))
        int8_s, float32_s = int8_s + product.operations / int8, float32_s + product.operations / float32
        roofs = (f"{roof / 1e9:,.0f}" for roof in (int8, float32))
        rows.append((product.part, f"{product.operations:,.0f}", *roofs))
    show(rows)
    reached = max(tagging_speed(tagger, sentences) for _ in range(3))
    size = bytes_moved(tagger.config.network.to_json(), table=True)
    show([
        ("words/s", ""),
        ("roof of int8 products", f"{1 / int8_s:,.0f}"),
        ("roof of float32 products", f"{1 / float32_s:,.0f}"),
        (f"roof of memory, {size / 1e3:.0f} KB per word at {copies / 1e9:.0f} GB/s", f"{copies / size:,.0f}"),
        ("reached", f"{reached:,.0f}"),
        ("of the roof of int8", f"{reached * int8_s:.0%}"),
    ])


def training(tagger: model.Model, sentences: Sequence[Sentence], threads: int, copies: float) -> None:
    """Measure and print the roofline of training, which needs each product three times, for two gradients."""
    import torch

    from rnntool.training.loop import pick_precision

    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    precision = pick_precision(tagger.task.settings, torch.device("cpu"))
    batches = training_batches(tagger.require(TagTask), sentences)
    words, types = (statistics.mean(arrays[name].size for arrays in batches)
                    for name in ("words", "type_tokens"))
    seen = {word for sentence in sentences for word in sentence.words}
    all_products = products(
        tagger.config.network.to_json(), words=round(words), rows=tagger.task.settings.batch_size,
        types=types / words, characters=mean_length(seen),
        auxiliary_lm=tagger.task.settings.neighbours > 0)
    rows = [("training", "operations per word", f"{str(precision).removeprefix('torch.')} G/s")]
    products_s = 0.0  # per word
    for product in all_products:
        roof = product.roof(threads, torch_product(product, precision))
        products_s += 3 * product.operations / roof
        rows.append((product.part, f"{3 * product.operations:,.0f}", f"{roof / 1e9:,.0f}"))
    show(rows)
    reached = training_speed(tagger, batches, precision)
    size = 3 * bytes_moved(tagger.config.network.to_json(), table=False)
    size += OPTIMIZER_BYTES * tagger.config.parameters / words
    show([
        ("words/s", ""),
        ("roof of products", f"{1 / products_s:,.0f}"),
        (f"roof of memory, {size / 1e3:.0f} KB per word at {copies / 1e9:.0f} GB/s", f"{copies / size:,.0f}"),
        ("reached", f"{reached:,.0f}"),
        ("of the roof of products", f"{reached * products_s:.0%}"),
    ])


def mean_length(words: Collection[str]) -> float:
    """Return the mean number of characters that the network reads of a word."""
    return sum(min(len(word), MAX_CHARACTERS) for word in words) / len(words)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, metavar="FILE", help="a tokenized sentence on each line")
    parser.add_argument("-m", "--model", default="en-pos", help="tagger; default: %(default)s")
    parser.add_argument("--sentences", type=int, default=12_000, help="to tag; default: %(default)s")
    parser.add_argument("--trained", type=int, default=4_000, help="to train on; default: %(default)s")
    parser.add_argument("--threads", type=int, default=0, help="default: 0, which uses all cores")
    options = parser.parse_args()
    threads = options.threads or cores()
    with options.file.open(encoding="utf-8") as file:
        sentences = [Sentence(line.split()) for line in itertools.islice(file, options.sentences)]
    tagger = model.load(options.model, threads=threads)
    if tagger.config.network.encoder.kind != "rnn":
        raise SystemExit(f"{options.model}: expected a tagger with recurrent layers")
    copies = copy_speed(threads)
    tagging(tagger, sentences, threads, copies)
    print()
    training(model.load(options.model), sentences[: options.trained], threads, copies)


if __name__ == "__main__":
    main()
