"""How a command ends: what went wrong becomes one sentence on standard error and the right exit code."""

from __future__ import annotations

import errno
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import typer
from typer._click import exceptions

from rnntool.commands import cli_errors, console
from rnntool.errors import RnntoolError


class Commands(cli_errors.Group):
    """Turns what goes wrong in a command into one sentence and the right exit code."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """Read the options; `--help` and `--version` write here."""
        with _outcome():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        with _outcome():
            return super().invoke(ctx)


@contextmanager
def _outcome() -> Iterator[None]:
    """Turns what goes wrong into one sentence and the right exit code."""
    try:
        try:
            yield
        except typer.Exit:
            _flush()
            raise
        _flush()
    except (BrokenPipeError, SystemExit) as left:
        # Whoever read our output has seen enough; where rich was printing help, it left with SystemExit(1).
        if isinstance(left, SystemExit) and not isinstance(left.__context__, BrokenPipeError):
            if left.code == 128 + signal.SIGTERM:  # whoever reads may have stopped: don't wait for them
                console.drop(sys.stdout)
            raise
        console.drop(sys.stdout)
        raise typer.Exit(0) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except exceptions.NoArgsIsHelpError:  # no error, but somebody who looks around
        raise
    except exceptions.UsageError as error:
        console.message(cli_errors.sentence(error))
        raise typer.Exit(error.exit_code) from None
    except RnntoolError as error:
        console.message(error.describe(cli_errors.flag_of))
        try:
            _flush()
        except OSError:  # the error was that of standard output
            console.drop(sys.stdout)
        raise typer.Exit(error.exit_code) from None
    except OSError as error:
        if isinstance(error, PermissionError) and error.filename:
            console.message(f"{error.filename}: permission denied; choose another place or change its rights")
            raise typer.Exit(1) from None
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            raise
        console.message(f"<stdout>: writing failed: {error.strerror}; make room or write elsewhere")
        console.drop(sys.stdout)
        raise typer.Exit(1) from None


def _flush() -> None:
    if sys.stdout is not None:  # as it is where a shell has closed it
        sys.stdout.flush()


def leave(number: int, frame: FrameType | None) -> None:
    """Leave by an exception, so that no half-written file stays behind; a second signal ends us at once."""
    signal.signal(number, signal.SIG_DFL)
    raise SystemExit(128 + number)
