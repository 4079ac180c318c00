"""labgate decides whether a machine-learning experiment is ready to spend GPU hours."""

__version__ = "0.1.0"
