"""Hydra configs of a bundle, composed by the real library in a child that can be killed."""

from labgate.compose.composer import (
    ComposeError,
    Composer,
    Composition,
    Interpolated,
    Job,
    Request,
)
from labgate.compose.compositions import Composed, Compositions
from labgate.compose.mains import UNSET, ApiCall, HydraMain, api_calls, entry_points
from labgate.compose.mended import Mended, loads_configs, reads_below
from labgate.compose.process import Child, ComposerError

__all__ = [
    "UNSET",
    "ApiCall",
    "Child",
    "ComposeError",
    "Composed",
    "Composer",
    "ComposerError",
    "Composition",
    "Compositions",
    "HydraMain",
    "Interpolated",
    "Job",
    "Mended",
    "Request",
    "api_calls",
    "entry_points",
    "loads_configs",
    "reads_below",
]
