"""The linear-chain conditional random field as a training loss (Lafferty et al. 2001).

This module only learns the scores. `rnntool.models.linear_chain` decodes them, for both engines.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class CRF(nn.Module):
    """Scores, in nats, of the first tag, of each pair of adjacent tags [from, to], and of the last tag."""

    def __init__(self, tags: int) -> None:
        super().__init__()
        self.start = nn.Parameter(torch.zeros(tags))
        self.transitions = nn.Parameter(torch.zeros(tags, tags))
        self.end = nn.Parameter(torch.zeros(tags))

    def score(self, emissions: Tensor, tags: Tensor, mask: Tensor, *, smoothing: float = 0.0) -> Tensor:
        """Return the scores (B,) of the tag sequences `tags` (T, B) under `emissions` (T, B, L).

        `mask` is (T, B) bool, True at real tokens. With `smoothing` this is the expected score if each tag is
        replaced, with that probability, by one drawn uniformly from all tags.
        """
        size = emissions.shape[2]
        chosen = functional.one_hot(tags.where(mask, 0), size).to(self.start.dtype)  # (T, B, L)
        chosen = (chosen * (1 - smoothing) + smoothing / size) * mask[..., None]
        rows = torch.arange(mask.shape[1], device=mask.device)
        last = chosen[(mask.sum(0) - 1).clamp(min=0), rows]  # (B, L)
        emission_score = (emissions * chosen).sum((0, 2))
        transition_score = (chosen[:-1] @ self.transitions * chosen[1:]).sum((0, 2))
        return emission_score + transition_score + chosen[0] @ self.start + last @ self.end

    def log_z(self, emissions: Tensor, mask: Tensor) -> Tensor:
        """Return the log of the summed exponential scores of all tag sequences, (B,); 0 for an empty row."""
        alpha = self.start + emissions[0]  # (B, L)
        for t in range(1, len(emissions)):
            # log-sum-exp over the previous tag, as a product with exp(transitions): one small matrix product
            # per step instead of a (B, L, L) tensor. The maxima keep every exponent at or below zero.
            top = alpha.amax(dim=1, keepdim=True)  # (B, 1)
            peak = self.transitions.amax()
            total = (alpha - top).exp() @ (self.transitions - peak).exp()  # (B, L)
            step = total.clamp(min=torch.finfo(total.dtype).tiny).log() + top + peak + emissions[t]
            alpha = torch.where(mask[t][:, None], step, alpha)
        return torch.logsumexp(alpha + self.end, dim=1) * mask[0]

    def nll(
        self, emissions: Tensor, tags: Tensor, mask: Tensor, *, smoothing: float = 0.0,
        costs: Tensor | None = None,
    ) -> Tensor:
        """Return the negative log-likelihood (B,), in nats, of `tags` (T, B).

        `smoothing` is explained in `score`. With `costs` (T, B), each wrong tag raises a sequence's score in
        the partition function by its cost: the softmax-margin loss of Gimpel and Smith (2010).
        """
        # Two large sums nearly cancel; in bfloat16, under autocast, the difference would be noise.
        with torch.autocast(emissions.device.type, enabled=False):
            emissions = emissions.float()
            score = self.score(emissions, tags, mask, smoothing=smoothing)
            if costs is not None:
                correct = functional.one_hot(tags.where(mask, 0), emissions.shape[2])  # (T, B, L)
                emissions = emissions + costs[..., None] * (1 - correct)
            return self.log_z(emissions, mask) - score
