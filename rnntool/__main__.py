"""Entry point of `python -m rnntool` and the script `rnntool`. Ctrl-C ends it quietly, even at start-up."""

import sys


def main() -> None:
    """Import and run the command line."""
    try:
        from rnntool.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
