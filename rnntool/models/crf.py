"""Linear-chain conditional random field: the loss of a chain of tags (Lafferty et al. 2001).

Learns scores only; the best chain is found in `rnntool.models.linear_chain`, which both engines share.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class CRF(nn.Module):
    """Scores of first tags, of pairs of neighbours [from, to], and of last tags, each in nats."""

    def __init__(self, tags: int) -> None:
        super().__init__()
        self.start = nn.Parameter(torch.zeros(tags))
        self.transitions = nn.Parameter(torch.zeros(tags, tags))
        self.end = nn.Parameter(torch.zeros(tags))

    def score(self, emissions: Tensor, tags: Tensor, mask: Tensor, *, smoothing: float = 0.0) -> Tensor:
        """Score (B,) of the given `tags` (T, B) under `emissions` (T, B, L).

        `mask` (T, B) bool, True = a real token. With `smoothing`, the expected score of chains in which each
        tag is the given one but for that share, which all tags have alike.
        """
        size = emissions.shape[2]
        chosen = functional.one_hot(tags.where(mask, 0), size).to(self.start.dtype)  # (T, B, L)
        chosen = (chosen * (1 - smoothing) + smoothing / size) * mask[..., None]
        rows = torch.arange(mask.shape[1], device=mask.device)
        last = chosen[(mask.sum(0) - 1).clamp(min=0), rows]  # (B, L)
        emitted = (emissions * chosen).sum((0, 2))
        moved = (chosen[:-1] @ self.transitions * chosen[1:]).sum((0, 2))
        return emitted + moved + chosen[0] @ self.start + last @ self.end

    def log_z(self, emissions: Tensor, mask: Tensor) -> Tensor:
        """Log of the summed exponential scores of all chains, (B,); 0 for an empty row."""
        alpha = self.start + emissions[0]  # (B, L)
        for t in range(1, len(emissions)):
            # log-sum-exp over the tag before, as a product with exp(transitions): one small matrix product a
            # step instead of a (B, L, L) tensor; the maxima keep every exponent at or below zero.
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
        """Negative log-likelihood (B,) in nats of `tags` (T, B).

        `smoothing` is that of `score`. With `costs` (T, B), what a chain gains in the sum for each wrong tag,
        it is the softmax-margin of Gimpel and Smith (2010).
        """
        # Two large sums that nearly cancel: bfloat16, where autocast reigns, would leave noise of them.
        with torch.autocast(emissions.device.type, enabled=False):
            emissions = emissions.float()
            score = self.score(emissions, tags, mask, smoothing=smoothing)
            if costs is not None:
                right = functional.one_hot(tags.where(mask, 0), emissions.shape[2])  # (T, B, L)
                emissions = emissions + costs[..., None] * (1 - right)
            return self.log_z(emissions, mask) - score
