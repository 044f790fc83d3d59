"""Language models that go on learning from the very text that they are scored on, as they read it.

Each token is scored before anything is learned from it, so the figures are those of a prediction; but they
are no figures of the model as it was trained, and have names of their own.
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
from rnntool.data.records import Text
from rnntool.data.threads import thread_count
from rnntool.errors import UsageError
from rnntool.evaluation.metrics import perplexity_of
from rnntool.evaluation.options import DynamicEvaluation, NeuralCache
from rnntool.inference.torch_engine import pick_device, to_tensors
from rnntool.inference.weights import load_network
from rnntool.models.cells.cell import State
from rnntool.models.network import Network
from rnntool.tasks.lm import LMTask

SEGMENT = 20  # tokens between two updates of the weights
CHUNK = 256  # tokens that look into the cache together


def perplexity(
    folder: Path, config: dict[str, Any], task: LMTask, records: Sequence[Text],
    settings: DynamicEvaluation | NeuralCache, *, device: str, threads: int,
) -> float:
    """Perplexity of a model folder's network that adapts to `records`; its weights are loaded for this alone.

    `ModelError` where the folder has none. `task` says whether the state is carried from record to record;
    what is learned is carried in any case.
    """
    torch.set_num_threads(thread_count(threads))
    network = load_network(folder, config)
    network.back = None  # the text is scored forward
    place = pick_device("cpu" if device == "auto" else device)
    if isinstance(settings, DynamicEvaluation):
        nats = dynamic_nats(network, task, records, settings, place)
    else:
        nats = cache_nats(network, task, records, settings, place)
    tokens = sum(task.length(task.example(record)) for record in records)
    return perplexity_of(nats / tokens)


def dynamic_nats(
    network: Network, task: LMTask, records: Sequence[Text], settings: DynamicEvaluation, device: torch.device
) -> float:
    """Summed negative log-likelihood of all tokens under dynamic evaluation; changes the weights.

    Krause et al. (2018), by stochastic gradient descent: w <- w - lr * gradient + decay * (w_0 - w), the
    gradient that of the mean loss of the segment that was scored last. `UsageError` where it diverges.
    """
    network.to(device).eval()
    weights = [p for p in network.parameters() if p.requires_grad]
    first = [p.detach().clone() for p in weights]
    states: list[State] | None = None
    nats = 0.0
    with torch.backends.cudnn.flags(enabled=False):  # its recurrent layers learn in training mode only
        for arrays, anew in _segments(task, records, SEGMENT):
            tensors = to_tensors(arrays, device)
            loss, ends = network.loss(tensors, None if anew else states)
            states = [tuple(part.detach() for part in state) for state in ends]
            nats += loss.item() * len(arrays["targets"])
            if not math.isfinite(nats):
                raise UsageError(f"--dynamic: expected a loss that is a number, found {nats}; lower --dynamic-lr")
            gradients = torch.autograd.grad(loss, weights, materialize_grads=True)
            with torch.no_grad():
                for weight, gradient, start in zip(weights, gradients, first, strict=True):
                    weight.sub_(gradient, alpha=settings.lr).lerp_(start, settings.decay)
    return nats


def cache_nats(
    network: Network, task: LMTask, records: Sequence[Text], settings: NeuralCache, device: torch.device
) -> float:
    """Summed negative log-likelihood of all tokens with a continuous cache (Grave et al., 2017).

    p(w) = (1 - weight) * p_model(w) + weight * p_cache(w), and p_cache(w) is the share of the places i in the
    window that w came after, each counted by exp(theta * h . h_i), where h are the encoder's last states.
    """
    network.to(device).eval()
    states: list[State] | None = None
    keys: Tensor | None = None  # (K, D) states, oldest first
    words = torch.empty(0, dtype=torch.int64, device=device)  # (K,) what came after each
    nats = 0.0
    with torch.inference_mode():
        for arrays, anew in _segments(task, records, CHUNK):
            tensors = to_tensors(arrays, device)
            encoded, states = network.encoder(tensors, None if anew else states)  # (T, 1, D)
            log_probs = network.head(encoded, tensors, want_logits=False)["log_probs"][:, 0].double()  # (T,)
            here, targets = encoded[:, 0].float(), tensors["targets"][:, 0]
            kept = len(words)
            keys = here if keys is None else torch.cat([keys, here])
            words = torch.cat([words, targets])
            cached = _cached(here, targets, keys, words, kept, settings)  # (T,)
            mixed = (1 - settings.weight) * log_probs.exp() + settings.weight * cached
            # The first token of all has no cache.
            mixed = torch.where(cached.isnan(), log_probs.exp(), mixed)
            nats -= float(mixed.log().sum())
            keys, words = keys[-settings.window :], words[-settings.window :]
    return nats


def _cached(
    here: Tensor, targets: Tensor, keys: Tensor, words: Tensor, kept: int, settings: NeuralCache
) -> Tensor:
    """(T,): what the cache gives to the target of each state in `here` (T, D); nan where it is empty.

    The last T of `keys` are these states; `kept` come before them.
    """
    place = torch.arange(kept, kept + len(here), device=here.device)[:, None]  # (T, 1)
    other = torch.arange(len(keys), device=here.device)  # (K + T,)
    seen = (other < place) & (other >= place - settings.window)
    scores = (settings.theta * (here @ keys.T)).double().masked_fill(~seen, -torch.inf)
    shares = scores.softmax(-1)  # (T, K + T)
    cached: Tensor = (shares * (words == targets[:, None])).sum(-1)
    return cached


def _segments(task: LMTask, records: Sequence[Text], steps: int) -> Iterator[tuple[Arrays, bool]]:
    """All texts in order, one column, `steps` tokens at a time, and whether the state starts anew there."""
    examples: list[NDArray[np.int32]] = [task.example(record) for record in records]
    streams = [examples] if task.settings.context == "stream" else [[example] for example in examples]
    for stream in streams:
        for i, arrays in enumerate(task.windows(np.concatenate(stream), columns=1, steps=steps)):
            yield arrays, i == 0
