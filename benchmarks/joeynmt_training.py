#!/usr/bin/env python3
"""JoeyNMT's training step, as a peer of `transduce_speed.py`; it needs joeynmt and not rnntool.

`joeynmt_training.py SETTINGS.json` builds a network with the sizes and on the batches of the file. For each
line on standard input, it trains on all batches once, and prints the seconds that this took.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

UNK, PAD, BOS, EOS = range(4)  # the last two are the same in rnntool


def network(settings: dict[str, Any]) -> Any:
    """Build JoeyNMT's recurrent encoder and decoder; the decoder is as wide as the encoder."""
    from joeynmt.model import build_model
    from joeynmt.vocabulary import Vocabulary

    specials = SimpleNamespace(
        pad_token="<pad>", pad_id=PAD, unk_token="<unk>", unk_id=UNK, bos_token="<s>", bos_id=BOS,
        eos_token="</s>", eos_id=EOS, sep_token=None, sep_id=None, lang_tags=[])
    vocabularies = []
    for name in ("source_size", "target_size"):
        vocabulary = Vocabulary([], specials)
        vocabulary.add_tokens([f"token{i}" for i in range(len(vocabulary), settings[name])])
        vocabularies.append(vocabulary)
    part = {"type": "recurrent", "rnn_type": "lstm", "num_layers": settings["layers"],
            "hidden_size": settings["hidden"], "dropout": settings["dropout"],
            "embeddings": {"embedding_dim": settings["embed"], "dropout": settings["dropout"]}}
    attention = {"additive": "bahdanau", "dot": "luong"}[settings["attention"]]
    return build_model(
        {"encoder": {**part, "bidirectional": True},
         "decoder": {**part, "attention": attention, "hidden_dropout": settings["dropout"],
                     "input_feeding": settings["input_feeding"], "init_hidden": "bridge"}},
        *vocabularies)


def batch(sources: list[list[int]], targets: list[list[int]]) -> Any:
    """Make a batch; JoeyNMT needs the longest source first."""
    import torch
    from joeynmt.batch import Batch

    order = sorted(range(len(sources)), key=lambda i: -len(sources[i]))

    def padded(rows: list[list[int]]) -> Any:
        longest = max(map(len, rows))
        return torch.tensor([rows[i] + [PAD] * (longest - len(rows[i])) for i in order])

    lengths = torch.tensor([len(sources[i]) for i in order])
    return Batch(src=padded(sources), src_length=lengths, src_prompt_mask=None,
                 trg=padded([[BOS, *target] for target in targets]), trg_prompt_mask=None,
                 indices=torch.arange(len(order)), device=torch.device("cpu"), pad_index=PAD, eos_index=EOS)


def main() -> None:
    """Train whenever a line arrives."""
    import torch

    settings = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    torch.set_num_threads(settings["threads"])
    torch.set_flush_denormal(True)
    model = network(settings).train()
    model.loss_function = ("crossentropy", settings["label_smoothing"])
    optimizer = torch.optim.Adam(model.parameters(), lr=settings["lr"])
    batches = [batch(sources, targets) for sources, targets in settings["batches"]]
    for _ in sys.stdin:
        start = time.perf_counter()
        for ready in batches:
            loss = model(return_type="loss", **vars(ready))[0] / ready.ntokens
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        print(time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    main()
