"""How a language model may adapt to a text as it reads it: what to choose, with defaults. Does none of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, kw_only=True)
class Dynamic:
    """Dynamic evaluation: a step of gradient descent for each segment, and a pull back to where it began."""

    name: ClassVar[str] = "dynamic"
    lr: float = 0.1
    decay: float = 0.005
    """Share of the way back to the trained weights at each step."""


@dataclass(frozen=True, kw_only=True)
class Cache:
    """Continuous cache: words that came after like states are likely to come again."""

    name: ClassVar[str] = "cache"
    theta: float = 0.3
    """How much likeness of states counts; 0 counts words alone."""
    weight: float = 0.1
    """Share of the cache in the probability; lambda in the paper."""
    window: int = 500
    """Tokens that it goes back."""


Adapting = Dynamic | Cache
