"""JSON as W&B's clients send it: with NaN and infinities, and whatever a broken client puts in strings."""

from __future__ import annotations

import json
import math
from typing import Any

MISSING: Any = object()
"""What a path leads to that leads nowhere."""


class NotJsonError(ValueError):
    """Text that cannot be read as JSON."""


def parse(text: str) -> Any:
    """The value of a JSON text. Raises NotJsonError.

    NaN and infinities become the strings "NaN", "Infinity" and "-Infinity", which is how W&B hands them back.
    """
    try:
        return _DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        raise NotJsonError(f"not JSON: {error}") from error


def parse_object(text: str) -> dict[str, Any]:
    """As `parse`. Raises NotJsonError for a value that is no object, too."""
    value = parse(text)
    if not isinstance(value, dict):
        raise NotJsonError(f"not a JSON object, but {type(value).__name__}")
    return value


def dump(value: Any) -> str:
    """A value as compact JSON in ASCII: floats are read back exactly, infinities become strings."""
    try:
        return _ENCODER.encode(value)
    except ValueError:
        return _ENCODER.encode(_finite(value))


def decoded(body: bytes) -> str:
    """A body as text. Raises NotJsonError."""
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise NotJsonError(f"not UTF-8: {error}") from error


def storable(value: Any) -> Any:
    """`value` with lone surrogates, which no database and no socket takes, replaced in its strings."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, list):
        return [storable(item) for item in value]
    if isinstance(value, dict):
        return {storable(key): storable(item) for key, item in value.items()}
    return value


def at_path(value: Any, path: str) -> Any:
    """What stands at a dotted path, or MISSING. A key that itself holds dots is found as well."""
    if not isinstance(value, dict):
        return MISSING
    if path in value:
        return value[path]
    at = path.find(".")
    while at != -1:
        if path[:at] in value:
            inner = at_path(value[path[:at]], path[at + 1 :])
            if inner is not MISSING:
                return inner
        at = path.find(".", at + 1)
    return MISSING


def _finite(value: Any) -> Any:
    """`value` with strings for what is no number: 1e999 is read as an infinity."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, list):
        return [_finite(item) for item in value]
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return value


_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)
_DECODER = json.JSONDecoder(parse_constant=str)
