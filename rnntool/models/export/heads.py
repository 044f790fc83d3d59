"""Heads as ONNX nodes. Each exporter declares the outputs that the head's `forward` returns."""

from __future__ import annotations

from functools import singledispatch

import numpy as np

from rnntool.models.export.builder import Graph
from rnntool.models.heads.base import Head
from rnntool.models.heads.classifier import ClassifierHead
from rnntool.models.heads.language_model import AdaptiveSoftmaxHead, LMHead, SoftmaxHead
from rnntool.models.heads.tagger import TaggerHead


@singledispatch
def add_head(head: Head, g: Graph, states: str, lengths: str) -> dict[str, Graph]:
    """Add a head that reads the encoder's `states` (T, B, D) of rows with `lengths` (B,).

    Return further graphs by name, for parts that run on their own, such as a decoder's step.
    """
    raise TypeError(f"{type(head).__name__} has no exporter")


@add_head.register
def _(head: SoftmaxHead, g: Graph, states: str, lengths: str) -> dict[str, Graph]:
    logits = g.add("MatMul", _project(head, g, states), g.weight(head.weight.T, "output.weight"))
    logits = g.add("Add", logits, g.weight(head.output.bias, "output.bias"))
    _add_lm_outputs(g, logits, head.outputs)
    return {}


@add_head.register
def _(head: AdaptiveSoftmaxHead, g: Graph, states: str, lengths: str) -> dict[str, Graph]:
    states = _project(head, g, states)
    (_, frequent), *rest = head.spans

    def log_softmax(cluster: int) -> str:
        """Add log-probabilities (T, B, outputs of the cluster)."""
        x = states
        if cluster:
            shorten = head.output_embedding.projection(cluster).weight
            x = g.add("MatMul", x, g.weight(shorten, f"output.{cluster}.projection"))
        weight, bias = head.layer(cluster)
        scores = g.add("MatMul", x, g.weight(weight.T, f"output.{cluster}.weight"))
        return g.add("LogSoftmax", g.add("Add", scores, g.weight(bias, f"output.{cluster}.bias")), axis=-1)

    parts = g.add_many("Split", log_softmax(0), g.constant([frequent] + [1] * len(rest)),
                       outputs=1 + len(rest), axis=2)
    parts[1:] = [g.add("Add", part, log_softmax(cluster)) for cluster, part in enumerate(parts[1:], 1)]
    _add_lm_outputs(g, g.add("Concat", *parts, axis=2), head.outputs)
    return {}


def _project(head: LMHead, g: Graph, states: str) -> str:
    return states if head.projection is None else g.linear(states, head.projection, "projection")


def _add_lm_outputs(g: Graph, logits: str, size: int) -> None:
    """Add `logits` (T, B, V), their softmax `probs`, and the `log_probs` (T, B) of the targets."""
    targets = g.input("targets", "int64", ["time", "batch"])
    g.output(logits, "logits", "float32", ["time", "batch", size])
    probs = g.add("Softmax", logits, axis=-1)
    g.output(probs, "probs", "float32", ["time", "batch", size])
    # The normalizer is computed from the most likely token, which saves a second softmax. Unlike a sum, a
    # maximum has the same bits at any place in a batch.
    peak, top = (g.add("ReduceMax", values, axes=[-1]) for values in (logits, probs))  # (T, B, 1)
    log_total = g.add("Sub", peak, g.add("Log", top))
    indices = g.add("Unsqueeze", g.add("Max", targets, g.constant(0)), g.constant([2]))
    log_probs = g.add("Sub", g.add("GatherElements", logits, indices, axis=2), log_total)
    log_probs = g.add("Squeeze", log_probs, g.constant([2]))
    real = g.cast(g.add("GreaterOrEqual", targets, g.constant(0)), "float32")
    g.output(g.add("Mul", log_probs, real), "log_probs", "float32", ["time", "batch"])


@add_head.register
def _(head: ClassifierHead, g: Graph, states: str, lengths: str) -> dict[str, Graph]:
    mask = g.add("Unsqueeze", g.time_mask(states, 0, lengths), g.constant([2]))  # (T, B, 1) bool
    real = g.cast(mask, "float32")
    is_filled = g.cast(g.add("Greater", lengths, g.constant(0, "int32")), "float32")
    is_filled = g.add("Unsqueeze", is_filled, g.constant([1]))  # (B, 1), 0 for an empty text
    lowest = g.constant(float(np.finfo(np.float32).min), "float32")

    def mean() -> str:
        return g.mean(states, real, lengths)

    def peak() -> str:
        value = g.add("ReduceMax", g.add("Where", mask, states, lowest), axes=[0], keepdims=0)
        return g.add("Mul", value, is_filled)

    def attention() -> str:
        assert head.attention is not None
        scores = g.add("Where", mask, g.linear(states, head.attention, "attention"), lowest)
        weighted = g.add("Mul", states, g.add("Softmax", scores, axis=0))
        return g.add("Mul", g.add("ReduceSum", weighted, g.constant([0]), keepdims=0), is_filled)

    def last_state() -> str:
        size = head.output.in_features // len(head.pooling)
        step = g.add("Sub", g.add("Max", lengths, g.constant(1, "int32")), g.constant(1, "int32"))
        step = g.add("Unsqueeze", g.cast(step, "int64"), g.constant([0]))  # (1, B)
        last = g.add("Squeeze", g.at_steps(states, step, size), g.constant([0]))
        if size > head.hidden:  # the backward direction ends at the first step
            first = g.add("Squeeze", g.add("Gather", states, g.constant([0])), g.constant([0]))
            sides = g.constant([head.hidden, size - head.hidden])
            forward, _ = g.add_many("Split", last, sides, outputs=2, axis=1)
            _, backward = g.add_many("Split", first, sides, outputs=2, axis=1)
            last = g.add("Concat", forward, backward, axis=1)
        return g.add("Mul", last, is_filled)

    poolings = {"last": last_state, "mean": mean, "max": peak, "attention": attention}
    pooled = [poolings[name]() for name in head.pooling]
    vector = g.add("Concat", *pooled, axis=1) if len(pooled) > 1 else pooled[0]
    logits = g.linear(vector, head.output, "output")
    g.output(logits, "logits", "float32", ["batch", head.output.out_features])
    return {}


@add_head.register
def _(head: TaggerHead, g: Graph, states: str, lengths: str) -> dict[str, Graph]:
    emissions = g.linear(states, head.output, "output")
    g.output(emissions, "emissions", "float32", ["time", "batch", head.output.out_features])
    if head.crf is not None:
        for name in ("start", "transitions", "end"):
            scores = getattr(head.crf, name)
            g.output(g.weight(scores, f"crf.{name}"), name, "float32", list(scores.shape))
    return {}
