"""What a run wrote to its console, as clients prefix it."""

from __future__ import annotations

import re
from typing import Any

_PREFIX = re.compile(
    r"(?P<error>ERROR )?(?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?)"
    r"(?: \[(?P<label>[^\]]*)\])? (?P<line>.*)",
    re.DOTALL,
)


def parsed(number: int, text: str) -> dict[str, Any]:
    """A line of the console: its number from 0, when and by whom it was written, and if to standard error."""
    found = _PREFIX.fullmatch(text)
    if found is None:
        return {"number": number, "timestamp": "", "level": "", "label": "", "line": text}
    return {
        "number": number,
        "timestamp": found["time"],
        "level": "error" if found["error"] else "",
        "label": found["label"] or "",
        "line": found["line"],
    }
