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
from rnntool.errors import RnntoolError, is_out_of_memory

NO_MEMORY = "not enough memory; close other programs, or raise the memory limit of this process"
FAILURE = 1
INTERRUPTED = 128 + signal.SIGINT


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
            if isinstance(error.code, int) and error.code > 128:  # don't wait for a reader that has stopped
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
    except Exception as error:
        if is_out_of_memory(error):
            console.message(NO_MEMORY)
            raise typer.Exit(FAILURE) from None
        if not isinstance(error, OSError):
            raise
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


def stop_signals() -> list[signal.Signals]:
    """Return the signals, besides Ctrl-C, that ask this process to stop.

    A closed terminal sends SIGHUP. Windows doesn't have it, and a process under `nohup` ignores it.
    """
    hangup = [number for number in signal.Signals if number.name == "SIGHUP"]
    return [signal.SIGTERM, *(number for number in hangup if signal.getsignal(number) is not signal.SIG_IGN)]


def on_stop_signal(number: int, frame: FrameType | None) -> None:
    """Exit by an exception, so that unfinished files are removed. A second signal kills the process."""
    signal.signal(number, signal.SIG_DFL)
    console.leave_closed_terminal()
    raise SystemExit(128 + number)
