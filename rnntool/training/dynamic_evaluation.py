"""Language models that adapt to the text that they score: dynamic evaluation and the neural cache.

Every token is scored before the model learns from it, so these perplexities are fair. They differ from the
perplexity of the trained model, so reports show them separately.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rnntool.data.arrays import Arrays
from rnntool.data.progress import Counter, Watch
from rnntool.data.threads import thread_count
from rnntool.errors import UsageError, setting
from rnntool.evaluation.metrics import perplexity_of
from rnntool.evaluation.options import EvaluateOptions
from rnntool.inference.torch_engine import pick_device, to_tensors
from rnntool.inference.weights import load_network
from rnntool.model_folder import ModelConfig
from rnntool.models.cells.kernel import State
from rnntool.models.network import Network
from rnntool.tasks.base import AnyTask

SEGMENT = 20  # tokens between two updates of the weights
NAMES = {"dynamic": "dynamic evaluation", "cache": "neural cache"}  # of the methods
CHUNK = 256  # tokens that are looked up in the cache together; the size changes no result


def perplexity(
    folder: Path, config: ModelConfig, task: AnyTask, records: Sequence[Any], method: str,
    options: EvaluateOptions, *, device: str, threads: int, watch: Watch | None = None,
) -> float:
    """Return the perplexity of a model that adapts to `records` by a `method`, dynamic or cache.

    The task decides whether recurrent states are carried from record to record. The model always keeps what
    it learned from earlier records. `ModelError` if the folder has no weights.
    """
    torch.set_num_threads(thread_count(threads))
    network = load_network(folder, config)
    network.backward_encoder = None  # not used for scoring
    torch_device = pick_device("cpu" if device == "auto" else device)
    sum_nats = {"dynamic": dynamic_nats, "cache": cache_nats}[method]
    tokens = sum(task.length(task.example(record)) for record in records)
    read = Counter(NAMES[method], "tokens", watch, total=tokens) if watch else None
    nats = sum_nats(network, task, records, options, torch_device, read)
    return perplexity_of(nats / tokens)


def dynamic_nats(
    network: Network, task: AnyTask, records: Sequence[Any], options: EvaluateOptions, device: torch.device,
    read: Counter | None = None,
) -> float:
    """Sum the negative log-likelihood of all tokens under dynamic evaluation, which changes the weights.

    After each segment w <- w - lr * g + decay * (w_0 - w), where g is the gradient of the segment's mean loss
    and w_0 are the trained weights (Krause et al. 2018, with plain gradient descent). `UsageError` if it
    diverges.
    """
    network.to(device).eval()
    weights = [p for p in network.parameters() if p.requires_grad]
    trained = [p.detach().clone() for p in weights]
    states: list[State] | None = None
    nats = 0.0
    with torch.backends.cudnn.flags(enabled=False):  # its recurrent layers have no gradients in `eval` mode
        for arrays, is_start in _segments(task, records, SEGMENT, read):
            tensors = to_tensors(arrays, device)
            loss, final_states = network.loss(tensors, None if is_start else states)
            states = [tuple(part.detach() for part in state) for state in final_states]
            nats += loss.item() * len(arrays["targets"])
            if not math.isfinite(nats):
                raise UsageError(setting="dynamic", expected="a finite loss", found=nats,
                                 advice=f"lower {setting('dynamic_lr')}")
            gradients = torch.autograd.grad(loss, weights, materialize_grads=True)
            with torch.no_grad():
                for weight, gradient, start in zip(weights, gradients, trained, strict=True):
                    weight.sub_(gradient, alpha=options.dynamic_lr).lerp_(start, options.dynamic_decay)
    return nats


def cache_nats(
    network: Network, task: AnyTask, records: Sequence[Any], options: EvaluateOptions, device: torch.device,
    read: Counter | None = None,
) -> float:
    """Sum the negative log-likelihood of all tokens with a continuous cache (Grave et al. 2017).

    p(w) = (1 - lambda) * p_model(w) + lambda * p_cache(w). The cache holds the last `window` encoder states
    h_i, each with the token that followed. p_cache(w) is the share of entries that w followed, where entry i
    counts exp(theta * h . h_i) and h is the current state.
    """
    network.to(device).eval()
    states: list[State] | None = None
    keys = torch.empty(0, network.encoder.output_size, device=device)  # (K, D) encoder states, oldest first
    followers = torch.empty(0, dtype=torch.int64, device=device)  # (K,) the token after each
    nats = 0.0
    with torch.inference_mode():
        for arrays, is_start in _segments(task, records, CHUNK, read):
            tensors = to_tensors(arrays, device)
            encoded, states = network.encoder(tensors, None if is_start else states)  # (T, 1, D)
            outputs = network.head(encoded, tensors, ["log_probs"])
            model_probs = outputs["log_probs"][:, 0].double().exp()  # (T,)
            queries, targets = encoded[:, 0].float(), tensors["targets"][:, 0]
            keys, followers = torch.cat([keys, queries]), torch.cat([followers, targets])
            cache_probs = _cache_probs(queries, targets, keys, followers, options)  # (T,)
            mixed = (1 - options.cache_lambda) * model_probs + options.cache_lambda * cache_probs
            mixed = torch.where(cache_probs.isnan(), model_probs, mixed)  # before the first token: no entries
            nats -= float(mixed.log().sum())
            keys, followers = keys[-options.cache_window :], followers[-options.cache_window :]
    return nats


def _cache_probs(
    queries: Tensor, targets: Tensor, keys: Tensor, followers: Tensor, options: EvaluateOptions
) -> Tensor:
    """Compute the probability (T,) that the cache gives to each target; NaN if it has no entries.

    The states `queries` (T, D) are the last T of `keys` (K, D); each sees the `window` keys before it.
    """
    key_steps = torch.arange(len(keys), device=keys.device)  # (K,)
    query_steps = key_steps[-len(queries) :, None]  # (T, 1)
    visible = (key_steps < query_steps) & (key_steps >= query_steps - options.cache_window)
    scores = (options.cache_theta * (queries @ keys.T)).double().masked_fill(~visible, -torch.inf)
    shares = scores.softmax(-1)  # (T, K)
    return (shares * (followers == targets[:, None])).sum(-1)


def _segments(
    task: AnyTask, records: Sequence[Any], tokens: int, read: Counter | None
) -> Iterator[tuple[Arrays, bool]]:
    """Yield the texts in order, `tokens` at a time, each with True if recurrent states start from zero."""
    examples: list[NDArray[np.int32]] = [task.example(record) for record in records]
    streams = [examples] if task.carries_state else [[example] for example in examples]
    for stream in streams:
        for i, arrays in enumerate(task.windows(np.concatenate(stream), columns=1, steps=tokens)):
            yield arrays, i == 0
            if read:
                read.add(len(arrays["tokens"]))
