"""`python -m rnntool` and the script `rnntool`: Ctrl-C before a command has begun ends it as it does later."""

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
