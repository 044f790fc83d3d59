"""Linear-chain conditional random field: the loss of a chain of tags (Lafferty et al. 2001).

Learns scores only; the best chain is found in `rnntool.decoding`, which both engines share.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class CRF(nn.Module):
    """Scores of first tags, of pairs of neighbours [from, to], and of last tags, each in nats."""

    def __init__(self, tags: int) -> None:
        super().__init__()
        self.start = nn.Parameter(torch.zeros(tags))
        self.transitions = nn.Parameter(torch.zeros(tags, tags))
        self.end = nn.Parameter(torch.zeros(tags))

    def score(self, emissions: Tensor, tags: Tensor, mask: Tensor) -> Tensor:
        """Score (B,) of the given `tags` (T, B) under `emissions` (T, B, L).

        `mask` (T, B) bool, True = a real token.
        """
        steps = mask.to(emissions.dtype)
        tags = tags.where(mask, 0)
        emitted = (emissions.gather(2, tags[..., None]).squeeze(2) * steps).sum(0)
        moved = (self.transitions[tags[:-1], tags[1:]] * steps[1:]).sum(0)
        lengths = mask.sum(0)
        last = tags.gather(0, (lengths - 1).clamp(min=0)[None]).squeeze(0)
        ends = self.start[tags[0]] + self.end[last]
        return emitted + moved + ends * (lengths > 0)

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

    def nll(self, emissions: Tensor, tags: Tensor, mask: Tensor) -> Tensor:
        """Negative log-likelihood (B,) in nats of `tags` (T, B)."""
        # Two large sums that nearly cancel: bfloat16, where autocast reigns, would leave noise of them.
        with torch.autocast(emissions.device.type, enabled=False):
            emissions = emissions.float()
            return self.log_z(emissions, mask) - self.score(emissions, tags, mask)
