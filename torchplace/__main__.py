"""Runs the command line: ``python -m torchplace`` does what the ``torchplace`` script does."""

from __future__ import annotations

from torchplace.cli import main

if __name__ == "__main__":
    main()
