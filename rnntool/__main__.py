"""`python -m rnntool`."""

from rnntool.cli import main

if __name__ == "__main__":
    main()
