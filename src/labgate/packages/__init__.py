"""Third-party packages, read and never imported: `read` makes the fact `packages`."""

from labgate.packages.packages import UNKNOWN, Lookup, Packages, read
from labgate.packages.requirements import Entry, Fault, Requirements
from labgate.packages.resolution import Resolution
from labgate.packages.signatures import Parameter, Signature

__all__ = [
    "UNKNOWN",
    "Entry",
    "Fault",
    "Lookup",
    "Packages",
    "Parameter",
    "Requirements",
    "Resolution",
    "Signature",
    "read",
]
