"""Run `python -m rnntool` and the script `rnntool`; Ctrl-C ends both quietly even while they start."""

import sys


def main() -> None:
    """Import the command line, which takes a moment, and run it."""
    try:
        from rnntool.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
