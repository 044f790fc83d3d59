"""Entry point of `python -m rnntool` and the script `rnntool`. Ctrl-C ends it quietly, even at start-up."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sys import UnraisableHookArgs


def main() -> None:
    """Import and run the command line."""
    import sys

    sys.unraisablehook = _end_if_interrupted
    try:
        from rnntool.cli import main as run

        run()
    except BaseException as error:
        cause: BaseException | None = error
        while cause is not None:  # modules in C turn the interrupt into an ImportError
            if isinstance(cause, KeyboardInterrupt):
                sys.exit(130)
            cause = cause.__cause__ or cause.__context__
        raise


def _end_if_interrupted(error: "UnraisableHookArgs") -> None:
    """Handle an exception that Python can't raise. Its own `sys.unraisablehook` would drop an interrupt."""
    import os
    import sys

    if error.exc_type is KeyboardInterrupt:
        os._exit(130)
    sys.__unraisablehook__(error)


if __name__ == "__main__":
    main()
