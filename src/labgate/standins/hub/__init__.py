"""A model-and-data hub on 127.0.0.1 that serves twins under the real ids."""

from labgate.standins.hub.hub import Hub

__all__ = ["Hub"]
