"""The experiment in memory: `read` makes it of a folder, a revision, AIRAS's JSON or a logged call."""

from labgate.bundle.bundle import Bundle
from labgate.bundle.files import BrokenFileError, File, Source, UnreadableError
from labgate.bundle.promise import Promise, PromisedRun
from labgate.bundle.reading import find_bundles, is_bundle, read, read_promise

__all__ = [
    "BrokenFileError",
    "Bundle",
    "File",
    "Promise",
    "PromisedRun",
    "Source",
    "UnreadableError",
    "find_bundles",
    "is_bundle",
    "read",
    "read_promise",
]
