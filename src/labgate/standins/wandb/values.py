"""JSON as W&B's clients send it: with NaN and infinities, and whatever a broken client puts in strings."""

from __future__ import annotations

import json
import math
from typing import Any

MISSING: Any = object()
"""What a path leads to that leads nowhere."""


class NotJsonError(ValueError):
    """Text that cannot be read as JSON."""


def parse(text: str | bytes) -> Any:
    """The value of a JSON text. Raises NotJsonError.

    NaN and infinities become the strings "NaN", "Infinity" and "-Infinity", which is how W&B hands them back.
    """
    try:
        return json.loads(text, parse_constant=str, parse_float=_number)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise NotJsonError(f"not JSON: {error}") from error


def parse_object(text: str | bytes) -> dict[str, Any]:
    """As `parse`. Raises NotJsonError for a value that is no object, too."""
    value = parse(text)
    if not isinstance(value, dict):
        raise NotJsonError(f"not a JSON object, but {type(value).__name__}")
    return value


def dump(value: Any) -> str:
    """A value as compact JSON in ASCII, floats so that they are read back exactly."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


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


def _number(text: str) -> float | str:
    number = float(text)
    if math.isinf(number):
        return "-Infinity" if number < 0 else "Infinity"
    return number
