"""rnntool: text generation and sequence tagging with recurrent networks. `load(model)` is the way in."""

from __future__ import annotations

__version__ = "0.1.0"
