"""Options that most commands share, and where what they say goes."""

from __future__ import annotations

from dataclasses import dataclass

from rnntool import console


@dataclass(frozen=True, kw_only=True)
class Common:
    """What was asked of any command; `rnntool.options.SHARED` says it in words.

    A command that lacks one of these options has its default.
    """

    encoding_errors: str = "strict"
    device: str = "auto"
    threads: int = 0
    quiet: bool = False
    verbose: bool = False

    def say(self, message: str) -> None:
        """Say what only `--verbose` shows."""
        if self.verbose and not self.quiet:
            console.say(message)

    def tell(self, message: str) -> None:
        """Say what only `--quiet` leaves out."""
        if not self.quiet:
            console.say(message)
