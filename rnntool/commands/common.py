"""Options that most commands share, and where what they say goes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from rnntool.commands import console


@dataclass(frozen=True, kw_only=True)
class Common:
    """What was asked of any command; `rnntool.commands.options.SHARED` says it in words.

    A command that lacks one of these options has its default.
    """

    encoding_errors: str = "strict"
    device: str = "auto"
    threads: int = 0
    quiet: bool = False
    verbose: bool = False

    def log(self, message: str) -> None:
        """Say what only `--verbose` shows."""
        if self.verbose and not self.quiet:
            console.message(message)

    def output_format(self, output: str | None, formats: Collection[str]) -> str | None:
        """That of `formats` which the extension of the output names, said aloud; None where it names none."""
        from rnntool.data.formats import format_named_by  # the commands' options alone shall start at once

        found = format_named_by(output) if output else None
        if found not in formats:
            return None
        self.log(f"{output}: is written as {found}")
        return found

    def writes_json(self, output: str | None) -> bool:
        """Whether the extension of the output names JSON, which is said aloud then."""
        return self.output_format(output, ("jsonl",)) is not None

    def warn(self, message: str) -> None:
        """Say what only `--quiet` leaves out."""
        if not self.quiet:
            console.message(message)
