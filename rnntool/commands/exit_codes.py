"""Turn errors into one sentence on standard error and the right exit code.

0 is success, 1 a failure, 2 wrong usage, 3 bad data, 4 a bad or missing model, 128 + n a stop by signal n.
"""

from __future__ import annotations

import errno
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import typer

from rnntool.commands import cli_errors, console
from rnntool.errors import RnntoolError

FAILURE = 1
INTERRUPTED = 128 + signal.SIGINT
TERMINATED = 128 + signal.SIGTERM


@contextmanager
def exit_on_error(context: Any) -> Iterator[None]:
    """Turn an error of the command in this context into a message and an exit code.

    May be nested: the innermost command prints the message, and the groups around it pass the exit code on.
    """
    console.name_settings(cli_errors.naming(context))
    try:
        try:
            yield
        except typer.Exit:
            _flush()
            raise
        _flush()
    except (BrokenPipeError, SystemExit) as error:
        # The reader closed the pipe. If that happens while rich prints the help, it raises SystemExit(1).
        if isinstance(error, SystemExit) and not isinstance(error.__context__, BrokenPipeError):
            if error.code == TERMINATED:  # the reader may have stopped reading: don't wait for it
                console.discard(sys.stdout)
            raise
        console.discard(sys.stdout)
        raise typer.Exit(0) from None
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    except cli_errors.TyperUsageError as error:
        console.message(cli_errors.usage(error, context))
        raise typer.Exit(error.exit_code) from None  # type: ignore[attr-defined]
    except RnntoolError as error:
        console.message(cli_errors.describe(error, context))
        try:
            _flush()
        except OSError:  # the error was about standard output itself
            console.discard(sys.stdout)
        raise typer.Exit(error.exit_code) from None
    except OSError as error:
        if isinstance(error, PermissionError) and error.filename:
            console.message(f"{error.filename}: permission denied; choose another place or change its rights")
            raise typer.Exit(FAILURE) from None
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            raise
        console.message(f"<stdout>: writing failed: {error.strerror}; free some disk space, or write "
                        "elsewhere")
        console.discard(sys.stdout)
        raise typer.Exit(FAILURE) from None


def _flush() -> None:
    if sys.stdout is not None:  # a shell can start a program with standard output closed
        sys.stdout.flush()


def on_sigterm(number: int, frame: FrameType | None) -> None:
    """Exit by an exception, so that unfinished files are removed. A second signal kills the process."""
    signal.signal(number, signal.SIG_DFL)
    raise SystemExit(128 + number)
