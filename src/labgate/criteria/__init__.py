"""The questions, one file per family. A new check is a function in one of them, and its test."""
