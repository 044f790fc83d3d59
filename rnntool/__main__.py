"""`python -m rnntool` and the script `rnntool`: Ctrl-C ends it as quietly before a command has begun."""

import sys


def main() -> None:
    """Import the commands, which takes a moment in which people may change their mind, and run one."""
    try:
        from rnntool.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
