"""`python -m labgate`."""

from labgate.cli import run

run()
