"""The outside world on 127.0.0.1: servers that the official, unmodified clients talk to."""
